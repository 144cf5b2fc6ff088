"""The 8-bit graph: chosen layers in INT8 or FP8 by Q/DQ, everything else in float16 with export's float32 islands.

Everything is symmetric: activations have one scale per tensor, weights one per output channel, and zero points are 0.
Each layer has its own Q/DQ pair on its input and none on its output. So whatever else reads that value, above all a
router, reads it unrounded. docs/reference/calibration.md describes the placement.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from molre_edge.calibration.fp8_graph import Fp8Weight, add_fp8_qdq
from molre_edge.calibration.indexed_model import IndexedModel
from molre_edge.calibration.int8_graph import add_int8_qdq
from molre_edge.calibration.layers import Layer
from molre_edge.calibration.number_format import NumberFormat
from molre_edge.calibration.split_joined import split_joined_layers
from molre_edge.errors import CalibrationError
from molre_edge.export.half import check_half, float32_islands, to_half
from molre_edge.specs import Precision

__all__ = ["MIN_SCALE", "Quantiser", "check_qdq"]

MIN_SCALE = 6.2e-5
"""Smaller scales are subnormal in float16 and lose digits."""


class Quantiser:
    """Makes graphs with layers in one number format."""

    def __init__(self, model: IndexedModel, number_format: NumberFormat) -> None:
        """Nothing is quantised yet.

        Args:
            model: the float32 graph.
            number_format: of the layers that are chosen.
        """
        self._model, self._format = model, number_format
        self._fp8_weights: dict[str, Fp8Weight] = {}

    def add_qdq(self, layers: Sequence[Layer], clipping: Mapping[str, float]) -> IndexedModel:
        """A copy of the float32 graph with Q/DQ pairs around some layers.

        Args:
            layers: the layers to quantise; without any, the copy equals the graph.
            clipping: the absolute value that becomes the format's largest number, by activation.
        """
        if self._format.precision is Precision.FP8:
            return add_fp8_qdq(self._model, layers, clipping, self._fp8_weights, min_scale=MIN_SCALE)
        return add_int8_qdq(self._model, layers, clipping)

    def graph(self, layers: Sequence[Layer], clipping: Mapping[str, float]) -> IndexedModel:
        """The graph of a bundle, checked: some layers in 8 bits, the rest in float16 with export's float32 islands.

        Args:
            layers: the layers to quantise.
            clipping: the absolute value that becomes the format's largest number, by activation.

        Raises:
            CalibrationError: TensorRT would not read the result as in this format.
            ExportError: the conversion to float16 failed.
        """
        quantised = self.add_qdq(layers, clipping)
        names = split_joined_layers(quantised, {layer.node for layer in layers})
        original = self._model.model
        half = to_half(quantised.model)
        half.producer_name, half.producer_version = original.producer_name, original.producer_version
        del half.metadata_props[:]  # the quantizer notes that it inferred shapes
        del half.graph.value_info[:]
        check_half(half, float32_islands(original))
        made = IndexedModel(half)
        check_qdq(made, names, self._format)
        return made


def check_qdq(model: IndexedModel, quantised: Collection[str], number_format: NumberFormat) -> None:
    """Check what TensorRT relies on, and that only the chosen layers read rounded values.

    Args:
        model: the 8-bit graph.
        quantised: names of the layers that must be in 8 bits.
        number_format: of these layers.

    Raises:
        CalibrationError: names the node that is wrong.
    """
    import onnx

    word, kind = number_format.word, onnx.TensorProto.DataType.Value(number_format.tensor_type)
    readers_of_rounded = set[str]()
    for node in model.nodes:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        scale, zero = (model.initializers.get(name) for name in node.input[1:3])
        if scale is None or zero is None or np.any(model.codes(node.input[2])):
            raise CalibrationError(f"{node.name}: expected a constant scale and zero points of 0")
        of_weight = node.input[0] in model.initializers
        if zero.data_type != kind or (len(scale.dims) != 0 and not of_weight):
            # with a scale of one element and an axis, TensorRT makes a float product of an INT8 one
            raise CalibrationError(f"{node.name}: expected {word} and, for an activation, a scale without axes")
        if node.op_type == "DequantizeLinear":
            readers = {reader.name for reader in model.links.readers(node.output[0])}
            if len(readers) != 1 or not readers <= set(quantised):
                raise CalibrationError(
                    f"{node.name}: expected one reader, a layer chosen for {word}; it is read by "
                    f"{', '.join(sorted(readers))}"
                )
            readers_of_rounded |= readers
    missing = set(quantised) - readers_of_rounded
    if missing:
        raise CalibrationError(f"chosen layers without {word}: {', '.join(sorted(missing))}")
