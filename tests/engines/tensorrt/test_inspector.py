"""The engine inspector's JSON, in the form that public examples have; the inspector itself needs a GPU."""

from __future__ import annotations

import json
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from molre_edge.engines.tensorrt.api import TensorRT
from molre_edge.engines.tensorrt.inspector import inspect_layers, parse_layers
from molre_edge.engines.tensorrt.layers import check_precision
from molre_edge.errors import EngineError
from molre_edge.specs import Precision


def layer(name: str, kind: str, form: str, weights: dict[str, Any] | None = None) -> dict[str, Any]:
    tensor = {"Name": f"{name}_in", "Location": "Device", "Dimensions": [1, 4], "Format/Datatype": form}
    more = {} if weights is None else {"Weights": weights}
    return {"Name": name, "LayerType": kind, "Inputs": [tensor], "Outputs": [{**tensor, "Name": f"{name}_out"}], **more}


def test_layers_are_read_with_the_datatype_of_their_weights() -> None:
    text = json.dumps(
        {
            "Layers": [
                layer("conv", "CaskConvolution", "Row major linear FP32", {"Type": "Half", "Count": 9408}),
                layer("mm", "gemm", "Half"),
                layer("_gemm_mha_v2_1", "kgen", "Row major linear FP16 format"),
                layer("shape", "ShapeHostToDevice", "Int64"),
            ],
            "Bindings": ["volume"],
        }
    )
    conv, gemm, attention, shape = parse_layers(text)
    assert (conv.type, conv.datatype, conv.weights, conv.is_matrix) == ("correlation", "Half", 9408, True)
    assert (gemm.datatype, gemm.weights, gemm.is_matrix) == ("Half", 0, True)
    assert attention.is_fused_attention and attention.datatype == "Half"
    assert (shape.datatype, shape.is_matrix) == ("none", False)
    check_precision((conv, gemm), Precision.FP16)
    with pytest.raises(EngineError, match="is not fp32 inside"):
        check_precision((conv, gemm), Precision.FP32)


@pytest.mark.parametrize(("inputs", "datatype"), [("Int8", "Int8"), ("Row major linear FP16 format", "Half")])
def test_int8_weights_count_as_int8_only_where_the_input_is_int8_too(inputs: str, datatype: str) -> None:
    text = json.dumps({"Layers": [layer("mm", "gemm", inputs, {"Type": "Int8", "Count": 9})]})
    assert parse_layers(text)[0].datatype == datatype


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", '{"Layers": []}', '{"Layers": {"a": 1}}', '{"Layers": 3}'])
def test_another_form_is_no_answer(text: str) -> None:
    assert parse_layers(text) == ()


@pytest.mark.parametrize("one", ['"conv"', '{"Name": "conv"}', '{"Name": "conv", "LayerType": "gemm"}', "null", "7"])
def test_a_layer_of_another_form_is_unread(one: str) -> None:
    (layer,) = parse_layers(f'{{"Layers": [{one}]}}')
    assert (layer.type, layer.datatype, layer.is_matrix) == ("unread", "unread", False)


@pytest.mark.parametrize("host_code", [False, True])
def test_an_engine_with_code_for_the_host_is_loaded_only_where_that_is_expected(host_code: bool) -> None:
    told = json.dumps({"Layers": [layer("mm", "gemm", "Half")]})
    inspector = SimpleNamespace(get_engine_information=lambda form: told)

    class Runtime:
        engine_host_code_allowed = False

        def __init__(self, logger: Any) -> None: ...

        def deserialize_cuda_engine(self, plan: bytes) -> Any:
            return SimpleNamespace(create_engine_inspector=lambda: inspector) if self.engine_host_code_allowed else None

    module: Any = ModuleType("tensorrt")
    module.Runtime, module.LayerInformationFormat = Runtime, SimpleNamespace(JSON="json")
    layers = inspect_layers(TensorRT(module, "TensorRT", "11.4.0"), b"plan", None, host_code=host_code)
    assert bool(layers) is host_code
