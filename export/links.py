"""Walking an ONNX graph along its edges."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

__all__ = ["Links"]

_KEEP = {"Cast", "Identity", "QuantizeLinear", "DequantizeLinear"}
_REORDER = {"Transpose", "Reshape", "Unsqueeze"}
_INT64 = 7  # TensorProto.INT64


class Links:
    """Who makes and who reads each value of a graph.

    Attributes:
        constants: names of initialisers and of outputs of Constant nodes, with their shapes.
        inputs: names of the graph's inputs but the first, the volume: what was trained, where a graph takes it so.
    """

    def __init__(self, graph: onnx.ModelProto) -> None:
        """Index a graph without subgraphs."""
        self._maker: dict[str, onnx.NodeProto] = {}
        self._readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        self.constants: dict[str, tuple[int, ...]] = {i.name: tuple(i.dims) for i in graph.graph.initializer}
        for node in graph.graph.node:
            for name in node.output:
                self._maker[name] = node
                if node.op_type == "Constant":
                    tensor = next((a.t for a in node.attribute if a.name == "value"), None)
                    self.constants[name] = tuple(tensor.dims) if tensor is not None else ()
            for name in node.input:
                self._readers[name].append(node)
        self.inputs = tuple(value.name for value in graph.graph.input[1:])
        self._graph = graph.graph

    @cached_property
    def weights(self) -> dict[str, tuple[int, ...]]:
        """Shapes of constants and of :attr:`inputs`, and of what is moved, cast or rounded from them alone, by name.

        No value among them depends on the volume.
        """
        shapes = dict(self.constants)
        for value in self._graph.input[1:]:
            shapes[value.name] = tuple(axis.dim_value for axis in value.type.tensor_type.shape.dim)
        whole = {tensor.name: tensor for tensor in self._graph.initializer if tensor.data_type == _INT64}
        for node in self._graph.node:
            if node.op_type in _KEEP | _REORDER and all(name in shapes for name in node.input if name):
                before = shapes[node.input[0]]
                settings = whole.get(node.input[1]) if len(node.input) > 1 else None
                after = before if node.op_type in _KEEP else _moved(node, before, settings)
                if after is not None:
                    shapes[node.output[0]] = after
        return shapes

    def maker(self, value: str) -> onnx.NodeProto | None:
        """The node that makes a value; None for inputs and initialisers."""
        return self._maker.get(value)

    def readers(self, value: str) -> list[onnx.NodeProto]:
        """The nodes that read a value."""
        return self._readers.get(value, [])

    def upstream(self, values: Iterable[str], *, stop: Iterable[str] = ()) -> set[str]:
        """All values that `values` are computed from, themselves included; not beyond outputs of `stop` operators."""
        seen, queue, stops = set[str](), deque(values), set(stop)
        while queue:
            value = queue.popleft()
            if value in seen:
                continue
            seen.add(value)
            node = self._maker.get(value)
            if node is not None and node.op_type not in stops:
                queue.extend(name for name in node.input if name)
        return seen

    def nodes_between(self, value: str, *, stop: Iterable[str]) -> list[onnx.NodeProto]:
        """The nodes that `value` is made by, back to the nearest `stop` operators, these included; unordered."""
        makers = (self._maker.get(name) for name in self.upstream([value], stop=stop))
        return list({node.output[0]: node for node in makers if node is not None}.values())

    def downstream(self, values: Iterable[str], *, stop: Iterable[str] = ()) -> set[str]:
        """All values that are computed from `values`, themselves included; not through `stop` operators."""
        seen, queue, stops = set[str](), deque(values), set(stop)
        while queue:
            value = queue.popleft()
            if value in seen:
                continue
            seen.add(value)
            for node in self._readers.get(value, []):
                if node.op_type not in stops:
                    queue.extend(node.output)
        return seen


def _moved(node: onnx.NodeProto, shape: tuple[int, ...], settings: onnx.TensorProto | None) -> tuple[int, ...] | None:
    """The shape that a node makes of a weight's; None where it can't be told."""
    from onnx import numpy_helper

    if node.op_type == "Transpose":
        order = next((list(a.ints) for a in node.attribute if a.name == "perm"), range(len(shape))[::-1])
        return tuple(shape[axis] for axis in order)
    if settings is None:
        return None
    numbers = [int(number) for number in numpy_helper.to_array(settings).ravel()]
    if node.op_type == "Unsqueeze":
        sides = list(shape)
        for axis in sorted(axis % (len(shape) + len(numbers)) for axis in numbers):
            sides.insert(axis, 1)
        return tuple(sides)
    sides = [shape[axis] if side == 0 else side for axis, side in enumerate(numbers)]
    known = prod(side for side in sides if side != -1)
    return tuple(prod(shape) // max(known, 1) if side == -1 else side for side in sides)
