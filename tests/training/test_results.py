"""The files of an evaluation."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from molre_edge.parity import Outputs
from molre_edge.specs import DISCLAIMER
from molre_edge.training.evaluation import Evaluation, evaluate_outputs
from molre_edge.training.results import write_evaluation

NAMES = ("midline_shift", "hydrocephalus")


def evaluation(experts: int = 3, *, known: bool = True) -> Evaluation:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (10, 2)).astype(np.float32)
    labels[:, 1] = np.nan
    gates = rng.dirichlet(np.ones(experts), (10, 1, 2))
    if not known:
        labels[:] = np.nan
    return evaluate_outputs(Outputs(rng.normal(size=(10, 2)), np.zeros((10, 1)), gates), labels, NAMES, (0.5, 0.5))


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_everything_is_in_one_json_and_findings_in_a_table(tmp_path: Path) -> None:
    result = evaluation()
    write_evaluation(tmp_path / "new", result, "ab" * 32, "test")
    data = json.loads((tmp_path / "new" / "evaluation.json").read_text())
    head = {"checkpoint_sha256": "ab" * 32, "split": "test", "disclaimer": DISCLAIMER}
    assert data == {**head, **json.loads(json.dumps(result.to_dict()))}
    shift, hydrocephalus = table(tmp_path / "new" / "findings.csv")
    area = result.findings[0].auc
    assert area is not None and float(shift["auc"]) == area.auc and float(shift["auc_high"]) == area.high
    assert (hydrocephalus["finding"], hydrocephalus["auc"], hydrocephalus["sensitivity"]) == ("hydrocephalus", "", "")


def test_routing_is_a_table_and_a_heat_map(tmp_path: Path) -> None:
    result = evaluation()
    write_evaluation(tmp_path, result, "ab" * 32, "test")
    rows = table(tmp_path / "routing.csv")
    assert [(row["router"], row["expert"]) for row in rows] == [(r, e) for r in "12" for e in "123"]
    assert {row["finding"] for row in rows} == {"midline_shift"}  # the other is known of no scan
    assert result.routing is not None
    assert float(rows[4]["minus_scans_without"]) == result.routing.by_finding[0, 1, 1]
    assert float(rows[4]["mean_gate"]) == result.routing.with_finding[0, 1, 1]
    assert float(rows[4]["mean_gate_without"]) == result.routing.without_finding[0, 1, 1]
    assert (tmp_path / "routing.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("experts", [1, 3])
def test_what_there_is_not_is_not_written(experts: int, tmp_path: Path) -> None:
    write_evaluation(tmp_path, evaluation(experts, known=False), "ab" * 32, "val")
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {"evaluation.json", "findings.csv"} | ({"routing.csv"} if experts > 1 else set())
