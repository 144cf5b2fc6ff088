"""A run whose reference is the user's own model: judged by it, timed, and told where it failed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from molre_edge.bundle.bundle import Bundle
from molre_edge.own_model.process import OwnModel
from molre_edge.own_model.spec import parse_model_spec
from molre_edge.runs.context import InferOptions
from molre_edge.runs.finished import open_run
from molre_edge.runs.reference import choose_reference
from molre_edge.scans import find_scans, read_scan, to_grid

Run = Callable[..., Any]

READS = """
import contextlib
from molre_edge import load_model

stack = contextlib.ExitStack()
model = stack.enter_context(load_model({bundle!r}, "onnxruntime:fp32", readers=0))

def probabilities(path):
    outputs = model.predict(path).outputs
    return dict(zip(model.findings, outputs.probabilities[0].astype("float32")))
"""
"""It reads the files by itself, in its own process, and gives float32 probabilities."""

KNOWS = """
import numpy as np

findings, logits = {findings!r}, np.load({answers!r})

def probabilities(path, files):
    name = path.name.partition(".")[0]
    if name == {broken!r}:
        raise ValueError(f"can't read {{path}}")
    return {{"logits": dict(zip(findings, logits[name][0] + {shift}))}}
"""
"""It knows the engine's answers by the names of the scans."""


class Own:
    """Writes and starts models of a user."""

    def __init__(self, folder: Path, bundle: Bundle, answers: Path) -> None:
        self._folder, self._bundle, self._answers = folder, bundle, answers
        self.started: list[OwnModel] = []

    def _start(self, code: str) -> dict[str, Any]:
        path = self._folder / "mine.py"
        path.write_text(code)
        word = f"{path}:probabilities"
        self.started.append(OwnModel(parse_model_spec(word), self._bundle.grid, self._bundle.findings))
        return {"reference": choose_reference(word, self._bundle), "own_model": self.started[-1].__enter__()}

    def reads(self) -> dict[str, Any]:
        return self._start(READS.format(bundle=str(self._bundle.folder)))

    def knows(self, shift: float = 0.0, broken: str = "") -> dict[str, Any]:
        answers, findings = str(self._answers), self._bundle.findings
        return self._start(KNOWS.format(findings=findings, answers=answers, shift=shift, broken=broken))


@pytest.fixture(scope="session")
def engine_answers(bundle: Bundle, runner: Any, tiny_scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, found = tmp_path_factory.mktemp("known") / "answers.npz", {}
    for source in find_scans(tiny_scans).scans:
        volume = to_grid(read_scan(source), bundle.grid)
        found[source.path.name.partition(".")[0]] = runner.run(volume[None]).outputs.logits
    np.savez(path, **found)
    return path


@pytest.fixture
def own(tmp_path: Path, bundle: Bundle, engine_answers: Path) -> Iterator[Own]:
    """Models of a user, ended after the test."""
    models = Own(tmp_path, bundle, engine_answers)
    yield models
    for model in models.started:
        model.__exit__(None, None, None)


def test_the_engine_is_judged_by_the_user_s_own_model_from_files_to_probabilities(
    run: Run, own: Own, tiny_scans: Path
) -> None:
    result = run(tiny_scans, **own.reads())
    words = "as your model answers (mine.py:probabilities, 4 scans, from scan files)"
    assert result.verdict.headline == f"Parity passed: {words}" and result.compared == "on all 4 scans"
    assert result.numbers.dp.max_abs < 1e-4 and result.exit_code == 0
    texts = {check.name: check.text for check in result.verdict.not_judged}
    assert texts["cosine"] == "not judged: the reference gives no embedding"
    assert texts["routing_l1"] == "not judged: the reference gives no gates"
    assert texts["attention_l1"] == "not judged: the reference gives no attention over slices"
    timing = [row for row in result.timing if row.who == "mine.py:probabilities (reference)"]
    assert [row.phase for row in timing] == ["compute"] and timing[0].n == 4 and timing[0].median_ms > 0
    report = json.loads((result.folder / "report.json").read_text())
    assert report["verdict"]["headline"] == f"Parity passed: {words}" and report["reference"]["kind"] == "own model"
    assert str(tiny_scans) not in (result.folder / "report.html").read_text()
    again = open_run(result.folder).report()
    assert again.verdict is not None and again.verdict.headline == result.verdict.headline


def test_an_engine_that_answers_otherwise_fails(run: Run, own: Own, tiny_scans: Path) -> None:
    result = run(tiny_scans / "head-1", **own.knows(shift=0.01))
    assert result.exit_code == 3
    assert result.verdict.headline.startswith("Parity failed: not as your model answers (mine.py:probabilities, 1 scan")


def test_a_scan_on_which_it_fails_is_answered_and_told_and_the_others_are_compared(
    run: Run, own: Own, tiny_scans: Path, told: Any
) -> None:
    result = run(tiny_scans, **own.knows(broken="head-2"))
    assert len(result.scans) == 4 and result.verdict.passed
    [failed] = result.not_compared
    assert result.exit_code == 4
    assert result.compared == "on 3 of 4 scans"
    assert f"your model failed on 1 scans, which are not compared: {failed}" in result.notes
    assert any(f"{failed} is not compared: mine.py:probabilities: ValueError: can't read" in t for t in told.warnings)
    page = (result.folder / "report.html").read_text()
    assert "your model failed on it (ValueError (line 9))" in page and "head-2" not in page


def test_only_the_first_scans_are_asked_about_if_so_wished(run: Run, own: Own, tiny_scans: Path) -> None:
    assert run(tiny_scans, reference_scans=1, **own.knows()).compared == "on 1 of 4 scans"


def test_the_reference_is_known_by_its_code_and_shown_without_its_path(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("def f(grid): ...")
    first = choose_reference(f"{path}:f", bundle)
    path.write_text("def f(grid): return {}")
    assert first.kind == "own model" and first.why == "your own model, mine.py:f"
    assert choose_reference(f"{path}:f", bundle).identity != choose_reference("golden", bundle).identity == "golden"
    typed = InferOptions(scans=Path("s"), reference=f"{path}:f").as_typed()
    assert typed == "molre-edge infer SCANS --engine fp16 --reference FILE.py:FUNCTION"
