"""The few values that every stage shares: precisions, tensor specifications and the model's grid.

Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from molre_edge.errors import ConfigError, UsageError, shown

__all__ = [
    "DEFAULT_BUNDLE",
    "DISCLAIMER",
    "HU_MAX",
    "HU_MIN",
    "RUNTIMES",
    "SR_KINDS",
    "Grid",
    "Precision",
    "RangeMethod",
    "SrKind",
    "TensorSpec",
    "parse_engine",
]

DISCLAIMER = "Research and engineering tool, not a cleared medical device; its output is not a diagnosis."
"""What every page, report and run says of the tool."""

DEFAULT_BUNDLE = Path("edge-bundle")
"""The bundle's folder if a command or a verb is given none."""

HU_MIN = -1024.0
"""Lowest value of a volume on the model's grid, in Hounsfield units: air, as 12-bit CT stores it."""
HU_MAX = 3071.0
"""Highest value of a volume on the model's grid, in Hounsfield units: the top of 12-bit CT."""


RUNTIMES = ("onnxruntime", "openvino", "tensorrt", "tensorrt-rtx", "torch")
"""What can run a model; ``torch`` runs the PyTorch model itself."""

SrKind: TypeAlias = Literal["comprehensive3d", "comprehensive"]
SR_KINDS: tuple[SrKind, ...] = get_args(SrKind)
"""DICOM classes of reports: Comprehensive 3D SR, as IHE AI Results asks for; Comprehensive SR, for an older PACS."""


class Precision(str, Enum):
    """The precision of a graph. It is a property of the ONNX file, never of a builder flag."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"

    def __str__(self) -> str:
        """The word used on the command line and in file names."""
        return self.value


def parse_engine(word: str) -> tuple[str | None, Precision]:
    """``fp16``, ``onnxruntime:fp16`` or ``torch`` as runtime (None: the best one) and precision.

    Raises:
        UsageError: an unknown word; the message lists the known ones and names the nearest.
    """
    runtime, colon, precision = word.rpartition(":")
    if word == "torch":
        runtime, precision = "torch", "fp32"
    precisions = [p.value for p in Precision]
    known = runtime in RUNTIMES or not (runtime or colon)
    if not known or precision not in precisions or (runtime == "torch" and precision != "fp32"):
        import difflib

        words = [*precisions, "torch", *(f"{name}:{each}" for name in RUNTIMES[:-1] for each in precisions)]
        near = difflib.get_close_matches(word.lower(), words, n=1)
        raise UsageError(
            f"--engine {word}: expected {', '.join(precisions)}, with 'onnxruntime:', 'openvino:', 'tensorrt:' or "
            f"'tensorrt-rtx:' before it to force that runtime, or 'torch' for the PyTorch model itself."
            + (f" Did you mean '{near[0]}'?" if near else "")
        )
    return runtime or None, Precision(precision)


class RangeMethod(str, Enum):
    """How calibration derives the range of an activation from the values that it collected."""

    MINMAX = "minmax"
    PERCENTILE = "percentile"
    ENTROPY = "entropy"
    MSE = "mse"

    def __str__(self) -> str:
        """The word used on the command line."""
        return self.value


@dataclass(frozen=True)
class TensorSpec:
    """Name, dtype and shape of a graph's input or output.

    Attributes:
        name: the tensor's name in the graph.
        dtype: NumPy's name of the dtype, such as ``float16``.
        shape: one entry an axis; ``None`` is a dynamic axis (the batch, always the first, is the only one).
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TensorSpec:
        """The inverse of :meth:`to_dict`."""
        return cls(str(data["name"]), str(data["dtype"]), tuple(data["shape"]))

    def __str__(self) -> str:
        """For messages: ``volume: float32 [batch, 8, 224, 224]``."""
        axes = ", ".join("batch" if axis is None else str(axis) for axis in self.shape)
        return f"{self.name}: {self.dtype} [{axes}]"


@dataclass(frozen=True)
class Grid:
    """The grid that a model reads: `slices` axial slices through the head, each `rows` x `cols` pixels.

    Attributes:
        slices: number of axial slices, inferior to superior.
        rows: pixels from anterior to posterior.
        cols: pixels from the patient's right to left; pixels are square.
        field_mm: side of the field of view along the rows, in millimetres, centred on the head.
        height_mm: the slices are spread evenly from the top of the head down to the end of the scan,
            but no farther than this many millimetres, so that a neck does not take the brain's slices.
    """

    slices: int
    rows: int
    cols: int
    field_mm: float = 256.0
    height_mm: float = 180.0

    def __post_init__(self) -> None:
        """Refuse a grid that no head fits on, or that would not fit into memory."""
        for name, low, high in (("slices", 1, 512), ("rows", 16, 2048), ("cols", 16, 2048)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise ConfigError(f"grid.{name}: expected a whole number from {low} to {high}, got {shown(value)}")
        for name, low_mm, high_mm in (("field_mm", 50.0, 1000.0), ("height_mm", 20.0, 1000.0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low_mm <= value <= high_mm:
                raise ConfigError(f"grid.{name}: expected {low_mm:g} to {high_mm:g} millimetres, got {shown(value)}")

    @property
    def pixel_mm(self) -> float:
        """Side of a pixel in millimetres."""
        return self.field_mm / self.rows

    @property
    def shape(self) -> tuple[int, int, int]:
        """(slices, rows, cols)."""
        return (self.slices, self.rows, self.cols)
