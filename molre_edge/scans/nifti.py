"""From one NIfTI file to a volume in Hounsfield units, bounded before anything is allocated.

Source: the NIfTI-1 and NIfTI-2 headers (nifti1.h, nifti2.h); orientation as nibabel reads it, in RAS.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import numpy as np
import numpy.typing as npt

from molre_edge.errors import ScanError
from molre_edge.scans.limits import MAX_FILE_BYTES, check_size
from molre_edge.scans.quiet import quietly
from molre_edge.scans.rectify import plan_canvas
from molre_edge.scans.scan_records import HeadVolume, ScanWarning, SliceSource
from molre_edge.scans.stack import MIN_SLICES, check_steps, frame_axes
from molre_edge.specs import HU_MIN

__all__ = ["check_nifti", "is_nifti_name", "read_nifti"]

_MAX_EXTENSION_BYTES = 16 * 1024**2
_Header = Any
"""nibabel's Nifti1Header or Nifti2Header, which has no types."""
_ORDERS: tuple[Literal["little", "big"], ...] = ("little", "big")
_BROKEN = (OSError, EOFError, zlib.error)


def is_nifti_name(path: Path) -> bool:
    """Whether a file is called NIfTI (``.nii`` or ``.nii.gz``, in any case)."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def check_nifti(path: Path) -> None:
    """Refuse what the header alone tells to be no head CT volume.

    Raises:
        ScanError: ``empty_file``, ``corrupt_header``, ``not_3d``, ``colour``, ``orientation_unknown``, ``not_axial``,
            ``too_few_slices``, ``coverage_too_small``, ``not_hounsfield``, ``too_large`` or ``unreadable``.
    """
    with _open(path) as file:
        header = _read_header(file)
    _geometry(header)


def read_nifti(path: Path) -> HeadVolume:
    """Read a NIfTI file. The content is not judged here.

    Raises:
        ScanError: as :func:`check_nifti`, and ``corrupt_pixels``.
    """
    with _open(path) as file:
        header = _read_header(file)
        voxel_mm, axes, flips, offsets, tilt, steps = _geometry(header)
        values = _read_values(file, header)
    # (i, j, k) to (slices, rows, cols), as a view
    values = np.transpose(values, axes)[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
    slope, intercept = (float(value) if value is not None else None for value in _scaling(header))
    canvas = plan_canvas(offsets, voxel_mm[1:], *values.shape[1:])
    hu = np.empty((len(values), *canvas.shape), np.float32)
    for index, plane in enumerate(values):
        scaled = plane.astype(np.float64)
        if slope is not None and intercept is not None:
            scaled = scaled * slope + intercept
        if not np.isfinite(scaled).all():
            raise ScanError(
                "not_hounsfield", "some values are not numbers (NaN or infinite): fill them with air, -1024 HU"
            )
        hu[index] = canvas.place(index, np.maximum(scaled, HU_MIN).astype(np.float32))
    warnings: tuple[ScanWarning, ...] = ()
    return HeadVolume(
        hu=hu,
        positions_mm=steps,
        thickness_mm=np.full(len(hu), voxel_mm[0]),
        pixel_mm=voxel_mm[1:],
        warnings=warnings,
        sources=tuple(SliceSource(path, "", k + 1) for k in (range(len(hu))[::-1] if flips[0] else range(len(hu)))),
        facts={
            "kind": "nifti",
            "slices": len(hu),
            "rows": values.shape[1],
            "cols": values.shape[2],
            "pixel_mm": list(voxel_mm[1:]),
            "step_mm": [round(voxel_mm[0], 3)] * 2,
            "tilt_degrees": round(tilt, 2),
            "tilt_corrected": canvas.sheared,
            "stored_type": str(header.get_data_dtype()),
        },
    )


def _open(path: Path) -> BinaryIO:
    try:
        if path.stat().st_size == 0:
            raise ScanError("empty_file", "the file has no content: copy it again from its source")
        return cast(BinaryIO, gzip.open(path)) if path.name.lower().endswith(".gz") else path.open("rb")
    except OSError as error:
        raise ScanError("unreadable", f"the file can't be read: {error.strerror or 'input/output error'}") from error


def _read_header(file: BinaryIO) -> _Header:
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    try:
        start = file.read(540)
        size = {int.from_bytes(start[:4], order) for order in _ORDERS}
        with quietly():
            nifti1: Any = Nifti1Header
            nifti2: Any = Nifti2Header
            header = None
            if 348 in size and len(start) >= 348:
                header = nifti1(start[:348], check=False)
            elif 540 in size and len(start) == 540:
                header = nifti2(start, check=False)
            if header is None or not bytes(header["magic"].tobytes()).startswith((b"n+1", b"n+2")):
                raise ScanError("corrupt_header", "there is no NIfTI header of a single file: convert the series again")
            _check_header(header)
    except ScanError:
        raise
    except _BROKEN as error:
        raise ScanError("corrupt_header", "the file ends or breaks within its header: copy it again") from error
    except Exception as error:  # nibabel raises nearly anything on broken headers
        raise ScanError("corrupt_header", "the NIfTI header can't be read: convert the series again") from error
    return header


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
    if not 0 <= float(header["vox_offset"]) <= _MAX_EXTENSION_BYTES:
        raise ScanError("corrupt_header", "the NIfTI header says that the voxels start too far into the file")
    if int(header["xyzt_units"]) & 7 in (1, 3):
        raise ScanError("no_geometry", "the voxel size is not in millimetres: convert the series again")


def _geometry(header: _Header) -> tuple[Any, ...]:
    """Voxel (slice, row, col) in mm; axes; flips; in-plane offsets (slices, 2); tilt; positions (slices,)."""
    if int(header["sform_code"]) <= 0 and int(header["qform_code"]) <= 0:
        raise ScanError(
            "orientation_unknown",
            "neither sform nor qform is set, so left and right are unknown: convert the series again",
        )
    try:
        with quietly():
            affine = np.asarray(header.get_best_affine(), np.float64)
            other = np.asarray(header.get_qform(), np.float64) if int(header["qform_code"]) > 0 else affine
    except Exception as error:
        raise ScanError("no_geometry", "the NIfTI orientation can't be read: convert the series again") from error
    columns = affine[:3, :3] * np.array([[-1.0], [-1.0], [1.0]])  # RAS to LPS
    sizes = np.linalg.norm(columns, axis=0)
    if not np.isfinite(affine).all() or not ((sizes >= 0.05) & (sizes <= 20.0)).all():
        raise ScanError("no_geometry", "the voxel size is outside 0.05 to 20 mm: convert the series again")
    if abs(np.linalg.det(columns / sizes)) < 0.5:
        raise ScanError("no_geometry", "the NIfTI axes are not independent: convert the series again")
    unit = columns / sizes
    if np.sign(np.linalg.det(other[:3, :3])) != np.sign(np.linalg.det(affine[:3, :3])):
        raise ScanError(
            "orientation_unknown", "sform and qform disagree about left and right: convert the series again"
        )
    k = int(np.argmax(np.abs(unit[2])))
    i, j = (axis for axis in range(3) if axis != k)
    if abs(float(unit[:, i] @ unit[:, j])) > 0.01:
        raise ScanError("no_geometry", "the axes of the slices are not at right angles: convert the series again")
    transpose, flip, across, down = frame_axes(unit[:, i], unit[:, j])
    row_axis, col_axis = (i, j) if transpose else (j, i)
    normal = np.cross(across, down)
    shape = header.get_data_shape()[:3]
    if shape[k] < MIN_SLICES:
        raise ScanError("too_few_slices", f"a volume needs at least {MIN_SLICES} slices, this has {shape[k]}")
    step = columns[:, k] if columns[:, k] @ normal > 0 else -columns[:, k]
    index = np.arange(shape[k])
    along = index * float(step @ normal)
    offsets = np.stack([index * float(step @ down), index * float(step @ across)], axis=1)
    voxel = float(step @ normal), float(sizes[row_axis]), float(sizes[col_axis])
    check_steps(along, [voxel[0]] * len(along))
    flips = (bool(columns[:, k] @ normal < 0), *flip)
    tilt = float(np.degrees(np.arccos(min(1.0, normal[2]))))
    return voxel, (k, row_axis, col_axis), flips, offsets, tilt, along


def _scaling(header: _Header) -> tuple[float | None, float | None]:
    try:
        with quietly():
            slope, intercept = header.get_slope_inter()
    except Exception as error:
        raise ScanError(
            "not_hounsfield", "the scale factor is not a usable number: convert the series again"
        ) from error
    return slope, intercept


def _read_values(file: BinaryIO, header: _Header) -> npt.NDArray[np.generic]:
    """(i, j, k) as stored, after reading no more bytes than the checked header announces."""
    shape, dtype = header.get_data_shape()[:3], header.get_data_dtype()
    count = int(np.prod(shape, dtype=np.int64))
    size = count * dtype.itemsize
    if size > MAX_FILE_BYTES:
        raise ScanError("too_large", f"the voxels take {size} bytes; at most {MAX_FILE_BYTES} are read")
    try:
        file.seek(int(header["vox_offset"]))
        data = file.read(size)
        file.read(65536)  # the checksum of a gzip stream is verified at its end
    except _BROKEN as error:
        raise ScanError("corrupt_pixels", "the file ends or breaks within its voxels: copy it again") from error
    if len(data) < size:
        raise ScanError("corrupt_pixels", "the file ends within its voxels: copy it again from its source")
    values: npt.NDArray[np.generic] = np.frombuffer(data, dtype, count).reshape(shape, order="F")
    return values
