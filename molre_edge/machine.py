"""What this machine is and what it lets the process use, as far as it tells. Standard library only."""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Iterator
from pathlib import Path

__all__ = [
    "NOT_TOLD",
    "cpu_model",
    "cpu_state",
    "nvidia_driver",
    "startable_threads",
    "state_folder",
    "usable_cores",
    "usable_memory",
]


NOT_TOLD = "not available here"
"""Stands for a figure that this machine does not report."""


def usable_cores() -> int:
    """Cores that this process may run on: in a container fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def state_folder() -> Path | None:
    """Where this user's records are kept between runs; no other function reads the environment for it.

    That is the folder ``MOLRE_EDGE_STATE``, a service's ``STATE_DIRECTORY``, or the user's state folder; None if the
    user has no home.
    """
    for name in ("MOLRE_EDGE_STATE", "STATE_DIRECTORY"):
        if folder := os.environ.get(name, "").partition(os.pathsep)[0]:  # systemd separates several with colons
            return Path(folder)
    if given := os.environ.get("XDG_STATE_HOME"):
        return Path(given) / "molre-edge"
    try:
        return Path.home() / ".local" / "state" / "molre-edge"
    except RuntimeError:  # a user without a home
        return None


def startable_threads(most: int) -> int:
    """How many threads this process may start now, up to `most`; each is started and ends at once.

    Linux counts threads as processes, so limits of a user (``ulimit -u``), of a service (``TasksMax=``) and of a
    container (``--pids-limit``) are all in it.
    """
    end, started = threading.Event(), list[threading.Thread]()
    stack = threading.stack_size(1 << 20)  # they do nothing
    try:
        for _ in range(most):
            thread = threading.Thread(target=end.wait, daemon=True)
            thread.start()
            started.append(thread)
    except RuntimeError:  # "can't start new thread"
        pass
    finally:
        threading.stack_size(stack)
        end.set()
        for thread in started:
            thread.join()
    return len(started)


def usable_memory(root: Path = Path("/")) -> int | None:
    """Bytes that this process may still take; None if the system does not tell.

    The least of what Linux calls available and of what is left in each control group (version 1 or 2) that the process
    is in, as containers and services are; files that the kernel only caches count as free.

    Args:
        root: where ``proc`` and ``sys`` are.
    """
    fields = dict(line.partition(":")[::2] for line in _text(root / "proc" / "meminfo").splitlines())
    available = fields.get("MemAvailable", "").split()
    told = [1024 * int(available[0])] if available and available[0].isdecimal() else []
    return min([*told, *_left_in_groups(root)], default=None)


def _left_in_groups(root: Path) -> Iterator[int]:
    """Bytes that each of the process's control groups with a limit still allows."""
    for line in _text(root / "proc" / "self" / "cgroup").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        base = root / "sys" / "fs" / "cgroup"
        if not controllers:  # version 2
            names = ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            base, names = base / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]  # outside of a container's view: ".."
        for depth in range(len(parts) + 1):  # a limit holds for all groups below it
            folder = base.joinpath(*parts[:depth])
            limit, used = (_text(folder / name).strip() for name in names[:2])
            if limit.isdecimal() and used.isdecimal():
                cached = dict(line.split(" ", 1) for line in _text(folder / "memory.stat").splitlines() if " " in line)
                yield max(0, int(limit) - int(used) + int(cached.get(names[2], "0")))


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
