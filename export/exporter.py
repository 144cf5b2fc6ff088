"""Checkpoint to bundle, one step after the other, each checked before the next."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from molre_edge.bundle.bundle import GOLDEN_FILE, check_free, new_bundle, write_manifest
from molre_edge.bundle.golden import GoldenSet, write_golden
from molre_edge.engines.onnxruntime_runner import OnnxRuntimeRunner
from molre_edge.engines.torch_runner import TorchRunner
from molre_edge.errors import ExportError, ParityFailedError
from molre_edge.export.golden import MIN_GOLDEN, batches
from molre_edge.export.graph import check_graph, export_fp32, graph_facts
from molre_edge.export.half import check_half, float32_islands, to_half
from molre_edge.export.manifest_content import GraphParity, manifest_content
from molre_edge.export.rounding import MODE, rounding_copy, runtime_rounds
from molre_edge.export.routing_proof import RoutingProof, even_gates, prove_routing, with_even_gates
from molre_edge.export.routing_trace import RouterTrace, trace_routers
from molre_edge.parity import DEFAULT_LIMITS, Outputs, ParityLimits, Verdict, compare, judge
from molre_edge.specs import Precision

if TYPE_CHECKING:
    import onnx

    from molre_edge.model.checkpoint import LoadedCheckpoint
    from molre_edge.model.classifier import HeadCTClassifier

__all__ = ["ExportResult", "export_bundle"]

Step = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class ExportResult:
    """What an export made.

    Attributes:
        folder: the bundle.
        digest: SHA-256 of its manifest.
        parity: by precision, on the golden volumes.
        proof: that routing is dynamic; None where there is none to prove (K = 0 or 1).
        added_fraction: parameters of adapters and routers over all others.
        seconds: by step.
        notes: what the report has to say about how this was judged.
    """

    folder: Path
    digest: str
    parity: Mapping[Precision, GraphParity]
    proof: RoutingProof | None
    added_fraction: float
    seconds: Mapping[str, float]
    notes: tuple[str, ...]


@dataclass
class _Stopwatch:
    """Tells which step is running and keeps what each took."""

    tell: Step
    seconds: dict[str, float] = field(default_factory=dict)
    _name: str = ""
    _start: float = 0.0

    def step(self, name: str) -> None:
        self.stop()
        self._name, self._start = name, time.perf_counter()
        self.tell(name)

    def stop(self) -> None:
        if self._name:
            self.seconds[self._name] = round(time.perf_counter() - self._start, 3)
        self._name = ""


def export_bundle(
    checkpoint: LoadedCheckpoint,
    folder: Path,
    golden: npt.NDArray[np.float16],
    *,
    golden_origin: str,
    precisions: tuple[Precision, ...] = (Precision.FP32, Precision.FP16),
    gates: Mapping[Precision, ParityLimits] = DEFAULT_LIMITS,
    force: bool = False,
    on_step: Step = lambda name: None,
) -> ExportResult:
    """Export a checkpoint. The bundle appears whole at the end, or not at all.

    Args:
        checkpoint: from :func:`molre_edge.model.checkpoint.load_checkpoint`.
        folder: where the bundle shall be.
        golden: float16 HU [n, slices, rows, cols], at least two volumes.
        golden_origin: where they come from, for the manifest ("synthetic, seed 0").
        precisions: which graphs; the fp32 graph is always made and checked, and kept where it is asked for.
        gates: the budget of each precision.
        force: replace a bundle that is there.
        on_step: is told the name of each step as it starts.

    Raises:
        ExportError: a check failed; the message names it.
        ParityFailedError: a graph is outside its gate.
        BundleError: something is in the way at `folder`.
    """
    from molre_edge.model.placement import count_parameters

    _check_request(golden, precisions)
    check_free(folder, force=force)
    model, config = checkpoint.model, checkpoint.config
    watch, notes, parity = _Stopwatch(on_step), list[str](), dict[Precision, GraphParity]()

    watch.step("PyTorch's answers to the golden volumes")
    reference = _reference(model, golden)

    watch.step("float32 graph (torch.export, onnxsim, checks)")
    graph = export_fp32(model)
    check_graph(graph, model)
    traces = _trace(graph, checkpoint)

    watch.step("float32 parity on ONNX Runtime")
    raw = graph.SerializeToString()
    answers = _answers(raw, golden, Precision.FP32)
    parity[Precision.FP32] = _judged(Precision.FP32, reference, answers, checkpoint, gates)
    graphs = {Precision.FP32: (raw, graph_facts(graph, "graphs/fp32.onnx"))}

    watch.step("proof that routing is dynamic")
    proof = _prove(graph, traces, model, golden, reference, answers) if traces else None
    notes.extend(_routing_notes(proof, config.adapter.experts))

    if Precision.FP16 in precisions:
        watch.step("float16 graph, and its parity in the mode that rounds")
        half = to_half(graph)
        check_half(half, float32_islands(graph))
        _trace(half, checkpoint)
        del graph
        gc.collect()  # a Large backbone is gigabytes, several times over
        rounds = runtime_rounds()
        judged = (rounding_copy(half) if rounds else half).SerializeToString()
        answers = _answers(judged, golden, Precision.FP16, optimise=not rounds)
        parity[Precision.FP16] = _judged(Precision.FP16, reference, answers, checkpoint, gates)
        notes.append(MODE if rounds else "float16 was NOT rounded between nodes: this ONNX Runtime drops the casts")
        graphs[Precision.FP16] = (half.SerializeToString(), graph_facts(half, "graphs/fp16.onnx"))

    watch.step("bundle")
    graphs = {precision: graphs[precision] for precision in precisions}
    with new_bundle(folder, force=force) as partial:
        (partial / "graphs").mkdir()
        for raw, facts in graphs.values():
            (partial / facts.file).write_bytes(raw)
        write_golden(partial / GOLDEN_FILE, GoldenSet(golden, reference))
        kept = {precision: facts for precision, (_, facts) in graphs.items()}
        content = manifest_content(checkpoint, kept, parity, proof, golden_origin, notes)
        digest = write_manifest(partial, content)
    watch.stop()
    return ExportResult(folder, digest, parity, proof, count_parameters(model).fraction, watch.seconds, tuple(notes))


def _check_request(golden: npt.NDArray[np.float16], precisions: tuple[Precision, ...]) -> None:
    """Refuse at once what would fail after minutes."""
    if len(golden) < MIN_GOLDEN:
        raise ExportError(f"golden volumes: expected at least {MIN_GOLDEN}, got {len(golden)}")
    if not precisions or not {*precisions} <= {Precision.FP32, Precision.FP16}:
        told = ", ".join(map(str, precisions)) or "none"
        raise ExportError(f"precisions: expected fp32, fp16 or both, got {told}; calibrate makes the int8 graph")


def _reference(model: HeadCTClassifier, golden: npt.NDArray[np.float16]) -> Outputs:
    """PyTorch's answers, one volume at a time."""
    with TorchRunner(model, device="cpu") as runner:
        return Outputs.stack([runner.run(golden[i : i + 1]).outputs for i in range(len(golden))])


def _answers(raw: bytes, golden: npt.NDArray[np.float16], precision: Precision, *, optimise: bool = True) -> Outputs:
    """The graph's answers, in batches of 1, 2 and 3."""
    with OnnxRuntimeRunner(raw, precision, optimise=optimise, cpu_only=True) as runner:
        return Outputs.stack([runner.run(golden[part]).outputs for part in batches(len(golden))])


def _judged(
    precision: Precision,
    reference: Outputs,
    answers: Outputs,
    checkpoint: LoadedCheckpoint,
    gates: Mapping[Precision, ParityLimits],
) -> GraphParity:
    config = checkpoint.config
    numbers = compare(reference, answers, findings=config.findings, thresholds=np.asarray(config.thresholds))
    verdict = judge(numbers, gates[precision])
    if not verdict.passed:
        reasons = "; ".join(check.text for check in verdict.failed)
        raise ParityFailedError(
            f"the {precision} graph is outside its gate on the golden volumes: {reasons}. "
            + _advice(precision, verdict)
        )
    return GraphParity(numbers, verdict, gates[precision])


def _advice(precision: Precision, verdict: Verdict) -> str:
    """What to do about a graph that failed; other limits are named only if they can help."""
    if precision is Precision.FP32:
        return "This is a bug of the export or of ONNX Runtime; please report the model's configuration"
    if verdict.other_limits_can_help:
        return "Export with --precision fp32 only, or set limits that fit your use with --limits"
    return "Export with --precision fp32 only: no limits allow NaN or infinity"


def _trace(graph: onnx.ModelProto, checkpoint: LoadedCheckpoint) -> list[RouterTrace]:
    """The routers in the graph; none where the model has no routing (K = 0 or 1)."""
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
) -> RoutingProof:
    tolerance = DEFAULT_LIMITS[Precision.FP32].max_routing_l1  # the default, whatever limits the user set
    assert tolerance is not None
    with even_gates(model):
        even_reference = _reference(model, golden[:MIN_GOLDEN])
    return prove_routing(
        traces,
        reference=reference,
        answers=answers,
        even_reference=even_reference,
        even_answers=_answers(with_even_gates(graph).SerializeToString(), golden[:MIN_GOLDEN], Precision.FP32),
        tolerance=tolerance,
    )


def _routing_notes(proof: RoutingProof | None, experts: int) -> list[str]:
    if proof is None:
        return [f"no routing to prove: the model has {'one expert' if experts else 'no experts'}"]
    notes = []
    if proof.logit_effect < 1e-6:
        notes.append("the experts do not move any logit yet: their up projections are zero, or nearly so")
    if proof.unmoved:
        which = ", ".join(map(str, proof.unmoved))
        notes.append(f"of routers {which} the numbers show nothing: they gave all golden volumes the same gates")
    return notes
