"""Ids of scans: keyed, the same in all shards of a run, and each in exactly one shard."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from molre_edge.errors import RunError, UsageError
from molre_edge.runs.scan_ids import IdSecret, Shard, is_scan_id

SECRET = IdSecret(bytes(range(32)))


def test_an_id_is_a_keyed_hash_of_path_and_key() -> None:
    one = SECRET.scan_id("a", "a/1.dcm")
    assert one == "scan-d6wfyyjs2sitrpv5"  # an id never changes: results of years refer to it
    assert is_scan_id(one)
    others = [
        SECRET.scan_id("a", "a/2.dcm"),
        SECRET.scan_id("a/", "a/1.dcm"),
        SECRET.scan_id("a", "a/1.dcm", 1),
        IdSecret.new().scan_id("a", "a/1.dcm"),
    ]
    assert len({one, *others}) == 5


@pytest.mark.parametrize("text", ["scan-0001", "scan-D6WFYYJS2SITRPV5", "scan-d6wfyyjs2sitrpv5\n", "../scan", ""])
def test_other_texts_are_no_ids(text: str) -> None:
    assert not is_scan_id(text)


def test_each_scan_is_in_one_shard_and_shards_are_of_about_one_size() -> None:
    ids = [SECRET.scan_id(f"study-{i}", f"study-{i}/1.dcm") for i in range(600)]
    sizes = [sum(Shard(i, 3).holds(scan) for scan in ids) for i in (1, 2, 3)]
    assert sum(sizes) == 600 and min(sizes) > 150
    assert all(Shard(1, 1).holds(scan) for scan in ids)


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/", "a/b", "-1/3", "1/3 ", "1/0"])
def test_a_shard_that_can_not_be_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--shard .*: expected I/N with I from 1 to N, such as 1/8"):
        Shard.parse(text)


def test_shards_that_start_at_once_get_one_secret_for_their_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "ids.secret"
    with ThreadPoolExecutor(8) as pool:
        marks = {secret.mark for secret in pool.map(IdSecret.shared, [path] * 16)}
    assert len(marks) == 1
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == ["ids.secret"]


def test_a_file_system_without_hard_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert IdSecret.shared(tmp_path / "ids.secret") == IdSecret.shared(tmp_path / "ids.secret")


@pytest.mark.parametrize("content", [b"", b"abc", b"\xff" * 64, b"g" * 64, b"0" * 5000])
def test_a_file_that_is_no_secret_is_refused_and_kept(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("molre_edge.runs.scan_ids._PAUSE_SECONDS", 0.0)
    path = tmp_path / "thesis.doc"
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"thesis\.doc: (not a secret|the secret of the ids can't be read)"):
        IdSecret.shared(path)
    assert path.read_bytes() == content


def test_a_secret_shows_itself_nowhere() -> None:
    assert SECRET.value.hex() not in repr(SECRET) and "x01" not in repr(SECRET)
