"""The appearance of a head on the model's grid in a few numbers, and an order that alternates between unlike heads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["describe", "farthest_first"]

_EDGES_HU = (-np.inf, -500.0, -50.0, 0.0, 15.0, 25.0, 35.0, 45.0, 60.0, 90.0, 200.0, 800.0, 2000.0, np.inf)
"""Air, fat, water, brain in steps of 10 HU, blood, calcification, bone, metal."""
_PARTS = 3  # base, middle and top of the head


def describe(volume: npt.NDArray[np.float16]) -> npt.NDArray[np.float64]:
    """Shares of tissue in three parts of the head, and the noise of its brain.

    Args:
        volume: HU [slices, rows, cols].

    Returns:
        float64 [40]: square roots of shares (so that distances are Hellinger's) by part, and the noise.
    """
    numbers = []
    for part in np.array_split(volume.astype(np.float32), min(_PARTS, len(volume))):
        counts, _ = np.histogram(part, bins=_EDGES_HU)
        numbers.append(np.sqrt(counts / max(part.size, 1)))
    numbers += [np.zeros(len(_EDGES_HU) - 1)] * (_PARTS - len(numbers))
    return np.concatenate([*numbers, [_noise(volume)]])


def _noise(volume: npt.NDArray[np.float16]) -> float:
    """Median step between neighbours in a row within brain tissue, as a share of 50 HU."""
    brain = volume.astype(np.float32)
    steps = np.abs(np.diff(brain, axis=-1))
    inside = (brain[..., 1:] > 0) & (brain[..., 1:] < 80) & (steps < 50)
    return float(np.median(steps[inside])) / 50.0 if inside.any() else 0.0


def farthest_first(points: Sequence[npt.NDArray[np.float64]]) -> list[int]:
    """An order in which each next point is the one farthest from all before it (Gonzalez, 1985).

    It begins with the point nearest to the mean. Of equal points the first comes first, so the order is deterministic.
    """
    if not points:
        return []
    cloud = np.stack(points)
    first = int(np.linalg.norm(cloud - cloud.mean(axis=0), axis=1).argmin())
    order = [first]
    distances = np.linalg.norm(cloud - cloud[first], axis=1)
    distances[first] = -1.0
    while len(order) < len(cloud):
        new = int(distances.argmax())
        order.append(new)
        distances = np.where(distances < 0, -1.0, np.minimum(distances, np.linalg.norm(cloud - cloud[new], axis=1)))
        distances[new] = -1.0
    return order
