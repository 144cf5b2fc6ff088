"""A simple head, and writers that put it into DICOM and NIfTI files of any geometry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def head_hu(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """HU at points in LPS, mm: an ellipsoid of brain (35) in bone (900) in scalp (10); a bleed (75) left in front."""

    def within(rx: float, ry: float, rz: float) -> np.ndarray:
        return (x / rx) ** 2 + (y / ry) ** 2 + (z / rz) ** 2 < 1.0

    hu = np.full(np.broadcast_shapes(x.shape, y.shape, z.shape), -1000.0)
    hu[within(80, 100, 80)] = 10.0
    hu[within(76, 96, 76)] = 900.0
    hu[within(70, 90, 70)] = 35.0
    hu[(x - 35) ** 2 + (y + 40) ** 2 + (z - 25) ** 2 < 15**2] = 75.0
    return hu


def stack_of_head(
    positions: Sequence[Sequence[float]],
    orientation: Sequence[float] = AXIAL,
    pixel: tuple[float, float] = (2.0, 2.0),
    shape: tuple[int, int] = (128, 128),
) -> np.ndarray:
    """The head sampled where the slices of a DICOM series lie: float64 (slices, rows, cols)."""
    across, down = np.array(orientation[:3]), np.array(orientation[3:])
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    plane = rows[..., None] * pixel[0] * down + cols[..., None] * pixel[1] * across
    return np.stack([head_hu(*np.moveaxis(plane + np.array(position), -1, 0)) for position in positions])


def axial_positions(step: float = 5.0, low: float = -85.0, high: float = 85.0) -> list[tuple[float, float, float]]:
    return [(-127.0, -127.0, float(z)) for z in np.arange(low, high + 1e-6, step)]


WriteSeries = Callable[..., list[Path]]


@pytest.fixture
def write_series() -> WriteSeries:
    """Write slices as CT files; keyword arguments replace attributes, and `edit(dataset, index)` comes last."""

    def write(
        folder: Path,
        positions: Sequence[Sequence[float]] | None = None,
        *,
        stack: np.ndarray | None = None,
        orientation: Sequence[float] = AXIAL,
        pixel: tuple[float, float] = (2.0, 2.0),
        shape: tuple[int, int] = (128, 128),
        thickness: float | None = 5.0,
        study: str | None = None,
        edit: Callable[[Dataset, int], None] | None = None,
        names: Callable[[int], str] = "{:03}.dcm".format,
        **attributes: Any,
    ) -> list[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        positions = axial_positions() if positions is None else positions
        stack = stack_of_head(positions, orientation, pixel, shape) if stack is None else stack
        series = generate_uid()
        study = study or generate_uid()
        paths = []
        for index, (plane, position) in enumerate(zip(stack, positions, strict=True)):
            dataset = Dataset()
            dataset.file_meta = FileMetaDataset()
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            dataset.SOPClassUID = CTImageStorage
            dataset.SOPInstanceUID = generate_uid()
            dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
            dataset.PatientName, dataset.PatientID = "Secret^Name", "SECRET-ID"
            dataset.Modality, dataset.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
            dataset.BodyPartExamined, dataset.SeriesNumber, dataset.InstanceNumber = "HEAD", 2, index + 1
            dataset.ConvolutionKernel = "H31s"
            dataset.ImagePositionPatient = [round(float(value), 6) for value in position]
            dataset.ImageOrientationPatient = [round(float(value), 8) for value in orientation]
            dataset.PixelSpacing = list(pixel)
            if thickness is not None:
                dataset.SliceThickness = thickness
            dataset.Rows, dataset.Columns = plane.shape
            dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
            dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
            dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
            dataset.PixelData = np.rint(plane).astype("<i2").tobytes()
            for name, value in attributes.items():
                setattr(dataset, name, value)
            if edit:
                edit(dataset, index)
            path = folder / names(index)
            dataset.save_as(path, enforce_file_format=True)
            paths.append(path)
        return paths

    return write


@pytest.fixture
def head_folder(tmp_path: Path, write_series: WriteSeries) -> Path:
    """A folder with one plain series of 35 slices, 5 mm apart."""
    folder = tmp_path / "series"
    write_series(folder)
    return folder


@pytest.fixture
def join_frames() -> Callable[..., None]:
    """Put the slices of a folder into one Enhanced CT file, top slice first; `edit(dataset)` comes last."""

    def join(folder: Path, path: Path, edit: Callable[[Dataset], None] | None = None) -> None:
        slices = [pydicom.dcmread(file) for file in sorted(folder.iterdir(), reverse=True)]
        whole = pydicom.dcmread(sorted(folder.iterdir())[0])
        whole.SOPClassUID = whole.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
        whole.NumberOfFrames = len(slices)
        whole.PixelData = b"".join(one.PixelData for one in slices)

        def item(**values: Any) -> list[Dataset]:
            dataset = Dataset()
            for name, value in values.items():
                setattr(dataset, name, value)
            return [dataset]

        shared = Dataset()
        shared.PixelMeasuresSequence = item(PixelSpacing=whole.PixelSpacing, SliceThickness=whole.SliceThickness)
        shared.PlaneOrientationSequence = item(ImageOrientationPatient=whole.ImageOrientationPatient)
        shared.PixelValueTransformationSequence = item(RescaleSlope=1, RescaleIntercept=0, RescaleType="HU")
        each = []
        for one in slices:
            frame = Dataset()
            frame.PlanePositionSequence = item(ImagePositionPatient=one.ImagePositionPatient)
            each.append(frame)
        whole.SharedFunctionalGroupsSequence, whole.PerFrameFunctionalGroupsSequence = [shared], each
        for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
            delattr(whole, name)
        del whole.RescaleSlope, whole.RescaleIntercept
        if edit:
            edit(whole)
        whole.save_as(path, enforce_file_format=True)

    return join


@pytest.fixture
def write_nifti() -> Callable[..., Path]:
    """Write the head as NIfTI, with voxel axes of the given directions (such as ``RAS``)."""

    def write(
        path: Path, directions: str = "RAS", voxel: float = 2.0, step: float = 5.0, values: np.ndarray | None = None
    ) -> Path:
        if values is None:
            x, y = (np.arange(128) * voxel - 127.0 for _ in range(2))
            z = np.arange(-85.0, 85.0 + 1e-6, step)
            # (i, j, k) rising to the left, back and top: LPS
            values = head_hu(x[:, None, None], y[None, :, None], z[None, None, :])
        affine = np.diag([-voxel, -voxel, step, 1.0])  # to RAS
        affine[:3, 3] = 127.0, 127.0, -85.0
        image = nibabel.Nifti1Image(values.astype(np.int16), affine)
        wanted = nibabel.orientations.axcodes2ornt(directions)
        image = image.as_reoriented(
            nibabel.orientations.ornt_transform(nibabel.orientations.axcodes2ornt("LPS"), wanted)
        )
        image.set_sform(image.affine, 1)
        image.set_qform(image.affine, 1)
        nibabel.save(image, path)
        return path

    return write


@pytest.fixture
def write_enhanced() -> Callable[..., Path]:
    """Put classic slices into one Enhanced CT file: what a frame has of its own goes into functional groups."""

    def write(path: Path, slices: Sequence[Path], **attributes: Any) -> Path:
        datasets = [pydicom.dcmread(file) for file in slices]
        whole = pydicom.dcmread(slices[0])
        whole.SOPClassUID = whole.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
        whole.NumberOfFrames = len(datasets)
        whole.PixelData = b"".join(one.PixelData for one in datasets)
        each = []
        for one in datasets:
            frame = Dataset()
            frame.PlanePositionSequence = item(ImagePositionPatient=one.ImagePositionPatient)
            frame.PlaneOrientationSequence = item(ImageOrientationPatient=one.ImageOrientationPatient)
            frame.PixelMeasuresSequence = item(PixelSpacing=one.PixelSpacing, SliceThickness=one.SliceThickness)
            frame.PixelValueTransformationSequence = item(RescaleSlope=1, RescaleIntercept=0, RescaleType="HU")
            frame.CTImageFrameTypeSequence = item(FrameType=one.ImageType)
            frame.CTReconstructionSequence = item(ConvolutionKernel=one.ConvolutionKernel)
            if "KVP" in one:
                frame.CTXRayDetailsSequence = item(KVP=float(one.KVP))
            if "AcquisitionNumber" in one:
                frame.FrameContentSequence = item(FrameAcquisitionNumber=int(one.AcquisitionNumber))
            given = "YES" if one.get("ContrastBolusAgent") else "NO"
            frame.ContrastBolusUsageSequence = item(ContrastBolusAgentNumber=1, ContrastBolusAgentAdministered=given)
            each.append(frame)
        whole.SharedFunctionalGroupsSequence = pydicom.Sequence([Dataset()])
        whole.PerFrameFunctionalGroupsSequence = pydicom.Sequence(each)
        for name in (
            "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "RescaleSlope",
            "RescaleIntercept", "ConvolutionKernel", "ContrastBolusAgent", "KVP", "AcquisitionNumber",
        ):  # fmt: skip
            if name in whole:
                delattr(whole, name)
        for name, value in attributes.items():
            setattr(whole, name, value)
        whole.save_as(path, enforce_file_format=True)
        return path

    return write


def item(**values: Any) -> pydicom.Sequence:
    """A sequence of one item."""
    dataset = Dataset()
    for name, value in values.items():
        setattr(dataset, name, value)
    return pydicom.Sequence([dataset])


def read_dataset(path: Path) -> Dataset:
    return pydicom.dcmread(path)
