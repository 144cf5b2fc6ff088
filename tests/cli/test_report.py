"""``molre-edge report``: a run's report made again from its stored answers, and several runs side by side."""

from __future__ import annotations

import base64
import csv
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from referencing import Registry, Resource

from molre_edge.bundle.bundle import Bundle
from molre_edge.errors import RunError
from molre_edge.locks import hold
from molre_edge.parity import Outputs
from molre_edge.runs.answers import read_record, write_record
from molre_edge.runs.folder_lock import FolderLock
from molre_edge.specs import DISCLAIMER

GOLDEN = ("--engine", "fp32", "--reference", "golden")
WIDE = (
    "[fp32]\nmax_abs_dp = 0.9\nmax_abs_dlogit = 900\nflip_margin_logit = 900\nmax_flips_fraction = 1\n"
    "min_cosine = -1.0\nmax_routing_l1 = 2.0\n"
)
Invoke = Callable[..., Any]


@pytest.fixture(scope="module")
def made(tiny_bundle: Path, tiny_scans: Path, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with four finished runs; tests copy what they change."""
    from molre_edge import infer_scans

    root = tmp_path_factory.mktemp("runs")
    names = [row.name for row in tiny_scans.iterdir()]
    findings = Bundle.open(tiny_bundle).findings
    with (tiny_scans.parent / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["scan", *findings[:2]])
        table.writerows([[f"scans/{name}", i % 2, ""] for i, name in enumerate(sorted(names))])
    for name, engine, reference, labels in (
        ("fp32", "fp32", str(tiny_checkpoint), tiny_scans.parent / "labels.csv"),
        ("fp16", "fp16", str(tiny_checkpoint), None),
        ("golden", "fp32", "golden", None),
        ("none", "fp32", "none", None),
    ):
        options = {"bundle": tiny_bundle, "reference": reference, "labels": labels, "id_secret": root / "ids.secret"}
        infer_scans(tiny_scans, engine, out=root / name, **options)
    return root


@pytest.fixture
def runs(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "runs"))


def data_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "report.json").read_text(encoding="utf-8")))


def disturb(run: Path, change: Callable[[Outputs], Outputs]) -> None:
    for path in sorted((run / "outputs").iterdir()):
        record = read_record(path, path.stem)
        write_record(path, replace(record, engine=change(record.engine)))


# ------------------------------------------------------------------------------------------------------------ one run


@pytest.mark.parametrize("name", ["fp32", "golden", "none"])
def test_the_same_report_is_made_again_from_stored_answers_alone(invoke: Invoke, runs: Path, name: str) -> None:
    files = ("report.json", "report.html", "junit.xml")
    before = [(runs / name / file).read_bytes() for file in files]
    for file in files[1:]:
        (runs / name / file).unlink()
    done = invoke("report", runs / name)
    assert done.exit_code == 0
    assert [(runs / name / file).read_bytes() for file in files] == before
    assert DISCLAIMER in " ".join(done.stdout.split())


def test_of_notes_on_what_was_not_finite_those_on_numbers_are_made_anew(invoke: Invoke, runs: Path) -> None:
    data = data_of(runs / "fp32")
    notes = [f"{where} is null because it was not a finite number" for where in ("timing[0].p90_ms", "verdict.x")]
    (runs / "fp32" / "report.json").write_text(json.dumps({**data, "notes": [*data["notes"], *notes]}))
    assert invoke("report", runs / "fp32").exit_code == 0
    assert data_of(runs / "fp32")["notes"] == [*data["notes"], notes[0]]


def test_other_gates_judge_the_same_numbers_and_a_failure_ends_with_3(invoke: Invoke, runs: Path) -> None:
    Path("tight.toml").write_text("[fp16]\nname = 'tight'\nmax_abs_dp = 1e-9\n")
    done = invoke("report", runs / "fp16", "--limits", "tight.toml", "-o", "again")
    assert done.exit_code == 3
    assert "max_abs_dp" in done.stderr
    old, new = data_of(runs / "fp16"), data_of(Path("again"))
    assert new["numbers"] == old["numbers"]
    assert (new["limits"]["name"], new["limits_source"]) == ("tight", "--limits tight.toml")
    assert not new["verdict"]["passed"]


def test_labels_are_kept_with_the_run_and_can_be_added_afterwards(invoke: Invoke, runs: Path, tiny_scans: Path) -> None:
    assert data_of(runs / "fp32")["numbers"]["auc"]["findings"] == 1
    kept = (runs / "fp32" / "labels.csv").read_text()
    assert len(kept.splitlines()) == 5 and "head" not in kept
    assert data_of(runs / "fp16")["numbers"]["auc"]["findings"] == 0
    labels = tiny_scans.parent / "labels.csv"
    assert invoke("report", runs / "fp16", "--labels", labels, "-o", "a").exit_code == 1  # paths beside the CSV
    assert invoke("report", runs / "fp16", "--labels", labels, "--scans", tiny_scans, "-o", "a").exit_code in (0, 3)
    assert invoke("report", runs / "fp16", "--labels", runs / "fp32" / "labels.csv", "-o", "b").exit_code in (0, 3)
    a, b = data_of(Path("a")), data_of(Path("b"))
    assert a["numbers"] == b["numbers"]
    assert a["numbers"]["auc"]["findings"] == 1
    assert a["notes"][-1] == "labels were added afterwards, from labels.csv"
    assert invoke("report", runs / "golden", "--labels", runs / "fp32" / "labels.csv", "-o", "c").exit_code == 0
    assert "were not used: AUC needs the PyTorch model" in data_of(Path("c"))["notes"][-1]


def test_neither_torch_nor_an_engine_nor_a_reader_of_scans_is_loaded(spawn: Any, runs: Path) -> None:
    done = spawn("report", runs / "fp32", "-o", "again", driver=("imports", 0))
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip().splitlines()[-1] == "IMPORTED"


def test_a_run_that_was_handed_on_without_its_paths_can_still_be_shown(invoke: Invoke, runs: Path) -> None:
    (runs / "fp32" / "scans.csv").unlink()
    assert invoke("report", runs / "fp32", "-o", "again").exit_code == 0
    assert data_of(Path("again"))["numbers"] == data_of(runs / "fp32")["numbers"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda run: (run / "run.json").unlink(), "not a run of molre-edge"),
        (
            lambda run: (run / "run.json").write_text((run / "run.json").read_text().replace("true", "false")),
            "was interrupted",
        ),
        (lambda run: (run / "report.json").unlink(), "report.json: can't be read"),
        (lambda run: (run / "report.json").write_text('{"kind": "other"}'), "report.json: damaged"),
        (lambda run: (run / "report.json").write_text("[]"), "report.json: damaged"),
        (lambda run: (run / "report.json").write_text("[" * 100_000), "report.json: can't be read"),
        (
            lambda run: (run / "report.json").write_text(
                json.dumps({**data_of(run), "thresholds": [10**400] * len(data_of(run)["thresholds"])})
            ),
            "report.json: damaged",
        ),
        (lambda run: (run / "golden.npz").unlink(), "golden.npz is missing"),
        (lambda run: (run / "golden.npz").write_bytes(b"PK"), "golden.npz: damaged"),
        (
            lambda run: (run / "report.json").write_text(
                json.dumps({**data_of(run), "thresholds": [0.5], "findings": ["x"]})
            ),
            "report.json: damaged, or does not match the stored answers",
        ),
        (lambda run: (run / "report.json").write_text(json.dumps({**data_of(run), "limits": 5})), "damaged"),
    ],
)
def test_what_is_no_finished_run_is_told_and_leaves_all_as_it_was(
    invoke: Invoke, runs: Path, spoil: Callable[[Path], Any], message: str
) -> None:
    page = (runs / "golden" / "report.html").read_bytes()
    spoil(runs / "golden")
    done = invoke("report", runs / "golden")
    assert done.exit_code == 1
    assert message in done.stderr.replace("\n", " ")
    assert (runs / "golden" / "report.html").read_bytes() == page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("{runs}/nothing",), "nothing"),
        (("{runs}/fp32", "{runs}/fp32"), "named twice"),
        (("{runs}/fp32", "--images"), "--scans"),
        (("{runs}/fp32", "--limits", "{runs}/gates.toml"), "need -o"),
        (("{runs}/fp32", "--limits", "{runs}/gates.toml", "-o", "{runs}/fp32"), "need -o"),
        (("{runs}/fp32", "--labels", "{runs}/fp32/labels.csv"), "need -o"),
    ],
)
def test_a_wrong_use_ends_with_2(invoke: Invoke, runs: Path, words: tuple[str, ...], message: str) -> None:
    (runs / "gates.toml").write_text(WIDE)
    before = (runs / "fp32" / "report.json").read_bytes()
    done = invoke("report", *(word.format(runs=runs) for word in words))
    assert done.exit_code == 2
    assert message in done.stderr
    assert (runs / "fp32" / "report.json").read_bytes() == before


@pytest.mark.parametrize("names", [("fp32", "fp16"), ("fp32",)])
def test_the_folder_of_another_run_is_never_written_into(invoke: Invoke, runs: Path, names: tuple[str, ...]) -> None:
    before = (runs / "golden" / "report.json").read_bytes()
    done = invoke("report", *(runs / name for name in names), "-o", runs / "golden")
    assert done.exit_code == 1
    assert (runs / "golden" / "report.json").read_bytes() == before


# ------------------------------------------------------------------------------------------------------------- images


def test_pictures_are_in_the_page_only_when_asked_for_and_in_no_other_file(
    invoke: Invoke, runs: Path, tiny_scans: Path
) -> None:
    assert "<img" not in (runs / "fp32" / "report.html").read_text()
    done = invoke("report", runs / "fp32", "--images", "--scans", tiny_scans, "-o", "shown")
    assert done.exit_code == 0
    assert "shows images of patients" in done.stderr
    page = Path("shown/report.html").read_text()
    pictures = re.findall(r'<img src="data:image/png;base64,([^"]+)"', page)
    assert len(pictures) == 4
    for picture in pictures:
        png = base64.b64decode(picture)
        assert png.startswith(b"\x89PNG") and b"tEXt" not in png  # pixels alone
    assert "img-src data:" in page
    assert len({*pictures}) == 4
    for name in ("report.json", "junit.xml"):
        assert pictures[0][:60] not in Path("shown", name).read_text()
    assert re.search(r"slice [1-4] of 4, where routing differs most", page)


def test_a_scan_whose_files_are_not_those_of_the_run_is_not_shown(
    invoke: Invoke, runs: Path, tiny_scans: Path, tmp_path: Path
) -> None:
    scans = tmp_path / "scans"
    shutil.copytree(tiny_scans, scans, copy_function=shutil.copy2)
    (scans / "head-4.nii.gz").touch()
    shutil.rmtree(scans / "head-1")
    done = invoke("report", runs / "fp32", "--images", "--scans", scans, "-o", "shown")
    assert done.exit_code == 0
    assert Path("shown/report.html").read_text().count("<img") == 2
    assert done.stderr.count("are not those that the run answered") == 2


def test_infer_shows_them_too_when_asked(invoke: Invoke, tiny_bundle: Path, tiny_scans: Path) -> None:
    done = invoke("infer", tiny_scans, "--bundle", tiny_bundle, "--engine", "fp32", "-o", "run", "--images")
    assert done.exit_code == 0
    assert Path("run/report.html").read_text().count("<img") == 4
    done = invoke("infer", tiny_scans, "--bundle", tiny_bundle, *GOLDEN, "-o", "other", "--images")
    assert "no pictures" in done.stderr
    assert "<img" not in Path("other/report.html").read_text()


@pytest.mark.parametrize("error", [RunError("gone"), OSError(28, "No space left on device")])
def test_a_run_whose_pictures_fail_is_told_all_the_same(
    error: Exception, invoke: Invoke, tiny_bundle: Path, tiny_scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("molre_edge.runs.pictures.key_slices", fail)
    words = ("--bundle", tiny_bundle, *GOLDEN, "-o", "run", "--images", "--json")
    done = invoke("infer", tiny_scans, *words)
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["scans"] == 4
    assert "no pictures in the report" in done.stderr and str(error) in done.stderr


# ------------------------------------------------------------------------------------------------------- side by side


def schema(name: str) -> dict[str, Any]:
    return dict(json.loads(resources.files("molre_edge.reports").joinpath(name).read_text(encoding="utf-8")))


def validate(data: dict[str, Any]) -> None:
    """Against the schema of several runs, which refers to that of one."""
    one, several = schema("report.schema.json"), schema("comparison.schema.json")
    jsonschema.Draft202012Validator.check_schema(several)
    registry: Any = Registry().with_resource("report.schema.json", Resource.from_contents(one))
    jsonschema.Draft202012Validator(several, registry=registry).validate(data)


def test_runs_side_by_side_tell_each_verdict_and_each_engine_against_the_first(invoke: Invoke, runs: Path) -> None:
    Path("wide.toml").write_text(WIDE + WIDE.replace("fp32", "fp16"))
    done = invoke("report", runs / "fp32", runs / "fp16", "-o", "both", "--limits", "wide.toml")
    assert done.exit_code == 0
    assert {path.name for path in Path("both").iterdir()} == {"report.html", "report.json", "junit.xml"}
    data = data_of(Path("both"))
    validate(data)
    assert [run["name"] for run in data["runs"]] == ["onnxruntime:fp32", "onnxruntime:fp16"]
    between = data["between"][0]["numbers"]
    records = [[read_record(p, p.stem) for p in sorted((runs / n / "outputs").iterdir())] for n in ("fp32", "fp16")]
    apart = max(
        float(np.abs(a.engine.probabilities - b.engine.probabilities).max()) for a, b in zip(*records, strict=True)
    )
    assert between["n"] == 4
    assert between["max_abs_dp"] == pytest.approx(apart, rel=1e-9) and apart > 0
    page = Path("both/report.html").read_text()
    assert page.count("✓ Parity passed") == 2
    assert "<script" not in page and "<img" not in page


def test_a_run_that_fails_ends_with_3_and_json_tells_each(invoke: Invoke, runs: Path) -> None:
    disturb(runs / "fp16", lambda outputs: Outputs(-outputs.logits, outputs.embedding, outputs.gates))
    done = invoke("report", runs / "fp32", runs / "fp16", "-o", "both", "--json")
    assert done.exit_code == 3
    result = json.loads(done.stdout)
    assert [run["parity"]["passed"] for run in result["runs"]] == [True, False]
    assert result["exit_code"] == 3
    assert Path("both/report.html").read_text().count("✗ Parity failed") == 1


def test_two_boxes_without_a_reference_are_compared_with_each_other(invoke: Invoke, runs: Path) -> None:
    shutil.copytree(runs / "none", runs / "box2")
    disturb(runs / "box2", lambda outputs: Outputs(outputs.logits + 0.1, outputs.embedding, outputs.gates))
    done = invoke("report", runs / "none", runs / "box2")
    assert done.exit_code == 0
    (page,) = Path("edge-reports").glob("*/report.html")
    data = data_of(page.parent)
    validate(data)
    assert 0.001 < data["between"][0]["numbers"]["max_abs_dp"] < 0.1
    assert [run["name"] for run in data["runs"]] == ["onnxruntime:fp32 (none)", "onnxruntime:fp32 (box2)"]
    assert page.read_text().count("No parity judged") == 2


def test_scans_are_matched_by_their_place_and_not_by_their_id(invoke: Invoke, runs: Path) -> None:
    run = runs / "fp16"
    table = (run / "scans.csv").read_text()
    one, two = sorted(set(re.findall(r"scan-[a-z2-7]{16}", table)))[:2]
    first, second = (run / "outputs" / f"{scan}.npz" for scan in (one, two))
    swap = {one: two, two: one}
    (run / "scans.csv").write_text(re.sub(f"{one}|{two}", lambda found: swap[found[0]], table))
    data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(data)
    assert invoke("report", runs / "fp32", run, "-o", "swapped").exit_code in (0, 3)
    assert invoke("report", runs / "fp32", run.parent / "none", "-o", "plain").exit_code in (0, 3)
    assert data_of(Path("swapped"))["between"][0]["numbers"]["max_abs_dp"] < 0.1
    assert data_of(Path("plain"))["between"][0]["numbers"]["max_abs_dp"] < 1e-5


def test_runs_on_some_of_the_same_scans_are_compared_on_those_and_it_is_said(invoke: Invoke, runs: Path) -> None:
    lines = (runs / "none" / "scans.csv").read_text().splitlines(keepends=True)
    (runs / "none" / "outputs" / f"{lines[1].split(',')[1]}.npz").unlink()
    (runs / "none" / "scans.csv").write_text("".join([lines[0], *lines[2:]]))
    assert invoke("report", runs / "fp32", runs / "none", "-o", "both").exit_code == 0
    data = data_of(Path("both"))
    assert data["between"][0]["numbers"]["n"] == 3
    assert any("on the 3 that both answered" in note for note in data["notes"])


def other_checkpoint(data: dict[str, Any]) -> None:
    data["bundle"]["checkpoint_sha256"] = "0" * 64


def other_findings(data: dict[str, Any]) -> None:
    data["findings"][0] = "another"


def other_thresholds(data: dict[str, Any]) -> None:
    data["thresholds"][0] = 0.123


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_checkpoint, "its model is another one (checkpoint 000000000000..., not"),
        (other_findings, "it has other findings"),
        (other_thresholds, "it has other thresholds"),
    ],
)
def test_runs_of_other_models_are_not_put_side_by_side(
    invoke: Invoke, runs: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    data = data_of(runs / "none")
    change(data)
    (runs / "none" / "report.json").write_text(json.dumps(data))
    done = invoke("report", runs / "fp32", runs / "none", "-o", "both")
    assert done.exit_code == 1
    assert message in done.stderr.replace("\n", " ")
    assert not Path("both").exists()


def test_runs_without_a_common_scan_are_not_put_side_by_side(invoke: Invoke, runs: Path) -> None:
    table = runs / "none" / "scans.csv"
    table.write_text(table.read_text().replace("head-", "other-"))
    done = invoke("report", runs / "fp32", runs / "none", "-o", "both")
    assert done.exit_code == 1
    assert "they have no volume in common" in done.stderr


@pytest.mark.parametrize("name", ["run.json", "report.json", "scans.csv", "golden.npz", "labels.csv", "outputs"])
def test_a_pipe_in_place_of_a_file_is_never_waited_for(invoke: Invoke, runs: Path, name: str) -> None:
    run = runs / ("golden" if name == "golden.npz" else "fp32")
    for path in (run / name).iterdir() if name == "outputs" else [run / name]:
        path.unlink()
        os.mkfifo(path)
    reported, inspected = invoke("report", run, "-o", runs / "again"), invoke("inspect", run)
    assert reported.exit_code in (0, 1), reported.stderr  # without labels there is no AUC, and no error
    assert (reported.exit_code == 1) == (name != "labels.csv")
    assert inspected.exit_code in (0, 1)


def test_a_report_is_not_written_into_a_run_that_another_process_works_on(invoke: Invoke, runs: Path) -> None:
    lock = FolderLock.take(runs / "fp32")
    assert isinstance(lock, FolderLock)
    try:
        done = invoke("report", runs / "fp32")
    finally:
        lock.release()
    assert done.exit_code == 1 and "is working on it" in " ".join(done.stderr.split())
    assert invoke("report", runs / "fp32").exit_code == 0
    assert not (runs / "fp32" / ".in-use").exists()


def test_a_folder_that_another_process_writes_is_no_place_for_a_report(invoke: Invoke, runs: Path) -> None:
    with hold(runs / "out", "another report"):
        done = invoke("report", runs / "fp32", "-o", runs / "out")
    assert done.exit_code == 1 and "in use by" in done.stderr and not (runs / "out").exists()
