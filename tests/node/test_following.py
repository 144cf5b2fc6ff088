"""New CT images of an Orthanc become images of the node; its place in the feed survives."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from urllib.parse import parse_qs, urlsplit

import pytest
from node_images import CT, EXPLICIT, SR, Lines, image, save
from real_orthanc import ORTHANC, started
from waiting import wait_until

from molre_edge.node.configuration import Orthanc
from molre_edge.node.following import Follower
from molre_edge.node.journal import Journal
from molre_edge.node.store import Store
from molre_edge.node.web import Unreachable


class Feed:
    """What Orthanc's REST API gives: changes, and instances with their class, syntax and file."""

    def __init__(self) -> None:
        self.changes: list[dict[str, Any]] = []
        self.instances: dict[str, tuple[str, bytes]] = {}
        self.answer: bytes | None = None
        self.broken = ""

    def add(self, name: str, content: bytes, sop_class: str = CT) -> None:
        self.instances[name] = sop_class, content
        for kind in ("NewInstance", "NewSeries"):
            self.changes.append({"ChangeType": kind, "ID": name, "Seq": len(self.changes) + 1})

    def get(self, url: str) -> bytes | None:
        if self.answer is not None:
            return self.answer
        path, query = urlsplit(url).path, parse_qs(urlsplit(url).query, keep_blank_values=True)
        if path == "/changes":
            since, limit = int(query.get("since", ["0"])[0]), int(query.get("limit", ["100"])[0])
            found = [] if "last" in query else [each for each in self.changes if each["Seq"] > since][:limit]
            last = found[-1]["Seq"] if found else len(self.changes)
            return json.dumps({"Changes": found, "Done": True, "Last": last}).encode()
        _, _, name, *rest = path.split("/")
        if name not in self.instances:
            return None
        sop_class, content = self.instances[name]
        return {"SopClassUid": sop_class.encode(), "TransferSyntax": EXPLICIT.encode(), "file": content}[rest[-1]]


@pytest.fixture
def feed() -> Iterator[tuple[Feed, str]]:
    told = Feed()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = told.get(self.path)
            broken = told.broken and told.broken in self.path
            self.send_response(500 if broken else 404 if body is None else 200)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield told, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def follower(url: str, store: Store, journal: Journal, full: Callable[[], bool] = lambda: False) -> Follower:
    return Follower(Orthanc(url=url), store, journal, full)


def images(store: Store) -> int:
    return len(store.rows("SELECT id FROM images"))


def test_what_is_new_after_the_first_contact_is_taken_once(
    feed: tuple[Feed, str], store: Store, journal: Journal, lines: Lines, tmp_path: Path
) -> None:
    told, url = feed
    told.add("old", save(image("1.2.9", 1), tmp_path / "old.dcm"))
    following = follower(url, store, journal)
    assert following.step() and not following.step() and images(store) == 0
    told.add("ct-1", save(image("1.2.3", 1), tmp_path / "a.dcm"))
    told.add("sr-1", save(image("1.2.3", 2, SR), tmp_path / "b.dcm"), SR)
    told.add("ct-2", save(image("1.2.3", 3), tmp_path / "c.dcm"))
    assert following.step() and images(store) == 2
    assert lines.told[-1].endswith("received sender=orthanc new=2")
    again = follower(url, store, journal)  # after a restart
    assert not again.step() and images(store) == 2
    (path, *_) = sorted((store.folder / "images").rglob(f"{store.ids.instance('1.2.3.9.1')}.dcm"))
    assert path.read_bytes() == (tmp_path / "a.dcm").read_bytes()


def test_while_the_disk_is_below_its_floor_it_waits(
    feed: tuple[Feed, str], store: Store, journal: Journal, tmp_path: Path
) -> None:
    told, url = feed
    full = [True]
    following = follower(url, store, journal, lambda: full[0])
    following.step()
    told.add("ct-1", save(image("1.2.3", 1), tmp_path / "a.dcm"))
    assert not following.step() and images(store) == 0
    full[0] = False
    assert following.step() and images(store) == 1


def test_instances_that_are_gone_or_broken_are_passed_by(
    feed: tuple[Feed, str], store: Store, journal: Journal, tmp_path: Path
) -> None:
    told, url = feed
    following = follower(url, store, journal)
    following.step()
    told.add("gone", b"")
    told.instances.clear()
    told.add("broken", b"no DICOM")
    told.add("ct-1", save(image("1.2.3", 1), tmp_path / "a.dcm"))
    assert following.step() and images(store) == 1
    assert journal.counts()["images", 'what="not_understood"'] == 1


def test_an_instance_that_is_never_given_is_told_and_left_out(
    feed: tuple[Feed, str], store: Store, journal: Journal, lines: Lines, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("molre_edge.node.following._TRIES", 3)
    told, url = feed
    following = follower(url, store, journal)
    following.step()
    told.add("bad", save(image("1.2.3", 1), tmp_path / "a.dcm"))
    told.add("good", save(image("1.2.3", 2), tmp_path / "b.dcm"))
    told.broken = "/instances/bad/file"
    for _ in range(2):
        with pytest.raises(Unreachable, match="HTTP 500"):
            following.step()
    assert images(store) == 0 and following.step() and images(store) == 1
    assert journal.counts()["images", 'what="not_given"'] == 1
    assert lines.warned[-1].endswith('orthanc_gives_not attempts=3 reason="HTTP 500"')
    assert journal.troubles() == ["orthanc's instances: at least one was not given and is left out (HTTP 500)"]


def test_an_orthanc_that_begins_anew_is_read_from_its_start(
    feed: tuple[Feed, str], store: Store, journal: Journal, lines: Lines, tmp_path: Path
) -> None:
    told, url = feed
    told.add("old", b"")
    following = follower(url, store, journal)
    following.step()
    told.changes.clear()
    assert following.step() and "orthanc_begins_anew" in lines.warned[-1]
    told.add("ct-1", save(image("1.2.3", 1), tmp_path / "a.dcm"))
    assert following.step() and images(store) == 1


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b'{"Last": "1"}', b'{"Changes": []}'])
def test_an_answer_that_is_not_orthanc_s_is_told(
    feed: tuple[Feed, str], store: Store, journal: Journal, answer: bytes
) -> None:
    told, url = feed
    told.answer = answer
    with pytest.raises(Unreachable, match="an answer that is not Orthanc's"):
        follower(url, store, journal).step()


def test_one_that_is_away_is_told_once_and_tried_again(
    store: Store, journal: Journal, lines: Lines, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("molre_edge.node.following._POLL_SECONDS", 0.01)
    following = follower(f"http://127.0.0.1:{free_port()}", store, journal)
    tried = Mock(wraps=following.step)
    monkeypatch.setattr(following, "step", tried)
    with following:
        wait_until(lambda: tried.call_count > 3)
        assert journal.troubles() == ["orthanc: Connection refused"]
    assert [line.split(" ", 1)[1] for line in lines.warned] == ['orthanc_unreachable reason="Connection refused"']


@pytest.mark.nightly
@pytest.mark.skipif(not ORTHANC.is_file(), reason="needs apt-get install orthanc")
def test_a_real_orthanc_is_followed(store: Store, journal: Journal, tmp_path: Path) -> None:
    import urllib.request

    with started(tmp_path) as (url, _):
        following, end = follower(url, store, journal), time.monotonic() + 60
        while store.followed(url) is None:
            following.step()
        content = save(image("1.2.3", 1, Rows=8, Columns=8, Modality="CT"), tmp_path / "a.dcm")
        urllib.request.urlopen(urllib.request.Request(f"{url}/instances", data=content)).close()
        while images(store) == 0 and time.monotonic() < end:
            following.step()
        assert images(store) == 1
