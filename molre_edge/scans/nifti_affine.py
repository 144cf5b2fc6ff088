"""Where the voxels of a NIfTI file lie, by its sform, its qform and its voxel sizes, which must agree.

A file may state its geometry three times. Where two statements differ by more than rounding, one is wrong, and nothing
in the file says which: it is refused, and both are quoted. Source: nifti1.h, "3D image (volume) orientation and
location in space" (methods 1 to 3, and `pixdim[0]`, of which 0 means 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.errors import ScanError
from molre_edge.scans.quiet import quietly
from molre_edge.scans.stack import MIN_SLICES, check_steps, frame_axes

__all__ = ["NiftiGeometry", "read_geometry"]

_SAME_SIZE = 0.005
"""Voxel sizes that differ by less are rounding: half a millimetre over a head."""
_SAME_DEGREES = 1.0
"""Axes that differ by less are rounding of the quaternion, which holds 0.05 degrees in half turns."""
_Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class NiftiGeometry:
    """Where the voxels lie.

    Attributes:
        voxel_mm: (slice, row, col).
        axes: which of the file's (i, j, k) the volume's (slices, rows, cols) are.
        flips: which of the volume's axes run the other way in the file.
        offsets_mm: float64 (slices, 2): where each slice's first pixel lies in the plane, along (rows, cols).
        tilt_degrees: angle between the slices' normal and the body's long axis.
        positions_mm: float64 (slices,), along the normal.
    """

    voxel_mm: tuple[float, float, float]
    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    offsets_mm: _Matrix
    tilt_degrees: float
    positions_mm: _Matrix


def read_geometry(header: Any) -> NiftiGeometry:
    """Read where the voxels lie.

    Args:
        header: nibabel's Nifti1Header or Nifti2Header.

    Raises:
        ScanError: ``orientation_unknown``, ``no_geometry``, ``not_axial``, ``too_few_slices`` or
            ``coverage_too_small``.
    """
    affine = _affine(header)
    columns = affine[:3, :3] * np.array([[-1.0], [-1.0], [1.0]])  # RAS to LPS
    sizes = np.linalg.norm(columns, axis=0)
    unit = columns / sizes
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
    voxel = float(step @ normal), float(sizes[row_axis]), float(sizes[col_axis])
    check_steps(along, [voxel[0]] * len(along))
    return NiftiGeometry(
        voxel_mm=voxel,
        axes=(k, row_axis, col_axis),
        flips=(bool(columns[:, k] @ normal < 0), *flip),
        offsets_mm=np.stack([index * float(step @ down), index * float(step @ across)], axis=1),
        tilt_degrees=float(np.degrees(np.arccos(min(1.0, normal[2])))),
        positions_mm=along,
    )


def _affine(header: Any) -> _Matrix:
    """The file's affine to RAS, which all of its statements agree on."""
    sform, qform = int(header["sform_code"]) > 0, int(header["qform_code"]) > 0
    if not sform and not qform:
        raise ScanError(
            "orientation_unknown",
            "neither sform nor qform is set, so left and right are unknown: convert the series again",
        )
    turned = _qform(header) if qform else None
    affine = np.asarray(header.get_sform(), np.float64) if sform else turned
    assert affine is not None
    columns = affine[:3, :3]
    sizes = np.linalg.norm(columns, axis=0)
    if not np.isfinite(affine).all() or not ((sizes >= 0.05) & (sizes <= 20.0)).all():
        raise ScanError("no_geometry", "the voxel size is outside 0.05 to 20 mm: convert the series again")
    if abs(np.linalg.det(columns / sizes)) < 0.5:
        raise ScanError("no_geometry", "the NIfTI axes are not independent: convert the series again")
    if sform:
        _check_sizes(sizes, np.abs(np.asarray(header["pixdim"][1:4], np.float64)))
    if sform and turned is not None:
        _check_turn(columns / sizes, turned[:3, :3])
    return affine


def _qform(header: Any) -> _Matrix:
    factor = float(header["pixdim"][0])
    if factor not in (-1.0, 0.0, 1.0):
        raise ScanError(
            "orientation_unknown",
            f"pixdim[0] is {factor:g}: expected 1 or -1 (0 means 1), which tells left from right; convert again",
        )
    header = header.copy()
    header["pixdim"][0] = factor or 1.0
    try:
        with quietly():
            affine: _Matrix = np.asarray(header.get_qform(), np.float64)
    except Exception as error:  # nibabel raises several kinds
        raise ScanError("no_geometry", "the NIfTI orientation can't be read: convert the series again") from error
    return affine


def _check_sizes(sizes: _Matrix, stated: _Matrix) -> None:
    """Compare the sform's voxel sizes with those of pixdim; sizes of 0 state nothing."""
    if not np.isfinite(stated).all() or (np.abs(stated - sizes) > _SAME_SIZE * sizes)[stated > 0].any():
        raise ScanError(
            "no_geometry",
            f"the sform says voxels of {_triple(sizes)} mm, pixdim says {_triple(stated)} mm: one of them is wrong; "
            "convert the series again",
        )


def _check_turn(sform: _Matrix, qform: _Matrix) -> None:
    """Compare the directions of sform and qform. A qform can't hold a shear, so only the sform's rotation counts."""
    rotation = qform / np.linalg.norm(qform, axis=0)
    if np.sign(np.linalg.det(sform)) != np.sign(np.linalg.det(rotation)):
        raise ScanError(
            "orientation_unknown", "sform and qform disagree about left and right: convert the series again"
        )
    left, _, right = np.linalg.svd(sform)  # the nearest rotation, as nifti_mat44_to_quatern finds it
    cosine = (np.trace((left @ right).T @ rotation) - 1.0) / 2.0
    angle = float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))
    if not angle <= _SAME_DEGREES:
        raise ScanError(
            "orientation_unknown",
            f"the sform says axes of {_axes(sform)}, the qform says {_axes(rotation)} ({angle:.0f} degrees apart): one "
            "of them is wrong; convert the series again",
        )


def _triple(values: _Matrix) -> str:
    return " x ".join(f"{value:.4g}" for value in values)


def _axes(unit: _Matrix) -> str:
    """The anatomical directions of three axes (``L, P, S``), and by how much each is off."""
    names = []
    for column in unit.T:
        axis = int(np.argmax(np.abs(column)))
        name = ("LR", "PA", "IS")[axis][int(column[axis] > 0)]
        angle = float(np.degrees(np.arccos(min(1.0, abs(float(column[axis]))))))
        names.append(name if angle <= _SAME_DEGREES else f"{name} ({angle:.0f} degrees off)")
    return ", ".join(names)
