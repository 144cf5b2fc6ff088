"""Orthanc, a PACS of others, stores a report and a page that DCMTK sends, and gives them back as they were."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from ports import free_port
from pydicom.dataset import Dataset

from molre_edge.dicom_results.facts import ResultFacts
from molre_edge.dicom_results.write import write_results
from molre_edge.runs.scan_findings import Finding

ORTHANC, STORESCU = Path("/usr/sbin/Orthanc"), Path("/usr/bin/storescu")  # by path: pynetdicom has a storescu too
_SECONDS = 120

pytestmark = pytest.mark.skipif(
    not (ORTHANC.is_file() and STORESCU.is_file()), reason="needs apt-get install orthanc dcmtk"
)


def get(url: str) -> bytes:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=_SECONDS) as answer:
        return bytes(answer.read())


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """A fresh one on loopback: its address for people, and its port for DICOM."""
    http, dicom = free_port(), free_port()
    settings = {
        "StorageDirectory": str(tmp_path / "store"),
        "IndexDirectory": str(tmp_path / "store"),
        "HttpPort": http,
        "DicomPort": dicom,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [],
        "DicomAlwaysAllowStore": True,
        "DicomCheckCalledAet": False,
    }
    (tmp_path / "orthanc.json").write_text(json.dumps(settings))
    with (tmp_path / "orthanc.log").open("wb") as log:
        process = subprocess.Popen([str(ORTHANC), str(tmp_path / "orthanc.json")], stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + _SECONDS
            while True:
                try:
                    get(f"http://127.0.0.1:{http}/system")
                    break
                except OSError:
                    assert process.poll() is None and time.monotonic() < deadline, (
                        tmp_path / "orthanc.log"
                    ).read_text()
                    time.sleep(0.05)
            yield f"http://127.0.0.1:{http}", dicom
        finally:
            process.terminate()
            process.wait(_SECONDS)


def test_a_pacs_stores_and_returns_both(
    orthanc: tuple[str, int],
    findings: list[Finding],
    headers: Callable[..., list[Dataset]],
    facts: ResultFacts,
    tmp_path: Path,
) -> None:
    url, port = orthanc
    made = write_results(findings, headers(), facts, tmp_path / "dicom", "scan-a", capture=True)
    for path in (*made, made[0]):  # the report twice: it is the same object
        send = [str(STORESCU), "--required", "127.0.0.1", str(port), str(path)]
        done = subprocess.run(send, capture_output=True, text=True, timeout=_SECONDS)
        assert done.returncode == 0, done.stderr
    [study] = [json.loads(get(f"{url}/studies/{each}")) for each in json.loads(get(f"{url}/studies"))]
    assert study["MainDicomTags"]["StudyInstanceUID"] == "1.2.3"
    kept: dict[str, Any] = {}
    for instance in json.loads(get(f"{url}/instances")):
        (tmp_path / "back.dcm").write_bytes(get(f"{url}/instances/{instance}/file"))
        back = pydicom.dcmread(tmp_path / "back.dcm")
        kept[back.SOPInstanceUID] = back
    assert kept == {each.SOPInstanceUID: each for each in map(pydicom.dcmread, made)}
