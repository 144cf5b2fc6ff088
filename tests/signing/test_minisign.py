"""Keys and signatures in minisign's format, beside minisign itself where it is installed."""

from __future__ import annotations

import base64
import os
import shutil
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from molre_edge.errors import SigningError
from molre_edge.signing import minisign
from molre_edge.signing.minisign import (
    SecretKey,
    new_secret_key,
    parse_public_key,
    parse_signature,
    read_public_key,
    read_secret_key,
    read_signature,
    sign,
    write_key_pair,
)

COMMENT = "timestamp:1764316800\tfile:release.json\thashed\tname:head-ct\tversion:3"
MINISIGN = pytest.mark.skipif(shutil.which("minisign") is None, reason="minisign is not installed")

# made by Debian's minisign 0.11 from the content "scans\n"
THEIR_KEY = "RWQezuwTIvCJq6EaxMAOGnw0TRKw759KoQujlWvxAVF5GjPPxYThfGjU"
THEIR_SIGNATURE = """untrusted comment: signature from minisign secret key
RUQezuwTIvCJq+RGuCju7GstAa7HwHG5qcl16RrCmi9jn/LAJVnYyPp82hokUOvWVW4bGqhxmq1BJXOil0OtVqD0RLp3iisUBg0=
trusted comment: timestamp:1764316800\tfile:s\thashed\tname:head-ct
w1+31b3QcBIQG8LNXg9x23XJB8qQZd7zKPyLxQzRNs9n+5BoFaHkAFVOPBCzUM1sE59yppKRcdLqK3E3al8zBA==
"""


@pytest.fixture
def key() -> SecretKey:
    return new_secret_key()


def test_what_was_signed_is_accepted_and_says_its_trusted_comment(key: SecretKey) -> None:
    signature = parse_signature(sign(b"scans\n", key, COMMENT).text, "x")
    parse_public_key(key.public.text, "x.pub").verify(b"scans\n", signature)
    assert signature.fields == {"timestamp": "1764316800", "file": "release.json", "name": "head-ct", "version": "3"}


def test_a_signature_that_minisign_made_is_accepted() -> None:
    public, signature = parse_public_key(THEIR_KEY, "k"), parse_signature(THEIR_SIGNATURE, "s")
    public.verify(b"scans\n", signature)
    assert signature.fields["name"] == "head-ct"
    with pytest.raises(SigningError, match="altered since it was signed"):
        public.verify(b"scans", signature)


def test_one_changed_bit_anywhere_is_refused_by_what_it_is_in(key: SecretKey) -> None:
    signature, public = sign(b"scans", key, COMMENT), key.public

    def flipped(raw: bytes) -> bytes:
        return bytes([raw[0] ^ 1, *raw[1:]])

    for wrong, why in (
        (replace(signature, raw=flipped(signature.raw)), "does not fit"),
        (replace(signature, comment=COMMENT.replace("version:3", "version:9")), "trusted comment was altered"),
        (replace(signature, global_raw=flipped(signature.global_raw)), "trusted comment was altered"),
        (replace(signature, key_id="0" * 16), "signed by key 0000000000000000"),
    ):
        with pytest.raises(SigningError, match=why):
            public.verify(b"scans", wrong)
    with pytest.raises(SigningError, match="does not fit"):
        public.verify(b"scant", signature)
    with pytest.raises(SigningError, match="does not fit"):  # another key that claims the same id
        replace(new_secret_key().public, id=public.id).verify(b"scans", signature)


def test_a_pair_of_keys_is_written_for_its_owner_alone_and_never_over_another(key: SecretKey, tmp_path: Path) -> None:
    public = write_key_pair(key, tmp_path / "a.key", None)
    assert stat.S_IMODE(os.stat(tmp_path / "a.key").st_mode) == 0o600
    assert read_secret_key(tmp_path / "a.key") == key and read_public_key(public).id == key.id
    with pytest.raises(SigningError, match="never overwritten"):
        write_key_pair(new_secret_key(), tmp_path / "a.key", None)
    assert read_secret_key(tmp_path / "a.key") == key
    assert repr(key.seed) not in repr(key)


def test_a_password_protects_a_key(key: SecretKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minisign, "_OPS", 32768)  # minisign's own settings take 1 GiB and seconds
    monkeypatch.setattr(minisign, "_MEMORY", 1 << 24)
    write_key_pair(key, tmp_path / "a.key", "one")
    assert read_secret_key(tmp_path / "a.key", "one") == key
    assert key.seed not in base64.b64decode((tmp_path / "a.key").read_text().splitlines()[1])
    with pytest.raises(SigningError, match="the password is wrong"):
        read_secret_key(tmp_path / "a.key", "two")
    with pytest.raises(SigningError, match="none was given"):
        read_secret_key(tmp_path / "a.key")


def test_files_that_are_something_else_are_refused_by_name(key: SecretKey, tmp_path: Path) -> None:
    write_key_pair(key, tmp_path / "a.key", None)
    for wrong, why in (("a.key", "never hand it out"), ("none.pub", "can't be read"), ("long.pub", "not a public key")):
        (tmp_path / "long.pub").write_text("untrusted comment: x\nAAAA\n")
        with pytest.raises(SigningError, match=why):
            read_public_key(tmp_path / wrong)
    with pytest.raises(SigningError, match=r"not a secret key of minisign"):
        read_secret_key(tmp_path / "a.pub")
    text = sign(b"x", key, COMMENT).text
    for name, broken in {
        "short": text.rsplit("\n", 2)[0],
        "more": text + "more\n",
        "letters": text.replace("trusted comment: timestamp", "a comment: timestamp"),
        "not base64": text.replace("\nR", "\n*", 1),
        "empty": "",
    }.items():
        (tmp_path / name).write_text(broken)
        with pytest.raises(SigningError, match="not a signature of minisign"):
            read_signature(tmp_path / name)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SigningError, match="not a regular file"):
        read_signature(tmp_path / "pipe")
    (tmp_path / "huge").write_bytes(b"x" * 70_000)
    with pytest.raises(SigningError, match="is the limit"):
        read_signature(tmp_path / "huge")


def test_the_form_without_a_hash_is_refused(key: SecretKey) -> None:
    lines = sign(b"x", key, COMMENT).text.split("\n")
    raw = base64.b64decode(lines[1])
    lines[1] = base64.b64encode(b"Ed" + raw[2:]).decode()
    with pytest.raises(SigningError, match="not a prehashed signature"):
        parse_signature("\n".join(lines), "s")


def test_a_comment_is_one_line(key: SecretKey) -> None:
    for comment in ("a\nb", "x" * 9000):
        with pytest.raises(SigningError, match="one line"):
            sign(b"x", key, comment)


@MINISIGN
def test_minisign_accepts_ours_and_signs_with_our_key(key: SecretKey, tmp_path: Path) -> None:
    def run(*words: object) -> None:
        subprocess.run(["minisign", *map(str, words)], check=True, capture_output=True, cwd=tmp_path)

    public = write_key_pair(key, tmp_path / "a.key", None)
    (tmp_path / "f").write_bytes(b"scans")
    (tmp_path / "f.minisig").write_text(sign(b"scans", key, COMMENT).text)
    run("-V", "-p", public, "-m", "f")
    run("-S", "-s", "a.key", "-m", "f", "-x", "theirs", "-t", "name:head-ct\tversion:4")
    theirs = read_signature(tmp_path / "theirs")
    read_public_key(public).verify(b"scans", theirs)
    assert theirs.fields == {"name": "head-ct", "version": "4"}
