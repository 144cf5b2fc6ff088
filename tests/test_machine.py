"""What a process may use, on machines, in containers and in services of any kind."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest
from few_processes import run_with_few_processes

from molre_edge.machine import startable_threads, usable_memory

GIB = 1 << 30
NO_LIMIT = 9223372036854771712


def system(root: Path, *, groups: str, files: dict[str, str], available: int = 6 * GIB) -> Path:
    """A root with what Linux tells of memory."""
    files = {"proc/meminfo": f"MemTotal: 1 kB\nMemAvailable:  {available // 1024} kB\n", **files}
    for name, text in {**files, "proc/self/cgroup": groups}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_without_a_limit_it_is_what_the_kernel_calls_available(tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/a/memory.max": "max\n", "sys/fs/cgroup/a/memory.current": "1\n"}
    assert usable_memory(system(tmp_path, groups="0::/a\n", files=files)) == 6 * GIB


@pytest.mark.parametrize("groups", ["0::/\n", "0::/service\n", "0::/service/part\n", "0::/../../service\n"])
def test_a_limit_of_a_group_or_of_one_above_it_counts_less_what_is_used(tmp_path: Path, groups: str) -> None:
    place = "sys/fs/cgroup/" if groups == "0::/\n" else "sys/fs/cgroup/service/"
    files = {
        place + "memory.max": f"{4 * GIB}\n",
        place + "memory.current": f"{3 * GIB}\n",
        place + "memory.stat": f"anon 5\ninactive_file {GIB}\n",  # cached files give way
    }
    assert usable_memory(system(tmp_path, groups=groups, files=files)) == 2 * GIB


def test_groups_of_version_1_count_too(tmp_path: Path) -> None:
    files = {
        "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{NO_LIMIT}\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "0\n",
        "sys/fs/cgroup/memory/box/memory.limit_in_bytes": f"{2 * GIB}\n",
        "sys/fs/cgroup/memory/box/memory.usage_in_bytes": f"{GIB}\n",
    }
    groups = "9:name=systemd:/\n5:cpu,cpuacct:/box\n4:memory:/box\n0::/\n"
    assert usable_memory(system(tmp_path, groups=groups, files=files)) == GIB


def test_a_group_beyond_its_limit_has_nothing_left(tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/memory.max": "100\n", "sys/fs/cgroup/memory.current": "200\n"}
    assert usable_memory(system(tmp_path, groups="0::/\n", files=files)) == 0


def test_where_the_system_does_not_tell_there_is_no_figure(tmp_path: Path) -> None:
    assert usable_memory(tmp_path) is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text("MemAvailable:\nnonsense\n")
    assert usable_memory(tmp_path) is None


def test_threads_that_can_be_started_are_counted_and_gone_afterwards() -> None:
    before = threading.active_count()
    assert startable_threads(5) == 5
    assert startable_threads(0) == 0
    assert threading.active_count() == before


def test_no_more_threads_are_counted_than_a_user_may_have(tmp_path: Path) -> None:
    count = "from molre_edge.machine import startable_threads; print(startable_threads(50))"
    done = run_with_few_processes([sys.executable, "-c", count], 8, tmp_path)
    assert done.stdout == "7\n", done.stderr  # and itself
