"""``molre-edge export-triton``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def test_it_writes_a_repository_and_says_how_it_is_served(invoke: Any, tiny_bundle: Path) -> None:
    done = invoke("export-triton", "models", "--bundle", tiny_bundle, "--form", "python", "--form", "onnx")
    assert done.exit_code == 0, done.output
    assert "Model: molre-python, fp16, up to 8 volumes a call" in done.stdout
    assert "tritonserver --model-repository models" in done.stdout
    assert (Path("models") / "molre-onnx" / "1" / "model.onnx").is_file()
    done = invoke("export-triton", "models", "--bundle", tiny_bundle)
    assert done.exit_code == 1 and "models: exists already" in done.stderr


def test_its_json_is_the_record_of_the_models(invoke: Any, tiny_bundle: Path) -> None:
    told = json.loads(invoke("export-triton", "models", "--bundle", tiny_bundle, "--max-batch", 2, "--json").stdout)
    record = json.loads((Path("models") / "molre-edge.json").read_text())
    assert told["models"] == record["models"] and told["digest"] == record["bundle"]["digest"]
    assert [model["max_batch"] for model in told["models"]] == [2]


def test_a_form_or_an_engine_that_nobody_knows_is_wrong_use(invoke: Any, tiny_bundle: Path) -> None:
    assert invoke("export-triton", "models", "--bundle", tiny_bundle, "--form", "wsgi").exit_code == 2
    done = invoke("export-triton", "models", "--bundle", tiny_bundle, "--engine", "torch")
    assert done.exit_code == 2 and "needs an engine" in done.stderr
    assert not Path("models").exists()
