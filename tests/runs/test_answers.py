"""A scan's answers come back as they were written, and a damaged file is told, never believed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from molre_edge.errors import RunError
from molre_edge.parity import Outputs
from molre_edge.runs.answers import Record, read_record, write_record
from molre_edge.scans import Attended


def record(*, gates: bool = True, reference: bool = True) -> Record:
    rng = np.random.default_rng(0)

    def outputs() -> Outputs:
        mixture = rng.random((1, 4, 2, 3)) if gates else None
        attention = rng.dirichlet(np.ones(4), size=1) if gates else None
        return Outputs(rng.normal(size=(1, 75)), rng.normal(size=(1, 8)), mixture, attention)

    return Record(
        scan="scan-0001",
        engine=outputs(),
        reference=outputs() if reference else None,
        engine_ms={"compute": 1.5},
        reference_ms={"compute": 20.25} if reference else {},
        warnings=(("contrast", "a contrast agent is named"),),
        facts={"slices": 30},
        attended=Attended(3, 0.5, 17, 42.5) if gates else None,
    )


@pytest.mark.parametrize("gates", [True, False])
@pytest.mark.parametrize("reference", [True, False])
def test_a_record_comes_back_bit_by_bit(gates: bool, reference: bool, tmp_path: Path) -> None:
    written = record(gates=gates, reference=reference)
    write_record(tmp_path / "a.npz", written)
    read = read_record(tmp_path / "a.npz", "scan-0001")
    for ours, theirs in ((written.engine, read.engine), (written.reference, read.reference)):
        if ours is None or theirs is None:
            assert ours is theirs
            continue
        assert ours.arrays.keys() == theirs.arrays.keys()
        assert all(np.array_equal(array, theirs.arrays[name]) for name, array in ours.arrays.items())
    assert (read.engine_ms, read.reference_ms) == (written.engine_ms, written.reference_ms)
    assert (read.warnings, read.facts, read.scan) == (written.warnings, written.facts, "scan-0001")
    assert read.attended == written.attended


def altered(path: Path, attended: object) -> None:
    """Put something else into a record's head; nothing at all for ``...``, as versions before attention wrote it."""
    with np.load(path) as data:
        arrays = dict(data)
    head = json.loads(bytes(arrays["head"]))
    head.pop("attended")
    arrays["head"] = np.frombuffer(
        json.dumps(head if attended is ... else {**head, "attended": attended}).encode(), "u1"
    )
    np.savez(path, **arrays)


def test_a_record_of_a_version_without_attention_is_read(tmp_path: Path) -> None:
    write_record(tmp_path / "a.npz", record())
    altered(tmp_path / "a.npz", ...)
    assert read_record(tmp_path / "a.npz", "scan-0001").attended is None


@pytest.mark.parametrize(
    "attended",
    [
        {},
        7,
        {"slice": 0, "weight": 0.5, "source_slice": None, "position_mm": None},
        {"slice": 1, "weight": "0.5", "source_slice": None, "position_mm": None},
        {"slice": 1, "weight": 0.5, "source_slice": 1.5, "position_mm": None},
        {"slice": 1, "weight": 0.5, "source_slice": None, "position_mm": 1e999},
    ],
)
def test_attention_that_can_not_be_is_told(attended: object, tmp_path: Path) -> None:
    write_record(tmp_path / "a.npz", record())
    altered(tmp_path / "a.npz", attended)
    with pytest.raises(RunError, match=r"a\.npz: damaged .*--resume"):
        read_record(tmp_path / "a.npz", "scan-0001")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def something_else(path: Path) -> None:
    path.write_text("no archive")


def without_answers(path: Path) -> None:
    np.savez(path, head=np.frombuffer(b"{}", dtype=np.uint8))


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [cut, flip, empty, something_else, without_answers, remove])
def test_a_damaged_record_is_told(damage: Callable[[Path], None], tmp_path: Path) -> None:
    write_record(tmp_path / "a.npz", record())
    damage(tmp_path / "a.npz")
    with pytest.raises(RunError, match=r"a\.npz: damaged .*--resume"):
        read_record(tmp_path / "a.npz", "scan-0001")
