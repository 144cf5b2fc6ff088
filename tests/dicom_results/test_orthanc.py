"""Orthanc, a PACS of others, stores a report and a page that DCMTK or the node sends, and gives them back."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from real_orthanc import DICOMWEB, ORTHANC, get, started

from molre_edge.dicom_results.facts import ResultFacts
from molre_edge.dicom_results.write import write_results
from molre_edge.node.configuration import Destination
from molre_edge.node.sending import Refused, echo, open_sender
from molre_edge.runs.scan_findings import Finding

STORESCU = Path("/usr/bin/storescu")  # by path: pynetdicom has a storescu too
_SECONDS = 120

pytestmark = pytest.mark.skipif(
    not (ORTHANC.is_file() and STORESCU.is_file()), reason="needs apt-get install orthanc dcmtk"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """One for all tests, since it takes seconds to end; with DICOMweb if the plug-in is installed."""
    with started(tmp_path_factory.mktemp("pacs"), Plugins=[str(DICOMWEB)] if DICOMWEB.is_file() else []) as there:
        yield there


@pytest.fixture
def orthanc(server: tuple[str, int]) -> Iterator[tuple[str, int]]:
    """An empty one: its address for people, and its port for DICOM."""
    url, port = server
    yield url, port
    for study in json.loads(get(f"{url}/studies")):
        request = urllib.request.Request(f"{url}/studies/{study}", method="DELETE")
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=_SECONDS).close()


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
    check_kept(url, made, tmp_path)


def check_kept(url: str, made: Sequence[Path], folder: Path) -> None:
    """Orthanc has these objects of one study and no others, value for value."""
    [study] = [json.loads(get(f"{url}/studies/{each}")) for each in json.loads(get(f"{url}/studies"))]
    assert study["MainDicomTags"]["StudyInstanceUID"] == "1.2.3"
    kept: dict[str, Any] = {}
    for instance in json.loads(get(f"{url}/instances")):
        (folder / "back.dcm").write_bytes(get(f"{url}/instances/{instance}/file"))
        back = pydicom.dcmread(folder / "back.dcm")
        kept[back.SOPInstanceUID] = back
    assert kept == {each.SOPInstanceUID: each for each in map(pydicom.dcmread, made)}


@pytest.mark.skipif(not DICOMWEB.is_file(), reason="needs apt-get install orthanc-dicomweb")
def test_a_dicomweb_server_takes_both_by_stow_and_an_object_that_it_refuses_is_told_apart(
    orthanc: tuple[str, int],
    findings: list[Finding],
    headers: Callable[..., list[Dataset]],
    facts: ResultFacts,
    tmp_path: Path,
) -> None:
    url, _ = orthanc
    made = write_results(findings, headers(), facts, tmp_path / "dicom", "scan-a", capture=True)
    (tmp_path / "cut.dcm").write_bytes(made[0].read_bytes()[:200])
    web = Destination(name="web", kind="stow", url=f"{url}/dicom-web")
    echo(web)
    with open_sender(web) as send:
        send(made[0])
        with pytest.raises(Refused, match="HTTP 400"):
            send(tmp_path / "cut.dcm")
        for path in made:  # the report twice: it is the same object
            send(path)
    check_kept(url, made, tmp_path)
    found = json.loads(get(f"{url}/dicom-web/studies/1.2.3/instances"))
    assert sorted(each["00080060"]["Value"][0] for each in found) == ["OT", "SR"]
    elsewhere = Destination(name="web", kind="stow", url=f"{url}/no-such-place")
    with open_sender(elsewhere) as send, pytest.raises(Refused, match="HTTP 404"):
        send(made[0])
