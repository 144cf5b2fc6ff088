"""The times of the float16 and the 8-bit graph on this machine's ONNX Runtime, measured in interleaved rounds."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.adapters.tensors import Tensors
from molre_edge.engines.onnxruntime_runner import OnnxRuntimeRunner
from molre_edge.specs import Precision

__all__ = ["WORTHWHILE", "Speed", "compare_speed"]

WORTHWHILE = 1.10
"""8 bits must be this many times as fast as float16 to be recommended."""
_ROUNDS = (5, 15)  # at least and at most
_SECONDS = 60.0  # no new round starts after this time


@dataclass(frozen=True)
class Speed:
    """The measured times of one volume.

    Attributes:
        device: such as ``CPU``.
        runtime: name and version.
        threads: CPU threads.
        fp16_ms: median time of the float16 graph's answer.
        quantised_ms: median time of the 8-bit graph's answer.
        times_as_fast: the float16 time over the 8-bit time, median over the rounds; above 1, 8 bits are faster.
        low: first quartile of that over the rounds.
        high: third quartile.
        rounds: each runs both graphs, one after the other.
    """

    device: str
    runtime: str
    threads: int
    fp16_ms: float
    quantised_ms: float
    times_as_fast: float
    low: float
    high: float
    rounds: int

    @property
    def worthwhile(self) -> bool:
        """Whether 8 bits are recommended on this runner: three rounds of four must agree, because times are noisy."""
        return self.low >= WORTHWHILE


def compare_speed(
    fp16: bytes,
    quantised: bytes,
    precision: Precision,
    volume: npt.NDArray[np.float16],
    *,
    threads: int | None = None,
    adapter: Tensors | None = None,
) -> Speed:
    """Run both graphs in turn, as users run them; the first round is a warm-up.

    Args:
        fp16: the file of the float16 graph.
        quantised: the file of the 8-bit graph.
        precision: of that graph.
        volume: float16 HU [1, slices, rows, cols].
        threads: CPU threads; None takes the cores that this process may use.
        adapter: the trained tensors, for graphs that take them as inputs.
    """
    took: dict[str, list[float]] = {"fp16": [], "quantised": []}
    with (
        OnnxRuntimeRunner(fp16, Precision.FP16, threads=threads, adapter=adapter) as half,
        OnnxRuntimeRunner(quantised, precision, threads=threads, adapter=adapter) as eight_bit,
    ):
        runners = {"fp16": half, "quantised": eight_bit}
        start = time.perf_counter()
        for round_ in range(_ROUNDS[1] + 1):
            # alternate the order, so that neither graph always runs second
            for name in sorted(runners, reverse=bool(round_ % 2)):
                took[name].append(runners[name].run(volume).milliseconds["compute"])
            if round_ >= _ROUNDS[0] and time.perf_counter() - start > _SECONDS:
                break
        facts: dict[str, Any] = eight_bit.facts
    times = {name: np.array(values[1:]) for name, values in took.items()}
    ratios = times["fp16"] / times["quantised"]
    return Speed(
        device=str(facts["device"]),
        runtime=f"{facts['runtime']} {facts['version']}",
        threads=int(facts["threads"]),
        fp16_ms=float(np.median(times["fp16"])),
        quantised_ms=float(np.median(times["quantised"])),
        times_as_fast=float(np.median(ratios)),
        low=float(np.quantile(ratios, 0.25)),
        high=float(np.quantile(ratios, 0.75)),
        rounds=len(ratios),
    )
