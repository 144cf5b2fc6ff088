"""What a model without experts and one with odd names leave in the results."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from molre_edge.bundle.bundle import Bundle
from molre_edge.findings import RESERVED_NAMES
from molre_edge.parity import Outputs
from molre_edge.runs.findings_files import FindingsWriter
from molre_edge.runs.scan_findings import ScanFindings, attended_of, findings_of, mean_gates


def write(folder: Path, bundle: Bundle, logit: float, gates: np.ndarray | None = None) -> str:
    attention = None if gates is None else np.array([[0.25, 0.75]]) + logit  # not finite where the logit is not
    outputs = Outputs(np.full((1, len(bundle.findings)), logit), np.zeros((1, 4)), gates, attention)
    scan = ScanFindings(
        scan="scan-0001",
        findings=findings_of(outputs, bundle.findings, bundle.thresholds),
        gates=mean_gates(outputs),
        attended=attended_of(outputs, ()),
        warnings=(),
        facts={},
        milliseconds={"compute": 1.0},
    )
    with FindingsWriter(folder, bundle.findings, facts={"engine": "e", "bundle": bundle.digest}) as findings:
        findings.add(scan)
    return (folder / "findings.jsonl").read_text()


def test_a_probability_at_its_threshold_is_positive(bundle: Bundle, tmp_path: Path) -> None:
    at_half = replace(bundle, thresholds=np.full(len(bundle.findings), 0.5))
    line = json.loads(write(tmp_path, at_half, 0.0))
    assert all(value == {"probability": 0.5, "threshold": 0.5, "positive": True} for value in line["findings"].values())


def test_columns_beside_the_findings_are_those_that_no_finding_may_be_called(bundle: Bundle, tmp_path: Path) -> None:
    write(tmp_path, bundle, 0.0)
    columns = (tmp_path / "findings.csv").read_text().splitlines()[0].split(",")
    assert set(columns) - set(bundle.findings) <= RESERVED_NAMES
    assert len(set(columns)) == len(columns)


def test_gates_are_means_over_the_slices_by_router(bundle: Bundle, tmp_path: Path) -> None:
    gates = np.array([[[[1, 0], [0.5, 0.5]], [[0, 1], [0.5, 0.5]]]])  # 2 slices, 2 routers, 2 experts
    assert json.loads(write(tmp_path, bundle, 0.0, gates))["gates"] == [[0.5, 0.5], [0.5, 0.5]]


def test_attention_is_told_by_the_slice_with_the_largest_weight(bundle: Bundle, tmp_path: Path) -> None:
    line = json.loads(write(tmp_path, bundle, 0.0, np.ones((1, 1, 1, 1))))
    assert line["attention"] == {"slice": 2, "weight": 0.75, "source_slice": None, "position_mm": None}


def test_a_model_without_experts_has_no_gates(bundle: Bundle, tmp_path: Path) -> None:
    line = json.loads(write(tmp_path, bundle, 0.0))
    assert line["gates"] is line["attention"] is None


@pytest.mark.parametrize("logit", [float("nan"), -800.0, 800.0])
def test_every_line_is_strict_json(logit: float, bundle: Bundle, tmp_path: Path) -> None:
    def refuse(word: str) -> None:
        raise AssertionError(word)

    line = json.loads(write(tmp_path, bundle, logit, np.full((1, 1, 1, 2), np.nan)), parse_constant=refuse)
    assert line["gates"] == [[None, None]]


def test_an_error_leaves_no_findings(bundle: Bundle, tmp_path: Path) -> None:
    writer = FindingsWriter(tmp_path, bundle.findings, facts={"engine": "e", "bundle": bundle.digest})
    with pytest.raises(RuntimeError), writer:
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
