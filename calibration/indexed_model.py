"""An ONNX model with indices of its nodes and initialisers: built once, then shared by everything that reads it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from molre_edge.export.attention import MOVES, attention_products
from molre_edge.export.links import Links
from molre_edge.export.routing_trace import router_softmaxes

if TYPE_CHECKING:
    import onnx

__all__ = ["PRODUCTS", "IndexedModel"]

PRODUCTS = ("MatMul", "Gemm", "Conv")
"""Operators of linear layers and convolutions."""


class IndexedModel:
    """An ONNX model with indices of its nodes and initialisers.

    The indices are built at first use. Change nodes and initialisers through the methods only: they discard the
    indices, so that the next use builds them again.

    Attributes:
        model: the ONNX model, without subgraphs and with its nodes in topological order.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        """Wrap a model; nothing is copied."""
        self.model = model

    @property
    def nodes(self) -> list[onnx.NodeProto]:
        """All nodes, in topological order."""
        return list(self.model.graph.node)

    @cached_property
    def links(self) -> Links:
        """The maker and the readers of each value."""
        return Links(self.model)

    @cached_property
    def initializers(self) -> dict[str, onnx.TensorProto]:
        """The initialisers by name."""
        return {tensor.name: tensor for tensor in self.model.graph.initializer}

    @cached_property
    def ranks(self) -> dict[str, int]:
        """The number of axes of each value whose shape the model states."""
        return {value.name: len(value.type.tensor_type.shape.dim) for value in self.model.graph.value_info}

    @cached_property
    def router_softmaxes(self) -> list[onnx.NodeProto]:
        """The Softmax nodes of the routers."""
        return router_softmaxes(self.model)

    @cached_property
    def attentions(self) -> list[onnx.NodeProto]:
        """The Softmax nodes of attentions: each feeds a product of two activations. Routers do not count."""
        found = {softmax.name: softmax for softmax, _, _ in attention_products(self.model, self.links)}
        return list(found.values())

    def array(self, name: str) -> npt.NDArray[np.generic]:
        """The value of an initialiser."""
        from onnx import numpy_helper

        return numpy_helper.to_array(self.initializers[name])

    def codes(self, name: str) -> npt.NDArray[np.generic]:
        """The value of an initialiser; of one in E4M3 its codes, uint8."""
        from onnx import TensorProto

        tensor = self.initializers[name]
        if tensor.data_type == TensorProto.FLOAT8E4M3FN:
            return np.frombuffer(tensor.raw_data, np.uint8).reshape(tuple(tensor.dims))
        return self.array(name)

    def add_part(self, name: str, features: slice, part: str) -> str:
        """Add some of a constant's last axis as a constant of its own and return its name."""
        from onnx import TensorProto

        codes = self.codes(name)[..., features]
        if self.initializers[name].data_type == TensorProto.FLOAT8E4M3FN:
            return self.add_fp8(part, codes.astype(np.uint8))
        return self.add_initializer(part, codes)

    def is_layer(self, node: onnx.NodeProto) -> bool:
        """Whether a node multiplies an activation by a constant weight: a linear layer or a convolution."""
        constants = self.links.constants
        return node.op_type in PRODUCTS and node.input[1] in constants and node.input[0] not in constants

    def is_inner_product(self, node: onnx.NodeProto) -> bool:
        """Whether a node multiplies two activations, as attention does."""
        return node.op_type == "MatMul" and not any(name in self.links.weights for name in node.input)

    def has_weight(self, node: onnx.NodeProto) -> bool:
        """Whether a node multiplies an activation by a weight: a constant, or what was trained, as an input."""
        weights = self.links.weights
        return node.op_type in PRODUCTS and node.input[1] in weights and node.input[0] not in weights

    def readers_past_moves(self, value: str) -> list[onnx.NodeProto]:
        """The nodes that compute with a value, after it was moved or cast any number of times."""
        readers = []
        for node in self.links.readers(value):
            readers += self.readers_past_moves(node.output[0]) if node.op_type in MOVES else [node]
        return readers

    def copy(self) -> IndexedModel:
        """An independent copy."""
        import onnx

        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        return IndexedModel(model)

    def serialize(self) -> bytes:
        """The bytes of the model's file."""
        raw: bytes = self.model.SerializeToString()
        return raw

    def add_initializer(self, name: str, value: npt.NDArray[np.generic]) -> str:
        """Add a constant and return its name."""
        from onnx import numpy_helper

        # not ascontiguousarray, which gives a scalar an axis
        self.model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        self._discard_indices()
        return name

    def add_fp8(self, name: str, codes: npt.NDArray[np.uint8]) -> str:
        """Add a constant in E4M3, by its codes, and return its name."""
        from onnx import TensorProto, helper

        raw = np.ascontiguousarray(codes).tobytes()
        tensor = helper.make_tensor(name, TensorProto.FLOAT8E4M3FN, codes.shape, raw, raw=True)
        self.model.graph.initializer.append(tensor)
        self._discard_indices()
        return name

    def replace_nodes(self, nodes: Iterable[onnx.NodeProto]) -> None:
        """Replace all nodes by these, in topological order."""
        kept = list(nodes)
        del self.model.graph.node[:]
        self.model.graph.node.extend(kept)
        self._discard_indices()

    def drop_unread(self) -> None:
        """Remove nodes and initialisers that nothing reads and that are no outputs of the model."""
        outputs = {value.name for value in self.model.graph.output}
        while True:
            nodes = self.nodes
            read = {name for node in nodes for name in node.input} | outputs
            kept = [node for node in nodes if read & set(node.output)]
            if len(kept) == len(nodes):
                break
            self.replace_nodes(kept)
        constants = [tensor for tensor in self.model.graph.initializer if tensor.name in read]
        del self.model.graph.initializer[:]
        self.model.graph.initializer.extend(constants)
        self._discard_indices()

    def _discard_indices(self) -> None:
        for name in ("links", "initializers", "ranks", "router_softmaxes", "attentions"):
            self.__dict__.pop(name, None)
