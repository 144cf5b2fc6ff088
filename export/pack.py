"""The verb ``pack_adapter``: the trained part of a checkpoint as a file that bundles of its backbone take."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molre_edge.adapters.file import SUFFIX, adapter_name, write_adapter
from molre_edge.adapters.fit import fit_adapter, why_not_fit
from molre_edge.bundle.bundle import Bundle
from molre_edge.bundle.golden import GoldenSet
from molre_edge.errors import AdapterError, MissingDependencyError
from molre_edge.export.adapter_content import adapter_of, fit_of
from molre_edge.export.judged import torch_answers
from molre_edge.files import StrPath, name_problem
from molre_edge.progress import SILENT, Progress
from molre_edge.signing.trust import trust_of
from molre_edge.specs import DEFAULT_BUNDLE

if TYPE_CHECKING:
    from molre_edge.model.checkpoint import LoadedCheckpoint

__all__ = ["PackedAdapter", "pack_adapter"]


@dataclass(frozen=True, eq=False)
class PackedAdapter:
    """An adapter that was packed.

    Attributes:
        path: its file.
        name: of the adapter.
        digest: SHA-256 of the file.
        bytes: size of the file.
        graph_share: size of the file, golden answers aside, over that of the bundle's smallest graph.
        findings: names.
        seconds: duration of each step.
    """

    path: Path
    name: str
    digest: str
    bytes: int
    graph_share: float
    findings: tuple[str, ...]
    seconds: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, as ``molre-edge adapter pack --json`` prints it."""
        return {
            "path": str(self.path),
            "name": self.name,
            "digest": self.digest,
            "bytes": self.bytes,
            "graph_share": self.graph_share,
            "findings": list(self.findings),
            "seconds": dict(self.seconds),
        }


def pack_adapter(
    checkpoint: StrPath,
    out: StrPath | None = None,
    *,
    bundle: Bundle | StrPath = DEFAULT_BUNDLE,
    name: str | None = None,
    half_experts: bool = False,
    backbone_weights: StrPath | None = None,
    force: bool = False,
    expect_digest: str | None = None,
    trust: Sequence[StrPath] | None = None,
    progress: Progress = SILENT,
) -> PackedAdapter:
    """Make an adapter of a checkpoint. The PyTorch model answers the bundle's golden volumes, which go with it.

    Args:
        checkpoint: a ``.pt`` or ``.safetensors`` file of the bundle's backbone.
        out: the file to write. Default: ``<name>.adapter`` in the current folder.
        bundle: one whose graphs take adapters, exported with ``adapters="inputs"``. It is not changed.
        name: what the adapter is called. Default: that of the checkpoint's file.
        half_experts: store the experts' matrices as float16: a smaller file, and no longer exact in float32.
        backbone_weights: the Hugging Face folder, if the checkpoint does not contain the backbone's weights.
        force: replace an existing file.
        expect_digest: refuse a bundle with another digest.
        trust: public keys, one of which must have signed the bundle; None for those configured on this machine.
        progress: receives progress events.

    Raises:
        AdapterError: the bundle takes no adapters, the checkpoint does not fit it, or `out` exists.
        BundleError: the bundle can't be opened, or is not the expected one.
        CheckpointError: the checkpoint can't be read or is invalid.
        ExportError: the model answers NaN or infinity.
        MissingDependencyError: torch is not installed.
    """
    opened = Bundle.of(bundle, expect_digest=expect_digest, trust=trust_of(trust))
    facts = opened.adapter_facts()
    source = Path(checkpoint)
    called = adapter_name(re.sub(r"[^A-Za-z0-9_-]+", "-", source.stem).strip("-_")[:64] if name is None else name)
    target = Path(f"{called}{SUFFIX}") if out is None else Path(out)
    _check_target(target, force=force)
    seconds, start = dict[str, float](), time.perf_counter()

    def lap(step: str) -> None:
        nonlocal start
        seconds[step], start = round(time.perf_counter() - start, 3), time.perf_counter()

    progress.step("loading the checkpoint")
    loaded = _load(source, None if backbone_weights is None else Path(backbone_weights))
    fit = fit_of(loaded)
    if (reason := why_not_fit(fit, facts)) is not None:
        raise AdapterError(
            f"{source}: does not fit {opened.folder}. Different {reason}. Name a bundle of this model with --bundle, "
            f"or export the checkpoint to one of its own with --adapters inputs"
        )
    lap("load")
    progress.step("PyTorch's answers to the golden volumes")
    volumes = opened.golden().volumes
    golden = GoldenSet(volumes, torch_answers(loaded.model, volumes))
    lap("golden answers")
    progress.step("adapter")
    adapter = adapter_of(loaded, called, golden, fit)
    for graph in opened.graphs.values():
        fit_adapter(adapter, facts, graph.adapter_inputs)
    written = write_adapter(adapter, target, half_experts=half_experts)
    lap("write")
    size = target.stat().st_size
    smallest = min((opened.folder / graph.file).stat().st_size for graph in opened.graphs.values())
    trained = size - sum(answer.nbytes for answer in golden.outputs.arrays.values())
    return PackedAdapter(target, called, written.digest, size, trained / smallest, adapter.findings, seconds)


def _check_target(path: Path, *, force: bool) -> None:
    if problem := name_problem(path):
        raise AdapterError(f"{path}: {problem}. Choose a shorter name with -o")
    if path.exists() and not force:
        raise AdapterError(f"{path}: exists already. Choose another file with -o, or replace it with --force")


def _load(path: Path, weights: Path | None) -> LoadedCheckpoint:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of the libraries about themselves
        try:
            from molre_edge.model.checkpoint import load_checkpoint
        except ImportError as error:
            raise MissingDependencyError("Packing an adapter", str(error.name), "export") from error
        return load_checkpoint(path, backbone_weights=weights)
