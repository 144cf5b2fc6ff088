"""Takes apart quantised layers that were joined at export: TensorRT-RTX makes a float product of a joined INT8 one.

The simplifier joins the linear layers that read one value, such as an attention's three, into one product and a Split.
In float16 that is as good as any. With Q/DQ, TensorRT-RTX 1.7 turns the pair into a batched product in Half, while
three products with equal Q/DQ on their input become one in Int8.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from molre_edge.export.links import Links

if TYPE_CHECKING:
    import onnx

__all__ = ["take_apart"]


def take_apart(graph: onnx.ModelProto, quantised: Collection[str]) -> set[str]:
    """Replace each quantised product whose answer is split by one product a part, in place.

    Args:
        graph: with Q/DQ pairs.
        quantised: names of the products with such pairs.

    Returns:
        The names of all quantised products as they are now.
    """
    links, names = Links(graph), set(quantised)
    constants = {tensor.name: tensor for tensor in graph.graph.initializer}
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in graph.graph.value_info}
    nodes = list(graph.graph.node)
    replaced: dict[str, list[onnx.NodeProto]] = {}  # by output of the node that goes
    for node in nodes:
        if node.name not in quantised or node.op_type != "MatMul":
            continue
        way = _way_to_split(links, node, constants, ranks)
        if way is None:
            continue
        parts = _parts(graph, links, node, way, constants)
        names.remove(node.name)
        names.update(part.name for part in parts if part.op_type == "MatMul")
        replaced.update({gone.output[0]: [] for gone in (node, *way[:-1])})
        replaced[way[-1].output[0]] = parts
    if not replaced:
        return names
    del graph.graph.node[:]
    for node in nodes:
        graph.graph.node.extend(replaced.get(node.output[0], [node]))
    _drop_unread(graph)
    return names


def _way_to_split(
    links: Links, product: onnx.NodeProto, constants: dict[str, onnx.TensorProto], ranks: dict[str, int]
) -> list[onnx.NodeProto] | None:
    """The nodes from a product to the Split of its features: with a bias between, or none. None where there is none."""
    from onnx import numpy_helper

    way: list[onnx.NodeProto] = []
    node = product
    for _ in ("bias", "split"):
        readers = links.readers(node.output[0])
        if len(readers) != 1:
            return None
        node = readers[0]
        way.append(node)
        if node.op_type == "Split":
            break
        if node.op_type != "Add" or not any(len(links.constants.get(name, ())) == 1 for name in node.input):
            return None
    weight = links.maker(product.input[1])
    if node.op_type != "Split" or weight is None or len(node.input) < 2 or node.input[1] not in constants:
        return None
    sizes = numpy_helper.to_array(constants[node.input[1]])
    features = links.constants[weight.input[0]][1]
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
    last = axis == -1 or axis == ranks.get(node.input[0], 0) - 1  # of unknown rank: -1 alone is sure
    return way if int(sizes.sum()) == features and last else None


def _parts(
    graph: onnx.ModelProto,
    links: Links,
    product: onnx.NodeProto,
    way: list[onnx.NodeProto],
    constants: dict[str, onnx.TensorProto],
) -> list[onnx.NodeProto]:
    """A Q/DQ pair, a weight, a product and, where there is one, a sum with the bias, for each part."""
    import onnx
    from onnx import helper, numpy_helper

    def cut(name: str, place: int, part: slice) -> str:
        """A part of a constant, along its last axis."""
        made = f"{name}__{place}"
        value = numpy_helper.to_array(constants[name])[..., part]
        graph.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), made))
        return made

    rounding, weight = links.maker(product.input[0]), links.maker(product.input[1])
    assert rounding is not None and weight is not None
    quantize = links.maker(rounding.input[0])
    assert quantize is not None
    split = way[-1]
    ends = np.cumsum(numpy_helper.to_array(constants[split.input[1]]))
    nodes: list[onnx.NodeProto] = []
    starts = [0, *ends[:-1]]
    for place, (start, end, output) in enumerate(zip(starts, ends, split.output, strict=True), start=1):
        part = slice(int(start), int(end))
        own = {name: f"{name}__{place}" for node in (quantize, rounding, weight, product) for name in node.output}
        for node, inputs in (
            (quantize, list(quantize.input)),
            (rounding, [own[rounding.input[0]], *rounding.input[1:]]),
            (weight, [cut(name, place, part) for name in weight.input]),
            (product, [own[name] for name in product.input]),
        ):
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = f"{node.name}__{place}"
            copy.input[:], copy.output[:] = inputs, [own[name] for name in node.output]
            nodes.append(copy)
        if len(way) == 1:
            nodes[-1].output[0] = output
        else:
            bias = next(name for name in way[0].input if len(links.constants.get(name, ())) == 1)
            inputs = [nodes[-1].output[0], cut(bias, place, part)]
            nodes.append(helper.make_node("Add", inputs, [output], name=f"{way[0].name}__{place}"))
    return nodes


def _drop_unread(graph: onnx.ModelProto) -> None:
    """Take out Q, DQ and constants that nothing reads any more."""
    outputs = {value.name for value in graph.graph.output}
    while True:
        read = {name for node in graph.graph.node for name in node.input} | outputs
        kept = [node for node in graph.graph.node if read & set(node.output)]
        if len(kept) == len(graph.graph.node):
            break
        del graph.graph.node[:]
        graph.graph.node.extend(kept)
    constants = [tensor for tensor in graph.graph.initializer if tensor.name in read]
    del graph.graph.initializer[:]
    graph.graph.initializer.extend(constants)
