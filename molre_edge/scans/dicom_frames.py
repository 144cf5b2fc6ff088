"""Where each slice of a DICOM file lies, and how its values become Hounsfield units.

Sources: DICOM PS3.3 C.7.6.2 (Image Plane), C.7.6.16.2 (functional groups), C.11.1 (Modality LUT), C.8.2.1 (CT Image).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molre_edge.errors import ScanError

if TYPE_CHECKING:
    from pydicom import FileDataset

__all__ = ["Frame", "functional_groups", "read_frames", "values_of"]


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
        acquisition: AcquisitionNumber, or None.
    """

    path: Path
    index: int
    position: tuple[float, float, float]
    orientation: tuple[float, float, float, float, float, float]
    pixel_mm: tuple[float, float]
    thickness_mm: float | None
    slope: float
    intercept: float
    rescale_type: str
    acquisition: int | None


def values_of(value: Any) -> list[Any]:
    """The values of an element, none, one or many, as a list."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


def functional_groups(dataset: FileDataset, which: str) -> list[Any]:
    """The items of the functional groups, `which` is ``Shared`` or ``PerFrame``; none in a classic image."""
    return list(dataset.get(f"{which}FunctionalGroupsSequence") or ())


def read_frames(path: Path, dataset: FileDataset, count: int) -> Iterator[Frame]:
    """Place every frame of a file, from its functional groups or, for a classic image, from its top level.

    Args:
        path: the file.
        dataset: its header.
        count: how many frames it announces.

    Raises:
        ScanError: ``no_geometry``, ``not_hounsfield`` or ``corrupt_header``.
    """
    shared, each = functional_groups(dataset, "Shared"), functional_groups(dataset, "PerFrame")
    if not shared and not each:
        if count > 1:
            raise ScanError(
                "no_geometry", f"{count} frames without functional groups: their positions are unknown; export slices"
            )
        yield _frame(path, 0, [dataset])
        return
    if len(each) != count:
        raise ScanError("corrupt_header", f"{count} frames, but positions for {len(each)}: export the series again")
    for index, group in enumerate(each):
        items: list[Any] = []
        for source in (group, *shared[:1]):
            for name in (
                "PlanePositionSequence",
                "PlaneOrientationSequence",
                "PixelMeasuresSequence",
                "PixelValueTransformationSequence",
                "FrameContentSequence",
            ):
                items += list(source.get(name) or ())[:1]
        yield _frame(path, index, [*items, dataset])


def _frame(path: Path, index: int, sources: list[Any]) -> Frame:
    def find(name: str) -> Any:
        return next((value for source in sources if (value := source.get(name)) not in (None, "")), None)

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
    acquisition = find("AcquisitionNumber") or find("FrameAcquisitionNumber")
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
        rescale_type=str(find("RescaleType") or "").strip().upper(),
        acquisition=None if acquisition is None else int(acquisition),
    )
