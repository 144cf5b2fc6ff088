"""A LoRA of Hugging Face PEFT becomes a checkpoint whose answers are those of the base with the LoRA merged in."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from molre_edge.errors import CheckpointError
from molre_edge.model.checkpoint import LoadedCheckpoint, load_checkpoint, save_checkpoint
from molre_edge.model.classifier import HeadCTClassifier
from molre_edge.model.config import AdapterConfig, BackboneConfig, ModelConfig
from molre_edge.model.peft import put_lora_on
from molre_edge.specs import Grid

SIZE = {"num_hidden_layers": 2, "hidden_size": 48, "num_attention_heads": 3, "intermediate_size": 64}
CONFIG = {
    "peft_type": "LORA", "task_type": None, "base_model_name_or_path": "dinov3", "revision": None, "auto_mapping": None,
    "inference_mode": True, "r": 4, "lora_alpha": 12, "lora_dropout": 0.1, "target_modules": ["q_proj", "v_proj"],
    "exclude_modules": None, "bias": "none", "modules_to_save": None, "init_lora_weights": True, "use_dora": False,
    "use_rslora": False, "lora_bias": False, "fan_in_fan_out": False, "rank_pattern": {}, "alpha_pattern": {},
    "layers_to_transform": None, "layers_pattern": None, "layer_replication": None, "loftq_config": {},
    "eva_config": None, "corda_config": None, "megatron_config": None, "megatron_core": "megatron.core",
    "trainable_token_indices": None, "use_qalora": False, "qalora_group_size": 16, "target_parameters": None,
}  # fmt: skip
"""As ``save_pretrained`` of PEFT writes it for a plain LoRA."""
MODULES = tuple(f"layer.{i}.attention.{name}_proj" for i in (0, 1) for name in "qv")

Write = Callable[..., Path]


def config(experts: int = 0, **changes: Any) -> ModelConfig:
    adapter = AdapterConfig(modules=("q_proj",), experts=experts, rank=2) if experts else AdapterConfig(experts=0)
    values: dict[str, Any] = {
        "backbone": BackboneConfig(id="dinov3-vits16", options=SIZE),
        "grid": Grid(slices=2, rows=32, cols=32),
        "findings": ("a", "b"),
        "thresholds": (0.3, 0.6),
        "adapter": adapter,
        "budget": 10.0,
    }
    return ModelConfig(**{**values, **changes})


def loaded(wanted: ModelConfig, folder: Path) -> LoadedCheckpoint:
    torch.manual_seed(0)
    path = folder / "base.pt"
    save_checkpoint(HeadCTClassifier(wanted), path)
    return load_checkpoint(path)


@pytest.fixture
def base(tmp_path: Path) -> LoadedCheckpoint:
    return loaded(config(), tmp_path)


def matrices(modules: tuple[str, ...] = MODULES, width: int = 48, rank: int = 4) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    return {
        f"base_model.model.{module}.lora_{side}.weight": 0.3 * torch.randn(*shape, generator=draw)
        for module in modules
        for side, shape in (("A", (rank, width)), ("B", (width, rank)))
    }


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write PEFT's folder; changes go to its configuration."""

    def go(tensors: dict[str, torch.Tensor] | None = None, **changes: Any) -> Path:
        folder = tmp_path / "lora"
        folder.mkdir(exist_ok=True)
        (folder / "adapter_config.json").write_text(json.dumps({**CONFIG, **changes}))
        save_file(matrices() if tensors is None else tensors, folder / "adapter_model.safetensors", {"format": "pt"})
        return folder

    return go


def merged(base: LoadedCheckpoint, tensors: dict[str, torch.Tensor], scale: float) -> HeadCTClassifier:
    """The base with W + scale * B A, added up product by product."""
    model = copy.deepcopy(base.model)
    for name in [name for name in tensors if name.endswith("lora_A.weight")]:
        module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        a, b = tensors[name], tensors[name.replace("lora_A", "lora_B")]
        weight = model.get_submodule(f"backbone.{module}").weight
        for r in range(a.shape[0]):
            weight.data += scale * torch.tensordot(b.flatten(1)[:, r], a[r], dims=0)
    return model


def answers(model: HeadCTClassifier) -> torch.Tensor:
    volume = 80 * torch.rand(2, *model.config.grid.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits: torch.Tensor = model(volume).logits
    return logits


def test_logits_are_those_of_base_and_lora(base: LoadedCheckpoint, write: Write, tmp_path: Path) -> None:
    imported = put_lora_on(write(), base)
    expected = answers(merged(base, matrices(), 12 / 4))
    assert not torch.allclose(expected, answers(base.model), atol=1e-2)
    torch.testing.assert_close(answers(imported.model), expected, atol=1e-5, rtol=1e-4)
    save_checkpoint(imported.model, tmp_path / "ckpt.pt")
    again = load_checkpoint(tmp_path / "ckpt.pt")
    torch.testing.assert_close(answers(again.model), expected, atol=1e-5, rtol=1e-4)
    adapter = again.config.adapter
    assert (adapter.experts, adapter.rank, adapter.alpha) == (1, 4, 12.0)
    assert adapter.modules == tuple(f"backbone.{module}" for module in MODULES)
    assert again.config.thresholds == (0.3, 0.6)


def test_convolutions_come_with_b_of_one_by_one(write: Write, tmp_path: Path) -> None:
    small = BackboneConfig(id="convnet2d-small", options={"width": 4, "blocks": 2})
    base = loaded(config(backbone=small), tmp_path)
    key = "base_model.model.blocks.1.conv1.lora_"
    tensors = {f"{key}A.weight": torch.randn(3, 8, 3, 3), f"{key}B.weight": torch.randn(8, 3, 1, 1)}
    imported = put_lora_on(write(tensors, r=3, lora_alpha=6, target_modules=["1.conv1"]), base)
    torch.testing.assert_close(answers(imported.model), answers(merged(base, tensors, 2.0)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("prefix", ["", "model.", "vision_tower.vision_model.", "backbone."])
def test_modules_are_matched_by_the_end_of_their_names(prefix: str, base: LoadedCheckpoint, write: Write) -> None:
    modules = tuple(prefix + module for module in MODULES)
    imported = put_lora_on(write(matrices(modules)), base)
    assert imported.layers == {prefix + module: f"backbone.{module}" for module in sorted(MODULES)}
    torch.testing.assert_close(answers(imported.model), answers(merged(base, matrices(), 3.0)), atol=1e-5, rtol=1e-4)


def test_a_head_and_half_precision_are_taken(base: LoadedCheckpoint, write: Write) -> None:
    tensors = {
        "base_model.model.head.lora_A.weight": torch.randn(4, 48).bfloat16(),
        "base_model.model.head.lora_B.weight": torch.randn(2, 4).bfloat16(),
    }
    model = put_lora_on(write(tensors, target_modules=["head"]), base).model
    expected = (
        base.model.head.weight
        + 3
        * tensors["base_model.model.head.lora_B.weight"].float()
        @ tensors["base_model.model.head.lora_A.weight"].float()
    )
    embedding = torch.randn(1, 48)
    torch.testing.assert_close(model.head(embedding), embedding @ expected.T + base.model.head.bias)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_dora": True}, "'use_dora' is True: DoRA scales .* use_dora=False"),
        ({"use_rslora": True}, r"'use_rslora' is True: rsLoRA .* lora_alpha to alpha \* sqrt\(r\)"),
        ({"bias": "lora_only"}, "'bias' is 'lora_only': .* bias='none'"),
        ({"lora_bias": True}, "'lora_bias' is True"),
        ({"modules_to_save": ["head"]}, "'modules_to_save' is .* belong in the base checkpoint"),
        ({"rank_pattern": {"q_proj": 8}}, "'rank_pattern' is"),
        ({"alpha_pattern": {"q_proj": 8}}, "'alpha_pattern' is"),
        ({"fan_in_fan_out": True}, "'fan_in_fan_out' is True"),
        ({"layer_replication": [[0, 1]]}, "'layer_replication' is"),
        ({"use_qalora": True}, "'use_qalora' is True: this release does not know this setting"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights is 'pissa', which changes the base's weights"),
        ({"peft_type": "LOHA"}, "peft_type is 'LOHA'; only LORA"),
        ({"peft_type": None}, "peft_type is None; only LORA"),
        ({"r": 0}, "r: expected a whole number above 0, got 0"),
        ({"lora_alpha": "8"}, "lora_alpha: expected a number above 0"),
        ({"r": 8}, r"lora_A: expected shape \(8, 48\) as backbone\..* needs, got \(4, 48\)"),
        ({"r": 4096}, r"adapter\.rank: expected a whole number from 1 to 512"),
        ({"target_modules": ["q_proj"]}, r"target_modules does not name '.*v_proj', which has weights"),
        (
            {"target_modules": ["q_proj", "v_proj", "up_proj"]},
            r"no weights for 2 of .*: layer\.0\.mlp\.up_proj, layer",
        ),
        ({"target_modules": ["q_proj", "v_proj", "gate"]}, "target_modules names 'gate', which has no weights"),
        ({"target_modules": ".*q_proj"}, r"target_modules does not name '.*v_proj', which has weights"),
        (
            {"target_modules": r".*\.([qv]|o)_proj"},
            r"no weights for 2 of .*: layer\.0\.attention\.o_proj, layer\.1",
        ),
        ({"target_modules": "all-linear"}, r"no weights for 8 of .*: layer\.0\.attention\.k_proj, "),
        ({"target_modules": "("}, "target_modules is '\\(', which is not a regular expression"),
        ({"target_modules": None}, "target_modules: expected names or a regular expression, got None"),
        ({"target_modules": 3}, "target_modules: expected names, got 3"),
        ({"layers_to_transform": [0]}, "layers_to_transform is 0, but the weights belong to other blocks"),
        ({"layers_to_transform": [0, 1, 2]}, "layers_to_transform is 0, 1, 2"),
        ({"layers_to_transform": [0, 1], "layers_pattern": "h"}, "layers_to_transform is 0, 1"),
        ({"layers_to_transform": "all"}, "layers_to_transform: expected whole numbers"),
    ],
)
def test_what_is_more_than_plain_lora_is_refused_by_name(
    changes: dict[str, Any], message: str, base: LoadedCheckpoint, write: Write
) -> None:
    with pytest.raises(CheckpointError, match=message):
        put_lora_on(write(**changes), base)


@pytest.mark.parametrize(
    "changes",
    [
        {"layers_to_transform": [0, 1]},
        {"layers_to_transform": [1, 0], "layers_pattern": "layer"},
        {"target_modules": ".*[qv]_proj"},
        {"target_modules": ["attention.q_proj", "attention.v_proj"], "init_lora_weights": "gaussian"},
        {"target_modules": ["q_proj", "v_proj", "o_proj"], "exclude_modules": ["o_proj"]},
        {"target_modules": ["q_proj", "v_proj", "k_proj"], "exclude_modules": ".*[ok]_proj"},
        {"loftq_config": {"loftq_bits": 4}, "peft_version": "0.18.0", "ensure_weight_tying": True},
    ],
)
def test_what_changes_nothing_is_taken(changes: dict[str, Any], base: LoadedCheckpoint, write: Write) -> None:
    assert len(put_lora_on(write(**changes), base).layers) == 4


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("layer.0.attention.q_proj.lora_magnitude_vector", "of DoRA"),
        ("layer.0.attention.q_proj.lora_embedding_A", "of an embedding"),
        ("layer.0.attention.q_proj.bias", "a bias"),
        ("layer.0.attention.q_proj.lora_B.bias", "a bias"),
        ("head.modules_to_save.weight", "of a module trained in full"),
        ("layer.0.attention.q_proj.lora_A.default.weight", "not named like a LoRA matrix"),
    ],
)
def test_weights_of_something_else_are_refused_by_name(
    name: str, message: str, base: LoadedCheckpoint, write: Write
) -> None:
    with pytest.raises(CheckpointError, match=f"'base_model.*{name[-20:]}' is {message}"):
        put_lora_on(write({**matrices(), f"base_model.model.{name}": torch.zeros(48)}), base)


def without(tensors: dict[str, torch.Tensor], end: str) -> dict[str, torch.Tensor]:
    return {name: value for name, value in tensors.items() if not name.endswith(end)}


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "holds no LoRA"),
        (without(matrices(), "1.attention.v_proj.lora_B.weight"), r"v_proj\.lora_B\.weight is missing"),
        (matrices(("layer.7.attention.q_proj",)), "'layer.7.attention.q_proj' fits no layer of the base"),
        (matrices(("q_proj",)), r"'q_proj' fits 2 layers \(backbone\.layer\.0"),
        (matrices(("a.layer.0.attention.q_proj", "b.layer.0.attention.q_proj")), "both fit backbone"),
        (matrices(width=32), r"expected shape \(4, 48\) .* got \(4, 32\); the LoRA was trained on another model"),
        ({**matrices(), f"base_model.model.{MODULES[0]}.lora_A.weight": torch.full((4, 48), torch.nan)}, "finite"),
        ({n: v.to(torch.int32) for n, v in matrices().items()}, "floating-point"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    tensors: dict[str, torch.Tensor], message: str, base: LoadedCheckpoint, write: Write
) -> None:
    with pytest.raises(CheckpointError, match=message):
        put_lora_on(write(tensors, target_modules=r".*[qv]_proj"), base)


@pytest.mark.parametrize("prefix", ["", "vision_tower.vision_model.", "backbone."])
@pytest.mark.parametrize(
    ("gone", "targets", "words"),
    [
        (("layer.1.attention.v_proj",), ["q_proj", "v_proj"], "for 1 of .*: {}layer.1.attention.v_proj. Exp"),
        (MODULES[:2], ["q_proj", "v_proj"], "for 2 of .*: {}layer.0.attention.q_proj, {}layer.0.attention.v_"),
        (MODULES[:2], r".*attention\.[qv]_proj", "for 2 of .*: {}layer.0.attention.q_proj, {}layer.0.atten"),
        (
            (),
            ["o_proj", "q_proj", "v_proj"],
            "for 2 of .*: {}layer.0.attention.o_proj, {}layer.1.attention.o_",
        ),
    ],
)
def test_layers_that_the_configuration_names_and_the_file_has_not_are_named(
    prefix: str, gone: tuple[str, ...], targets: Any, words: str, base: LoadedCheckpoint, write: Write
) -> None:
    left = tuple(prefix + module for module in MODULES if module not in gone)
    with pytest.raises(
        CheckpointError, match="adapter_model.safetensors has no weights " + words.replace("{}", prefix)
    ):
        put_lora_on(write(matrices(left), target_modules=targets), base)


def test_layers_to_transform_say_which_layers_are_to_be_there(base: LoadedCheckpoint, write: Write) -> None:
    one = matrices(MODULES[2:])
    assert len(put_lora_on(write(one, layers_to_transform=[1]), base).layers) == 2
    with pytest.raises(CheckpointError, match=r"for 1 of .*: layer\.1\.attention\.v_proj"):
        put_lora_on(write(matrices(MODULES[2:3]), layers_to_transform=1), base)


def test_an_expression_without_an_end_is_given_up(
    base: LoadedCheckpoint, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("molre_edge.model.peft_config._SECONDS", 1)
    with pytest.raises(CheckpointError, match="was not matched within 1 s"):
        put_lora_on(write(target_modules="([a-z_.0-9]+)+!"), base)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_pipe_is_refused_at_once(name: str, base: LoadedCheckpoint, write: Write) -> None:
    folder = write()
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(CheckpointError, match=rf"{name}: can't be read.*a named pipe, not a regular file"):
        put_lora_on(folder, base)


def test_a_pickle_is_never_opened(base: LoadedCheckpoint, write: Write) -> None:
    folder = write()
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(CheckpointError, match=r"adapter_model\.bin, a pickle, .* never opened: .* safe_serialization"):
        put_lora_on(folder, base)


@pytest.mark.parametrize("content", [None, "", "[]", "{", '{"peft_type": "LORA", "x": "' + "a" * (1 << 20) + '"}'])
def test_a_configuration_that_can_not_be_read_is_refused(
    content: str | None, base: LoadedCheckpoint, write: Write
) -> None:
    folder = write()
    if content is None:
        (folder / "adapter_config.json").unlink()
    else:
        (folder / "adapter_config.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"adapter_config\.json: (can't be read|no such file)"):
        put_lora_on(folder, base)


def test_weights_that_are_cut_or_not_there_are_refused(base: LoadedCheckpoint, write: Write) -> None:
    path = write() / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        put_lora_on(path.parent, base)
    path.unlink()
    with pytest.raises(CheckpointError, match="no such file; pass the folder that PEFT's save_pretrained wrote"):
        put_lora_on(path.parent, base)


def test_a_base_with_adapters_is_refused(tmp_path: Path, write: Write) -> None:
    with pytest.raises(CheckpointError, match=r"the base already has adapters \(K = 1\)"):
        put_lora_on(write(), loaded(config(1), tmp_path))


def test_more_than_the_budget_is_refused_unless_asked_for(tmp_path: Path, write: Write) -> None:
    base = loaded(config(budget=0.005), tmp_path)
    with pytest.raises(CheckpointError, match=r"but the budget is 0\.50%"):
        put_lora_on(write(), base)
    assert put_lora_on(write(), base, budget=1.0).model.config.budget == 1.0


def test_the_file_written_by_hand_here_is_read_by_safetensors_as_peft_names_it(write: Write) -> None:
    names = set(load_file(write() / "adapter_model.safetensors"))
    assert "base_model.model.layer.0.attention.q_proj.lora_A.weight" in names and len(names) == 8
