"""docs/reference/checkpoint.md: its checkpoints load and answer by its formula; its tables are complete."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DINOv3ViTModel
from transformers.utils import logging

from molre_edge.model.checkpoint import load_checkpoint, weights_digest
from molre_edge.model.checkpoint_file import FORMAT, FORMAT_VERSION
from molre_edge.model.classifier import HeadCTClassifier
from molre_edge.model.config import (
    AdapterConfig,
    BackboneConfig,
    ModelConfig,
    NormalisationConfig,
    PoolingConfig,
    RouterConfig,
)
from molre_edge.model.defaults import default_config
from molre_edge.model.placement import count_parameters, match_modules
from molre_edge.specs import Grid

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "checkpoint.md").read_text(encoding="utf-8")
SCRIPTS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder in which the page's scripts ran, and the names that they left."""
    folder = tmp_path_factory.mktemp("docs")
    names: dict[str, Any] = {}
    logging.disable_progress_bar()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        torch.manual_seed(0)
        for script in SCRIPTS:
            exec(compile(script, "docs/reference/checkpoint.md", "exec"), names)
    return folder, names


def answer_by_the_formula(folder: Path, names: dict[str, Any], volume: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and gates of one volume [slices, rows, cols], with transformers' model and a loop over the experts."""
    channels = [((volume - c + w / 2) / w).clip(0, 1) for c, w in ((40, 80), (80, 200), (600, 2800))]
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).reshape(2, 1, 3, 1, 1)
    images = (torch.stack(channels, dim=1) - mean) / std
    vit = DINOv3ViTModel.from_pretrained(folder / "dinov3").eval()
    seen: list[Tensor] = []

    def with_experts(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        (x,) = inputs  # [slices, tokens, d]
        gates = torch.softmax(names["router"](x.mean(1)), dim=-1)
        seen.append(gates)
        for k in range(names["K"]):
            update = x @ names["experts_a"][k].T @ names["experts_b"][k].T
            output = output + gates[:, k, None, None] * (16.0 / names["RANK"]) * update
        return output

    vit.get_submodule("model." + names["LAYER"]).register_forward_hook(with_experts)
    x = vit(images).pooler_output  # [slices, d]
    weights = torch.softmax(names["score"](torch.tanh(names["project"](x))), dim=0)
    return names["head"]((weights * x).sum(0)), seen[0]


@pytest.mark.parametrize("name", ["ckpt.pt", "ckpt-without-backbone.pt"])
def test_the_pages_checkpoints_answer_by_the_pages_formula(written: tuple[Path, dict[str, Any]], name: str) -> None:
    folder, names = written
    loaded = load_checkpoint(folder / name, backbone_weights=folder / "dinov3")
    volume = torch.randn(8, 112, 112, generator=torch.Generator().manual_seed(3)) * 60 + 30
    logits, gates = answer_by_the_formula(folder, names, volume)
    answer = loaded.model(volume[None])
    assert answer.gates is not None
    torch.testing.assert_close(answer.gates[0, :, 0], gates, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(answer.logits[0], logits, rtol=1e-4, atol=1e-5)
    assert loaded.config.thresholds == (0.5, 0.4, 0.3)


def test_the_pages_digest_is_ours(written: tuple[Path, dict[str, Any]]) -> None:
    _, names = written
    assert names["digest"](names["backbone"]) == weights_digest(names["backbone"])


def test_the_pages_experts_are_not_without_effect(written: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = written
    model = load_checkpoint(folder / "ckpt.pt").model
    volume = torch.full((1, 8, 112, 112), 30.0)
    before = model(volume).logits
    model.get_submodule("backbone.layer.5.attention.o_proj").lora_B.zero_()
    assert not torch.allclose(model(volume).logits, before, atol=1e-4)


def test_the_page_names_every_field_and_no_other() -> None:
    section = PAGE.split("## The configuration")[1].split("\n## ")[0]
    rows = [re.findall(r"`([a-z_.]+)`", line.split("|")[1]) for line in section.splitlines() if line.startswith("| `")]
    documented = [name for row in rows for name in row]
    tables = {
        "backbone": BackboneConfig, "grid": Grid, "adapter": AdapterConfig, "router": RouterConfig,
        "pooling": PoolingConfig, "normalisation": NormalisationConfig,
    }  # fmt: skip
    real = [f"{table}.{f.name}" for table, kind in tables.items() for f in fields(kind)]
    real += [f.name for f in fields(ModelConfig) if f.name not in tables]
    assert sorted(documented) == sorted(real)


def test_the_pages_patterns_adapt_what_it_says() -> None:
    base = default_config("dinov3-vitb16", adapter="none")
    with torch.device("meta"):
        model = HeadCTClassifier(base)
    projections = [f"backbone.layer.{i}.attention.{p}_proj" for i in (1, 10, 11) for p in "kvqo"]
    for pattern, names in [
        ("backbone.layer.11.attention.o_proj", ["backbone.layer.11.attention.o_proj"]),
        ("layer.11.attention.o_proj", ["backbone.layer.11.attention.o_proj"]),
        ("o_proj", [f"backbone.layer.{i}.attention.o_proj" for i in range(12)]),
        ("layer.1*.attention.*_proj", projections),
    ]:
        assert f"| `{pattern}` |" in PAGE
        assert list(match_modules(model, (pattern,))) == names


def test_the_page_names_the_format() -> None:
    assert f'| `format` | `"{FORMAT}"` |' in PAGE
    assert f"| `version` | `{FORMAT_VERSION}` |" in PAGE


@pytest.mark.parametrize(("backbone", "layers"), [("dinov3-vitb16", 5), ("dinov3-vitb16", 6), ("dinov3-vitl16", 14)])
def test_the_pages_counts_are_counted(backbone: str, layers: int) -> None:
    base = default_config(backbone)
    depth = 24 if backbone == "dinov3-vitl16" else 12
    modules = tuple(f"layer.{i}.attention.o_proj" for i in range(depth - layers, depth))
    config = ModelConfig(backbone=base.backbone, grid=base.grid, adapter=AdapterConfig(modules=modules), budget=1.0)
    with torch.device("meta"):
        count = count_parameters(HeadCTClassifier(config))
    name = backbone.replace("dinov3-vit", "DINOv3-").removesuffix("16").replace("-b", "-B").replace("-l", "-L")
    row = f"| {name} | {layers} | {count.added:,} | {count.rest:,} | {count.fraction:.2%}".replace("%", " %")
    assert row in PAGE
