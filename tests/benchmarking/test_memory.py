"""Memory beyond a beginning, as the kernel tells it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from molre_edge.benchmarking.memory import MemoryWatch


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells of it")
def test_what_was_taken_and_given_back_is_in_the_peak_alone() -> None:
    watch = MemoryWatch()
    block = np.ones(64 << 20, dtype=np.uint8)
    assert block.sum()
    del block
    told = watch.growth()
    if told["peak_mib"] is None:
        pytest.skip("this kernel does not let a process set its peak back")
    assert told["peak_mib"] > 60
    assert told["resident_mib"] is not None and told["resident_mib"] < 30


def test_where_the_system_does_not_tell_there_is_no_figure(tmp_path: Path) -> None:
    assert MemoryWatch(tmp_path / "nothing").growth() == {"peak_mib": None, "resident_mib": None}
