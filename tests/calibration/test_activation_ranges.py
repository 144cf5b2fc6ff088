from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from molre_edge.bundle.bundle import Bundle
from molre_edge.calibration.activation_ranges import ActivationRange, clipping_values, collect_ranges
from molre_edge.calibration.indexed_model import IndexedModel
from molre_edge.calibration.layers import Layer
from molre_edge.calibration.number_format import FORMATS
from molre_edge.specs import Precision, RangeMethod

INT8, FP8 = FORMATS[Precision.INT8], FORMATS[Precision.FP8]


def range_of(values: np.ndarray) -> ActivationRange:  # type: ignore[type-arg]
    counts, edges = np.histogram(np.abs(values), bins=2048)
    return ActivationRange(float(values.min()), float(values.max()), counts, edges.astype(np.float32))


@pytest.fixture(scope="module")
def values() -> np.ndarray:  # type: ignore[type-arg]
    values = np.random.default_rng(0).normal(size=1_000_000).astype(np.float32)
    values[:3] = 40.0  # three in a million
    return values


def test_every_method_but_minmax_cuts_a_rare_outlier(values: np.ndarray) -> None:  # type: ignore[type-arg]
    found = {method: clipping_values({"x": range_of(values)}, method, INT8)["x"] for method in RangeMethod}
    assert found[RangeMethod.MINMAX] == 40.0
    assert found[RangeMethod.PERCENTILE] == pytest.approx(np.quantile(np.abs(values), 0.99999), rel=0.02)
    assert 3.0 < found[RangeMethod.ENTROPY] < 40.0
    errors = {
        limit: float(np.square(values - np.clip(np.round(values * 127 / limit), -127, 127) * limit / 127).mean())
        for limit in (*found.values(), 5.0, 10.0, 20.0)
    }
    assert errors[found[RangeMethod.MSE]] <= 1.05 * min(errors.values())


def test_a_floating_point_format_keeps_an_outlier_that_whole_numbers_cut(
    values: np.ndarray,  # type: ignore[type-arg]
) -> None:
    """Its steps grow with the values, so a wide range costs the small ones nothing."""
    found = clipping_values({"x": range_of(values)}, RangeMethod.MSE, FP8)["x"]
    assert found > 2 * clipping_values({"x": range_of(values)}, RangeMethod.MSE, INT8)["x"]
    assert RangeMethod.ENTROPY in INT8.methods and RangeMethod.ENTROPY not in FP8.methods


@pytest.mark.parametrize("method", list(RangeMethod))
def test_no_range_is_beyond_what_was_seen_or_empty(method: RangeMethod) -> None:
    even = np.linspace(-2.0, 3.0, 10_001, dtype=np.float32)
    assert 0 < clipping_values({"x": range_of(even)}, method, INT8)["x"] <= 3.0
    assert clipping_values({"x": range_of(np.zeros(100, np.float32))}, method, INT8)["x"] > 0


def test_ranges_are_those_of_the_graphs_values_over_all_scans(
    tiny_bundle: object, model: IndexedModel, layers: tuple[Layer, ...]
) -> None:
    volumes = Bundle.open(tiny_bundle).golden().volumes  # type: ignore[arg-type]
    names = sorted({layer.activation for layer in layers if not layer.excluded})
    counted: list[int] = []
    found = collect_ranges(
        model, names, (v[None] for v in volumes), slices=4, threads=1, on_scan=lambda: counted.append(1)
    )
    assert len(counted) == len(volumes)
    graph = model.model
    inferred = onnx.shape_inference.infer_shapes(graph)
    graph.graph.output.extend(value for value in inferred.graph.value_info if value.name in names)
    session = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    for name in names:
        [answer] = session.run([name], {"volume": volumes.astype(np.float32)})
        assert found[name].largest == pytest.approx(np.abs(answer).max(), rel=1e-4)
        assert found[name].low == pytest.approx(answer.min(), rel=1e-4, abs=1e-5)
        # of four slices all are in the histogram, and a 0 a scan
        assert found[name].counts.sum() == answer.size + len(volumes)
        assert found[name].edges[0] == 0
