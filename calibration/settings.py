"""The settings of a calibration."""

from __future__ import annotations

from dataclasses import dataclass

from molre_edge.calibration.number_format import FORMATS, NumberFormat
from molre_edge.errors import ConfigError
from molre_edge.specs import Precision, RangeMethod

__all__ = ["CalibrationSettings"]


@dataclass(frozen=True, kw_only=True)
class CalibrationSettings:
    """The settings of a calibration.

    Attributes:
        precision: ``int8`` or ``fp8``: the format of the layers that are chosen.
        method: derives ranges from activations; None tries every method that suits the format, and
            takes the least harmful one.
        slices: slices used to collect activation ranges, if the scans have as many.
        validation_scans: scans kept for judging; None takes
            :data:`~molre_edge.calibration.samples.VALIDATION_SLICES` worth of them.
        conv3d: 3D convolutions may be quantised too.
        search_share: share of each limit that a set of layers may use in the search, which sees only a few scans.
        confirm_share: share of each limit that a set of layers may use in the confirmation. The rest is a margin for
            the runtimes that are not judged here, such as TensorRT or another CPU.
    """

    precision: Precision = Precision.INT8
    method: RangeMethod | None = None
    slices: int = 500
    validation_scans: int | None = None
    conv3d: bool = False
    search_share: float = 0.8
    confirm_share: float = 0.9

    @property
    def number_format(self) -> NumberFormat:
        """The format of the layers that are chosen."""
        return FORMATS[self.precision]

    def __post_init__(self) -> None:
        """Check the ranges of the values.

        Raises:
            ConfigError: a value is out of its range.
        """
        if self.precision not in FORMATS:
            known = " or ".join(FORMATS)
            raise ConfigError(f"calibration: precision is {self.precision}; expected {known}. Correct --precision")
        if self.method is not None and self.method not in self.number_format.methods:
            raise ConfigError(
                f"calibration: {self.method} ranges do not suit {self.precision}; expected "
                f"{', '.join(self.number_format.methods)}. Choose another --ranges, or leave it out"
            )
        if self.slices < 1:
            raise ConfigError(f"calibration: slices is {self.slices}; expected at least 1. Raise --slices")
        if self.validation_scans is not None and self.validation_scans < 1:
            raise ConfigError(
                f"calibration: validation_scans is {self.validation_scans}; expected at least 1. "
                f"Raise --validation-scans, or leave it out"
            )
        for name in ("search_share", "confirm_share"):
            share = getattr(self, name)
            if not 0 < share <= 1:
                raise ConfigError(
                    f"calibration: {name} is {share:g}; expected a number above 0 and at most 1. Correct the setting"
                )
