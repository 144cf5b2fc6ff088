"""Attention that can't be fused answers as before, bit for bit, and is still the attention of its model."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from molre_edge.calibration.indexed_model import IndexedModel
from molre_edge.calibration.layers import find_layers
from molre_edge.engines.onnxruntime_runner import OnnxRuntimeRunner
from molre_edge.errors import ExportError, UsageError
from molre_edge.export.attention import attention_products, unfuse_attention
from molre_edge.export.exporter import export_checkpoint
from molre_edge.export.graph import check_graph
from molre_edge.export.half import check_half, float32_islands, to_half
from molre_edge.export.links import Links
from molre_edge.export.rounding import rounding_copy
from molre_edge.model.checkpoint import LoadedCheckpoint
from molre_edge.parity import Outputs
from molre_edge.specs import Precision

Volumes = npt.NDArray[np.float16]


@pytest.fixture
def guarded(graph: onnx.ModelProto) -> onnx.ModelProto:
    made = onnx.ModelProto()
    made.CopyFrom(graph)
    assert unfuse_attention(made) == 2
    return made


def answers(graph: onnx.ModelProto, precision: Precision, volumes: Volumes, *, optimise: bool = True) -> Outputs:
    with OnnxRuntimeRunner(graph.SerializeToString(), precision, optimise=optimise, cpu_only=True) as runner:
        return runner.run(volumes).outputs


def same(one: Outputs, other: Outputs) -> bool:
    assert one.gates is not None and other.gates is not None
    pairs = ((one.logits, other.logits), (one.embedding, other.embedding), (one.gates, other.gates))
    return all(np.array_equal(a, b) for a, b in pairs)


def test_it_answers_as_before_bit_for_bit_in_float32_and_float16(
    graph: onnx.ModelProto, guarded: onnx.ModelProto, half: onnx.ModelProto, volumes: Volumes
) -> None:
    assert same(answers(graph, Precision.FP32, volumes), answers(guarded, Precision.FP32, volumes))
    rounded = [rounding_copy(each) for each in (half, to_half(guarded))]
    assert same(*(answers(each, Precision.FP16, volumes[:2], optimise=False) for each in rounded))


def test_the_guard_is_computed_from_the_weights_and_reaches_the_answers(
    guarded: onnx.ModelProto, volumes: Volumes
) -> None:
    (limit,) = (t for t in guarded.graph.initializer if t.name == "attention_above_all_weights")
    limit.CopyFrom(onnx.numpy_helper.from_array(np.array(0.0, np.float32), limit.name))  # below every weight
    moved = answers(guarded, Precision.FP32, volumes[:1])
    (limit,) = (t for t in guarded.graph.initializer if t.name == "attention_above_all_weights")
    limit.CopyFrom(onnx.numpy_helper.from_array(np.array(2.0, np.float32), limit.name))
    assert not same(moved, answers(guarded, Precision.FP32, volumes[:1]))


def test_the_graph_keeps_all_that_others_rely_on(
    graph: onnx.ModelProto, guarded: onnx.ModelProto, checkpoint: LoadedCheckpoint
) -> None:
    check_graph(guarded, checkpoint.model)
    assert float32_islands(guarded) == float32_islands(graph)
    check_half(to_half(guarded), float32_islands(guarded))
    labels = [[layer.label for layer in find_layers(IndexedModel(each), ())] for each in (graph, guarded)]
    assert labels[0] == labels[1] and any("attention output" in label for label in labels[0])
    assert len(attention_products(guarded, Links(guarded))) == 2


def test_a_graph_without_attention_has_none_to_keep_apart(graph: onnx.ModelProto) -> None:
    del graph.graph.node[10:]
    with pytest.raises(ExportError, match="has no attention that could be fused"):
        unfuse_attention(graph)


def test_another_word_is_refused_before_anything_is_read() -> None:
    with pytest.raises(UsageError, match="--attention 'flash': expected fused or unfused"):
        export_checkpoint("none.pt", "b", attention="flash")
