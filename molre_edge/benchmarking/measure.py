"""Runners side by side: interleaved rounds on the same volumes, so that a busy machine slows all of them alike."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.benchmarking.memory import MemoryWatch
from molre_edge.benchmarking.power import NvmlGpu, PowerSource, idle_watts, mean_watts
from molre_edge.engines.runner import Runner
from molre_edge.errors import EngineError, MolreEdgeError, RunError

__all__ = [
    "INCLUDES",
    "NOT_ASKED",
    "NOT_TOLD",
    "PLAIN",
    "Candidate",
    "Measured",
    "Measurement",
    "Row",
    "measure",
    "summarise",
]

INCLUDES: Mapping[str, str] = {
    "total": "one call on the wall clock: conversion and copies to the device, the network, copies back to float32",
    "compute": "the network alone, windows and normalisation included, device synchronised",
}
"""What the times include. Reading scans, resampling, loading the engine and warming up are in neither."""

NOT_TOLD, NOT_ASKED = "not available here", "not asked for"
"""Why there is no figure."""

PLAIN = "plain:"
"""What names of the model without adapters begin with."""

_WARM_UP = 2
_IDLE_S = 1.0

Volumes = npt.NDArray[np.float16]


@dataclass(frozen=True)
class Candidate:
    """Somebody who may take part.

    Attributes:
        name: such as ``onnxruntime:fp16``, or ``plain:fp16``.
        make: gives the runner, not entered yet.
        named: the user asked for it: then it is an error if it is not ready.
    """

    name: str
    make: Callable[[], Runner]
    named: bool = False


@dataclass(eq=False)
class Measured:
    """One runner at one batch size.

    Attributes:
        name: of the runner.
        batch: volumes a call.
        total_ms, compute_ms: of each round.
        watts: mean of each rail while it ran without a pause.
        joules_per_scan: by rail.
    """

    name: str
    batch: int
    total_ms: list[float] = field(default_factory=list)
    compute_ms: list[float] = field(default_factory=list)
    watts: dict[str, float] = field(default_factory=dict)
    joules_per_scan: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """Figures of one runner at one batch size; milliseconds of one call, which answers `batch` scans.

    Attributes:
        median_ms, p90_ms, p95_ms, p99_ms: of ``total``.
        compute_ms: median of the network alone.
        scans_per_second: at the median.
        to_first: time over that of the first runner at this batch size: median and quartiles over the rounds.
        to_plain: the same over the model without adapters, of the same precision on ONNX Runtime.
    """

    name: str
    batch: int
    rounds: int
    median_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    compute_ms: float
    scans_per_second: float
    to_first: tuple[float, float, float] | None
    to_plain: tuple[float, float, float] | None


@dataclass(frozen=True, eq=False)
class Measurement:
    """All that was measured.

    Attributes:
        arms: each runner at each batch size.
        facts: of each runner: its own, ``load_seconds`` and ``memory``.
        absent: who is not ready, and why.
        idle_watts: by rail, while nothing ran; empty where power was not measured.
        no_power: why power was not measured, where it was not.
    """

    arms: tuple[Measured, ...]
    facts: Mapping[str, dict[str, Any]]
    absent: Mapping[str, str]
    idle_watts: Mapping[str, float]
    no_power: str


def measure(
    candidates: Sequence[Candidate],
    volumes: Volumes,
    *,
    batches: Sequence[int],
    rounds: int,
    gpu: NvmlGpu | None = None,
    power: Sequence[PowerSource] = (),
    power_seconds: float = 0.0,
    on_step: Callable[[str], None] = lambda name: None,
) -> Measurement:
    """Load all, warm them up, time them in turns, and then the power of each by itself.

    Args:
        candidates: in the order of the table.
        volumes: HU [n, slices, rows, cols]; each round takes the next ones.
        batches: volumes a call.
        rounds: calls of each runner at each batch size.
        gpu: tells the GPU's memory.
        power: what tells watts.
        power_seconds: how long each runs for it.
        on_step: is told what begins.

    Raises:
        MolreEdgeError: somebody who was named is not ready.
        RunError: nobody is.
    """
    facts: dict[str, dict[str, Any]] = {}
    absent: dict[str, str] = {}
    runners: dict[str, Runner] = {}
    idle: dict[str, float] = {}
    with contextlib.ExitStack() as stack:
        for candidate in candidates:
            on_step(f"loading {candidate.name}")
            try:
                runner = candidate.make()
                name = candidate.name if candidate.name.startswith(PLAIN) else runner.name
                if name not in runners:  # two words may mean the same
                    facts[name] = _enter(runner, stack, volumes, batches, gpu)
                    runners[name] = runner
            except MolreEdgeError as error:
                if candidate.named:
                    raise
                absent[candidate.name] = str(error)
        if not runners:
            raise RunError("no runner is ready: " + "; ".join(f"{name}: {why}" for name, why in absent.items()))
        arms = [Measured(name, batch) for batch in batches for name in runners]
        for turn in range(rounds):
            on_step(f"round {turn + 1} of {rounds}")
            shift = turn % len(arms)
            for arm in arms[shift:] + arms[:shift]:
                _call(runners[arm.name], arm, _take(volumes, turn, arm.batch))
        if power and power_seconds > 0:
            on_step("power: idle")
            idle = idle_watts(power, _IDLE_S)
            for arm in arms:
                on_step(f"power: {arm.name}, batch {arm.batch}")
                _power(runners[arm.name], arm, volumes, power, power_seconds)
    return Measurement(tuple(arms), facts, absent, idle, NOT_ASKED if power else NOT_TOLD)


def _enter(
    runner: Runner, stack: contextlib.ExitStack, volumes: Volumes, batches: Sequence[int], gpu: NvmlGpu | None
) -> dict[str, Any]:
    """Load and warm up, and tell what that took."""
    memory, used = MemoryWatch(), None if gpu is None else gpu.used_mib()
    start = time.perf_counter()
    stack.enter_context(runner)
    seconds = time.perf_counter() - start
    for batch in batches:
        for turn in range(_WARM_UP):
            runner.run(_take(volumes, turn, batch))
    now = None if gpu is None else gpu.used_mib()
    more = None if used is None or now is None else round(now - used, 1)
    return {**runner.facts, "load_seconds": round(seconds, 2), "memory": {**memory.told(), "gpu_mib": more}}


def summarise(arms: Sequence[Measured]) -> list[Row]:
    """Percentiles, rates and ratios."""
    rows = []
    by_place = {(arm.name, arm.batch): np.array(arm.total_ms) for arm in arms}
    for arm in arms:
        times = by_place[arm.name, arm.batch]
        first = next(each for each in arms if each.batch == arm.batch)
        plain = by_place.get((PLAIN + arm.name.rpartition(":")[2], arm.batch))
        if not arm.name.startswith("onnxruntime:"):
            plain = None
        median, p90, p95, p99 = (float(value) for value in np.percentile(times, [50, 90, 95, 99]))
        rows.append(
            Row(
                name=arm.name,
                batch=arm.batch,
                rounds=len(times),
                median_ms=median,
                p90_ms=p90,
                p95_ms=p95,
                p99_ms=p99,
                compute_ms=float(np.median(arm.compute_ms)),
                scans_per_second=1e3 * arm.batch / median,
                to_first=None if arm is first else _ratio(times, by_place[first.name, first.batch]),
                to_plain=None if plain is None else _ratio(times, plain),
            )
        )
    return rows


def _ratio(times: npt.NDArray[np.float64], base: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """Median and quartiles of the rounds' ratios: within a round both met the same machine."""
    low, middle, high = (float(value) for value in np.percentile(times / base, [25, 50, 75]))
    return middle, low, high


def _take(volumes: Volumes, turn: int, batch: int) -> Volumes:
    return volumes[(turn * batch + np.arange(batch)) % len(volumes)]


def _call(runner: Runner, arm: Measured, batch: Volumes) -> None:
    start = time.perf_counter()
    try:
        result = runner.run(batch)
    except EngineError as error:
        raise EngineError(f"{arm.name} at a batch of {arm.batch}: {error}") from error
    arm.total_ms.append(1e3 * (time.perf_counter() - start))
    arm.compute_ms.append(result.milliseconds["compute"])


def _power(runner: Runner, arm: Measured, volumes: Volumes, sources: Sequence[PowerSource], seconds: float) -> None:
    """Run without a pause, and tell mean watts and the energy of a scan."""
    start, calls = time.perf_counter(), 0
    with mean_watts(sources) as means:
        while calls == 0 or time.perf_counter() - start < seconds:
            runner.run(_take(volumes, calls, arm.batch))
            calls += 1
        took = time.perf_counter() - start
    arm.watts = dict(means)
    arm.joules_per_scan = {rail: round(watts * took / (calls * arm.batch), 3) for rail, watts in means.items()}
