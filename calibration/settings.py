"""What a calibration is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from molre_edge.errors import ConfigError

__all__ = ["CalibrationSettings", "RangeMethod"]


class RangeMethod(str, Enum):
    """How the range of an activation follows from the values that were seen."""

    MINMAX = "minmax"
    PERCENTILE = "percentile"
    ENTROPY = "entropy"
    MSE = "mse"

    def __str__(self) -> str:
        """The word used on the command line."""
        return self.value


@dataclass(frozen=True, kw_only=True)
class CalibrationSettings:
    """What a calibration is asked for.

    Attributes:
        method: of the ranges; None tries all and takes the one that harms least.
        slices: so many slices are to be seen for the ranges, where there are as many.
        validation: so many scans are kept for judging; None is :data:`VALIDATION_SLICES` worth of them.
        conv3d: consider 3D convolutions too.
        headroom: the search keeps each limit of the gate by this factor, since it sees a few scans only.
    """

    method: RangeMethod | None = None
    slices: int = 500
    validation: int | None = None
    conv3d: bool = False
    headroom: float = 0.8

    def __post_init__(self) -> None:
        """Refuse what makes no sense.

        Raises:
            ConfigError: a value is out of its range.
        """
        if self.slices < 1 or (self.validation is not None and self.validation < 1):
            raise ConfigError("calibration: expected at least one slice for the ranges and one scan to judge on")
        if not 0 < self.headroom <= 1:
            raise ConfigError(f"calibration: expected a headroom above 0 and at most 1, got {self.headroom:g}")
