"""``molre-edge import-peft`` as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from molre_edge.model.checkpoint import load_checkpoint, save_checkpoint
from molre_edge.model.classifier import HeadCTClassifier
from molre_edge.model.config import BackboneConfig, ModelConfig
from molre_edge.specs import Grid


@pytest.fixture
def material() -> tuple[Path, Path]:
    """A LoRA's folder and its base, in the current folder."""
    config = ModelConfig(
        backbone=BackboneConfig(id="convnet2d-small", options={"width": 4, "blocks": 2}),
        grid=Grid(slices=2, rows=32, cols=32),
        findings=("a",),
        budget=1.0,
    )
    base, folder = Path("base.pt"), Path("lora")
    save_checkpoint(HeadCTClassifier(config), base)
    folder.mkdir()
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["1.conv1"], "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    key = "base_model.model.blocks.1.conv1.lora_"
    tensors = {f"{key}A.weight": torch.randn(2, 8, 3, 3), f"{key}B.weight": torch.randn(8, 2, 1, 1)}
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder, base


def test_it_writes_a_checkpoint_and_says_what_went_where(material: tuple[Path, Path], invoke: Any) -> None:
    folder, base = material
    done = invoke("import-peft", folder, "--base", base, "-o", "ckpt.safetensors")
    assert done.exit_code == 0
    assert "blocks.1.conv1 -> backbone.blocks.1.conv1" in done.stdout and "r = 2, alpha = 4" in done.stdout
    assert "thresholds are those of the base" in done.stderr
    assert load_checkpoint(Path("ckpt.safetensors")).config.adapter.experts == 1


def test_json_alone_goes_to_stdout(material: tuple[Path, Path], invoke: Any) -> None:
    folder, base = material
    data = json.loads(invoke("import-peft", folder, "--base", base, "--json").stdout)
    assert data["layers"] == {"blocks.1.conv1": "backbone.blocks.1.conv1"}
    assert (data["checkpoint"], data["rank"], data["alpha"]) == ("ckpt.pt", 2, 4.0)
    assert data["added_parameters"] == 2 * 8 * 9 + 8 * 2


def test_a_file_that_is_there_is_replaced_only_when_asked(material: tuple[Path, Path], invoke: Any) -> None:
    folder, base = material
    Path("ckpt.pt").write_text("mine")
    done = invoke("import-peft", folder, "--base", base)
    assert done.exit_code == 2 and "--force" in done.stderr and Path("ckpt.pt").read_text() == "mine"
    assert invoke("import-peft", folder, "--base", base, "--force").exit_code == 0
    assert load_checkpoint(Path("ckpt.pt")).config.adapter.rank == 2


def test_what_can_not_be_imported_is_a_message_and_leaves_nothing(material: tuple[Path, Path], invoke: Any) -> None:
    folder, base = material
    settings = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**settings, "use_dora": True}))
    done = invoke("import-peft", folder, "--base", base)
    assert done.exit_code == 1 and done.stderr.splitlines()[-1].startswith("error: ") and "DoRA" in done.stderr
    assert not Path("ckpt.pt").exists()


def test_an_output_of_another_kind_is_a_wrong_use(material: tuple[Path, Path], invoke: Any) -> None:
    folder, base = material
    assert invoke("import-peft", folder, "--base", base, "-o", "ckpt.onnx").exit_code == 2
    assert invoke("import-peft", folder, "--base", "gone.pt").exit_code == 2
