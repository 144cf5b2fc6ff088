"""Decision thresholds per finding, set on the validation split."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = ["sensitivity_threshold", "set_thresholds", "youden_threshold"]


def youden_threshold(probabilities: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_]) -> float:
    """The threshold with the largest sensitivity + specificity - 1 (Youden, Cancer 3 (1950) 32-35).

    Between two neighbouring probabilities the middle is taken, so that a rounding error flips no decision.

    Args:
        probabilities: [n].
        positive: [n], with both classes.
    """
    order = np.argsort(-probabilities, kind="stable")
    sorted_p, hits = probabilities[order], positive[order]
    last_of_equal = np.append(np.diff(sorted_p) != 0, True)
    gain = np.cumsum(hits) / hits.sum() - np.cumsum(~hits) / (~hits).sum()
    best = int(np.argmax(np.where(last_of_equal, gain, -np.inf)))
    return _below(sorted_p, best)


def sensitivity_threshold(
    probabilities: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_], sensitivity: float
) -> float:
    """The highest threshold that finds at least this share of the positives.

    Args:
        probabilities: [n].
        positive: [n], with at least one positive.
        sensitivity: above 0, up to 1.
    """
    needed = math.ceil(sensitivity * int(positive.sum()) - 1e-9)
    lowest = np.sort(probabilities[positive])[::-1][needed - 1]
    sorted_p = np.sort(probabilities)[::-1]
    return _below(sorted_p, int(np.flatnonzero(sorted_p >= lowest)[-1]))


def _below(descending: npt.NDArray[np.float64], index: int) -> float:
    """The middle between a probability and the next lower one."""
    here = float(descending[index])
    below = float(descending[index + 1]) if index + 1 < len(descending) else 0.0
    middle = (here + below) / 2
    return middle if below < middle <= here else here


def set_thresholds(
    probabilities: npt.NDArray[np.float64], labels: npt.NDArray[np.float32], sensitivity: float | None
) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Thresholds of all findings.

    Args:
        probabilities: [n, findings] on the validation split.
        labels: [n, findings], 1, 0 or NaN.
        sensitivity: the share of positives to find; None for Youden's index.

    Returns:
        One threshold a finding, and the indices of those that keep 0.5 since the split lacks either class.
    """
    thresholds, kept = list[float](), list[int]()
    for i, column in enumerate(labels.T):
        known = ~np.isnan(column)
        positive, p = column[known] == 1, probabilities[known, i]
        if not positive.any() or positive.all():
            kept.append(i)
            thresholds.append(0.5)
        elif sensitivity is None:
            thresholds.append(youden_threshold(p, positive))
        else:
            thresholds.append(sensitivity_threshold(p, positive, sensitivity))
    return tuple(thresholds), tuple(kept)
