"""Describes an ONNX graph: inputs, outputs, operators, the precision of its weights, and its routers."""

from __future__ import annotations

import hashlib
from collections import Counter
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from molre_edge.adapters.tensors import PREFIX
from molre_edge.errors import ExportError, MissingDependencyError
from molre_edge.files import read_regular
from molre_edge.inspection.findings import Inspection, Table, megabytes, plain

if TYPE_CHECKING:
    import onnx

__all__ = ["inspect_graph"]

_MAX_BYTES = 2 << 30  # the largest protobuf message


def inspect_graph(path: Path) -> Inspection:
    """Describe a graph. Weights in other files are not loaded.

    Raises:
        MissingDependencyError: onnx is not installed.
        ExportError: the file is not a regular file, is too large, or is not an ONNX file.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingDependencyError("Inspecting a graph", "onnx", "export") from error
    try:
        content = read_regular(path, largest=_MAX_BYTES)
    except OSError as error:
        raise ExportError(
            f"{path}: can't be read ({error.strerror}); expected an ONNX file of at most 2 GiB"
        ) from error
    try:
        model = onnx.load_from_string(content)
    except Exception as error:  # protobuf's own error; this project does not import protobuf
        raise ExportError(
            f"{path}: not an ONNX file ({plain(str(error))}). Copy it again, or export the checkpoint again"
        ) from error
    graph = model.graph
    if not graph.node or not graph.output:
        raise ExportError(f"{path}: not an ONNX file with a graph. Copy it again, or export the checkpoint again")
    inputs, outputs = [_value(v) for v in graph.input], [_value(v) for v in graph.output]
    opsets = {plain(entry.domain or "ai.onnx"): entry.version for entry in model.opset_import}
    operators = Counter(plain(node.op_type) for node in graph.node)
    weights = _weights(graph)
    routers = [plain(node.name) for node in _routers(model)]
    quantised = sum(operators[name] for name in ("QuantizeLinear", "DequantizeLinear"))
    precision = _precision(weights, quantised)
    words = [
        *(("input", plain(_text(value))) for value in inputs[:1]),
        *_trained(inputs[1:]),
        *(("output", plain(_text(value))) for value in outputs),
        ("format", f"opset {', '.join(f'{v} ({d})' for d, v in opsets.items())}, IR version {model.ir_version}"),
        ("made by", plain(f"{model.producer_name or 'unknown'} {model.producer_version}".strip())),
        ("precision", precision),
        ("routers", f"{len(routers)} softmaxes lead to 'gates'" if routers else "none: no output 'gates'"),
        ("size", megabytes(len(content))),
    ]
    tables = (
        Table("Weights", ("type", "elements"), tuple((k, f"{n:,}".replace(",", " ")) for k, n in weights.items())),
        Table("Operators", ("operator", "nodes"), tuple((name, str(n)) for name, n in operators.most_common())),
    )
    facts = {
        "path": str(path),
        "sha256": hashlib.sha256(content).hexdigest(),
        "inputs": inputs,
        "outputs": outputs,
        "opset": opsets,
        "ir_version": model.ir_version,
        "precision": precision,
        "weights": weights,
        "operators": dict(operators),
        "routers": routers,
    }
    return Inspection("graph", f"an ONNX graph of {len(graph.node)} nodes, {precision}", facts, tuple(words), tables)


def _trained(inputs: list[dict[str, object]]) -> list[tuple[str, str]]:
    """The inputs beside the volume: all of an unknown graph, the number of a bundle's trained tensors."""
    if not all(str(value["name"]).startswith(PREFIX) for value in inputs):
        return [("input", plain(_text(value))) for value in inputs]
    return [("trained tensors", f"{len(inputs)} inputs, {PREFIX}*: an adapter gives them")] if inputs else []


def _routers(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    from molre_edge.export.routing_trace import router_softmaxes

    return router_softmaxes(model)


def _value(value: onnx.ValueInfoProto) -> dict[str, object]:
    import onnx

    tensor = value.type.tensor_type
    axes = [axis.dim_param or (axis.dim_value if axis.HasField("dim_value") else None) for axis in tensor.shape.dim]
    return {"name": value.name, "dtype": onnx.TensorProto.DataType.Name(tensor.elem_type).lower(), "shape": axes}


def _text(value: dict[str, object]) -> str:
    axes = value["shape"]
    assert isinstance(axes, list)
    return f"{value['name']}: {value['dtype']} [{', '.join('?' if axis is None else str(axis) for axis in axes)}]"


def _weights(graph: onnx.GraphProto) -> dict[str, int]:
    """Elements of the initialisers by type."""
    import onnx

    counts: Counter[str] = Counter()
    for tensor in graph.initializer:
        counts[onnx.TensorProto.DataType.Name(tensor.data_type).lower()] += prod(tensor.dims)
    return dict(counts.most_common())


def _precision(weights: dict[str, int], quantised: int) -> str:
    """In words; the float types and int8 alone say it, since other integers are shapes and indices."""
    counts = {
        name: n for name, n in weights.items() if name in ("float", "float16", "bfloat16", "int8", "float8e4m3fn")
    }
    if not sum(counts.values()):
        return "no weights in the file"
    shares = [f"{n / sum(counts.values()):.1%} {name}" for name, n in counts.items()]
    return "weights " + ", ".join(shares) + (f", with {quantised} Q/DQ nodes" if quantised else "")
