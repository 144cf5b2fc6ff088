"""The few values that every stage shares: precisions, tensor specifications and the model's grid.

Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from molre_edge.errors import ConfigError, UsageError, shown

__all__ = [
    "DEFAULT_BUNDLE",
    "DISCLAIMER",
    "HEAD_AXES",
    "HU_MAX",
    "HU_MIN",
    "QUANTISED",
    "RESAMPLING",
    "RUNTIMES",
    "SR_KINDS",
    "VOLUME",
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


VOLUME = "volume"
"""The first input of every graph; the others, if there are any, are trained tensors."""

RUNTIMES = ("onnxruntime", "onnxruntime-rtx", "openvino", "tensorrt", "tensorrt-rtx", "torch")
"""What can run a model; ``torch`` runs the PyTorch model itself."""

SrKind: TypeAlias = Literal["comprehensive3d", "comprehensive"]
SR_KINDS: tuple[SrKind, ...] = get_args(SrKind)
"""DICOM classes of reports: Comprehensive 3D SR, as IHE AI Results asks for; Comprehensive SR, for an older PACS."""


class Precision(str, Enum):
    """The precision of a graph. It is a property of the ONNX file, never of a builder flag."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"
    FP8 = "fp8"

    def __str__(self) -> str:
        """The word used on the command line and in file names."""
        return self.value


QUANTISED = (Precision.INT8, Precision.FP8)
"""Graphs that calibration makes: some layers in 8 bits, the rest in float16."""


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
        prefixes = ", ".join(f"'{name}:'" for name in RUNTIMES[:-2])
        near = difflib.get_close_matches(word.lower(), words, n=1)
        raise UsageError(
            f"--engine {word}: expected {', '.join(precisions)}, with {prefixes} or '{RUNTIMES[-2]}:' before it to "
            f"force that runtime, or 'torch' for the PyTorch model itself."
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

    @property
    def sides(self) -> tuple[int, ...]:
        """The lengths of the static axes."""
        return tuple(axis for axis in self.shape if axis is not None)

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


INTERPOLATIONS = ("nearest", "linear", "cubic", "area")
"""How a slice is resampled within its plane."""
BETWEEN = ("mean", *INTERPOLATIONS)
"""How a slice of the grid is made from the scan's slices around it; ``mean`` is that of a bin."""
PLANES = ("head", "centre", "whole")
"""Where the field lies within slices."""
STACKS = ("head", "centre", "whole", "spread", "every")
"""Which part of the scan the slices of the grid are spread over, or which of its slices they are."""
HEAD_AXES = "SPL"
"""The directions of a volume's axes as it is read: slices to superior, rows to posterior, cols to the left."""


@dataclass(frozen=True)
class Grid:
    """The grid that a model reads: `slices` axial slices, each `rows` x `cols` pixels, and how a scan comes onto it.

    The defaults are what molre-edge trains with; the rest is for models that were trained with another preprocessing
    (docs/reference/preprocessing.md).

    Attributes:
        slices: number of axial slices, inferior to superior.
        rows: pixels from anterior to posterior.
        cols: pixels from the patient's right to left; pixels are square, but for ``whole``.
        field_mm: side of the field of view along the rows, in millimetres.
        height_mm: of all slices together, in millimetres.
        plane: where the field lies: around the ``head``; around the ``centre`` of the picture, which is cropped or
            padded; or the ``whole`` picture, stretched to rows x cols, whatever `field_mm` says.
        interpolation: within slices: ``nearest``, ``linear``, ``cubic`` or ``area``.
        antialias: of ``linear`` and ``cubic``: their kernel is as wide as the coarser of both pixels.
        stack: where the slices lie: spread evenly from the top of the ``head`` down to the end of the scan, but no
            farther than `height_mm`, so that a neck does not take the brain's slices; at fixed distances of
            `height_mm` / `slices` and cropped or padded around the ``centre``; over the ``whole`` scan; or slices of
            the scan as they are: ``spread`` evenly from its first to its last, or ``every`` `slice_step`-th, cropped
            or padded around the centre.
        between: along the slices, where they are resampled: ``mean`` of a bin, ``nearest``, ``linear``, ``cubic`` or
            ``area``.
        slice_step: of ``every``.
        outside_hu: value where there are no data.
        crop_above_hu: the scan is first cropped to the box that holds all values above so many HU; None for all of it.
        axes: directions in which slices, rows and cols run: S or I, then P or A and L or R in any order.
    """

    slices: int
    rows: int
    cols: int
    field_mm: float = 256.0
    height_mm: float = 180.0
    plane: str = "head"
    interpolation: str = "linear"
    antialias: bool = True
    stack: str = "head"
    between: str = "mean"
    slice_step: int = 1
    outside_hu: float = HU_MIN
    crop_above_hu: float | None = None
    axes: str = HEAD_AXES

    def __post_init__(self) -> None:
        """Refuse a grid that no head fits on, that would not fit into memory, or whose settings contradict."""
        for name, low, high in (("slices", 1, 512), ("rows", 16, 2048), ("cols", 16, 2048), ("slice_step", 1, 64)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise ConfigError(f"grid.{name}: expected a whole number from {low} to {high}, got {shown(value)}")
        for name, least, most, unit in (
            ("field_mm", 50.0, 1000.0, "millimetres"),
            ("height_mm", 20.0, 1000.0, "millimetres"),
            ("outside_hu", HU_MIN, HU_MAX, "HU"),
            ("crop_above_hu", HU_MIN, HU_MAX, "HU"),
        ):
            value = getattr(self, name)
            if value is None and name == "crop_above_hu":
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
                raise ConfigError(f"grid.{name}: expected {least:g} to {most:g} {unit}, got {shown(value)}")
        for name, words in (
            ("plane", PLANES),
            ("interpolation", INTERPOLATIONS),
            ("stack", STACKS),
            ("between", BETWEEN),
        ):
            value = getattr(self, name)
            if value not in words:
                raise ConfigError(
                    f"grid.{name}: expected one of {', '.join(words)}, got {shown(value)}; nothing else is supported"
                )
        self._check_together()

    def _check_together(self) -> None:
        if not isinstance(self.antialias, bool):
            raise ConfigError(f"grid.antialias: expected true or false, got {shown(self.antialias)}")
        if self.interpolation == "area" and not self.antialias:
            raise ConfigError("grid.antialias: false contradicts grid.interpolation area, which averages; leave it out")
        if self.stack in ("spread", "every") and self.between != "mean":
            raise ConfigError(
                f"grid.between: {self.between} contradicts grid.stack {self.stack}, which takes slices of the scan as "
                f"they are; leave it out"
            )
        if self.crop_above_hu is not None and "head" in (self.plane, self.stack):
            raise ConfigError(
                f"grid.crop_above_hu: only where the head is not looked for, and grid.plane is {self.plane}, "
                f"grid.stack is {self.stack}"
            )
        if self.stack != "every" and self.slice_step != 1:
            raise ConfigError(f"grid.slice_step: only for grid.stack every, and the stack is {self.stack}")
        known = isinstance(self.axes, str) and len(self.axes) == 3 and self.axes[0] in "SI"
        if not known or not set(self.axes[1:]) & set("PA") or not set(self.axes[1:]) & set("LR"):
            raise ConfigError(
                f"grid.axes: expected where slices, rows and cols run to: S or I, then P or A and L or R in any order, "
                f"such as {HEAD_AXES} or SAR, got {shown(self.axes)}. Slices are axial; a backbone for volumes brings "
                f"their axes into its own order itself"
            )

    @property
    def pixel_mm(self) -> float:
        """Side of a pixel in millimetres, but for ``whole`` pictures."""
        return self.field_mm / self.rows

    @property
    def shape(self) -> tuple[int, int, int]:
        """(slices, rows, cols)."""
        return (self.slices, self.rows, self.cols)

    @property
    def settings(self) -> dict[str, Any]:
        """What differs from the defaults in how a scan comes onto the grid; empty for molre-edge's own way."""
        defaults = {field.name: field.default for field in fields(self)}
        return {name: value for name in RESAMPLING if (value := getattr(self, name)) != defaults[name]}

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; ``Grid(**data)`` is the inverse. Defaults that earlier versions lack are left out."""
        return {**{name: getattr(self, name) for name in _PLAIN}, **self.settings}


_PLAIN = ("slices", "rows", "cols", "field_mm", "height_mm")
"""What every version wrote and read."""
RESAMPLING = tuple(field.name for field in fields(Grid) if field.name not in _PLAIN)
"""The settings of a grid that say how a scan comes onto it; left out where they are the default."""
