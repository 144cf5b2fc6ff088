"""Resident memory of this process, as Linux reports it."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["MemoryWatch"]

_PROC = Path("/proc/self")


class MemoryWatch:
    """The growth of resident memory since the watch began: at its peak, and now.

    The allocator reuses memory that an earlier part of the process freed, so the figures are lower bounds of what the
    same work would take in a process of its own.
    """

    def __init__(self, proc: Path = _PROC) -> None:
        """Begin.

        Args:
            proc: the folder in which Linux describes the process.
        """
        self._proc = proc
        try:
            (proc / "clear_refs").write_text("5")  # sets the peak back to what is resident now
        except OSError:
            self._before = None
        else:
            self._before = self._mib("VmRSS")

    def growth(self) -> dict[str, float | None]:
        """``peak_mib`` and ``resident_mib`` since the beginning; None if Linux does not report them."""
        peak, now = self._mib("VmHWM"), self._mib("VmRSS")
        if self._before is None or peak is None or now is None:
            return {"peak_mib": None, "resident_mib": None}
        return {"peak_mib": round(peak - self._before, 1), "resident_mib": round(now - self._before, 1)}

    def _mib(self, field: str) -> float | None:
        try:
            found = re.search(rf"^{field}:\s+(\d+) kB$", (self._proc / "status").read_text(), re.MULTILINE)
        except OSError:
            return None
        return int(found[1]) / 1024 if found else None
