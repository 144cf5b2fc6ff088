"""Turns a checkpoint into a bundle. Each step is checked before the next one begins."""

from __future__ import annotations

import gc
import hashlib
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from molre_edge.adapters.file import parse_adapter, serialised
from molre_edge.adapters.fit_facts import FitFacts
from molre_edge.adapters.store import AdapterStore
from molre_edge.adapters.tensors import Tensors
from molre_edge.bundle.bundle import (
    DEFAULT_BUNDLE,
    GOLDEN_FILE,
    Bundle,
    check_free,
    check_name,
    new_bundle,
    write_manifest,
)
from molre_edge.bundle.golden import GoldenSet, write_golden
from molre_edge.bundle.golden_origin import OwnGolden
from molre_edge.bundle.sign import write_release
from molre_edge.errors import ExportError, MissingDependencyError, UsageError, shown
from molre_edge.export.adapter_content import adapter_of, fit_of
from molre_edge.export.attention import FUSED, UNFUSED, unfuse_attention
from molre_edge.export.golden import MIN_GOLDEN, scan_volumes, synthetic_volumes
from molre_edge.export.graph import CONSTANTS, INPUTS, check_graph, export_fp32, graph_facts
from molre_edge.export.half import check_half, float32_islands, to_half
from molre_edge.export.judged import graph_answers, judged, torch_answers
from molre_edge.export.manifest_content import GraphParity, manifest_content
from molre_edge.export.own_reference import OwnReference, check_note, open_own_reference
from molre_edge.export.rounding import MODE, rounding_copy, runtime_rounds
from molre_edge.export.routing_proof import RoutingProof, even_gates, prove_routing, routing_notes, with_even_gates
from molre_edge.export.routing_trace import RouterTrace, trace_routers
from molre_edge.files import StrPath
from molre_edge.locks import hold
from molre_edge.parity import DEFAULT_LIMITS, Outputs, ParityLimits
from molre_edge.parity.limits import limits_by_precision
from molre_edge.progress import SILENT, Progress
from molre_edge.signing.minisign import SecretKey, read_secret_key
from molre_edge.signing.trust import NO_TRUST
from molre_edge.specs import Grid, Precision

if TYPE_CHECKING:
    import onnx

    from molre_edge.model.checkpoint import LoadedCheckpoint
    from molre_edge.model.classifier import HeadCTClassifier

__all__ = ["DEFAULT_GOLDEN", "FIRST_ADAPTER", "ExportResult", "export_bundle", "export_checkpoint"]

DEFAULT_GOLDEN = 8
"""Synthetic golden volumes of an export that names no number."""

FIRST_ADAPTER = "default"
"""Name of the adapter that an export leaves in its bundle, where the trained tensors are inputs."""

_PATIENTS = (
    "The golden volumes are images of patients and become part of the bundle. Protect the bundle as you protect the "
    "scans."
)


@dataclass(frozen=True, eq=False)
class ExportResult:
    """The result of an export.

    Attributes:
        folder: the bundle.
        digest: SHA-256 of its manifest.
        parity: parity with PyTorch on the golden volumes, by precision.
        proof: evidence that routing is dynamic; None if the model has no routing (K = 0 or 1).
        added_fraction: parameters of adapters and routers over all others.
        seconds: duration of each step.
        notes: remarks about how parity was judged.
        own: the user's own model whose answers are the golden answers; None for the rebuild of the checkpoint.
    """

    folder: Path
    digest: str
    parity: Mapping[Precision, GraphParity]
    proof: RoutingProof | None
    added_fraction: float
    seconds: Mapping[str, float]
    notes: tuple[str, ...]
    own: OwnGolden | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, as ``molre-edge export --json`` prints it."""
        return {
            "bundle": str(self.folder),
            "digest": self.digest,
            "own_model": None if self.own is None else self.own.to_dict(),
            "parity": {str(precision): parity.verdict.to_dict() for precision, parity in self.parity.items()},
            "routing": None if self.proof is None else self.proof.to_dict(),
            "added_fraction": self.added_fraction,
            "seconds": dict(self.seconds),
            "notes": list(self.notes),
        }


@dataclass
class _Stopwatch:
    """Reports the step that begins and keeps the duration of each."""

    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)
    _name: str = ""
    _start: float = 0.0

    def step(self, name: str) -> None:
        self.stop()
        self._name, self._start = name, time.perf_counter()
        self.progress.step(name)

    def stop(self) -> None:
        if self._name:
            self.seconds[self._name] = round(time.perf_counter() - self._start, 3)
        self._name = ""


def export_checkpoint(
    checkpoint: StrPath,
    bundle: StrPath = DEFAULT_BUNDLE,
    *,
    force: bool = False,
    precisions: tuple[Precision | str, ...] = (Precision.FP32, Precision.FP16),
    attention: str = FUSED,
    adapters: str = INPUTS,
    golden: StrPath | None = None,
    golden_volumes: int | None = None,
    reference_answers: StrPath | None = None,
    reference_note: str | None = None,
    limits: StrPath | Mapping[Precision, ParityLimits] | None = None,
    backbone_weights: StrPath | None = None,
    sign: StrPath | None = None,
    key_password: str | None = None,
    progress: Progress = SILENT,
) -> ExportResult:
    """Turn a checkpoint into a bundle: ONNX graphs, golden answers, and the proof that routing is dynamic.

    Args:
        checkpoint: a ``.pt`` or ``.safetensors`` file.
        bundle: the folder to write. It appears complete at the end, or not at all.
        force: replace an existing bundle, with its engines, adapters and 8-bit graphs.
        precisions: the graphs to keep, ``fp32``, ``fp16`` or both.
        attention: ``fused`` lets TensorRT make one kernel of each attention; ``unfused`` keeps it from that, for
            versions whose fused kernel answers wrongly. Answers are the same, and it takes longer.
        adapters: ``inputs`` makes what was trained (experts, routers, pooling, head) data beside the graphs, so that
            one engine serves every training of one backbone; ``constants`` makes it part of them.
        golden: a file or folder of real scans to use as golden volumes. Their images become part of the bundle. None
            uses synthetic volumes.
        golden_volumes: number of golden volumes, at least 2; None for 8 synthetic ones, or for all of `golden` or of
            `reference_answers`.
        reference_answers: the folder of ``write_reference_inputs`` with the answers of the user's own model. The
            rebuild of the checkpoint must answer as it did, within the limits of fp32; then its answers are the golden
            answers, and its scans the golden volumes.
        reference_note: the user's own words about where those answers come from, stored in the bundle.
        limits: a TOML file of parity limits, or the limits by precision; None for the defaults.
        backbone_weights: the Hugging Face folder, if the checkpoint does not contain the backbone's weights.
        sign: the secret key (``NAME.key``) that signs the bundle's release under the folder's name, with the time as
            its version; ``sign_release`` signs it with others.
        key_password: of that key, if it has one.
        progress: receives progress events.

    Raises:
        MissingDependencyError: torch or another library of the extra ``export`` is not installed.
        CheckpointError: the checkpoint can't be read or is invalid.
        ConfigError: the limits or the number of golden volumes are invalid.
        ExportError: a check of the graph failed, or too few golden scans are usable. The message names the check.
        ParityFailedError: a graph is outside its limits, or the checkpoint does not answer as the user's own model did.
        OwnModelError: the folder of `reference_answers` is incomplete or altered.
        SigningError: the key can't be read, or its password is wrong.
        UsageError: `golden` and `reference_answers` at once, a note without answers, or another word for `attention`
            or `adapters`.
        BundleError: `bundle` exists and must not be replaced, or it can't be written.
        InUseError: another process writes `bundle`.
    """
    folder, wanted = Path(bundle), tuple(Precision(each) for each in precisions)
    answers = None if reference_answers is None else Path(reference_answers)
    if golden is not None and answers is not None:
        raise UsageError("--golden and --reference-answers both name the golden volumes; give one of them")
    if attention not in (FUSED, UNFUSED):
        raise UsageError(f"--attention {shown(attention)}: expected {FUSED} or {UNFUSED}")
    if adapters not in (CONSTANTS, INPUTS):
        raise UsageError(f"--adapters {shown(adapters)}: expected {CONSTANTS} or {INPUTS}")
    check_note(reference_note, answers)
    budget = limits_by_precision(limits)
    _check_precisions(wanted)
    check_name(folder)
    key = None if sign is None else read_secret_key(Path(sign), key_password)
    with hold(folder, "molre-edge export"):
        check_free(folder, force=force)  # before minutes of work
        return _export_file(
            Path(checkpoint),
            folder,
            budget,
            wanted,
            attention,
            adapters,
            force=force,
            golden=golden,
            count=golden_volumes,
            answers=answers,
            note=reference_note,
            weights=None if backbone_weights is None else Path(backbone_weights),
            key=key,
            progress=progress,
        )


def _export_file(
    checkpoint: Path,
    folder: Path,
    limits: Mapping[Precision, ParityLimits],
    precisions: tuple[Precision, ...],
    attention: str,
    adapters: str,
    *,
    force: bool,
    golden: StrPath | None,
    count: int | None,
    answers: Path | None,
    note: str | None,
    weights: Path | None,
    key: SecretKey | None,
    progress: Progress,
) -> ExportResult:
    """Load the checkpoint, choose golden volumes, and export."""
    progress.step("loading the checkpoint")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of the libraries about themselves; every result is checked here
        try:
            import onnx  # noqa: F401
            import onnxscript  # noqa: F401
            import onnxsim  # noqa: F401

            from molre_edge.model.checkpoint import load_checkpoint
        except ImportError as error:
            raise MissingDependencyError("Exporting a checkpoint", str(error.name), "export") from error
        loaded = load_checkpoint(checkpoint, backbone_weights=weights)
        progress.step("golden volumes")
        own = None
        if answers is None:
            volumes, origin = _golden(loaded.config.grid, golden, count, progress)
        else:
            own = open_own_reference(answers, loaded.config, note=note, keep=count)
            progress.warn(_PATIENTS)
            volumes, origin = own.volumes(), f"{own.keep} scans of the user, answered by the user's own model"
        return export_bundle(
            loaded,
            folder,
            volumes,
            golden_origin=origin,
            precisions=precisions,
            attention=attention,
            adapters=adapters,
            limits=limits,
            force=force,
            own=own,
            key=key,
            progress=progress,
        )


def _golden(
    grid: Grid, scans: StrPath | None, count: int | None, progress: Progress
) -> tuple[npt.NDArray[np.float16], str]:
    """The golden volumes, and a description of their origin."""
    if scans is None:
        count = DEFAULT_GOLDEN if count is None else count
        return synthetic_volumes(grid, count), f"synthetic, {count} volumes, seed 0"
    progress.warn(_PATIENTS)
    volumes, problems = scan_volumes(Path(scans), grid, count)
    for problem in problems:
        progress.warn(f"Not used as a golden volume: {problem}")
    if len(volumes) < MIN_GOLDEN:
        raise ExportError(
            f"--golden {scans}: {len(volumes)} usable scans; expected at least {MIN_GOLDEN}, because the proof of "
            f"dynamic routing compares the gates of two scans. Add scans, or omit --golden to use synthetic volumes"
        )
    return volumes, f"{len(volumes)} scans of the user"


def export_bundle(
    checkpoint: LoadedCheckpoint,
    folder: Path,
    golden: npt.NDArray[np.float16],
    *,
    golden_origin: str,
    adapters: str,
    precisions: tuple[Precision, ...] = (Precision.FP32, Precision.FP16),
    attention: str = FUSED,
    limits: Mapping[Precision, ParityLimits] = DEFAULT_LIMITS,
    force: bool = False,
    own: OwnReference | None = None,
    key: SecretKey | None = None,
    progress: Progress = SILENT,
) -> ExportResult:
    """Export a loaded checkpoint. The bundle appears complete at the end, or not at all.

    Args:
        checkpoint: from :func:`molre_edge.model.checkpoint.load_checkpoint`.
        folder: the bundle to write.
        golden: float16 HU [n, slices, rows, cols], at least two volumes.
        golden_origin: their origin, for the manifest ("synthetic, seed 0").
        adapters: see :func:`export_checkpoint`.
        precisions: the graphs to keep. The fp32 graph is always made and checked.
        attention: see there too.
        limits: the parity limits of each precision.
        force: replace an existing bundle.
        own: the answers of the user's own model to `golden`; engines are judged by them.
        key: signs the release; None for a bundle without a signature.
        progress: receives progress events.

    Raises:
        ExportError: a check failed; the message names it.
        ParityFailedError: a graph is outside its limits, or the rebuild does not answer as the user's own model.
        OwnModelError: those answers are of other scans, findings or shapes.
        BundleError: `folder` exists and must not be replaced, or it can't be written.
    """
    from molre_edge.model.placement import count_parameters
    from molre_edge.model.trained import trained_tensors

    _check_request(golden, precisions)
    check_free(folder, force=force)
    model, config = checkpoint.model, checkpoint.config
    watch, notes, parity = _Stopwatch(progress), list[str](), dict[Precision, GraphParity]()

    watch.step("PyTorch's answers to the golden volumes")
    rebuild = reference = torch_answers(model, golden)
    whose = None
    if own is not None:
        watch.step("comparison with your own model's answers")
        agreement = own.check(rebuild, config, limits)
        reference, whose = agreement.reference, agreement.golden(own.note)

    watch.step("float32 graph (torch.export, onnxsim, checks)")
    graph = export_fp32(model, adapters)
    trained = trained_tensors(model) if adapters == INPUTS else None
    if attention == UNFUSED:
        notes.append(f"attention is {UNFUSED}: {unfuse_attention(graph)} attentions that TensorRT does not fuse")
    check_graph(graph, model, adapters)
    traces = _trace(graph, checkpoint)

    watch.step("float32 parity on ONNX Runtime")
    raw = graph.SerializeToString()
    answers = graph_answers(raw, golden, Precision.FP32, adapter=trained)
    parity[Precision.FP32] = judged(Precision.FP32, reference, answers, checkpoint, limits, whose)
    graphs = {Precision.FP32: (raw, graph_facts(graph, "graphs/fp32.onnx"))}

    watch.step("proof that routing is dynamic")
    proof = _prove(graph, traces, model, golden, rebuild, answers.alone, trained) if traces else None
    notes.extend(routing_notes(proof, config.adapter.experts))

    if Precision.FP16 in precisions:
        watch.step("float16 graph, and its parity in the mode that rounds")
        half = to_half(graph, model, trained)
        check_half(half, float32_islands(graph))
        _trace(half, checkpoint)
        del graph
        gc.collect()  # a Large backbone is gigabytes, several times over
        rounds = runtime_rounds()
        run = (rounding_copy(half) if rounds else half).SerializeToString()
        answers = graph_answers(run, golden, Precision.FP16, optimise=not rounds, adapter=trained)
        parity[Precision.FP16] = judged(Precision.FP16, reference, answers, checkpoint, limits, whose)
        notes.append(MODE if rounds else "float16 was NOT rounded between nodes: this ONNX Runtime drops the casts")
        graphs[Precision.FP16] = (half.SerializeToString(), graph_facts(half, "graphs/fp16.onnx"))

    watch.step("bundle")
    graphs = {precision: graphs[precision] for precision in precisions}
    with new_bundle(folder, force=force) as partial:
        (partial / "graphs").mkdir()
        for raw, facts in graphs.values():
            (partial / facts.file).write_bytes(raw)
        stored = len(golden) if own is None else own.keep
        answered = GoldenSet(golden[:stored], reference.take(range(stored)))
        write_golden(partial / GOLDEN_FILE, answered)
        kept = {precision: facts for precision, (_, facts) in graphs.items()}
        content = manifest_content(checkpoint, kept, attention, adapters, parity, proof, golden_origin, notes, whose)
        if adapters == INPUTS:
            fit, content["first_adapter"] = _add_first_adapter(partial, checkpoint, answered, whose)
            content["fit"] = fit.to_dict()
        digest = write_manifest(partial, content)
        if key is not None:
            write_release(partial, Bundle.open(partial, trust=NO_TRUST).manifest, key, folder.resolve().name)
    watch.stop()
    added = count_parameters(model).fraction
    return ExportResult(folder, digest, parity, proof, added, watch.seconds, tuple(notes), whose)


def _add_first_adapter(
    folder: Path, checkpoint: LoadedCheckpoint, golden: GoldenSet, own: OwnGolden | None
) -> tuple[FitFacts, str]:
    """Put the checkpoint's own adapter, which its graphs were just judged with, into a new bundle.

    Returns:
        what an adapter must be made for, and the SHA-256 of this one.
    """
    fit = fit_of(checkpoint)
    content = serialised(adapter_of(checkpoint, FIRST_ADAPTER, golden, fit, own))
    AdapterStore(folder).put(parse_adapter(content), content, ("onnxruntime, at export",))
    return fit, hashlib.sha256(content).hexdigest()


def _check_request(golden: npt.NDArray[np.float16], precisions: tuple[Precision, ...]) -> None:
    """Refuse invalid arguments before minutes of work."""
    if len(golden) < MIN_GOLDEN:
        raise ExportError(f"golden volumes: {len(golden)}; expected at least {MIN_GOLDEN}")
    _check_precisions(precisions)


def _check_precisions(precisions: tuple[Precision, ...]) -> None:
    if not precisions or not {*precisions} <= {Precision.FP32, Precision.FP16}:
        given = ", ".join(map(str, precisions)) or "none"
        raise ExportError(
            f"precisions: {given}; expected fp32, fp16 or both. 'molre-edge calibrate' makes int8 and fp8 graphs"
        )


def _trace(graph: onnx.ModelProto, checkpoint: LoadedCheckpoint) -> list[RouterTrace]:
    """The routers in the graph; none if the model has no routing (K = 0 or 1)."""
    from molre_edge.model.adapters import AdaptedLayer

    config = checkpoint.config
    if config.adapter.experts <= 1:
        return []
    return trace_routers(
        graph,
        routers=len(checkpoint.model.routers),
        layers=sum(isinstance(module, AdaptedLayer) for module in checkpoint.model.modules()),
        experts=config.adapter.experts,
        rank=config.adapter.rank,
    )


def _prove(
    graph: onnx.ModelProto,
    traces: list[RouterTrace],
    model: HeadCTClassifier,
    golden: npt.NDArray[np.float16],
    reference: Outputs,
    answers: Outputs,
    trained: Tensors | None,
) -> RoutingProof:
    tolerance = DEFAULT_LIMITS[Precision.FP32].max_routing_l1  # the default, whatever limits the user set
    assert tolerance is not None
    with even_gates(model):
        even_reference = torch_answers(model, golden[:MIN_GOLDEN])
    even_graph = with_even_gates(graph).SerializeToString()
    return prove_routing(
        traces,
        reference=reference,
        answers=answers,
        even_reference=even_reference,
        even_answers=graph_answers(even_graph, golden[:MIN_GOLDEN], Precision.FP32, batch=1, adapter=trained).alone,
        tolerance=tolerance,
    )
