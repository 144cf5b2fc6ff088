"""Files of others are opened once, and only if they are files."""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path

import pytest

from molre_edge.regular import handle_path, open_regular, sha256_of_open


def test_size_hash_and_content_come_from_one_handle(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    with open_regular(path, largest=3) as file:
        path.unlink()
        path.write_bytes(b"another")
        assert sha256_of_open(file) == hashlib.sha256(b"one").hexdigest()
        assert Path(handle_path(file, path)).read_bytes() == b"one"


@pytest.mark.parametrize("kind", ["a folder", "a named pipe", "a socket", "a device"])
def test_what_is_no_file_is_refused_at_once_and_said(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "it"
    if kind == "a folder":
        path.mkdir()
    elif kind == "a named pipe":
        os.mkfifo(path)
    elif kind == "a socket":
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(str(path))
    else:
        path.symlink_to("/dev/full")
    with pytest.raises(OSError) as caught, open_regular(path):
        pass
    assert caught.value.strerror == f"{kind}, not a regular file"


def test_a_file_above_its_limit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"four")
    with pytest.raises(OSError, match="4 bytes long, and 3 is the limit"), open_regular(tmp_path / "file", largest=3):
        pass


def test_a_link_counts_as_what_it_leads_to_and_a_file_that_is_gone_as_gone(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"four")
    (tmp_path / "link").symlink_to("file")
    with open_regular(tmp_path / "link") as file:
        assert file.read() == b"four"
    with pytest.raises(FileNotFoundError), open_regular(tmp_path / "gone"):
        pass
