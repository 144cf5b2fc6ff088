"""Whose study a result belongs to: what a source says, cleaned so that the result is valid, or refused by name.

highdicom copies patient and study as they stand, with what is wrong in them, and fails where an attribute is absent.
So the result is made without them, and they are put into it here. Sources: DICOM PS3.3 C.7.1.1 (Patient), C.7.2.1
(General Study), C.7.2.2 (Patient Study); PS3.5 6.1 (character sets), 6.2 (values).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from molre_edge.dicom_results.facts import ResultError
from molre_edge.dicom_results.uids import is_uid
from molre_edge.scans.dicom_access import values_of

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["HEADER_TAGS", "Study", "character_set", "put_study", "study_of"]

_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_TIMES = (
    ("ContentDate", "ContentTime"),
    ("AcquisitionDate", "AcquisitionTime"),
    ("SeriesDate", "SeriesTime"),
    ("StudyDate", "StudyTime"),
)
"""Where an image says when it was made, the most exact first."""
_LENGTHS: Mapping[str, int] = {
    "PatientName": 64 * 3 + 2,
    "PatientID": 64,
    "IssuerOfPatientID": 64,
    "ReferringPhysicianName": 64 * 3 + 2,
    "StudyID": 16,
    "AccessionNumber": 16,
    "StudyDescription": 64,
}
"""Longest values: LO 64, SH 16, PN three groups of 64."""
_NEVER_DROPPED = ("PatientName", "PatientID")
_PATTERNS: Mapping[str, str] = {
    "PatientSex": "[MFO]",
    "PatientAge": "[0-9]{3}[DWMY]",
    "TimezoneOffsetFromUTC": "[+-][0-9]{4}",
}
_ALWAYS_THERE = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "ReferringPhysicianName",
    "StudyID", "AccessionNumber",
)  # fmt: skip
"""Type 2: empty if unknown, but there."""
HEADER_TAGS = (
    "SpecificCharacterSet", *_UIDS, *(name for pair in _TIMES for name in pair), *_LENGTHS, *_PATTERNS,
    "PatientBirthDate", "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence",
    "NumberOfFrames",
)  # fmt: skip
"""All that a result needs of an image's header."""

_LATIN_1, _UTF_8 = "ISO_IR 100", "ISO_IR 192"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_UNREADABLE = "\ufffd"  # what pydicom puts in place of bytes that are not of the declared character set
_MOST_COMPONENTS = 5


@dataclass(frozen=True)
class Study:
    """What a result takes from its sources.

    Attributes:
        uid: of the study.
        series: UID of the answered series.
        instances: (SOP class, SOP instance) of each image, in the order of the sources.
        values: keyword -> text (or texts) of patient and study; never empty.
        method_codes: (value, scheme, meaning) of the de-identification.
        charsets: character sets to try, the source's own first.
        made: the time of the newest image; None if no image names one.
    """

    uid: str
    series: str
    instances: tuple[tuple[str, str], ...]
    values: Mapping[str, str | list[str]]
    method_codes: tuple[tuple[str, str, str], ...]
    charsets: tuple[str | list[str], ...]
    made: datetime | None


def study_of(headers: Sequence[Dataset]) -> Study:
    """Read and check what a result needs.

    Args:
        headers: of all images of the answered series.

    Raises:
        ResultError: ``no_source``, ``no_uids``, ``invalid_uids``, ``mixed_studies`` or ``invalid_identity``.
    """
    if not headers:
        raise ResultError("no_source", "a result needs the headers of the images that it is about; there is none")
    uids = [_uids(header) for header in headers]
    if len({pair[:2] for pair in uids}) > 1:
        raise ResultError("mixed_studies", "the images are of several studies or series; a result is about one")
    study, series, _, _ = uids[0]
    first = headers[0]
    times = [time for header in headers if (time := _made(header)) is not None]
    values, codes = _values(first)
    return Study(
        uid=study,
        series=series,
        instances=tuple((sop_class, instance) for _, _, instance, sop_class in uids),
        values=values,
        method_codes=codes,
        charsets=_charsets(first),
        made=max(times, default=None),
    )


def _uids(header: Dataset) -> tuple[str, str, str, str]:
    """Study, series, instance and class."""
    study, series, instance, sop_class = (_plain(header.get(name)) for name in _UIDS)
    for name, value in zip(_UIDS, (study, series, instance, sop_class), strict=True):
        if not value:
            raise ResultError("no_uids", f"{name} is missing in an image, so no result can refer to it")
        if not is_uid(value):
            raise ResultError("invalid_uids", f"{name} of an image is not a UID (DICOM PS3.5 9.1): export it again")
    return study, series, instance, sop_class


def _plain(value: Any) -> str:
    """A single value as text, without what pads it; several values are none."""
    values = values_of(value)
    return _CONTROL.sub(" ", str(values[0])).strip() if len(values) == 1 else ""


def _made(header: Dataset) -> datetime | None:
    for date_name, time_name in _TIMES:
        date, time = _date(header.get(date_name)), _time(header.get(time_name))
        if date:
            return datetime.strptime(f"{date}{(time or '000000')[:6]}", "%Y%m%d%H%M%S")
    return None


def _date(value: Any) -> str:
    """A date as YYYYMMDD (the old form with dots too), else nothing."""
    text = _plain(value).replace(".", "")
    try:
        return text if re.fullmatch("[0-9]{8}", text) and datetime.strptime(text, "%Y%m%d") else ""
    except ValueError:
        return ""


def _time(value: Any) -> str:
    """A time as HHMMSS or HHMMSS.FFFFFF (the old form with colons too), else nothing."""
    whole, point, fraction = _plain(value).replace(":", "").partition(".")
    if not re.fullmatch("([0-9]{2}){1,3}", whole) or not re.fullmatch("[0-9]{0,6}", fraction):
        return ""
    whole = whole.ljust(6, "0")
    if int(whole[:2]) > 23 or int(whole[2:4]) > 59 or int(whole[4:]) > 59:
        return ""
    return f"{whole}{point}{fraction}" if fraction else whole


def _values(header: Dataset) -> tuple[dict[str, str | list[str]], tuple[tuple[str, str, str], ...]]:
    found: dict[str, str | list[str]] = {}
    for name, longest in _LENGTHS.items():
        if text := _text(header, name, longest):
            found[name] = text
    for name, pattern in _PATTERNS.items():
        if re.fullmatch(pattern, text := _plain(header.get(name)).upper()):
            found[name] = text
    for name, value in (
        ("PatientBirthDate", _date(header.get("PatientBirthDate"))),
        ("StudyDate", _date(header.get("StudyDate"))),
        ("StudyTime", _time(header.get("StudyTime"))),
    ):
        if value:
            found[name] = value
    removed = _plain(header.get("PatientIdentityRemoved")).upper()
    texts = (_CONTROL.sub(" ", str(each)).strip() for each in values_of(header.get("DeidentificationMethod")))
    methods = [text for text in texts if text and len(text) <= 64 and _UNREADABLE not in text]
    codes = tuple(_codes(header)) if removed == "YES" else ()
    if removed == "YES" and (methods or codes):  # without a method, "YES" is not valid
        found["PatientIdentityRemoved"] = removed
        if methods:
            found["DeidentificationMethod"] = methods
    elif removed == "NO":
        found["PatientIdentityRemoved"] = removed
    return found, codes


def _codes(header: Dataset) -> Iterable[tuple[str, str, str]]:
    for item in header.get("DeidentificationMethodCodeSequence") or ():
        names = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
        value, scheme, meaning = (_plain(item.get(name)) for name in names)
        if value and scheme and meaning and _UNREADABLE not in meaning and len(value) <= 16 and len(meaning) <= 64:
            yield value, scheme[:16], meaning


def _text(header: Dataset, name: str, longest: int) -> str:
    """A text as the source has it, or nothing if a result can't carry it. Name and ID are never silently dropped.

    Raises:
        ResultError: ``invalid_identity``.
    """
    values = values_of(header.get(name))
    text = _CONTROL.sub(" ", str(values[0])).strip() if len(values) == 1 else ""
    groups = text.split("=") if name.endswith("Name") else []
    fits = len(values) <= 1 and len(text) <= longest and _UNREADABLE not in text and "\\" not in text
    fits = fits and len(groups) <= 3 and all(len(part) <= 64 and part.count("^") < _MOST_COMPONENTS for part in groups)
    if fits:
        return text
    if name in _NEVER_DROPPED:
        raise ResultError(
            "invalid_identity",
            f"{name} is too long, has several values, or is not in the character set that the header declares; a "
            "result with another one could be filed under another patient: correct it at the source",
        )
    return ""


def _charsets(header: Dataset) -> tuple[str | list[str], ...]:
    """The source's own character set first, so that an old PACS that took the images takes the result too."""
    declared = [str(value) for value in values_of(header.get("SpecificCharacterSet"))]
    own: str | list[str] = declared[0] if len(declared) == 1 else declared
    return (own if any(declared) else _LATIN_1, _UTF_8)  # undeclared bytes are read as Latin-1


def character_set(study: Study, texts: Iterable[str]) -> str | list[str] | None:
    """The character set of a result: the first that holds all texts; None if ASCII does.

    Args:
        study: of the result.
        texts: all that the result says besides the study's values.

    Raises:
        ResultError: ``invalid_identity``: none does.
    """
    values = (value if isinstance(value, str) else "\\".join(value) for value in study.values.values())
    every = [*values, *(meaning for _, _, meaning in study.method_codes), *texts]
    if all(text.isascii() for text in every):
        return None
    for charset in study.charsets:
        if all(_holds(charset, text) for text in every):
            return charset
    raise ResultError("invalid_identity", "the names in the header are in no character set that a result can have")


def _holds(charset: str | list[str], text: str) -> bool:
    from pydicom.charset import convert_encodings, decode_bytes, encode_string
    from pydicom.valuerep import PN_DELIMS

    try:
        encodings = convert_encodings(charset)
        return decode_bytes(encode_string(text, encodings), encodings, PN_DELIMS) == text
    except (UnicodeError, LookupError, ValueError):
        return False


def put_study(result: Dataset, study: Study, charset: str | list[str] | None) -> None:
    """Make a result one of the patient and study."""
    from pydicom.dataset import Dataset

    if charset is None:
        result.pop("SpecificCharacterSet", None)
    else:
        result.SpecificCharacterSet = charset
    for name in _ALWAYS_THERE:
        setattr(result, name, study.values.get(name, ""))
    for name, value in study.values.items():
        setattr(result, name, value)
    if study.method_codes:
        items = []
        for value, scheme, meaning in study.method_codes:
            item = Dataset()
            item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
            items.append(item)
        result.DeidentificationMethodCodeSequence = items
