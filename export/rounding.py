"""The mode in which ONNX Runtime on a CPU really rounds to float16.

An x86 CPU has no float16 kernels for most operators: ONNX Runtime casts to float32 around each node, and then drops
every pair of casts between two nodes, at every optimisation level, "disabled" included. So a float16 graph that runs
there plainly computes in float32 from end to end, and says nothing about float16. A pair of Identity nodes behind every
float16 value keeps the casts apart, as long as optimisation is off: then each node's answer is rounded to float16,
with sums inside a node in float32, which is what tensor cores do.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

__all__ = ["MODE", "rounding_copy", "runtime_rounds"]

MODE = (
    "float16 checked node by node: on a CPU, ONNX Runtime computes float16 nodes in float32 and drops the casts "
    "between them, so that the graph as it is would not round; export judged a copy in which every float16 value is "
    "rounded"
)


def rounding_copy(graph: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which every float16 value passes two Identity nodes. Run it with graph optimisation off."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(graph, data_prop=False)
    half = {
        value.name
        for value in (*inferred.graph.value_info, *inferred.graph.output)
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    }
    outputs = {value.name for value in graph.graph.output}
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    nodes = list(copy.graph.node)
    del copy.graph.node[:]
    renamed: dict[str, str] = {}
    for node in nodes:
        for i, name in enumerate(node.input):
            node.input[i] = renamed.get(name, name)
        copy.graph.node.append(node)
        for name in node.output:
            if name in half and name not in outputs:
                first, second = f"{name}__kept", f"{name}__rounded"
                copy.graph.node.append(onnx.helper.make_node("Identity", [name], [first], name=first))
                copy.graph.node.append(onnx.helper.make_node("Identity", [first], [second], name=second))
                renamed[name] = second
    return copy


@cache
def runtime_rounds() -> bool:
    """Whether the installed ONNX Runtime rounds a :func:`rounding_copy`: 2048 + 1 is 2048 in float16."""
    import numpy as np
    import onnx
    import onnxruntime as ort

    half = onnx.TensorProto.FLOAT16
    one = onnx.numpy_helper.from_array(np.array([1.0], np.float16), "one")
    base = onnx.numpy_helper.from_array(np.array([2048.0], np.float16), "base")
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Add", ["x", "one"], ["sum"], name="sum"),
            onnx.helper.make_node("Sub", ["sum", "base"], ["y"], name="rest"),
        ],
        "canary",
        [onnx.helper.make_tensor_value_info("x", half, [1])],
        [onnx.helper.make_tensor_value_info("y", half, [1])],
        [one, base],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        rounding_copy(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return float(session.run(None, {"x": np.array([2048.0], np.float16)})[0][0]) == 0.0
