"""Images arrive, are answered, and their report is sent: store, worker and outbox together, with a tiny real model."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from node_images import Lines, Pacs, Quick, receive

from molre_edge import EngineError, ScanError, load_model
from molre_edge.dicom_results.facts import ResultError
from molre_edge.node import due
from molre_edge.node.configuration import NodeConfig, Results
from molre_edge.node.journal import Journal
from molre_edge.node.outbox import Outbox
from molre_edge.node.store import Store
from molre_edge.node.worker import Worker
from molre_edge.runs.loaded import LoadedModel


@pytest.fixture(scope="module")
def model(tiny_bundle: Path) -> Iterator[LoadedModel]:
    with load_model(tiny_bundle, "fp32", readers=0) as loaded:
        yield loaded


@pytest.fixture
def dicom_worker(config: NodeConfig, store: Store, journal: Journal, model: LoadedModel) -> Worker:
    return Worker(dataclasses.replace(config, study=Quick()), store, journal, model)


@pytest.fixture
def worker(config: NodeConfig, store: Store, journal: Journal, model: LoadedModel, monkeypatch: Any) -> Worker:
    """One that makes findings alone."""
    monkeypatch.setattr(due, "_PAUSES_SECONDS", (0.0,))
    plain = Results(sr="none", secondary_capture=False)
    return Worker(dataclasses.replace(config, study=Quick(), results=plain, destinations=()), store, journal, model)


class Model:
    """One that answers nothing yet."""

    def begin(self, path: Path) -> Any:
        return path

    def predict(self, path: Any) -> Any:
        raise NotImplementedError


def series(scans: Path, name: str = "head-2") -> list[Path]:
    return sorted((scans / name).iterdir())


def outcomes(store: Store) -> list[tuple[int, str, str]]:
    return [
        (row["version"], row["outcome"], row["code"])
        for row in store.rows("SELECT * FROM reports ORDER BY made, study, version")
    ]


def test_a_study_s_report_and_page_are_sent_once_and_a_late_image_makes_a_report_that_names_its_predecessor(
    config: NodeConfig, store: Store, dicom_worker: Worker, journal: Journal, tiny_scans: Path, pacs: Pacs, model: Any
) -> None:
    files = series(tiny_scans)
    outbox, (destination,) = Outbox(config.destinations, store, journal), config.destinations
    receive(store, files[:10])
    assert dicom_worker.step() and not dicom_worker.step()
    assert outbox.send_due(destination) and not outbox.send_due(destination)
    assert [each.Modality for each in pacs.got] == ["SR", "OT"]
    receive(store, files[10:])
    assert dicom_worker.step() and outbox.send_due(destination)
    first, second = pacs.reports
    named = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert named.ReferencedSOPInstanceUID == first.SOPInstanceUID != second.SOPInstanceUID
    assert "PredecessorDocumentsSequence" not in first
    pages = [each for each in pacs.got if each.Modality == "OT"]
    assert [int(page.InstanceNumber) for page in pages] == [1, 2]
    assert len({page.SeriesInstanceUID for page in pages}) == 1
    assert outcomes(store) == [(1, "answered", ""), (2, "answered", "")]
    said = [json.loads(path.read_text()) for path in sorted(store.folder.glob("reports/*/*/findings.json"))]
    assert [(each["version"], each["images"], each["follows"]) for each in said] == [(1, 10, None), (2, 12, 1)]
    direct = model.predict(tiny_scans / "head-2")
    assert said[1]["findings"] == json.loads(json.dumps(direct.to_dict()["findings"]))


def test_a_late_image_that_changes_nothing_of_what_was_read_makes_no_second_report(
    store: Store, worker: Worker, tiny_scans: Path, tmp_path: Path
) -> None:
    from pydicom import dcmread

    files = series(tiny_scans)
    receive(store, files)
    worker.step()
    scout = dcmread(files[0])
    scout.SOPInstanceUID = scout.file_meta.MediaStorageSOPInstanceUID = f"{scout.SOPInstanceUID[:60]}.7"
    scout.SeriesInstanceUID, scout.ImageType = f"{scout.SeriesInstanceUID[:60]}.7", ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    scout.save_as(tmp_path / "scout.dcm")
    receive(store, [tmp_path / "scout.dcm"])
    assert worker.step() and not worker.step()
    assert outcomes(store) == [(1, "answered", ""), (2, "unchanged", "")]


def test_a_study_that_can_t_be_used_is_concluded_with_its_code(
    store: Store, worker: Worker, lines: Lines, tiny_scans: Path, tmp_path: Path
) -> None:
    path = tmp_path / "cut.dcm"
    path.write_bytes(series(tiny_scans)[0].read_bytes()[:-3000])
    receive(store, [path])
    assert worker.step() and not worker.step()
    [(_, outcome, code)] = outcomes(store)
    assert outcome == "refused" and code
    assert f"refused study=1 version=1 images=1 code={code}" in lines.warned[-1]


def test_an_engine_that_fails_costs_no_study(
    config: NodeConfig, store: Store, worker: Worker, journal: Journal, lines: Lines, tiny_scans: Path, model: Any
) -> None:
    class Failing(Model):
        def predict(self, path: Any) -> Any:
            raise EngineError(f"out of memory in {path}")

    receive(store, series(tiny_scans))
    failing = Worker(worker._config, store, journal, Failing())
    assert failing.step() and failing.step()
    assert outcomes(store) == []
    assert "put_off study=1 version=1 attempt=2 error=EngineError" in lines.warned[-1]
    assert "out of memory" not in lines.warned[-1]
    assert worker.step()
    assert outcomes(store) == [(1, "answered", "")]


def test_a_bug_on_one_study_leaves_the_others(
    store: Store, worker: Worker, journal: Journal, lines: Lines, tiny_scans: Path
) -> None:
    class Buggy(Model):
        def predict(self, path: Any) -> Any:
            raise KeyError("Okonkwo^Adaeze")

    receive(store, series(tiny_scans))
    assert Worker(worker._config, store, journal, Buggy()).step()
    assert "error=KeyError" in lines.warned[-1] and "Okonkwo" not in lines.warned[-1]
    assert journal.counts()["bugs", ""] == 1
    assert worker.step()


def test_a_reader_that_was_ended_by_accident_costs_no_study(
    store: Store, journal: Journal, worker: Worker, tiny_scans: Path
) -> None:
    class Crashing(Model):
        def predict(self, path: Any) -> Any:
            raise ScanError("reader_crashed", "the reader ended")

    receive(store, series(tiny_scans))
    crashing = Worker(worker._config, store, journal, Crashing())
    assert crashing.step() and crashing.step() and outcomes(store) == []
    assert worker.step() and outcomes(store) == [(1, "answered", "")]
    store.receive("1.2.3", "1.2.3.1", b"anything")
    assert crashing.step() and crashing.step() and crashing.step() and not crashing.step()
    assert outcomes(store)[-1] == (1, "refused", "reader_crashed")


def test_a_result_that_fails_by_accident_costs_no_study(
    store: Store, worker: Worker, tiny_scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise ResultError("result_failed", "a bug in making it (MemoryError)")

    receive(store, series(tiny_scans))
    with monkeypatch.context() as patch:
        patch.setattr("molre_edge.node.worker.write_report", fails)
        assert worker.step() and worker.step() and outcomes(store) == []
        assert list(store.folder.rglob("*.partial")) == []
    assert worker.step() and outcomes(store) == [(1, "answered", "")]


def test_a_study_without_ct_that_can_be_used_has_a_code(store: Store, journal: Journal, worker: Worker) -> None:
    class Refusing(Model):
        def predict(self, path: Any) -> Any:
            raise ScanError("not_head", "no head")

    store.receive("1.2.3", "1.2.3.1", b"anything")
    Worker(worker._config, store, journal, Refusing()).step()
    assert outcomes(store) == [(1, "refused", "not_head")]
