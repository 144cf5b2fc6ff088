"""Which layers an engine really has, in which precision: read from the builder's layer log.

The log is text for people and no interface: a layer that can't be read there is told as unread, never guessed. It
counts neither for nor against an engine; where too little is read to judge, that is said.
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
from molre_edge.specs import Precision, TensorSpec

__all__ = [
    "DATATYPES",
    "UNREAD",
    "BuiltLayer",
    "LayerSummary",
    "check_precision",
    "datatype_of",
    "layer_of",
    "list_weights",
    "not_checked",
    "read_layers",
    "unread",
]

DATATYPES = {Precision.FP32: "Float", Precision.FP16: "Half", Precision.INT8: "Int8", Precision.FP8: "FP8"}
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
_EIGHT_BITS = ("Int8", "FP8")
UNREAD = "unread"
"""Type and datatype of a layer that can't be read."""

_TYPES = {
    "CaskConvolution": "correlation",
    "CaskGemmConvolution": "correlation",
    "Convolution": "correlation",
    "CaskDeconvolutionV2": "deconv",
    "Deconvolution": "deconv",
    "CaskGemmMatrixMultiply": "gemm",
    "MatrixMultiply": "gemm",
}
"""Words of TensorRT's, and RTX's for the same."""
_OPAQUE = {"Myelin"}
"""A part of the network in one row, its products within: older TensorRT tells no more of it."""

# Names hold nearly every character. What follows a list is a field or nothing; what ends in one is a tensor's brace.
_HEAD = re.compile(r"^Name: (?P<name>.*?), LayerType: (?P<type>\w+)(?=,|\s*$)")
_LIST = r", {}: \[(?P<inside>\s*|.*?\}}\s*)\](?=, [A-Z]\w*: |\s*$)"
_INPUTS, _CONSTANTS, _OUTPUTS = (re.compile(_LIST.format(word)) for word in ("Inputs", "Constants", "Outputs"))
_TENSOR = re.compile(r"\{(?P<fields>.*?)\}(?=\s*, \{|\s*$)")
# RTX and TensorRT 11 write 'Datatype: Half, Format: ...', TensorRT 10 'Format/Datatype: Row major linear FP16 format'.
_DATATYPE = re.compile(r", (?:Format/)?Data[tT]ype: (?P<type>.+?)(?=, [A-Z]\w*: |\s*$)")
_SHAPE = re.compile(r", Dimensions: \[(?P<shape>[-\d, ]*)\]")
_WEIGHTS = re.compile(r', Weights: \{"Type": "(?P<type>\w+)", "Count": (?P<count>\d+)\}')
_END = re.compile(r"^(Bindings|I/O Tensors|Engine Metadata)\b")

_WORDS = (
    (re.compile(r"bf16|bfloat16"), "BFloat16"),
    (re.compile(r"fp32|float32|\bfloat\b"), "Float"),
    (re.compile(r"fp16|float16|\bhalf\b"), "Half"),
    (re.compile(r"fp8|float8|e4m3|e5m2"), "FP8"),
    (re.compile(r"fp4|float4|e2m1"), "FP4"),
    (re.compile(r"(?<!u)int8"), "Int8"),
    (re.compile(r"int32|int64|uint8|int4|bool"), _UNTYPED),
)
"""Parts of the words for a tensor's datatype, and ours; the first that fits."""


@dataclass(frozen=True)
class BuiltLayer:
    """A layer of an engine.

    Attributes:
        name: as built; fused ones name their parts.
        type: the library's word, such as ``gemm``.
        datatype: of its weights, but 8 bits only where its input is in 8 bits too; else of its first
            floating-point input, such as ``Half``; ``none`` for shapes and sizes; ``unread``, as is then the type,
            where it can't be read.
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
    """Read a layer listing: all rows of it, those that can't be read as such.

    Args:
        listing: the message of the builder's log that begins with :data:`LAYER_LOG`.
    """
    layers = []
    for line in listing.removeprefix(LAYER_LOG).splitlines():
        if _END.match(line):
            break
        if line.startswith("Name: "):
            layers.append(_layer(line))
    return tuple(layers)


def _layer(line: str) -> BuiltLayer:
    head, inputs, outputs = _HEAD.match(line), _INPUTS.search(line), _OUTPUTS.search(line)
    if head is None or inputs is None or outputs is None:
        return _unread(line.removeprefix("Name: ").split(", LayerType: ")[0])
    constants = _CONSTANTS.search(line)
    lists = [_tensors(match["inside"] if match else "") for match in (inputs, constants, outputs)]
    weights = _WEIGHTS.search(line)
    told = [(int(weights["count"]), datatype_of(weights["type"]))] if weights else lists[1]
    return layer_of(head["name"], head["type"], lists[0], told, lists[2])


def _tensors(inside: str) -> list[tuple[int, str | None]]:
    """Elements and datatype of each tensor of a list."""
    found = []
    for tensor in _TENSOR.finditer(inside):
        fields = f", {tensor['fields'].strip()}"
        datatype, shape = _DATATYPE.search(fields), _SHAPE.search(fields)
        size = math.prod(int(side) for side in shape["shape"].split(",") if side.strip()) if shape else 0
        found.append((size, datatype_of(datatype["type"]) if datatype else None))
    return found


def datatype_of(word: str) -> str | None:
    """The datatype in a word of the library's, such as ``Row major linear FP16 format``; ``none`` for whole numbers.

    None where it is not known.
    """
    return next((ours for theirs, ours in _WORDS if theirs.search(word.lower())), None)


def layer_of(
    name: str,
    kind: str,
    inputs: Sequence[tuple[int, str | None]],
    constants: Sequence[tuple[int, str | None]],
    outputs: Sequence[tuple[int, str | None]],
) -> BuiltLayer:
    """A layer by its tensors, as elements and datatype of each; an unread one where a datatype is not known."""
    kind = _TYPES.get(kind, kind)
    if kind in _OPAQUE or any(datatype is None for _, datatype in (*inputs, *constants, *outputs)):
        return _unread(name)
    weights, datatype = max(((size, str(one)) for size, one in constants if one != _UNTYPED), default=(0, ""))
    entering = [str(one) for _, one in inputs if one != _UNTYPED]
    leaving = [str(one) for _, one in outputs if one not in (_UNTYPED, *_EIGHT_BITS)]
    if not (weights > 1 and kind in _MATRIX_TYPES) or (datatype in _EIGHT_BITS and datatype not in entering):
        # 8-bit weights alone are unpacked and multiplied in the input's datatype; one number is a factor of two inputs
        datatype = (entering or leaving or [datatype or _UNTYPED])[0]
    layer = BuiltLayer(name, kind, datatype, weights)
    return _unread(name) if layer.is_matrix and datatype == _UNTYPED else layer


def _unread(name: str) -> BuiltLayer:
    return BuiltLayer(name, UNREAD, UNREAD, 0)


def unread(layers: Sequence[BuiltLayer]) -> int:
    """The number of layers that could not be read."""
    return sum(layer.type == UNREAD for layer in layers)


def list_weights(matrix: Sequence[BuiltLayer]) -> bool:
    """Whether all of these layers list their weights: a share of the weights of some says nothing of the others."""
    return all(layer.weights for layer in matrix)


def check_precision(
    layers: Sequence[BuiltLayer], precision: Precision, trained: Sequence[TensorSpec] = ()
) -> str | None:
    """Refuse an engine that is not in the precision it is named for.

    fp32: every matrix layer is. fp16: nearly all of the weights are, since routers and head stay in float32 by design.
    A layer that could not be read may be right. Products with trained tensors that are inputs list no weights: where
    there are no more such layers than such tensors, and no more in another precision than tensors are in float32, the
    weights of all others decide.

    Args:
        layers: as built.
        precision: that the engine is named for.
        trained: the inputs beside the volume.

    Returns:
        What could not be checked, as a sentence; None where all was.

    Raises:
        EngineError: it is not; the message gives the count of its layers.
    """
    matrix = [layer for layer in layers if layer.is_matrix]
    right = [layer for layer in matrix if layer.datatype == DATATYPES[precision]]
    hidden = unread(layers)
    if not matrix:
        return not_checked(layers)
    if precision is not Precision.FP32 and not hidden and _weights_decide(matrix, precision, trained):
        weights = sum(layer.weights for layer in matrix)
        share, least = sum(layer.weights for layer in right) / weights, WEIGHTS_IN_PRECISION
    else:
        share = (len(right) + hidden) / (len(matrix) + hidden)
        least = 1.0 if precision is Precision.FP32 else LAYERS_IN_PRECISION
    if share < least:
        counts = Counter(layer.datatype for layer in (*matrix, *(x for x in layers if x.type == UNREAD)))
        built = ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
        raise EngineError(
            f"the engine is named {precision} and is not {precision} inside: {share:.0%} in {DATATYPES[precision]}, "
            f"expected at least {least:.0%}; its matrix layers are {built}. It was not kept. Precision is in the "
            f"graph: export the checkpoint again"
        )
    return not_checked(layers) if hidden else None


def _weights_decide(matrix: Sequence[BuiltLayer], precision: Precision, trained: Sequence[TensorSpec]) -> bool:
    """Whether all matrix layers list their weights, but for products with trained tensors that are inputs."""
    if list_weights(matrix):
        return True
    silent = sum(not layer.weights for layer in matrix)
    other = sum(layer.weights <= 1 and layer.datatype != DATATYPES[precision] for layer in matrix)
    factors = [spec.dtype for spec in trained if len(spec.shape) > 1]
    return silent < len(matrix) and silent <= len(factors) and other <= factors.count("float32")


def not_checked(layers: Sequence[BuiltLayer]) -> str:
    """The sentence that tells what of an engine could not be read."""
    hidden = unread(layers)
    of = f"{hidden} of the engine's {len(layers)} layers" if hidden else "the engine's layers"
    return (
        f"{of} can't be read from what this version of the library tells, so their precision was not checked. "
        f"'molre-edge verify' checks the engine's answers; docs/reference/tensorrt.md lists the versions that are known"
    )
