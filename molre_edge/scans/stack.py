"""Where the slices of a series lie: checks, order and steps, all from headers.

Everything is measured along the slices' common normal, never along z, so a tilted gantry changes nothing here.
Source: DICOM PS3.3 C.7.6.2.1.1 (position and orientation).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from molre_edge.errors import ScanError
from molre_edge.scans.dicom_frames import Frame
from molre_edge.scans.scan_records import ScanWarning

__all__ = ["MIN_COVERAGE_MM", "MIN_SLICES", "Stack", "check_steps", "frame_axes", "stack_frames"]

MIN_SLICES = 4
"""Fewer slices are no volume."""
MIN_COVERAGE_MM = 40.0
"""A shorter stack shows too little of a head."""
MAX_GAP_MM = 2.5
"""Tissue between two slices that neither shows: more could hide a finding."""
MAX_UNIFORM_GAP = 0.75
"""In a stack with a regular gap, the largest gap as a part of the slice thickness."""
SAME_POSITION_MM = 0.01
MIN_AXIAL_COSINE = 0.75
"""Of the angle between the slice normal and the body's long axis: 41 degrees, more than any gantry tilts."""
SAME_DIRECTION = 0.005
"""Largest difference of direction cosines within one series: 0.3 degrees."""


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices in order, and the axes that turn them into the volume's order.

    Attributes:
        frames: inferior to superior; frames at one position follow each other.
        positions_mm: float64 (frames,), along the normal.
        offsets_mm: float64 (frames, 2): where the first pixel lies in the plane, along (rows, cols) of the volume.
        transpose: whether rows and columns of the stored slices change places.
        flip: whether the (rows, cols) are reversed, after that.
        pixel_mm: (row, col) of the volume.
        tilt_degrees: angle between the normal and the body's long axis.
    """

    frames: tuple[Frame, ...]
    positions_mm: npt.NDArray[np.float64]
    offsets_mm: npt.NDArray[np.float64]
    transpose: bool
    flip: tuple[bool, bool]
    pixel_mm: tuple[float, float]
    tilt_degrees: float


def frame_axes(
    row_direction: npt.NDArray[np.float64], column_direction: npt.NDArray[np.float64]
) -> tuple[bool, tuple[bool, bool], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """How a slice must be turned so that its rows run to the back and its columns to the patient's left.

    Args:
        row_direction: (3,) unit vector in LPS, along which the column index rises.
        column_direction: (3,) unit vector in LPS, along which the row index rises.

    Returns:
        Transpose first; flip of (rows, cols) then; the new row direction and column direction.

    Raises:
        ScanError: ``not_axial``.
    """
    normal = np.cross(row_direction, column_direction)
    if abs(normal[2]) < MIN_AXIAL_COSINE:
        raise ScanError("not_axial", "the slices are not axial (coronal, sagittal or oblique): give the axial series")
    transpose = bool(abs(row_direction[0]) < abs(column_direction[0]))
    across, down = (column_direction, row_direction) if transpose else (row_direction, column_direction)
    flip = (bool(down[1] < 0), bool(across[0] < 0))
    return transpose, flip, -across if flip[1] else across, -down if flip[0] else down


def stack_frames(frames: Sequence[Frame], rows: int, cols: int) -> Stack:
    """Order the frames of a series and check that they form one stack of axial slices.

    Args:
        frames: all of the series.
        rows: of each stored slice.
        cols: of each stored slice.

    Raises:
        ScanError: ``no_geometry``, ``mixed_orientations``, ``mixed_pixel_spacing``, ``not_axial``,
            ``several_images_at_one_position``, ``too_few_slices``, ``coverage_too_small`` or ``slices_missing``.
    """
    directions = np.array([frame.orientation for frame in frames])
    pixels = np.array([frame.pixel_mm for frame in frames])
    if np.abs(directions - directions[0]).max() > SAME_DIRECTION:
        raise ScanError("mixed_orientations", "the slices of the series have two or more orientations: give one stack")
    if np.abs(pixels / pixels[0] - 1.0).max() > 0.001:
        raise ScanError("mixed_pixel_spacing", "the slices of the series have different pixel spacings: give one stack")
    across, down = directions[0, :3], directions[0, 3:]
    lengths = np.linalg.norm(across), np.linalg.norm(down)
    if max(abs(lengths[0] - 1.0), abs(lengths[1] - 1.0), abs(float(across @ down))) > 0.01:
        raise ScanError(
            "no_geometry", "the slices' directions are not perpendicular unit vectors: export the series again"
        )
    across, down = across / lengths[0], down / lengths[1]
    transpose, flip, right_to_left, front_to_back = frame_axes(across, down)
    normal = np.cross(right_to_left, front_to_back)
    origins = np.array([frame.position for frame in frames])
    if flip[0]:  # the first pixel of the volume is the last of the stored rows or columns
        origins = origins + (across * (cols - 1) * pixels[0, 1] if transpose else down * (rows - 1) * pixels[0, 0])
    if flip[1]:
        origins = origins + (down * (rows - 1) * pixels[0, 0] if transpose else across * (cols - 1) * pixels[0, 1])
    along = origins @ normal
    order = sorted(range(len(frames)), key=lambda i: (round(float(along[i]), 2), str(frames[i].path), frames[i].index))
    positions = along[order]
    _check_enough(positions, frames)
    stack = Stack(
        frames=tuple(frames[i] for i in order),
        positions_mm=positions,
        offsets_mm=np.stack([origins[order] @ front_to_back, origins[order] @ right_to_left], axis=1),
        transpose=transpose,
        flip=flip,
        pixel_mm=_pair(pixels[0, ::-1] if transpose else pixels[0]),
        tilt_degrees=float(np.degrees(np.arccos(min(1.0, normal[2])))),
    )
    distinct = np.concatenate([[True], np.diff(positions) > SAME_POSITION_MM])
    check_steps(positions[distinct], [f.thickness_mm for f, one in zip(stack.frames, distinct, strict=True) if one])
    return stack


def _pair(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    return float(values[0]), float(values[1])


def _check_enough(positions: npt.NDArray[np.float64], frames: Sequence[Frame]) -> None:
    distinct = 1 + int(np.count_nonzero(np.diff(positions) > SAME_POSITION_MM))
    if distinct >= MIN_SLICES:
        return
    if len(positions) > distinct:
        many = (
            f"ImagePositionPatient (0020,0032) puts {len(positions)} slices at {distinct} position{'s'[: distinct > 1]}"
        )
        locations = [value for frame in frames if (value := frame.traits.location_mm) is not None]
        if len({round(value, 2) for value in locations}) > max(distinct, MIN_SLICES - 1):
            raise ScanError(
                "no_geometry",
                f"{many}, but SliceLocation (0020,1041) runs from {min(locations):.1f} to {max(locations):.1f} mm: the "
                "positions were written wrongly; export the original series",
            )
        raise ScanError(
            "several_images_at_one_position",
            f"{many}, as in dynamic CT: give a series that covers the head once",
        )
    raise ScanError(
        "too_few_slices", f"a volume needs at least {MIN_SLICES} slices, this has {distinct}: give the whole series"
    )


def check_steps(
    positions: npt.NDArray[np.float64], thickness: Sequence[float | None]
) -> tuple[npt.NDArray[np.float64], tuple[ScanWarning, ...]]:
    """Check the steps between slices, and say how thick each slice is.

    Args:
        positions: float64 (slices,), increasing, one a slice.
        thickness: as the headers say, or None.

    Returns:
        float64 (slices,) thickness in mm, estimated where unknown; and warnings.

    Raises:
        ScanError: ``slices_missing`` or ``coverage_too_small``.
    """
    steps = np.diff(positions)
    known = all(value is not None for value in thickness)
    thick = np.array([value or 0.0 for value in thickness]) if known else _estimate_thickness(steps)
    gaps = steps - (thick[:-1] + thick[1:]) / 2  # tissue that neither slice shows; negative where slices overlap
    regular = steps.max() < 1.1 * steps.min()
    allowed = MAX_UNIFORM_GAP * float(np.median(thick)) if regular else 0.0
    worst = int(np.argmax(gaps))
    if gaps[worst] > max(MAX_GAP_MM, allowed):
        raise ScanError(
            "slices_missing",
            f"between slices {worst + 1} and {worst + 2} of {len(positions)} lie {steps[worst]:.1f} mm, but they are "
            f"{(thick[worst] + thick[worst + 1]) / 2:.1f} mm thick: a slice is missing; copy the series again",
        )
    coverage = float(positions[-1] - positions[0] + (thick[0] + thick[-1]) / 2)
    if coverage < MIN_COVERAGE_MM:
        raise ScanError(
            "coverage_too_small",
            f"the slices cover {coverage:.0f} mm; at least {MIN_COVERAGE_MM:.0f} mm are needed: give the whole series",
        )
    return thick, tuple(_step_warnings(steps, thick, gaps))


def _estimate_thickness(steps: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The smaller step beside each slice, but no more than the usual one for a step that stands alone."""
    usual = float(np.median(steps))
    sides = np.concatenate([steps[:1], steps]), np.concatenate([steps, steps[-1:]])
    thick: npt.NDArray[np.float64] = np.minimum(*sides)
    if steps[-1] > 1.5 * steps[-2]:
        thick[-1] = usual
    if steps[0] > 1.5 * steps[1]:
        thick[0] = usual
    return thick


def _step_warnings(
    steps: npt.NDArray[np.float64], thick: npt.NDArray[np.float64], gaps: npt.NDArray[np.float64]
) -> list[ScanWarning]:
    found = []
    regular = steps.max() < 1.1 * steps.min()
    if not regular:
        found.append(
            ScanWarning("mixed_spacing", f"steps between slices range from {steps.min():.2f} to {steps.max():.2f} mm")
        )
        if (gaps < -0.25 * thick[:-1]).any():
            found.append(
                ScanWarning("slices_overlap", "the series has two stacks that overlap; both are used by position")
            )
    if gaps.max() > max(0.5, 0.1 * float(np.median(thick))):
        found.append(
            ScanWarning("gaps_between_slices", f"up to {gaps.max():.1f} mm of tissue between slices is not shown")
        )
    return found
