"""Reading the builder's layer log: lines as TensorRT-RTX 1.7 and, shorter, TensorRT 10 write them."""

from __future__ import annotations

import pytest

from molre_edge.engines.tensorrt.layers import BuiltLayer, LayerSummary, check_precision, read_layers
from molre_edge.errors import EngineError
from molre_edge.specs import Precision, TensorSpec


def tensor(kind: str, *shape: int) -> str:
    sides = ",".join(map(str, shape))
    return (
        f"{{ Name: t, Dimensions: [{sides}], Strides: [1], StrideOrder: [0], Datatype: {kind}, Format: (Linear) Row }}"
    )


def row(name: str, kind: str, inputs: str, constants: str, outputs: str) -> str:
    parts = f"Inputs: [ {inputs}], Constants: [ {constants}], Outputs: [ {outputs}]"
    return f"Name: {name}, LayerType: {kind}, {parts}, TacticName: , StreamId: 0, Metadata: \n"


def gemm(kind: str, size: int) -> str:
    return row("g", "gemm", tensor(kind, -1, 8), tensor(kind, size, 1), tensor(kind, -1, 1))


def listing(*rows: str) -> str:
    return "Layers:\n" + "".join(rows) + "\nI/O Tensors:\n Name: volume, IOMode: Input\n"


def test_a_matrix_layer_has_the_datatype_of_its_weights() -> None:
    mixed = row("g", "runtime_fusion", tensor("Float", -1, 8), tensor("Half", 8, 4), tensor("Float", -1, 4))
    (layer,) = read_layers(listing(mixed))
    assert (layer.datatype, layer.weights) == ("Half", 32)


def test_a_product_of_two_inputs_has_their_datatype_whatever_single_number_scales_it() -> None:
    inputs = f"{tensor('Half', -1, 8)}, {tensor('Half', 8, 4)}"
    (layer,) = read_layers(listing(row("g", "gemm", inputs, tensor("Float", 1, 1), tensor("Half", -1, 4))))
    assert (layer.datatype, layer.weights) == ("Half", 1)


def test_layers_are_counted_by_type_and_datatype_and_fused_attention_by_name() -> None:
    fused = row("_gemm_mha_v2_myl0_12", "kgen", tensor("Half", -1, 9, 32), "", tensor("Half", -1, 9, 32))
    shape = row("s", "reshape", "", "", tensor("Int64", 1))
    summary = LayerSummary.of(read_layers(listing(gemm("Half", 8), gemm("Float", 2), fused, shape)))
    assert summary.by_type == {"gemm": {"Float": 1, "Half": 1}, "kgen": {"Half": 1}, "reshape": {"none": 1}}
    assert summary.matrix_weights == {"Float": 2, "Half": 8}
    assert summary.fused_attention == 1


def test_lines_of_tensorrt_10_have_no_constants() -> None:
    line = (
        "Name: m, LayerType: gemm, Inputs: [ { Name: a, Dimensions: [1,4], Format/Datatype: Half }], "
        "Outputs: [ { Name: b, Dimensions: [1,4], Format/Datatype: Half }], TacticName: sm80, StreamId: 0, Metadata: \n"
    )
    layers = read_layers(listing(line))
    assert (layers[0].datatype, layers[0].weights) == ("Half", 0)
    check_precision(layers, Precision.FP16)
    with pytest.raises(EngineError, match="not fp32 inside"):
        check_precision(layers, Precision.FP32)


@pytest.mark.parametrize(("half", "ok"), [(90, True), (89, False)])
def test_an_fp16_engine_needs_nine_tenths_of_its_weights_in_half(half: int, ok: bool) -> None:
    layers = read_layers(listing(gemm("Half", half), gemm("Float", 100 - half)))
    if ok:
        check_precision(layers, Precision.FP16)
    else:
        with pytest.raises(EngineError, match="89% in Half, expected at least 90%; its matrix layers are"):
            check_precision(layers, Precision.FP16)


@pytest.mark.parametrize(("halves", "ok"), [(25, True), (24, False), (0, False)])
def test_weights_of_one_layer_say_nothing_of_those_that_list_none(halves: int, ok: bool) -> None:
    # as the inspector tells: weights of the convolution alone
    conv = BuiltLayer("conv", "correlation", "Half", 590_000)
    gemms = [BuiltLayer(str(place), "gemm", "Half" if place < halves else "Float", 0) for place in range(51)]
    if ok:
        check_precision([conv, *gemms], Precision.FP16)
    else:
        with pytest.raises(EngineError, match="is named fp16 and is not fp16 inside"):
            check_precision([conv, *gemms], Precision.FP16)


def with_trained_inputs(experts: str) -> list[BuiltLayer]:
    """A backbone in float16, two routers of an adapter in float32 and its experts."""
    backbone = [BuiltLayer(f"b{place}", "gemm", "Half", 1000) for place in range(4)]
    routers = [BuiltLayer(f"r{place}", "runtime_fusion", "Float", 0) for place in range(4)]
    return [*backbone, *routers, *(BuiltLayer(f"e{place}", "gemm", experts, place) for place in range(2))]


TRAINED = (
    *(TensorSpec(f"adapter.backbone.layer.{name}", "float16", (8, 8)) for name in "AB"),
    *(TensorSpec(f"adapter.routers.{place}.weight", "float32", (8, 8)) for place in range(4)),
    *(TensorSpec(f"adapter.routers.{place}.bias", "float32", (8,)) for place in range(4)),
)


def test_where_trained_tensors_are_inputs_the_backbones_weights_decide() -> None:
    check_precision(with_trained_inputs("Half"), Precision.FP16, TRAINED)
    with pytest.raises(EngineError, match="not fp16 inside: 40% in Half"):  # as experts in float32 are not asked for
        check_precision(with_trained_inputs("Float"), Precision.FP16, TRAINED)
    with pytest.raises(EngineError, match="not fp16 inside"):
        check_precision(with_trained_inputs("Float"), Precision.FP16)
    float32 = [BuiltLayer(layer.name, layer.type, "Float", layer.weights) for layer in with_trained_inputs("Half")]
    with pytest.raises(EngineError, match="not fp16 inside"):
        check_precision(float32, Precision.FP16, TRAINED)


def test_one_half_layer_is_too_many_for_an_fp32_engine() -> None:
    with pytest.raises(EngineError, match="is named fp32 and is not fp32 inside"):
        check_precision(read_layers(listing(gemm("Float", 1000), gemm("Half", 1))), Precision.FP32)


def test_a_row_of_another_form_is_unread_and_no_guess() -> None:
    odd, gemm_row = read_layers(listing("Name: g, LayerType: gemm, Somehow: else\n", gemm("Half", 8)))
    assert (odd.name, odd.type, odd.datatype, odd.is_matrix) == ("g", "unread", "unread", False)
    assert gemm_row.is_matrix
    assert LayerSummary.of([odd, gemm_row]).by_type["unread"] == {"unread": 1}


@pytest.mark.parametrize("text", ["", "Layers:\n", "Something else\n"])
def test_a_listing_without_rows_has_no_layers(text: str) -> None:
    assert read_layers(text) == ()
