"""Published weights in a local folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from molre_edge.errors import CheckpointError
from molre_edge.model.backbones.weights import load_published, published_tensors


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
    source, target, places = model(), model(), {}
    for i, (name, value) in enumerate(source.state_dict().items()):
        value.copy_(value.half())
        places[name] = f"model-{i}.safetensors"
        save_file({name: value.half()}, tmp_path / places[name])
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
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
    with pytest.raises(CheckpointError, match="refused because loading it would run code"):
        published_tensors(tmp_path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"nothing that was ever weights")
    with pytest.raises(CheckpointError, match=name):
        published_tensors(tmp_path)


def test_a_folder_without_weights_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="Expected a folder with the backbone's published weights"):
        published_tensors(tmp_path)


def test_missing_weights_are_named_beside_some_that_are_there(tmp_path: Path) -> None:
    save_file({"tower.0.weight": torch.zeros(3, 2), "tower.0.bias": torch.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"2 of the backbone's 4 weights are missing \(1\.bias, 1\.weight\)"):
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


def test_weights_beside_those_that_transformers_reads_are_left_alone(tmp_path: Path) -> None:
    source, target, average = model(), model(), model()
    save_file(source.state_dict(), tmp_path / "model.safetensors")
    save_file(average.state_dict(), tmp_path / "model_ema.safetensors")
    torch.save(average.state_dict(), tmp_path / "pytorch_model.bin")
    load_published(target, tmp_path)
    assert same(source, target)


def test_a_shard_counts_only_for_the_weights_that_the_index_places_in_it(tmp_path: Path) -> None:
    source, target, average = model(), model(), model()
    places = dict.fromkeys(source.state_dict(), "a.safetensors")
    places["0.bias"] = "b.safetensors"
    save_file({**source.state_dict(), "0.bias": torch.zeros(3)}, tmp_path / "a.safetensors")
    save_file({**average.state_dict(), "0.bias": source.state_dict()["0.bias"]}, tmp_path / "b.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    load_published(target, tmp_path)
    assert same(source, target)


@pytest.mark.parametrize(
    ("dtype", "word"),
    [(torch.int8, "int8"), (torch.uint8, "uint8"), (torch.float8_e4m3fn, "float8_e4m3fn"), (torch.int64, "int64")],
)
def test_weights_of_a_quantised_release_are_refused_by_name(tmp_path: Path, dtype: torch.dtype, word: str) -> None:
    weights = {**model().state_dict(), "0.weight": torch.ones(3, 2).to(dtype), "0.weight_scale": torch.ones(1)}
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=rf"0\.weight has the type {word}, .* original release of the backbone"):
        load_published(model(), tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_a_weight_that_is_not_finite_is_refused_by_name(tmp_path: Path, value: float) -> None:
    weights = {f"tower.{name}": tensor for name, tensor in model().state_dict().items()}
    weights["tower.1.bias"] = torch.tensor([0.0, value, 0.0], dtype=torch.float64)
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"tower\.1\.bias holds NaN or infinity"):
        load_published(model(), tmp_path)


def test_a_norms_count_of_batches_is_kept_and_may_be_missing(tmp_path: Path) -> None:
    source, target = nn.Sequential(nn.BatchNorm1d(2)), nn.Sequential(nn.BatchNorm1d(2))
    source(torch.randn(4, 2))
    save_file(source.state_dict(), tmp_path / "model.safetensors")
    load_published(target, tmp_path)
    assert same(source, target)
    save_file({n: v for n, v in source.state_dict().items() if "num" not in n}, tmp_path / "model.safetensors")
    load_published(target, tmp_path)
    assert target[0].num_batches_tracked == 0


def test_a_pytorch_file_of_tables_without_end_is_refused(tmp_path: Path) -> None:
    table: dict[str, object] = {"x": torch.ones(1)}
    for _ in range(12):
        table = {str(i): table for i in range(10)}
    torch.save(table, tmp_path / "weights.pt")
    with pytest.raises(CheckpointError, match="more than 100000 entries"):
        published_tensors(tmp_path)
