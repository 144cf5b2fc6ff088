"""Findings and headers that DICOM results are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

from molre_edge.dicom_results.facts import ResultFacts
from molre_edge.runs.scan_findings import Finding


@pytest.fixture(scope="session")
def facts() -> ResultFacts:
    return ResultFacts(bundle="ab" * 32, engine="onnxruntime:fp32", version="1.2.3")


@pytest.fixture(scope="session")
def findings() -> list[Finding]:
    """One that is present, one absent, one without an answer, and one that the project does not know."""
    return [
        Finding("subdural_hemorrhage", 0.8123456789012345, 0.5),
        Finding("hydrocephalus", 0.1, 0.25),
        Finding("midline_shift", None, 0.5),
        Finding("my_finding", 0.5, 0.5),
    ]


@pytest.fixture
def headers() -> Callable[..., list[Dataset]]:
    """Headers of three slices of a study; keyword arguments replace attributes, None removes one."""

    def make(**changes: Any) -> list[Dataset]:
        found = []
        for number in range(1, 4):
            header = Dataset()
            values = {
                "SOPClassUID": CTImageStorage,
                "SOPInstanceUID": f"1.2.3.4.{number}",
                "StudyInstanceUID": "1.2.3",
                "SeriesInstanceUID": "1.2.3.4",
                "PatientName": "Doe^Jane",
                "PatientID": "P-1",
                "PatientBirthDate": "19500102",
                "PatientSex": "F",
                "StudyDate": "20240305",
                "StudyTime": "101112",
                "ContentDate": "20240305",
                "ContentTime": f"10300{number}.5",
                "StudyID": "S1",
                "AccessionNumber": "A1",
                "ReferringPhysicianName": "Roe^Richard",
                "StudyDescription": "CT HEAD",
                **changes,
            }
            for name, value in values.items():
                if value is not None:
                    setattr(header, name, value)
            found.append(header)
        return found

    return make
