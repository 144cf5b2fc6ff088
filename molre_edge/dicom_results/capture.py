"""A page with the positive findings as a secondary capture, for viewers that show no structured report.

Patient and study are in the header alone; the page itself shows neither. Source: DICOM PS3.3 A.8.1.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from molre_edge.dicom_results.facts import MAKER, FindingRow, ResultFacts, check_extra
from molre_edge.dicom_results.identity import character_set, study_of
from molre_edge.dicom_results.objects import identifiers, maker, seal
from molre_edge.scans.quiet import quietly
from molre_edge.specs import DISCLAIMER

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["page", "secondary_capture"]

_SERIES_NUMBER = 9902
_DESCRIPTION = "MoLRE head CT positive findings (research)"
_WIDTH, _HEIGHT, _MARGIN = 1024, 768, 32
_LARGE, _SMALL = 22, 15
_COLUMNS = (0, 640, 800)
_WRAP = 120
_INK, _PALE = 255, 176
_OF_A_PAGE = {
    "PatientOrientation": "",  # text lies in no direction of the patient
    "ConversionType": "WSD",
    "BodyPartExamined": "HEAD",
    "BurnedInAnnotation": "NO",
}


def secondary_capture(
    findings: Iterable[FindingRow],
    source_headers: Sequence[Dataset],
    facts: ResultFacts,
    *,
    predecessor: Dataset | None = None,
    frames: Sequence[tuple[int, ...]] = (),
    notes: Sequence[str] = (),
) -> Dataset:
    """The positive findings as one image, grey, 8 bits. UIDs and time as :func:`structured_report` gives them.

    Args:
        findings: all of the model's.
        source_headers: of all images of the answered series.
        facts: who answered.
        predecessor: the capture that this one follows, if the study has more images now.
        frames: of each source, the frames that were used.
        notes: what a reader should know about the scan, without identifiers.

    Returns:
        The data set with its file meta information; explicit VR little endian.

    Raises:
        MissingDependencyError: the extra ``dicom`` is not installed.
        ResultError: no valid capture can be made for this source; its code says why.
    """
    check_extra()
    from highdicom.sc import SCImage

    pixels = page(tuple(findings), facts, notes)
    with quietly():
        study = study_of(source_headers)
        ids = identifiers(study, facts, "capture", frames, predecessor)
        charset = character_set(study, ())
        capture: Dataset = SCImage(
            pixel_array=pixels,
            photometric_interpretation="MONOCHROME2",
            bits_allocated=8,
            coordinate_system="PATIENT",
            patient_orientation=("L", "P"),
            study_instance_uid=study.uid,
            series_instance_uid=ids.series,
            series_number=_SERIES_NUMBER,
            sop_instance_uid=ids.instance,
            instance_number=ids.number,
            series_description=_DESCRIPTION,
            **maker(facts),
        )
        seal(capture, study, charset)
        for name, value in _OF_A_PAGE.items():
            setattr(capture, name, value)
    return capture


def page(rows: Sequence[FindingRow], facts: ResultFacts, notes: Sequence[str] = ()) -> npt.NDArray[np.uint8]:
    """Draw the page.

    Args:
        rows: all findings.
        facts: who answered.
        notes: lines on the scan.

    Returns:
        uint8 [rows, columns], light on black; taller where more findings are positive.
    """
    from PIL import Image, ImageDraw, ImageFont

    lines = list(_lines(rows, facts, notes))
    height = max(_HEIGHT, 2 * _MARGIN + sum(_step(size) for size, _, _ in lines))
    image = Image.new("L", (_WIDTH, height))
    draw = ImageDraw.Draw(image)
    fonts = {size: ImageFont.load_default(size) for size in (_LARGE, _SMALL)}
    at = _MARGIN
    for size, ink, cells in lines:
        for left, cell in zip(_COLUMNS, cells, strict=False):
            draw.text((_MARGIN + left, at), cell, fill=ink, font=fonts[size])
        at += _step(size)
    return np.asarray(image, dtype=np.uint8)


def _step(size: int) -> int:
    return size * 3 // 2


_Line = tuple[int, int, tuple[str, ...]]
"""Size of its letters, how light they are, and its cells."""


def _lines(rows: Sequence[FindingRow], facts: ResultFacts, notes: Sequence[str]) -> Iterable[_Line]:
    positive = [row for row in rows if row.positive]
    unknown = sum(row.positive is None for row in rows)
    yield _LARGE, _INK, ("MoLRE head CT findings - RESEARCH",)
    yield _SMALL, _INK, ("Preliminary and unverified.",)
    yield from _wrapped(DISCLAIMER, _INK)
    yield _SMALL, _INK, ("",)
    yield _LARGE, _INK, (f"{len(positive)} of {len(rows)} findings reach their threshold",)
    if positive:
        yield _SMALL, _PALE, ("finding", "probability", "threshold")
    else:
        yield _SMALL, _INK, ("This does not mean that the scan is normal.",)
    for row in positive:
        name = textwrap.shorten(row.name.replace("_", " "), 70, placeholder=" ...")
        yield _SMALL, _INK, (name, f"{row.probability:.3f}", f"{row.threshold:.3f}")
    if unknown:
        yield _SMALL, _INK, (f"{unknown} findings have no answer: the engine did not return a number.",)
    yield _SMALL, _INK, ("",)
    for note in notes:
        yield from _wrapped(f"Note: {note}", _INK)
    for line in (f"{MAKER} {facts.version}", *facts.lines):
        yield _SMALL, _PALE, (line,)


def _wrapped(text: str, ink: int) -> Iterable[_Line]:
    for line in textwrap.wrap(text, _WRAP):
        yield _SMALL, ink, (line,)
