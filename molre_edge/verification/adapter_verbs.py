"""The verbs for a bundle's adapters: list, add, remove, choose the default, and go back to the version before.

Each change is made while the bundle is held, and is there whole or not at all (:mod:`molre_edge.adapters.store`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from molre_edge.adapters.file import read_adapter_file
from molre_edge.adapters.store import AdapterStore, Index, StoredAdapter
from molre_edge.bundle.bundle import Bundle, hold_bundle
from molre_edge.errors import AdapterError, MolreEdgeError
from molre_edge.files import StrPath, read_regular
from molre_edge.parity import ParityLimits
from molre_edge.progress import SILENT, Progress
from molre_edge.signing.trust import SUFFIX as SIGNATURE
from molre_edge.signing.trust import trust_of
from molre_edge.specs import DEFAULT_BUNDLE, DISCLAIMER, Precision
from molre_edge.verification.adapter_check import EngineCheck, check_adapter, check_fit
from molre_edge.verification.passed import VerifiedRecord, record_path

__all__ = [
    "AdapterList",
    "AddedAdapter",
    "ListedAdapter",
    "add_adapter",
    "default_adapter",
    "list_adapters",
    "remove_adapter",
    "rollback_adapter",
]


@dataclass(frozen=True)
class ListedAdapter:
    """One adapter of a bundle.

    Attributes:
        name: of the adapter.
        digest: SHA-256 of its file.
        default: whether it is used where none is named.
        added: when it was added (UTC).
        checked: engines that answered its golden volumes when it was added.
        previous: SHA-256 of the version before, to which ``rollback`` goes back; None without one.
        findings: names of its outputs; empty if it can't be read.
        experts, rank: K and r; None if it can't be read.
        checkpoint_sha256: of the checkpoint that it was packed from; empty if it can't be read.
        problem: why it can't be used; None if it can.
    """

    name: str
    digest: str
    default: bool
    added: str
    checked: tuple[str, ...]
    previous: str | None
    findings: tuple[str, ...] = ()
    experts: int | None = None
    rank: int | None = None
    checkpoint_sha256: str = ""
    problem: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**vars(self), "checked": list(self.checked), "findings": list(self.findings)}


@dataclass(frozen=True)
class AdapterList:
    """The adapters of a bundle.

    Attributes:
        bundle: the bundle's folder.
        digest: of the bundle.
        default: name of the adapter that is used where none is named.
        adapters: by name.
    """

    bundle: Path
    digest: str
    default: str
    adapters: tuple[ListedAdapter, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, as ``molre-edge adapter list --json`` prints it."""
        listed = [each.to_dict() for each in self.adapters]
        return {"bundle": str(self.bundle), "digest": self.digest, "default": self.default, "adapters": listed}


@dataclass(frozen=True)
class AddedAdapter:
    """An adapter that was added.

    Attributes:
        name: of the adapter.
        digest: SHA-256 of its file.
        previous: SHA-256 of the version that it replaces; None for a new one.
        default: whether it is the bundle's default.
        findings: names of its outputs.
        checks: how the engines of this box answered its golden volumes.
        seconds: in all, and for the golden answers alone.
    """

    name: str
    digest: str
    previous: str | None
    default: bool
    findings: tuple[str, ...]
    checks: tuple[EngineCheck, ...]
    seconds: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, as ``molre-edge adapter add --json`` prints it."""
        return {
            **vars(self),
            "findings": list(self.findings),
            "checks": [each.to_dict() for each in self.checks],
            "seconds": dict(self.seconds),
            "disclaimer": DISCLAIMER,
        }


def list_adapters(
    bundle: Bundle | StrPath = DEFAULT_BUNDLE,
    *,
    expect_digest: str | None = None,
    trust: Sequence[StrPath] | None = None,
    progress: Progress = SILENT,
) -> AdapterList:
    """List a bundle's adapters. Each file is read and its hash compared; one that is damaged is listed as such.

    Args:
        bundle: the bundle's folder, or an open bundle.
        expect_digest: refuse a bundle with another digest.
        trust: public keys, one of which must have signed the bundle and the adapter; None for those that are
            configured on this machine.
        progress: receives progress events.

    Raises:
        AdapterError: the bundle's graphs take no adapter.
        BundleError: the bundle can't be opened, or its list of adapters is damaged.
    """
    opened = _open(bundle, expect_digest, trust)
    progress.step("adapters")
    return _listed(opened, opened.store(remember=False).index())


def add_adapter(
    file: StrPath,
    *,
    bundle: Bundle | StrPath = DEFAULT_BUNDLE,
    limits: StrPath | Mapping[Precision, ParityLimits] | None = None,
    threads: int | None = None,
    expect_digest: str | None = None,
    trust: Sequence[StrPath] | None = None,
    record: VerifiedRecord | None = None,
    progress: Progress = SILENT,
) -> AddedAdapter:
    """Add an adapter to a bundle, or a new version of one.

    First it must fit every graph, and every engine that is ready here must answer its golden volumes as PyTorch did.
    Then it appears whole, or not at all. The version before it is kept.

    Args:
        file: from ``pack_adapter``.
        bundle: the bundle's folder, or an open bundle.
        limits: a TOML file of parity limits, or the limits by precision; None for the bundle's own.
        threads: CPU threads of ONNX Runtime; None for all cores.
        expect_digest: refuse a bundle with another digest.
        trust: public keys, one of which must have signed the bundle and the adapter; None for those that are
            configured on this machine.
        record: engines that passed on this machine; None for the user's own record.
        progress: receives progress events.

    Raises:
        AdapterError: the file is damaged or does not fit the bundle; the message names what differs.
        BundleError: the bundle can't be opened or written.
        EngineError: a graph can't run here.
        InUseError: another process writes the bundle.
        ParityFailedError: an engine does not answer as PyTorch did. Nothing is added.
    """
    start = time.perf_counter()
    opened = _open(bundle, expect_digest, trust)
    with hold_bundle(opened, "molre-edge adapter add"):
        progress.step("reading the adapter")
        adapter, content = read_adapter_file(Path(file))
        store, signature = opened.store(), _signature(Path(file))
        store.check_signature(content, Path(file), adapter.name, remember=False)  # before anything of it is used
        chosen = opened.with_adapter(adapter)
        check_fit(chosen)
        asked = time.perf_counter()
        known = VerifiedRecord(record_path()) if record is None else record
        checks = check_adapter(chosen, known, limits=limits, threads=threads, progress=progress)
        golden = time.perf_counter() - asked
        with _written(store):
            index = store.put(adapter, content, tuple(each.engine for each in checks if each.passed), signature)
        store.check_signature(content, Path(file), adapter.name)
    stored = index.adapters[adapter.name]
    return AddedAdapter(
        name=adapter.name,
        digest=adapter.digest,
        previous=None if stored.previous is None else stored.previous.sha256,
        default=index.default == adapter.name,
        findings=adapter.findings,
        checks=checks,
        seconds={"in_all": round(time.perf_counter() - start, 3), "golden_answers": round(golden, 3)},
    )


def remove_adapter(
    name: str,
    *,
    bundle: Bundle | StrPath = DEFAULT_BUNDLE,
    expect_digest: str | None = None,
    trust: Sequence[StrPath] | None = None,
    progress: Progress = SILENT,
) -> AdapterList:
    """Remove an adapter and the version before it. The default can't be removed.

    Args:
        name: of the adapter.
        bundle: the bundle's folder, or an open bundle.
        expect_digest: refuse a bundle with another digest.
        trust: public keys, one of which must have signed the bundle and the adapter; None for those that are
            configured on this machine.
        progress: receives progress events.

    Raises:
        AdapterError: there is none of that name, or it is the default.
        BundleError: the bundle can't be opened or written.
        InUseError: another process writes the bundle.
    """
    opened = _open(bundle, expect_digest, trust)
    progress.step("adapters")
    with hold_bundle(opened, "molre-edge adapter remove"):
        store = opened.store()
        with _written(store):
            return _listed(opened, store.remove(name))


def default_adapter(
    name: str,
    *,
    bundle: Bundle | StrPath = DEFAULT_BUNDLE,
    expect_digest: str | None = None,
    trust: Sequence[StrPath] | None = None,
    progress: Progress = SILENT,
) -> AdapterList:
    """Use an adapter where none is named. It must be whole and fit.

    Args:
        name: of the adapter.
        bundle: the bundle's folder, or an open bundle.
        expect_digest: refuse a bundle with another digest.
        trust: public keys, one of which must have signed the bundle and the adapter; None for those that are
            configured on this machine.
        progress: receives progress events.

    Raises:
        AdapterError: there is none of that name, or it does not fit.
        BundleError: the bundle can't be opened or written, or the adapter's file is damaged.
        InUseError: another process writes the bundle.
    """
    opened = _open(bundle, expect_digest, trust)
    progress.step("adapters")
    with hold_bundle(opened, "molre-edge adapter default"):
        store = opened.store()
        check_fit(opened.with_adapter(store.read(name)))
        with _written(store):
            return _listed(opened, store.make_default(name))


def rollback_adapter(
    name: str | None = None,
    *,
    bundle: Bundle | StrPath = DEFAULT_BUNDLE,
    expect_digest: str | None = None,
    trust: Sequence[StrPath] | None = None,
    progress: Progress = SILENT,
) -> AdapterList:
    """Go back to the version of an adapter that was there before. A second time comes back to the newer one.

    Args:
        name: of the adapter; None for the default.
        bundle: the bundle's folder, or an open bundle.
        expect_digest: refuse a bundle with another digest.
        trust: public keys, one of which must have signed the bundle and the adapter; None for those that are
            configured on this machine.
        progress: receives progress events.

    Raises:
        AdapterError: there is none of that name, no version before it, or that one does not fit.
        BundleError: the bundle can't be opened or written, or that version's file is damaged.
        InUseError: another process writes the bundle.
    """
    opened = _open(bundle, expect_digest, trust)
    progress.step("adapters")
    with hold_bundle(opened, "molre-edge adapter rollback"):
        store = opened.store()
        index = store.index()
        called = index.default if name is None else name
        previous = store.named(index, called).previous
        if previous is not None:
            looked_at = opened.store(remember=False).read_version(previous, called, accept_older=True)
            check_fit(opened.with_adapter(looked_at))
            store.read_version(previous, called, accept_older=True)  # it counts as the newest from now on
        with _written(store):
            return _listed(opened, store.roll_back(called))


def _signature(file: Path) -> bytes | None:
    """The content of the signature beside a file; None if there is none."""
    try:
        return read_regular(file.with_name(file.name + SIGNATURE), largest=1 << 16)
    except OSError:
        return None


def _open(bundle: Bundle | StrPath, expect_digest: str | None, trust: Sequence[StrPath] | None) -> Bundle:
    opened = Bundle.of(bundle, expect_digest=expect_digest, trust=trust_of(trust))
    opened.adapter_facts()
    return opened


@contextmanager
def _written(store: AdapterStore) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise AdapterError(
            f"{store.folder}: can't be written ({error.strerror or error}). The adapters stay as they were. Free some "
            f"space, or make the folder writable, and try again"
        ) from error


def _listed(bundle: Bundle, index: Index) -> AdapterList:
    store = bundle.store(remember=False)
    entries = [_entry(bundle, store, name, index.adapters[name], index.default) for name in sorted(index.adapters)]
    return AdapterList(bundle.folder, bundle.digest, index.default, tuple(entries))


def _entry(bundle: Bundle, store: AdapterStore, name: str, stored: StoredAdapter, default: str) -> ListedAdapter:
    facts: dict[str, Any] = {}
    try:
        adapter = store.read_version(stored, name)
        facts = {"findings": adapter.findings, "experts": adapter.fit.experts, "rank": adapter.fit.rank}
        facts["checkpoint_sha256"] = adapter.checkpoint_sha256
        check_fit(bundle.with_adapter(adapter))
    except MolreEdgeError as error:
        facts["problem"] = str(error)
    return ListedAdapter(
        name=name,
        digest=stored.sha256,
        default=name == default,
        added=stored.added,
        checked=stored.checked,
        previous=None if stored.previous is None else stored.previous.sha256,
        **facts,
    )
