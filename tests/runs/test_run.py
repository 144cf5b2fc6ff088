"""A run over real small files: every scan is answered or named with its reason, and the results say so."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest

from molre_edge.bundle.bundle import Bundle
from molre_edge.engines.onnxruntime_runner import OnnxRuntimeRunner
from molre_edge.errors import BundleError, RunError, ScanError
from molre_edge.parity import Outputs
from molre_edge.reports.waiting import WAITS
from molre_edge.runs.interrupt import finish_first
from molre_edge.runs.labels import LabelTable
from molre_edge.runs.reference import Reference
from molre_edge.runs.scan_ids import IdSecret
from molre_edge.runs.store import RunStore, Task
from molre_edge.runs.timing import ENGINE_PHASES
from molre_edge.scans import find_scans, read_scan, to_grid

Run = Callable[..., Any]
CHECKPOINT = Reference("checkpoint", "the model itself")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_block_of_water(path: Path) -> None:
    """Its header is that of a head; only its content shows that it is none."""
    image = nibabel.Nifti1Image(np.zeros((96, 96, 30), dtype=np.int16), np.diag([2.4, 2.4, 5.0, 1.0]))
    nibabel.save(image, path)


@pytest.fixture
def mixed(tiny_scans: Path, tmp_path: Path) -> Path:
    """A good head, a block of water and a text."""
    folder = tmp_path / "mixed"
    shutil.copytree(tiny_scans / "head-2", folder / "good")
    write_block_of_water(folder / "water.nii.gz")
    (folder / "notes.txt").write_text("nothing")
    return folder


def test_every_scan_gets_the_answers_that_the_runner_gives_to_its_volume(
    run: Run, tiny_scans: Path, bundle: Bundle, runner: OnnxRuntimeRunner
) -> None:
    result = run(tiny_scans)
    assert (len(result.scans), result.rejected, result.exit_code) == (4, (), 0)
    found = {row["scan"]: row for row in rows(result.folder / "findings.csv")}
    paths = {row["path"]: row["scan"] for row in rows(result.folder / "scans.csv")}
    for source in find_scans(tiny_scans).scans:
        answer = runner.run(to_grid(read_scan(source), bundle.grid)[None]).outputs.probabilities[0]
        row = found[paths[source.path.name]]
        assert [row[name] for name in bundle.findings] == [f"{p:.6f}" for p in answer]
        positive = [n for n, p, t in zip(bundle.findings, answer, bundle.thresholds, strict=True) if p >= t]
        assert row["positive"].split() == positive


def test_json_lines_say_the_same_as_the_table_with_thresholds_and_gates(
    run: Run, tiny_scans: Path, bundle: Bundle
) -> None:
    result = run(tiny_scans)
    table = {row["scan"]: row for row in rows(result.folder / "findings.csv")}
    for line in lines(result.folder / "findings.jsonl"):
        row = table[line["scan"]]
        assert {n: f"{v['probability']:.6f}" for n, v in line["findings"].items()} == {
            n: row[n] for n in bundle.findings
        }
        assert [n for n, v in line["findings"].items() if v["positive"]] == row["positive"].split()
        assert np.allclose([v["threshold"] for v in line["findings"].values()], bundle.thresholds)
        assert line["bundle"] == bundle.digest
        assert np.asarray(line["gates"]).shape == (2, 3)
        assert np.allclose(np.sum(line["gates"], axis=1), 1, atol=1e-5)
        assert line["milliseconds"].keys() == ENGINE_PHASES.keys()
        assert "not a diagnosis" in line["disclaimer"]


def test_a_bad_scan_is_named_with_its_reason_and_the_rest_goes_on(run: Run, mixed: Path, told: Any) -> None:
    result = run(mixed)
    assert (len(result.scans), result.exit_code) == (1, 4)
    [bad] = result.rejected
    scan, code, reason = bad.scan, bad.code, bad.reason
    assert code == "no_brain_tissue" or code == "no_tissue" or code == "not_hounsfield"
    table = {row["path"]: row for row in rows(result.folder / "scans.csv")}
    assert (table["water.nii.gz"]["scan"], table["water.nii.gz"]["status"]) == (scan, "rejected")
    assert (table["water.nii.gz"]["code"], table["water.nii.gz"]["reason"]) == (code, reason)
    assert (table["notes.txt"]["status"], table["good"]["status"]) == ("ignored", "done")
    report = json.loads((result.folder / "report.json").read_text())
    assert report["failed"] == [{"scan": scan, "code": code, "reason": reason}]
    assert told.warnings == [f"{scan} cannot be used: {reason}"]
    assert told.counts == [(0, 2, "scans"), (1, 2, "scans"), (2, 2, "scans")]


def test_a_folder_without_any_image_is_no_run(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "nothing"
    folder.mkdir()
    (folder / "notes.txt").write_text("nothing")
    with pytest.raises(RunError, match=r"nothing: contains no head CT in DICOM or NIfTI \(files there: 1 not_a_scan"):
        run(folder)


def test_a_run_in_which_no_scan_can_be_used_leaves_all_its_files_and_says_so(run: Run, mixed: Path) -> None:
    shutil.rmtree(mixed / "good")
    result = run(mixed)
    assert (list(result.scans), result.exit_code, result.meaning) == ([], 1, "no scan could be used")
    assert "not_hounsfield" in [row["code"] for row in rows(result.folder / "scans.csv")]
    assert rows(result.folder / "findings.csv") == []
    names = {path.name for path in result.folder.iterdir()}
    assert {"findings.jsonl", "timing.json", "report.json", "report.html", "run.json"} <= names


def test_a_file_that_was_named_and_is_no_scan_is_rejected(run: Run, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    result = run(tmp_path / "notes.txt")
    assert [each.code for each in result.rejected] == ["not_a_scan"]
    assert result.exit_code == 1


def test_an_engine_that_answers_otherwise_fails_parity_and_that_beats_a_bad_scan(
    run: Run, mixed: Path, altered: Any
) -> None:
    result = run(mixed, runner=altered(lambda o: replace(o, logits=o.logits + 0.5)))
    assert result.rejected and len(result.scans)
    assert not result.verdict.passed
    assert result.exit_code == 3


def test_answers_that_are_no_numbers_are_neither_yes_nor_no_and_fail_parity(
    run: Run, tiny_scans: Path, altered: Any, bundle: Bundle
) -> None:
    def broken(outputs: Outputs) -> Outputs:
        logits = outputs.logits.copy()
        logits[:, 0], logits[:, 1] = np.nan, np.inf
        return replace(outputs, logits=logits)

    result = run(tiny_scans, runner=altered(broken))
    assert result.exit_code == 3
    assert "finite" in [check.name for check in result.verdict.failed]
    nothing, surely = bundle.findings[:2]
    for line in lines(result.folder / "findings.jsonl"):
        assert (line["findings"][nothing]["probability"], line["findings"][nothing]["positive"]) == (None, None)
        assert line["findings"][surely] == {**line["findings"][surely], "probability": 1.0, "positive": True}
    for row in rows(result.folder / "findings.csv"):
        assert row[nothing] == "" and nothing not in row["positive"].split()
    json.dumps(result.verdict.to_dict(), allow_nan=False)


def test_without_a_reference_nothing_is_judged(run: Run, tiny_scans: Path) -> None:
    result = run(tiny_scans, reference=Reference("none", "not asked for"))
    assert (result.numbers, result.verdict, result.exit_code) == (None, None, 0)
    report = json.loads((result.folder / "report.json").read_text())
    assert (report["verdict"], report["reference"]["kind"]) == (None, "none")


def test_the_reference_answers_the_same_volumes_and_its_time_is_told_first(
    run: Run, tiny_scans: Path, altered: Any, told: Any
) -> None:
    reference = altered(lambda o: o)
    counted: list[int] = []
    told.info = lambda text: (told.infos.append(text), counted.append(len(told.counts)))
    result = run(tiny_scans, reference=CHECKPOINT, reference_runner=reference)
    assert (result.numbers.n, result.verdict.passed) == (4, True)
    assert counted == [0, 0] and "The PyTorch reference adds about" in told.infos[1] and "for 4 scans" in told.infos[1]
    assert [row.who for row in result.timing if row.phase == "compute"] == [
        "onnxruntime:fp32",
        "onnxruntime:fp32 (reference)",
    ]


def test_the_reference_compares_as_many_scans_as_asked_for_and_bad_ones_do_not_count(
    run: Run, mixed: Path, tiny_scans: Path, altered: Any
) -> None:
    (mixed / "water.nii.gz").rename(mixed / "a-water.nii.gz")  # the first of the folder
    shutil.copytree(tiny_scans / "head-1", mixed / "second")
    result = run(mixed, reference=CHECKPOINT, reference_runner=altered(lambda o: o), reference_scans=1)
    assert (len(result.scans), result.numbers.n) == (2, 1)


def test_reference_scans_of_an_earlier_start_count(
    run: Run, tiny_scans: Path, altered: Any, tmp_path: Path, task: Task
) -> None:
    scans = tmp_path / "scans"
    shutil.copytree(tiny_scans / "head-1", scans / "a")
    first = run(scans, reference=CHECKPOINT, reference_runner=altered(lambda o: o), reference_scans=2)
    assert first.numbers.n == 1
    for name in ("head-2", "head-3"):
        shutil.copytree(tiny_scans / name, scans / name)
    again = RunStore.resume(first.folder, task)
    second = run(scans, again, reference=CHECKPOINT, reference_runner=altered(lambda o: o), reference_scans=2)
    assert (len(second.scans), second.numbers.n) == (3, 2)


def test_labels_bring_auc_into_the_report(run: Run, tiny_scans: Path, altered: Any, bundle: Bundle) -> None:
    names = ("head-1", "head-2", "head-3", "head-4.nii.gz")
    rows = tuple((i + 2, name, np.full(len(bundle.findings), i % 2, dtype=float)) for i, name in enumerate(names))
    table = LabelTable(Path("labels.csv"), rows)
    result = run(tiny_scans, reference=CHECKPOINT, reference_runner=altered(lambda o: o), labels=table)
    judged = {check.name: check.judged for check in result.verdict.checks}
    assert judged["mean_auc_drop"] and judged["finding_auc_drop"]
    assert not result.notes


def test_labels_that_can_not_be_used_are_told(run: Run, tiny_scans: Path, bundle: Bundle) -> None:
    table = LabelTable(Path("labels.csv"), ((2, "head-1", np.zeros(len(bundle.findings))),))
    [note] = run(tiny_scans, labels=table).notes
    assert "labels were not used" in note and "golden answers" in note


def test_times_hold_all_phases_and_those_of_a_scan_add_up_to_end_to_end(run: Run, tiny_scans: Path) -> None:
    result = run(tiny_scans)
    timing = json.loads((result.folder / "timing.json").read_text())
    assert timing["phases"]["onnxruntime:fp32"].keys() == ENGINE_PHASES.keys()
    assert timing["measured_on"]["engine"]["runtime"] == "ONNX Runtime"
    for line in lines(result.folder / "findings.jsonl"):
        parts = line["milliseconds"]
        interval, whole, waited, idle = (parts.pop(name) for name in ("interval", "end_to_end", *WAITS))
        assert min(parts.values()) >= 0 and whole == pytest.approx(sum(parts.values()))
        assert waited >= parts["read"] + parts["geometry"] and idle == 0  # without readers, the engine waits for all
        assert interval >= whole  # nothing overlaps without readers


def test_readers_change_nothing_in_the_results_but_the_times(
    run: Run, mixed: Path, tiny_scans: Path, tmp_path: Path, task: Task
) -> None:
    shutil.copytree(tiny_scans, mixed / "more")
    folders, secret = [], IdSecret.new()
    for readers in (0, 2):
        result = run(mixed, RunStore.create(tmp_path / f"with-{readers}", task, secret), readers=readers)
        assert (len(result.scans), len(result.rejected)) == (4, 1)  # good and more/head-2 are one series
        folders.append(result.folder)
    alone, ahead = folders
    for name in ("findings.csv", "scans.csv"):
        assert (alone / name).read_bytes() == (ahead / name).read_bytes()
    both = [[{**line, "milliseconds": {}} for line in lines(folder / "findings.jsonl")] for folder in folders]
    assert both[0] == both[1]
    for path in sorted((alone / "outputs").iterdir()):
        with np.load(path) as one, np.load(ahead / "outputs" / path.name) as other:
            assert set(one) == set(other)
            for name in set(one) - {"head"}:
                assert one[name].tobytes() == other[name].tobytes()
    measured = [json.loads((folder / "timing.json").read_text())["measured_on"]["readers"] for folder in folders]
    assert measured == [0, 2]


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt, also where whoever started the tests ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
def test_the_first_ctrl_c_finishes_the_scan_in_hand_and_the_run_goes_on_later(
    run: Run, tiny_scans: Path, altered: Any, told: Any, tmp_path: Path, task: Task
) -> None:
    def press(outputs: Outputs) -> Outputs:
        if pressing.asked == 3:  # the warm-up, a scan, and this one
            signal.raise_signal(signal.SIGINT)
        return outputs

    pressing = altered(press)
    with pytest.raises(KeyboardInterrupt):
        run(tiny_scans, runner=pressing, readers=1)
    assert told.stopped == 1
    assert told.counts[-1] == (2, 4, "scans")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    result = run(tiny_scans, RunStore.resume(tmp_path / "run", task))
    assert told.infos[-1] == "Scans: 2 to do, 2 done before"
    assert len(result.scans) == 4


@pytest.mark.usefixtures("_interruptible")
def test_the_second_ctrl_c_stops_at_once(run: Run, tiny_scans: Path, altered: Any, told: Any) -> None:
    def press(outputs: Outputs) -> Outputs:
        if pressing.asked == 2:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return outputs

    pressing = altered(press)
    with pytest.raises(KeyboardInterrupt):
        run(tiny_scans, runner=pressing)
    assert told.counts == [(0, 4, "scans")]


def test_nothing_is_written_before_scans_labels_and_bundle_are_in_order(
    run: Run, tiny_scans: Path, tiny_bundle: Path, tmp_path: Path, bundle: Bundle
) -> None:
    wrong = LabelTable(Path("labels.csv"), ((2, "nobody", np.zeros(len(bundle.findings))),))
    with pytest.raises(RunError, match="names a scan of this run"):
        run(tiny_scans, labels=wrong)
    with pytest.raises(ScanError, match="neither a file nor a folder"):
        run(tmp_path / "nowhere")
    copy = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, copy)
    with (copy / "golden" / "golden.npz").open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleError, match="altered"):
        run(tiny_scans, bundle=Bundle.open(copy))
    assert not (tmp_path / "run").exists()


SECOND = """
import signal, sys
from molre_edge.runs.interrupt import finish_first

number = getattr(signal, sys.argv[1])
signal.signal(number, signal.default_int_handler)
with finish_first(lambda: None) as asked:
    signal.raise_signal(number)
    print(asked(), flush=True)
    signal.raise_signal(number)
    print("still here")
"""


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", -15), ("SIGHUP", -1), ("SIGINT", -2)])
def test_the_second_signal_of_a_service_ends_the_process_at_once(name: str, code: int) -> None:
    done = subprocess.run([sys.executable, "-c", SECOND, name], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (code, "True\n")


def test_a_signal_that_somebody_else_handles_is_left_alone() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with finish_first(lambda: None) as asked:
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
            signal.raise_signal(signal.SIGTERM)
            assert not asked()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_study_whose_chosen_series_fails_keeps_its_path_and_tells_the_facts_of_the_one_that_was_read(
    run: Run, tiny_scans: Path, tmp_path: Path
) -> None:
    for number, name in enumerate(("chosen", "other")):
        shutil.copytree(tiny_scans / "head-2", tmp_path / "study" / name)
        for path in (tmp_path / "study" / name).iterdir():
            dataset = pydicom.dcmread(path)
            dataset.SeriesNumber, dataset.SeriesInstanceUID, dataset.ConvolutionKernel = number, f"1.2.{number}", name
            if name == "chosen":
                dataset.PixelData = bytes(len(dataset.PixelData))
            dataset.save_as(path)
    result = run(tmp_path)
    [scan] = [row for row in rows(result.folder / "scans.csv") if row["status"] == "done"]
    assert scan["path"] == "study/chosen"
    [line] = lines(result.folder / "findings.jsonl")
    assert line["scan_facts"]["kernel"] == "other"
    assert "series_replaced" in [warning["code"] for warning in line["warnings"]]
