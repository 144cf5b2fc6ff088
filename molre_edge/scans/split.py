"""Splits the slices of a series into volumes, each of one patient, one acquisition, one kernel and so on.

What must be one is an `Axis` of the split. Slices that differ on an axis belong to different volumes, with two
exceptions. Acquisitions that lie side by side are one volume, since sequential scanners count each turn of the gantry;
so are stacks side by side that differ in tube voltage or in smooth kernels, as protocols of skull base and vertex do
(with a warning). And a value that is another one in nearly every slice tells no volumes apart.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.errors import ScanError
from molre_edge.scans.dicom_frames import Frame
from molre_edge.scans.dicom_kind import check_frame_kind
from molre_edge.scans.kernel import is_bone_kernel
from molre_edge.scans.scan_records import ScanWarning
from molre_edge.scans.stack import MIN_SLICES, SAME_DIRECTION
from molre_edge.scans.text import plain_text
from molre_edge.scans.traits import HOUNSFIELD_TYPES

__all__ = ["AXES", "Axis", "Part", "Pile", "apart", "normal_of", "overlap", "split_frames"]

SAME_SPACING = 0.001
"""Largest relative difference of pixel spacings within one volume."""
OVERLAPPING_PART = 0.2
"""Stacks of which more slices than this lie within each other are not side by side."""
_MANY = 128
"""More different values are no volumes; a bound on the work that a made-up header can cause."""

_COUNTED = ("points in time", "stacks", "acquisitions")
"""Numbers that may well be another one in every slice."""

Groups = list[list[Frame]]


@dataclass(frozen=True)
class Part:
    """Slices that may be one volume.

    Attributes:
        frames: its slices.
        names: what sets it apart from the others, such as ``kernel H30s``.
        axes: the axes on which it was split off.
        warnings: about values that differ within it.
    """

    frames: tuple[Frame, ...]
    names: tuple[str, ...] = ()
    axes: tuple[Axis, ...] = ()
    warnings: tuple[ScanWarning, ...] = ()


@dataclass(frozen=True)
class Axis:
    """Something that is one within a volume.

    Attributes:
        what: in words, plural.
        element: the DICOM element that states it.
        key: its value for a frame. Values that are equal belong together.
        name: a short name of the value for people, without anything that identifies a person.
        together: whether two stacks that differ on it are one volume all the same.
        close: for values that are compared with a tolerance.
        warning: code of the warning when stacks that differ stay together.
    """

    what: str
    element: str
    key: Callable[[Frame], Hashable]
    name: Callable[[Frame, int], str]
    together: Callable[[Pile, Pile], bool] | None = None
    close: Callable[[Any, Any], bool] | None = None
    warning: str = field(default="")

    def groups(self, frames: Sequence[Frame]) -> Groups:
        """Frames of one value each, in the order of their first frames."""
        keys: list[Hashable] = []
        groups: Groups = []
        places: dict[Hashable, int] = {}
        for frame in frames:
            key = self.key(frame)
            at = places.get(key)
            if at is None and self.close is not None:
                at = next((index for index, other in enumerate(keys) if self.close(key, other)), None)
                if at is None and len(keys) >= _MANY:  # no series; whatever its last group holds is refused as mixed
                    at = _MANY - 1
            if at is None:
                at = len(groups)
                keys.append(key)
                groups.append([])
            places[key] = at
            groups[at].append(frame)
        return groups


@dataclass(frozen=True, eq=False)
class Pile:
    """Slices of one value, and where they lie along their normal.

    Attributes:
        frames: in their order.
        places: float64 (frames,), sorted, mm.
        thick: mm, as the headers say or estimated.
    """

    frames: list[Frame]
    places: npt.NDArray[np.float64]
    thick: float

    @staticmethod
    def of(frames: Sequence[Frame], normal: npt.NDArray[np.float64] | None = None) -> Pile:
        """Measure slices along a normal, else along that of the first."""
        if normal is None:
            normal = normal_of(frames[0])
        places = np.sort(np.array([frame.position for frame in frames]) @ normal)
        known = [frame.thickness_mm for frame in frames if frame.thickness_mm is not None]
        steps = np.diff(places)
        thick = float(np.median(known)) if known else float(np.median(steps)) if len(steps) else 0.0
        return Pile(list(frames), places, thick)


def normal_of(frame: Frame) -> npt.NDArray[np.float64]:
    """float64 (3,): the normal of a slice."""
    directions = np.array(frame.orientation)
    normal: npt.NDArray[np.float64] = np.cross(directions[:3], directions[3:])
    return normal


def apart(first: Pile, second: Pile) -> bool:
    """Whether two stacks lie side by side: one ends before the other begins."""
    return bool(first.places[-1] < second.places[0] - 0.01 or second.places[-1] < first.places[0] - 0.01)


def overlap(first: Pile, second: Pile) -> float:
    """Which part of the smaller stack lies within the other: slices of which more than half is shown by the other."""
    small, large = sorted((first, second), key=lambda pile: len(pile.places))
    at = np.clip(np.searchsorted(large.places, small.places), 1, max(len(large.places) - 1, 1))
    sides = np.abs(large.places[np.minimum(at, len(large.places) - 1)] - small.places)
    nearest = np.minimum(sides, np.abs(large.places[at - 1] - small.places))
    return float(np.mean(nearest < max(max(small.thick, large.thick) / 2, 0.01) + 1e-6))


def _smooth_side_by_side(first: Pile, second: Pile) -> bool:
    kinds = {is_bone_kernel(pile.frames[0].traits.kernel) for pile in (first, second)}
    return len(kinds) == 1 and apart(first, second)


def _of_one_sweep(first: Pile, second: Pile) -> bool:
    return apart(first, second) or overlap(first, second) <= OVERLAPPING_PART


def _image_kind(frame: Frame) -> Hashable:
    try:
        check_frame_kind(frame.traits.image_type)
        code = ""
    except ScanError as problem:
        code = problem.code
    return frame.traits.image_type[:2], code, frame.traits.multi_energy


def _image_name(frame: Frame, _: int) -> str:
    traits = frame.traits
    first = plain_text(" ".join(traits.image_type[:2]), 33).lower() or "of no image type"
    return f"{first} {traits.multi_energy}".strip()


def _same_spacing(one: Any, other: Any) -> bool:
    return bool(max(abs(a / b - 1.0) for a, b in zip(one, other, strict=True)) <= SAME_SPACING)


def _same_direction(one: Any, other: Any) -> bool:
    return bool(max(abs(a - b) for a, b in zip(one, other, strict=True)) <= SAME_DIRECTION)


AXES = (
    Axis("series", "SeriesDescription (0008,103E), ProtocolName (0018,1030) or SeriesTime (0008,0031)",
         lambda frame: frame.traits.series, lambda _, number: f"description {number}",
         _of_one_sweep, warning="header_differs"),
    Axis("sizes", "Rows (0028,0010) and Columns (0028,0011)",
         lambda frame: frame.traits.size, lambda frame, _: "{} x {} pixels".format(*frame.traits.size)),
    Axis("pixel spacings", "PixelSpacing (0028,0030)",
         lambda frame: frame.pixel_mm, lambda frame, _: f"pixels of {frame.pixel_mm[0]:.3g} mm", close=_same_spacing),
    Axis("orientations", "ImageOrientationPatient (0020,0037)",
         lambda frame: frame.orientation, lambda _, number: f"orientation {number}", close=_same_direction),
    Axis("frames of reference", "FrameOfReferenceUID (0020,0052)",
         lambda frame: frame.traits.frame_of_reference, lambda _, number: f"frame of reference {number}"),
    Axis("image types", "ImageType (0008,0008)", _image_kind, _image_name),
    Axis("units", "RescaleType (0028,1054)", lambda frame: frame.traits.unit in HOUNSFIELD_TYPES,
         lambda frame, _: "in HU" if frame.traits.unit in HOUNSFIELD_TYPES else "not in HU"),
    Axis("energies", "KVP (0018,0060)", lambda frame: frame.traits.energy,
         lambda frame, _: frame.traits.energy or "no energy stated", apart, warning="mixed_energies"),
    Axis("contrast states", "the Contrast/Bolus elements (0018,0010), (0018,0012) and (0018,9341)",
         lambda frame: frame.traits.contrast,
         lambda frame, _: "with contrast" if frame.traits.contrast else "without contrast"),
    Axis("kernels", "ConvolutionKernel (0018,1210)", lambda frame: frame.traits.kernel.upper(),
         lambda frame, _: f"kernel {plain_text(frame.traits.kernel, 16) or 'not stated'}",
         _smooth_side_by_side, warning="mixed_kernels"),
    Axis("points in time", "TemporalPositionIndex (0020,9128) or TemporalPositionIdentifier (0020,0100)",
         lambda frame: frame.traits.moment, lambda frame, _: f"time {frame.traits.moment}"),
    Axis("stacks", "StackID (0020,9056)", lambda frame: frame.traits.stack,
         lambda _, number: f"stack {number}", _of_one_sweep),
    Axis("acquisitions", "AcquisitionNumber (0020,0012)", lambda frame: frame.traits.acquisition,
         lambda frame, _: f"acquisition {frame.traits.acquisition}", _of_one_sweep),
)  # fmt: skip
"""In the order in which a series is split."""


def split_frames(frames: Sequence[Frame]) -> list[Part]:
    """Split the slices of one series of one patient into volumes.

    Args:
        frames: in a stable order.

    Returns:
        Parts that are one on every axis; a single one without a name when nothing differs.
    """
    parts = [Part(tuple(frames))]
    for axis in AXES:
        parts = [piece for part in parts for piece in _split(part, axis)]
    return parts


def _split(part: Part, axis: Axis) -> list[Part]:
    values = axis.groups(part.frames)
    if len(values) == 1:
        return [part]
    groups = values if axis.together is None else _put_together(values, axis)
    too_small = max(map(len, groups)) < MIN_SLICES <= len(part.frames)
    geometry = axis.close is not None or axis.what == "sizes"
    if too_small and not geometry:
        if axis.what in _COUNTED:
            return [part]
        text = f"{axis.element} has {len(values)} values in {len(part.frames)} slices, so it tells no volumes apart"
        return [_with(part, ScanWarning("header_differs", text))]
    whole = part
    if axis.warning and len(groups) < len(values):
        text = f"stacks side by side differ in {axis.element}; they are used as one volume"
        names = ", ".join(dict.fromkeys(axis.name(group[0], 0) for group in values[:4]))
        whole = _with(part, ScanWarning(axis.warning, f"{text} ({names})"))
    if len(groups) == 1:
        return [whole]
    pieces = []
    for number, group in enumerate(groups, start=1):
        name = axis.name(group[0], number)
        several = len(axis.groups(group)) > 1
        pieces.append(
            Part(
                tuple(group),
                (*part.names, f"{name} and others" if several else name),
                (*part.axes, axis),
                whole.warnings if several else part.warnings,
            )
        )
    return pieces


def _with(part: Part, warning: ScanWarning) -> Part:
    return Part(part.frames, part.names, part.axes, (*part.warnings, warning))


def _put_together(values: Groups, axis: Axis) -> Groups:
    """Join the groups that may be one volume, in the order of their values: each to the first that it fits."""
    together = axis.together
    assert together is not None
    normal = normal_of(values[0][0])
    piles = [Pile.of(group, normal) for group in values]
    order = sorted(piles, key=lambda pile: float(pile.places[0]))
    if all(apart(one, other) and together(one, other) for one, other in pairwise(order)):
        return [[frame for group in values for frame in group]]
    if len(piles) > _MANY:
        together = apart
    joined: list[list[Pile]] = []
    for pile in piles:
        for volume in joined:
            if all(together(pile, other) for other in volume):
                volume.append(pile)
                break
        else:
            joined.append([pile])
    return [[frame for pile in volume for frame in pile.frames] for volume in joined]
