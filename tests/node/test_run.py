"""The command as a process: it checks itself, survives kill -9, drains on SIGTERM, and says nothing of people."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from node_images import Lines

from molre_edge import BundleError, InUseError, RunError, run_node
from molre_edge.locks import hold


@pytest.fixture
def ports(free_port: Callable[[], int]) -> dict[str, int]:
    return {name: free_port() for name in ("node", "status", "pacs")}


@pytest.fixture
def written(tiny_bundle: Path, tmp_path: Path, ports: dict[str, int]) -> Path:
    """A configuration without a destination, whose findings stay in its folder."""
    path = tmp_path / "node.toml"
    path.write_text(
        f'folder = "node"\nbundle = "{tiny_bundle}"\nengine = "fp32"\n[[senders]]\nae_title = "CT1"\n'
        f"[receive]\nport = {ports['node']}\n[status]\nport = {ports['status']}\n[study]\nquiet_seconds = 0.5\n"
        '[results]\nsr = "none"\nsecondary_capture = false\n[disk]\nfloor_mb = 1\n'
    )
    return path


def test_the_check_looks_at_everything_and_starts_nothing(
    written: Path, ports: dict[str, int], tmp_path: Path, lines: Lines
) -> None:
    text = written.read_text().replace('sr = "none"', 'sr = "comprehensive"')
    written.write_text(
        f'{text}[[destinations]]\nname = "web"\nkind = "stow"\nurl = "http://127.0.0.1:{ports["pacs"]}"\n'
    )
    away = f"http://127.0.0.1:{ports['pacs']}"
    result = run_node(written, orthanc=away, check=True, progress=lines)
    assert (result.checked, result.engine, len(result.bundle)) == (True, "onnxruntime:fp32", 64)
    assert result.problems == ("destination web: Connection refused", "orthanc: Connection refused")
    assert not (tmp_path / "node").exists()
    taken = f"receive: can't listen on 127.0.0.1 port {ports['node']}"
    with socket.create_server(("127.0.0.1", ports["node"])), pytest.raises(RunError, match=taken):
        run_node(written, check=True)
    written.write_text(text.replace("bundle = ", 'expect_digest = "00"\nbundle = '))
    with pytest.raises(BundleError, match="bundle: "):
        run_node(written, check=True)


def test_a_folder_has_one_node(written: Path, tmp_path: Path) -> None:
    with hold(tmp_path / "node", "another node"), pytest.raises(InUseError, match="in use by process"):
        run_node(written)


class Node:
    """A node's process and what it says."""

    def __init__(self, config: Path, status: int) -> None:
        self._status, self.log = status, config.with_suffix(".log")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "molre_edge", "node", "--config", str(config), "--json"],
                stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        self.until(lambda: self.ask("/health") is not None)

    def ask(self, path: str) -> Any:
        url = f"http://127.0.0.1:{self._status}{path}"
        with contextlib.suppress(OSError, urllib.error.URLError), urllib.request.urlopen(url, timeout=5) as answer:
            return json.loads(answer.read())
        return None

    def until(self, what: Callable[[], bool]) -> None:
        end = time.monotonic() + 60
        while not what():
            assert time.monotonic() < end and self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)


@pytest.fixture
def start(written: Path, ports: dict[str, int]) -> Iterator[Callable[[], Node]]:
    begun: list[Node] = []

    def one() -> Node:
        begun.append(Node(written, ports["status"]))
        return begun[-1]

    yield one
    for node in begun:
        node.process.kill()
        node.process.wait()
        if node.process.stdout is not None:
            node.process.stdout.close()


def test_what_was_taken_before_kill_9_is_answered_after_the_next_start(
    start: Callable[[], Node], ports: dict[str, int], tiny_scans: Path, tmp_path: Path
) -> None:
    from pydicom import dcmread
    from pynetdicom import AE

    node = start()
    ae = AE(ae_title="CT1")
    ae.add_requested_context("1.2.840.10008.5.1.4.1.1.2")
    association = ae.associate("127.0.0.1", ports["node"], ae_title="MOLRE-EDGE")
    images = [dcmread(path) for path in sorted((tiny_scans / "head-2").iterdir())]
    assert [int(association.send_c_store(each).Status) for each in images] == [0] * 12
    node.process.send_signal(signal.SIGKILL)  # within the quiet time: nothing was answered
    node.process.wait()
    association.abort()
    again = start()
    again.until(lambda: bool(list(tmp_path.glob("node/reports/*/*/findings.json"))))
    again.until(lambda: again.ask("/queue")["studies"] == [])
    again.process.terminate()
    out, _ = again.process.communicate(timeout=60)
    assert (again.process.returncode, json.loads(out)["studies"]) == (0, 1)
    log = again.log.read_text()
    assert "answered study=1 version=1 images=12" in log and "ended answered=1" in log
    uids = [str(value) for each in images for value in (each.StudyInstanceUID, each.SOPInstanceUID)]
    people = [str(images[0].PatientName), str(images[0].PatientID)]
    names = "\n".join(path.as_posix() for path in (tmp_path / "node").rglob("*"))
    database = b"".join(path.read_bytes() for path in (tmp_path / "node").glob("node.sqlite3*"))
    for word in (*uids, *filter(None, people)):
        assert word not in log and word not in names and word.encode() not in database
