"""pynetdicom closes each socket, and is asked for by name where it is missing."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import Any

import pytest

from molre_edge.errors import MissingDependencyError
from molre_edge.node.configuration import Destination
from molre_edge.node.library import need_pynetdicom
from molre_edge.node.sending import echo
from molre_edge.node.web import Unreachable


def test_a_refused_connection_leaves_no_socket_open(
    free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", left.append)  # sockets that nobody closed say so here
    gc.collect()  # those that earlier tests left are not this one's
    left.clear()
    with pytest.raises(Unreachable, match="no connection"):
        echo(Destination(name="pacs", kind="dicom", address="127.0.0.1", port=free_port(), ae_title="PACS"))
    gc.collect()
    assert left == []


def test_without_pynetdicom_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynetdicom.transport", None)
    with pytest.raises(MissingDependencyError, match="dicom"):
        need_pynetdicom("The node")
