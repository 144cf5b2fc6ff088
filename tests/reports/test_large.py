"""A report over very many volumes is small, says what it counts, and leaves the rest in a file."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from importlib import resources
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from molre_edge.parity import DEFAULT_LIMITS, Outputs, compare, judge
from molre_edge.reports.parity_report import BundleFacts, EngineFacts, FailedScan, ReferenceFacts, Report
from molre_edge.reports.write import write_report
from molre_edge.specs import Precision

MANY = 6_000
FINDINGS = ("bleed", "fracture", "mass")


def large(n: int, *, size: float = 1e-4) -> Report:
    """A report over n volumes; as many scans again were refused, and as many have warnings."""
    rng = np.random.default_rng(1)
    gates, attention = rng.dirichlet(np.ones(3), size=(n, 1, 2)), rng.dirichlet(np.ones(5), size=n)
    reference = Outputs(rng.normal(size=(n, 3)), rng.normal(size=(n, 4)), gates, attention)
    engine = replace(reference, logits=reference.logits + rng.normal(scale=size, size=(n, 3)))
    thresholds = np.full(3, 0.5)
    numbers = compare(reference, engine, findings=FINDINGS, thresholds=thresholds)
    limits = DEFAULT_LIMITS[Precision.FP16]
    names = [f"scan-{i:016d}" for i in range(2 * n)]
    return Report(
        title="many",
        created="2026-11-02T10:15:04Z",
        engine=EngineFacts(name="onnxruntime", precision="fp16", runtime="r", device="d"),
        reference=ReferenceFacts(kind="pytorch checkpoint"),
        bundle=BundleFacts(digest="d"),
        findings=FINDINGS,
        thresholds=tuple(thresholds),
        scans=tuple(names[:n]),
        numbers=numbers,
        limits=limits,
        verdict=judge(numbers, limits),
        reference_outputs=reference,
        engine_outputs=engine,
        failed=tuple(
            FailedScan(scan=name, code=f"code_{i % 7}", reason="why") for i, name in enumerate(names[n : 2 * n])
        ),
        warnings={name: (f"tilt of {i % 3} degrees",) for i, name in enumerate(names[:n])},
        rows={name: i + 1 for i, name in enumerate(names)},
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """An engine that is far off over many volumes: it flips thousands of decisions."""
    folder, report = tmp_path_factory.mktemp("large"), large(MANY, size=0.5)
    write_report(folder, report)
    return folder, report


def test_page_and_json_are_small(written: tuple[Path, Report]) -> None:
    folder, _ = written
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert sizes["report.html"] < 1 << 20 and sizes["report.json"] < 1 << 20 and sizes["junit.xml"] < 1 << 20


def test_what_is_not_listed_is_counted(written: tuple[Path, Report]) -> None:
    folder, report = written
    assert report.numbers is not None
    data = json.loads((folder / "report.json").read_text())
    jsonschema.validate(
        data, json.loads(resources.files("molre_edge.reports").joinpath("report.schema.json").read_text())
    )
    assert (len(data["failed"]), data["failed_count"]) == (1000, MANY)
    assert (len(data["warnings"]), data["warned_count"]) == (1000, MANY)
    assert len(data["scans"]) == data["numbers"]["n"] == MANY
    assert data["numbers"]["cosine"] == data["numbers"]["gates"]["max_l1_per_scan"] == []
    assert data["numbers"]["attention"]["max_l1_per_scan"] == []
    assert sum(each["flip_count"] for each in data["numbers"]["per_finding"]) == data["numbers"]["flips"]
    assert all(len(each["flips"]) == 100 < each["flip_count"] for each in data["numbers"]["per_finding"])
    page = (folder / "report.html").read_text()
    assert f"{MANY} scans, by code" in page and "code_6" in page
    assert f"Of {MANY} scans, by text" in page and "tilt of 2 degrees" in page
    assert f"{MANY + 1} · scan-" in page and page.count("scan-") < 500


def test_the_rest_is_in_a_file_with_a_row_a_volume(written: tuple[Path, Report]) -> None:
    folder, report = written
    assert report.numbers is not None
    with (folder / "volumes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["scan"] for row in rows] == list(report.scans)
    assert sum(int(row["flips"]) for row in rows) == len(report.numbers.flips)
    for worst in report.numbers.worst:
        row = rows[worst.scan]
        assert worst.finding is not None and row["finding"] == FINDINGS[worst.finding]
        assert float(row["max_abs_dlogit"]) == worst.max_abs_dlogit and float(row["cosine"]) == worst.cosine
        assert float(row["max_abs_dp"]) == pytest.approx(worst.max_abs_dp, abs=1e-12)
        assert float(row["routing_l1"]) == worst.routing_l1 == 0
        assert float(row["attention_l1"]) == worst.attention_l1 == 0


def test_a_report_of_few_lists_all_and_takes_an_earlier_file_away(tmp_path: Path) -> None:
    (tmp_path / "volumes.csv").touch()
    write_report(tmp_path, large(20))
    assert not (tmp_path / "volumes.csv").exists()
    data = json.loads((tmp_path / "report.json").read_text())
    assert (len(data["failed"]), len(data["numbers"]["cosine"])) == (20, 20)
    page = (tmp_path / "report.html").read_text()
    assert "21 · scan-0000000000000020" in page and "1 · scan-0000000000000000" in page
    assert "The number before an id is the scan's row in scans.csv." in page
