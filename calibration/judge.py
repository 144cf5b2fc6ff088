"""Judging a graph: its answers beside the reference's, and how much of the gate they use."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from molre_edge.engines.onnxruntime_runner import OnnxRuntimeRunner
from molre_edge.parity import Outputs, ParityLimits, ParityNumbers
from molre_edge.specs import Precision

if TYPE_CHECKING:
    import onnx

__all__ = ["answers", "of_few", "strain", "tighter"]


def answers(
    graph: onnx.ModelProto | bytes,
    volumes: Iterable[npt.NDArray[np.float16]],
    *,
    precision: Precision = Precision.INT8,
    optimise: bool = False,
    threads: int | None = None,
) -> Outputs:
    """A graph's answers on the CPU, one volume at a time.

    Args:
        graph: of any precision.
        volumes: float16 HU [1, slices, rows, cols] each.
        precision: of the graph.
        optimise: False runs it node by node as it is written, so that Q/DQ are what they say; True is how users run it.
        threads: of ONNX Runtime.
    """
    raw = graph if isinstance(graph, bytes) else graph.SerializeToString()
    with OnnxRuntimeRunner(raw, precision, optimise=optimise, cpu_only=True, threads=threads) as runner:
        return Outputs.stack([runner.run(volume).outputs for volume in volumes])


def strain(numbers: ParityNumbers, gate: ParityLimits) -> float:
    """How much of a gate is used: the largest share of a limit, 1 being all of it; infinite without finite values.

    Decision flips are left out: they come in steps. For a gate that limits nothing of these, the largest |dp| itself.
    """
    if numbers.nonfinite or numbers.dp.max_abs is None:
        return float("inf")
    dp = numbers.dp.max_abs
    shares = [] if gate.max_abs_dp is None else [_share(dp, gate.max_abs_dp)]
    if gate.max_abs_dlogit is not None and numbers.max_abs_dlogit is not None:
        shares.append(_share(numbers.max_abs_dlogit, gate.max_abs_dlogit))
    if gate.min_cosine is not None and numbers.min_cosine is not None:
        shares.append(_share(1.0 - numbers.min_cosine, 1.0 - gate.min_cosine))
    if gate.max_routing_l1 is not None and numbers.gates is not None and numbers.gates.max_l1 is not None:
        shares.append(_share(numbers.gates.max_l1, gate.max_routing_l1))
    return max(shares, default=dp)


def _share(measured: float, limit: float) -> float:
    return measured / max(limit, 1e-9)


def tighter(gate: ParityLimits, factor: float) -> ParityLimits:
    """The gate that the search keeps: limits by a factor smaller, since it sees a few scans only.

    Those of decision flips and AUC are not: on few scans they come in steps as large as the limit.
    """

    def less(limit: float | None) -> float | None:
        return None if limit is None else factor * limit

    return replace(
        gate,
        max_abs_dp=less(gate.max_abs_dp),
        max_abs_dlogit=less(gate.max_abs_dlogit),
        min_cosine=None if gate.min_cosine is None else 1.0 - factor * (1.0 - gate.min_cosine),
        max_routing_l1=less(gate.max_routing_l1),
    )


def of_few(gate: ParityLimits, decisions: int) -> ParityLimits:
    """The gate where decisions are few: a single one that flips may be more than the limit, and is allowed.

    For comparisons of a part of the scans. On all of them together the limit holds as it is.
    """
    if gate.max_flips_fraction is None:
        return gate
    return replace(gate, max_flips_fraction=max(gate.max_flips_fraction, 1 / decisions))
