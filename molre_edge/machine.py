"""What this machine is and what it lets the process use, as far as it tells. Standard library only."""

from __future__ import annotations

import os
import platform
from pathlib import Path

__all__ = ["cpu_model", "nvidia_driver", "usable_cores"]


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
