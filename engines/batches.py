"""Golden volumes through a runner: alone, and in every slot of a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from molre_edge.engines.runner import Runner
from molre_edge.parity import Outputs
from molre_edge.parity.batches import BatchAnswers, batch_orders

__all__ = ["ANY_SIZE", "Answered", "answer_alone", "answer_in_batches", "answer_volumes", "largest_batch"]

ANY_SIZE = 2
"""The batch that stands for all of a runner that takes any size: ONNX Runtime, OpenVINO, PyTorch."""

Volumes = npt.NDArray[np.float16]


@dataclass(frozen=True, eq=False)
class Answered:
    """Answers and the times of those alone, ``compute`` in milliseconds a volume."""

    answers: BatchAnswers
    compute_ms: tuple[float, ...]


def largest_batch(runner: Runner) -> int:
    """The batch in which a runner is judged: the largest that its engine was built for, else :data:`ANY_SIZE`.

    Args:
        runner: entered.
    """
    sizes = runner.facts.get("batch")
    return int(sizes[-1]) if sizes else ANY_SIZE


def answer_volumes(runner: Runner, volumes: Volumes, size: int, count: Callable[[int, int], None]) -> Answered:
    """Answer each volume alone, then in batches as :func:`molre_edge.parity.batches.batch_orders` says.

    Args:
        runner: entered.
        volumes: float16 HU [n, slices, rows, cols].
        size: slots of a batch; 1 for no batches.
        count: told after each call how many answers there are, and how many there will be.

    Raises:
        EngineError: the runner failed.
    """
    total = len(volumes) + size * len(batch_orders(len(volumes), size))
    alone, times = answer_alone(runner, volumes, lambda done: count(done, total))
    batches = answer_in_batches(runner, volumes, size, lambda done: count(len(volumes) + done, total))
    return Answered(BatchAnswers(alone, batches), times)


def answer_alone(
    runner: Runner, volumes: Volumes, count: Callable[[int], None] = lambda done: None
) -> tuple[Outputs, tuple[float, ...]]:
    """Answer each volume in a call of its own; with the milliseconds of compute of each."""
    results = []
    for place in range(len(volumes)):
        results.append(runner.run(volumes[place : place + 1]))
        count(place + 1)
    times = tuple(result.milliseconds["compute"] for result in results)
    return Outputs.stack([result.outputs for result in results]), times


def answer_in_batches(
    runner: Runner, volumes: Volumes, size: int, count: Callable[[int], None] = lambda done: None
) -> tuple[tuple[tuple[int, ...], Outputs], ...]:
    """Answer batches of a size: for each, the volume in each slot, and the answers."""
    batches = []
    for order in batch_orders(len(volumes), size):
        batches.append((order, runner.run(volumes[list(order)]).outputs))
        count(size * len(batches))
    return tuple(batches)
