"""Odd headers give a valid result or a refusal that names what is wrong; nothing else."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from dicom_fixtures import Errors
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from molre_edge.dicom_results.capture import secondary_capture
from molre_edge.dicom_results.facts import ResultError, ResultFacts
from molre_edge.dicom_results.identity import study_of
from molre_edge.dicom_results.report import structured_report
from molre_edge.runs.scan_findings import Finding

Make = Callable[..., list[Dataset]]

EMPTY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName", "StudyDescription",
)  # fmt: skip


def read_again(headers: list[Dataset]) -> list[Dataset]:
    """As files would give them: encoded in their character set."""
    found = []
    for header in headers:
        stream = io.BytesIO()
        pydicom.dcmwrite(stream, header, implicit_vr=False, little_endian=True)
        stream.seek(0)
        found.append(pydicom.dcmread(stream, force=True))
    return found


def code_item() -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "113100", "DCM", "Basic Profile"
    return item


ODD: dict[str, dict[str, Any]] = {
    "nothing but UIDs": dict.fromkeys((*EMPTY, "ContentDate", "ContentTime")),
    "all empty": dict.fromkeys((*EMPTY, "ContentDate", "ContentTime"), ""),
    "no birth date": {"PatientBirthDate": None},
    "no study ID": {"StudyID": None},
    "impossible dates": {"PatientBirthDate": "00000000", "StudyDate": "20241399", "ContentDate": "today"},
    "dates with dots, times with colons": {"StudyDate": "2024.03.05", "StudyTime": "10:11:12"},
    "an unknown sex": {"PatientSex": "X"},
    "long texts": {"StudyID": "S" * 40, "AccessionNumber": "A" * 17, "StudyDescription": "D" * 80},
    "a name of one word": {"PatientName": "ANONYMOUS"},
    "de-identified, no method": {"PatientIdentityRemoved": "YES", "DeidentificationMethod": ""},
    "de-identified by a text": {"PatientIdentityRemoved": "YES", "DeidentificationMethod": "by hand"},
    "de-identified by codes": {
        "PatientIdentityRemoved": "YES",
        "DeidentificationMethodCodeSequence": Sequence([code_item(), Dataset()]),
    },
    "Latin letters": {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller^Jürgen"},
    "Latin letters, undeclared": {"PatientName": "Müller^Jürgen"},
    "Greek": {"SpecificCharacterSet": "ISO_IR 126", "PatientName": "Διονυσιος"},
    "Japanese": {
        "SpecificCharacterSet": ["", "ISO 2022 IR 87"],
        "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    },
    "Chinese": {"SpecificCharacterSet": "GB18030", "PatientName": "Wang^XiaoDong=王^小东"},
    "UTF-8": {"SpecificCharacterSet": "ISO_IR 192", "PatientName": "Łukasz^Żółć", "StudyDescription": "głowa"},
    "Enhanced multi-frame": {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2.1"},
    "legacy converted": {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2.2"},
}


@pytest.mark.filterwarnings("ignore")  # pydicom warns when such headers are written
@pytest.mark.parametrize("odd", ODD)
def test_an_odd_header_still_gives_a_valid_report_and_capture(
    odd: str, findings: list[Finding], headers: Make, facts: ResultFacts, dciodvfy: Errors, tmp_path: Path
) -> None:
    sources = read_again(headers(**ODD[odd]))
    name = str(sources[0].get("PatientName", ""))
    for make in (structured_report, secondary_capture):
        path = tmp_path / f"{make.__name__}.dcm"
        make(findings[:1], sources, facts).save_as(path, enforce_file_format=True)
        assert dciodvfy(path) == []
        assert str(pydicom.dcmread(path).PatientName) == name


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "no study": ({"StudyInstanceUID": None}, "no_uids", "StudyInstanceUID is missing"),
    "no series": ({"SeriesInstanceUID": ""}, "no_uids", "SeriesInstanceUID is missing"),
    "no instance": ({"SOPInstanceUID": None}, "no_uids", "SOPInstanceUID is missing"),
    "no class": ({"SOPClassUID": None}, "no_uids", "SOPClassUID is missing"),
    "a UID of letters": ({"StudyInstanceUID": "1.2.x"}, "invalid_uids", "StudyInstanceUID of an image is not a UID"),
    "a UID with a leading zero": ({"SOPInstanceUID": "1.02.3"}, "invalid_uids", "SOPInstanceUID of an image"),
    "a long UID": ({"SeriesInstanceUID": "1." + "2" * 64}, "invalid_uids", "SeriesInstanceUID of an image"),
    "a long patient ID": ({"PatientID": "P" * 65}, "invalid_identity", "PatientID is too long"),
    "several names": ({"PatientName": ["A^B", "C^D"]}, "invalid_identity", "PatientName is too long, has several"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", REFUSED)
def test_what_no_valid_result_can_refer_to_is_refused_by_name(
    case: str, findings: list[Finding], headers: Make, facts: ResultFacts
) -> None:
    changes, code, words = REFUSED[case]
    for make in (structured_report, secondary_capture):
        with pytest.raises(ResultError, match=words) as refused:
            make(findings[:1], headers(**changes), facts)
        assert refused.value.code == code
        assert "1.2.3" not in str(refused.value) and "PPP" not in str(refused.value)


def test_a_name_that_is_not_in_its_own_character_set_is_refused(headers: Make) -> None:
    stream = io.BytesIO()
    [header, *_] = headers(SpecificCharacterSet="ISO_IR 100", PatientName="Müller")
    pydicom.dcmwrite(stream, header, implicit_vr=False, little_endian=True)
    lies = stream.getvalue().replace(b"ISO_IR 100", b"ISO_IR 192")
    raw = pydicom.dcmread(io.BytesIO(lies), force=True)
    with pytest.warns(UserWarning), pytest.raises(ResultError, match="not in the character set") as refused:
        study_of([raw])
    assert refused.value.code == "invalid_identity"


def test_images_of_two_studies_are_refused(headers: Make) -> None:
    mixed = [*headers()[:2], *headers(StudyInstanceUID="1.9")[2:]]
    with pytest.raises(ResultError, match="several studies") as refused:
        study_of(mixed)
    assert refused.value.code == "mixed_studies"


@pytest.mark.filterwarnings("ignore")
def test_a_text_that_does_not_fit_is_left_out_and_an_old_form_is_brought_up(headers: Make) -> None:
    study = study_of(
        headers(StudyDate="2024.03.05", StudyTime="10:11:12.25", PatientAge="070Y", ReferringPhysicianName="^" * 9)
    )
    assert (study.values["StudyDate"], study.values["StudyTime"]) == ("20240305", "101112.25")
    assert study.values["PatientAge"] == "070Y"
    assert "ReferringPhysicianName" not in study.values


def test_the_time_is_that_of_the_newest_image_by_the_most_exact_statement(headers: Make) -> None:
    assert str(study_of(headers()).made) == "2024-03-05 10:30:03"
    assert str(study_of(headers(ContentDate=None)).made) == "2024-03-05 10:11:12"
    assert study_of(headers(ContentDate=None, StudyDate=None)).made is None
