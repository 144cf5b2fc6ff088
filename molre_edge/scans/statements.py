"""Compares what a DICOM header says twice about where slices lie.

Image Position (Patient) is the position that the standard requires; Slice Location and Spacing Between Slices are
optional and say it again. When they contradict it, one of them is wrong, and the height of the head with it.
Patient Orientation says in letters what Image Orientation (Patient) says in numbers: left and right among it.
Sources: DICOM PS3.3 C.7.6.2.1.1 (Image Position), C.7.6.2.1.2 (Slice Location), C.7.6.2 and C.7.6.16.2.1 (spacing),
C.7.6.1.1.1 (Patient Orientation).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from molre_edge.errors import ScanError
from molre_edge.scans.dicom_frames import Frame
from molre_edge.scans.scan_records import ScanWarning

__all__ = ["check_statements"]

_LOCATION = "SliceLocation (0020,1041)"
_SPACING = "SpacingBetweenSlices (0018,0088)"
_TOLERANCE = 0.05
"""Of a spacing, as a part of it: rounding in headers and a tilt that was not taken into account stay below."""
_RANGE_TOLERANCE = 0.03
_SIDES = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "H": (2, 1), "F": (2, -1)}
"""A letter -> its axis in LPS, and to which end of it."""
_ALONG = 0.5
"""The least direction cosine at which a letter must be right."""
_NO_STATEMENT_MM = 1.0
"""A Slice Location that varies less is a constant and states nothing."""


def check_statements(frames: Sequence[Frame], positions: npt.NDArray[np.float64]) -> tuple[ScanWarning, ...]:
    """Compare positions with Slice Location and Spacing Between Slices.

    Two statements that agree outvote the third, with a warning; one against one is refused.

    Args:
        frames: in order.
        positions: float64 (frames,), along the normal, in mm, increasing.

    Raises:
        ScanError: ``no_geometry`` or ``orientation_unknown``, with both values.
    """
    for sides, orientation in {(frame.traits.sides, frame.orientation) for frame in frames}:
        _compare_sides(sides, orientation)
    steps = np.diff(positions)
    steps = steps[steps > 0.01]
    heights = positions, np.array([frame.position[2] for frame in frames])
    location, location_text = _compare_location(frames, heights, float(np.median(steps)))
    spacing, spacing_text = _compare_spacing(frames, steps, heights)
    if location is not False and spacing is not False:
        return ()
    text = " and ".join(filter(None, (location_text, spacing_text)))
    if location or spacing:
        return (ScanWarning("positions_disagree", f"{text}; the positions are used, which agree with the other"),)
    raise ScanError(
        "no_geometry",
        f"{text}: one of them is wrong, and the size of the head with it; export the original series again",
    )


def _compare_sides(sides: Sequence[str], orientation: Sequence[float]) -> None:
    """Refuse opposite ends of one axis; a letter of another axis was left over when the image was reformatted."""
    for what, side, direction in zip(("rows", "columns"), sides, (orientation[:3], orientation[3:]), strict=False):
        if side[:1] not in _SIDES:
            continue
        axis, end = _SIDES[side[:1]]
        if direction[axis] * end < -_ALONG:
            other = next(letter for letter, at in _SIDES.items() if at == (axis, -end))
            raise ScanError(
                "orientation_unknown",
                f"PatientOrientation (0020,0020) says that {what} run to {side[:1]}, ImageOrientationPatient "
                f"(0020,0037) says to {other}: one of them is wrong; export the original series again",
            )


def _compare_location(
    frames: Sequence[Frame], heights: Sequence[npt.NDArray[np.float64]], step: float
) -> tuple[bool | None, str]:
    """Whether Slice Location agrees, None when it states nothing; and both values in words when it does not."""
    values = [frame.traits.location_mm for frame in frames]
    known = np.array([value for value in values if value is not None])
    if len(known) < len(frames) or np.ptp(known) < _NO_STATEMENT_MM or _is_counter(frames, known):
        return None, ""
    span = float(np.ptp(heights[0]))
    tolerance = max(step, _RANGE_TOLERANCE * span)
    for height in heights:  # scanners state it along the normal or along the table
        for sign in (1.0, -1.0):
            apart = sign * known - height
            if np.abs(apart - np.median(apart)).max() <= tolerance:
                return True, ""
    return False, (
        f"the positions span {span:.1f} mm in steps of {step:.2f} mm, but {_LOCATION} spans {np.ptp(known):.1f} mm in "
        f"steps of {np.median(np.abs(np.diff(known))):.2f} mm"
    )


def _is_counter(frames: Sequence[Frame], known: npt.NDArray[np.float64]) -> bool:
    """Whether it only repeats the number of the slice."""
    numbers = [frame.traits.instance for frame in frames]
    if any(number is None for number in numbers):
        return False
    return bool(np.ptp(known - np.array(numbers, np.float64)) < 1e-3)


def _compare_spacing(
    frames: Sequence[Frame], steps: npt.NDArray[np.float64], heights: Sequence[npt.NDArray[np.float64]]
) -> tuple[bool | None, str]:
    """Whether Spacing Between Slices agrees, None when it states nothing; and both values in words when it does not.

    Some writers put the gap between slices there. Of uneven steps it can't state one, and is not compared.
    """
    stated = {round(abs(value), 3) for frame in frames if (value := frame.traits.spacing_mm)}
    if len(stated) != 1 or steps.max() > 1.1 * steps.min():
        return None, ""
    value = stated.pop()
    step = float(np.median(steps))
    along_table = float(np.median(np.abs(np.diff(heights[1]))))
    thickness = frames[0].thickness_mm
    readings = [step, along_table, *([step - thickness] if thickness is not None else [])]
    if any(abs(value - reading) <= max(_TOLERANCE * abs(reading), 0.05) for reading in readings):
        return True, ""
    return False, f"the positions have steps of {step:.2f} mm, but {_SPACING} says {value:.2f} mm"
