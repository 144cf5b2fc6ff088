"""Which keys a machine trusts, and what it accepts by them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from molre_edge.errors import SigningError
from molre_edge.signing import trust as module
from molre_edge.signing.minisign import SecretKey, new_secret_key, sign
from molre_edge.signing.trust import NO_TRUST, Trust, configured_trust, trust_of


def public_of(key: SecretKey, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(key.public.text)
    return path


def signed(path: Path, key: SecretKey, comment: str) -> Path:
    path.write_bytes(b"content")
    path.with_name(path.name + ".minisig").write_text(sign(b"content", key, comment).text)
    return path


def test_any_of_several_keys_will_do_and_no_other(tmp_path: Path) -> None:
    old, new, foreign = new_secret_key(), new_secret_key(), new_secret_key()
    trust = Trust((old.public, new.public), "--trust")
    for key in (old, new):
        found = trust.check(b"content", signed(tmp_path / "f", key, "timestamp:12\tname:head-ct"))
        assert (found.key_id, found.name, found.version) == (key.id, "head-ct", 12)
    with pytest.raises(SigningError, match=f"signed by key {foreign.id}, which is not trusted here; --trust names"):
        trust.check(b"content", signed(tmp_path / "f", foreign, "timestamp:12"))
    with pytest.raises(SigningError, match="altered since it was signed"):
        trust.check(b"other", signed(tmp_path / "f", old, "timestamp:12"))
    (tmp_path / "f.minisig").unlink()
    with pytest.raises(SigningError, match=r"not signed \(f\.minisig is missing\)"):
        trust.check(b"content", tmp_path / "f")


@pytest.mark.parametrize(
    ("comment", "version"), [("version:7\ttimestamp:99", 7), ("timestamp:99", 99), ("signed by hand", 0)]
)
def test_the_version_is_that_of_the_comment_else_its_time(tmp_path: Path, comment: str, version: int) -> None:
    key = new_secret_key()
    assert Trust((key.public,), "x").check(b"content", signed(tmp_path / "f", key, comment)).version == version


@pytest.mark.parametrize("word", ["-1", "1.5", "", "9" * 16, "\u0663"])
def test_a_version_that_is_no_whole_number_is_refused(tmp_path: Path, word: str) -> None:
    key = new_secret_key()
    with pytest.raises(SigningError, match="expected a whole number"):
        Trust((key.public,), "x").check(b"content", signed(tmp_path / "f", key, f"version:{word}"))


def test_keys_are_named_by_the_environment_else_the_user_else_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(module, "_SYSTEM", tmp_path / "etc")
    assert configured_trust() == NO_TRUST and not configured_trust()
    system, user, named, other = (new_secret_key() for _ in range(4))
    public_of(system, tmp_path / "etc" / "a.pub")
    assert [key.id for key in configured_trust().keys] == [system.id]
    public_of(user, tmp_path / "config" / "molre-edge" / "trust" / "a.pub")
    assert [key.id for key in configured_trust().keys] == [user.id]
    paths = [public_of(key, tmp_path / f"{key.id}.pub") for key in (named, other)]
    monkeypatch.setenv("MOLRE_EDGE_TRUST", os.pathsep.join(map(str, paths)))
    assert [key.id for key in configured_trust().keys] == [named.id, other.id]
    assert [key.id for key in trust_of(paths[:1]).keys] == [named.id]  # what a command is given goes first


def test_a_key_that_is_missing_or_broken_never_means_that_nothing_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "molre-edge" / "trust"
    folder.mkdir(parents=True)
    with pytest.raises(SigningError, match="holds no key"):
        configured_trust()
    (folder / "a.pub").write_text("nothing")
    with pytest.raises(SigningError, match="not a public key of minisign"):
        configured_trust()
    monkeypatch.setenv("MOLRE_EDGE_TRUST", str(tmp_path / "gone.pub"))
    with pytest.raises(SigningError, match="can't be read"):
        configured_trust()
    monkeypatch.setenv("MOLRE_EDGE_TRUST", os.pathsep)
    with pytest.raises(SigningError, match="names no key"):
        configured_trust()
