"""The GPU check ends well on every machine, and says what it could not do; its device part runs on a stand-in here."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from waiting import wait_until

from molre_edge.benchmarking.measure import Candidate
from molre_edge.bundle.bundle import Bundle
from molre_edge.bundle.engine_files import write_engine
from molre_edge.engines.cuda.driver import DriverProbe, Gpu, probe_driver
from molre_edge.engines.runner import RunResult
from molre_edge.engines.tensorrt.fit import here
from molre_edge.errors import EngineError
from molre_edge.parity import Outputs
from molre_edge.specs import Precision

AMPERE = DriverProbe("13.0", (Gpu("RTX A2000", (8, 6), 1 << 33),))


def gpu_check(root: Path, folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(root / "benchmarks/gpu_check"), "--out", str(folder), *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def results(folder: Path) -> dict[str, Any]:
    (path,) = folder.glob("gpu-check-*.json")
    assert path.with_suffix(".md").is_file()
    return dict(json.loads(path.read_text()))


@pytest.mark.skipif(probe_driver().problem is None, reason="there is a GPU")
def test_without_a_gpu_it_ends_cleanly_and_gives_the_reason_for_every_check(root: Path, tmp_path: Path) -> None:
    done = gpu_check(root, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "There is no GPU to check: no NVIDIA driver (libcuda.so.1 is not there)" in done.stdout
    told = results(tmp_path)
    assert told["gpus"] == []
    assert {check["state"] for check in told["checks"]} == {"can't run"}
    assert {check["reason"] for check in told["checks"]} == {"no NVIDIA driver (libcuda.so.1 is not there)"}
    assert {check["part"] for check in told["checks"]} == {"device", "engines", "pytorch"}
    assert "can't run" in next(tmp_path.glob("*.md")).read_text()


def test_its_device_part_runs_on_a_stand_in_for_the_driver(root: Path, tmp_path: Path, stand_in: Path) -> None:
    done = gpu_check(root, tmp_path, "--only", "device", LD_LIBRARY_PATH=str(stand_in))
    told = results(tmp_path)
    assert done.returncode == 0, [check for check in told["checks"] if check["state"] == "failed"]
    assert told["gpus"] == ["Stand-in (sm86)"]
    checks = {check["check"]: check for check in told["checks"]}
    assert {check["state"] for check in checks.values()} <= {"done", "can't run"}
    overlap = checks["cuda-python: copies beside a kernel, and its graph"]
    if overlap["state"] == "can't run":
        pytest.skip("cuda-python is not installed")
    assert overlap["figures"]["with graph"]["captured"] == "CUDA graph"
    assert overlap["figures"]["without graph"]["captured"] == "switched off"


@pytest.fixture
def parts(root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Its modules, on a machine that is told to have a GPU."""
    monkeypatch.syspath_prepend(str(root / "benchmarks/gpu_check"))
    names = ("report", "engines_part")
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    modules = SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    monkeypatch.setattr(modules.engines_part, "probe_driver", lambda: AMPERE)
    yield modules
    for name in names:
        sys.modules.pop(name, None)


class Answering:
    """A runner that knows the golden answers, and adds to their logits."""

    name, precision = "tensorrt:fp16", Precision.FP16
    input_spec: Any = None
    output_specs: Any = ()

    def __init__(self, bundle: Bundle, wrong: dict[str, float]) -> None:
        self._golden, self._wrong = bundle.golden(), wrong
        self.facts = {"prepared": {}, "notes": [], "device": "none"}

    def __enter__(self) -> Answering:
        return self

    def __exit__(self, *_: Any) -> None: ...

    def run(self, volumes: Any, how: str | None = None) -> RunResult:
        known, answers = self._golden.volumes, self._golden.outputs
        at = [next(i for i, one in enumerate(known) if np.array_equal(one, volume)) for volume in volumes]
        more = self._wrong.get(how or ("alone" if len(volumes) == 1 else "batch"), 0.0)
        gates = None if answers.gates is None else answers.gates[at]
        outputs = Outputs(answers.logits[at] + np.float32(more), answers.embedding[at], gates)
        return RunResult(outputs, {"to_device": 1.0, "compute": 1.0, "from_device": 1.0})

    def run_stream(self, volumes: Any) -> Any:
        return (self.run(volume, "streamed") for volume in volumes)


@pytest.mark.parametrize("wrong", [None, "alone", "streamed", "batch"])
@pytest.mark.parametrize("by", [0.5, float("nan")])
def test_wrong_answers_are_a_failure(
    wrong: str | None, by: float, parts: Any, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, report = Bundle.open(tiny_bundle), parts.report.Report(AMPERE)
    runner = Answering(bundle, {} if wrong is None else {wrong: by})
    monkeypatch.setattr(parts.engines_part, "runner_of", lambda *_: runner)
    report.check("golden answers", lambda: parts.engines_part.golden(bundle, "rtx-fp16", Precision.FP16))
    (told,) = report.checks
    assert report.failed is (wrong is not None), told
    assert {how for how in ("alone", "streamed", "batch") if "failed" in told["figures"][how]["verdict"]} == (
        set() if wrong is None else {wrong}
    )
    assert wrong is None or told["reason"].startswith(f"outside the fp16 gate: {wrong}: ")
    report.write(tmp_path, datetime.now(timezone.utc))
    assert results(tmp_path)["checks"][0]["state"] == told["state"]


@pytest.mark.parametrize("ready", [True, False])
def test_a_runner_that_should_be_there_and_is_not_is_a_failure(ready: bool, parts: Any, tiny_bundle: Path) -> None:
    bundle, report = Bundle.open(tiny_bundle), parts.report.Report(AMPERE)

    def other() -> Any:
        if not ready:
            raise EngineError("can't load the engine")
        return Answering(bundle, {})

    candidates = [Candidate("plain:engine", lambda: Answering(bundle, {})), Candidate("with", other)]
    report.check("cost", lambda: parts.engines_part.timed(candidates, bundle.golden().volumes, 2))
    (told,) = report.checks
    assert report.failed is not ready, told
    assert told["figures"]["plain:engine, batch 1"]["median_ms"] > 0
    assert told.get("reason") == (None if ready else "with is not ready: can't load the engine")


@pytest.mark.parametrize(("capability", "state"), [("sm86", "failed"), ("sm75", "can't run")])
def test_an_engine_for_another_gpu_can_not_run_and_one_for_this_must(
    capability: str, state: str, parts: Any, tiny_bundle: Path, tmp_path: Path
) -> None:
    bundle = Bundle.open(Path(shutil.copytree(tiny_bundle, tmp_path / "edge-bundle")))
    facts = {
        "runtime": {"name": "TensorRT-RTX", "version": "1.7.1.116"},
        "target": {"name": "rtx", "compute_capabilities": [capability], "built_on": here()},
        "precision": "fp16",
        "options": {},
        "graph": {"file": "graphs/fp16.onnx", "sha256": bundle.manifest["files"]["graphs/fp16.onnx"]},
    }
    write_engine(bundle, "rtx-fp16", b"no engine", facts)
    report = parts.report.Report(AMPERE)
    report.check("golden answers", lambda: parts.engines_part.golden(bundle, "rtx-fp16", Precision.FP16))
    assert report.checks[0]["state"] == state, report.checks


def test_a_package_that_is_not_installed_is_no_failure_and_the_command_that_brings_it_is_told(parts: Any) -> None:
    report = parts.report.Report(AMPERE)

    def work(module: str) -> None:
        importlib.import_module(module)

    def wrapped() -> None:
        try:
            importlib.import_module("onnxsim_that_nobody_has")
        except ImportError as error:
            raise RuntimeError("could not export") from error

    def ours() -> None:
        importlib.import_module("molre_edge.no_such_part")

    report.check("a", lambda: work("a_package_that_nobody_has.inside"))
    report.check("b", wrapped)
    report.check("c", ours)
    states = [(check["state"], check["reason"]) for check in report.checks]
    assert states[0] == (
        "can't run",
        "a_package_that_nobody_has is not installed: pip install a_package_that_nobody_has",
    )
    assert states[1][0] == "can't run" and "pip install onnxsim_that_nobody_has" in states[1][1]
    assert states[2][0] == "failed"  # a part of the project that is missing is our fault


@pytest.fixture
def step_that(parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a step whose second check does what the code says, apart, and gives the report."""
    steps = importlib.import_module("steps")

    def run(code: str, seconds: float) -> Any:
        folder = tmp_path / "work"
        folder.mkdir()
        main = tmp_path / "check"
        main.mkdir()
        (main / "__main__.py").write_text(
            f"""
import argparse, os, sys, time
sys.path.insert(0, {str(Path(steps.__file__).parent)!r})
from pathlib import Path
from report import Report
from molre_edge.engines.cuda.driver import DriverProbe
arguments = argparse.ArgumentParser()
arguments.add_argument("--child")
arguments.add_argument("--folder", type=Path)
given = arguments.parse_args()
report = Report(DriverProbe("13.0", ()), given.folder / f"{{given.child}}.jsonl")
report.begin("device")
report.check("first", lambda: {{"figure": 1}})
report.check("second", lambda: {code})
report.check("third", lambda: None)
"""
        )
        monkeypatch.setattr(steps, "__file__", str(main / "steps.py"))
        report = parts.report.Report(AMPERE)
        steps.run_apart(steps.Step("device", "some", seconds, None), report, [], folder, seconds)
        return report

    yield run
    sys.modules.pop("steps", None)


def told_of(report: Any) -> dict[str, tuple[str, str]]:
    return {check["check"]: (check["state"], check.get("reason", "")) for check in report.checks}


def test_a_step_that_hangs_is_ended_and_what_it_had_done_is_kept(
    step_that: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = tmp_path / "work" / "some.jsonl"

    class Hurried(subprocess.Popen[bytes]):
        """Its time is over as soon as the second check has begun, however long the start takes."""

        def wait(self, timeout: float | None = None) -> int:
            if timeout is None:
                return super().wait()
            wait_until(lambda: journal.is_file() and '"second"' in journal.read_text())
            raise subprocess.TimeoutExpired("the step", timeout)

    monkeypatch.setattr(subprocess, "Popen", Hurried)
    told = told_of(step_that("time.sleep(600)", 8.0))
    assert told == {"first": ("done", ""), "second": ("failed", "not done within 8 s")}


def test_a_step_that_dies_is_a_failure_with_the_signal_it_died_of(step_that: Any) -> None:
    report = step_that("os.kill(os.getpid(), 11)", 60.0)
    assert told_of(report) == {"first": ("done", ""), "second": ("failed", "its process ended with -11")}


def test_a_step_that_ends_well_is_taken_as_it_is(step_that: Any) -> None:
    report = step_that("None", 60.0)
    assert told_of(report) == {"first": ("done", ""), "second": ("done", ""), "third": ("done", "")}
    assert report.checks[0]["figures"] == {"figure": 1} and not report.failed


def test_a_step_that_can_not_even_start_is_a_failure(parts: Any, tmp_path: Path) -> None:
    steps = importlib.import_module("steps")
    report = parts.report.Report(AMPERE)
    steps.run_apart(steps.Step("device", "no-such-step", 60, None), report, ["--rounds", "3"], tmp_path, 60.0)
    (told,) = report.checks
    assert told["state"] == "failed" and told["check"] == "no-such-step" and "invalid choice" in told["trace"]


def test_with_no_time_left_a_step_can_not_run(root: Path, tmp_path: Path, stand_in: Path) -> None:
    done = gpu_check(root, tmp_path, "--only", "device", "--seconds", "1", LD_LIBRARY_PATH=str(stand_in))
    assert done.returncode == 0
    assert {(check["state"], check["reason"]) for check in results(tmp_path)["checks"]} == {
        ("can't run", "no time was left for it")
    }
