"""Shards: merged they are one run, and whatever is not all shards of one run is refused by name."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from molre_edge.bundle.bundle import Bundle
from molre_edge.engines.onnxruntime_runner import OnnxRuntimeRunner
from molre_edge.errors import RunError, UsageError
from molre_edge.files import write_json
from molre_edge.parity import DEFAULT_LIMITS
from molre_edge.progress import Silent
from molre_edge.runs.answers import read_record, write_record
from molre_edge.runs.context import InferOptions, RunContext
from molre_edge.runs.infer_result import InferResult
from molre_edge.runs.labels import read_labels
from molre_edge.runs.merge import merge_shards
from molre_edge.runs.reference import Reference
from molre_edge.runs.remake import report_runs
from molre_edge.runs.run import run_scans
from molre_edge.runs.scan_ids import IdSecret
from molre_edge.runs.store import RunStore, Task
from molre_edge.specs import Precision

SECRET = IdSecret(bytes(32))
TASK = Task(bundle="b", engine="onnxruntime:fp32", reference="golden", scans="s", all_series=False)
COUNT = 3
Go = Callable[..., InferResult]


@pytest.fixture(scope="module")
def go(bundle: Bundle, runner: OnnxRuntimeRunner) -> Go:
    """Run a shard, or all, of a folder of scans; a run that is there is resumed."""

    def go(scans: Path, folder: Path, shard: str | None = None, task: Task = TASK, **changes: Any) -> InferResult:
        settings: dict[str, Any] = {
            "scans": scans,
            "bundle": bundle,
            "runner": runner,
            "reference": Reference("golden", "as asked for"),
            "limits": DEFAULT_LIMITS[Precision.FP32],
            "command": "molre-edge infer SCANS" + ("" if shard is None else f" --shard {shard}"),
        }
        start = RunStore.resume if (folder / "run.json").exists() else RunStore.create
        store = start(folder, replace(task, shard=shard), changes.pop("secret", SECRET))
        try:
            return run_scans(store, RunContext(**{**settings, **changes}))
        finally:
            store.close()

    return go


@pytest.fixture(scope="module")
def scans(tiny_scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four heads, a block of water that looks like a head from outside, a broken file and a text."""
    folder = tmp_path_factory.mktemp("merge") / "scans"
    shutil.copytree(tiny_scans, folder)
    water = nibabel.Nifti1Image(np.zeros((96, 96, 30), dtype=np.int16), np.diag([2.4, 2.4, 5.0, 1.0]))
    nibabel.save(water, folder / "water.nii.gz")
    (folder / "broken.nii.gz").write_bytes(b"\x1f\x8b" + b"0" * 50)
    (folder / "notes.txt").write_text("nothing")
    return folder


@pytest.fixture(scope="module")
def made(go: Go, scans: Path) -> Path:
    """A folder with the run ``one`` of all scans, and its shards ``1``, ``2`` and ``3``."""
    folder = scans.parent
    go(scans, folder / "one")
    for i in range(1, COUNT + 1):
        go(scans, folder / str(i), f"{i}/{COUNT}")
    return folder


@pytest.fixture
def shards(made: Path, tmp_path: Path) -> list[Path]:
    """Copies of the shards, to be meddled with."""
    return [Path(shutil.copytree(made / str(i), tmp_path / str(i))) for i in range(1, COUNT + 1)]


def without_times(folder: Path) -> dict[str, Any]:
    """All files of a run, without what says when it ran and how long it took."""
    files: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".npz":
            record = read_record(path, path.stem)
            outputs = (record.engine, record.reference)
            arrays = [(each.logits, each.embedding, each.gates) for each in outputs if each is not None]
            files[name] = [record.warnings, record.facts, [[a.tobytes() for a in each] for each in arrays]]
        elif path.suffix == ".jsonl":
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            files[name] = [{key: line[key] for key in line if key != "milliseconds"} for line in lines]
        elif path.suffix == ".json":
            data = json.loads(path.read_text())
            files[name] = {key: data[key] for key in data if key not in {"created", "started", "timing", "phases"}}
        elif path.is_file():
            text = re.sub(r"\d{4}-\d\d-\d\dT[0-9:]{8}(\+00:00)?", "", path.read_text())
            files[name] = re.sub(r'<h2 id="time">.*?<h2', "<h2", text, flags=re.DOTALL)
    return files


def test_the_merged_run_is_the_run_that_one_process_would_have_left(made: Path, tmp_path: Path) -> None:
    merged = merge_shards([made / "2", made / "3", made / "1"], tmp_path / "merged")
    assert (len(merged.scans), len(merged.rejected), merged.exit_code) == (4, 2, 4)
    expected, got = without_times(made / "one"), without_times(tmp_path / "merged")
    assert got.keys() == expected.keys()
    for name in expected:
        assert got[name] == expected[name], name


def test_every_scan_is_in_one_shard(made: Path) -> None:
    outputs = [{path.name for path in (made / str(i) / "outputs").iterdir()} for i in range(1, COUNT + 1)]
    assert sum(map(len, outputs)) == len(set().union(*outputs)) == 4
    assert max(map(len, outputs)) < 4


def test_the_merged_run_is_a_run_like_any_other(go: Go, made: Path, scans: Path, tmp_path: Path) -> None:
    result = report_runs([made / str(i) for i in (1, 2, 3)], merge=True, out=tmp_path / "merged")
    assert result.exit_code == 0 and result.report == tmp_path / "merged" / "report.html"
    assert report_runs(tmp_path / "merged").runs[0].verdict is not None
    resumed = go(scans, tmp_path / "merged")
    assert (len(resumed.scans), without_times(tmp_path / "merged")) == (4, without_times(made / "one"))


def test_a_shard_that_was_cut_is_resumed_and_merges_as_any_other(
    go: Go, scans: Path, made: Path, shards: list[Path], altered: Any
) -> None:
    most = max(shards, key=lambda folder: len(list((folder / "outputs").iterdir())))
    shutil.rmtree(most)

    def cut(outputs: Any) -> Any:
        if runner.asked > 1 + 1:  # the warm-up, and a scan
            raise KeyboardInterrupt
        return outputs

    runner = altered(cut)
    shard = f"{shards.index(most) + 1}/{COUNT}"
    with pytest.raises(KeyboardInterrupt):
        go(scans, most, shard, runner=runner)
    assert len(list((most / "outputs").iterdir())) == 1
    with pytest.raises(RunError, match=rf"{most}: this run was interrupted before its end"):
        merge_shards(shards, most.parent / "merged")
    go(scans, most, shard)
    merge_shards(shards, most.parent / "merged")
    assert without_times(most.parent / "merged") == without_times(made / "one")


def test_what_is_not_all_shards_of_one_run_is_refused_by_name(made: Path, shards: list[Path], tmp_path: Path) -> None:
    one, two, three = shards
    out = tmp_path / "merged"
    with pytest.raises(RunError, match=r"missing: shard 2/3\. Name the folders of all 3 shards"):
        merge_shards([three, one], out)
    twin = Path(shutil.copytree(two, tmp_path / "twin"))
    with pytest.raises(RunError, match=rf"shard 2/3 is there twice: {two} and {twin}"):
        merge_shards([one, two, twin, three], out)
    with pytest.raises(RunError, match=r"one: not a shard, but a run of all its scans"):
        merge_shards([one, two, three, made / "one"], out)
    with pytest.raises(RunError, match=r"nowhere: no such folder"):
        merge_shards([one, two, tmp_path / "nowhere"], out)
    with pytest.raises(RunError, match="no shard is named"):
        merge_shards([], out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"task": replace(TASK, engine="torch:fp32")}, r"it had engine 'torch:fp32', not 'onnxruntime:fp32'"),
        ({"task": replace(TASK, scans="elsewhere")}, r"it had another folder of scans"),
        ({"secret": IdSecret.new()}, r"its ids have another secret"),
        ({"shard": "3/4"}, r"it is shard 3/4, not one of 3"),
        ({"limits": DEFAULT_LIMITS[Precision.FP16]}, r"its limits are others"),
    ],
    ids=["engine", "scans", "secret", "count", "limits"],
)
def test_a_shard_of_another_run_is_foreign(
    change: dict[str, Any], reason: str, go: Go, scans: Path, shards: list[Path], tmp_path: Path
) -> None:
    go(scans, tmp_path / "foreign", **{"shard": "3/3", **change})
    with pytest.raises(RunError, match=rf"foreign: a foreign shard: {reason}"):
        merge_shards([*shards[:2], tmp_path / "foreign"], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_shards_that_found_other_scans_are_refused_until_all_are_run_again(
    go: Go, scans: Path, tmp_path: Path, made: Path, shards: list[Path]
) -> None:
    (scans / "more.txt").write_text("late")
    try:
        go(scans, shards[2], "3/3")
        with pytest.raises(RunError, match=r"3: shard 3/3 did not find the scans that shard 1/3 found: .*--resume"):
            merge_shards(shards, tmp_path / "merged")
    finally:
        (scans / "more.txt").unlink()
    go(scans, shards[2], "3/3")
    merge_shards(shards, tmp_path / "merged")
    assert without_times(tmp_path / "merged") == without_times(made / "one")


def test_damage_is_told_with_its_shard_and_leaves_nothing_behind(shards: list[Path], tmp_path: Path) -> None:
    shard = next(folder for folder in shards if list((folder / "outputs").iterdir()))
    next((shard / "outputs").iterdir()).write_bytes(b"PK")
    with pytest.raises(RunError, match=rf"shard {shard.name}/3: {shard}/outputs/scan-.*: damaged"):
        merge_shards(shards, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
    (shard / "ids.secret").write_text(IdSecret.new().value.hex())
    with pytest.raises(RunError, match=r"its ids, its secret and its shard ./3 do not fit together"):
        merge_shards(shards, tmp_path / "merged")


def test_a_merge_that_fails_leaves_the_shared_secret_where_it_was(shards: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "merged"
    out.mkdir()
    SECRET.write(out / "ids.secret")
    shard = next(folder for folder in shards if list((folder / "outputs").iterdir()))
    next((shard / "outputs").iterdir()).write_bytes(b"PK")
    with pytest.raises(RunError, match="damaged"):
        merge_shards(shards, out)
    assert [path.name for path in out.iterdir()] == ["ids.secret"]
    assert IdSecret.read(out / "ids.secret") == SECRET


def test_engines_that_answered_otherwise_are_all_judged_and_it_is_said(shards: list[Path], tmp_path: Path) -> None:
    golden = read_record(shards[1] / "golden.npz", "golden")
    far = replace(golden.engine, logits=golden.engine.logits + 0.5)
    write_record(shards[1] / "golden.npz", replace(golden, engine=far))
    head = json.loads((shards[1] / "run.json").read_text())
    head["conclusion"]["engine"]["device"] = "another box"
    (shards[1] / "run.json").write_text(json.dumps(head))
    merged = merge_shards(shards, tmp_path / "merged")
    assert merged.parity_failed and merged.numbers is not None
    assert merged.numbers.n == 2 * len(golden.engine)
    assert any(
        re.search(r"differ in device: .*\(shards 1/3, 3/3\); another box \(shards 2/3\)", n) for n in merged.notes
    )


def test_a_shard_that_goes_on_while_it_is_merged_refuses_the_merge(shards: list[Path], tmp_path: Path) -> None:
    class Resumes(Silent):
        def step(self, name: str) -> None:
            if name == "scans":
                head = shards[1] / "run.json"
                write_json(head, json.loads(head.read_text()))  # as a resumed shard with nothing new in it ends

    with pytest.raises(RunError, match=r"shard 2/3 was continued while it was merged\. Merge again"):
        merge_shards(shards, tmp_path / "merged", Resumes())
    assert not (tmp_path / "merged").exists()


def test_a_refused_merge_makes_no_folder(shards: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match="missing: shard"):
        merge_shards(shards[:2], None)
    assert not (tmp_path / "edge-runs").exists()


def test_an_empty_shard_is_no_failure(go: Go, scans: Path, tmp_path: Path) -> None:
    for i in range(1, 41):
        result = go(scans, tmp_path / "shard", f"{i}/40")
        if not result.scans and not result.rejected:
            break
        shutil.rmtree(tmp_path / "shard")
    assert (result.exit_code, result.shard) == (0, f"{i}/40")


def test_labels_may_name_the_scans_of_other_shards(go: Go, scans: Path, bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(f"scan,{bundle.findings[0]}\nhead-1,1\nhead-2,0\n")
    table = read_labels(tmp_path / "labels.csv", bundle.findings)
    folders = [tmp_path / str(i) for i in range(1, COUNT + 1)]
    for i, folder in enumerate(folders, start=1):
        go(scans, folder, f"{i}/{COUNT}", labels=table)
    go(scans, tmp_path / "one", labels=table)
    merge_shards(folders, tmp_path / "merged")
    assert (tmp_path / "merged" / "labels.csv").read_text() == (tmp_path / "one" / "labels.csv").read_text()


def test_options_that_can_not_be_merged_are_refused_before_anything_is_opened(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--shard needs --id-secret FILE"):
        InferOptions(scans=tmp_path, shard="1/2")
    with pytest.raises(UsageError, match="--reference-scans N does not fit to --shard"):
        InferOptions(scans=tmp_path, shard="1/2", id_secret=tmp_path / "s", reference_scans=3)
    with pytest.raises(UsageError, match="--shard 3/2: expected I/N"):
        InferOptions(scans=tmp_path, shard="3/2", id_secret=tmp_path / "s")
    with pytest.raises(UsageError, match="merge first, then report again"):
        report_runs([tmp_path], merge=True, labels=tmp_path)
