"""Reports reach their destinations by C-STORE and STOW-RS, in order, again and again until they are there."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from node_images import SR, Lines, Pacs, image, save
from waiting import wait_until

from molre_edge.node.configuration import Destination, NodeConfig
from molre_edge.node.entries import Conclusion
from molre_edge.node.journal import Journal
from molre_edge.node.outbox import Outbox
from molre_edge.node.sending import Refused, echo, open_sender
from molre_edge.node.store import Store
from molre_edge.node.web import Unreachable


@pytest.fixture
def reports(store: Store) -> list[Path]:
    """Two studies' reports wait for ``pacs``."""
    for number in (1, 2):
        store.receive(f"1.2.{number}", f"1.2.{number}.1", b"head")
        job = store.next_job(0.0, 3600.0)
        assert job is not None
        partial = store.report_partial(job)
        save(image(f"1.2.{number}", 5, SR, Modality="SR"), partial / "report.sr.dcm")
        store.conclude(job, Conclusion(outcome="answered", answered="x", report=partial), ["pacs"], ["sr"])
    return sorted((store.folder / "reports").glob("*/*/report.sr.dcm"))


def left(store: Store) -> list[tuple[str, str, int]]:
    rows = store.rows("SELECT state, problem, attempts FROM deliveries WHERE state != 'sent' ORDER BY id")
    return [(row["state"], row["problem"], row["attempts"]) for row in rows]


def test_each_object_is_sent_once_over_one_connection(
    config: NodeConfig, store: Store, journal: Journal, reports: list[Path], pacs: Pacs, lines: Lines
) -> None:
    outbox = Outbox(config.destinations, store, journal)
    assert outbox.send_due(config.destinations[0]) and not outbox.send_due(config.destinations[0])
    assert [each.SOPInstanceUID for each in pacs.got] == ["1.2.1.9.5", "1.2.2.9.5"] and left(store) == []
    assert lines.told[0].endswith("sent study=1 version=1 object=sr destination=pacs attempt=1")
    assert not any(word in line for line in lines.told for word in ("Okonkwo", "1.2.1"))


def test_while_a_destination_is_away_reports_wait_and_then_all_arrive(
    config: NodeConfig, store: Store, journal: Journal, reports: list[Path], lines: Lines
) -> None:
    peer = Pacs(config.destinations[0].port)
    with contextlib.closing(peer), Outbox(config.destinations, store, journal):
        wait_until(lambda: [each[:2] for each in left(store)] == [("waiting", "no connection")] * 2)
        peer.open()
        wait_until(lambda: left(store) == [])
    assert len(peer.got) == 2
    assert "unreachable destination=pacs waiting=2" in lines.warned[0]


@pytest.mark.parametrize(("status", "expected"), [
    (0xA900, [("refused", "status 0xA900", 1)] * 2),
    (0xA700, [("waiting", "no space there: status 0xA700", 1)] * 2),
    (0xB000, []),
])  # fmt: skip
def test_statuses_of_c_store_are_told_apart(
    config: NodeConfig, store: Store, journal: Journal, reports: list[Path], pacs: Pacs, status: int, expected: Any
) -> None:
    pacs.status = status
    Outbox(config.destinations, store, journal).send_due(config.destinations[0])
    assert left(store) == expected


def test_an_object_whose_file_is_damaged_or_gone_keeps_no_other_waiting(
    config: NodeConfig, store: Store, journal: Journal, reports: list[Path], pacs: Pacs, lines: Lines
) -> None:
    (damaged,) = (path for path in reports if b"1.2.1.9.5" in path.read_bytes())
    damaged.write_bytes(b"no DICOM")
    Outbox(config.destinations, store, journal).send_due(config.destinations[0])
    [(state, problem, attempts)] = left(store)
    assert (state, attempts, len(pacs.got)) == ("refused", 1, 1)
    assert problem.startswith("InvalidDicomError@molre_edge.node.sending:") and "not_taken study=1" in lines.warned[0]


@pytest.mark.parametrize("broken", ["delivered", "not_delivered"])
def test_what_can_t_be_noted_is_not_sent_again_and_again(
    config: NodeConfig, store: Store, journal: Journal, reports: list[Path], pacs: Pacs, lines: Lines, broken: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def full(*_: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(store, broken, full)
    pacs.status = 0 if broken == "delivered" else 0xA900
    slow = dataclasses.replace(config.destinations[0], retry_seconds=60.0)
    with Outbox((slow,), store, journal):
        wait_until(lambda: lines.warned)
        time.sleep(0.6)  # of its pauses some would be over
    assert [line.split()[1] for line in lines.warned if "outbox" in line] == ["outbox"]
    assert len(pacs.got) == (broken == "delivered")


def test_pauses_double_up_to_the_longest(
    config: NodeConfig, store: Store, journal: Journal, reports: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.contextmanager
    def away(_: Destination) -> Iterator[Callable[[Path], None]]:
        raise Unreachable("no connection")
        yield

    now = time.time()
    monkeypatch.setattr("molre_edge.node.store.time.time", lambda: now)
    (pacs,) = (dataclasses.replace(each, longest_retry_seconds=0.4) for each in config.destinations)
    pauses = []
    for _ in range(5):
        store._database.execute("UPDATE deliveries SET next_try = 0")
        Outbox((pacs,), store, journal, away).send_due(pacs)
        pauses.append(store.rows("SELECT min(next_try) AS t FROM deliveries")[0]["t"] - now)
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.4, 0.4], abs=1e-3)


class Web(BaseHTTPRequestHandler):
    """A STOW-RS service that answers as it is told."""

    answers: list[tuple[int, bytes]]
    got: list[tuple[str, dict[str, str], bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.got.append((self.path, dict(self.headers), body))
        status, answer = self.answers.pop(0)
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "http://127.0.0.1:9/elsewhere")
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def web() -> Iterator[tuple[type[Web], str]]:
    handler = type("Handler", (Web,), {"answers": [], "got": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield handler, f"http://127.0.0.1:{server.server_address[1]}/dicom-web/"
    server.shutdown()
    server.server_close()
    thread.join()


ORTHANC = json.dumps({"00081198": {"vr": "SQ"}, "00081199": {"vr": "SQ", "Value": [{}]}}).encode()
FAILED = json.dumps({"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [272]}}]}}).encode()


def test_stow_sends_one_part_with_the_headers_of_the_file(
    web: tuple[type[Web], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler, url = web
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # of the environment: patient data does not go there
    (tmp_path / "headers").write_text("Authorization: Bearer secret\n")
    content = save(image("1.2.3", 1, SR), tmp_path / "a.dcm")
    handler.answers = [(200, ORTHANC)]
    stow = Destination(name="web", kind="stow", url=url, header_file=tmp_path / "headers")
    with open_sender(stow) as send:
        send(tmp_path / "a.dcm")
    [(path, headers, body)] = handler.got
    assert (path, headers["Authorization"]) == ("/dicom-web/studies", "Bearer secret")
    boundary = headers["Content-Type"].split("boundary=")[1]
    start = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    assert body == start + content + f"\r\n--{boundary}--\r\n".encode()


@pytest.mark.parametrize(("status", "answer", "kind", "words"), [
    (202, FAILED, Refused, "HTTP 202, in the Failed SOP Sequence"),
    (409, FAILED, Refused, "HTTP 409"),
    (200, b"<html>", Refused, "no DICOM JSON"),
    (503, b"", Unreachable, "HTTP 503"),
    (401, b"", Unreachable, "HTTP 401"),
    (302, b"", Refused, "HTTP 302"),
])  # fmt: skip
def test_answers_of_stow_are_told_apart_and_no_redirect_is_followed(
    web: tuple[type[Web], str], tmp_path: Path, status: int, answer: bytes, kind: type[Exception], words: str
) -> None:
    handler, url = web
    save(image("1.2.3", 1, SR), tmp_path / "a.dcm")
    handler.answers = [(status, answer)]
    with open_sender(Destination(name="web", kind="stow", url=url)) as send, pytest.raises(kind, match=words):
        send(tmp_path / "a.dcm")


def test_an_answer_that_is_no_http_is_unreachable(tmp_path: Path) -> None:
    save(image("1.2.3", 1, SR), tmp_path / "a.dcm")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            for _ in range(2):
                caller, _ = server.accept()
                with caller:
                    caller.recv(1 << 16)
                    caller.sendall(b"SSH-2.0\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        stow = Destination(name="web", kind="stow", url=f"http://127.0.0.1:{server.getsockname()[1]}")
        with open_sender(stow) as send, pytest.raises(Unreachable, match="BadStatusLine"):
            send(tmp_path / "a.dcm")
        with pytest.raises(Unreachable, match="BadStatusLine"):
            echo(stow)
        thread.join()


def test_a_web_service_that_is_away_is_unreachable(free_port: Callable[[], int], tmp_path: Path) -> None:
    save(image("1.2.3", 1, SR), tmp_path / "a.dcm")
    stow = Destination(name="web", kind="stow", url=f"http://127.0.0.1:{free_port()}")
    with open_sender(stow) as send, pytest.raises(Unreachable, match="Connection refused"):
        send(tmp_path / "a.dcm")
    with pytest.raises(Unreachable, match="Connection refused"):
        echo(stow)
