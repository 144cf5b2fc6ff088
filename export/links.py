"""Walking an ONNX graph along its edges."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

__all__ = ["Links"]


class Links:
    """Who makes and who reads each value of a graph.

    Attributes:
        constants: names of initialisers and of outputs of Constant nodes, with their shapes.
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
