"""The verb ``infer_scans``: scans to findings, times and a parity report."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from molre_edge.bundle.bundle import Bundle
from molre_edge.engines.choice import parse_engine
from molre_edge.engines.runner import Runner
from molre_edge.errors import RunError, UsageError
from molre_edge.files import StrPath
from molre_edge.parity import DEFAULT_LIMITS
from molre_edge.progress import SILENT, Progress
from molre_edge.runs.context import InferOptions, RunContext
from molre_edge.runs.engine import check_engine, pick_engine
from molre_edge.runs.infer_result import InferResult
from molre_edge.runs.judging import Limits, read_limits
from molre_edge.runs.labels import read_labels
from molre_edge.runs.own_reference import enter_own_model
from molre_edge.runs.reference import Reference, choose_reference
from molre_edge.runs.run import run_scans
from molre_edge.runs.scan_ids import IdSecret
from molre_edge.runs.store import DEFAULT_RUNS, RunStore, Task, new_folder
from molre_edge.scans.workers.pool import default_readers, most_readers
from molre_edge.signing.trust import trust_of
from molre_edge.specs import DEFAULT_BUNDLE

__all__ = ["infer_scans"]


def infer_scans(
    scans: StrPath,
    engine: str = "fp16",
    *,
    bundle: StrPath = DEFAULT_BUNDLE,
    adapter: str | None = None,
    out: StrPath | None = None,
    resume: bool = False,
    reference: str = "auto",
    reference_scans: int | None = None,
    backbone_weights: StrPath | None = None,
    labels: StrPath | None = None,
    limits: Limits = None,
    all_series: bool = False,
    settle: float = 0.0,
    expect_digest: str | None = None,
    trust: Sequence[StrPath] | None = None,
    threads: int | None = None,
    readers: int | None = None,
    images: bool = False,
    sr: str | None = None,
    secondary_capture: bool = False,
    shard: str | None = None,
    id_secret: StrPath | None = None,
    progress: Progress = SILENT,
) -> InferResult:
    """Run a bundle on scans: findings per scan, times by phase, and parity with the reference.

    Writes a run folder; docs/reference/infer.md lists its files. A scan that cannot be used is listed with its reason,
    and the others continue.

    Args:
        scans: a DICOM or NIfTI file, or a folder with any of them, at any depth.
        engine: ``fp32``, ``fp16``, ``int8`` or ``fp8`` on the best runtime here; ``onnxruntime:fp16`` and so on forces
            one; ``torch`` is the PyTorch model.
        bundle: folder of the bundle.
        adapter: name of the bundle's adapter that answers; None for its default. Findings, thresholds and golden
            answers are the adapter's.
        out: the run's folder, new or empty. Default: ``edge-runs/<UTC time>``.
        resume: continue an interrupted run: that of `out`, else the newest that fits.
        reference: ``auto``, ``golden``, ``none``, the path of the checkpoint that the bundle was exported from, or your
            own model as ``FILE.py:function``. Your model's code is run, in a process of its own.
        reference_scans: compare only the first N usable scans with the PyTorch model, or with yours; None compares all.
        backbone_weights: Hugging Face folder, for a checkpoint without the backbone's weights.
        labels: CSV with a column ``scan`` and a column per finding: AUC is measured and judged too.
        limits: parity limits: a TOML file, or values by precision. Default: the project's.
        all_series: use every usable series of a study, not only the best one.
        settle: refuse studies with a file that changed less than this many seconds ago; 0 refuses none.
        expect_digest: refuse a bundle with another digest.
        trust: public keys (``.pub`` files of minisign), one of which must have signed the bundle's release; None for
            those that are configured on this machine.
        threads: CPU threads of ONNX Runtime. Default: all cores.
        readers: processes that read scans ahead, 0 to 64. Default: half the cores, 1 to 4, and more while the engine
            waits for them, up to one a core and as many as fit into memory.
        images: show slices of the worst scans in the report. These are images of patients.
        sr: write each answer as a DICOM structured report: ``comprehensive3d``, or ``comprehensive`` for an older PACS.
            Needs the extra ``dicom``. These files name patients.
        secondary_capture: write a page with the positive findings as a DICOM image too, for viewers that show no
            structured reports.
        shard: ``I/N`` answers the I-th of N parts of the scans; ``report_runs(..., merge=True)`` makes one run of them.
            Needs `id_secret`.
        id_secret: file with the key of the scans' ids, made if it does not exist. Runs with the same key give a scan
            the same id. Default: a new key.
        progress: receives events.

    Returns:
        The findings of every scan, the rejected scans, the verdict, times and paths.

    Raises:
        UsageError: arguments that do not exist or do not fit together.
        BundleError: the bundle is missing, altered, or not the expected one.
        SigningError: the bundle is not signed as `trust` asks, or is older than one that was used here.
        AdapterError: the bundle has no such adapter, or it does not fit.
        EngineError: the engine cannot run here.
        ParityFailedError: the engine does not answer the golden volumes as PyTorch did, so it is not used.
        OwnModelError: your own model can't be loaded, or does not answer the findings by name.
        RunError: the folder is in use, the labels do not match, or the run cannot be continued.
        ScanError: `scans` does not exist.
        MissingDependencyError: `sr` or `secondary_capture` without the extra ``dicom``.
        KeyboardInterrupt: the user stopped the run; `resume` continues it.
    """
    options = InferOptions(
        scans=Path(scans),
        engine=engine,
        bundle=Path(bundle),
        out=_path(out),
        resume=resume,
        reference=str(reference),
        reference_scans=reference_scans,
        backbone_weights=_path(backbone_weights),
        labels=_path(labels),
        limits=limits,
        all_series=all_series,
        settle=settle,
        expect_digest=expect_digest,
        trust=trust,
        threads=threads,
        readers=readers,
        images=images,
        sr=sr,
        secondary_capture=secondary_capture,
        shard=shard,
        id_secret=_path(id_secret),
        adapter=adapter,
    )
    start = time.perf_counter()
    with _ready(options, progress) as (store, context), _resumable(store, progress):
        result = run_scans(store, context)
    return replace(result, seconds=time.perf_counter() - start)


@contextlib.contextmanager
def _ready(options: InferOptions, progress: Progress) -> Iterator[tuple[RunStore, RunContext]]:
    """Open and check all that a run needs, before a scan is read; close it afterwards."""
    progress.step("loading the bundle and the engine")
    runtime, _ = parse_engine(options.engine)
    bundle = Bundle.open(options.bundle, expect_digest=options.expect_digest, trust=trust_of(options.trust))
    bundle = bundle.select(options.adapter)
    limits = read_limits(options.limits, progress)
    labels = None if options.labels is None else read_labels(options.labels, bundle.findings, progress.info)
    reference = choose_reference(options.reference, bundle, engine_is_reference=runtime == "torch")
    choice = pick_engine(
        options.engine,
        bundle,
        checkpoint=reference.checkpoint,
        backbone_weights=options.backbone_weights,
        threads=options.threads,
        progress=progress,
    )
    if bundle.using is not None:
        progress.info(f"Adapter: {bundle.using.words}")
    progress.info(f"Reference: {reference.why}")
    task = Task(
        bundle=bundle.digest,
        engine=choice.runner.name,
        reference=reference.identity,
        scans=Task.hide(options.scans),
        all_series=options.all_series,
        threads=options.threads,
        shard=options.shard,
        dicom=options.dicom,
        adapter=None if bundle.using is None else f"{bundle.using.name} {bundle.using.digest}",
    )
    with contextlib.ExitStack() as stack:
        runner = stack.enter_context(choice.runner)
        store = _store(options, task, progress)
        stack.callback(store.close)
        check_engine(bundle, runner, limits, progress)
        own_model = enter_own_model(reference, bundle, stack, progress)
        context = RunContext(
            scans=options.scans,
            bundle=bundle,
            runner=runner,
            reference=reference,
            reference_runner=_reference_runner(reference, options, stack),
            own_model=own_model,
            limits=(limits or DEFAULT_LIMITS)[runner.precision],
            limits_source="default" if limits is None else limits.source,
            labels=labels,
            reference_scans=options.reference_scans,
            all_series=options.all_series,
            settle_seconds=options.settle,
            readers=default_readers() if options.readers is None else options.readers,
            most_readers=most_readers() if options.readers is None else 0,
            images=options.images,
            sr=options.sr,
            secondary_capture=options.secondary_capture,
            command=options.as_typed(),
            progress=progress,
        )
        yield store, context


@contextlib.contextmanager
def _resumable(store: RunStore, progress: Progress) -> Iterator[None]:
    """Say how to continue a run that was interrupted, or that the disk stopped."""
    resume = f"what is done is kept: add --resume -o {store.folder} to continue"
    try:
        yield
    except KeyboardInterrupt:
        progress.warn(f"stopped; {resume}")
        raise
    except OSError as error:  # a full disk, a folder that became read-only: the scans' own errors are ScanErrors
        raise RunError(f"{error.filename or store.folder}: {error.strerror or error}; {resume}") from error


def _reference_runner(reference: Reference, options: InferOptions, stack: contextlib.ExitStack) -> Runner | None:
    if reference.checkpoint is None:
        return None
    from molre_edge.engines.torch_runner import TorchRunner

    runner = TorchRunner.from_checkpoint(reference.checkpoint, backbone_weights=options.backbone_weights)
    return stack.enter_context(runner)


def _store(options: InferOptions, task: Task, progress: Progress) -> RunStore:
    if options.shard and options.scans.resolve() in (options.out or DEFAULT_RUNS).resolve().parents:
        raise UsageError(
            "--shard: the run's folder lies below SCANS, so the shards would find each other's files. Name a folder "
            "elsewhere with -o"
        )
    if options.resume:  # a new secret would fit no run
        secret = None if options.id_secret is None else IdSecret.read(options.id_secret)
        folder = options.out or RunStore.newest_unfinished(DEFAULT_RUNS, task, secret)
        progress.info(f"Resuming {folder}")
        return RunStore.resume(folder, task, secret)
    secret = None if options.id_secret is None else IdSecret.shared(options.id_secret)
    return RunStore.create(options.out or new_folder(DEFAULT_RUNS), task, secret)


def _path(given: StrPath | None) -> Path | None:
    return None if given is None else Path(given)
