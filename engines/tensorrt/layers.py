"""Which layers an engine really has, in which precision: read from the builder's layer log.

The log is text for people and no interface: what can't be read there is an error, never a guess.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from molre_edge.engines.tensorrt.progress import LAYER_LOG
from molre_edge.errors import EngineError
from molre_edge.specs import Precision

__all__ = ["DATATYPES", "BuiltLayer", "LayerSummary", "check_precision", "list_weights", "read_layers"]

DATATYPES = {Precision.FP32: "Float", Precision.FP16: "Half", Precision.INT8: "Int8"}
"""The library's word for the datatype of an engine of each precision."""

WEIGHTS_IN_PRECISION = 0.9
"""Least share of the matrix layers' weights in the named precision. Routers and head stay in float32 by design; they
are some per cent of a small model and less of a large one."""
LAYERS_IN_PRECISION = 0.5
"""The same by number of matrix layers, where not all of them list their weights."""

_MATRIX_TYPES = {"gemm", "runtime_fusion", "correlation", "deconv"}
"""Layers that multiply matrices: GEMM, GEMM fused with what is around it, convolution, transposed convolution."""
_FUSED_ATTENTION = "_gemm_mha"
_UNTYPED = "none"

_LAYER = re.compile(
    r"^Name: (?P<name>.*?), LayerType: (?P<type>\w+), Inputs: \[(?P<inputs>.*?)\], "
    r"(?:Constants: \[(?P<constants>.*?)\], )?Outputs: \[(?P<outputs>.*?)\], TacticName:",
    re.MULTILINE,
)
# A tensor's fields: RTX writes 'Datatype: Half', TensorRT 10 'Format/Datatype: Half'.
_TENSOR = re.compile(r"Dimensions: \[(?P<shape>[-\d,]*)\].*?(?:Format/)?Datatype: (?P<type>\w+)")
_FLOATING = {"Float", "Half", "BFloat16", "FP8", "FP4"}


@dataclass(frozen=True)
class BuiltLayer:
    """A layer of an engine.

    Attributes:
        name: as built; fused ones name their parts.
        type: the library's word, such as ``gemm``.
        datatype: of its weights, but Int8 only where its input is Int8 too; else of its first floating-point input,
            such as ``Half``; ``none`` for shapes and sizes.
        weights: number of elements of its largest constant; 0 where none is listed.
    """

    name: str
    type: str
    datatype: str
    weights: int

    @property
    def is_matrix(self) -> bool:
        """Whether it multiplies matrices: where the precision matters for speed and size."""
        return self.type in _MATRIX_TYPES

    @property
    def is_fused_attention(self) -> bool:
        """Whether it is a whole attention in one kernel."""
        return _FUSED_ATTENTION in self.name


@dataclass(frozen=True)
class LayerSummary:
    """Layers of an engine, counted.

    Attributes:
        by_type: number of layers by type and datatype.
        matrix_weights: elements of the matrix layers' weights by datatype.
        fused_attention: number of attentions that became one kernel each.
    """

    by_type: Mapping[str, Mapping[str, int]]
    matrix_weights: Mapping[str, int]
    fused_attention: int

    @classmethod
    def of(cls, layers: Sequence[BuiltLayer]) -> LayerSummary:
        """Count."""
        by_type: dict[str, Counter[str]] = {}
        weights: Counter[str] = Counter()
        for layer in layers:
            by_type.setdefault(layer.type, Counter())[layer.datatype] += 1
            if layer.is_matrix and layer.weights:
                weights[layer.datatype] += layer.weights
        return cls(
            {kind: dict(sorted(counts.items())) for kind, counts in sorted(by_type.items())},
            dict(sorted(weights.items())),
            sum(layer.is_fused_attention for layer in layers),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "count": sum(sum(counts.values()) for counts in self.by_type.values()),
            "by_type": {kind: dict(counts) for kind, counts in self.by_type.items()},
            "matrix_weights": dict(self.matrix_weights),
            "fused_attention": self.fused_attention,
        }


def read_layers(listing: str) -> tuple[BuiltLayer, ...]:
    """Read a layer listing.

    Args:
        listing: the message of the builder's log that begins with :data:`LAYER_LOG`.

    Raises:
        EngineError: the text is not of the form that is known.
    """
    body = listing.removeprefix(LAYER_LOG).split("\n\n")[0]
    found = tuple(_layer(match) for match in _LAYER.finditer(body))
    told = len(re.findall(r"^Name: ", body, re.MULTILINE))
    if not found or len(found) != told or not any(layer.is_matrix for layer in found):
        raise EngineError(
            f"the builder's layer log can't be read ({len(found)} of {told} layers understood), so what was built "
            f"can't be checked. Install a version of the library that docs/tensorrt.md lists"
        )
    return found


def _layer(match: re.Match[str]) -> BuiltLayer:
    constants = [(_size(t["shape"]), t["type"]) for t in _TENSOR.finditer(match["constants"] or "")]
    constants = [(size, kind) for size, kind in constants if kind in _FLOATING or kind.startswith("Int8")]
    inputs = [t["type"] for t in _TENSOR.finditer(match["inputs"]) if t["type"] in _FLOATING or t["type"] == "Int8"]
    outputs = [t["type"] for t in _TENSOR.finditer(match["outputs"]) if t["type"] in _FLOATING]
    weights, datatype = max(constants, default=(0, ""))
    if not (datatype and match["type"] in _MATRIX_TYPES) or (datatype == "Int8" and "Int8" not in inputs):
        # Int8 weights alone are unpacked and multiplied in the input's datatype
        datatype = (inputs or outputs or [datatype or _UNTYPED])[0]
    return BuiltLayer(match["name"], match["type"], datatype, weights)


def _size(shape: str) -> int:
    return math.prod(int(side) for side in shape.split(",") if side)


def list_weights(matrix: Sequence[BuiltLayer]) -> bool:
    """Whether all of these layers list their weights: a share of the weights of some says nothing of the others."""
    return all(layer.weights for layer in matrix)


def check_precision(layers: Sequence[BuiltLayer], precision: Precision) -> None:
    """Refuse an engine that is not in the precision it is named for.

    fp32: every matrix layer is. fp16: nearly all of the weights are, since routers and head stay in float32 by design.

    Raises:
        EngineError: it is not; the message gives the count of its layers.
    """
    matrix = [layer for layer in layers if layer.is_matrix]
    right = [layer for layer in matrix if layer.datatype == DATATYPES[precision]]
    if precision is Precision.FP32:
        share, least = len(right) / len(matrix), 1.0
    elif list_weights(matrix):
        weights = sum(layer.weights for layer in matrix)
        share, least = sum(layer.weights for layer in right) / weights, WEIGHTS_IN_PRECISION
    else:
        share, least = len(right) / len(matrix), LAYERS_IN_PRECISION
    if share < least:
        counts = Counter(layer.datatype for layer in matrix)
        built = ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
        raise EngineError(
            f"the engine is named {precision} and is not {precision} inside: {share:.0%} in {DATATYPES[precision]}, "
            f"expected at least {least:.0%}; its matrix layers are {built}. It was not kept. Precision is in the "
            f"graph: export the checkpoint again"
        )
