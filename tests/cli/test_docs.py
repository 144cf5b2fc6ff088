"""docs/reference/infer.md says what the command does: its tables are those of the code."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from molre_edge.cli.shell import ExitCode
from molre_edge.reports.junit import JUNIT_FILE
from molre_edge.runs.dicom_folder import DICOM_FOLDER
from molre_edge.runs.labels import KNOWN_LABELS
from molre_edge.runs.pairs import GOLDEN_FILE
from molre_edge.runs.scan_table import Entry
from molre_edge.runs.store import GONE
from molre_edge.runs.timing import ENGINE_PHASES


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return (root / "docs" / "reference" / "infer.md").read_text(encoding="utf-8")


def column(page: str, heading: str) -> list[str]:
    """First cells of the table whose heading row starts so, without backticks."""
    table = page.split(f"\n| {heading}", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return [row.split("|")[1].strip().strip("`") for row in table]


def test_every_phase_is_explained(page: str) -> None:
    assert column(page, "phase ") == list(ENGINE_PHASES)


def test_every_exit_code_is_explained(page: str) -> None:
    codes = [value for name, value in vars(ExitCode).items() if name.isupper()]
    assert [int(code) for code in column(page, "code | means ")] == sorted(codes)


def test_every_column_of_the_table_of_scans_is_explained(page: str) -> None:
    [row] = [line for line in page.splitlines() if line.startswith("| `scans.csv` |")]
    assert {field.name for field in fields(Entry)} <= set(re.findall(r"`([a-z]+)`", row))
    assert f"`{GONE}`" in page


def test_every_file_of_a_run_is_explained(page: str) -> None:
    named = " ".join(column(page, "file "))
    files = ["findings.csv", "findings.jsonl", "outputs/", "report.html", "report.json", "run.json", "scans.csv"]
    files += ["slices.csv", "timing.json", JUNIT_FILE, GOLDEN_FILE, KNOWN_LABELS, f"{DICOM_FOLDER}/"]
    assert [name for name in files if name not in named] == []
