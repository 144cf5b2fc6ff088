"""Resident memory of this process, as Linux tells it."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["MemoryWatch"]

_PROC = Path("/proc/self")


class MemoryWatch:
    """How much more resident memory the process took at most, and has now, than when the watch began.

    Memory that an earlier part of the process freed and the allocator kept is used again first, so what is told is a
    lower bound of what the same would take in a process of its own.
    """

    def __init__(self, proc: Path = _PROC) -> None:
        """Begin; `proc` is where Linux tells of the process."""
        self._proc = proc
        try:
            (proc / "clear_refs").write_text("5")  # sets the peak back to what is resident now
        except OSError:
            self._before = None
        else:
            self._before = self._mib("VmRSS")

    def told(self) -> dict[str, float | None]:
        """``peak_mib`` and ``resident_mib``, both beyond the beginning; None where Linux does not tell."""
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
