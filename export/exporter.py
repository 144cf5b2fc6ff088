"""Checkpoint to bundle, one step after the other, each checked before the next."""

from __future__ import annotations

import gc
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from molre_edge import __version__
from molre_edge.bundle import GoldenSet, GraphFacts, check_free, new_bundle, write_golden, write_manifest
from molre_edge.engines.onnxruntime_runner import OnnxRuntimeRunner
from molre_edge.engines.torch_runner import TorchRunner
from molre_edge.errors import ExportError, ParityFailedError
from molre_edge.export.golden import batches
from molre_edge.export.graph import check_graph, export_fp32, graph_facts
from molre_edge.export.half import to_half
from molre_edge.export.rounding import MODE, rounding_copy, runtime_rounds
from molre_edge.export.routing_proof import RoutingProof, prove_routing, trace_routers, with_even_gates
from molre_edge.parity import GATES, Gate, Outputs, ParityNumbers, Verdict, compare, judge
from molre_edge.specs import Precision

if TYPE_CHECKING:
    import onnx

    from molre_edge.model.checkpoint import LoadedCheckpoint

__all__ = ["ExportResult", "GraphParity", "export_bundle"]

Step = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class GraphParity:
    """One graph against PyTorch on the golden volumes."""

    numbers: ParityNumbers
    verdict: Verdict
    gate: Gate


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
    gates: Mapping[Precision, Gate] = GATES,
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
    check_free(folder, force=force)
    model, config = checkpoint.model, checkpoint.config
    watch, notes, parity = _Stopwatch(on_step), list[str](), dict[Precision, GraphParity]()

    watch.step("PyTorch's answers to the golden volumes")
    with TorchRunner(model, device="cpu") as runner:
        reference = Outputs.stack([runner.run(golden[i : i + 1]).outputs for i in range(len(golden))])

    watch.step("float32 graph (torch.export, onnxsim, checks)")
    graph = export_fp32(model)
    check_graph(graph, model)

    watch.step("float32 parity on ONNX Runtime")
    raw = graph.SerializeToString()
    answers = _answers(raw, golden, Precision.FP32)
    parity[Precision.FP32] = _judged(Precision.FP32, reference, answers, checkpoint, gates)
    graphs = {Precision.FP32: (raw, graph_facts(graph, "graphs/fp32.onnx"))}

    watch.step("proof that routing is dynamic")
    proof = _prove(graph, checkpoint, golden, reference, answers, gates[Precision.FP32])
    if proof is None:
        notes.append(f"no routing to prove: the model has {config.adapter.experts or 'no'} experts")
    elif proof.logit_effect < 1e-6:
        notes.append("the experts do not move any logit yet: their up projections are zero, or nearly so")

    if Precision.FP16 in precisions:
        watch.step("float16 graph, and its parity in the mode that rounds")
        half = to_half(graph)
        del graph
        gc.collect()  # a Large backbone is gigabytes, several times over
        _check_half(half)
        rounds = runtime_rounds()
        judged = (rounding_copy(half) if rounds else half).SerializeToString()
        answers = _answers(judged, golden, Precision.FP16, optimise=not rounds)
        parity[Precision.FP16] = _judged(Precision.FP16, reference, answers, checkpoint, gates)
        notes.append(MODE if rounds else "float16 was NOT rounded between nodes: this ONNX Runtime drops the casts")
        if proof is not None:
            _trace(half, checkpoint)
        graphs[Precision.FP16] = (half.SerializeToString(), graph_facts(half, "graphs/fp16.onnx"))

    watch.step("bundle")
    graphs = {precision: graphs[precision] for precision in precisions}
    with new_bundle(folder, force=force) as partial:
        (partial / "graphs").mkdir()
        for raw, facts in graphs.values():
            (partial / facts.file).write_bytes(raw)
        write_golden(partial, GoldenSet(golden, reference))
        content = _manifest(checkpoint, {p: f for p, (_, f) in graphs.items()}, parity, proof, golden_origin, notes)
        digest = write_manifest(partial, content)
    watch.stop()
    return ExportResult(folder, digest, parity, proof, _added_fraction(checkpoint), watch.seconds, tuple(notes))


def _answers(raw: bytes, golden: npt.NDArray[np.float16], precision: Precision, *, optimise: bool = True) -> Outputs:
    """The graph's answers, in batches of 1, 2 and 3."""
    with OnnxRuntimeRunner(raw, precision, optimise=optimise, cpu_only=True) as runner:
        return Outputs.stack([runner.run(golden[part]).outputs for part in batches(len(golden))])


def _judged(
    precision: Precision,
    reference: Outputs,
    answers: Outputs,
    checkpoint: LoadedCheckpoint,
    gates: Mapping[Precision, Gate],
) -> GraphParity:
    config = checkpoint.config
    numbers = compare(reference, answers, findings=config.findings, thresholds=np.asarray(config.thresholds))
    verdict = judge(numbers, gates[precision])
    if not verdict.passed:
        reasons = "; ".join(check.text for check in verdict.failed)
        raise ParityFailedError(
            f"the {precision} graph is outside its gate on the golden volumes: {reasons}. "
            + (
                "Export with --precision fp32 only, or set a gate that fits your use with --gates"
                if precision is Precision.FP16
                else "This is a bug of the export or of ONNX Runtime; please report the model's configuration"
            )
        )
    return GraphParity(numbers, verdict, gates[precision])


def _trace(graph: onnx.ModelProto, checkpoint: LoadedCheckpoint) -> Any:
    from molre_edge.model.adapters import AdaptedLayer

    config = checkpoint.config
    return trace_routers(
        graph,
        routers=len(checkpoint.model.routers),
        layers=sum(isinstance(module, AdaptedLayer) for module in checkpoint.model.modules()),
        experts=config.adapter.experts,
        rank=config.adapter.rank,
    )


def _prove(
    graph: onnx.ModelProto,
    checkpoint: LoadedCheckpoint,
    golden: npt.NDArray[np.float16],
    reference: Outputs,
    answers: Outputs,
    gate: Gate,
) -> RoutingProof | None:
    if checkpoint.config.adapter.experts <= 1:
        return None
    traces = _trace(graph, checkpoint)
    even = _answers(with_even_gates(graph).SerializeToString(), golden[:2], Precision.FP32)
    return prove_routing(
        traces,
        reference=reference,
        graph_answers=answers,
        even_logits=even.logits,
        tolerance=gate.max_gate_l1 if gate.max_gate_l1 is not None else 2.0,
    )


def _check_half(graph: onnx.ModelProto) -> None:
    """Check that the graph is what its name says: a valid model whose large products read float16 weights."""
    import onnx

    try:
        onnx.checker.check_model(graph, full_check=True)
    except Exception as error:
        raise ExportError(f"the ONNX checker refuses the float16 graph: {error}") from error
    kinds = {tensor.name: tensor.data_type for tensor in graph.graph.initializer}
    large = [
        node.name
        for node in graph.graph.node
        if node.op_type in {"MatMul", "Conv"} and any(kinds.get(name) == onnx.TensorProto.FLOAT for name in node.input)
    ]
    if large:
        raise ExportError(f"the float16 graph has {len(large)} products with float32 weights, such as {large[0]}")
    if graph.graph.input[0].type.tensor_type.elem_type != onnx.TensorProto.FLOAT16:
        raise ExportError("the float16 graph does not take its volume in float16")


def _added_fraction(checkpoint: LoadedCheckpoint) -> float:
    from molre_edge.model.placement import count_parameters

    return count_parameters(checkpoint.model).fraction


def _manifest(
    checkpoint: LoadedCheckpoint,
    graphs: Mapping[Precision, GraphFacts],
    parity: Mapping[Precision, GraphParity],
    proof: RoutingProof | None,
    golden_origin: str,
    notes: list[str],
) -> dict[str, Any]:
    from molre_edge.model.placement import count_parameters

    config = checkpoint.config
    count = count_parameters(checkpoint.model)
    plain = config.to_dict()
    return {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "tool": {"molre-edge": __version__, "python": platform.python_version(), **_versions()},
        "checkpoint": {"sha256": checkpoint.sha256},
        "config": plain,
        "grid": plain["grid"],
        "findings": plain["findings"],
        "thresholds": plain["thresholds"],
        "parameters": {"added": count.added, "rest": count.rest, "added_fraction": count.fraction},
        "graphs": {str(precision): facts.to_dict() for precision, facts in graphs.items()},
        "golden": {"origin": golden_origin},
        "routing": None if proof is None else proof.to_dict(),
        "parity": {
            str(precision): {
                "gate": result.gate.to_dict(),
                "verdict": result.verdict.to_dict(),
                "volumes": result.numbers.n,
            }
            for precision, result in parity.items()
        },
        "notes": notes,
    }


def _versions() -> dict[str, str]:
    names = ("torch", "transformers", "onnx", "onnxscript", "onnxsim", "onnxruntime", "numpy")
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # an ONNX Runtime for GPUs goes by another name
            continue
    return found
