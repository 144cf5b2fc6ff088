"""Measures runners in turns: interleaved rounds on the same volumes, so a busy machine slows all of them alike."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.benchmarking.answers import JudgedAnswers
from molre_edge.benchmarking.memory import MemoryWatch
from molre_edge.benchmarking.power import NvmlGpu, PowerSource, idle_watts, mean_watts
from molre_edge.engines.runner import Runner
from molre_edge.errors import EngineError, MolreEdgeError, RunError
from molre_edge.machine import NOT_TOLD
from molre_edge.parity.text import milliseconds, number
from molre_edge.progress import SILENT, Progress

__all__ = [
    "INCLUDES",
    "NOT_ASKED",
    "NOT_JUDGED",
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
"""What each time includes. Neither includes reading and resampling scans, loading the engine, or warming up."""

NOT_ASKED = "not asked for"
"""Stands for a figure that the caller did not ask for."""

NOT_JUDGED = "not judged"
"""Stands for the answers of a runner that has no golden ones."""

PLAIN = "plain:"
"""Names of the model without adapters begin with this."""

_WARM_UP = 2
_IDLE_S = 1.0

Volumes = npt.NDArray[np.float16]


@dataclass(frozen=True)
class Candidate:
    """A runner to measure.

    Attributes:
        name: such as ``onnxruntime:fp16``, or ``plain:fp16``.
        make: makes the runner; it is not entered yet.
        named: whether the user named it. A named runner that is not ready is an error; another one is left out.
    """

    name: str
    make: Callable[[], Runner]
    named: bool = False


@dataclass(eq=False)
class Measured:
    """One runner at one batch size.

    Attributes:
        name: the runner's name.
        batch: volumes per call.
        total_ms, compute_ms: the times of each round.
        watts: mean power of each rail while the runner ran without a pause.
        joules_per_scan: energy by rail.
        answers: whether golden volumes were answered within the limits, alone and at this batch size: ``right``,
            ``wrong`` or ``not judged``.
    """

    name: str
    batch: int
    total_ms: list[float] = field(default_factory=list)
    compute_ms: list[float] = field(default_factory=list)
    watts: dict[str, float] = field(default_factory=dict)
    joules_per_scan: dict[str, float] = field(default_factory=dict)
    answers: str = NOT_JUDGED


@dataclass(frozen=True)
class Row:
    """Figures of one runner at one batch size. Milliseconds are those of one call, which answers `batch` scans.

    Attributes:
        median_ms, p90_ms, p95_ms, p99_ms: percentiles of ``total``.
        compute_ms: median of the network alone.
        scans_per_second: at the median.
        to_first: time over that of the first runner at this batch size: median and quartiles over the rounds.
        to_plain: the same over the model without adapters, of the same precision on ONNX Runtime.
        answers: as in :class:`Measured`.
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
    answers: str

    @property
    def texts(self) -> tuple[str, ...]:
        """Median, p90, p95, p99 and compute time, and scans per second, rounded for a table."""
        times = (self.median_ms, self.p90_ms, self.p95_ms, self.p99_ms, self.compute_ms)
        return (*map(milliseconds, times), number(self.scans_per_second))


@dataclass(frozen=True, eq=False)
class Measurement:
    """The measurements.

    Attributes:
        arms: each runner at each batch size.
        facts: the facts of each runner, with ``load_seconds`` and ``memory``.
        judged: what each runner's answers were judged to be; empty if nobody judged.
        absent: why a runner was not ready, by name.
        idle_watts: power by rail while nothing ran; empty if power was not measured.
        no_power: why power was not measured.
    """

    arms: tuple[Measured, ...]
    facts: Mapping[str, dict[str, Any]]
    judged: Mapping[str, JudgedAnswers]
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
    judge: Callable[[Runner, Sequence[int]], JudgedAnswers] | None = None,
    progress: Progress = SILENT,
) -> Measurement:
    """Load all runners, warm them up, judge their answers, time them in turns, then measure the power of each alone.

    Args:
        candidates: the runners, in the order of the table.
        volumes: float16 HU [n, slices, rows, cols]; each round takes the next ones.
        batches: volumes per call.
        rounds: calls of each runner at each batch size.
        gpu: reports the GPU's memory; None without a GPU.
        power: the sources of power readings.
        power_seconds: how long each runner runs while power is sampled.
        judge: judges a runner's answers at each batch size; None for times alone. The model without adapters has no
            answers to be judged by.
        progress: receives progress events.

    Raises:
        MolreEdgeError: a runner that the user named is not ready.
        RunError: no runner is ready.
    """
    facts: dict[str, dict[str, Any]] = {}
    absent: dict[str, str] = {}
    runners: dict[str, Runner] = {}
    judged: dict[str, JudgedAnswers] = {}
    idle: dict[str, float] = {}
    with contextlib.ExitStack() as stack:
        for candidate in candidates:
            progress.step(f"loading {candidate.name}")
            try:
                runner = candidate.make()
                name = candidate.name if candidate.name.startswith(PLAIN) else runner.name
                if name not in runners:  # two words may mean the same
                    entered = _enter(runner, stack, volumes, batches, gpu)
                    if judge is not None and not name.startswith(PLAIN):
                        progress.step(f"judging {name}")
                        judged[name] = judge(runner, batches)
                    facts[name], runners[name] = entered, runner
            except MolreEdgeError as error:
                if candidate.named:
                    raise
                absent[candidate.name] = str(error)
        if not runners:
            raise RunError("no runner is ready: " + "; ".join(f"{name}: {why}" for name, why in absent.items()))
        arms = [
            Measured(name, batch, answers=judged[name].word(batch) if name in judged else NOT_JUDGED)
            for batch in batches
            for name in runners
        ]
        progress.step("timing")
        for turn in range(rounds):
            shift = turn % len(arms)
            for arm in arms[shift:] + arms[:shift]:
                _call(runners[arm.name], arm, _take(volumes, turn, arm.batch))
            progress.count(turn + 1, rounds, "rounds")
        if power and power_seconds > 0:
            progress.step("power: idle")
            idle = idle_watts(power, _IDLE_S)
            for arm in arms:
                progress.step(f"power: {arm.name}, batch {arm.batch}")
                _power(runners[arm.name], arm, volumes, power, power_seconds)
    return Measurement(tuple(arms), facts, judged, absent, idle, NOT_ASKED if power else NOT_TOLD)


def _enter(
    runner: Runner, stack: contextlib.ExitStack, volumes: Volumes, batches: Sequence[int], gpu: NvmlGpu | None
) -> dict[str, Any]:
    """Load and warm up a runner, and return its facts with time and memory."""
    memory, used = MemoryWatch(), None if gpu is None else gpu.used_mib()
    start = time.perf_counter()
    stack.enter_context(runner)
    seconds = time.perf_counter() - start
    for batch in batches:
        for turn in range(_WARM_UP):
            runner.run(_take(volumes, turn, batch))
    now = None if gpu is None else gpu.used_mib()
    more = None if used is None or now is None else round(now - used, 1)
    return {**runner.facts, "load_seconds": round(seconds, 2), "memory": {**memory.growth(), "gpu_mib": more}}


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
                answers=arm.answers,
            )
        )
    return rows


def _ratio(times: npt.NDArray[np.float64], base: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """Median and quartiles of the rounds' ratios: within a round, both ran under the same load."""
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
    """Run without a pause; set mean power and the energy of one scan."""
    start, calls = time.perf_counter(), 0
    with mean_watts(sources) as means:
        while calls == 0 or time.perf_counter() - start < seconds:
            runner.run(_take(volumes, calls, arm.batch))
            calls += 1
        took = time.perf_counter() - start
    arm.watts = dict(means)
    arm.joules_per_scan = {rail: round(watts * took / (calls * arm.batch), 3) for rail, watts in means.items()}
