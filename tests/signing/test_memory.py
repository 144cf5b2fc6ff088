"""What a machine remembers of releases and of files that it made."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from molre_edge.errors import SigningError
from molre_edge.signing import memory as module
from molre_edge.signing.memory import SigningMemory
from molre_edge.signing.trust import Signed


@pytest.fixture
def memory(tmp_path: Path) -> SigningMemory:
    return SigningMemory(tmp_path / "state" / "signing.json")


def release(version: int, name: str = "head-ct", key: str = "A" * 16) -> Signed:
    return Signed(key, name, version, "")


def test_an_older_version_of_a_release_is_refused_unless_it_is_asked_for(memory: SigningMemory, tmp_path: Path) -> None:
    for version in (3, 4, 4):
        memory.check(release(version), tmp_path)
    with pytest.raises(SigningError, match=r"version 3 of head-ct, and this machine has used version 4"):
        memory.check(release(3), tmp_path)
    memory.check(release(3, name="chest-ct"), tmp_path)
    memory.check(release(3, key="B" * 16), tmp_path)
    memory.check(release(3), tmp_path, accept_older=True)
    memory.check(release(3), tmp_path)
    memory.check(release(5), tmp_path)


def test_it_is_its_user_s_alone_and_is_not_written_where_nothing_is_new(memory: SigningMemory, tmp_path: Path) -> None:
    memory.check(release(3), tmp_path)
    file = tmp_path / "state" / "signing.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    before = file.stat().st_mtime_ns
    memory.check(release(3), tmp_path)
    assert file.stat().st_mtime_ns == before


def test_what_can_t_be_read_or_remembered_is_never_taken_for_nothing(memory: SigningMemory, tmp_path: Path) -> None:
    memory.check(release(3), tmp_path)
    file = tmp_path / "state" / "signing.json"
    for content in (
        "",
        "{}",
        '{"format": "molre-edge-signing", "version": 1, "seen": {"x": "1"}, "made": {}}',
        "[" * 9999,
    ):
        file.write_text(content)
        with pytest.raises(SigningError, match="can't be read"):
            memory.check(release(2), tmp_path)
        with pytest.raises(SigningError, match="can't be read"):
            memory.source_of("a" * 64)
    with pytest.raises(SigningError, match="no home"):
        SigningMemory(None).check(release(2), tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(SigningError, match="can't be remembered"):
        SigningMemory(tmp_path / "file" / "below" / "signing.json").check(release(2), tmp_path)


def test_files_made_here_are_known_with_what_they_were_made_from(
    memory: SigningMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_MADE", 2)
    assert memory.source_of("a") is None
    for name in ("a", "b", "a", "c"):
        memory.made_here(name, f"source of {name}")
    assert [memory.source_of(name) for name in "abc"] == ["source of a", None, "source of c"]


def test_two_processes_that_remember_at_once_lose_nothing(memory: SigningMemory, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from molre_edge.signing.memory import SigningMemory\n"
        "for i in range(20): SigningMemory(Path(sys.argv[1])).made_here(f'{sys.argv[2]}{i}', 'x')"
    )
    file = tmp_path / "state" / "signing.json"
    both = [subprocess.Popen([sys.executable, "-c", code, file, name], env=os.environ) for name in "ab"]
    assert [each.wait() for each in both] == [0, 0]
    assert all(memory.source_of(f"{name}{i}") == "x" for name in "ab" for i in range(20))
