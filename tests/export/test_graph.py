"""The float32 graph is what every target relies on, and a graph that is not is refused by name."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import helper
from torch import Tensor, nn

from molre_edge.engines.onnxruntime_runner import OnnxRuntimeRunner
from molre_edge.engines.torch_runner import TorchRunner
from molre_edge.errors import ExportError
from molre_edge.export.exporter import ExportResult
from molre_edge.export.graph import check_graph, export_fp32, graph_facts
from molre_edge.model.checkpoint import LoadedCheckpoint
from molre_edge.model.classifier import HeadCTClassifier
from molre_edge.specs import Precision

ALL = ["slice", "volume", "token", "one router for all", "convolution", "lora", "frozen"]

ExportModel = Callable[[str], tuple[HeadCTClassifier, onnx.ModelProto]]


def operators(graph: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in graph.graph.node)


@pytest.mark.parametrize("name", ALL)
def test_the_graph_answers_as_pytorch_in_batches_of_any_size(
    name: str, export_model: ExportModel, volumes: npt.NDArray[np.float16]
) -> None:
    model, graph = export_model(name)
    with TorchRunner(model, device="cpu") as torch_runner:
        expected = torch_runner.run(volumes).outputs
        with OnnxRuntimeRunner(graph.SerializeToString(), Precision.FP32, cpu_only=True) as runner:
            assert runner.output_specs == torch_runner.output_specs
            for size in (1, 2, 3, 6):
                answers = runner.run(volumes[:size]).outputs
                np.testing.assert_allclose(answers.logits, expected.logits[:size], atol=2e-5)
                np.testing.assert_allclose(answers.embedding, expected.embedding[:size], atol=2e-5)
                assert (answers.gates is None) == (expected.gates is None) == (name == "frozen")
                if answers.gates is not None and expected.gates is not None:
                    np.testing.assert_allclose(answers.gates, expected.gates[:size], atol=2e-5)


def test_the_graph_has_what_tensorrt_and_old_runtimes_read(graph: onnx.ModelProto) -> None:
    facts = graph_facts(graph, "graphs/fp32.onnx")
    assert facts.opset == 20
    assert facts.ir_version <= 10
    assert not {"If", "Loop", "Scan"} & set(operators(graph))
    assert {node.domain for node in graph.graph.node} <= {"", "ai.onnx"}
    assert not graph.functions


def test_normalisation_layers_are_whole_and_position_angles_are_constants(
    graph: onnx.ModelProto, checkpoint: LoadedCheckpoint
) -> None:
    norms = sum(isinstance(module, nn.LayerNorm) for module in checkpoint.model.modules())
    assert operators(graph)["LayerNormalization"] == norms == 5
    assert not {"Sin", "Cos", "ReduceSumSquare", "Sqrt"} & set(operators(graph))


def test_the_batch_and_nothing_else_is_dynamic(graph: onnx.ModelProto) -> None:
    facts = graph_facts(graph, "graphs/fp32.onnx")
    shapes = {spec.name: spec.shape for spec in (*facts.inputs, *facts.outputs)}
    assert shapes == {
        "volume": (None, 3, 32, 48),
        "logits": (None, 75),
        "gates": (None, 3, 4, 3),
        "embedding": (None, 64),
        "attention": (None, 3),
    }


def test_the_same_model_gives_the_same_bytes(
    checkpoint: LoadedCheckpoint, result: ExportResult, export_model: ExportModel
) -> None:
    exported = (result.folder / "graphs" / "fp32.onnx").read_bytes()
    assert export_model("slice")[1].SerializeToString() == exported


def test_a_graph_does_not_tell_where_it_was_made(graph: onnx.ModelProto) -> None:
    assert not re.search(rb"site-packages|\.py\b", graph.SerializeToString())


def test_a_model_too_large_for_one_file_is_refused_at_once() -> None:
    model = nn.Linear(30_000, 20_000, device="meta")
    with pytest.raises(ExportError, match=r"2\.4 GB of float32 weights; expected at most 2 GB"):
        export_fp32(model)  # type: ignore[arg-type]


def test_a_failure_of_the_exporter_is_one_line(draw: Callable[..., HeadCTClassifier]) -> None:
    class Branch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sum(1) if x.sum() > 0 else x.mean(1)

    model = draw(modules=(), experts=0)
    model.pooling = Branch()
    with pytest.raises(ExportError, match="PyTorch's ONNX exporter failed: ") as caught:
        export_fp32(model)
    assert "\n" not in str(caught.value)


def opset_23(graph: onnx.ModelProto) -> None:
    graph.opset_import[0].version = 23


def new_ir(graph: onnx.ModelProto) -> None:
    graph.ir_version = 11


def control_flow(graph: onnx.ModelProto) -> None:
    """The embedding on either branch of an If."""
    embedding = next(value for value in graph.graph.output if value.name == "embedding")
    for node in graph.graph.node:
        node.output[:] = ["pooled" if name == "embedding" else name for name in node.output]
        node.input[:] = ["pooled" if name == "embedding" else name for name in node.input]
    value = helper.make_tensor_value_info(
        "same", 1, [d.dim_value or None for d in embedding.type.tensor_type.shape.dim]
    )
    branch = helper.make_graph([helper.make_node("Identity", ["pooled"], ["same"])], "branch", [], [value])
    graph.graph.initializer.append(helper.make_tensor("yes", onnx.TensorProto.BOOL, [], [True]))
    choice = helper.make_node("If", ["yes"], ["embedding"], name="choice", then_branch=branch, else_branch=branch)
    graph.graph.node.append(choice)


def foreign_operator(graph: onnx.ModelProto) -> None:
    gelu = next(node for node in graph.graph.node if node.op_type == "Gelu")
    gelu.domain = "com.microsoft"
    graph.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def decomposed_norm(graph: onnx.ModelProto) -> None:
    norm = next(node for node in graph.graph.node if node.op_type == "LayerNormalization")
    norm.op_type = "Mul"
    del norm.attribute[:], norm.input[2:]


def fixed_batch(graph: onnx.ModelProto) -> None:
    for value in (*graph.graph.input, *graph.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 2


def free_slices(graph: onnx.ModelProto) -> None:
    graph.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "slices"


def renamed_output(graph: onnx.ModelProto) -> None:
    for node in graph.graph.node:
        node.output[:] = ["scores" if name == "logits" else name for name in node.output]
    graph.graph.output[0].name = "scores"


def one_name_twice(graph: onnx.ModelProto) -> None:
    graph.graph.node[1].name = graph.graph.node[0].name


def lost_node(graph: onnx.ModelProto) -> None:
    del graph.graph.node[10]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (opset_23, "opset 23 and IR version 10; expected opset 20"),
        (new_ir, "opset 20 and IR version 11; expected opset 20 and IR version 10 at most"),
        (control_flow, r"control flow \(If\)"),
        (foreign_operator, "operators outside the ONNX standard: Gelu"),
        (decomposed_norm, "4 LayerNormalization nodes, the model 5 layers"),
        (fixed_batch, r"volume: float32 \[2, 3, 32, 48\]: expected the batch, and nothing else, to be dynamic"),
        (free_slices, "expected the batch, and nothing else, to be dynamic"),
        (renamed_output, r"\['volume', 'scores', 'gates', 'embedding', 'attention'\], expected \['volume', 'logits'"),
        (one_name_twice, "several nodes named 'node_"),
        (lost_node, "the ONNX checker refuses the graph"),
    ],
)
def test_a_spoilt_graph_is_refused_with_what_is_wrong(
    spoil: Callable[[onnx.ModelProto], None], message: str, graph: onnx.ModelProto, checkpoint: LoadedCheckpoint
) -> None:
    check_graph(graph, checkpoint.model)
    spoil(graph)
    with pytest.raises(ExportError, match=message):
        check_graph(graph, checkpoint.model)
