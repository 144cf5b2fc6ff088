"""Which files of a folder count, and whether its config.json is of the same architecture."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from molre_edge.errors import CheckpointError
from molre_edge.model.backbones.published import check_published, weight_files


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_bytes(b"")


def names(folder: Path, **options: bool) -> list[str]:
    return sorted(path.name for path in weight_files(folder, **options))


def index(folder: Path, content: Any, name: str = "model.safetensors.index.json") -> None:
    (folder / name).write_text(json.dumps(content), encoding="utf-8")


def test_the_files_are_those_that_transformers_reads(tmp_path: Path) -> None:
    put(tmp_path, "last.ckpt")
    assert names(tmp_path) == ["last.ckpt"]
    put(tmp_path, "pytorch_model-1.bin")
    index(tmp_path, {"weight_map": {"a": "pytorch_model-1.bin"}}, "pytorch_model.bin.index.json")
    assert names(tmp_path) == ["pytorch_model-1.bin"]
    put(tmp_path, "pytorch_model.bin")
    assert names(tmp_path) == ["pytorch_model.bin"]
    put(tmp_path, "one.safetensors", "two.safetensors")
    index(tmp_path, {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}})
    assert names(tmp_path) == ["one.safetensors", "two.safetensors"]
    put(tmp_path, "model.safetensors", "model_ema.safetensors")
    assert names(tmp_path) == ["model.safetensors"]


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_several_files_of_which_none_is_the_one_are_refused_by_name(tmp_path: Path, suffix: str) -> None:
    put(tmp_path, f"weights{suffix}")
    assert names(tmp_path) == [f"weights{suffix}"]
    put(tmp_path, f"weights_ema{suffix}")
    with pytest.raises(CheckpointError, match=rf"2 weight files \(weights{suffix}, weights_ema{suffix}\) and neither"):
        weight_files(tmp_path)


def test_pickled_files_count_only_where_they_are_read(tmp_path: Path) -> None:
    put(tmp_path, "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="there are no weight files"):
        weight_files(tmp_path, pickled=False)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "not a readable JSON file"),
        ({}, "'weight_map' is missing or empty"),
        ({"weight_map": {"a": "../other/model.safetensors"}}, "'a': expected the name of a file beside it"),
        ({"weight_map": {"a": 3}}, "'a': expected the name of a file beside it, got 3"),
        ({"weight_map": {"a": "here", "b": "gone-1", "c": "gone-2"}}, r"2 of its 3 files are missing \(gone-1, gone-2"),
    ],
)
def test_an_index_that_can_not_be_followed_is_refused(tmp_path: Path, content: Any, words: str) -> None:
    put(tmp_path, "here")
    index(tmp_path, content)
    with pytest.raises(CheckpointError, match=words):
        weight_files(tmp_path)


def test_an_index_that_is_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.safetensors.index.json")
    with pytest.raises(CheckpointError, match="a named pipe, not a regular file"):
        weight_files(tmp_path)


OURS = {"hidden_size": 64, "hidden_act": "gelu", "layer_norm_eps": 1e-6, "patch_size": 12, "norm": "batch"}


@pytest.mark.parametrize(
    "content",
    [
        OURS,
        {"vision_config": OURS, "hidden_size": 5000, "text_config": {"hidden_act": "silu"}},
        {"patch_size": [12, 12, 12], "norm": "BATCH"},
        {},
    ],
)
def test_equal_settings_and_those_that_are_not_named_pass(tmp_path: Path, content: Any) -> None:
    index(tmp_path, content, "config.json")
    check_published(tmp_path, OURS)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"hidden_act": "gelu_new"}, "hidden_act is 'gelu_new', the checkpoint's backbone has 'gelu'"),
        ({"vision_config": {"layer_norm_eps": 1e-5}}, "layer_norm_eps is 1e-05, the checkpoint's backbone has 1e-06"),
        ({"patch_size": [12, 12, 8]}, r"patch_size is \[12, 12, 8\]"),
        ({"vision_config": 3}, "vision_config is 3, expected a table"),
        ({"quantization_config": {"bits": 8}}, "the weights are quantised. Expected float weights"),
        ({"vision_config": {"quantization_config": {"bits": 8}}}, "the weights are quantised"),
        ({"model_type": "clip"}, "model_type is 'clip', expected 'vit'"),
        ([], "not a readable JSON file"),
    ],
)
def test_a_setting_that_changes_numbers_is_refused_by_name(tmp_path: Path, content: Any, words: str) -> None:
    index(tmp_path, content, "config.json")
    with pytest.raises(CheckpointError, match=words):
        check_published(tmp_path, OURS, model_types=("vit",))


def test_a_setting_that_is_left_out_has_the_default(tmp_path: Path) -> None:
    index(tmp_path, {}, "config.json")
    with pytest.raises(CheckpointError, match="hidden_act is 'silu', the checkpoint's backbone has 'gelu'"):
        check_published(tmp_path, OURS, defaults={"hidden_act": "silu"})


def test_a_folder_without_a_configuration_passes_unless_one_is_required(tmp_path: Path) -> None:
    check_published(tmp_path, OURS)
    with pytest.raises(CheckpointError, match="Expected a Hugging Face folder with"):
        check_published(tmp_path, OURS, required=True)
