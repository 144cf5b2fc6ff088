"""The record of verified engines: kept small, and believed only if nobody else can have written it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from molre_edge.verification.passed import VerifiedRecord

SUBJECT = {"engine": "onnxruntime:fp16", "file": "0" * 64}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "state" / "verified.json"
    assert VerifiedRecord(path).add(SUBJECT, "passed")
    assert VerifiedRecord(path).when(SUBJECT)
    return path


def test_only_its_user_may_read_or_write_it(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_one_that_others_may_write_is_not_believed(path: Path) -> None:
    path.chmod(0o662)
    assert VerifiedRecord(path).when(SUBJECT) is None


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a file away")
def test_one_of_another_user_is_not_believed(path: Path) -> None:
    os.chown(path, 12345, -1)
    assert VerifiedRecord(path).when(SUBJECT) is None


def test_a_link_is_not_believed(path: Path) -> None:
    path.rename(path.with_name("elsewhere.json"))
    path.symlink_to("elsewhere.json")
    assert VerifiedRecord(path).when(SUBJECT) is None


@pytest.mark.parametrize("content", ["", "[]", "{", '{"format": "molre-edge-verified", "version": 1, "passed": [1]}'])
def test_a_damaged_one_holds_nothing_and_is_written_anew(content: str, path: Path) -> None:
    path.write_text(content)
    record = VerifiedRecord(path)
    assert record.when(SUBJECT) is None
    assert record.add(SUBJECT, "passed") and record.when(SUBJECT)


def test_it_keeps_the_newest_two_hundred(path: Path) -> None:
    record = VerifiedRecord(path)
    for number in range(210):
        record.add({**SUBJECT, "number": number}, "passed")
    kept = [number for number in range(210) if record.when({**SUBJECT, "number": number})]
    assert kept == list(range(10, 210))
    assert record.when(SUBJECT) is None  # the fixture's, older than all


def test_where_it_can_t_be_written_nothing_is_remembered(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    record = VerifiedRecord(tmp_path / "file" / "verified.json")
    assert record.add(SUBJECT, "passed") is False
    assert record.when(SUBJECT) is None
