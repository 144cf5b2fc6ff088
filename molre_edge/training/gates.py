"""How routers behave, read from the gates of many scans."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["RoutingResult", "gate_entropy", "measure_routing", "spread_between_scans", "spread_between_slices"]

_Gates = npt.NDArray[Any]
_Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RoutingResult:
    """Behaviour of the routers on these scans. A scan's gates are the means over its slices.

    Attributes:
        entropy: float64 [routers], mean entropy of the gates over log K: 1 is an even mixture, 0 a single expert.
        usage: float64 [routers, K], mean gate of each expert.
        leading: float64 [routers, K], share of gate vectors that each expert leads.
        with_finding: float64 [findings, routers, K], mean gate over the scans with it; NaN where there is none.
        without_finding: float64 [findings, routers, K], likewise over the scans without it.
        by_finding: float64 [findings, routers, K], their difference. An expert specialises in what raises its gate.
        spread: mean over routers of the standard deviation of gates between scans; 0 means that the router ignores its
            input.
        slice_spread: likewise between the slices of a scan, mean over scans; routers after the pooling count as 0. None
            if every router has one gate vector a scan.
    """

    entropy: _Array
    usage: _Array
    leading: _Array
    with_finding: _Array
    without_finding: _Array
    by_finding: _Array
    spread: float
    slice_spread: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data; null for NaN."""

        def plain(values: _Array) -> Any:
            known = values.astype(object)
            known[np.isnan(values)] = None
            return known.tolist()

        return {
            "entropy": self.entropy.tolist(),
            "usage": self.usage.tolist(),
            "leading": self.leading.tolist(),
            "with_finding": plain(self.with_finding),
            "without_finding": plain(self.without_finding),
            "by_finding": plain(self.by_finding),
            "spread": self.spread,
            "slice_spread": self.slice_spread,
        }


def gate_entropy(gates: _Gates) -> _Array:
    """Mean entropy of each router's gates in nats: 0 is a single expert, log K an even mixture.

    Args:
        gates: [scans, slices or 1, routers, K].

    Returns:
        float64 [routers].
    """
    values = gates.astype(np.float64)
    entropy: _Array = -(values * np.log(np.clip(values, 1e-12, None))).sum(-1).mean(axis=(0, 1))
    return entropy


def spread_between_scans(gates: _Gates) -> float:
    """Standard deviation of the scans' mean gates, mean over routers and experts; `gates` as for the entropy."""
    return float(gates.astype(np.float64).mean(axis=1).std(axis=0).mean())


def spread_between_slices(gates: _Gates) -> float | None:
    """Standard deviation of gates within a scan, mean over scans, routers and experts; None without slices."""
    return float(gates.astype(np.float64).std(axis=1).mean()) if gates.shape[1] > 1 else None


def measure_routing(gates: _Gates | None, labels: npt.NDArray[np.float32]) -> RoutingResult | None:
    """The routers' behaviour.

    Args:
        gates: [scans, slices or 1, routers, K]; None for K = 0.
        labels: [scans, findings], 1, 0 or NaN for unknown.

    Returns:
        None if there is nothing to route, K being 0 or 1.
    """
    if gates is None or gates.shape[-1] < 2:
        return None
    values = gates.astype(np.float64)
    experts = values.shape[-1]
    per_scan = values.mean(axis=1)  # [n, routers, K]
    leads = np.eye(experts)[values.argmax(-1)]
    means = np.full((2, labels.shape[1], *per_scan.shape[1:]), np.nan)  # without, with
    for i, column in enumerate(labels.T):
        for present in (0, 1):
            if (column == present).any():
                means[present, i] = per_scan[column == present].mean(0)
    return RoutingResult(
        entropy=gate_entropy(values) / np.log(experts),
        usage=per_scan.mean(axis=0),
        leading=leads.mean(axis=(0, 1)),
        with_finding=means[1],
        without_finding=means[0],
        by_finding=means[1] - means[0],
        spread=spread_between_scans(values),
        slice_spread=spread_between_slices(values),
    )
