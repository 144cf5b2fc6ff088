"""A synthetic head as files: a DICOM series as a scanner writes it, or NIfTI."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from molre_edge.errors import ConfigError
from molre_edge.files import write_whole
from molre_edge.synthetic.fields import Array
from molre_edge.synthetic.head import SyntheticHead

__all__ = ["write_dicom_series", "write_nifti"]

_VERTEX_REACH_MM = 45.0  # how far before or behind the middle of the field the top of a head may lie
_STUDY_DATE = "20000101"  # nobody's; a fixed one keeps the files the same for a seed


def _first_voxel_mm(head: SyntheticHead) -> tuple[float, float, float]:
    """Position (x, y, z; LPS, mm) of the first voxel: the field of view is centred, the lowest slice lies at z = 0."""
    _, rows, cols = head.hu.shape
    return (-(cols - 1) / 2 * head.spacing_mm[2], -(rows - 1) / 2 * head.spacing_mm[1], 0.0)


def _tilted(head: SyntheticHead, tilt_degrees: float) -> Array:
    """The head as seen by a gantry tilted by the angle, with slices as far apart along z as before.

    A tilted slice's rows run along (0, cos, -sin): a row that is farther back lies lower for a positive angle.
    Slices are added at the top, so that the vertex is still there; what lies below the volume repeats its lowest slice.
    """
    angle = math.radians(tilt_degrees)
    slices, rows, cols = head.hu.shape
    step_z, step_y, _ = head.spacing_mm
    offset = (np.arange(rows) - (rows - 1) / 2) * step_y  # along the tilted rows
    count = slices + math.ceil(_VERTEX_REACH_MM * abs(math.sin(angle)) / step_z)
    result = np.full((count, rows, cols), -1000.0, dtype=np.float32)
    source_y = (rows - 1) / 2 + offset * math.cos(angle) / step_y
    for row in range(rows):
        y0 = int(np.clip(np.floor(source_y[row]), 0, max(rows - 2, 0)))
        fy = float(np.clip(source_y[row] - y0, 0, 1))
        plane = head.hu[:, y0] * np.float32(1 - fy) + head.hu[:, min(y0 + 1, rows - 1)] * np.float32(fy)
        source_z = np.clip(np.arange(count) - offset[row] * math.sin(angle) / step_z, 0, None)
        known = source_z <= slices - 1
        z0 = np.floor(source_z[known]).astype(int)
        fz = (source_z[known] - z0).astype(np.float32)[:, None]
        result[known, row] = plane[z0] * (1 - fz) + plane[np.minimum(z0 + 1, slices - 1)] * fz
    return np.asarray(np.rint(result), dtype=np.float32)


def write_dicom_series(
    head: SyntheticHead, folder: Path, *, tilt_degrees: float = 0.0, patient_id: str | None = None
) -> list[Path]:
    """Write a head as a CT series, one file a slice.

    Explicit VR little endian, signed 16 bit, slope 1 and intercept 0. All UIDs come from the head's seed, so that the
    same head gives the same files.

    Args:
        head: what to write.
        folder: made if it is missing; files are named ``0001.dcm`` and so on, from inferior to superior.
        tilt_degrees: tilt of the gantry, -30 to 30: image planes are tilted about the patient's left-right axis while
            positions still move along z alone, as real scanners do. The anatomy is resampled accordingly, and a few
            slices are added at the top so that the vertex stays in.
        patient_id: ``SYNTHETIC-<seed>`` by default.

    Returns:
        The files, from inferior to superior.
    """
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    if not -30.0 <= tilt_degrees <= 30.0:
        raise ConfigError(f"tilt_degrees: expected -30 to 30, as gantries tilt, got {tilt_degrees!r}")
    volume = _tilted(head, tilt_degrees) if tilt_degrees else head.hu
    pixels = np.clip(np.rint(volume), -32768, 32767).astype("<i2")
    entropy = [f"molre-edge synthetic head {head.seed} {sorted(head.labels)} {head.hu.shape} {head.spacing_mm}"]
    entropy.append(f"{tilt_degrees:.6f}")
    study, series, frame = (str(generate_uid(entropy_srcs=[*entropy, part])) for part in ("study", "series", "frame"))
    angle = math.radians(tilt_degrees)
    down, back = math.sin(angle), math.cos(angle)
    step_z, step_y, step_x = head.spacing_mm
    first_x, _, first_z = _first_voxel_mm(head)
    middle = head.hu.shape[1] - 1
    paths = []
    for index in range(len(pixels)):
        uid = generate_uid(entropy_srcs=[*entropy, "image", str(index)])
        item = Dataset()
        item.SpecificCharacterSet = "ISO_IR 192"
        item.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        item.SOPClassUID, item.SOPInstanceUID = CTImageStorage, uid
        item.StudyDate = item.SeriesDate = item.AcquisitionDate = item.ContentDate = _STUDY_DATE
        item.StudyTime = item.SeriesTime = item.AcquisitionTime = item.ContentTime = "120000"
        item.AccessionNumber = ""
        item.Modality = "CT"
        item.Manufacturer = "molre-edge"
        item.ManufacturerModelName = "synthetic head"
        item.ReferringPhysicianName = ""
        item.StudyDescription = "SYNTHETIC HEAD CT"
        item.SeriesDescription = "HEAD WITHOUT CONTRAST"
        item.PatientName = "SYNTHETIC"
        item.PatientID = patient_id or f"SYNTHETIC-{head.seed}"
        item.PatientBirthDate = item.PatientSex = ""
        item.BodyPartExamined = "HEAD"
        item.SliceThickness = f"{step_z * back:.6g}"
        item.KVP = "120"
        item.GantryDetectorTilt = f"{tilt_degrees:.6g}"
        item.ConvolutionKernel = "SYNTHETIC"
        item.PatientPosition = "HFS"
        item.StudyInstanceUID, item.SeriesInstanceUID, item.FrameOfReferenceUID = study, series, frame
        item.StudyID, item.SeriesNumber, item.AcquisitionNumber = "1", "2", "1"
        item.InstanceNumber = str(index + 1)
        # The centre of each slice stays where it is without tilt.
        corner_y = -middle / 2 * step_y * back
        corner_z = first_z + index * step_z + middle / 2 * step_y * down
        item.ImagePositionPatient = [f"{first_x:.6f}", f"{corner_y:.6f}", f"{corner_z:.6f}"]
        item.ImageOrientationPatient = ["1", "0", "0", "0", f"{back:.9f}", f"{-down:.9f}"]
        item.PositionReferenceIndicator = "OM"
        item.SliceLocation = f"{first_z + index * step_z:.6f}"
        item.SamplesPerPixel, item.PhotometricInterpretation = 1, "MONOCHROME2"
        item.Rows, item.Columns = pixels.shape[1:]
        item.PixelSpacing = [f"{step_y:.9g}", f"{step_x:.9g}"]
        item.BitsAllocated, item.BitsStored, item.HighBit, item.PixelRepresentation = 16, 16, 15, 1
        item.WindowCenter, item.WindowWidth = "40", "80"
        item.RescaleIntercept, item.RescaleSlope, item.RescaleType = "0", "1", "HU"
        item.PixelData = pixels[index].tobytes()
        item.file_meta = FileMetaDataset()
        item.file_meta.MediaStorageSOPClassUID, item.file_meta.MediaStorageSOPInstanceUID = CTImageStorage, uid
        item.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = Path(folder) / f"{index + 1:04d}.dcm"
        with write_whole(path) as partial:
            item.save_as(partial, enforce_file_format=True)
        paths.append(path)
    return paths


def write_nifti(head: SyntheticHead, path: Path) -> Path:
    """Write a head as NIfTI (``.nii`` or ``.nii.gz``), int16, with the same geometry as the untilted DICOM series.

    Array axes run to the patient's left, back and top, so the affine to NIfTI's RAS+ millimetres has two minus signs.
    """
    import nibabel as nibabel_untyped

    nibabel: Any = nibabel_untyped

    if not path.name.endswith((".nii", ".nii.gz")):
        raise ConfigError(f"A NIfTI file ends in .nii or .nii.gz, got {path.name!r}")
    step_z, step_y, step_x = head.spacing_mm
    first_x, first_y, first_z = _first_voxel_mm(head)
    affine = np.array([[-step_x, 0, 0, -first_x], [0, -step_y, 0, -first_y], [0, 0, step_z, first_z], [0, 0, 0, 1.0]])
    image = nibabel.Nifti1Image(np.rint(head.hu).astype(np.int16).transpose(2, 1, 0), affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    suffix = ".nii.gz" if path.name.endswith(".nii.gz") else ".nii"
    with write_whole(path) as partial:
        data = image.to_bytes()
        if suffix == ".nii.gz":
            import gzip

            data = gzip.compress(data, compresslevel=6, mtime=0)
        partial.write_bytes(data)
    return path
