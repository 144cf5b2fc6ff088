"""Scans read ahead in other processes: in order, bounded, and each crash costs one scan."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel  # noqa: F401  (before another of that name is put in its place)
import numpy as np
import pytest
from few_processes import run_with_few_processes

from molre_edge.errors import RunError, ScanError
from molre_edge.scans import ScanSource, find_scans
from molre_edge.scans.limits import MAX_VOXELS
from molre_edge.scans.workers import pool as module
from molre_edge.scans.workers.pool import CRASHED, READER_BYTES, TOO_SLOW, Readers, default_readers, most_readers
from molre_edge.scans.workers.prepare import Prepared, prepare
from molre_edge.specs import Grid

GRID = Grid(slices=4, rows=32, cols=32)


@pytest.fixture(scope="module")
def sources(tiny_scans: Path) -> tuple[ScanSource, ...]:
    """Three heads in DICOM and one in NIfTI."""
    return find_scans(tiny_scans).scans


@pytest.fixture
def decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a library of one's own in the place of nibabel in the readers: NIfTI then does what it says."""

    def put(code: str) -> None:
        (tmp_path / "nibabel.py").write_text(code)
        monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])

    return put


def is_same(one: Prepared | ScanError, other: Prepared | ScanError) -> bool:
    if isinstance(one, ScanError) or isinstance(other, ScanError):
        return str(one) == str(other)
    facts = (one.warnings, one.facts) == (other.warnings, other.facts)
    return facts and one.volume.dtype == other.volume.dtype and one.volume.tobytes() == other.volume.tobytes()


@pytest.mark.parametrize("count", [1, 3])
def test_readers_give_what_reading_here_gives_in_the_same_order(sources: tuple[ScanSource, ...], count: int) -> None:
    gone = ScanSource(Path("gone"), (Path("gone.dcm"),), "dicom")
    many = (*sources, gone, *reversed(sources))
    with Readers(GRID, count) as ahead:
        results = list(ahead.read(many))
    assert len(results) == len(many)
    assert all(is_same(got, prepare(source, GRID)) for got, source in zip(results, many, strict=True))
    assert isinstance(results[4], ScanError) and results[4].code == "unreadable"


@pytest.mark.parametrize(("volumes", "waiting"), [(100, 2 + 4), (3, 2 + 3), (0, 2 + 1)])
def test_what_is_read_ahead_is_bounded_by_the_readers_and_by_memory(
    sources: tuple[ScanSource, ...], monkeypatch: pytest.MonkeyPatch, volumes: int, waiting: int
) -> None:
    monkeypatch.setattr(module, "AHEAD_BYTES", volumes * 2 * 4 * 32 * 32)
    asked = 0

    def endless() -> Iterator[ScanSource]:
        nonlocal asked
        while True:
            asked += 1
            yield sources[0]

    with Readers(GRID, 2) as ahead:
        results = ahead.read(endless())
        for _ in range(3):
            next(results)
        time.sleep(0.2)
        assert asked == 3 + waiting


class Slow:
    """A reader that takes its time for nothing."""

    def __init__(self, *_: object) -> None:
        """Start no process."""

    def ask(self, source: ScanSource) -> ScanError:
        time.sleep(0.002)
        return ScanError("unreadable", source.path.name)

    def close(self) -> None: ...

    def end(self) -> None: ...


def test_more_readers_are_started_while_they_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_Reader", Slow)
    many = [ScanSource(Path(str(number)), (Path("1.dcm"),), "dicom") for number in range(60)]
    with Readers(GRID, 1, most=3) as ahead, Readers(GRID, 1) as fixed:
        for readers, count in ((ahead, 3), (fixed, 1)):
            assert [str(result) for result in readers.read(many)] == [str(number) for number in range(60)]
            assert readers.count == count


def test_where_no_more_can_be_started_those_that_are_there_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_Reader", Slow)
    with Readers(GRID, 1, most=3) as ahead:
        monkeypatch.setattr("threading.Thread.start", refuse)
        assert len(list(ahead.read([ScanSource(Path("one"), (Path("1.dcm"),), "dicom")] * 20))) == 20
        assert ahead.count == 1


def refuse(self: object) -> None:
    raise RuntimeError("can't start new thread")


def test_a_decoder_that_crashes_costs_its_scan_alone(
    sources: tuple[ScanSource, ...], decoder: Callable[[str], None]
) -> None:
    decoder("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    with Readers(GRID, 1) as ahead:
        first, *crashed, last = ahead.read((sources[0], sources[3], sources[3], sources[0]))
    for error in crashed:
        assert isinstance(error, ScanError)
        assert error.code == CRASHED and "SIGSEGV" in str(error)
    assert isinstance(first, Prepared) and is_same(first, last)


def test_a_decoder_that_does_not_end_is_ended(sources: tuple[ScanSource, ...], decoder: Callable[[str], None]) -> None:
    decoder("import time; time.sleep(600)")
    with Readers(GRID, 1, seconds=6.0) as ahead:
        late, good = ahead.read((sources[3], sources[0]))
    assert isinstance(late, ScanError) and late.code == TOO_SLOW
    assert isinstance(good, Prepared)


def test_what_a_decoder_prints_disturbs_nothing(
    sources: tuple[ScanSource, ...], decoder: Callable[[str], None], capfd: pytest.CaptureFixture[str]
) -> None:
    decoder("import os; os.write(1, b'x' * 100000); print('said'); os.write(2, b'Muster^Erika'); raise ImportError")
    with Readers(GRID, 1) as ahead:
        bad, good = ahead.read((sources[3], sources[0]))
    assert isinstance(bad, ScanError) and isinstance(good, Prepared)
    assert capfd.readouterr() == ("", "")


def test_a_bug_of_ours_costs_its_scan_and_tells_its_place_but_not_its_words(
    sources: tuple[ScanSource, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(source: ScanSource) -> None:
        raise ZeroDivisionError("Muster^Erika")

    monkeypatch.setattr("molre_edge.scans.workers.prepare.read_scan", broken)
    with Readers(GRID, 0) as here:
        [error] = here.read(sources[:1])
    assert isinstance(error, ScanError) and error.code == "reader_failed"
    assert "ZeroDivisionError at test_pool.py:" in str(error) and "Muster" not in str(error)


def test_readers_that_can_not_start_end_the_run_and_not_scan_after_scan(
    sources: tuple[ScanSource, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy.py").write_text("raise ImportError")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with Readers(GRID, 1) as ahead, pytest.raises(RunError, match="--readers 0"):
        list(ahead.read(sources))


@pytest.mark.parametrize("allowed", [1, 2, 3])
def test_where_few_processes_are_allowed_it_says_so_and_leaves_none(
    tiny_scans: Path, tmp_path: Path, allowed: int
) -> None:
    code = f"""
from pathlib import Path
from molre_edge.errors import RunError
from molre_edge.scans import find_scans
from molre_edge.scans.workers.pool import Readers
from molre_edge.specs import Grid

sources = find_scans(Path({str(tiny_scans)!r})).scans
try:
    with Readers(Grid(slices=4, rows=32, cols=32), 2) as ahead:
        list(ahead.read(sources))
except RunError as error:
    print(error)
"""
    start = ["env", "OPENBLAS_NUM_THREADS=1", sys.executable, "-c", code]
    done = run_with_few_processes(start, allowed, tmp_path / "work")
    assert done.returncode == 0, done.stderr
    assert "allow this user, service or container more of them (ulimit -u" in done.stdout
    assert "--readers 0" in done.stdout


def test_a_module_in_the_current_folder_is_not_taken_for_a_library(
    sources: tuple[ScanSource, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy.py").write_text("raise ImportError")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", ".", os.getcwd())])
    with Readers(GRID, 1) as ahead:
        [result] = ahead.read(sources[:1])
    assert isinstance(result, Prepared)


def test_leaving_the_block_ends_the_processes(sources: tuple[ScanSource, ...]) -> None:
    with pytest.raises(KeyboardInterrupt), Readers(GRID, 2) as ahead:
        started = [reader._process for reader in ahead._all]
        next(ahead.read(sources * 5))
        raise KeyboardInterrupt
    assert all(process.poll() is not None for process in started)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells of it")
def test_a_reader_leaves_no_core_file(sources: tuple[ScanSource, ...]) -> None:
    with Readers(GRID, 1) as ahead:
        list(ahead.read(sources[:1]))
        reader = Path("/proc", str(ahead._all[0]._process.pid))
        assert re.search(r"Max core file size +0 +0 ", (reader / "limits").read_text())
        if os.geteuid() != 0:
            assert (reader / "environ").stat().st_uid == 0  # not dumpable: also none for a program that collects them


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_a_run_that_is_killed_takes_its_readers_along_even_in_a_decoder_that_does_not_end(
    tiny_scans: Path, tmp_path: Path
) -> None:
    (tmp_path / "nibabel.py").write_text(f"open({str(tmp_path / 'begun')!r}, 'w').close()\nwhile True: pass")
    run = f"""
import sys
from pathlib import Path
from molre_edge.scans.workers.pool import Readers
from molre_edge.scans import find_scans
from molre_edge.specs import Grid
scans = find_scans(Path({str(tiny_scans)!r})).scans
sys.path.insert(0, {str(tmp_path)!r})
with Readers(Grid(slices=4, rows=32, cols=32), 1) as ahead:
    print(ahead._all[0]._process.pid, flush=True)
    list(ahead.read(scans[3:]))
"""
    with subprocess.Popen([sys.executable, "-c", run], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        reader = Path("/proc", parent.stdout.readline().strip(), "stat")
        wait_for((tmp_path / "begun").exists)
        assert reader.exists()
        parent.kill()
    wait_for(lambda: not reader.exists() or reader.read_text().rpartition(")")[2].split()[0] == "Z")


def wait_for(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_an_answer_of_another_shape_is_none(sources: tuple[ScanSource, ...]) -> None:
    from molre_edge.scans.workers.prepare import pack, unpack

    head, values = pack(prepare(sources[0], GRID))
    assert np.array_equal(unpack(head, bytes(values), GRID).volume, prepare(sources[0], GRID).volume)  # type: ignore[union-attr]
    for bad_head, bad_values in (
        (head, bytes(values)[:-2]),
        (b"[]", bytes(values)),
        (b"{}", bytes(values)),
        (b"[" * 100_000, b""),
        (b'{"facts": {}, "warnings": [], "milliseconds": [1]}', bytes(values)),
    ):
        with pytest.raises(ValueError, match="answer"):
            unpack(bad_head, bad_values, GRID)


@pytest.mark.parametrize(
    ("cores", "gib", "readers", "most"),
    [
        (1, None, 1, 1),
        (2, None, 1, 2),
        (4, None, 2, 4),
        (8, None, 4, 4),
        (6, 6.5, 1, 1),  # a Jetson with 8 GB: half of it is the engine's
        (2, 1.0, 1, 1),
        (8, 17.0, 2, 2),
        (16, 500.0, 4, 16),
        (200, 2000.0, 4, 64),
    ],
)
def test_by_default_half_the_cores_read_and_half_the_memory_is_enough_for_them(
    monkeypatch: pytest.MonkeyPatch, cores: int, gib: float | None, readers: int, most: int
) -> None:
    monkeypatch.setattr(module, "usable_cores", lambda: cores)
    monkeypatch.setattr(module, "usable_memory", lambda: None if gib is None else int(gib * 2**30))
    assert (default_readers(), most_readers()) == (readers, most)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells of it")
def test_a_reader_takes_no_more_memory_than_is_counted_for_it(
    tmp_path: Path, write_series: Any, write_enhanced: Any
) -> None:
    """Measured between two files of many frames, the costliest kind, and scaled to the largest volume."""
    voxels = []
    for name, side, mm in (("few", 128, 1.98), ("many", 512, 0.495)):
        slices = write_series(tmp_path / f"{name}-slices", shape=(side, side), pixel=(mm, mm))
        (tmp_path / name).mkdir()
        write_enhanced(tmp_path / name / "head.dcm", slices)
        voxels.append(len(slices) * side * side)

    with Readers(GRID, 1) as ahead:
        status = Path("/proc", str(ahead._all[0]._process.pid), "status")
        peaks = []
        for name in ("few", "many"):
            assert all(isinstance(result, Prepared) for result in ahead.read(find_scans(tmp_path / name).scans))
            peaks.append(1024 * int(status.read_text().split("VmHWM:")[1].split()[0]))
    growth = (peaks[1] - peaks[0]) / (voxels[1] - voxels[0])
    assert growth > 2  # it was the volume that was measured, of int16
    assert peaks[0] + growth * MAX_VOXELS < READER_BYTES
