"""The page lists what is positive, says what it is, and shows no patient."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from pydicom.dataset import Dataset

from molre_edge.dicom_results.capture import _lines, page, secondary_capture
from molre_edge.dicom_results.facts import ResultFacts
from molre_edge.dicom_results.objects import is_own_result
from molre_edge.runs.scan_findings import Finding
from molre_edge.specs import DISCLAIMER

Make = Callable[..., list[Dataset]]


def texts(findings: list[Finding], facts: ResultFacts, *notes: str) -> str:
    return "\n".join(" ".join(cells) for _, _, cells in _lines(findings, facts, notes))


def test_it_lists_the_positive_findings_with_their_numbers(findings: list[Finding], facts: ResultFacts) -> None:
    said = texts(findings, facts, "slices are far apart")
    assert "2 of 4 findings reach their threshold" in said
    assert "subdural hemorrhage 0.812 0.500" in said and "my finding 0.500 0.500" in said
    assert "hydrocephalus" not in said
    assert "1 findings have no answer" in said and "Note: slices are far apart" in said
    assert DISCLAIMER in said and "RESEARCH" in said and f"bundle sha256:{facts.bundle}" in said


def test_no_positive_finding_is_not_called_normal(facts: ResultFacts) -> None:
    said = texts([Finding("hydrocephalus", 0.1, 0.25)], facts)
    assert "0 of 1 findings reach" in said and "does not mean that the scan is normal" in said


def test_the_page_grows_with_its_lines(facts: ResultFacts) -> None:
    short = page([Finding("a", 0.9, 0.5)], facts)
    long = page([Finding(f"finding_{i}", 0.9, 0.5) for i in range(75)], facts)
    assert short.shape == (768, 1024) and long.shape[0] > 1800 and long.dtype == np.uint8
    assert long[-100:].any()  # the last lines are on it


def test_it_is_an_image_of_the_study_and_the_same_when_made_again(
    findings: list[Finding], headers: Make, facts: ResultFacts
) -> None:
    capture = secondary_capture(findings, headers(), facts)
    again = secondary_capture(findings, headers(), facts)
    assert capture == again
    assert (capture.StudyInstanceUID, capture.PatientID) == ("1.2.3", "P-1")
    assert capture.BurnedInAnnotation == "NO" and "research" in capture.SeriesDescription
    assert is_own_result(capture)
    assert np.array_equal(capture.pixel_array, page(findings, facts))
    later = secondary_capture(findings, headers(), facts, predecessor=capture)
    assert later.InstanceNumber == 2 and later.SeriesInstanceUID == capture.SeriesInstanceUID
