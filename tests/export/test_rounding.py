"""On a CPU, ONNX Runtime rounds to float16 in a rounding copy of a graph, and not in the graph itself."""

from __future__ import annotations

import platform

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from molre_edge.engines.onnxruntime_runner import OnnxRuntimeRunner
from molre_edge.export.exporter import ExportResult
from molre_edge.export.rounding import rounding_copy, runtime_rounds
from molre_edge.parity import Outputs
from molre_edge.specs import Precision

Volumes = npt.NDArray[np.float16]

x86 = pytest.mark.skipif(platform.machine() not in {"x86_64", "AMD64"}, reason="an x86 CPU has no float16 kernels")


def run(graph: onnx.ModelProto, volumes: Volumes, *, optimise: bool = False) -> Outputs:
    with OnnxRuntimeRunner(graph.SerializeToString(), Precision.FP16, optimise=optimise, cpu_only=True) as runner:
        return runner.run(volumes).outputs


def on_the_grid_of_halves(values: npt.NDArray[np.floating]) -> bool:
    return bool((values == values.astype(np.float16)).all())


def test_the_installed_runtime_rounds_a_rounding_copy() -> None:
    assert runtime_rounds()


def test_a_chain_of_nodes_is_rounded_after_each_of_them() -> None:
    half = TensorProto.FLOAT16
    third = numpy_helper.from_array(np.array([1 / 3], np.float16), "third")
    nodes = [
        helper.make_node(op, [before, "third"], [after], name=after)
        for op, before, after in (("Mul", "volume", "a"), ("Add", "a", "b"), ("Mul", "b", "c"), ("Sub", "c", "d"))
    ]
    nodes += [
        helper.make_node("Cast", ["d"], [name], name=name, to=TensorProto.FLOAT) for name in ("logits", "embedding")
    ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 500]) for name in ("logits", "embedding")]
    graph = helper.make_graph(
        nodes, "chain", [helper.make_tensor_value_info("volume", half, ["n", 500])], outputs, [third]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    x = np.random.default_rng(0).uniform(-500, 500, (2, 500)).astype(np.float16)
    third_ = np.float16(1 / 3)
    expected = (x * third_ + third_) * third_ - third_  # NumPy rounds each step to float16
    assert np.array_equal(run(rounding_copy(model), x).logits, expected)


@x86
def test_without_the_copy_nothing_is_rounded_whatever_the_optimisation(half: onnx.ModelProto, volumes: Volumes) -> None:
    """The embedding is a float16 value that is cast on its way out: numbers between halves were never rounded."""
    for optimise in (False, True):
        assert not on_the_grid_of_halves(run(half, volumes, optimise=optimise).embedding)
    assert on_the_grid_of_halves(run(rounding_copy(half), volumes).embedding)


@x86
def test_judging_the_copy_gives_other_parity_numbers_than_judging_the_graph(
    half: onnx.ModelProto, volumes: Volumes, result: ExportResult
) -> None:
    with OnnxRuntimeRunner((result.folder / "graphs" / "fp32.onnx").read_bytes(), Precision.FP32) as runner:
        reference = runner.run(volumes).outputs
    plain = np.abs(run(half, volumes).probabilities - reference.probabilities).max()
    rounded = np.abs(run(rounding_copy(half), volumes).probabilities - reference.probabilities).max()
    numbers = result.parity[Precision.FP16].numbers
    assert numbers.dp.max_abs == pytest.approx(rounded, rel=0.02)
    assert abs(rounded - plain) > 0.05 * rounded
    assert rounded > 1e-5


def test_the_copy_rounds_every_float16_value_and_keeps_inputs_and_outputs(half: onnx.ModelProto) -> None:
    before = half.SerializeToString()
    copy = rounding_copy(half)
    assert half.SerializeToString() == before
    onnx.checker.check_model(copy, full_check=True)
    assert [value.name for value in (*copy.graph.input, *copy.graph.output)] == [
        "volume",
        "logits",
        "gates",
        "embedding",
        "attention",
    ]
    inferred = onnx.shape_inference.infer_shapes(half).graph
    halves = {v.name for v in inferred.value_info if v.type.tensor_type.elem_type == TensorProto.FLOAT16}
    rounded = {node.input[0] for node in copy.graph.node if node.op_type == "Identity" and "__kept" in node.output[0]}
    assert rounded == halves
    assert len(halves) > 100
    read = {name for node in copy.graph.node if node.op_type != "Identity" for name in node.input}
    assert not read & halves
    assert {f"{name}__rounded" for name in halves} <= read  # every reader takes the rounded value
