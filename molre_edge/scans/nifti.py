"""From one NIfTI file to a volume in Hounsfield units, bounded before anything is allocated.

Source: the NIfTI-1 and NIfTI-2 headers (nifti1.h, nifti2.h); orientation as nibabel reads it, in RAS.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from molre_edge.errors import ScanError
from molre_edge.scans.content import Content, open_content
from molre_edge.scans.hounsfield import Hounsfield
from molre_edge.scans.limits import MAX_FILE_BYTES, MAX_VOLUME_BYTES, check_memory, check_size
from molre_edge.scans.nifti_affine import NiftiGeometry, read_geometry
from molre_edge.scans.quiet import quietly
from molre_edge.scans.rectify import Canvas, plan_canvas
from molre_edge.scans.regular_file import BROKEN
from molre_edge.scans.scan_records import HeadVolume, SliceSource
from molre_edge.specs import HU_MIN

__all__ = ["check_nifti", "is_nifti", "is_nifti_name", "read_nifti"]

_MAX_EXTENSION_BYTES = 16 * 1024**2
_AT_END_BYTES = 1 << 16
_SMALLEST_EXTENSION = 16
"""An extension's length is a multiple of 16."""
_Header = Any
"""nibabel's Nifti1Header or Nifti2Header, which has no types."""
_ORDERS: tuple[Literal["little", "big"], ...] = ("little", "big")


def is_nifti_name(path: Path) -> bool:
    """Whether a file is called NIfTI (``.nii`` or ``.nii.gz``, in any case); whether it is gzipped, its bytes tell."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def is_nifti(start: bytes) -> bool:
    """Whether a file's first 352 bytes are those of a single NIfTI-1 or NIfTI-2 file (nifti1.h, nifti2.h: `magic`)."""
    size = {int.from_bytes(start[:4], order) for order in _ORDERS}
    return (348 in size and start[344:348] == b"n+1\0") or (540 in size and start[4:8] == b"n+2\0")


def check_nifti(path: Path) -> None:
    """Refuse what the header alone tells to be no head CT volume.

    Raises:
        ScanError: ``empty_file``, ``corrupt_header``, ``not_3d``, ``colour``, ``orientation_unknown``, ``not_axial``,
            ``too_few_slices``, ``coverage_too_small``, ``not_hounsfield``, ``no_geometry``, ``too_large`` or
            ``unreadable``.
    """
    with open_content(path) as file:
        header, _ = _read_header(file)
    read_geometry(header)


def read_nifti(path: Path) -> HeadVolume:
    """Read a NIfTI file. The content is not judged here.

    Takes two bytes a voxel where the stored type makes all values whole, else four; four more where a sheared affine is
    set upright; and one plane of the file as it is stored.

    Raises:
        ScanError: as :func:`check_nifti`, and ``corrupt_pixels``.
    """
    with open_content(path) as file:
        header, start = _read_header(file)
        geometry = read_geometry(header)
        shape = tuple(int(side) for side in np.array(header.get_data_shape()[:3])[list(geometry.axes)])
        canvas = plan_canvas(geometry.offsets_mm, geometry.voxel_mm[1:], *shape[1:])
        hu = _read_values(file, header, start, geometry)
    return HeadVolume(
        hu=_place(hu, canvas),
        positions_mm=geometry.positions_mm,
        thickness_mm=np.full(len(hu), geometry.voxel_mm[0]),
        pixel_mm=geometry.voxel_mm[1:],
        warnings=(),
        sources=tuple(SliceSource(path, "", index + 1) for index in _file_order(len(hu), geometry.flips[0])),
        facts={
            "kind": "nifti",
            "slices": shape[0],
            "rows": shape[1],
            "cols": shape[2],
            "pixel_mm": list(geometry.voxel_mm[1:]),
            "step_mm": [round(geometry.voxel_mm[0], 3)] * 2,
            "tilt_degrees": round(geometry.tilt_degrees, 2),
            "tilt_corrected": canvas.sheared,
            "stored_type": str(header.get_data_dtype()),
        },
    )


def _place(hu: Hounsfield, canvas: Canvas) -> Hounsfield:
    if not canvas.sheared:
        return hu
    check_size(len(hu), *canvas.shape)
    check_memory(len(hu) * math.prod(canvas.shape), False)
    placed = np.empty((len(hu), *canvas.shape), np.float32)
    for index, plane in enumerate(hu):
        placed[index] = canvas.place(index, plane)
    return placed


def _read_header(file: Content) -> tuple[_Header, int]:
    """The header, and where the voxels start."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    try:
        start = file.read(352)  # no further: a gzipped file can't be read back to its first voxel
        size = {int.from_bytes(start[:4], order) for order in _ORDERS}
        with quietly():
            nifti1: Any = Nifti1Header
            nifti2: Any = Nifti2Header
            header = None
            if 348 in size and len(start) >= 352:
                header = nifti1(start[:348], check=False)
            elif 540 in size and len(start) == 352:
                start += file.read(192)
                header = nifti2(start[:540], check=False)
            if header is None or not bytes(header["magic"].tobytes()).startswith((b"n+1", b"n+2")):
                raise ScanError("corrupt_header", "there is no NIfTI header of a single file: convert the series again")
            _check_header(header)
            length = int(header["sizeof_hdr"])
            extended = start[length] != 0
            first = _voxel_start(header, length + 4, extended=extended)
            if extended:
                _check_extensions(file, length + 4, first, "<" if header.endianness == "<" else ">")
            return header, first
    except ScanError:
        raise
    except BROKEN as error:
        raise ScanError("corrupt_header", "the file ends or breaks within its header: copy it again") from error
    except Exception as error:  # nibabel raises nearly anything on broken headers
        raise ScanError("corrupt_header", "the NIfTI header can't be read: convert the series again") from error


def _voxel_start(header: _Header, after_header: int, *, extended: bool) -> int:
    """Where the voxels start: `vox_offset`, of which less than the header's length means just behind it (nifti1.h)."""
    offset = float(header["vox_offset"])
    if not 0 <= offset <= _MAX_EXTENSION_BYTES or offset != int(offset):
        raise ScanError(
            "corrupt_header",
            f"the NIfTI header says that the voxels start at byte {offset:g}: expected a whole number up to "
            f"{_MAX_EXTENSION_BYTES}; convert the series again",
        )
    if offset >= after_header:
        return int(offset)
    if extended:
        raise ScanError(
            "corrupt_header",
            f"the NIfTI header says that the voxels start at byte {offset:g}, and that an extension starts at byte "
            f"{after_header}, so where they start is unknown: convert the series again",
        )
    return after_header


def _check_extensions(file: Content, at: int, voxels: int, order: str) -> None:
    """Refuse voxels that start within an extension; each begins with its own length."""
    if voxels - at < _SMALLEST_EXTENSION:
        raise ScanError(
            "corrupt_header",
            f"the NIfTI header says that the voxels start at byte {voxels}, and that an extension starts at byte {at}: "
            "convert the series again",
        )
    data = file.read(voxels - at)
    position = 0
    while position + 8 <= len(data):
        (length,) = struct.unpack_from(f"{order}i", data, position)
        if length < 8:  # padding behind the last one
            return
        position += length
        if at + position > voxels:
            raise ScanError(
                "corrupt_header",
                f"the NIfTI header says that the voxels start at byte {voxels}, but an extension reaches to byte "
                f"{at + position}: convert the series again",
            )


def _check_header(header: _Header) -> None:
    count = int(header["dim"][0])
    if not 1 <= count <= 7:
        raise ScanError("corrupt_header", "the NIfTI header has no valid number of axes: convert the series again")
    shape = [int(side) for side in header["dim"][1 : count + 1]]
    if min(shape) < 1:
        raise ScanError("corrupt_header", "the NIfTI header has an axis without voxels: convert the series again")
    if len(shape) < 3 or any(side != 1 for side in shape[3:]):
        raise ScanError(
            "not_3d", f"the image has {len(shape)} axes: expected one volume of three (split a time series)"
        )
    dtype = header.get_data_dtype()
    if dtype.names or dtype.kind not in "iuf":
        raise ScanError("colour", "the voxels are colours or complex numbers: expected one HU value each")
    check_size(shape[2], shape[0], shape[1])
    if 4 * math.prod(shape) > MAX_VOLUME_BYTES:
        check_memory(math.prod(shape), _is_whole(dtype, _scaling(header)))
    if int(header["xyzt_units"]) & 7 in (1, 3):
        raise ScanError("no_geometry", "the voxel size is not in millimetres: convert the series again")


def _scaling(header: _Header) -> tuple[float, float] | None:
    try:
        with quietly():
            slope, intercept = header.get_slope_inter()
    except Exception as error:
        raise ScanError(
            "not_hounsfield", "the scale factor is not a usable number: convert the series again"
        ) from error
    return None if slope is None or intercept is None else (float(slope), float(intercept))


def _is_whole(dtype: np.dtype[Any], scaling: tuple[float, float] | None) -> bool:
    """Whether all values that a type can hold are whole HU that fit into int16, or lie below air."""
    slope, intercept = scaling or (1.0, 0.0)
    if dtype.kind not in "iu" or dtype.itemsize > 2 or not (slope.is_integer() and intercept.is_integer()):
        return False
    ends = [int(end) * slope + intercept for end in (np.iinfo(dtype).min, np.iinfo(dtype).max)]
    return max(ends) <= np.iinfo(np.int16).max and abs(slope) <= 2**14 and abs(intercept) <= 2**29  # within int32


def _read_values(file: Content, header: _Header, start: int, geometry: NiftiGeometry) -> Hounsfield:
    """HU (slices, rows, cols), int16 where the stored type makes all whole, else float32.

    They are read plane by plane of the file, and no further than the header announces.
    """
    sides, dtype = [int(side) for side in header.get_data_shape()[:3]], header.get_data_dtype()
    count = sides[0] * sides[1]
    size = count * sides[2] * dtype.itemsize
    if size > MAX_FILE_BYTES:
        raise ScanError("too_large", f"the voxels take {size} bytes; at most {MAX_FILE_BYTES} are read")
    if not file.packed and file.size is not None and start + size > file.size:
        raise ScanError("corrupt_pixels", "the file ends within its voxels: copy it again from its source")
    scaling = _scaling(header)
    shape = tuple(sides[axis] for axis in geometry.axes)
    whole = _is_whole(dtype, scaling)
    hu: Hounsfield = np.empty(shape, np.int16) if whole else np.empty(shape, np.float32)
    # the same memory, seen as the file's (i, j, k)
    flipped = hu[tuple(slice(None, None, -1 if flip else 1) for flip in geometry.flips)]
    stored = flipped.transpose(tuple(int(axis) for axis in np.argsort(geometry.axes)))
    try:
        file.skip_to(start)
        for index in range(sides[2]):
            data = _read_plane(file, count * dtype.itemsize)
            plane = np.frombuffer(data, dtype, count).reshape(sides[:2], order="F")
            plane = plane.astype(np.int32 if whole else np.float64)
            if scaling:
                plane = plane * plane.dtype.type(scaling[0]) + plane.dtype.type(scaling[1])
            if not whole and not np.isfinite(plane).all():
                raise ScanError(
                    "not_hounsfield", "some values are not numbers (NaN or infinite): fill them with air, -1024 HU"
                )
            stored[:, :, index] = np.maximum(plane, plane.dtype.type(HU_MIN))
        # the checksum of a gzip stream is verified at its end
        if len(file.read(max(count * dtype.itemsize, _AT_END_BYTES))) >= count * dtype.itemsize:
            raise ScanError(
                "corrupt_header",
                f"the file holds more voxels than the {_sides(sides)} of {dtype.itemsize} bytes that its header says: "
                "convert the series again",
            )
    except BROKEN as error:
        raise ScanError("corrupt_pixels", "the file ends or breaks within its voxels: copy it again") from error
    return hu


def _sides(sides: Sequence[int]) -> str:
    return " x ".join(map(str, sides))


def _read_plane(file: Content, size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise ScanError("corrupt_pixels", "the file ends within its voxels: copy it again from its source")
    return data


def _file_order(slices: int, flipped: bool) -> range:
    """The file's own number of each slice of the volume, from 0."""
    return range(slices)[::-1] if flipped else range(slices)
