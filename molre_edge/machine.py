"""What this machine is and what it lets the process use, as far as it tells. Standard library only."""

from __future__ import annotations

import os
import platform
from pathlib import Path

__all__ = ["NOT_TOLD", "cpu_model", "cpu_state", "nvidia_driver", "usable_cores"]


NOT_TOLD = "not available here"
"""Stands for a figure that this machine does not report."""


def usable_cores() -> int:
    """Cores that this process may run on: in a container fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The CPU's name, or else its architecture.

    Args:
        cpuinfo: where Linux describes it; on ARM this has part numbers and no name.
    """
    fields: dict[str, str] = {}
    for line in _text(cpuinfo).splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    if fields.get("model name"):
        return fields["model name"]
    parts = [fields[name] for name in ("CPU implementer", "CPU part") if fields.get(name)]
    return " ".join([platform.machine() or "unknown", *parts])


def nvidia_driver(version: Path = Path("/proc/driver/nvidia/version")) -> str | None:
    """The line in which NVIDIA's kernel module names its version; None without one."""
    lines = _text(version).splitlines()
    return lines[0].partition(":")[2].strip() or None if lines else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def cpu_state(sysfs: Path = Path("/sys"), cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, object]:
    """What governs how fast the CPU is just now: governors, clocks and load; None where the machine does not tell.

    Args:
        sysfs: where Linux tells of governors and clocks.
        cpuinfo: and of clocks, where it does not there.
    """
    policies = sorted((sysfs / "devices" / "system" / "cpu" / "cpufreq").glob("policy*"))
    governors = sorted({text for each in policies if (text := _text(each / "scaling_governor").strip())})
    clocks = [int(text) / 1e3 for each in policies if (text := _text(each / "scaling_cur_freq").strip()).isdecimal()]
    if not clocks:
        lines = [line.partition(":")[2] for line in _text(cpuinfo).splitlines() if line.startswith("cpu MHz")]
        clocks = [float(text) for text in lines if text.strip().replace(".", "", 1).isdecimal()]
    return {
        "governor": ", ".join(governors) or None,
        "clock_mhz": [round(min(clocks)), round(max(clocks))] if clocks else None,
        "load_1min": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }
