"""Both majors' layer reports are read alike, and what one day looks otherwise is unread, never a refusal.

One small engine as TensorRT 10 and 11 tell it, in the inspector's JSON and in the builder's layer log. Written by us
after public examples of 10.x, NVIDIA's notes on 11 and what TensorRT-RTX 1.7 logs, whose form 11 shares: a copy that
changes the format, a convolution, a router in float32, products and a fused attention of Myelin's, sizes.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from molre_edge.engines.tensorrt.inspector import parse_layers
from molre_edge.engines.tensorrt.layers import DATATYPES, BuiltLayer, LayerSummary, check_precision, read_layers, unread
from molre_edge.engines.tensorrt.quantised import Quantised, check_quantised
from molre_edge.errors import EngineError
from molre_edge.specs import QUANTISED, Precision

FORMS = ("10", "11")
"""Major versions."""

_LONG = {
    "Half": "Row major linear FP16 format",
    "Float": "Row major linear FP32",
    "FP8": "Row major linear FP8 E4M3 format",
    "Int8": "Thirty-two wide channel vectorized row major Int8 format",
    "Int64": "Int64",
}
"""TensorRT 10's words for format and datatype together; it writes the short ones too."""

Tensor = tuple[str, str, list[int]]


def engine(form: str, kind: str = "Half", *, products: str | None = None) -> list[dict[str, Any]]:
    """The layers as the inspector has them.

    Args:
        form: one of :data:`FORMS`.
        kind: datatype of the network.
        products: another datatype of its products and convolution, such as Int8.
    """
    inner = products or kind
    rows: list[tuple[str, str, list[Tensor], list[Tensor], list[Tensor], dict[str, Any]]] = [
        (
            "Reformatting CopyNode for Input Tensor 0 to /embed/Conv + /embed/Relu",
            "Reformat",
            [("volume", kind, [1, 3, 32, 32])],
            [],
            [("Reformatted Input Tensor 0 to /embed/Conv + /embed/Relu", inner, [1, 3, 32, 32])],
            {"ParameterType": "Reformat", "Origin": "REFORMAT", "TacticValue": "0x00000000000003e8"},
        ),
        (
            "/embed/Conv + /embed/Relu",
            "CaskConvolution",
            [("Reformatted Input Tensor 0 to /embed/Conv + /embed/Relu", inner, [1, 3, 32, 32])],
            [],
            [("/embed/Relu_output_0", kind, [1, 64, 2, 2])],
            {
                "ParameterType": "Convolution",
                "Kernel": [16, 16],
                "PaddingMode": "kEXPLICIT_ROUND_DOWN",
                "Stride": [16, 16],
                "Weights": {"Type": inner, "Count": 49152},
                "Bias": {"Type": inner, "Count": 64},
                "Activation": "RELU",
                "TacticName": "sm80_xmma_fprop_implicit_gemm",
                "TacticValue": "0x280b0ad3c23d8442",
            },
        ),
        (
            "/block/qkv/MatMul_myl1_2",
            "gemm",
            [("/embed/Relu_output_0", inner, [1, 4, 64])],
            [("__mye595_dconst", inner, [64, 192])],
            [("qkv", kind, [1, 4, 192])],
            {"TacticName": "sm80_xmma_gemm_f16f16"},
        ),
        (
            "_gemm_mha_v2_myl1_3",
            "kgen",
            [("qkv", kind, [1, 4, 192])],
            [],
            [("attended", kind, [1, 4, 64])],
            {"TacticName": "_gemm_mha_v2_0x1"},
        ),
        (
            "/router/fc/Gemm_myl1_4",
            "gemm",
            [("pooled", "Float", [1, 64])],
            [("__mye600_dconst", "Float", [64, 6])],
            [("gates", "Float", [1, 6])],
            {"TacticName": "sm50_xmma_cublas_gemvx_f32f32"},
        ),
        ("__mye12_0_myl1_5", "shape_call", [], [], [], {"TacticName": ""}),
        (
            "/head/MatMul_myl1_6",
            "gemm",
            [("attended", inner, [1, 64])],
            [("__mye610_dconst", inner, [64, 75])],
            [("logits", kind, [1, 75])],
            {"TacticName": "sm80_xmma_gemm_f16f16"},
        ),
        (
            "sizes",
            "reshape",
            [("shape", "Int64", [2])],
            [],
            [("shape2", "Int64", [2])],
            {"TacticName": ""},
        ),
    ]
    return [_layer(form, *row) for row in rows]


def _layer(
    form: str,
    name: str,
    kind: str,
    inputs: list[Tensor],
    constants: list[Tensor],
    outputs: list[Tensor],
    more: dict[str, Any],
) -> dict[str, Any]:
    # TensorRT 10 tells no constants of Myelin's products; RTX, and by its form 11, do
    lists = {"Inputs": inputs, "Constants": constants, "Outputs": outputs}
    if form == "10":
        lists = {"Inputs": [*inputs, *constants], "Outputs": outputs}
    told = {word: [_tensor(form, *tensor) for tensor in tensors] for word, tensors in lists.items()}
    return {"Name": name, "LayerType": kind, **told, **more, "StreamId": 0, "Metadata": f"[ONNX Layer: {name}]"}


def _tensor(form: str, name: str, kind: str, shape: list[int]) -> dict[str, Any]:
    if form == "10":
        word = _LONG[kind] if name.startswith("Reformatted") else kind
        return {"Name": name, "Location": "Device", "Dimensions": shape, "Format/Datatype": word}
    strides = [1 for _ in shape]
    return {
        "Name": name,
        "Dimensions": shape,
        "Strides": strides,
        "StrideOrder": strides,
        "Datatype": kind,
        "Format": "(Arbitrary) Format with stride order = [1,0]",
    }


def inspector(form: str, layers: list[Any]) -> str:
    """What the inspector returns."""
    ends = {"10": {"Bindings": ["volume", "logits"]}, "11": {"I/O Tensors": [{"Name": "volume", "DataType": "Half"}]}}
    return json.dumps({"Layers": layers, **ends[form]})


def log(form: str, layers: list[dict[str, Any]]) -> str:
    """What the builder logs."""
    lines = [", ".join(f"{name}: {_text(value)}" for name, value in layer.items()) for layer in layers]
    end = {
        "10": "Bindings:\nvolume\nlogits\n",
        "11": "I/O Tensors:\n Name: volume, IOMode: Input, DataType: Half\n\nEngine Metadata:\n Devices: 1\n",
    }
    return "Layers:\n" + "\n".join(lines) + "\n\n" + end[form]


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return json.dumps(value)
    if not isinstance(value, list):
        return str(value)
    if not value or isinstance(value[0], int):
        return f"[{','.join(map(str, value))}]"
    tensors = (", ".join(f"{name}: {_text(each)}" for name, each in tensor.items()) for tensor in value)
    return f"[ {', '.join(f'{{ {tensor} }}' for tensor in tensors)}]"


Layers = list[dict[str, Any]]
Read = Callable[[str, Layers], tuple[BuiltLayer, ...]]


def by_inspector(form: str, layers: Layers) -> tuple[BuiltLayer, ...]:
    return parse_layers(inspector(form, layers))


def by_log(form: str, layers: Layers) -> tuple[BuiltLayer, ...]:
    return read_layers(log(form, layers))


both = pytest.mark.parametrize("read", [by_inspector, by_log], ids=["inspector", "log"])
forms = pytest.mark.parametrize("form", FORMS)


@both
@forms
def test_every_layer_is_read_in_both_forms_by_both_ways(form: str, read: Read) -> None:
    layers = read(form, engine(form))
    assert [(layer.type, layer.datatype) for layer in layers] == [
        ("Reformat", "Half"),
        ("correlation", "Half"),
        ("gemm", "Half"),
        ("kgen", "Half"),
        ("gemm", "Float"),
        ("shape_call", "none"),
        ("gemm", "Half"),
        ("reshape", "none"),
    ]
    assert layers[1].name == "/embed/Conv + /embed/Relu" and layers[1].weights == 49152
    assert [layer.weights for layer in layers if layer.type == "gemm"] == (
        [0, 0, 0] if form == "10" else [64 * 192, 64 * 6, 64 * 75]
    )
    assert LayerSummary.of(layers).fused_attention == 1
    assert check_precision(layers, Precision.FP16) is None
    with pytest.raises(EngineError, match="is not fp32 inside"):
        check_precision(layers, Precision.FP32)


@both
@forms
def test_a_float32_engine_is_one_and_no_float16_engine(form: str, read: Read) -> None:
    layers = read(form, engine(form, "Float"))
    assert check_precision(layers, Precision.FP32) is None
    with pytest.raises(EngineError, match="is named fp16 and is not fp16 inside: 0%"):
        check_precision(layers, Precision.FP16)


@both
@forms
def test_an_int8_engine_is_one_and_no_float16_engine(form: str, read: Read) -> None:
    layers = read(form, engine(form, "Half", products="Int8"))
    expected = Quantised(layers=3, weights=49152 + 64 * 192 + 64 * 75, attentions=1)
    assert [layer.datatype for layer in layers if layer.is_matrix] == ["Int8", "Int8", "Float", "Int8"]
    assert check_quantised(layers, expected) is None
    with pytest.raises(EngineError, match="is not int8 inside: 0%"):
        check_quantised(read(form, engine(form)), expected)


def without(*names: str) -> Callable[[dict[str, Any]], None]:
    """Take fields from a layer and its tensors."""

    def mutate(layer: dict[str, Any]) -> None:
        for thing in (layer, *layer.get("Inputs", []), *layer.get("Constants", []), *layer.get("Outputs", [])):
            for name in names:
                thing.pop(name, None)

    return mutate


def renamed(old: str, new: str) -> Callable[[dict[str, Any]], None]:
    def mutate(layer: dict[str, Any]) -> None:
        for thing in (layer, *layer.get("Inputs", []), *layer.get("Constants", []), *layer.get("Outputs", [])):
            for name in [name for name in thing if name == old or (old == "Datatype" and "Datatype" in name)]:
                thing[new] = thing.pop(name)

    return mutate


def of_another_datatype(layer: dict[str, Any]) -> None:
    for thing in (*layer.get("Inputs", []), *layer.get("Constants", []), *layer.get("Outputs", [])):
        thing.update({name: "Posit16" for name in thing if "Datatype" in name})
    layer.pop("Weights", None)


def opaque(layer: dict[str, Any]) -> None:
    layer.update(LayerType="Myelin", Name="{ForeignNode[/block/qkv/MatMul.../head/MatMul]}")


UNREADABLE = {
    "no type": without("LayerType"),
    "no inputs": without("Inputs"),
    "no outputs": without("Outputs"),
    "no datatypes": without("Datatype", "Format/Datatype"),
    "inputs by another name": renamed("Inputs", "Sources"),
    "datatypes by another name": renamed("Datatype", "ElementKind"),
    "an unknown datatype": of_another_datatype,
    "a part of the network in one": opaque,
}


@both
@forms
@pytest.mark.parametrize("mutation", UNREADABLE)
@pytest.mark.parametrize("precision", list(Precision))
def test_what_can_not_be_read_is_unread_and_refuses_no_engine(
    precision: Precision, mutation: str, form: str, read: Read
) -> None:
    kind = "Float" if precision is Precision.FP32 else "Half"
    products = DATATYPES[precision] if precision in QUANTISED else None
    expected = Quantised(layers=3, weights=49152 + 64 * 192 + 64 * 75, attentions=1, precision=precision)
    whole = engine(form, kind, products=products)
    for places in [*([place] for place in range(len(whole))), list(range(len(whole)))]:
        layers = copy.deepcopy(whole)
        for place in places:
            UNREADABLE[mutation](layers[place])
        found = read(form, layers)
        assert len(found) == len(whole)
        untyped = mutation in {"no datatypes", "datatypes by another name", "an unknown datatype"}
        hidden = [place for place in places if not (untyped and not whole[place]["Inputs"])]  # sizes have no tensors
        assert [place for place, layer in enumerate(found) if layer.type == "unread"] == hidden
        told = check_quantised(found, expected) if products else check_precision(found, precision)
        if hidden:
            assert told is not None and told.startswith(f"{unread(found)} of the engine's {len(whole)} layers can't be")
        else:
            assert told is None


@both
@forms
def test_a_new_field_anywhere_changes_nothing(form: str, read: Read) -> None:
    layers = engine(form)
    for layer in layers:
        for thing in (*layer["Inputs"], *layer.get("Constants", []), *layer["Outputs"]):
            old = dict(thing)
            thing.clear()
            thing.update({"Name": old["Name"], "Sparsity": "kNONE", **old, "Vectorised": [-1, 0]})
        old = dict(layer)
        layer.clear()
        front = {name: old.pop(name) for name in ("Name", "LayerType")}
        layer.update({**front, "Device": "GPU", **old, "Notes": "a, b: [c]"})
    assert read(form, layers) == read(form, engine(form))


@both
@forms
def test_an_unread_layer_does_not_hide_a_lie(form: str, read: Read) -> None:
    layers = engine(form, "Float")
    without("Inputs")(layers[0])
    with pytest.raises(EngineError, match="is named fp16 and is not fp16 inside"):
        check_precision(read(form, layers), Precision.FP16)
    half = engine(form)
    without("Inputs")(half[0])
    with pytest.raises(EngineError, match="is named fp32 and is not fp32 inside"):
        check_precision(read(form, half), Precision.FP32)
    with pytest.raises(EngineError, match="is named int8 and is not int8 inside"):
        check_quantised(read(form, half), Quantised(layers=3, weights=1000, attentions=1))


def test_nothing_to_read_is_told_too() -> None:
    for precision in (Precision.FP32, Precision.FP16):
        assert str(check_precision((), precision)).startswith(
            "the engine's layers can't be read from what this version"
        )
    assert str(check_quantised((), Quantised(1, 1, 1))).startswith("the engine's layers can't be read")
