"""``molre-edge verify`` as a service or a person calls it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from molre_edge.verification.passed import record_path


@pytest.fixture
def box(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "box"))


def test_a_good_bundle_passes_with_0(invoke: Any, box: Path) -> None:
    done = invoke("verify", "--bundle", box)
    assert done.exit_code == 0, done.output
    assert "Engine: onnxruntime:fp16" in done.stdout and "Verification passed" in done.stdout
    assert "not a cleared medical device" in done.stdout


def test_the_json_and_the_file_say_the_same(invoke: Any, box: Path) -> None:
    done = invoke("verify", "--bundle", box, "--engine", "fp32", "--json", "-o", "v.json")
    assert json.loads(done.stdout) == json.loads(Path("v.json").read_text())
    assert json.loads(done.stdout)["seconds"]["in_all"] > 0


def test_an_altered_file_ends_with_1_and_still_with_json(invoke: Any, box: Path) -> None:
    with (box / "graphs" / "fp32.onnx").open("ab") as file:
        file.write(b"x")
    done = invoke("verify", "--bundle", box, "--json")
    assert done.exit_code == 1
    data = json.loads(done.stdout)
    assert list(data["files"]["problems"]) == ["graphs/fp32.onnx"] and data["passed"] is False
    assert "altered" in done.stderr


def test_answers_outside_the_gate_end_with_3(invoke: Any, box: Path) -> None:
    Path("strict.toml").write_text("[fp32]\nmax_abs_dp = 0\n")
    done = invoke("verify", "--bundle", box, "--engine", "fp32", "--gates", "strict.toml", "--json")
    assert done.exit_code == 3
    assert json.loads(done.stdout)["limits"]["source"] == "--limits strict.toml"
    assert "max_abs_dp" in done.stderr


def cases(path: str) -> dict[str, str]:
    """Name of a case -> passed, failure or skipped."""
    found = ElementTree.parse(path).getroot().iter("testcase")
    return {str(case.get("name")): case[0].tag if len(case) else "passed" for case in found}


def test_a_junit_file_has_a_case_a_file_and_a_check(invoke: Any, box: Path) -> None:
    assert invoke("verify", "--bundle", box, "-o", "good.xml", "-q").exit_code == 0
    good = cases("good.xml")
    assert good["graphs/fp16.onnx"] == good["loading"] == good["max_abs_dp"] == "passed"
    assert good["mean_auc_drop"] == "skipped"
    with (box / "graphs" / "fp32.onnx").open("ab") as file:
        file.write(b"x")
    assert invoke("verify", "--bundle", box, "-o", "bad.xml", "-q").exit_code == 1
    bad = cases("bad.xml")
    assert bad["graphs/fp32.onnx"] == "failure" and bad["graphs/fp16.onnx"] == "passed"
    assert bad["loading"] == bad["parity"] == "skipped"
    suites = list(ElementTree.parse("bad.xml").getroot())
    counts = [sum(int(suite.get(name, "")) for suite in suites) for name in ("failures", "tests")]
    assert counts == [1, len(bad)]


def test_a_junit_file_fails_where_the_answers_do(invoke: Any, box: Path) -> None:
    Path("strict.toml").write_text("[fp32]\nmax_abs_dp = 0\n")
    words = ("--engine", "fp32", "--gates", "strict.toml", "-o", "far.xml", "-q")
    assert invoke("verify", "--bundle", box, *words).exit_code == 3
    assert [name for name, state in cases("far.xml").items() if state == "failure"] == ["max_abs_dp"]


def test_another_digest_than_expected_is_refused(invoke: Any, box: Path) -> None:
    done = invoke("verify", "--bundle", box, "--expect-digest", "0" * 64)
    assert done.exit_code == 1 and "its digest is" in done.stderr


@pytest.mark.parametrize("damage", ["another digest", "no manifest", "a damaged manifest"])
def test_a_bundle_that_is_not_opened_replaces_the_last_result_by_a_failed_one(
    damage: str, invoke: Any, box: Path
) -> None:
    for name in ("v.xml", "v.json"):
        assert invoke("verify", "--bundle", box, "--engine", "fp32", "-o", name, "-q").exit_code == 0
    if damage == "no manifest":
        (box / "manifest.json").unlink()
    elif damage == "a damaged manifest":
        (box / "manifest.json").write_text("{")
    words = ("--bundle", box, *(("--expect-digest", "0" * 64) if damage == "another digest" else ()))
    done = invoke("verify", *words, "--json", "-o", "v.json")
    told = json.loads(done.stdout)
    assert done.exit_code == told["exit_code"] == 1
    assert (told["passed"], told["digest"], told["files"]) == (False, None, None)
    assert told["problem"] in done.stderr and told == json.loads(Path("v.json").read_text())
    assert invoke("verify", *words, "-o", "v.xml").exit_code == 1
    assert cases("v.xml") == {"manifest.json": "failure", "loading": "skipped", "parity": "skipped"}


@pytest.mark.parametrize("words", [("--engine", "torch"), ("--engine", "fp17"), ("--bundle", "nowhere")])
def test_wrong_words_are_a_wrong_use(words: tuple[str, ...], invoke: Any, box: Path) -> None:
    assert invoke("verify", "--bundle", box, *words).exit_code == 2


def test_no_torch_is_imported(spawn: Any, box: Path) -> None:
    done = spawn("verify", "--bundle", box, "--quiet", driver=("imports", 0))
    assert done.returncode == 0, done.stderr
    assert done.stderr.split() == ["IMPORTED", "onnxruntime"]


def test_what_passed_is_noted_where_the_environment_says(
    invoke: Any, box: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_STATE_HOME", "STATE_DIRECTORY", "MOLRE_EDGE_STATE"):  # each goes before the one above it
        monkeypatch.setenv(name, str(tmp_path / name))
        assert record_path().is_relative_to(tmp_path / name)  # type: ignore[union-attr]
    assert invoke("verify", "--bundle", box, "-q").exit_code == 0
    assert (tmp_path / "MOLRE_EDGE_STATE" / "verified.json").is_file()


def test_a_read_only_place_for_the_record_is_no_failure(
    invoke: Any, box: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MOLRE_EDGE_STATE", str(tmp_path / "file" / "below"))
    done = invoke("verify", "--bundle", box, "--json")
    assert done.exit_code == 0 and json.loads(done.stdout)["remembered"] is False


@pytest.mark.parametrize("name", ["graphs/fp16.onnx", "manifest.json", "golden/golden.npz", "engines/rtx-fp16.json"])
def test_a_pipe_in_place_of_a_file_is_refused_at_once(name: str, spawn: Any, box: Path) -> None:
    digest = hashlib.sha256((box / "manifest.json").read_bytes()).hexdigest()
    (box / name).unlink(missing_ok=True)
    (box / name).parent.mkdir(exist_ok=True)
    os.mkfifo(box / name)
    words = ("--bundle", box, "--engine", "onnxruntime:fp16", "--expect-digest", digest, "-q")
    done = spawn("verify", *words)
    assert done.returncode == 1 and "a named pipe, not a regular file" in done.stderr, done.stderr


def test_a_pipe_in_place_of_the_limits_is_refused_at_once(invoke: Any, box: Path) -> None:
    os.mkfifo("limits.toml")
    done = invoke("verify", "--bundle", box, "--engine", "fp32", "--gates", "limits.toml", "-q")
    assert done.exit_code == 1 and "a named pipe, not a regular file" in done.stderr


def test_a_bundle_that_a_killed_replacement_put_aside_is_verified(invoke: Any, box: Path) -> None:
    box.rename(box.parent / f".{box.name}.abcdefgh.old")
    assert invoke("verify", "--bundle", box, "--engine", "fp32", "-q").exit_code == 0
    assert box.is_dir()


def test_a_result_of_the_longest_legal_name_is_written_and_a_longer_one_is_refused_before_the_work(
    invoke: Any, box: Path
) -> None:
    name = "r" * 250 + ".json"
    assert invoke("verify", "--bundle", box, "--engine", "fp32", "-q", "-o", name).exit_code == 0
    assert json.loads(Path(name).read_text())["passed"] is True
    done = invoke("verify", "--bundle", box, "--engine", "fp32", "-o", "r" * 300)
    assert done.exit_code == 1 and "the name is too long: 300 bytes" in done.stderr and "Files:" not in done.stdout
