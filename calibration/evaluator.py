"""The evaluator: measures and judges candidate 8-bit graphs of one bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from molre_edge.adapters.tensors import Tensors
from molre_edge.bundle.bundle import Bundle
from molre_edge.calibration.evidence import BOTH, GOLDEN, STAND_IN, Evidence, EvidenceSets
from molre_edge.calibration.indexed_model import IndexedModel
from molre_edge.calibration.judgement import Comparison, Judgement
from molre_edge.calibration.layers import Layer
from molre_edge.calibration.quantised_graph import Quantiser
from molre_edge.calibration.routing_proof import RoutingShape
from molre_edge.calibration.samples import Split
from molre_edge.calibration.search_limits import allow_one_flip, scale_limits, sensitivity
from molre_edge.calibration.settings import CalibrationSettings
from molre_edge.engines.onnxruntime_runner import OnnxRuntimeRunner
from molre_edge.errors import BundleError
from molre_edge.export.half import to_half
from molre_edge.export.rounding import rounding_copy, runtime_rounds
from molre_edge.parity import Outputs, ParityLimits, ParityNumbers, Verdict, compare, judge
from molre_edge.specs import Precision

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import onnx

__all__ = ["Evaluator"]

_AS_USED = "as ONNX Runtime runs it"


class Evaluator:
    """Measures and judges candidate 8-bit graphs of one bundle.

    A search counts decisions over golden volumes and scans together, and one of them may flip: of so few, one flip may
    already exceed the limit. On all scans together the limit itself holds.

    Attributes:
        model: the float32 graph.
        traces: of its routers.
        evidence: the volumes to compare on.
        limits: the user's parity limits.
        mode: the way in which float16 and 8 bits are judged, in words.
    """

    def __init__(
        self,
        bundle: Bundle,
        split: Split,
        limits: ParityLimits,
        settings: CalibrationSettings,
        *,
        threads: int | None = None,
        adapter: Tensors | None = None,
    ) -> None:
        """Load the float32 graph and the first scans, and run the graph on them.

        Args:
            bundle: has a float32 graph.
            split: the scans. The search judges on those kept for judging; the confirmation judges on all, because
                ``infer`` on the same folder will.
            limits: the parity limits.
            settings: the shares of the limits that a search and a confirmation may use.
            threads: CPU threads of ONNX Runtime.
            adapter: the trained tensors, for graphs that take them as inputs.

        Raises:
            BundleError: there is no float32 graph, it is not an ONNX model, or the manifest is damaged.
        """
        self._bundle, self._threads, self._adapter = bundle, threads, adapter
        self.limits = limits
        self._search_limits = scale_limits(limits, settings.search_share)
        self._confirm_limits = scale_limits(limits, settings.confirm_share)
        raw = bundle.read(bundle.graph(Precision.FP32).file)
        self.model = IndexedModel(_parsed(bundle, raw))
        self._precision = settings.precision
        self._quantiser = Quantiser(self.model, settings.number_format)
        self._routing = RoutingShape.of(bundle)
        self.traces = self._routing.prove(self.model)
        self.evidence = EvidenceSets(
            bundle, raw, split.validation, (*split.calibration, *split.unused), threads=threads, adapter=adapter
        )
        self._rounds = runtime_rounds()
        rounding = "each float16 value rounded" if self._rounds else "float16 NOT rounded"
        self.mode = f"node by node, {rounding}"

    def time_exact(self) -> float:
        """Seconds that one volume takes node by node, of the float16 graph: no 8-bit graph exists yet."""
        import onnx

        raw = self._exact(IndexedModel(onnx.load_from_string(self.float16_graph())))
        with OnnxRuntimeRunner(
            raw, Precision.FP16, optimise=False, cpu_only=True, threads=self._threads, adapter=self._adapter
        ) as runner:
            results = [runner.run(self.evidence.first_scans[:1]) for _ in range(2)]
        return min(result.milliseconds["compute"] for result in results) / 1e3

    def float16_graph(self) -> bytes:
        """The float16 graph, for its size and time: the bundle's or, if it has none, one made here."""
        if Precision.FP16 in self._bundle.graphs:
            return self._bundle.read(self._bundle.graph(Precision.FP16).file)
        raw: bytes = to_half(self.model.copy().model).SerializeToString()
        return raw

    def judge_reference(self) -> Verdict:
        """The verdict on the reference itself: it passes if anything that the limits name can be judged here."""
        held_out = self.evidence.held_out
        return judge(self._compare(held_out.reference, held_out.reference, held_out.labels), self.limits)

    def measure(self, layers: Sequence[Layer], clipping: Mapping[str, float]) -> float:
        """The sensitivity to 8 bits in some layers alone, with everything else in float32."""
        raw = self._quantiser.add_qdq(layers, clipping).serialize()
        measured = self.evidence.measured
        return sensitivity(self._compare(measured.reference, self._answers(raw, measured, False)), self.limits)

    def judge(self, layers: Sequence[Layer], clipping: Mapping[str, float]) -> Judgement:
        """Judge a set of layers for the search: the cheapest comparison first, until one fails."""
        model = self._quantised(layers, clipping)
        exact = self._exact(model)
        tries = [
            ("golden volumes and scans", self.evidence.searched, exact, False),
            (f"golden volumes and scans, {_AS_USED}", self.evidence.searched, model.serialize(), True),
        ]
        if self.evidence.labelled:
            tries.append(("all golden volumes and scans", self.evidence.held_out, exact, False))
        comparisons: list[Comparison] = []
        for what, evidence, raw, optimise in tries:
            made = self._answers(raw, evidence, optimise)
            limits = self._one_flip(self._search_limits, made)
            comparisons.append(self._comparison(what, BOTH, (evidence.reference, made, evidence.labels), limits))
            if comparisons[-1].failed:
                break
        return Judgement(tuple(comparisons))

    def confirm(self, layers: Sequence[Layer], clipping: Mapping[str, float]) -> tuple[IndexedModel, Judgement]:
        """Judge a set of layers on all volumes: the golden ones, those with the scans for judging, and all scans.

        First node by node, then as users run the graph, until a comparison fails. All scans, each as often as the
        folder has it, are what ``infer`` judges on that folder; golden volumes would dilute a flip there.
        """
        model = self._quantised(layers, clipping)
        comparisons = self._confirm_mode("node by node", self._exact(model), False)
        if not any(each.failed for each in comparisons):
            comparisons += self._confirm_mode(_AS_USED, model.serialize(), True)
        return model, Judgement(tuple(comparisons))

    def _confirm_mode(self, mode: str, raw: bytes, optimise: bool) -> list[Comparison]:
        evidence, limits = self.evidence, self._confirm_limits
        golden, held_out = evidence.golden, evidence.held_out
        made = self._answers(raw, held_out, optimise)
        on_golden = (golden.outputs, made.take(range(len(golden.volumes))), None)
        comparisons = [
            self._comparison(f"golden volumes, {mode}", GOLDEN, on_golden, limits),
            self._comparison(
                f"golden volumes and scans without a part in the ranges, {mode}",
                BOTH,
                (held_out.reference, made, held_out.labels),
                self._one_flip(limits, made),
            ),
        ]
        if any(each.failed for each in comparisons):
            return comparisons
        rest = self._answers(raw, evidence.rest, optimise) if evidence.others else None
        every, made = evidence.every_scan(made, rest)
        what = f"all {len(made)} scans, {mode}"
        return [*comparisons, self._comparison(what, STAND_IN, (every.reference, made, every.labels), limits)]

    def _one_flip(self, limits: ParityLimits, made: Outputs) -> ParityLimits:
        return allow_one_flip(limits, len(made) * len(self._bundle.findings))

    def _comparison(
        self,
        what: str,
        reference: str,
        data: tuple[Outputs, Outputs, npt.NDArray[np.float64] | None],
        limits: ParityLimits,
    ) -> Comparison:
        """Compare answers, given as the reference's, the graph's and labels."""
        numbers = self._compare(*data)
        return Comparison(what, reference, numbers, judge(numbers, limits))

    def _quantised(self, layers: Sequence[Layer], clipping: Mapping[str, float]) -> IndexedModel:
        model = self._quantiser.graph(layers, clipping)
        self._routing.prove(model)
        return model

    def _exact(self, model: IndexedModel) -> bytes:
        """The graph to run node by node: a copy that rounds each float16 value, if the runtime does not."""
        raw: bytes = rounding_copy(model.model).SerializeToString() if self._rounds else model.serialize()
        return raw

    def _answers(self, raw: bytes, evidence: Evidence, optimise: bool) -> Outputs:
        return evidence.run(
            raw, precision=self._precision, optimise=optimise, threads=self._threads, adapter=self._adapter
        )

    def _compare(
        self, reference: Outputs, made: Outputs, labels: npt.NDArray[np.float64] | None = None
    ) -> ParityNumbers:
        bundle = self._bundle
        return compare(reference, made, findings=bundle.findings, thresholds=bundle.thresholds, labels=labels)


def _parsed(bundle: Bundle, raw: bytes) -> onnx.ModelProto:
    import onnx

    try:
        return onnx.load_from_string(raw)
    except Exception as error:  # protobuf's errors have no common base
        raise BundleError(
            f"{bundle.folder}: {bundle.graph(Precision.FP32).file} is not an ONNX model. Export the checkpoint again"
        ) from error
