"""Activation ranges: collected once for every layer that may be quantised, then used for every candidate graph.

The histograms and the clipping values of percentile and entropy come from ONNX Runtime. Its own calibrators are not
used, because they keep every intermediate value. Here the graph itself computes minimum and maximum over all slices,
and histograms use some slices of each scan, so that memory does not grow.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from molre_edge.adapters.tensors import Tensors
from molre_edge.calibration.indexed_model import IndexedModel
from molre_edge.calibration.number_format import NumberFormat
from molre_edge.machine import usable_cores
from molre_edge.specs import VOLUME, RangeMethod

if TYPE_CHECKING:
    import onnx

__all__ = ["PERCENTILE", "ActivationRange", "clipping_values", "collect_ranges"]

PERCENTILE = 99.999
"""ONNX Runtime's default."""
_HISTOGRAM_SLICES = 4  # of each scan: a ViT-B has 52 MB of activations per slice
_BINS = 2048
_ENTROPY_BINS = 512  # the search is quadratic in them
_MSE_STEPS = 64
_LEVELS = 127
_PARTS = ("low", "high", "some")

_F32 = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ActivationRange:
    """The values of one activation over the calibration scans.

    Attributes:
        low: the smallest value, over all slices.
        high: the largest value.
        counts: int64 [bins], histogram of absolute values from some slices.
        edges: float32 [bins + 1].
    """

    low: float
    high: float
    counts: npt.NDArray[np.int64]
    edges: _F32

    @property
    def largest(self) -> float:
        """The largest absolute value."""
        return max(abs(self.low), abs(self.high))


def collect_ranges(
    model: IndexedModel,
    activations: Sequence[str],
    scans: Iterable[npt.NDArray[np.float16]],
    *,
    slices: int,
    threads: int | None = None,
    adapter: Tensors | None = None,
    on_scan: Callable[[], None] = lambda: None,
) -> dict[str, ActivationRange]:
    """Run the float32 graph over scans and collect the ranges of some activations.

    Args:
        model: the float32 graph.
        activations: names of values in it.
        scans: float16 HU [1, slices, rows, cols], one after the other.
        slices: of a volume.
        threads: CPU threads; None takes the cores that this process may use.
        adapter: the trained tensors, for a graph that takes them as inputs.
        on_scan: called after each scan.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.log_severity_level = 4
    observed = _observed(model, activations, step=-(-slices // _HISTOGRAM_SLICES))
    session = ort.InferenceSession(observed.SerializeToString(), options, providers=["CPUExecutionProvider"])
    del observed
    outputs = [f"{name}__{part}" for name in activations for part in _PARTS]
    collector = _new_collector("percentile")
    trained = {name: np.asarray(value, np.float32) for name, value in (adapter or {}).items()}
    low, high = dict.fromkeys(activations, np.inf), dict.fromkeys(activations, -np.inf)
    with _without_prints():
        for scan in scans:
            feed = {VOLUME: scan.astype(np.float32), **trained}
            values = dict(zip(outputs, session.run(outputs, feed), strict=True))
            for name in activations:
                low[name] = min(low[name], float(values[f"{name}__low"]))
                high[name] = max(high[name], float(values[f"{name}__high"]))
            # the bins begin at the smallest absolute value of the first scan and lose smaller ones later: add a 0
            collector.collect({name: np.append(values[f"{name}__some"], np.float32(0)) for name in activations})
            on_scan()
    histograms = collector.get_histogram_dict()
    return {
        name: ActivationRange(low[name], high[name], histograms[name][0].astype(np.int64), histograms[name][1])
        for name in activations
    }


def _observed(model: IndexedModel, activations: Sequence[str], *, step: int) -> onnx.ModelProto:
    """A copy that outputs, for each activation, its smallest and largest value and every `step`-th of its first axis.

    That axis is batch times slices in a 2D backbone, and the batch of one elsewhere.
    """
    import onnx
    from onnx import helper

    copy = model.copy()
    slicing = {"starts": 0, "ends": np.iinfo(np.int64).max, "axes": 0, "steps": step}
    constants = [
        copy.add_initializer(f"molre_edge__{name}", np.array([number], np.int64)) for name, number in slicing.items()
    ]
    graph = copy.model.graph
    del graph.output[:]
    for value in activations:
        low, high, some = (f"{value}__{part}" for part in _PARTS)
        graph.node.extend(
            [
                helper.make_node("ReduceMin", [value], [low], name=low, keepdims=0),
                helper.make_node("ReduceMax", [value], [high], name=high, keepdims=0),
                helper.make_node("Slice", [value, *constants], [some], name=some),
            ]
        )
        graph.output.extend(
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in (low, high, some)
        )
    return copy.model


def clipping_values(
    ranges: dict[str, ActivationRange], method: RangeMethod, number_format: NumberFormat
) -> dict[str, float]:
    """The absolute value that becomes the largest number of a format, by activation.

    It is never above the largest collected value, and never 0.

    Args:
        ranges: from :func:`collect_ranges`.
        method: ``minmax`` takes the largest value; ``percentile`` clips one value in 100,000; ``entropy`` loses the
            least information (Migacz, GTC 2017); ``mse`` has the least squared error.
        number_format: of the rounded values.
    """
    ways: dict[RangeMethod, Callable[[ActivationRange], float]] = {
        RangeMethod.MINMAX: lambda each: each.largest,
        RangeMethod.PERCENTILE: _percentile,
        RangeMethod.ENTROPY: _entropy,
        RangeMethod.MSE: lambda each: _least_squares(each, number_format),
    }
    clipping = {name: min(ways[method](each), each.largest) for name, each in ranges.items()}
    return {name: value or ranges[name].largest or 1.0 for name, value in clipping.items()}


def _percentile(values: ActivationRange) -> float:
    collector = _new_collector("percentile")
    collector.histogram_dict = {"value": (values.counts, values.edges, np.float32(values.low), np.float32(values.high))}
    with _without_prints():
        low, high = collector.compute_collection_result()["value"][:2]
    return float(max(abs(low), abs(high)))


def _entropy(values: ActivationRange) -> float:
    """ONNX Runtime's search on the histogram of both signs, with fewer bins."""
    missing = -len(values.counts) % (_ENTROPY_BINS // 2)
    counts = np.pad(values.counts, (0, missing)).reshape(_ENTROPY_BINS // 2, -1).sum(axis=1)
    width = (values.edges[1] - values.edges[0]) * (len(values.counts) + missing)
    edges = np.linspace(-width, width, _ENTROPY_BINS + 1).astype(np.float32)
    both = np.concatenate([counts[::-1], counts])
    low, high = np.float32(-np.inf), np.float32(np.inf)
    bounds = _new_collector("entropy").get_entropy_threshold((both, edges, low, high), _LEVELS + 1)
    return float(max(abs(bounds[0]), abs(bounds[1])))


def _least_squares(values: ActivationRange, number_format: NumberFormat) -> float:
    """The clipping value whose rounding and clipping has the least squared error over the histogram."""
    centres = (values.edges[:-1] + values.edges[1:]) / 2.0
    best, least = values.largest, np.inf
    for candidate in np.linspace(1.0 / _MSE_STEPS, 1.0, _MSE_STEPS) * float(values.edges[-1]):
        scale = candidate / number_format.largest
        rounded = number_format.rounded(centres / scale) * scale
        # rounding is even within a bin; if levels are wider than bins, the centres show the error
        error = float(values.counts @ np.square(centres - rounded))
        if error < least:
            best, least = float(candidate), error
    return best


def _new_collector(method: str) -> Any:
    from onnxruntime.quantization.calibrate import HistogramCollector

    return HistogramCollector(method, True, _BINS, _LEVELS + 1, PERCENTILE, None)


@contextlib.contextmanager
def _without_prints() -> Iterator[None]:
    """ONNX Runtime's collector prints to stdout; discard it."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
