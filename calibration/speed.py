"""Time of the float16 and the int8 graph on this machine's ONNX Runtime, interleaved."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.engines.onnxruntime_runner import OnnxRuntimeRunner
from molre_edge.specs import Precision

__all__ = ["WORTHWHILE", "Speed", "compare_speed"]

WORTHWHILE = 1.10
"""Times as fast as float16 that int8 must be to be worth its loss."""
_ROUNDS = (5, 15)  # least and most
_SECONDS = 60.0  # no new round after so many


@dataclass(frozen=True)
class Speed:
    """What was measured; one volume at a time.

    Attributes:
        device: such as ``CPU``.
        runtime: name and version.
        threads: of the CPU.
        fp16_ms: median time of the float16 graph's answer.
        int8_ms: of the int8 graph's.
        times_as_fast: median over the rounds of the one over the other; above 1, int8 is faster.
        low: its first quartile over the rounds.
        high: its third.
        rounds: each runs both, one after the other.
    """

    device: str
    runtime: str
    threads: int
    fp16_ms: float
    int8_ms: float
    times_as_fast: float
    low: float
    high: float
    rounds: int

    @property
    def worthwhile(self) -> bool:
        """Whether int8 is worth it on this runner: three rounds of four must say so, since times are noisy."""
        return self.low >= WORTHWHILE


def compare_speed(fp16: bytes, int8: bytes, volume: npt.NDArray[np.float16], *, threads: int | None = None) -> Speed:
    """Run both graphs in turn, as users run them, on float16 HU [1, slices, rows, cols]; the first runs are warm-up."""
    took: dict[str, list[float]] = {"fp16": [], "int8": []}
    with (
        OnnxRuntimeRunner(fp16, Precision.FP16, threads=threads) as half,
        OnnxRuntimeRunner(int8, Precision.INT8, threads=threads) as quantised,
    ):
        runners = {"fp16": half, "int8": quantised}
        start = time.perf_counter()
        for round_ in range(_ROUNDS[1] + 1):
            # the order changes, so that neither always follows the other
            for name in sorted(runners, reverse=bool(round_ % 2)):
                took[name].append(runners[name].run(volume).milliseconds["compute"])
            if round_ >= _ROUNDS[0] and time.perf_counter() - start > _SECONDS:
                break
        facts: dict[str, Any] = quantised.facts
    times = {name: np.array(values[1:]) for name, values in took.items()}
    ratios = times["fp16"] / times["int8"]
    return Speed(
        device=str(facts["device"]),
        runtime=f"{facts['runtime']} {facts['version']}",
        threads=int(facts["threads"]),
        fp16_ms=float(np.median(times["fp16"])),
        int8_ms=float(np.median(times["int8"])),
        times_as_fast=float(np.median(ratios)),
        low=float(np.quantile(ratios, 0.25)),
        high=float(np.quantile(ratios, 0.75)),
        rounds=len(ratios),
    )
