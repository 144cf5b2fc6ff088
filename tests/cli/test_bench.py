"""``molre-edge bench`` as a user types it."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

OTHER = ("openvino",) if find_spec("openvino") else ()


@pytest.fixture
def bench(invoke: Any, tiny_bundle: Path) -> Any:
    return lambda *words: invoke("bench", "--bundle", tiny_bundle, "--rounds", "3", "--threads", "1", *words)


def test_all_that_is_ready_is_measured(bench: Any) -> None:
    done = bench("--batch", "2", "--batch", "1", "--json", "-o", "figures")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert [(row["name"], row["batch"]) for row in result["rows"]] == [
        (f"{runtime}:{p}", batch) for batch in (1, 2) for runtime in ("onnxruntime", *OTHER) for p in ("fp32", "fp16")
    ]
    assert result == json.loads(Path("figures/bench.json").read_text())
    assert Path("figures/bench.html").is_file()
    assert result["volumes"] == "3 golden volumes" and result["machine"]["before"]["cores"] >= 1
    assert "not a cleared medical device" in done.stderr and "load" in done.stderr


def test_the_plain_model_and_pytorch_are_measured_when_asked_for(bench: Any, tiny_checkpoint: Path) -> None:
    done = bench("--engine", "fp32", "--engine", "torch", "--plain", tiny_checkpoint, "--json")
    rows = {row["name"]: row for row in json.loads(done.stdout)["rows"]}
    assert list(rows) == ["onnxruntime:fp32", "torch:fp32", "plain:fp32"]
    assert [row["answers"] for row in rows.values()] == ["right", "right", "not judged"]
    assert len(rows["onnxruntime:fp32"]["to_plain"]) == 3 and rows["torch:fp32"]["to_first"] is not None


def test_without_pytorch_the_plain_model_says_what_to_install(
    spawn: Any, tiny_bundle: Path, tiny_checkpoint: Path
) -> None:
    done = spawn("bench", "--bundle", tiny_bundle, "--plain", tiny_checkpoint, driver=("without", 0))
    assert done.returncode == 1 and "pip install 'molre-edge[export]'" in done.stderr, done.stderr


def test_scans_are_run_instead_of_golden_volumes(bench: Any, tiny_scans: Path) -> None:
    done = bench(tiny_scans, "--engine", "fp32")
    assert done.exit_code == 0 and "4 scans; 3 rounds" in done.stdout


def test_another_checkpoint_is_no_plain_model_of_this_bundle(bench: Any) -> None:
    Path("other.pt").write_bytes(b"x")
    done = bench("--plain", "other.pt")
    assert done.exit_code == 1 and "its SHA-256 is not that of the checkpoint" in done.stderr


@pytest.mark.parametrize(("words", "code"), [(("--engine", "fast"), 2), (("--engine", "tensorrt:fp16"), 1)])
def test_an_engine_that_is_none_or_not_ready(words: tuple[str, ...], code: int, bench: Any) -> None:
    assert bench(*words).exit_code == code
