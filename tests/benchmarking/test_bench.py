"""The verb bench_runners, its data and its page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from run_fixtures import with_wrong_slot

from molre_edge.benchmarking import bench as module
from molre_edge.benchmarking.bench import bench_runners
from molre_edge.benchmarking.measure import Candidate
from molre_edge.bundle.bundle import Bundle
from molre_edge.engines.onnxruntime_runner import OnnxRuntimeRunner
from molre_edge.errors import EngineError, RunError
from molre_edge.machine import NOT_TOLD


def missing() -> Any:
    raise EngineError("no GPU")


def test_the_page_and_the_json_hold_all_of_it(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = module.find_candidates
    monkeypatch.setattr(module, "find_candidates", lambda *a, **k: [*real(*a, **k), Candidate("tensorrt:<b>", missing)])
    result = bench_runners(bundle, batches=[1, 2], rounds=3, threads=1, out=tmp_path / "bench")
    assert result.page == tmp_path / "bench" / "bench.html"
    read = json.loads((tmp_path / "bench" / "bench.json").read_text())
    assert read == json.loads(json.dumps(result.to_dict()))
    assert [row["name"] for row in read["rows"]] == [row.name for row in result.rows]
    assert read["rows"][0]["watts"] == NOT_TOLD and read["machine"]["before"]["gpu"] == NOT_TOLD
    assert set(read["includes"]) == {"total", "compute"}
    assert read["volumes"] == "3 golden volumes" and read["not_ready"] == {"tensorrt:<b>": "no GPU"}
    text = result.page.read_text(encoding="utf-8")
    assert text.count("<svg") == 1 and "onnxruntime:fp16, batch 2" in text and "not a cleared medical device" in text
    assert "tensorrt:&lt;b&gt;" in text and "http" not in text.replace("http-equiv", "")


def test_without_a_folder_nothing_is_written(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = bench_runners(bundle.folder, engines=["fp32"], rounds=3, threads=1)
    assert result.page is None and list(tmp_path.iterdir()) == []
    assert len(result.rows[0].texts) == 6


def test_a_runner_that_is_wrong_in_one_slot_of_a_batch_is_shown_as_wrong_at_that_size(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = OnnxRuntimeRunner.run
    monkeypatch.setattr(OnnxRuntimeRunner, "run", lambda self, volume: with_wrong_slot(run(self, volume), 3))
    result = bench_runners(bundle, engines=["fp32"], batches=[1, 2, 4], rounds=3, threads=1, out=tmp_path)
    assert [(row.batch, row.answers) for row in result.rows] == [(1, "right"), (2, "right"), (4, "wrong")]
    judged = result.to_dict()["answers"]["onnxruntime:fp32"]
    assert judged["passed"] is False and judged["wrong_slots"] == {"1": [], "2": [], "4": [3]}
    assert result.exit_code == 3 and "wrongly in slot 3 of a batch of 4" in (tmp_path / "bench.html").read_text()


@pytest.mark.parametrize("words", [{"batches": [0]}, {"batches": []}, {"rounds": 0}])
def test_numbers_out_of_range_are_refused(words: dict[str, Any], bundle: Bundle) -> None:
    with pytest.raises(RunError, match="expected whole numbers of at least 1"):
        bench_runners(bundle, **words)
