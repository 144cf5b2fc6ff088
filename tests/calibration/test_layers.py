from __future__ import annotations

import pytest
from onnx import TensorProto, helper, numpy_helper

from molre_edge.calibration.indexed_model import IndexedModel
from molre_edge.calibration.layers import Layer, find_layers


def test_the_layers_of_each_block_have_their_roles(layers: tuple[Layer, ...]) -> None:
    named = [layer.label for layer in layers if not layer.excluded]
    block = ["attention input", "attention output", "MLP, first", "MLP, second"]
    assert named == ["embedding, convolution", *(f"block {n}, {role}" for n in (1, 2) for role in block)]


def test_what_is_never_quantised_says_why(layers: tuple[Layer, ...]) -> None:
    barred: dict[str, list[str]] = {}
    for layer in layers:
        if layer.excluded:
            barred.setdefault(layer.role.split(" ")[0], []).append(layer.excluded)
    assert {role: len(whys) for role, whys in barred.items()} == {
        "down": 2, "up": 2, "router": 4, "pooling": 2, "head": 1,
    }  # fmt: skip
    assert barred["head"] == ["makes the logits"]
    assert set(barred["down"]) == {"fewer than 16 features on one side"}  # three experts of rank two


def test_attentions_are_counted_and_routers_and_pooling_are_not(model: IndexedModel) -> None:
    assert len(model.attentions) == 2
    assert sum(node.op_type == "Softmax" for node in model.nodes) == 5


@pytest.mark.parametrize(("asked", "barred"), [(False, True), (True, False)])
def test_3d_convolutions_are_for_those_who_ask(asked: bool, barred: bool) -> None:
    import numpy as np

    weight = numpy_helper.from_array(np.ones((16, 16, 3, 3, 3), np.float32), "weight")
    head = numpy_helper.from_array(np.ones((16, 2), np.float32), "head")
    nodes = [
        helper.make_node("Conv", ["volume", "weight"], ["features"], name="conv", pads=[1] * 6),
        helper.make_node("ReduceMean", ["features", "axes"], ["embedding"], name="mean", keepdims=0),
        helper.make_node("MatMul", ["embedding", "head"], ["logits"], name="head"),
    ]
    axes = numpy_helper.from_array(np.array([2, 3, 4]), "axes")
    volume = helper.make_tensor_value_info("volume", TensorProto.FLOAT, ["batch", 16, 4, 8, 8])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("logits", "embedding")]
    model = helper.make_model(helper.make_graph(nodes, "3d", [volume], outputs, [weight, head, axes]))
    conv = next(layer for layer in find_layers(IndexedModel(model), conv3d=asked) if layer.op == "Conv")
    assert (conv.block, bool(conv.excluded)) == ("stage 1", barred)
