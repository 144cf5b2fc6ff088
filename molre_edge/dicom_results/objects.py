"""What report and capture have in common: their UIDs, their maker, and whose study they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from molre_edge.dicom_results.facts import MAKER, ResultError, ResultFacts
from molre_edge.dicom_results.identity import Study, put_study
from molre_edge.dicom_results.uids import uid_of

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["Identifiers", "identifiers", "is_own_result", "maker", "seal", "source_references"]

_CAPTURE_CLASS = "1.2.840.10008.5.1.4.1.1.7"


@dataclass(frozen=True)
class Identifiers:
    """UIDs of a result.

    Attributes:
        series: of all versions of it.
        instance: of this one.
        number: of this one in the series.
    """

    series: str
    instance: str
    number: int


def identifiers(
    study: Study,
    facts: ResultFacts,
    kind: str,
    frames: Sequence[tuple[int, ...]] = (),
    predecessor: Dataset | None = None,
) -> Identifiers:
    """The UIDs that follow from maker, kind of object and images, so that a rerun makes the same object again.

    Args:
        study: of the images.
        facts: who answered.
        kind: of the object.
        frames: of each image, the frames that were used; none when all were.
        predecessor: the version before.

    Raises:
        ResultError: ``other_study``: the predecessor is of another study.
    """
    if predecessor is not None and predecessor.get("StudyInstanceUID") != study.uid:
        raise ResultError("other_study", "the earlier report that is to be replaced is of another study")
    chosen = tuple(frames) if any(frames) else ((),) * len(study.instances)
    images = sorted(f"{uid}:{list(used)}" for (_, uid), used in zip(study.instances, chosen, strict=True))
    series = uid_of("series", kind, *facts.identity, study.uid, study.series)
    before = "" if predecessor is None else str(predecessor.SOPInstanceUID)
    instance = uid_of("instance", series, facts.version, before, *images)
    return Identifiers(series, instance, 1 if predecessor is None else int(predecessor.InstanceNumber or 0) + 1)


def maker(facts: ResultFacts) -> dict[str, Any]:
    """Arguments of highdicom's classes that name the equipment."""
    return {
        "manufacturer": MAKER,
        "manufacturer_model_name": MAKER,
        "software_versions": facts.version,
        "device_serial_number": facts.bundle[:64],
    }


def source_references(study: Study) -> list[Dataset]:
    """The images as highdicom takes them: references alone. Patient and study are put in by :func:`seal`."""
    from pydicom.dataset import Dataset

    references = []
    for sop_class, instance in study.instances:
        item = Dataset()
        item.SOPClassUID, item.SOPInstanceUID = sop_class, instance
        item.StudyInstanceUID, item.SeriesInstanceUID = study.uid, study.series
        references.append(item)
    for name in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"):
        setattr(references[0], name, None)
    references[0].StudyDate = references[0].StudyTime = None
    return references


def seal(result: Dataset, study: Study, charset: str | list[str] | None) -> None:
    """Put the patient, the study and the time in, and take out what differs from run to run.

    The time is that of the newest image, so that a rerun has the same; or now, if no image has one.
    """
    for name in (
        "InstanceCreationDate", "InstanceCreationTime", "ContributingEquipmentSequence", "DateOfSecondaryCapture",
        "TimeOfSecondaryCapture",
    ):  # fmt: skip
        result.pop(name, None)
    made = study.made or datetime.now()
    result.ContentDate, result.ContentTime = made.strftime("%Y%m%d"), made.strftime("%H%M%S")
    put_study(result, study, charset)


def is_own_result(dataset: Dataset) -> bool:
    """Whether an object is a report or a capture of this package, of any version: it is no scan to answer."""
    ours = dataset.get("Manufacturer") == MAKER and dataset.get("ManufacturerModelName") == MAKER
    return bool(ours and (dataset.get("Modality") == "SR" or dataset.get("SOPClassUID") == _CAPTURE_CLASS))
