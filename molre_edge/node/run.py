"""The verb ``run_node``: a DICOM node that answers studies until it is told to end."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from dataclasses import dataclass
from typing import Any

from molre_edge.errors import BundleError, ConfigError, ParityFailedError, RunError
from molre_edge.files import StrPath
from molre_edge.locks import hold
from molre_edge.node.configuration import NodeConfig, read_config
from molre_edge.node.following import Follower, probe
from molre_edge.node.journal import Journal
from molre_edge.node.keeping import Keeper
from molre_edge.node.library import need_pynetdicom
from molre_edge.node.outbox import Outbox
from molre_edge.node.overview import Overview
from molre_edge.node.receiver import Receiver, server_context
from molre_edge.node.sending import echo
from molre_edge.node.status import ADDRESS, StatusPort
from molre_edge.node.store import Store
from molre_edge.node.web import Unreachable
from molre_edge.node.worker import Worker
from molre_edge.progress import SILENT, Progress
from molre_edge.runs.interrupt import finish_first
from molre_edge.runs.loaded import load_model
from molre_edge.verification.verify import verify_bundle

__all__ = ["NodeResult", "run_node"]

_POLL_SECONDS = 0.1
_DRAIN_SECONDS = 20.0


@dataclass(frozen=True)
class NodeResult:
    """How a node ended, or what its check found.

    Attributes:
        checked: whether it was only checked.
        studies: answered in this run; 0 for a check.
        bundle: digest of the bundle.
        engine: name of the runner.
        problems: what a check found that does not keep the node from starting, such as a destination that is away.
    """

    checked: bool
    studies: int
    bundle: str
    engine: str
    problems: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**vars(self), "problems": list(self.problems)}


def run_node(
    config: StrPath, *, orthanc: str | None = None, check: bool = False, progress: Progress = SILENT
) -> NodeResult:
    """Receive studies, answer each after a quiet time, and send the reports, until a signal asks for the end.

    The first SIGTERM or Ctrl-C drains: nobody is accepted any more, open associations and the study in hand are
    finished. A second one ends at once. Either way nothing is lost.

    Args:
        config: TOML; docs/reference/node.md explains every key.
        orthanc: URL of an Orthanc whose new CT images are taken; it replaces ``orthanc.url`` of the configuration.
        check: only look whether it could start: the configuration, the bundle and its engine, folder and ports; and
            whether the destinations answer.
        progress: receives a line for each event, without names.

    Raises:
        ConfigError: the configuration names the wrong key or value.
        MissingDependencyError: the extra ``dicom`` is not installed.
        InUseError: another node has the folder.
        RunError: a port is taken, or the folder can't be used.
        BundleError, EngineError, ParityFailedError: as of ``load_model``.
    """
    wanted = read_config(config, orthanc=orthanc)
    need_pynetdicom("The node")
    if check:
        return _check(wanted, progress)
    try:
        wanted.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with hold(wanted.folder, "molre-edge node"):
            return _run(wanted, progress)
    except OSError as error:
        raise RunError(f"{wanted.folder}: the node's folder can't be used ({error.strerror or error})") from error


def _run(config: NodeConfig, progress: Progress) -> NodeResult:
    journal = Journal(progress)
    with contextlib.ExitStack() as stack:
        store = Store(config.folder)
        stack.callback(store.close)
        if store.lost:
            journal.warn("lost", images=store.lost)
        ended = stack.enter_context(finish_first(progress.stopping))
        model = stack.enter_context(
            load_model(
                config.bundle,
                config.engine,
                adapter=config.adapter,
                expect_digest=config.expect_digest,
                limits=config.limits,
                threads=config.threads,
                progress=progress,
            )
        )
        facts = {"engine": model.engine, "bundle": model.bundle, "adapter": model.adapter}
        stack.enter_context(Outbox(config.destinations, store, journal))
        if config.status.port:
            stack.enter_context(StatusPort(config.status.port, Overview(config, store, journal, facts)))
        receiver = stack.enter_context(Receiver(config, store, journal))
        if config.orthanc is not None:
            stack.enter_context(Follower(config.orthanc, store, journal, lambda: receiver.below_floor))
        journal.tell(
            "ready", engine=model.engine, bundle=model.bundle[:12], adapter=model.adapter, port=config.receive.port
        )
        worker, keeper = Worker(config, store, journal, model), Keeper(config.keep, store, journal)
        while not ended():
            keeper.step()
            if not worker.step():
                time.sleep(_POLL_SECONDS)
        worker.drop_ahead()
        journal.tell("ending", associations=receiver.open_associations)
        receiver.drain(_DRAIN_SECONDS)
    answered = int(journal.counts().get(("reports", 'outcome="answered"'), 0))
    journal.tell("ended", answered=answered)
    return NodeResult(checked=False, studies=answered, bundle=model.bundle, engine=model.engine)


def _check(config: NodeConfig, progress: Progress) -> NodeResult:
    """What would keep it from starting is raised; what would not is among the problems."""
    problems = []
    verified = verify_bundle(
        config.bundle,
        config.engine,
        adapter=config.adapter,
        expect_digest=config.expect_digest,
        limits=config.limits,
        threads=config.threads,
        progress=progress,
    )
    if not verified.passed:
        kind = ParityFailedError if verified.exit_code == 3 else BundleError
        raise kind(f"bundle: {verified.problem}")
    if config.receive.tls is not None:
        server_context(config.receive.tls)
    ports = [("receive", config.receive.address, config.receive.port)]
    if config.status.port:
        ports.append(("status", ADDRESS, config.status.port))
    for name, address, port in ports:
        _check_port(name, address, port)
    _check_folder(config)
    for destination in config.destinations:
        try:
            echo(destination)
        except Unreachable as error:
            problems.append(f"destination {destination.name}: {error}")
    if config.orthanc is not None:
        try:
            probe(config.orthanc)
        except Unreachable as error:
            problems.append(f"orthanc: {error}")
    engine = "" if verified.engine is None else str(verified.engine["name"])
    return NodeResult(
        checked=True, studies=0, bundle=verified.digest or "", engine=engine,
        problems=tuple(problems),
    )  # fmt: skip


def _check_port(name: str, address: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise RunError(f"{name}: can't listen on {address} port {port} ({error.strerror or error})") from error


def _check_folder(config: NodeConfig) -> None:
    """The folder, or what it would be made in, can be written to."""
    place = config.folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise ConfigError(f"folder: {place} is no folder that this user may write to")
