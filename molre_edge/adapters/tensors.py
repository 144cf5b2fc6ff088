"""Names, shapes and ranges of an adapter's tensors. NumPy only.

A graph that was exported with ``--adapters inputs`` takes what was trained as inputs beside ``volume``, each with a
static shape and one of these names, sorted:

=========================================  ============================  =============================================
name                                       shape                         what it is
=========================================  ============================  =============================================
``adapter.<module>.A``                     [K*r, d_in(, *kernel)]        experts' down projections, stacked
``adapter.<module>.B``                     [d_out, K*r]                  experts' up projections, times alpha / r
``adapter.routers.<i>.mean``, ``.std``     [d_in]                        standardisation; 0 and 1 where there is none
``adapter.routers.<i>.fc1.weight``, bias   [hidden, d_in], [hidden]      a router's first layer
``adapter.routers.<i>.fc2.weight``, bias   [K, hidden], [K]              its last layer, over the temperature
``adapter.pooling.project.weight``, bias   [hidden, d], [hidden]         attention over slices (2D models)
``adapter.pooling.score.weight``, bias     [1, hidden], [1]              its score
``adapter.head.weight``, bias              [findings, d], [findings]     the head
=========================================  ============================  =============================================

``<module>`` is the module's name in the model, such as ``backbone.layer.0.attention.o_proj``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.errors import AdapterError
from molre_edge.specs import TensorSpec

__all__ = ["HALF_MAX", "PREFIX", "Tensors", "check_half_range", "fit_tensors", "tensors_digest"]

PREFIX = "adapter."
"""How the names of all trained tensors begin."""

HALF_MAX = float(np.finfo(np.float16).max)
"""The largest number that float16 can hold."""

Tensors = Mapping[str, npt.NDArray[Any]]
"""An adapter's tensors by name."""


def fit_tensors(tensors: Tensors, specs: Sequence[TensorSpec], whose: str) -> dict[str, npt.NDArray[Any]]:
    """The tensors as a graph takes them: all of its adapter inputs, in its order and precision; copies.

    Args:
        tensors: an adapter's, of any float type.
        specs: the graph's adapter inputs.
        whose: the graph, the engine or the model, for messages.

    Raises:
        AdapterError: one is missing, unknown, of another shape, not finite, or beyond float16 where the graph reads it
            as such.
    """
    missing = [spec.name for spec in specs if spec.name not in tensors]
    unknown = sorted({*tensors} - {spec.name for spec in specs})
    if missing or unknown:
        raise AdapterError(
            f"the adapter does not fit {whose}: {len(missing)} tensors are missing ({_some(missing)}), {len(unknown)} "
            f"are unknown ({_some(unknown)}). Use an adapter of the same backbone, adapted modules and routers"
        )
    for spec in specs:
        if tensors[spec.name].shape != spec.shape:
            raise AdapterError(
                f"the adapter does not fit {whose}: {spec.name} has the shape {list(tensors[spec.name].shape)}, "
                f"expected {list(spec.shape)}. Use an adapter of the same backbone, experts, rank and findings"
            )
        if not np.isfinite(tensors[spec.name]).all():
            raise AdapterError(
                f"the adapter holds NaN or infinity in {spec.name}; expected finite numbers. Its file is damaged, or "
                f"its training failed"
            )
    check_half_range(tensors, specs)
    return {spec.name: np.array(tensors[spec.name], dtype=spec.dtype, order="C") for spec in specs}


def check_half_range(tensors: Tensors, specs: Iterable[TensorSpec]) -> None:
    """Refuse tensors beyond float16's range that a graph reads in float16.

    Args:
        tensors: an adapter's, finite.
        specs: the graph's adapter inputs; those in float32 are not checked.

    Raises:
        AdapterError: names the tensor, its largest value and the limit.
    """
    for spec in specs:
        value = tensors[spec.name] if spec.dtype == "float16" else np.zeros(0)
        largest = float(np.abs(value).max(initial=0.0))
        if largest > HALF_MAX:
            raise AdapterError(
                f"the adapter's tensor {spec.name} reaches {largest:.3g}, and the float16 graph can hold "
                f"{HALF_MAX:.0f} at most. Use this adapter with the float32 graph only"
            )


def tensors_digest(tensors: Tensors) -> str:
    """SHA-256 over names, shapes and little-endian float32 values, whatever the order."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = np.ascontiguousarray(tensors[name], dtype="<f4")
        digest.update(f"{name}:{value.shape};".encode())
        digest.update(value.data)
    return digest.hexdigest()


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3])[:300] + (", ..." if len(names) > 3 else "") or "none"
