"""HTTP and TLS as the node speaks them: without the environment's proxies, redirects, or texts of errors."""

from __future__ import annotations

import http.client
import ssl
import urllib.request
from pathlib import Path
from typing import Any

from molre_edge.node.configuration import Tls

__all__ = ["Unreachable", "client_context", "opener", "read_headers", "reason"]


class Unreachable(Exception):
    """The other side can't be reached, or does not answer. The text is a few words without identifiers."""


def opener(tls: Tls | None) -> urllib.request.OpenerDirector:
    """Without the environment's proxies: patient data goes where the configuration says, and nowhere else."""
    context = client_context(tls or Tls())
    return urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context), _NoRedirects()
    )


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect is an error: what is sent goes to the URL that was named."""

    def redirect_request(self, *_: Any) -> None:
        """Follow none."""


def read_headers(path: Path | None) -> dict[str, str]:
    """HTTP headers of a file, one a line.

    Raises:
        Unreachable: it can't be read.
    """
    if path is None:
        return {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Unreachable("header_file can't be read") from error
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines) if value}


def client_context(tls: Tls) -> ssl.SSLContext:
    """For a connection that we open.

    Raises:
        Unreachable: a certificate can't be used.
    """
    try:
        context = ssl.create_default_context(cafile=tls.authority)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if tls.certificate is not None:
            context.load_cert_chain(tls.certificate, tls.key)
    except (OSError, ssl.SSLError) as error:
        raise Unreachable(f"tls: the certificates can't be used ({type(error).__name__})") from error
    return context


def reason(error: Exception) -> str:
    """What the system says of a connection, without names."""
    if isinstance(error, http.client.HTTPException):
        return type(error).__name__
    inner = getattr(error, "reason", error)
    return inner.strerror or type(inner).__name__ if isinstance(inner, OSError) else "no connection"
