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

from molre_edge.bundle.bundle import Bundle
from molre_edge.calibration.data import VALIDATION_SLICES, Sample, VolumeReader
from molre_edge.calibration.judge import answers, of_few, strain, tighter
from molre_edge.calibration.layers import Layer, attentions
from molre_edge.calibration.quantise import int8_graph, with_qdq
from molre_edge.engines.onnxruntime_runner import OnnxRuntimeRunner
from molre_edge.errors import BundleError
from molre_edge.export.half import to_half
from molre_edge.export.rounding import rounding_copy, runtime_rounds
from molre_edge.export.routing_trace import RouterTrace, trace_routers
from molre_edge.parity import Outputs, ParityLimits, ParityNumbers, Verdict, compare, judge
from molre_edge.specs import Precision

if TYPE_CHECKING:
    import onnx

__all__ = ["Bench", "Judged", "Judgement", "Passes"]

PYTORCH = "PyTorch's golden answers"
STAND_IN = "the float32 graph"
_BOTH = f"{PYTORCH} and, for the scans, {STAND_IN}"
_AS_USED = "as ONNX Runtime runs it"
_COLLECTING = 1.5  # float32 passes that collecting ranges takes as long as
_QDQ_EXACT, _QDQ_AS_USED = 1.5, 2.5  # and an int8 one, of float16 node by node and of float32: measured on small models
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

    @property
    def failed(self) -> bool:
        """Whether a limit was missed. Where nothing can be judged, as AUC on golden volumes, none is."""
        return bool(self.verdict.failed)


@dataclass(frozen=True, eq=False)
class Judgement:
    """All comparisons of a graph; it passes when none misses a limit and one was held against a limit at least."""

    parts: tuple[Judged, ...]

    @property
    def passed(self) -> bool:
        """Whether the gate was kept."""
        return not any(part.failed for part in self.parts) and any(part.verdict.passed for part in self.parts)

    def of_golden(self, gate: ParityLimits) -> dict[str, Any]:
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


@dataclass(frozen=True)
class Passes:
    """How often a volume goes through a graph.

    Attributes:
        loads: graphs that are loaded for these, those that say nothing of a volume too.
        fp32: the float32 graph.
        exact: an int8 graph node by node.
        as_used: an int8 graph as ONNX Runtime runs it.
        read: scans read from disk for these.
    """

    loads: int
    fp32: int
    exact: int
    as_used: int
    read: int


class Bench:
    """Measures and judges graphs of one bundle.

    While it searches, decisions are counted over golden volumes and scans together, and a single one may flip: of so
    few it can already be more than the gate allows. Of all scans together the gate holds as it is.

    Attributes:
        graph: float32.
        traces: its routers.
        reader: of the scans.
        volumes: the first scans on which the search judges, float16 HU [n, slices, rows, cols].
        gate: the budget.
        last: the last judgement.
        mode: in words, how float16 and INT8 are judged.
    """

    def __init__(
        self,
        bundle: Bundle,
        scans: Sequence[Sample],
        gate: ParityLimits,
        headroom: float,
        *,
        others: Sequence[Sample] = (),
        threads: int | None = None,
    ) -> None:
        """Load the graph and the first scans, and ask the float32 graph for its answers.

        Args:
            bundle: with a float32 graph.
            scans: kept for judging; at least one.
            gate: the budget.
            headroom: see :class:`CalibrationSettings`.
            others: the scans that gave the ranges, and those that were not needed. The confirmation judges on them too,
                since ``infer`` on the same folder will.
            threads: of ONNX Runtime.

        Raises:
            BundleError: the graph is none, or the manifest is damaged.
        """
        import onnx

        self._bundle, self._scans, self._others, self._threads = bundle, tuple(scans), tuple(others), threads
        self.gate, self._searched = gate, tighter(gate, headroom)
        self._raw = bundle.read(bundle.graph(Precision.FP32).file)
        try:
            self.graph: onnx.ModelProto = onnx.load_from_string(self._raw)
        except Exception as error:  # protobuf's errors have no common base
            raise BundleError(f"{bundle.folder}: its float32 graph is no ONNX model; export it again") from error
        self.traces = self._traced(self.graph)
        self.attentions = len(attentions(self.graph))
        self._golden = bundle.golden()
        self.reader = VolumeReader(bundle.grid)
        slices = bundle.grid.slices
        few = self._scans[: max(1, VALIDATION_SLICES // slices)]
        start = time.perf_counter()
        self.volumes: npt.NDArray[np.float16] = np.concatenate(list(self.reader.read(few)))
        self._seconds_read = (time.perf_counter() - start) / len(few)
        stand_in = self._timed_fp32()
        self._measured = self._beside(max(1, _MEASURED_GOLDEN_SLICES // slices), stand_in)
        self._few = self._beside(max(2, VALIDATION_SLICES // slices), stand_in)
        self._rounds = runtime_rounds()
        self.mode = "node by node, each float16 value rounded" if self._rounds else "node by node, float16 NOT rounded"
        self._time_exact()
        self.last: Judgement | None = None

    @property
    def _labelled(self) -> bool:
        return any(sample.labels is not None for sample in self._scans)

    @property
    def count(self) -> int:
        """Volumes that each measurement runs on."""
        return len(self._measured.reference)

    def most_passes(self, measured: int, judged: int) -> Passes:
        """How often a volume goes through a graph in a search, at most, and in one confirmation after it.

        Args:
            measured: graphs whose strain is measured.
            judged: graphs that are judged: in both modes, and with labels on everything that gave no ranges.
        """
        golden, scans, others = len(self._golden.volumes), len(self._scans), len(self._others)
        few, everything = len(self._few.reference), golden + scans + others
        times = 4  # for the ranges, for the reference and twice in the confirmation
        return Passes(
            loads=1 + measured + (3 if self._labelled else 2) * judged + 4,
            fp32=scans + others,
            exact=measured * self.count + judged * (few + (golden + scans if self._labelled else 0)) + everything,
            as_used=judged * few + everything,
            read=self.reader.passes(scans + others, times + (judged if self._labelled else 0)),
        )

    def expected_seconds(self, calibration: int, measured: int, judged: int) -> float:
        """What all is expected to take, from what the float32 graph and the float16 graph node by node took."""
        passes = self.most_passes(measured, judged)
        return (
            passes.loads * self._seconds_load
            + (passes.fp32 + _COLLECTING * calibration) * self._seconds
            + _QDQ_EXACT * passes.exact * self._seconds_exact
            + _QDQ_AS_USED * passes.as_used * self._seconds
            + passes.read * self._seconds_read
        )

    def perfect(self) -> Verdict:
        """The gate's verdict on the reference itself: it passes if anything that the gate limits can be judged here."""
        held_out = self._held_out
        return judge(self._compare(held_out.reference, held_out.reference, held_out.labels), self.gate)

    def strain(self, chosen: Sequence[Layer], limits: Mapping[str, float]) -> float:
        """Share of the gate that INT8 in some layers uses, by itself: all else in float32."""
        made = self._answers(with_qdq(self.graph, chosen, limits), self._measured)
        return strain(self._compare(self._measured.reference, made), self.gate)

    def judge(self, chosen: Sequence[Layer], limits: Mapping[str, float]) -> Judgement:
        """Judge a set of layers as the search does: within the headroom, the cheapest first, until one fails."""
        graph = self._int8(chosen, limits)
        exact = self._exact(graph)
        tries = [
            ("golden volumes and scans", self._few, exact, False),
            (f"golden volumes and scans, {_AS_USED}", self._few, graph, True),
        ]
        if self._labelled:
            tries.append(("all golden volumes and scans", self._held_out, exact, False))
        parts: list[Judged] = []
        for what, evidence, model, optimise in tries:
            made = self._answers(model, evidence, optimise=optimise)
            few = self._of_few(self._searched, made)
            parts.append(self._hold(what, _BOTH, evidence.reference, made, evidence.labels, few))
            if parts[-1].failed:
                break
        self.last = Judgement(tuple(parts))
        return self.last

    def confirm(self, chosen: Sequence[Layer], limits: Mapping[str, float]) -> tuple[onnx.ModelProto, Judgement]:
        """Judge a set by the gate itself: on the golden volumes, with the scans kept for judging, and on all scans.

        Node by node and as users run it, until a comparison fails. All scans by themselves, each as often as it is
        there, are what ``infer`` judges when it is given the same folder; golden volumes don't dilute a flip there.
        """
        graph = self._int8(chosen, limits)
        parts = self._confirmed("node by node", self._exact(graph), False)
        if not any(part.failed for part in parts):
            parts += self._confirmed(_AS_USED, graph, True)
        self.last = Judgement(tuple(parts))
        return graph, self.last

    def _confirmed(self, how: str, model: onnx.ModelProto, optimise: bool) -> list[Judged]:
        golden, held_out = len(self._golden.volumes), self._held_out
        made = self._answers(model, held_out, optimise=optimise)
        parts = [
            self._hold(f"golden volumes, {how}", PYTORCH, self._golden.outputs, made.take(range(golden))),
            self._hold(
                f"golden volumes and scans without a part in the ranges, {how}",
                _BOTH,
                held_out.reference,
                made,
                held_out.labels,
                self._of_few(self.gate, made),
            ),
        ]
        if any(part.failed for part in parts):
            return parts
        scans = range(golden, len(made))
        made, reference = made.take(scans), held_out.reference.take(scans)
        if self._others:
            made = Outputs.stack([made, self._answers(model, self._rest, optimise=optimise)])
            reference = Outputs.stack([reference, self._rest.reference])
        every = [i for i, sample in enumerate((*self._scans, *self._others)) for _ in range(sample.copies)]
        labels = _labels((*self._scans, *self._others), len(self._bundle.findings))
        what = f"all {len(every)} scans, {how}"
        known = None if labels is None else labels[every]
        return [*parts, self._hold(what, STAND_IN, reference.take(every), made.take(every), known)]

    def _of_few(self, gate: ParityLimits, made: Outputs) -> ParityLimits:
        return of_few(gate, len(made) * len(self._bundle.findings))

    def _hold(
        self,
        what: str,
        who: str,
        reference: Outputs,
        made: Outputs,
        labels: npt.NDArray[np.float64] | None = None,
        gate: ParityLimits | None = None,
    ) -> Judged:
        """Hold answers against the reference's; by the gate itself unless another is named."""
        numbers = self._compare(reference, made, labels)
        return Judged(what, who, numbers, judge(numbers, gate or self.gate))

    def half(self) -> bytes:
        """The float16 graph, for its size and time: the bundle's, or one made for the purpose."""
        if Precision.FP16 in self._bundle.graphs:
            return self._bundle.read(self._bundle.graph(Precision.FP16).file)
        raw: bytes = to_half(self.graph).SerializeToString()
        return raw

    @cached_property
    def _held_out(self) -> _Evidence:
        """All golden volumes, then all scans kept for judging; those are read as they are needed."""
        golden = self._golden
        stand_in = self._fp32(self.reader.read(self._scans))
        labels = _labels(self._scans, len(self._bundle.findings))
        if labels is not None:
            labels = np.concatenate([np.full(golden.outputs.logits.shape, np.nan), labels])
        return _Evidence(
            lambda: chain(_one_by_one(golden.volumes), self.reader.read(self._scans)),
            Outputs.stack([golden.outputs, stand_in]),
            labels,
        )

    @cached_property
    def _rest(self) -> _Evidence:
        """The other scans, which the search does not judge on."""
        return _Evidence(lambda: self.reader.read(self._others), self._fp32(self.reader.read(self._others)))

    def _beside(self, count: int, stand_in: Outputs) -> _Evidence:
        """The first golden volumes, then the first scans."""
        golden = self._golden
        first = range(min(count, len(golden.outputs)))
        reference = Outputs.stack([golden.outputs.take(first), stand_in]) if first else stand_in
        return _Evidence(lambda: chain(_one_by_one(golden.volumes[:count]), _one_by_one(self.volumes)), reference)

    def _int8(self, chosen: Sequence[Layer], limits: Mapping[str, float]) -> onnx.ModelProto:
        graph = int8_graph(self.graph, chosen, limits)
        self._traced(graph)
        return graph

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
            self._seconds_load = time.perf_counter() - start
            results = [runner.run(volume) for volume in _one_by_one(self.volumes)]
        self._seconds = min(result.milliseconds["compute"] for result in results) / 1e3  # the first is cold
        return Outputs.stack([result.outputs for result in results])

    def _time_exact(self) -> None:
        """What one volume takes node by node: the float16 graph stands in, since no int8 graph is there yet."""
        import onnx

        graph = self._exact(onnx.load_from_string(self.half())).SerializeToString()
        with OnnxRuntimeRunner(graph, Precision.FP16, optimise=False, cpu_only=True, threads=self._threads) as runner:
            results = [runner.run(self.volumes[:1]) for _ in range(2)]
        self._seconds_exact = min(result.milliseconds["compute"] for result in results) / 1e3

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


def _labels(scans: Sequence[Sample], findings: int) -> npt.NDArray[np.float64] | None:
    if all(sample.labels is None for sample in scans):
        return None
    unknown = np.full(findings, np.nan)
    return np.stack([unknown if sample.labels is None else sample.labels for sample in scans])
