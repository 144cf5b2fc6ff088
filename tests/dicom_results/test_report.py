"""A report is valid, says what was answered and nothing else, and is the same object when it is made again."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from dicom_fixtures import Errors, Groups
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage

from molre_edge.dicom_results.codes import ATTENTION, OWN_SCHEME, code_of
from molre_edge.dicom_results.facts import AttendedImage, ResultError, ResultFacts
from molre_edge.dicom_results.objects import is_own_result
from molre_edge.dicom_results.report import structured_report
from molre_edge.errors import MissingDependencyError, UsageError
from molre_edge.runs.scan_findings import Finding
from molre_edge.specs import DISCLAIMER, SR_KINDS, SrKind

Make = Callable[..., list[Dataset]]


def bytes_of(dataset: Dataset, path: Path) -> bytes:
    dataset.save_as(path, enforce_file_format=True)
    return path.read_bytes()


def words_of(dataset: Dataset) -> str:
    return "\n".join(str(item.value) for item in dataset.iterall() if item.VR != "SQ")


@pytest.mark.parametrize("kind", SR_KINDS)
def test_it_is_valid_for_a_program_of_others(
    kind: SrKind, findings: list[Finding], headers: Make, facts: ResultFacts, dciodvfy: Errors, tmp_path: Path
) -> None:
    report = structured_report(findings, headers(), facts, kind, notes=["slices are far apart"])
    bytes_of(report, tmp_path / "sr.dcm")
    assert dciodvfy(tmp_path / "sr.dcm") == []
    assert report.SOPClassUID.name == {"comprehensive3d": "Comprehensive 3D SR Storage"}.get(
        kind, "Comprehensive SR Storage"
    )


@pytest.mark.parametrize("kind", SR_KINDS)
@pytest.mark.parametrize(("frames", "named"), [(None, None), (14, 5)])
def test_it_refers_to_the_image_of_most_attention_and_says_that_this_is_no_evidence(
    kind: SrKind,
    frames: int | None,
    named: int | None,
    findings: list[Finding],
    headers: Make,
    facts: ResultFacts,
    dciodvfy: Errors,
    dsrdump: Groups,
    tmp_path: Path,
) -> None:
    attended = AttendedImage("1.2.3.4.2", 5, 0.3125)
    images = headers(NumberOfFrames=frames, SOPClassUID=EnhancedCTImageStorage if frames else CTImageStorage)
    report = structured_report(findings, images, facts, kind, notes=["slices are far apart"], attended=attended)
    assert (length := len(ATTENTION.meaning)) <= 64, length
    [item] = [each for each in report.ContentSequence if each.ValueType == "IMAGE"]
    concept = item.ConceptNameCodeSequence[0]
    assert (concept.CodeValue, concept.CodingSchemeDesignator) == (ATTENTION.value, OWN_SCHEME)
    [reference] = item.ReferencedSOPSequence
    assert reference.ReferencedSOPInstanceUID == "1.2.3.4.2"
    assert reference.get("ReferencedFrameNumber") == named
    [said] = item.ContentSequence
    assert said.TextValue.startswith("The model's attention, not evidence of a finding: ") and "0.312 of 1" in words_of(
        item
    )
    images_of_findings = [each for each in report.iterall() if each.keyword == "ReferencedFrameNumber"]
    assert len(images_of_findings) == bool(frames)
    bytes_of(report, tmp_path / "sr.dcm")
    assert dciodvfy(tmp_path / "sr.dcm") == []
    assert list(dsrdump(tmp_path / "sr.dcm")) == [finding.name for finding in findings]


def test_without_attention_it_refers_to_no_image_and_never_to_a_foreign_one(
    findings: list[Finding], headers: Make, facts: ResultFacts
) -> None:
    report = structured_report(findings[:1], headers(), facts)
    assert not [each for each in report.ContentSequence if each.ValueType == "IMAGE"]
    with pytest.raises(ResultError, match="attended to most is not among those that were found"):
        structured_report(findings[:1], headers(), facts, attended=AttendedImage("1.2.3.4.9", 1, 0.5))


def test_the_check_finds_what_is_missing(
    findings: list[Finding], headers: Make, facts: ResultFacts, dciodvfy: Errors, tmp_path: Path
) -> None:
    report = structured_report(findings[:1], headers(), facts)
    del report.VerificationFlag
    bytes_of(report, tmp_path / "sr.dcm")
    assert any("VerificationFlag" in line for line in dciodvfy(tmp_path / "sr.dcm"))


def test_its_tree_holds_every_finding_with_presence_probability_and_threshold(
    findings: list[Finding], headers: Make, facts: ResultFacts, dsrdump: Groups, tmp_path: Path
) -> None:
    bytes_of(structured_report(findings, headers(), facts), tmp_path / "sr.dcm")
    presence = {True: "52101004", False: "272519000", None: "373068000"}
    groups = dsrdump(tmp_path / "sr.dcm")
    assert list(groups) == [finding.name for finding in findings]
    for finding in findings:
        group = dict(groups[finding.name])
        assert group.pop("Finding") == code_of(finding.name).value
        assert group.pop("Presence of property") == presence[finding.positive]
        assert float(group.pop("Decision threshold")) == finding.threshold
        if finding.probability is not None:
            assert float(group.pop("Probability")) == pytest.approx(finding.probability, abs=1e-13)
        assert group == {}


def test_a_probability_keeps_all_its_digits(findings: list[Finding], headers: Make, facts: ResultFacts) -> None:
    report = structured_report(findings[:1], headers(), facts)
    exact = [item.value for item in report.iterall() if item.keyword == "FloatingPointValue"]
    assert exact == [0.8123456789012345, 0.5]  # the decimal strings beside them have 16 characters


def test_it_says_who_answered_and_what_it_is(findings: list[Finding], headers: Make, facts: ResultFacts) -> None:
    report = structured_report(findings, headers(), facts, notes=["slices are far apart"])
    assert (report.PreliminaryFlag, report.VerificationFlag, report.CompletionFlag) == (
        "PRELIMINARY",
        "UNVERIFIED",
        "COMPLETE",
    )
    assert "research" in report.SeriesDescription
    text = words_of(report)
    for words in (DISCLAIMER, "slices are far apart", f"bundle sha256:{facts.bundle}", "engine onnxruntime:fp32"):
        assert words in text
    assert text.count("molre-edge 1.2.3") == len(findings)  # Algorithm Version
    [scheme] = report.CodingSchemeIdentificationSequence
    assert scheme.CodingSchemeDesignator == OWN_SCHEME
    adapted = structured_report(findings[:1], headers(), ResultFacts(bundle="ab", engine="e", adapter="cd"))
    assert "adapter sha256:cd" in words_of(adapted)


def test_it_refers_to_every_image_and_belongs_to_their_study(
    findings: list[Finding], headers: Make, facts: ResultFacts
) -> None:
    report = structured_report(findings[:1], headers(), facts)
    [study] = report.CurrentRequestedProcedureEvidenceSequence
    [series] = study.ReferencedSeriesSequence
    assert [item.ReferencedSOPInstanceUID for item in series.ReferencedSOPSequence] == [
        "1.2.3.4.1",
        "1.2.3.4.2",
        "1.2.3.4.3",
    ]
    assert (study.StudyInstanceUID, series.SeriesInstanceUID) == (report.StudyInstanceUID, "1.2.3.4")
    for name in ("PatientName", "PatientID", "PatientBirthDate", "StudyID", "AccessionNumber", "StudyDescription"):
        assert report[name].value == headers()[0][name].value
    assert report.SeriesInstanceUID != "1.2.3.4"


def test_made_again_it_is_the_same_bytes_whatever_the_order_of_the_images(
    findings: list[Finding], headers: Make, facts: ResultFacts, tmp_path: Path
) -> None:
    first = structured_report(findings, headers(), facts)
    assert (first.ContentDate, first.ContentTime) == ("20240305", "103003")  # of the newest image
    assert bytes_of(first, tmp_path / "1") == bytes_of(structured_report(findings, headers(), facts), tmp_path / "2")
    assert structured_report(findings, headers()[::-1], facts).SOPInstanceUID == first.SOPInstanceUID


@pytest.mark.parametrize("change", ["bundle", "engine", "adapter", "version", "images", "frames", "kind"])
def test_another_maker_or_other_images_make_another_object(
    change: str, findings: list[Finding], headers: Make, facts: ResultFacts
) -> None:
    def made(facts: ResultFacts = facts, images: slice = slice(None), **options: Any) -> Dataset:
        return structured_report(findings[:1], headers()[images], facts, **options)

    values = {"bundle": facts.bundle, "engine": facts.engine, "adapter": None, "version": facts.version}
    other = {
        "images": lambda: made(images=slice(2)),
        "frames": lambda: made(frames=[(0, 1), (), ()]),
        "kind": lambda: made(kind="comprehensive"),
    }.get(change, lambda: made(ResultFacts(**{**values, change: "ff"})))()  # type: ignore[arg-type]
    assert other.SOPInstanceUID != made().SOPInstanceUID
    same_series = other.SeriesInstanceUID == made().SeriesInstanceUID
    assert same_series == (change in ("images", "frames", "version"))


def test_a_report_of_more_images_names_the_one_before_and_keeps_its_series_and_tracking(
    findings: list[Finding], headers: Make, facts: ResultFacts, dciodvfy: Errors, tmp_path: Path
) -> None:
    early = structured_report(findings[:1], headers()[:2], facts)
    late = structured_report(findings[:1], headers(), facts, predecessor=early)
    [study] = late.PredecessorDocumentsSequence
    [series] = study.ReferencedSeriesSequence
    [before] = series.ReferencedSOPSequence
    assert before.ReferencedSOPInstanceUID == early.SOPInstanceUID != late.SOPInstanceUID
    assert late.SeriesInstanceUID == early.SeriesInstanceUID and late.InstanceNumber == 2
    tracking = [[item.value for item in each.iterall() if item.keyword == "UID"] for each in (early, late)]
    assert len(tracking[0]) == 2 and tracking[0] == tracking[1]  # of the device, and of the finding
    bytes_of(late, tmp_path / "sr.dcm")
    assert dciodvfy(tmp_path / "sr.dcm") == []
    with pytest.raises(ResultError, match="of another study"):
        structured_report(findings, headers(StudyInstanceUID="1.9"), facts, predecessor=early)


def test_our_own_results_are_told_from_scans(findings: list[Finding], headers: Make, facts: ResultFacts) -> None:
    report = structured_report(findings[:1], headers(), facts)
    assert is_own_result(report) and not is_own_result(headers()[0])
    report.Manufacturer = "Another"
    assert not is_own_result(report)


def test_what_can_be_refused_early_is(
    findings: list[Finding], headers: Make, facts: ResultFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="--sr pdf: expected comprehensive3d or comprehensive"):
        structured_report(findings, headers(), facts, "pdf")  # type: ignore[arg-type]
    with pytest.raises(ResultError, match="has no findings"):
        structured_report([], headers(), facts)
    with pytest.raises(ResultError, match="there is none"):
        structured_report(findings, [], facts)
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(MissingDependencyError, match=re.escape("pip install 'molre-edge[dicom]'")):
        structured_report(findings, headers(), facts)


def test_names_in_other_scripts_of_findings_are_kept(headers: Make, facts: ResultFacts, tmp_path: Path) -> None:
    report = structured_report([Finding("Hämatom", 0.1, 0.5), Finding("血腫", 0.2, 0.5)], headers(), facts)
    bytes_of(report, tmp_path / "sr.dcm")
    read = pydicom.dcmread(tmp_path / "sr.dcm")
    assert read.SpecificCharacterSet == "ISO_IR 192"
    assert "血腫" in words_of(read) and "Hämatom" in words_of(read)
