"""The status port: HTTP on 127.0.0.1, to be read and nothing else."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from molre_edge.errors import RunError
from molre_edge.node.overview import Overview
from molre_edge.reports.template import render_template

__all__ = ["ADDRESS", "StatusPort"]

ADDRESS = "127.0.0.1"
_HOSTS = ("127.0.0.1", "localhost")
_TIMEOUT_SECONDS = 10.0


class StatusPort:
    """A context manager: answers while it is entered.

    Attributes:
        port: that it listens on.
    """

    def __init__(self, port: int, overview: Overview) -> None:
        """Listen.

        Args:
            port: on 127.0.0.1; 0 takes a free one.
            overview: what is told.

        Raises:
            RunError: the port is taken.
        """
        handler = type("Handler", (_Handler,), {"overview": overview})
        try:
            self._server = ThreadingHTTPServer((ADDRESS, port), handler)
        except OSError as error:
            raise RunError(
                f"status: can't listen on {ADDRESS} port {port} ({error.strerror or error}): another program may have "
                "it; name another port, or 0 for none"
            ) from error
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="status", daemon=True)

    def __enter__(self) -> StatusPort:
        """Begin to answer."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    overview: Overview
    timeout = _TIMEOUT_SECONDS
    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        """Answer one of four paths."""
        host = (self.headers.get("Host") or _HOSTS[0]).rsplit(":", 1)[0]
        if host not in _HOSTS:  # a page of elsewhere whose name was pointed at this machine
            self._answer(403, "text/plain", "this port answers to 127.0.0.1 and localhost\n")
        elif self.path == "/health":
            well, data = self.overview.health()
            self._answer(200 if well else 503, "application/json", _json(data))
        elif self.path == "/queue":
            self._answer(200, "application/json", _json(self.overview.queue()))
        elif self.path == "/metrics":
            self._answer(200, "text/plain; version=0.0.4", self.overview.metrics())
        elif self.path == "/":
            well, health = self.overview.health()
            page = {"well": well, "health": health, "queue": self.overview.queue(), "studies": self.overview.latest()}
            self._answer(200, "text/html", render_template("node.html", page))
        else:
            self._answer(404, "text/plain", "there are /, /health, /queue and /metrics\n")

    def _answer(self, status: int, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff")):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log no request."""

    def version_string(self) -> str:
        """What it is, without its version."""
        return "molre-edge"


def _json(data: Any) -> str:
    return json.dumps(data, indent=2) + "\n"
