"""The model without its adapters: same backbone, no routers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch

from molre_edge.engines.onnxruntime_runner import OnnxRuntimeRunner
from molre_edge.export.plain import plain_graphs
from molre_edge.model.adapters import AdaptedLayer
from molre_edge.model.checkpoint import load_checkpoint
from molre_edge.specs import Precision


def test_it_answers_as_the_model_with_its_experts_at_nought(tiny_checkpoint: Path) -> None:
    graphs = plain_graphs(tiny_checkpoint, {Precision.FP32, Precision.FP16})
    assert list(graphs) == [Precision.FP16, Precision.FP32]
    model = load_checkpoint(tiny_checkpoint).model
    for module in model.modules():
        if isinstance(module, AdaptedLayer):
            torch.nn.init.zeros_(module.lora_B)
    volume = np.random.default_rng(0).uniform(-1000, 1000, (2, *model.config.grid.shape)).astype(np.float16)
    with torch.no_grad():
        expected = model(torch.from_numpy(volume).float())[0].numpy()
    with OnnxRuntimeRunner(graphs[Precision.FP32], Precision.FP32) as runner:
        outputs = runner.run(volume).outputs
    np.testing.assert_allclose(outputs.logits, expected, atol=1e-4)
    assert outputs.gates is None


def test_nothing_of_the_adapters_is_left(tiny_checkpoint: Path, tiny_bundle: Path) -> None:
    plain = onnx.load_from_string(plain_graphs(tiny_checkpoint, [Precision.FP32])[Precision.FP32])
    whole = onnx.load(str(tiny_bundle / "graphs" / "fp32.onnx"))
    softmaxes = [sum(node.op_type == "Softmax" for node in graph.graph.node) for graph in (plain, whole)]
    assert softmaxes[1] - softmaxes[0] == 2  # the routers
    assert [value.name for value in plain.graph.output] == ["logits", "embedding", "attention"]
