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
from molre_edge.runs.answers import Record
from molre_edge.runs.findings_files import write_findings


def record(bundle: Bundle, logit: float, gates: np.ndarray | None = None) -> Record:
    outputs = Outputs(np.full((1, len(bundle.findings)), logit), np.zeros((1, 4)), gates)
    return Record("scan-0001", outputs, None, {"compute": 1.0})


def test_a_probability_at_its_threshold_is_positive(bundle: Bundle, tmp_path: Path) -> None:
    at_half = replace(bundle, thresholds=np.full(len(bundle.findings), 0.5))
    write_findings(tmp_path, [record(bundle, 0.0)], at_half, "e")
    line = json.loads((tmp_path / "findings.jsonl").read_text())
    assert all(value == {"probability": 0.5, "threshold": 0.5, "positive": True} for value in line["findings"].values())


def test_columns_beside_the_findings_are_those_that_no_finding_may_be_called(bundle: Bundle, tmp_path: Path) -> None:
    write_findings(tmp_path, [record(bundle, 0.0)], bundle, "e")
    columns = (tmp_path / "findings.csv").read_text().splitlines()[0].split(",")
    assert set(columns) - set(bundle.findings) <= RESERVED_NAMES
    assert len(set(columns)) == len(columns)


def test_gates_are_means_over_the_slices_by_router(bundle: Bundle, tmp_path: Path) -> None:
    gates = np.array([[[[1, 0], [0.5, 0.5]], [[0, 1], [0.5, 0.5]]]])  # 2 slices, 2 routers, 2 experts
    write_findings(tmp_path, [record(bundle, 0.0, gates)], bundle, "e")
    assert json.loads((tmp_path / "findings.jsonl").read_text())["gates"] == [[0.5, 0.5], [0.5, 0.5]]


def test_a_model_without_experts_has_no_gates(bundle: Bundle, tmp_path: Path) -> None:
    write_findings(tmp_path, [record(bundle, 0.0)], bundle, "e")
    assert json.loads((tmp_path / "findings.jsonl").read_text())["gates"] is None


@pytest.mark.parametrize("logit", [float("nan"), -800.0, 800.0])
def test_every_line_is_strict_json(logit: float, bundle: Bundle, tmp_path: Path) -> None:
    def refuse(word: str) -> None:
        raise AssertionError(word)

    write_findings(tmp_path, [record(bundle, logit, np.full((1, 1, 1, 2), np.nan))], bundle, "e")
    line = json.loads((tmp_path / "findings.jsonl").read_text(), parse_constant=refuse)
    assert line["gates"] == [[None, None]]
