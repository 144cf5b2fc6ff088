"""The float16 graph: precision as a property of the file, with float32 islands where half floats are not safe."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from molre_edge.adapters.tensors import Tensors, check_half_range
from molre_edge.errors import AdapterError, ExportError
from molre_edge.export.links import Links
from molre_edge.export.routing_trace import router_softmaxes
from molre_edge.specs import TensorSpec

if TYPE_CHECKING:
    import onnx

    from molre_edge.model.classifier import HeadCTClassifier

__all__ = ["check_half", "float32_islands", "to_half"]

_NORMS = ("LayerNormalization", "InstanceNormalization", "GroupNormalization", "BatchNormalization")
_PRODUCTS = ("MatMul", "Gemm", "Conv")
_MEANS = ("ReduceMean", "Reshape", "Transpose", "Squeeze", "Flatten", "Sub", "Div")
"""The way from a layer's input to its router: a mean over positions, one over slices where volumes are routed, and the
constants that standardise it."""


def float32_islands(graph: onnx.ModelProto) -> list[str]:
    """Names of the nodes that stay in float32, norms aside: what makes the logits, and the routers.

    Squares of large residuals overflow in a float16 norm; gates and logits are what parity is judged on. Of the logits,
    these are the products nearest to them (one, or two where the head is adapted) and all that follows; of the gates,
    the routers from the mean over positions on, which are small, and their way to the output, so that what is reported
    was not rounded. What tells two scans apart may be a small part of that mean, and float16 keeps three digits of it.
    """
    links = Links(graph)
    head = links.nodes_between("logits", stop=_PRODUCTS)
    if not any(node.op_type in _PRODUCTS for node in head):
        raise ExportError("the graph has no product that makes 'logits'")
    softmaxes = router_softmaxes(graph)
    gates = links.nodes_between("gates", stop=("Softmax",)) if softmaxes else []
    routers = [node for softmax in softmaxes for node in _router_nodes(links, softmax)]
    chosen = {node.name for node in (*head, *gates, *softmaxes, *routers)}
    chosen |= _moves_of_weights(graph, links, chosen)
    return [node.name for node in graph.graph.node if node.name in chosen]


def _moves_of_weights(graph: onnx.ModelProto, links: Links, chosen: set[str]) -> set[str]:
    """The nodes that turn what was trained, as the graph takes it, into the weights of chosen products."""
    values = [name for node in graph.graph.node if node.name in chosen for name in node.input]
    moves = set[str]()
    while values:
        node = links.maker(values.pop())
        if node is not None and node.output[0] in links.weights and node.output[0] not in links.constants:
            moves.add(node.name)
            values.extend(node.input)
    return moves


def _single_inputs(graph: onnx.ModelProto, islands: Collection[str]) -> list[str]:
    """The inputs beside the volume that stay in float32: those that only islands read."""
    links = Links(graph)
    return [name for name in links.inputs if all(node.name in islands for node in links.readers(name))]


def _router_nodes(links: Links, softmax: onnx.NodeProto) -> list[onnx.NodeProto]:
    """A router's nodes before its softmax: both layers, and what they read from the mean over positions on."""
    nodes: list[onnx.NodeProto] = []
    value = softmax.input[0]
    for _ in ("second layer", "first layer"):
        layer = links.nodes_between(value, stop=_PRODUCTS)
        products = [node for node in layer if node.op_type in _PRODUCTS]
        if len(products) != 1:
            return nodes
        nodes.extend(layer)
        value = products[0].input[0]
    way: list[onnx.NodeProto] = []
    node = links.maker(value)
    while node is not None and node.op_type in _MEANS:
        way.append(node)
        if node.op_type in ("ReduceMean", "Sub"):  # what only reshapes before the first of them may stay in float16
            nodes.extend(way)
            way = []
        node = links.maker(node.input[0])
    return nodes


def to_half(
    graph: onnx.ModelProto, model: HeadCTClassifier | None = None, trained: Tensors | None = None
) -> onnx.ModelProto:
    """Convert a float32 graph to float16; volume in float16, outputs in float32.

    What was trained, where it is an input, comes in float16 too, but for what only the float32 islands read.

    Args:
        graph: in float32.
        model: whose graph it is; names the module of a weight that is refused.
        trained: values of the trained tensors, if they are inputs of the graph.

    Raises:
        ExportError: a weight that would become float16 does not fit into it.
    """
    import numpy as np
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    islands = float32_islands(graph)
    single = _single_inputs(graph, islands)
    _check_range(graph, islands, model)
    _check_trained(trained or {}, single)
    source = onnx.ModelProto()
    source.CopyFrom(graph)  # the converter works in place
    half = convert_float_to_float16(
        source,
        keep_io_types=[*single, *(output.name for output in graph.graph.output)],
        op_block_list=list(_NORMS),
        node_block_list=islands,
        min_positive_val=5.96e-8,  # the smallest half there is, whatever a version's default
        max_finite_val=float(np.finfo(np.float16).max),
    )
    _join_islands(half, islands)
    ordered = OnnxModel(half)
    ordered.topological_sort()  # the converter appends its casts at the end
    return ordered.model  # type: ignore[no-any-return]


def _check_trained(trained: Tensors, single: Collection[str]) -> None:
    try:
        check_half_range(
            trained, [TensorSpec(name, "float16", value.shape) for name, value in trained.items() if name not in single]
        )
    except AdapterError as error:
        raise ExportError(f"{error}. Export it in float32 only (--precision fp32)") from error


def _check_range(graph: onnx.ModelProto, islands: list[str], model: HeadCTClassifier | None) -> None:
    """Refuse weights beyond float16's range, but for those that only float32 nodes read: these stay as they are."""
    import numpy as np
    import onnx
    from onnx import numpy_helper

    readers = Links(graph).readers
    limit = float(np.finfo(np.float16).max)
    for tensor in graph.graph.initializer:
        rounded = [n for n in readers(tensor.name) if n.name not in islands and n.op_type not in _NORMS]
        if tensor.data_type != onnx.TensorProto.FLOAT or not rounded:
            continue
        values = numpy_helper.to_array(tensor).ravel()
        largest = float(values[np.abs(values).argmax()]) if values.size else 0.0
        if abs(largest) > limit:
            raise ExportError(
                f"the weight {_name_of(tensor.name, largest, model)} reaches {abs(largest):.3g}, and the float16 graph "
                f"can hold {limit:.0f} at most. Export this model in float32 only (--precision fp32)"
            )


def _name_of(name: str, value: float, model: HeadCTClassifier | None) -> str:
    """A weight's name in the model: the simplifier renames transposed and joined weights (``val_131``).

    Args:
        name: in the graph.
        value: a value of the weight that tells it from others.
        model: whose graph it is.
    """
    if model is None or "." in name:
        return name.removeprefix("classifier.").replace(".base.", ".")
    from molre_edge.model.checkpoint import plain_names

    names = plain_names(model)
    found = [names[own] for own, weight in model.state_dict().items() if bool((weight == value).any())]
    return " or ".join(found[:3]) or f"{name} of the graph"


def _join_islands(graph: onnx.ModelProto, islands: list[str]) -> None:
    """Take out the casts to float16 and back between two float32 nodes, and between one and a float32 output.

    The converter puts a pair of casts around every node that it leaves in float32, each on its own: logits that were
    computed in float32 would be rounded to float16 on their way out.
    """
    import onnx

    links, outputs = Links(graph), {output.name for output in graph.graph.output}
    single = {*_single_values(graph)}
    rename: dict[str, str] = {}
    needless = set[str]()
    for back in graph.graph.node:
        there = links.maker(back.input[0]) if _casts_to(back, onnx.TensorProto.FLOAT) else None
        if there is None or not _casts_to(there, onnx.TensorProto.FLOAT16):
            continue
        origin = links.maker(there.input[0])
        if origin is None and there.input[0] not in single:
            continue
        if origin is not None and origin.name not in islands and origin.op_type not in _NORMS:
            continue
        exact, rounded = there.input[0], back.output[0]
        if rounded not in outputs:
            rename[rounded] = exact
        elif exact not in rename and exact not in outputs:
            rename[exact] = rounded  # an output keeps its name
        else:
            continue
        needless.add(back.name)
    nodes = [node for node in graph.graph.node if node.name not in needless]
    for node in nodes:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                while name in rename:  # two steps where a value goes to an output and elsewhere
                    name = rename[name]
                names[i] = name
    read = {name for node in nodes for name in node.input} | outputs
    nodes = [node for node in nodes if node.op_type != "Cast" or node.output[0] in read]
    made = {name for node in nodes for name in node.output} - outputs
    values = [value for value in graph.graph.value_info if value.name in made]
    del graph.graph.node[:], graph.graph.value_info[:]
    graph.graph.node.extend(nodes)
    graph.graph.value_info.extend(values)


def _single_values(graph: onnx.ModelProto) -> list[str]:
    """The float32 inputs."""
    import onnx

    return [v.name for v in graph.graph.input if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT]


def _casts_to(node: onnx.NodeProto, kind: int) -> bool:
    return node.op_type == "Cast" and any(a.name == "to" and a.i == kind for a in node.attribute)


def check_half(graph: onnx.ModelProto, islands: list[str]) -> None:
    """Check that the graph is what its name says: a valid model that computes in float16 but for its islands.

    Args:
        graph: from :func:`to_half`.
        islands: from :func:`float32_islands`.

    Raises:
        ExportError: names what is not as it should be.
    """
    import onnx

    half, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    try:
        onnx.checker.check_model(graph, full_check=True)
    except Exception as error:
        raise ExportError(f"the ONNX checker refuses the float16 graph: {error}") from error
    kinds = {tensor.name: tensor.data_type for tensor in graph.graph.initializer}
    wide = [
        node.name
        for node in graph.graph.node
        if node.op_type in _PRODUCTS and node.name not in islands and single in map(kinds.get, node.input)
    ]
    if wide:
        raise ExportError(f"the float16 graph has {len(wide)} products with float32 weights, such as {wide[0]}")
    wide_ends = {*_single_inputs(graph, islands), *(value.name for value in graph.graph.output)}
    for value in (*graph.graph.input, *graph.graph.output):
        kind, word = (single, "float32") if value.name in wide_ends else (half, "float16")
        if value.type.tensor_type.elem_type != kind:
            raise ExportError(f"the float16 graph: expected {value.name} in {word}")
