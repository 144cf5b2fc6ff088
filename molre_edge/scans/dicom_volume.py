"""From the files of one DICOM series to a volume in Hounsfield units."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from molre_edge.errors import ScanError
from molre_edge.scans.dicom_frames import Frame
from molre_edge.scans.dicom_header import DicomHeader, read_image_header
from molre_edge.scans.dicom_kind import check_kind, check_storage, may_be_lossy, syntax_name
from molre_edge.scans.dicom_open import open_dicom
from molre_edge.scans.dicom_pixels import MAX_NEAR_HU, decode_frames, to_hounsfield
from molre_edge.scans.kernel import is_bone_kernel
from molre_edge.scans.limits import check_size
from molre_edge.scans.rectify import plan_canvas
from molre_edge.scans.scan_records import HeadVolume, ScanWarning
from molre_edge.scans.stack import SAME_POSITION_MM, Stack, check_steps, stack_frames

__all__ = ["check_series", "read_dicom"]

_UNSPECIFIED = ("US",)
"""Says nothing: converters write US (unspecified) over true Hounsfield units, so the values decide."""


def check_series(headers: Sequence[DicomHeader]) -> Stack:
    """Check everything about a series that its headers tell: kind, storage, size, then geometry.

    Args:
        headers: with frames, one a file.

    Raises:
        ScanError: the first reason against it.
    """
    for header in headers:
        check_kind(header)
    for header in headers:
        check_storage(header)
    shapes = {(header.rows, header.cols) for header in headers}
    if len(shapes) > 1:
        raise ScanError("mixed_pixel_spacing", "the slices of the series have different sizes: give one stack")
    rows, cols = shapes.pop()
    frames = [frame for header in headers for frame in header.frames]
    check_size(len(frames), rows, cols)
    stack = stack_frames(frames, rows, cols)
    plan_canvas(stack.offsets_mm, stack.pixel_mm, *_turned((rows, cols), stack))
    if {frame.rescale_type for frame in frames} - {"", "HU", *_UNSPECIFIED}:
        raise ScanError(
            "not_hounsfield", "the header says that the values are not in Hounsfield units: give the original CT"
        )
    return stack


def read_dicom(files: Sequence[Path]) -> HeadVolume:
    """Read, decode, order and rectify the slices of one series. The content is not judged here.

    Args:
        files: of one series, in any order.

    Raises:
        ScanError: the first reason against it.
    """
    headers = [read_image_header(file) for file in files]
    stack = check_series(headers)
    slices, errors = _decode(headers)
    stack, warnings = _one_image_a_position(stack, slices)
    thickness, step_warnings = check_steps(stack.positions_mm, [frame.thickness_mm for frame in stack.frames])
    first = _turn(slices[_key(stack.frames[0])], stack)
    canvas = plan_canvas(stack.offsets_mm, stack.pixel_mm, *first.shape)
    check_size(len(stack.frames), *canvas.shape)
    hu = np.empty((len(stack.frames), *canvas.shape), np.float32)
    for index, frame in enumerate(stack.frames):
        hu[index] = canvas.place(index, _turn(slices.pop(_key(frame)), stack))
    return HeadVolume(
        hu=hu,
        positions_mm=stack.positions_mm,
        thickness_mm=thickness,
        pixel_mm=stack.pixel_mm,
        warnings=(*warnings, *step_warnings, *_header_warnings(headers, errors)),
        facts=_facts(headers, stack, canvas.sheared),
    )


def _key(frame: Frame) -> tuple[Path, int]:
    return frame.path, frame.index


def _decode(headers: Sequence[DicomHeader]) -> tuple[dict[tuple[Path, int], npt.NDArray[np.float32]], float]:
    """All slices as stored, float32 (rows, cols) HU, and the largest error in HU that their compression made."""
    slices: dict[tuple[Path, int], npt.NDArray[np.float32]] = {}
    worst = 0.0
    for header in headers:
        dataset = open_dicom(header.path, pixels=True)
        for frame, (stored, error) in zip(header.frames, decode_frames(dataset, header), strict=True):
            slices[_key(frame)] = to_hounsfield(stored, frame, header.padding)
            worst = max(worst, error * abs(frame.slope))
    if worst > MAX_NEAR_HU:
        raise ScanError(
            "lossy",
            f"compression changed values by up to {worst:g} HU; at most {MAX_NEAR_HU:g} are accepted: give originals",
        )
    return slices, worst


def _one_image_a_position(
    stack: Stack, slices: dict[tuple[Path, int], npt.NDArray[np.float32]]
) -> tuple[Stack, tuple[ScanWarning, ...]]:
    """Keep one of several equal images at one position; refuse different ones."""
    keep = [0]
    for index in range(1, len(stack.frames)):
        if stack.positions_mm[index] - stack.positions_mm[keep[-1]] > SAME_POSITION_MM:
            keep.append(index)
            continue
        twin = _key(stack.frames[index])
        same_place = np.allclose(stack.offsets_mm[index], stack.offsets_mm[keep[-1]], atol=SAME_POSITION_MM)
        if not same_place or not np.array_equal(slices.pop(twin), slices[_key(stack.frames[keep[-1]])]):
            raise ScanError(
                "several_images_at_one_position",
                "different images lie at one position, as in dynamic CT: give a series that covers the head once",
            )
    dropped = len(stack.frames) - len(keep)
    if not dropped:
        return stack, ()
    thinned = replace(
        stack,
        frames=tuple(stack.frames[index] for index in keep),
        positions_mm=stack.positions_mm[keep],
        offsets_mm=stack.offsets_mm[keep],
    )
    return thinned, (ScanWarning("duplicate_slices", f"{dropped} slices were there twice; one of each is used"),)


def _turned(shape: tuple[int, int], stack: Stack) -> tuple[int, int]:
    return (shape[1], shape[0]) if stack.transpose else shape


def _turn(hu: npt.NDArray[np.float32], stack: Stack) -> npt.NDArray[np.float32]:
    turned = hu.T if stack.transpose else hu
    return turned[:: -1 if stack.flip[0] else 1, :: -1 if stack.flip[1] else 1]


def _header_warnings(headers: Sequence[DicomHeader], error_hu: float) -> Iterator[ScanWarning]:
    if error_hu:
        yield ScanWarning("near_lossless", f"near-lossless compression changed values by up to {error_hu:g} HU")
    if any(may_be_lossy(header.syntax) for header in headers):
        yield ScanWarning(
            "compression_unclear", "the transfer syntax allows loss; the header and the wavelet show none"
        )
    if any(header.contrast for header in headers):
        yield ScanWarning("contrast", "a contrast agent is named in the header")
    if any(is_bone_kernel(header.kernel) for header in headers):
        yield ScanWarning("bone_kernel", "reconstructed with a sharp (bone) kernel: soft tissue is noisy")
    if any(header.image_type[:1] == ("DERIVED",) for header in headers):
        yield ScanWarning("derived_series", "a derived series (reformatted or processed), not the original slices")
    if any(frame.rescale_type in _UNSPECIFIED for header in headers for frame in header.frames):
        yield ScanWarning("unit_unspecified", "some slices name no unit (RescaleType US); the values look like HU")


def _facts(headers: Sequence[DicomHeader], stack: Stack, sheared: bool) -> dict[str, object]:
    steps = np.diff(stack.positions_mm)
    return {
        "kind": "dicom",
        "transfer_syntaxes": sorted({syntax_name(header.syntax) for header in headers}),
        "scanner": _plain(headers[0].scanner),
        "slices": len(stack.frames),
        "rows": headers[0].rows,
        "cols": headers[0].cols,
        "pixel_mm": list(stack.pixel_mm),
        "step_mm": [round(float(value), 3) for value in (steps.min(), steps.max())],
        "tilt_degrees": round(stack.tilt_degrees, 2),
        "tilt_corrected": sheared,
        "kernel": _plain(headers[0].kernel),
    }


def _plain(text: str) -> str:
    """A header's word as a report may show it: short, and without anything but letters, digits and a few signs."""
    return re.sub(r"[^A-Za-z0-9 .,+/_()-]", "", text)[:64]
