"""The layers of an engine as its inspector tells them: on a GPU, where an engine can be loaded again once it is built.

Read after public examples of its JSON alone: what is not of that form is no answer, and the builder's log is asked.
"""

from __future__ import annotations

import json
from typing import Any

from molre_edge.engines.tensorrt.api import TensorRT
from molre_edge.engines.tensorrt.layers import BuiltLayer

__all__ = ["inspect_layers", "parse_layers"]

_TYPES = {
    "CaskConvolution": "correlation",
    "CaskGemmConvolution": "correlation",
    "Convolution": "correlation",
    "CaskDeconvolutionV2": "deconv",
    "Deconvolution": "deconv",
    "CaskGemmMatrixMultiply": "gemm",
    "MatrixMultiply": "gemm",
}
"""The inspector's word, and the builder's log's for the same."""

_DATATYPES = {
    "BF16": "BFloat16",
    "BFloat16": "BFloat16",
    "FP32": "Float",
    "Float": "Float",
    "FP16": "Half",
    "Half": "Half",
    "INT8": "Int8",
    "Int8": "Int8",
}
"""A part of the inspector's word for a tensor's format and datatype, and the log's datatype; the first that fits."""


def inspect_layers(tensorrt: TensorRT, plan: bytes, logger: Any, *, host_code: bool = False) -> tuple[BuiltLayer, ...]:
    """The layers of a plan that was just built here; none where this library or machine can't tell.

    Args:
        tensorrt: the library.
        plan: the engine's content, by this very process.
        logger: the library's.
        host_code: it is version-compatible, and so holds code for the host.
    """
    runtime = tensorrt.module.Runtime(logger)
    if host_code:
        runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        return ()
    return parse_layers(
        engine.create_engine_inspector().get_engine_information(tensorrt.module.LayerInformationFormat.JSON)
    )


def parse_layers(text: str) -> tuple[BuiltLayer, ...]:
    """Read the inspector's JSON; none where it is of another form or lists no layer that multiplies matrices."""
    try:
        layers = tuple(_layer(one) for one in json.loads(text)["Layers"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ()
    return layers if any(layer.is_matrix for layer in layers) else ()


def _layer(one: dict[str, Any]) -> BuiltLayer:
    kind, weights = str(one["LayerType"]), one.get("Weights") or {}
    ends = [_datatype(each["Format/Datatype"]) for each in (*one["Inputs"], *one["Outputs"])]
    seen = next((datatype for datatype in ends if datatype != "none"), "none")
    datatype = _datatype(weights["Type"]) if weights else seen
    if datatype == "Int8" != seen:  # INT8 weights alone: multiplied in what comes in
        datatype = seen
    return BuiltLayer(str(one["Name"]), _TYPES.get(kind, kind), datatype, int(weights.get("Count", 0)))


def _datatype(told: str) -> str:
    return next((ours for theirs, ours in _DATATYPES.items() if theirs in told), "none")
