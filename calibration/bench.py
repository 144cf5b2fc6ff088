"""The bench on which candidate graphs are measured and judged: volumes, and the answers that they are held against."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from molre_edge.bundle import Bundle
from molre_edge.calibration.data import VALIDATION_SLICES, Sample, volumes
from molre_edge.calibration.judge import answers, strain, tighter
from molre_edge.calibration.layers import Layer, attentions
from molre_edge.calibration.quantise import int8_graph, with_qdq
from molre_edge.engines.onnxruntime_runner import OnnxRuntimeRunner
from molre_edge.errors import BundleError
from molre_edge.export.half import to_half
from molre_edge.export.rounding import rounding_copy, runtime_rounds
from molre_edge.export.routing_trace import RouterTrace, trace_routers
from molre_edge.parity import Gate, Outputs, ParityNumbers, Verdict, compare, judge
from molre_edge.specs import Precision

if TYPE_CHECKING:
    import onnx

__all__ = ["Bench", "Judged", "Judgement"]

PYTORCH = "PyTorch's golden answers"
STAND_IN = "the float32 graph"
_AS_USED = "as ONNX Runtime runs it"
_MEASURED_GOLDEN_SLICES = 8  # of the golden volumes, beside the scans, while sensitivity is measured


@dataclass(frozen=True, eq=False)
class Judged:
    """One comparison of a graph.

    Attributes:
        what: on which volumes, in words.
        reference: what answered for the reference, in words.
        numbers: measured.
        verdict: by the gate that applied.
    """

    what: str
    reference: str
    numbers: ParityNumbers
    verdict: Verdict


@dataclass(frozen=True, eq=False)
class Judgement:
    """All comparisons of a graph; it passes when each does."""

    parts: tuple[Judged, ...]

    @property
    def passed(self) -> bool:
        """Whether every comparison kept the gate."""
        return all(part.verdict.passed for part in self.parts)

    def of_golden(self, gate: Gate) -> dict[str, Any]:
        """What the manifest says of the graph's parity: on the golden volumes, as for the other graphs."""
        golden = self.parts[0]
        return {"gate": gate.to_dict(), "verdict": golden.verdict.to_dict(), "volumes": golden.numbers.n}


@dataclass(frozen=True, eq=False)
class _Evidence:
    """Volumes, one at a time and as often as asked for, and what is known of them.

    Attributes:
        volumes: gives float16 HU [1, slices, rows, cols] each.
        reference: the answers that a graph's are held against.
        labels: float64 [n, findings], NaN where unknown; None where nothing is.
    """

    volumes: Callable[[], Iterable[npt.NDArray[np.float16]]]
    reference: Outputs
    labels: npt.NDArray[np.float64] | None = None


class Bench:
    """Measures and judges graphs of one bundle.

    Decisions are counted over golden volumes and scans together: on a few scans alone a single one that flips would
    already be more than the gate allows.

    Attributes:
        graph: float32.
        traces: its routers.
        volumes: the first scans on which the search judges, float16 HU [n, slices, rows, cols].
        gate: the budget.
        last: the last judgement.
        mode: in words, how float16 and INT8 are judged.
    """

    def __init__(
        self, bundle: Bundle, scans: Sequence[Sample], gate: Gate, headroom: float, *, threads: int | None = None
    ) -> None:
        """Load the graph and the first scans, and ask the float32 graph for its answers."""
        import onnx

        self._bundle, self._scans, self._threads = bundle, tuple(scans), threads
        self.gate, self._searched = gate, tighter(gate, headroom)
        self._raw = bundle.read(bundle.graph(Precision.FP32).file)
        try:
            self.graph: onnx.ModelProto = onnx.load_from_string(self._raw)
        except Exception as error:  # protobuf's errors have no common base
            raise BundleError(f"{bundle.folder}: its float32 graph is no ONNX model; export it again") from error
        self.traces = self._traced(self.graph)
        self.attentions = len(attentions(self.graph))
        self._golden = bundle.golden()
        slices = bundle.grid.slices
        few = self._scans[: max(1, VALIDATION_SLICES // slices)]
        self.volumes: npt.NDArray[np.float16] = np.concatenate(list(volumes(few, bundle.grid)))
        stand_in = self._timed_fp32()
        self._measured = self._beside(_MEASURED_GOLDEN_SLICES // slices, stand_in)
        self._few = self._beside(max(2, VALIDATION_SLICES // slices), stand_in)
        self._rounds = runtime_rounds()
        self.mode = "node by node, each float16 value rounded" if self._rounds else "node by node, float16 NOT rounded"
        self.last: Judgement | None = None

    @property
    def count(self) -> int:
        """Volumes that each measurement runs on."""
        return len(self._measured.reference)

    def most_passes(self, measured: int, judged: int) -> int:
        """How often a volume goes through a graph in a search, at most, and in one confirmation after it.

        Args:
            measured: graphs whose strain is measured.
            judged: graphs that are judged: in both modes, and with labels on everything.
        """
        everything = len(self._golden.volumes) + len(self._scans)
        labelled = any(sample.labels is not None for sample in self._scans)
        judgement = 2 * len(self._few.reference) + (everything if labelled else 0)
        return measured * self.count + judged * judgement + len(self._scans) + 2 * everything

    def expected_seconds(self, calibration: int, measured: int, judged: int) -> float:
        """What all is expected to take, from the float32 graph's time; Q/DQ node by node is slower."""
        loads = measured + 3 * judged
        passes = 1.5 * calibration + 2.5 * self.most_passes(measured, judged)
        return loads * self._load_seconds + passes * self._seconds

    def strain(self, chosen: Sequence[Layer], limits: Mapping[str, float]) -> float:
        """Share of the gate that INT8 in some layers uses, by itself: all else in float32."""
        made = self._answers(with_qdq(self.graph, chosen, limits), self._measured)
        return strain(self._compare(self._measured.reference, made), self.gate)

    def judge(self, chosen: Sequence[Layer], limits: Mapping[str, float]) -> Judgement:
        """Judge a set of layers as the search does: within the headroom, the cheapest first, until one fails."""
        graph = self._int8(chosen, limits)
        exact = self._exact(graph)
        parts = [self._judged("golden volumes and scans", self._few, exact, self._searched)]
        if parts[-1].verdict.passed:
            parts.append(self._judged(_AS_USED, self._few, graph, self._searched, optimise=True))
        if parts[-1].verdict.passed and self._everything.labels is not None:
            parts.append(self._judged("all golden volumes and scans", self._everything, exact, self._searched))
        self.last = Judgement(tuple(parts))
        return self.last

    def confirm(self, chosen: Sequence[Layer], limits: Mapping[str, float]) -> tuple[onnx.ModelProto, Judgement]:
        """Judge a set by the gate itself, on all golden volumes and all scans, node by node and as users run it."""
        graph = self._int8(chosen, limits)
        parts = []
        count = len(self._golden.volumes)
        for how, model, optimise in (("node by node", self._exact(graph), False), (_AS_USED, graph, True)):
            made = self._answers(model, self._everything, optimise=optimise)
            golden = self._compare(self._golden.outputs, _head(made, count))
            everything = self._compare(self._everything.reference, made, self._everything.labels)
            for what, who, numbers in (
                (f"golden volumes, {how}", PYTORCH, golden),
                (f"golden volumes and scans, {how}", f"{PYTORCH} and, for the scans, {STAND_IN}", everything),
            ):
                parts.append(Judged(what, who, numbers, judge(numbers, self.gate)))
        self.last = Judgement(tuple(parts))
        return graph, self.last

    def half(self) -> bytes:
        """The float16 graph, for its size and time: the bundle's, or one made for the purpose."""
        if Precision.FP16 in self._bundle.graphs:
            return self._bundle.read(self._bundle.graph(Precision.FP16).file)
        raw: bytes = to_half(self.graph).SerializeToString()
        return raw

    @cached_property
    def _everything(self) -> _Evidence:
        """All golden volumes, then all scans kept for judging; those are read as they are needed."""
        golden = self._golden
        stand_in = self._fp32(volumes(self._scans, self._bundle.grid))
        labels = _labels(self._scans, len(self._bundle.findings))
        if labels is not None:
            labels = np.concatenate([np.full(golden.outputs.logits.shape, np.nan), labels])
        return _Evidence(
            lambda: chain(_one_by_one(golden.volumes), volumes(self._scans, self._bundle.grid)),
            Outputs.stack([golden.outputs, stand_in]),
            labels,
        )

    def _beside(self, count: int, stand_in: Outputs) -> _Evidence:
        """The first golden volumes, then the first scans."""
        golden = self._golden
        reference = Outputs.stack([_head(golden.outputs, count), stand_in]) if count else stand_in
        return _Evidence(lambda: chain(_one_by_one(golden.volumes[:count]), _one_by_one(self.volumes)), reference)

    def _int8(self, chosen: Sequence[Layer], limits: Mapping[str, float]) -> onnx.ModelProto:
        graph = int8_graph(self.graph, chosen, limits)
        self._traced(graph)
        return graph

    def _judged(
        self, what: str, evidence: _Evidence, graph: onnx.ModelProto, gate: Gate, *, optimise: bool = False
    ) -> Judged:
        made = self._answers(graph, evidence, optimise=optimise)
        numbers = self._compare(evidence.reference, made, evidence.labels)
        return Judged(what, f"{PYTORCH} and, for the scans, {STAND_IN}", numbers, judge(numbers, gate))

    def _compare(
        self, reference: Outputs, made: Outputs, labels: npt.NDArray[np.float64] | None = None
    ) -> ParityNumbers:
        bundle = self._bundle
        return compare(reference, made, findings=bundle.findings, thresholds=bundle.thresholds, labels=labels)

    def _exact(self, graph: onnx.ModelProto) -> onnx.ModelProto:
        return rounding_copy(graph) if self._rounds else graph

    def _answers(self, graph: onnx.ModelProto, evidence: _Evidence, *, optimise: bool = False) -> Outputs:
        return answers(graph, evidence.volumes(), optimise=optimise, threads=self._threads)

    def _fp32(self, scans: Iterable[npt.NDArray[np.float16]]) -> Outputs:
        return answers(self._raw, scans, precision=Precision.FP32, optimise=True, threads=self._threads)

    def _timed_fp32(self) -> Outputs:
        """The float32 graph's answers to the first scans; what loading and one volume take is kept."""
        start = time.perf_counter()
        with OnnxRuntimeRunner(self._raw, Precision.FP32, cpu_only=True, threads=self._threads) as runner:
            self._load_seconds = time.perf_counter() - start
            results = [runner.run(volume) for volume in _one_by_one(self.volumes)]
        self._seconds = min(result.milliseconds["compute"] for result in results) / 1e3  # the first is cold
        return Outputs.stack([result.outputs for result in results])

    def _traced(self, graph: onnx.ModelProto) -> list[RouterTrace]:
        """The proof that routing is dynamic in this graph too; none where there is none to prove."""
        routing = self._bundle.manifest.get("routing")
        if not routing:
            return []
        try:
            adapter = self._bundle.manifest["config"]["adapter"]
            routers, layers = len(routing["routers"]), int(routing["adapted_layers"])
            experts, rank = int(adapter["experts"]), int(adapter["rank"])
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"{self._bundle.folder}: its manifest is damaged (routing); export it again") from error
        return trace_routers(graph, routers=routers, layers=layers, experts=experts, rank=rank)


def _one_by_one(batch: npt.NDArray[np.float16]) -> Iterable[npt.NDArray[np.float16]]:
    return (batch[i : i + 1] for i in range(len(batch)))


def _head(outputs: Outputs, count: int) -> Outputs:
    gates = None if outputs.gates is None else outputs.gates[:count]
    return Outputs(outputs.logits[:count], outputs.embedding[:count], gates)


def _labels(scans: Sequence[Sample], findings: int) -> npt.NDArray[np.float64] | None:
    if all(sample.labels is None for sample in scans):
        return None
    unknown = np.full(findings, np.nan)
    return np.stack([unknown if sample.labels is None else sample.labels for sample in scans])
