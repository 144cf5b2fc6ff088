"""Configurations, images and peers for the node, on loopback."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from node_images import Lines, Pacs
from ports import free_port as next_free_port

from molre_edge.node.configuration import Destination, Disk, NodeConfig, Receive, Sender, Study
from molre_edge.node.journal import Journal
from molre_edge.node.library import need_pynetdicom
from molre_edge.node.store import Store


@pytest.fixture(autouse=True)
def _pynetdicom() -> None:
    """All of it needs the library; a failed association is part of some tests and no line of theirs."""
    pytest.importorskip("pynetdicom")
    need_pynetdicom("The tests")
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Gives ports that nobody listens on."""
    return next_free_port


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def journal(lines: Lines) -> Journal:
    return Journal(lines)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "node")
    yield opened
    opened.close()


@pytest.fixture
def config(tmp_path: Path, free_port: Callable[[], int]) -> NodeConfig:
    """One sender, CT1, and one destination, pacs."""
    return NodeConfig(
        folder=tmp_path / "node",
        bundle=tmp_path / "edge-bundle",
        senders=(Sender(ae_title="CT1", addresses=("127.0.0.0/8",)),),
        receive=Receive(port=free_port()),
        study=Study(quiet_seconds=0.1),
        disk=Disk(floor_mb=1),
        destinations=(
            Destination(name="pacs", ae_title="PACS", address="127.0.0.1", port=free_port(), retry_seconds=0.1),
        ),
    )


@pytest.fixture
def pacs(config: NodeConfig) -> Iterator[Pacs]:
    peer = Pacs(config.destinations[0].port)
    peer.open()
    yield peer
    peer.close()
