"""The verb ``load_model``: a bundle's model inside a process of your own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.adapters.fit import FittedAdapter
from molre_edge.bundle.bundle import Bundle
from molre_edge.engines.adapted import AdaptedRunner, fitted_for
from molre_edge.engines.runner import Runner
from molre_edge.errors import EngineError
from molre_edge.files import StrPath, sha256_of
from molre_edge.parity import Outputs
from molre_edge.progress import SILENT, Progress
from molre_edge.runs.ahead import BegunStudy, StudyReader
from molre_edge.runs.engine import check_engine, pick_engine
from molre_edge.runs.judging import Limits, read_limits
from molre_edge.runs.scan_findings import Answer, attended_of, findings_of, mean_gates
from molre_edge.scans import GridSlice, ScanSource, SliceSource, attended_image
from molre_edge.signing.trust import trust_of
from molre_edge.specs import DEFAULT_BUNDLE, DISCLAIMER, HU_MAX, HU_MIN, Grid

__all__ = ["LoadedModel", "Prediction", "load_model"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction(Answer):
    """What the model answered for one study.

    Attributes:
        path: the series' folder or file that was read. It may carry the name of a patient.
        source: the scan as it was found, with the other volumes of its study.
        kind: ``dicom`` or ``nifti``.
        files: how many files were read.
        slices: the images that each slice of the model's grid was made of: number of the slice from 1, inferior to
            superior, share, and the source's file, SOP Instance UID and frame; the largest share first. They identify a
            person's images.
        outputs: logits, embedding, gates and attention as the engine returned them, one volume.
        engine: name of the runner.
        bundle: digest of the bundle.
        adapter: name of the adapter that answered; None where the graph holds what was trained.
        adapter_sha256: of its file.
    """

    path: Path
    source: ScanSource
    kind: str
    files: int
    slices: tuple[GridSlice, ...]
    outputs: Outputs
    engine: str
    bundle: str
    adapter: str | None = None
    adapter_sha256: str | None = None

    @property
    def attended_image(self) -> SliceSource | None:
        """The image of the slice that was attended to most: file, SOP Instance UID, frame. It identifies a person's."""
        return attended_image(self.attended, self.slices)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, in the words of ``findings.jsonl``. Paths and UIDs stay out: they may identify a patient."""
        return {
            "engine": self.engine,
            "bundle": self.bundle,
            **({} if self.adapter is None else {"adapter": self.adapter, "adapter_sha256": self.adapter_sha256}),
            "read": {"kind": self.kind, "files": self.files},
            **super().to_dict(),
            "disclaimer": DISCLAIMER,
        }


class LoadedModel:
    """A model that is ready to answer. Make one with :func:`load_model`; use it from one thread at a time.

    Attributes:
        bundle: digest of the bundle.
        engine: name of the runner, such as ``onnxruntime:fp16``.
        grid: the grid that the model reads.
        adapter: name of the adapter that answers; None where the graph holds what was trained.
        adapter_sha256: of its file.
        findings: names, in the order of the model's outputs; those of the adapter.
        thresholds: float64 [findings], probabilities; those of the adapter.
        facts: what the runner says of itself: runtime, version, device, threads.
    """

    def __init__(
        self,
        bundle: Bundle,
        runner: Runner,
        reader: StudyReader,
        check: Callable[[Bundle], None] = lambda bundle: None,
    ) -> None:
        """Hold an open bundle, an entered runner, an entered reader and what checks an adapter."""
        self._runner, self._reader, self._check = runner, reader, check
        self._adapters = dict[str, tuple[Bundle, FittedAdapter]]()  # by digest: those that have answered
        self.bundle: str = bundle.digest
        self.engine: str = runner.name
        self.grid: Grid = bundle.grid
        self._take(bundle)

    def _take(self, bundle: Bundle) -> None:
        using = bundle.using
        self._bundle = bundle
        self.adapter: str | None = None if using is None else using.name
        self.adapter_sha256: str | None = None if using is None else using.digest
        self.findings: tuple[str, ...] = bundle.findings
        self.thresholds: npt.NDArray[np.float64] = bundle.thresholds
        self.facts: Mapping[str, Any] = dict(self._runner.facts)
        if using is not None and isinstance(self._runner, AdaptedRunner):
            self._adapters[using.digest] = (bundle, self._runner.fitted)

    def use_adapter(self, name: str | None = None) -> None:
        """Answer by another adapter of the bundle from the next study on. Nothing is loaded or built.

        The first time that this machine meets an adapter, it answers its golden volumes, as in ``load_model``;
        ``add_adapter`` has done that already.

        Args:
            name: of the adapter, as the bundle has it now; None for its default.

        Raises:
            AdapterError: the bundle has no such adapter, takes none, or it does not fit. The one before stays in use.
            BundleError: its file is altered or missing.
            EngineError: the engine is the PyTorch model, which is one checkpoint.
            ParityFailedError: the engine does not answer its golden volumes. The one before stays in use.
        """
        runner = self._runner
        if not isinstance(runner, AdaptedRunner):
            self._bundle.adapter_facts()
            raise EngineError(f"{runner.name}: the PyTorch model is that of one checkpoint. Load the other one instead")
        store = self._bundle.store()
        index = store.index()
        listed = {each.sha256 for each in index.adapters.values()}
        self._adapters = {key: kept for key, kept in self._adapters.items() if key in listed}
        known = self._adapters.get(store.named(index, name).sha256)
        chosen = self._bundle.with_adapter(store.read(name)) if known is None else known[0]
        before = runner.fitted
        runner.use(fitted_for(chosen, runner) if known is None else known[1])
        try:
            if known is None:
                self._check(chosen)
        except BaseException:
            runner.use(before)
            raise
        self._take(chosen)

    def begin(self, path: StrPath) -> BegunStudy:
        """Let a study be read in the background, after those that were begun before, while the engine answers another.

        What was read waits in memory, one volume of the grid, until :meth:`predict` takes it or its ``drop()`` is
        called. With ``readers=0`` it is read when it is taken.

        Args:
            path: a DICOM or NIfTI file, or a folder that holds one study.
        """
        return self._reader.begin(Path(path).absolute())

    def predict(self, path: StrPath | BegunStudy) -> Prediction:
        """Answer one study.

        Args:
            path: a DICOM or NIfTI file, or a folder that holds one study; or such a study as :meth:`begin` gave it,
                once.

        Raises:
            ScanError: the study cannot be used; its code says why (docs/concepts/scans.md).
            RunError: no scan there, or several studies.
        """
        read = self._reader.take(path if isinstance(path, BegunStudy) else self.begin(path))
        source, prepared = read.source, read.prepared
        answered = self._runner.run(prepared.volume[None])
        return Prediction(
            path=source.path,
            source=source,
            kind=source.kind,
            files=len(source.files),
            slices=prepared.slices,
            findings=findings_of(answered.outputs, self.findings, self.thresholds),
            gates=mean_gates(answered.outputs),
            attended=attended_of(answered.outputs, prepared.slices),
            warnings=prepared.warnings,
            facts=prepared.facts,
            milliseconds={"read": prepared.read_ms, "geometry": prepared.geometry_ms, **answered.milliseconds},
            outputs=answered.outputs,
            engine=self.engine,
            bundle=self.bundle,
            adapter=self.adapter,
            adapter_sha256=self.adapter_sha256,
        )

    def run(self, volume: npt.ArrayLike) -> Outputs:
        """Answer volumes that are already on the model's grid.

        Args:
            volume: Hounsfield units [batch, slices, rows, cols], any real dtype. Values are limited to -1024 to 3071
                and rounded to float16, as a scan's are.

        Returns:
            Logits [batch, findings], probabilities, embedding, gates and attention [batch, slices].

        Raises:
            EngineError: another shape, no numbers, or NaN or infinity among them.
        """
        array = np.asarray(volume)
        if array.dtype.kind not in "fiu":
            raise EngineError(f"volume: expected Hounsfield units as real numbers, got dtype {array.dtype}")
        if not np.isfinite(array).all():
            raise EngineError("volume: contains NaN or infinity. Every voxel needs a value in Hounsfield units")
        limited = np.clip(array, HU_MIN, HU_MAX).astype(np.float16)
        return self._runner.run(limited).outputs


def load_model(
    path: StrPath = DEFAULT_BUNDLE,
    engine: str = "fp16",
    *,
    adapter: str | None = None,
    expect_digest: str | None = None,
    trust: Sequence[StrPath] | None = None,
    limits: Limits = None,
    checkpoint: StrPath | None = None,
    backbone_weights: StrPath | None = None,
    threads: int | None = None,
    readers: int = 1,
    progress: Progress = SILENT,
) -> AbstractContextManager[LoadedModel]:
    """Load a bundle's model into this process; a context manager that yields a :class:`LoadedModel`.

    The engine answers the golden volumes first if it did not pass on this machine before, as in ``infer_scans``.

    Args:
        path: folder of the bundle.
        engine: as in ``infer_scans``.
        adapter: name of the bundle's adapter that answers; None for its default. :meth:`LoadedModel.use_adapter`
            changes it.
        expect_digest: refuse a bundle with another digest.
        trust: public keys (``.pub`` files of minisign), one of which must have signed the bundle's release; None for
            those that are configured on this machine.
        limits: parity limits for the check of the engine: a TOML file, or values by precision.
        checkpoint: for the engine ``torch``. Default: the bundle's checkpoint beside it or in the current folder.
        backbone_weights: for the engine ``torch``: Hugging Face folder of a checkpoint without the backbone's weights.
        threads: CPU threads of ONNX Runtime. Default: all cores.
        readers: 1 reads studies in a process of its own, so a file that crashes a decoder costs one study; 0 reads in
            this process.
        progress: receives events.

    Raises:
        UsageError: an unknown engine.
        BundleError: the bundle is missing, altered, or not the expected one.
        SigningError: the bundle is not signed as `trust` asks, or is older than one that was used here.
        AdapterError: the bundle has no such adapter, or it does not fit.
        EngineError: the engine cannot run here.
        ParityFailedError: the engine does not answer the golden volumes as PyTorch did.
    """
    return _loaded(
        Bundle.open(Path(path), expect_digest=expect_digest, trust=trust_of(trust)).select(adapter),
        engine,
        limits=limits,
        checkpoint=None if checkpoint is None else Path(checkpoint),
        backbone_weights=None if backbone_weights is None else Path(backbone_weights),
        threads=threads,
        readers=readers,
        progress=progress,
    )


@contextlib.contextmanager
def _loaded(
    bundle: Bundle,
    engine: str,
    *,
    limits: Limits,
    checkpoint: Path | None,
    backbone_weights: Path | None,
    threads: int | None,
    readers: int,
    progress: Progress,
) -> Iterator[LoadedModel]:
    progress.step("loading the engine")
    if checkpoint is not None and sha256_of(checkpoint) != bundle.checkpoint_sha256:
        raise EngineError(
            f"{checkpoint}: not the checkpoint that this bundle, or its adapter, was made from: its SHA-256 is "
            f"another. Name that one"
        )
    choice = pick_engine(
        engine,
        bundle,
        checkpoint=checkpoint,
        backbone_weights=backbone_weights,
        threads=threads,
        progress=progress,
    )
    own_limits = read_limits(limits, progress)
    with choice.runner as runner:
        check_engine(bundle, runner, own_limits, progress)
        with StudyReader(bundle.grid, readers) as reader:
            yield LoadedModel(bundle, runner, reader, lambda other: check_engine(other, runner, own_limits, progress))
