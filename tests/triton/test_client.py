"""What is asked over HTTP, and answers that are none."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import numpy as np
import pytest

from molre_edge.errors import EngineError
from molre_edge.triton.client import TritonClient

VOLUME = np.arange(4, dtype=np.float16).reshape(1, 1, 2, 2)
Answer = tuple[int, bytes, bytes]  # status, JSON, tensors


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], tuple[TritonClient, list[bytes]]]]:
    """A server that gives one answer to everything; what it was sent is kept."""
    servers = []

    def start(answer: Answer) -> tuple[TritonClient, list[bytes]]:
        seen: list[bytes] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                seen.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.do_GET()

            def do_GET(self) -> None:
                status, head, rest = answer
                self.send_response(status)
                if rest:
                    self.send_header("Inference-Header-Content-Length", str(len(head)))
                self.send_header("Content-Length", str(len(head + rest)))
                self.end_headers()
                self.wfile.write(head + rest)

            def log_message(self, *_: Any) -> None: ...

        server = HTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        servers.append((server, thread))
        return TritonClient(f"127.0.0.1:{server.server_port}", "molre-python", timeout_s=20), seen

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def outputs(*each: tuple[str, str, list[int], int]) -> bytes:
    listed = [
        {"name": name, "datatype": kind, "shape": shape, "parameters": {"binary_data_size": size}}
        for name, kind, shape, size in each
    ]
    return json.dumps({"outputs": listed}).encode()


def test_tensors_go_and_come_as_bytes(serve: Any) -> None:
    raw = np.array([[1.5, -2.0]], np.float32).tobytes()
    texts = b"\x01\x00\x00\x00a\x02\x00\x00\x00bc"
    head = outputs(("logits", "FP32", [1, 2], len(raw)), ("findings", "BYTES", [1, 2], len(texts)))
    client, seen = serve((200, head, raw + texts))
    answers = client.infer(VOLUME, "hospital-b")
    assert answers["logits"].tolist() == [[1.5, -2.0]] and answers["findings"].tolist() == [[b"a", b"bc"]]
    asked, length = json.JSONDecoder().raw_decode(seen[0].decode("latin-1"))
    assert asked["inputs"][0]["datatype"] == "FP16" and asked["inputs"][0]["shape"] == [1, 1, 2, 2]
    assert asked["parameters"]["adapter"] == "hospital-b"
    assert seen[0][length:] == VOLUME.tobytes()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((400, b'{"error": "the volume is odd"}', b""), "the volume is odd"),
        ((503, b"<html>", b""), "HTTP status 503"),
        ((200, b"<html>", b""), "expected JSON"),
        ((200, b"{}", b""), "outputs"),
        ((200, outputs(("logits", "FP32", [1, 2], 8)), b"1234"), "cut off"),
        ((200, outputs(("logits", "FP32", [1, 3], 8)), b"12345678"), "cut off"),
        ((200, outputs(("logits", "BF16", [1, 2], 4)), b"1234"), "BF16"),
        ((200, outputs(("findings", "BYTES", [1, 1], 5)), b"\x09\x00\x00\x00a"), "cut off"),
    ],
)
def test_an_answer_that_is_none_is_told_with_the_server_s_words(serve: Any, answer: Answer, words: str) -> None:
    client, _ = serve(answer)
    with pytest.raises(EngineError, match=words):
        client.infer(VOLUME)


def test_a_server_that_is_not_there_is_named() -> None:
    with socket.socket() as taken:  # bound and not listening: nobody else gets the port meanwhile
        taken.bind(("127.0.0.1", 0))
        url = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(EngineError, match=rf"http://{url}: no answer of a Triton server .*name another one with"):
            TritonClient(url, "molre-python").config()
    with pytest.raises(EngineError, match="not HOST:PORT"):
        TritonClient("box:port", "molre-python").calls()
