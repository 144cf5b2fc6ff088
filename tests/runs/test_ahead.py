"""Reading ahead ends at once, whatever it is at, and leaves no process and nobody waiting."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from molre_edge.errors import RunError, ScanError
from molre_edge.runs.ahead import StudyReader
from molre_edge.specs import Grid

GRID = Grid(slices=4, rows=32, cols=32)


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs signals of POSIX")
def test_it_ends_while_a_study_is_read_that_never_ends(tiny_scans: Path) -> None:
    with StudyReader(GRID, 1) as reader:
        (apart,) = reader._readers._all
        os.kill(apart._process.pid, signal.SIGSTOP)
        studies = [reader.begin(tiny_scans / f"head-{number}") for number in (1, 2)]
        until = time.monotonic() + 60
        while reader._finder._process is None and time.monotonic() < until:
            time.sleep(0.01)
        begun = time.monotonic()
    assert time.monotonic() - begun < 10  # not the ten minutes that a scan may take
    for study in studies:
        with pytest.raises((ScanError, RunError)):
            study.result()
    assert not reader._thread.is_alive() and apart._process.poll() is not None and reader._finder._process is None
    with pytest.raises(RunError, match="dropped before it was read"):
        reader.begin(tiny_scans / "head-3").result()


def test_what_is_dropped_before_its_turn_is_never_read_and_the_rest_is(tiny_scans: Path) -> None:
    with StudyReader(GRID, 0) as reader:
        dropped, wanted = (reader.begin(tiny_scans / f"head-{number}") for number in (1, 2))
        dropped.drop()
        assert reader.take(wanted).source.path == tiny_scans / "head-2"
        with pytest.raises(RunError, match="dropped"):
            reader.take(dropped)
