"""The 8-bit formats that calibration can give layers: INT8 and FP8 (E4M3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from molre_edge.calibration import e4m3
from molre_edge.specs import Precision, RangeMethod

__all__ = ["FORMATS", "NumberFormat"]


@dataclass(frozen=True)
class NumberFormat:
    """An 8-bit number format.

    Attributes:
        precision: of a graph with layers in this format.
        word: its name in texts.
        tensor_type: its name among ONNX's tensor types.
        largest: its largest number; a clipping value becomes this one.
        operators: that an engine computes in this format.
        methods: of the ranges that suit it.
        rounded: rounds values of at most `largest` to numbers of this format.
    """

    precision: Precision
    word: str
    tensor_type: str
    largest: float
    operators: tuple[str, ...]
    methods: tuple[RangeMethod, ...]
    rounded: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]


def _to_e4m3(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return e4m3.decode(e4m3.encode(values.astype(np.float32))).astype(np.float64)


FORMATS = {
    Precision.INT8: NumberFormat(
        Precision.INT8,
        "INT8",
        "INT8",
        127.0,
        ("MatMul", "Gemm", "Conv"),
        tuple(RangeMethod),
        lambda values: np.minimum(np.round(values), 127.0),
    ),
    # TensorRT-RTX 1.7 computes a convolution with FP8 Q/DQ in float16. The search for the least entropy counts on steps
    # of one size.
    Precision.FP8: NumberFormat(
        Precision.FP8,
        "FP8",
        "FLOAT8E4M3FN",
        e4m3.LARGEST,
        ("MatMul", "Gemm"),
        tuple(method for method in RangeMethod if method is not RangeMethod.ENTROPY),
        _to_e4m3,
    ),
}
"""By the precision of the graph."""
