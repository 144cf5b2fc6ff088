"""From the files of one DICOM series to a volume in Hounsfield units."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from molre_edge.errors import ScanError
from molre_edge.scans.dicom_frames import Frame
from molre_edge.scans.dicom_header import DicomHeader
from molre_edge.scans.dicom_kind import check_frame_kind, may_be_lossy, syntax_name
from molre_edge.scans.dicom_pixels import MAX_NEAR_HU
from molre_edge.scans.dicom_slices import Slices, read_slices
from molre_edge.scans.hounsfield import Hounsfield
from molre_edge.scans.kernel import is_bone_kernel
from molre_edge.scans.limits import check_memory, check_size
from molre_edge.scans.rectify import Canvas, plan_canvas
from molre_edge.scans.scan_records import HeadVolume, ScanSource, ScanWarning, SliceSource
from molre_edge.scans.split import split_frames
from molre_edge.scans.stack import SAME_POSITION_MM, Stack, check_steps, stack_frames
from molre_edge.scans.statements import check_statements
from molre_edge.scans.text import plain_text
from molre_edge.scans.traits import HOUNSFIELD_TYPES

__all__ = ["check_volume", "read_dicom"]

_FINE_HU = 2.0
"""Steps of stored values that need no warning."""
_UNSPECIFIED = ("US",)
"""Says nothing: converters write US (unspecified) over true Hounsfield units, so the values decide."""


def check_volume(frames: Sequence[Frame]) -> tuple[Stack, tuple[ScanWarning, ...]]:
    """Check everything about the slices of one volume that their headers tell: kind, size, geometry, then unit.

    Args:
        frames: of the volume.

    Returns:
        The slices in order, and warnings.

    Raises:
        ScanError: the first reason against it.
    """
    for frame in frames:
        check_frame_kind(frame.traits.image_type)
    shapes = {frame.traits.size for frame in frames}
    if len(shapes) > 1:
        raise ScanError("mixed_pixel_spacing", "the slices of the series have different sizes: give one stack")
    rows, cols = shapes.pop()
    check_size(len(frames), rows, cols)
    stack = stack_frames(frames, rows, cols)
    plan_canvas(stack.offsets_mm, stack.pixel_mm, *_turned((rows, cols), stack))
    if other := sorted({frame.traits.unit for frame in frames} - set(HOUNSFIELD_TYPES)):
        raise ScanError(
            "not_hounsfield",
            f"RescaleType (0028,1054) is {plain_text(other[0], 16) or 'another unit'}: expected HU; give the original "
            f"CT series",
        )
    return stack, (*check_statements(stack.frames, stack.positions_mm), *_check_fineness(frames))


def _check_fineness(frames: Sequence[Frame]) -> tuple[ScanWarning, ...]:
    """Compare how finely values are stored with what compression may change."""
    step = max(abs(frame.slope) for frame in frames)
    if step > 2 * MAX_NEAR_HU:
        raise ScanError(
            "lossy",
            f"values are stored in steps of {step:g} HU (RescaleSlope), so they are off by up to {step / 2:g} HU; at "
            f"most {MAX_NEAR_HU:g} are accepted: give the original series",
        )
    if step > _FINE_HU:
        return (ScanWarning("coarse_values", f"values are stored in steps of {step:g} HU, so they are rounded"),)
    return ()


def read_dicom(source: ScanSource) -> HeadVolume:
    """Read, decode, order and rectify the slices of one volume. The content is not judged here.

    Args:
        source: files of one series in any order, with what was found in them where that was noted.

    Raises:
        ScanError: the first reason against it, ``changed`` when a header is not the one that was found.
    """
    slices = read_slices(source)
    headers = slices.headers
    frames = [frame for header in headers for frame in header.frames]
    if not source.found and len(parts := split_frames(frames)) > 1:
        axis = parts[0].axes[0] if parts[0].axes else parts[1].axes[0]
        raise ScanError("mixed_volumes", f"the files differ in {axis.element}: look for scans in their folder instead")
    stack, statements = check_volume(frames)
    errors = slices.check()
    stack, warnings = _one_image_a_position(stack, slices)
    thickness, step_warnings = check_steps(stack.positions_mm, [frame.thickness_mm for frame in stack.frames])
    first = _turn(slices.get(stack.frames[0]), stack)
    canvas = plan_canvas(stack.offsets_mm, stack.pixel_mm, *first.shape)
    check_size(len(stack.frames), *canvas.shape)
    return HeadVolume(
        hu=_put_in_order(slices, stack, canvas),
        positions_mm=stack.positions_mm,
        thickness_mm=thickness,
        pixel_mm=stack.pixel_mm,
        warnings=(*warnings, *step_warnings, *statements, *_header_warnings(headers, errors)),
        facts=_facts(headers, stack, canvas.sheared),
        sources=tuple(SliceSource(frame.path, frame.sop_uid, frame.index + 1) for frame in stack.frames),
    )


def _put_in_order(slices: Slices, stack: Stack, canvas: Canvas) -> Hounsfield:
    """The volume, from slices as they are stored; each is given up as soon as it is in its place."""
    count, slab = len(stack.frames), slices.slab
    if slab is not None and not canvas.sheared and slab.shape[1:] == canvas.shape:
        numbers = {header.path: number for number, header in enumerate(slices.headers)}
        _permute(slab, [numbers[frame.path] for frame in stack.frames])
        if stack.transpose or any(stack.flip):
            for index in range(count):
                slab[index] = _turn(slab[index], stack).copy()
        return slab[:count]
    shape = count, *canvas.shape
    whole = slices.whole and not canvas.sheared
    check_memory(math.prod(shape), whole)
    hu: Hounsfield = np.empty(shape, np.int16) if whole else np.empty(shape, np.float32)
    for index, frame in enumerate(stack.frames):
        hu[index] = canvas.place(index, _turn(slices.pop(frame), stack))
    return hu


def _permute(slab: npt.NDArray[np.int16], order: Sequence[int]) -> None:
    """Bring the slices of a stack into an order in place, with one slice of memory; those left out go anywhere."""
    whole = [*order, *sorted(set(range(len(slab))) - set(order))]
    done = [place == source for place, source in enumerate(whole)]
    for first in range(len(whole)):
        if done[first]:
            continue
        kept, place = slab[first].copy(), first
        while not done[place]:
            done[place] = True
            source = whole[place]
            slab[place] = kept if source == first else slab[source]
            place = source


def _one_image_a_position(stack: Stack, slices: Slices) -> tuple[Stack, tuple[ScanWarning, ...]]:
    """Keep one of several equal images at one position; refuse different ones."""
    keep = [0]
    for index in range(1, len(stack.frames)):
        if stack.positions_mm[index] - stack.positions_mm[keep[-1]] > SAME_POSITION_MM:
            keep.append(index)
            continue
        twin, first = stack.frames[index], stack.frames[keep[-1]]
        same_place = np.allclose(stack.offsets_mm[index], stack.offsets_mm[keep[-1]], atol=SAME_POSITION_MM)
        if not same_place or not np.array_equal(slices.pop(twin), slices.get(first)):
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


def _turn(hu: Hounsfield, stack: Stack) -> Hounsfield:
    turned = hu.T if stack.transpose else hu
    return turned[:: -1 if stack.flip[0] else 1, :: -1 if stack.flip[1] else 1]


def _header_warnings(headers: Sequence[DicomHeader], error_hu: float) -> Iterator[ScanWarning]:
    if error_hu:
        yield ScanWarning("near_lossless", f"near-lossless compression changed values by up to {error_hu:g} HU")
    if any(may_be_lossy(header.syntax) for header in headers):
        yield ScanWarning(
            "compression_unclear", "the transfer syntax allows loss; the header and the wavelet show none"
        )
    traits = [frame.traits for header in headers for frame in header.frames]
    if any(each.contrast for each in traits):
        yield ScanWarning("contrast", "a contrast agent is named in the header")
    if any(is_bone_kernel(each.kernel) for each in traits):
        yield ScanWarning("bone_kernel", "reconstructed with a sharp (bone) kernel: soft tissue is noisy")
    if any(each.derived for each in traits):
        yield ScanWarning("derived_series", "a derived series (reformatted or processed), not the original slices")
    if words := {each.multi_energy for each in traits} - {""}:
        yield ScanWarning(
            "multi_energy",
            f"a multi-energy image ({', '.join(sorted(words))}), not a standard CT: its HU differ from those of a "
            "scan at one tube voltage",
        )
    if any(each.unit in _UNSPECIFIED for each in traits):
        yield ScanWarning("unit_unspecified", "some slices name no unit (RescaleType US); the values look like HU")


def _facts(headers: Sequence[DicomHeader], stack: Stack, sheared: bool) -> dict[str, object]:
    steps = np.diff(stack.positions_mm)
    return {
        "kind": "dicom",
        "transfer_syntaxes": sorted({syntax_name(header.syntax) for header in headers}),
        "scanner": plain_text(headers[0].scanner),
        "slices": len(stack.frames),
        "rows": headers[0].rows,
        "cols": headers[0].cols,
        "pixel_mm": list(stack.pixel_mm),
        "step_mm": [round(float(value), 3) for value in (steps.min(), steps.max())],
        "tilt_degrees": round(stack.tilt_degrees, 2),
        "tilt_corrected": sheared,
        "kernel": plain_text(stack.frames[0].traits.kernel),
        "energy": stack.frames[0].traits.energy,
    }
