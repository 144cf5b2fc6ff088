"""A structured report: a measurement group for each finding, present or not. Source: DICOM PS3.16 TID 1500, 1501."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from molre_edge.dicom_results.codes import ATTENTION, OWN_SCHEME, THRESHOLD, FindingCode, code_of
from molre_edge.dicom_results.facts import (
    MAKER,
    AttendedImage,
    FindingRow,
    ResultError,
    ResultFacts,
    SrKind,
    check_extra,
    check_kind,
)
from molre_edge.dicom_results.identity import Study, character_set, study_of
from molre_edge.dicom_results.objects import identifiers, maker, seal, source_references
from molre_edge.dicom_results.uids import uid_of
from molre_edge.scans.quiet import quietly
from molre_edge.specs import DISCLAIMER

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["structured_report"]

_SERIES_NUMBER = 9901  # away from those of scanners
_DESCRIPTION = "MoLRE head CT findings (research)"
_ALGORITHM = "MoLRE head CT"

_PRESENT = FindingCode("52101004", "SCT", "Present")
_ABSENT = FindingCode("272519000", "SCT", "Absent")
_UNDETERMINED = FindingCode("373068000", "SCT", "Undetermined")
"""DICOM PS3.16 CID 240."""
_PRESENCE = FindingCode("121052", "DCM", "Presence of property")
_PROBABILITY = FindingCode("122157", "DCM", "Probability")
_COMMENT = FindingCode("121106", "DCM", "Comment")
_PROCEDURE = FindingCode("303653007", "SCT", "Computed tomography of head")
_DEVICE = FindingCode("121007", "DCM", "Device")
_NO_UNIT = FindingCode("1", "UCUM", "no units")
_MEASUREMENTS = "126010"
"""Imaging Measurements (DCM): the container of the groups."""
_NO_EVIDENCE = (
    "The model's attention, not evidence of a finding: of the slices that the model pools, the one nearest to this "
    "image has the largest weight, {:.3f} of 1. Findings may be in any image."
)


def structured_report(
    findings: Iterable[FindingRow],
    source_headers: Sequence[Dataset],
    facts: ResultFacts,
    kind: SrKind = "comprehensive3d",
    *,
    predecessor: Dataset | None = None,
    frames: Sequence[tuple[int, ...]] = (),
    notes: Sequence[str] = (),
    attended: AttendedImage | None = None,
) -> Dataset:
    """The answer for one scan as a TID 1500 Measurement Report: PRELIMINARY, UNVERIFIED, COMPLETE.

    The same answer of the same maker about the same images gives the same object, byte for byte: its UIDs and its time
    follow from the images. Only if no image has a date, its content time is that of this call.

    Args:
        findings: all of the model's, absent ones included.
        source_headers: of all images of the answered series, from
            :func:`molre_edge.dicom_results.sources.read_source_headers`.
        facts: who answered.
        kind: the object's class.
        predecessor: the report that this one replaces, if the study has more images now.
        frames: of each source, the frames that were used (:func:`molre_edge.dicom_results.sources.frames_of`).
        notes: what a reader should know about the scan, without identifiers.
        attended: the image that the model attended to most; None for a model that does not say.

    Returns:
        The data set with its file meta information; explicit VR little endian.

    Raises:
        MissingDependencyError: the extra ``dicom`` is not installed.
        ResultError: no valid report can be made for this source; its code says why.
    """
    check_extra()
    kind = check_kind(kind)
    from highdicom.sr import Comprehensive3DSR, ComprehensiveSR

    rows = tuple(findings)
    texts = [*notes, *(text for row in rows for text in (row.name, code_of(row.name).meaning))]
    with quietly():
        study = study_of(source_headers)
        ids = identifiers(study, facts, f"sr {kind}", frames, predecessor)
        charset = character_set(study, texts)
        groups = _groups(rows, facts, ids.series)
        classes: dict[SrKind, Any] = {"comprehensive3d": Comprehensive3DSR, "comprehensive": ComprehensiveSR}
        report: Dataset = classes[kind](
            evidence=source_references(study),
            content=_content(groups[:1], facts, [*_attention(attended, study, source_headers), *_comments(notes)]),
            series_instance_uid=ids.series,
            series_number=_SERIES_NUMBER,
            sop_instance_uid=ids.instance,
            instance_number=ids.number,
            series_description=_DESCRIPTION,
            is_complete=True,
            coding_schemes=_schemes(facts),
            previous_versions=None if predecessor is None else [predecessor],
            **maker(facts),
        )
        # highdicom copies and searches the whole tree; the other groups refer to no image, and come in afterwards
        (measurements,) = (
            each for each in report.ContentSequence if each.ConceptNameCodeSequence[0].CodeValue == _MEASUREMENTS
        )
        for group in groups[1:]:
            measurements.ContentSequence.extend(group)
        seal(report, study, charset)
    return report


def _content(groups: Sequence[Any], facts: ResultFacts, more: Sequence[Any]) -> Any:
    """The report's tree: language, observer, procedure, measurement groups, and more items."""
    from highdicom.sr import (
        DeviceObserverIdentifyingAttributes,
        MeasurementReport,
        ObservationContext,
        ObserverContext,
    )

    device = DeviceObserverIdentifyingAttributes(
        uid=uid_of("device", *facts.identity),
        name=MAKER,
        manufacturer_name=MAKER,
        model_name=_ALGORITHM,
        serial_number=facts.bundle[:64],
    )
    tree: Any = MeasurementReport(
        observation_context=ObservationContext(
            observer_device_context=ObserverContext(
                observer_type=_concept(_DEVICE), observer_identifying_attributes=device
            )
        ),
        procedure_reported=_concept(_PROCEDURE),
        imaging_measurements=groups,
    )
    for item in more:
        tree[0].ContentSequence.append(item)
    return tree


def _comments(notes: Sequence[str]) -> list[Any]:
    """The disclaimer, then the notes."""
    from highdicom.sr import RelationshipTypeValues, TextContentItem

    contains = RelationshipTypeValues.CONTAINS
    return [
        TextContentItem(name=_concept(_COMMENT), value=text, relationship_type=contains)
        for text in (DISCLAIMER, *notes)
    ]


def _attention(attended: AttendedImage | None, study: Study, headers: Sequence[Dataset]) -> list[Any]:
    """A reference to the image that was attended to most, which says what it is and what not.

    Args:
        attended: by the model; None if it does not say.
        study: with the UIDs of the images.
        headers: of the same images in the same order.

    Raises:
        ResultError: ``no_source``: the image is not among those that the report is about.
    """
    from highdicom.sr import ContentSequence, ImageContentItem, RelationshipTypeValues, TextContentItem

    if attended is None:
        return []
    images = zip(study.instances, headers, strict=True)
    found = [(sop_class, header) for (sop_class, instance), header in images if instance == attended.instance]
    if not found:
        raise ResultError("no_source", "the image that was attended to most is not among those that were found")
    sop_class, header = found[0]
    several = str(header.get("NumberOfFrames") or 1).strip() not in ("0", "1")  # whatever a header from outside holds
    image = ImageContentItem(
        name=_concept(ATTENTION),
        referenced_sop_class_uid=sop_class,
        referenced_sop_instance_uid=attended.instance,
        referenced_frame_numbers=[attended.frame] if several else None,
        relationship_type=RelationshipTypeValues.CONTAINS,
    )
    text = TextContentItem(
        name=_concept(_COMMENT),
        value=_NO_EVIDENCE.format(attended.weight),
        relationship_type=RelationshipTypeValues.HAS_CONCEPT_MOD,
    )
    image.ContentSequence = ContentSequence([text])
    return [image]


def _groups(rows: Sequence[FindingRow], facts: ResultFacts, series: str) -> list[Any]:
    """A measurement group a finding, TID 1501: what, whether, how sure, from which threshold on, and by whom.

    Args:
        rows: the findings.
        facts: who answered.
        series: UID of the report's series, from which tracking UIDs derive: versions of a report have the same.

    Raises:
        ResultError: ``no_findings``.
    """
    from highdicom.sr import (
        AlgorithmIdentification,
        Measurement,
        MeasurementsAndQualitativeEvaluations,
        QualitativeEvaluation,
        TrackingIdentifier,
    )

    if not rows:
        raise ResultError("no_findings", "the answer has no findings, and a report needs one at least")
    algorithm = AlgorithmIdentification(
        name=_ALGORITHM, version=f"{MAKER} {facts.version}", parameters=list(facts.lines), manufacturer=MAKER
    )
    one, probability, threshold = _concept(_NO_UNIT), _concept(_PROBABILITY), _concept(THRESHOLD)
    groups = []
    for row in rows:
        numbers = [] if row.probability is None else [(probability, row.probability)]
        numbers.append((threshold, row.threshold))
        presence = _UNDETERMINED if row.positive is None else _PRESENT if row.positive else _ABSENT
        group = MeasurementsAndQualitativeEvaluations(
            tracking_identifier=TrackingIdentifier(uid=uid_of("tracking", series, row.name), identifier=row.name),
            finding_type=_concept(code_of(row.name)),
            algorithm_id=algorithm,
            measurements=[Measurement(name=name, value=value, unit=one) for name, value in numbers],
            qualitative_evaluations=[QualitativeEvaluation(name=_concept(_PRESENCE), value=_concept(presence))],
        )
        groups.append(group)
    return groups


def _concept(code: FindingCode) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=code.meaning)


def _schemes(facts: ResultFacts) -> list[Any]:
    from highdicom.coding_schemes import CodingSchemeIdentificationItem

    own = CodingSchemeIdentificationItem(
        OWN_SCHEME, name="Findings of molre-edge", version=facts.version, responsible_organization=MAKER
    )
    return [own]
