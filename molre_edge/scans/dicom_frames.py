"""Where each slice of a DICOM file lies, and how its values become Hounsfield units.

Sources: DICOM PS3.3 C.7.6.2 (Image Plane), C.7.6.16.2 (functional groups), C.11.1 (Modality LUT), C.8.2.1 (CT Image).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from molre_edge.errors import ScanError
from molre_edge.scans.dicom_access import Attributes, frame_attributes, values_of
from molre_edge.scans.traits import Traits, read_file_identity, read_traits

if TYPE_CHECKING:
    from pydicom import FileDataset

    from molre_edge.scans.dicom_plain import PlainHeader

__all__ = ["Frame", "read_frames"]


@dataclass(frozen=True)
class Frame:
    """One slice of a file.

    Attributes:
        path: its file.
        index: its number in the file, from 0.
        position: (x, y, z) of the centre of the first pixel, in mm, LPS.
        orientation: direction of a row (of rising column index), then of a column, as unit vectors in LPS.
        pixel_mm: (row, col) distance between pixel centres.
        thickness_mm: as the header says, else None.
        slope: HU per stored value.
        intercept: HU of stored value 0.
        sop_uid: UID of its instance, empty when absent. Never shown.
        traits: what must be one within a volume.
    """

    path: Path
    index: int
    position: tuple[float, float, float]
    orientation: tuple[float, float, float, float, float, float]
    pixel_mm: tuple[float, float]
    thickness_mm: float | None
    slope: float
    intercept: float
    sop_uid: str
    traits: Traits


def read_frames(path: Path, dataset: FileDataset | PlainHeader, count: int) -> Iterator[Frame]:
    """Place every frame of a file, from its functional groups or, for a classic image, from its top level.

    Args:
        path: the file.
        dataset: its header.
        count: how many frames it announces.

    Raises:
        ScanError: ``no_geometry``, ``not_hounsfield`` or ``corrupt_header``.
    """
    identity = read_file_identity(dataset)
    size = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    for index, attributes in enumerate(frame_attributes(dataset, count)):
        yield _frame(path, index, attributes, read_traits(attributes, identity, size))


def _frame(path: Path, index: int, attributes: Attributes, traits: Traits) -> Frame:
    find = attributes.get

    def numbers(name: str, count: int) -> tuple[float, ...]:
        value = find(name)
        result = tuple(float(part) for part in values_of(value)) if value is not None else ()
        if len(result) != count or not all(abs(part) < 1e6 for part in result):
            raise ScanError(
                "no_geometry",
                f"{name} is missing or is not {count} finite numbers, so the slice has no place: export it again",
            )
        return result

    if find("ModalityLUTSequence"):
        raise ScanError(
            "not_hounsfield", "the values go through a lookup table: expected a rescale slope and intercept"
        )
    slope, intercept, thickness = find("RescaleSlope"), find("RescaleIntercept"), find("SliceThickness")
    if slope is None or intercept is None:
        raise ScanError(
            "not_hounsfield",
            "there is no rescale slope and intercept to Hounsfield units: export the original CT series",
        )
    if not (1e-6 < abs(float(slope)) < 1e4 and abs(float(intercept)) < 1e6):
        raise ScanError(
            "not_hounsfield", "the rescale slope or intercept is not a usable number: export the series again"
        )
    pixel = numbers("PixelSpacing", 2)
    if not all(0.05 <= side <= 10.0 for side in pixel):
        raise ScanError("no_geometry", "the pixel spacing is outside 0.05 to 10 mm: export the original series")
    return Frame(
        path=path,
        index=index,
        position=numbers("ImagePositionPatient", 3),  # type: ignore[arg-type]
        orientation=numbers("ImageOrientationPatient", 6),  # type: ignore[arg-type]
        pixel_mm=pixel,  # type: ignore[arg-type]
        thickness_mm=float(thickness) if thickness is not None and 0.0 < float(thickness) < 100.0 else None,
        slope=float(slope),
        intercept=float(intercept),
        sop_uid=str(attributes.top.get("SOPInstanceUID") or "").strip(),
        traits=traits,
    )
