"""Ranges of activations: collected once for every layer that may be quantised, then reused for every candidate graph.

The histograms and the thresholds of percentile and entropy are ONNX Runtime's. Its own calibrators are not used, since
they keep every intermediate value of what they are given: here minimum and maximum are taken within the graph, over all
slices, and histograms from some slices of each scan, so that memory stays flat.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from molre_edge.calibration.settings import RangeMethod
from molre_edge.machine import usable_cores

if TYPE_CHECKING:
    import onnx

__all__ = ["PERCENTILE", "Seen", "collect", "thresholds"]

PERCENTILE = 99.999
"""ONNX Runtime's default."""
_HISTOGRAM_SLICES = 4  # of each scan: a ViT-B has 52 MB of activations to count a slice
_BINS = 2048
_ENTROPY_BINS = 512  # the search is quadratic in them
_MSE_STEPS = 64
_LEVELS = 127

_F32 = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Seen:
    """What was seen of one activation.

    Attributes:
        low: the smallest value, over all slices.
        high: the largest.
        counts: int64 [bins], histogram of absolute values from some slices.
        edges: float32 [bins + 1].
    """

    low: float
    high: float
    counts: npt.NDArray[np.int64]
    edges: _F32

    @property
    def largest(self) -> float:
        """Largest absolute value."""
        return max(abs(self.low), abs(self.high))


def collect(
    graph: onnx.ModelProto,
    values: Sequence[str],
    scans: Iterable[npt.NDArray[np.float16]],
    *,
    slices: int,
    threads: int | None = None,
    on_scan: Callable[[], None] = lambda: None,
) -> dict[str, Seen]:
    """Run the float32 graph over scans and keep what is seen of some values.

    Args:
        graph: float32.
        values: names of activations.
        scans: float16 HU [1, slices, rows, cols], one after the other.
        slices: of a volume.
        threads: CPU threads; None takes the cores that this process may use.
        on_scan: is called after each.
    """
    import onnxruntime as ort
    from onnxruntime.quantization.calibrate import HistogramCollector

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.log_severity_level = 4
    observed = _observed(graph, values, step=-(-slices // _HISTOGRAM_SLICES))
    session = ort.InferenceSession(observed.SerializeToString(), options, providers=["CPUExecutionProvider"])
    del observed
    names = [f"{value}__{what}" for value in values for what in _PARTS]
    collector = HistogramCollector("percentile", True, _BINS, _LEVELS + 1, PERCENTILE, None)
    low, high = dict.fromkeys(values, np.inf), dict.fromkeys(values, -np.inf)
    with _quiet():
        for scan in scans:
            found = dict(zip(names, session.run(names, {"volume": scan.astype(np.float32)}), strict=True))
            for value in values:
                low[value] = min(low[value], float(found[f"{value}__low"]))
                high[value] = max(high[value], float(found[f"{value}__high"]))
            # its bins begin at the smallest absolute value of the first scan, and lose what is smaller later: a 0 helps
            collector.collect({value: np.append(found[f"{value}__some"], np.float32(0)) for value in values})
            on_scan()
    histograms = collector.get_histogram_dict()
    return {
        value: Seen(low[value], high[value], histograms[value][0].astype(np.int64), histograms[value][1])
        for value in values
    }


_PARTS = ("low", "high", "some")


def _observed(graph: onnx.ModelProto, values: Sequence[str], *, step: int) -> onnx.ModelProto:
    """The graph with outputs of its own for the values: smallest, largest, and every `step`-th along the first axis.

    That axis is batch times slices in a 2D backbone, and the batch of one elsewhere.
    """
    import onnx
    from onnx import helper, numpy_helper

    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    parts = {"starts": 0, "ends": np.iinfo(np.int64).max, "axes": 0, "steps": step}
    for name, number in parts.items():
        copy.graph.initializer.append(numpy_helper.from_array(np.array([number], np.int64), f"molre_edge__{name}"))
    del copy.graph.output[:]
    for value in values:
        low, high, some = (f"{value}__{part}" for part in _PARTS)
        slicing = [value, *(f"molre_edge__{name}" for name in parts)]
        copy.graph.node.extend(
            [
                helper.make_node("ReduceMin", [value], [low], name=low, keepdims=0),
                helper.make_node("ReduceMax", [value], [high], name=high, keepdims=0),
                helper.make_node("Slice", slicing, [some], name=some),
            ]
        )
        copy.graph.output.extend(
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in (low, high, some)
        )
    return copy


def thresholds(seen: dict[str, Seen], method: RangeMethod) -> dict[str, float]:
    """The absolute value that becomes 127, by activation; never beyond what was seen, and never 0.

    Args:
        seen: from :func:`collect`.
        method: ``minmax`` is the largest value; ``percentile`` leaves out one in 100,000; ``entropy`` loses least
            information (Migacz, GTC 2017); ``mse`` has the least squared error.
    """
    ways: dict[RangeMethod, Callable[[Seen], float]] = {
        RangeMethod.MINMAX: lambda each: each.largest,
        RangeMethod.PERCENTILE: _percentile,
        RangeMethod.ENTROPY: _entropy,
        RangeMethod.MSE: _least_squares,
    }
    found = {value: min(ways[method](each), each.largest) for value, each in seen.items()}
    return {value: threshold or seen[value].largest or 1.0 for value, threshold in found.items()}


def _percentile(seen: Seen) -> float:
    found = _collector("percentile", {"value": (seen.counts, seen.edges, np.float32(seen.low), np.float32(seen.high))})
    return float(max(abs(found["value"][0]), abs(found["value"][1])))


def _entropy(seen: Seen) -> float:
    """ONNX Runtime's search on the histogram of both signs, with fewer bins."""
    counts = np.pad(seen.counts, (0, -len(seen.counts) % (_ENTROPY_BINS // 2)))
    counts = counts.reshape(_ENTROPY_BINS // 2, -1).sum(axis=1)
    width = (seen.edges[1] - seen.edges[0]) * (len(seen.counts) + -len(seen.counts) % (_ENTROPY_BINS // 2))
    edges = np.linspace(-width, width, _ENTROPY_BINS + 1).astype(np.float32)
    both = np.concatenate([counts[::-1], counts])
    collector = _new_collector("entropy")
    low, high = np.float32(-np.inf), np.float32(np.inf)
    bounds = collector.get_entropy_threshold((both, edges, low, high), _LEVELS + 1)
    return float(max(abs(bounds[0]), abs(bounds[1])))


def _least_squares(seen: Seen) -> float:
    """The threshold whose rounding and clipping has the least squared error over the histogram."""
    centres = (seen.edges[:-1] + seen.edges[1:]) / 2.0
    best, least = seen.largest, np.inf
    for threshold in np.linspace(1.0 / _MSE_STEPS, 1.0, _MSE_STEPS) * float(seen.edges[-1]):
        scale = threshold / _LEVELS
        rounded = np.minimum(np.round(centres / scale), _LEVELS) * scale
        # within a bin, rounding is even; where levels are wider than bins it is what the centres show
        error = float(seen.counts @ np.square(centres - rounded))
        if error < least:
            best, least = float(threshold), error
    return best


def _collector(method: str, histograms: dict[str, Any]) -> dict[str, Any]:
    collector = _new_collector(method)
    collector.histogram_dict = histograms
    with _quiet():
        return collector.compute_collection_result()  # type: ignore[no-any-return]


def _new_collector(method: str) -> Any:
    from onnxruntime.quantization.calibrate import HistogramCollector

    return HistogramCollector(method, True, _BINS, _LEVELS + 1, PERCENTILE, None)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """ONNX Runtime's collector prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
