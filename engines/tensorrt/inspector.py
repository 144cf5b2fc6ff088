"""The layers of an engine as its inspector tells them: on a GPU, where an engine can be loaded again once it is built.

Read after public examples of its JSON alone, in two forms: TensorRT 10 has one word for a tensor's format and datatype
(``Format/Datatype``), TensorRT 11 two (``Datatype`` and ``Format``), as TensorRT-RTX has in its log.
"""

from __future__ import annotations

import json
import math
from typing import Any

from molre_edge.engines.tensorrt.api import TensorRT
from molre_edge.engines.tensorrt.layers import UNREAD, BuiltLayer, datatype_of, layer_of

__all__ = ["inspect_layers", "parse_layers"]


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
    """Read the inspector's JSON; layers of another form are told as unread, and no list of layers is none."""
    try:
        layers = json.loads(text)["Layers"]
        return tuple(_layer(one) for one in layers) if isinstance(layers, list) else ()
    except (ValueError, KeyError, TypeError, RecursionError):
        return ()


def _layer(one: Any) -> BuiltLayer:
    try:
        lists = [[_tensor(each) for each in one[end]] for end in ("Inputs", "Outputs")]
        constants = [_tensor(each) for each in one.get("Constants") or []]
        if weights := one.get("Weights"):
            constants = [(int(weights["Count"]), datatype_of(weights["Type"]))]
        return layer_of(str(one["Name"]), str(one["LayerType"]), lists[0], constants, lists[1])
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration):
        name = one.get("Name") if isinstance(one, dict) else one  # below DETAILED a layer is its name alone
        return layer_of(str(name)[:200], UNREAD, [(0, None)], [], [])


def _tensor(one: dict[str, Any]) -> tuple[int, str | None]:
    """Elements and datatype."""
    word = next(str(one[name]) for name in ("Format/Datatype", "Datatype", "DataType") if name in one)
    return math.prod(int(side) for side in one.get("Dimensions") or []), datatype_of(word)
