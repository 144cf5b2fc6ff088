"""Scales and codes of FP8 graphs."""

from __future__ import annotations

import numpy as np

from molre_edge.calibration.e4m3 import LARGEST, decode
from molre_edge.calibration.fp8_graph import Fp8Weight, add_fp8_qdq
from molre_edge.calibration.indexed_model import IndexedModel
from molre_edge.calibration.layers import Layer
from molre_edge.calibration.quantised_graph import MIN_SCALE

Products = tuple[Layer, ...]


def products_of(layers: tuple[Layer, ...]) -> Products:
    return tuple(layer for layer in layers if not layer.excluded and layer.op == "MatMul")


def test_a_weight_comes_back_from_its_codes_and_the_scale_as_float16_stores_it(
    model: IndexedModel, layers: tuple[Layer, ...]
) -> None:
    chosen, weights = products_of(layers), dict[str, Fp8Weight]()
    add_fp8_qdq(model, chosen, dict.fromkeys((each.activation for each in chosen), 4.0), weights, min_scale=MIN_SCALE)
    assert len(weights) == len(chosen)
    for layer in chosen:
        codes, scale = weights[f"{layer.weight} 1"]
        assert np.array_equal(scale, scale.astype(np.float16)) and scale.min() >= np.finfo(np.float16).smallest_normal
        weight = np.asarray(model.array(layer.weight))
        back = decode(codes) * scale
        largest = np.abs(weight).max(axis=0)
        assert (np.abs(back - weight) <= np.abs(weight) / 15 + largest * 2.0**-15).all()
        assert np.allclose(np.abs(back).max(axis=0), largest, rtol=1 / 15), "no channel's largest value is lost"


def test_weights_are_quantised_once_for_all_graphs(model: IndexedModel, layers: tuple[Layer, ...]) -> None:
    chosen, weights = products_of(layers)[:1], dict[str, Fp8Weight]()
    clipping = {chosen[0].activation: LARGEST / 2}
    first = add_fp8_qdq(model, chosen, clipping, weights, min_scale=MIN_SCALE)
    (codes, _), known = weights[f"{chosen[0].weight} 1"], dict(weights)
    again = add_fp8_qdq(model, chosen, clipping, weights, min_scale=MIN_SCALE)
    assert weights == known and again.model == first.model
    constant = first.codes(f"{chosen[0].node}__weight_fp8")
    assert np.array_equal(constant, codes)
    scale = np.asarray(first.array(f"{chosen[0].node}__fp8_scale"))
    assert (scale.shape, float(scale)) == ((), 0.5)
