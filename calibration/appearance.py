"""How a head on the model's grid looks, in a few numbers, and an order that spreads over what looks different."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["describe", "farthest_first"]

_EDGES_HU = (-np.inf, -500.0, -50.0, 0.0, 15.0, 25.0, 35.0, 45.0, 60.0, 90.0, 200.0, 800.0, 2000.0, np.inf)
"""Air, fat, water, brain in steps of 10 HU, blood, calcification, bone, metal."""
_PARTS = 3  # base, middle and top of the head


def describe(volume: npt.NDArray[np.float16]) -> npt.NDArray[np.float64]:
    """Shares of tissue in three parts of the head, and how noisy its brain is.

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

    It begins with the point nearest to the mean; of equals the first is taken, so the order is the same every time.
    """
    if not points:
        return []
    cloud = np.stack(points)
    first = int(np.linalg.norm(cloud - cloud.mean(axis=0), axis=1).argmin())
    order = [first]
    apart = np.linalg.norm(cloud - cloud[first], axis=1)
    apart[first] = -1.0
    while len(order) < len(cloud):
        new = int(apart.argmax())
        order.append(new)
        apart = np.where(apart < 0, -1.0, np.minimum(apart, np.linalg.norm(cloud - cloud[new], axis=1)))
        apart[new] = -1.0
    return order
