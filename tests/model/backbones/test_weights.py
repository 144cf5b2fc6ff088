"""Published weights in a local folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from molre_edge.errors import CheckpointError
from molre_edge.model.backbones.weights import check_published, load_published, published_tensors


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_the_tower_is_found_under_its_prefix_among_other_weights(tmp_path: Path) -> None:
    source, target = model(), model()
    weights = {f"a.tower.{name}": value for name, value in source.state_dict().items()}
    save_file(weights | {"b.0.weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    load_published(target, tmp_path)
    assert same(source, target)


def test_of_two_whole_towers_the_one_of_the_shorter_prefix_is_taken(tmp_path: Path) -> None:
    source, average, target = model(), model(), model()
    weights = {f"tower.{name}": value for name, value in source.state_dict().items()}
    weights |= {f"average.tower.{name}": value for name, value in average.state_dict().items()}
    save_file(weights, tmp_path / "model.safetensors")
    load_published(target, tmp_path)
    assert same(source, target)


def test_weights_may_be_spread_over_files_and_stored_as_half_floats(tmp_path: Path) -> None:
    source, target = model(), model()
    for i, (name, value) in enumerate(source.state_dict().items()):
        value.copy_(value.half())
        save_file({name: value.half()}, tmp_path / f"model-{i}.safetensors")
    load_published(target, tmp_path)
    assert same(source, target)
    assert {value.dtype for value in target.state_dict().values()} == {torch.float32}


def test_a_training_scripts_nested_pytorch_file_is_read(tmp_path: Path) -> None:
    source, target = model(), model()
    torch.save({"epoch": 3, "state_dict": {"module": source.state_dict()}}, tmp_path / "last.pth")
    load_published(target, tmp_path)
    assert same(source, target)


def test_a_safetensors_file_under_another_suffix_is_read(tmp_path: Path) -> None:
    save_file({"x": torch.ones(2)}, tmp_path / "vision.pt")
    assert list(published_tensors(tmp_path)) == ["x"]


def test_a_backbone_on_meta_takes_the_weights(tmp_path: Path) -> None:
    source = model()
    save_file(source.state_dict(), tmp_path / "model.safetensors")
    with torch.device("meta"):
        target = model()
    load_published(target, tmp_path)
    assert same(source, target)


class _Runs:
    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("this must not run",))


def test_a_file_that_would_run_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"x": _Runs()}, tmp_path / "weights.pt")
    with pytest.raises(CheckpointError, match="refused, since loading it would run code"):
        published_tensors(tmp_path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"nothing that was ever weights")
    with pytest.raises(CheckpointError, match=name):
        published_tensors(tmp_path)


def test_a_folder_without_weights_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="expected a folder with the backbone's published weights"):
        published_tensors(tmp_path)


def test_missing_weights_are_named_beside_some_that_are_there(tmp_path: Path) -> None:
    save_file({"tower.0.weight": torch.zeros(3, 2), "tower.0.bias": torch.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"2 of the backbone's 4 weights are not there \(1\.bias, 1\.weight\)"):
        load_published(model(), tmp_path)


def test_a_weight_of_another_shape_is_named_with_both_shapes(tmp_path: Path) -> None:
    weights = {**model().state_dict(), "0.weight": torch.zeros(3, 4)}
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"0\.weight: expected shape \(3, 2\), got \(3, 4\)"):
        load_published(model(), tmp_path)


def test_names_and_values_can_be_translated(tmp_path: Path) -> None:
    source, target = model(), model()
    weights = {f"net.{name}": -value for name, value in source.state_dict().items()}
    save_file(weights, tmp_path / "model.safetensors")
    load_published(target, tmp_path, their_name=lambda name: f"net.{name}", change=lambda name, value: -value)
    assert same(source, target)


def test_a_configuration_that_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[]", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"config\.json: not a readable Hugging Face configuration"):
        check_published(tmp_path, {"hidden_size": 3})
