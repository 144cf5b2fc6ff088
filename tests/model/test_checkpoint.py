"""Checkpoints come back as they were; what would run code, take all memory or not fit is refused."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import resource
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from installed_weights import install_weights, stored
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from molre_edge.errors import CheckpointError
from molre_edge.model.backbones.entry import ENTRIES
from molre_edge.model.backbones.registry import backbone_entry
from molre_edge.model.checkpoint import load_checkpoint, save_checkpoint, weights_digest
from molre_edge.model.classifier import HeadCTClassifier
from molre_edge.model.config import RouterConfig
from molre_edge.model.standardisation import standardise_routers

O_PROJ, HEAD = "layer.1.attention.o_proj", "head"
SUFFIXES = (".pt", ".safetensors")
Edit = Callable[[dict[str, Any]], Any]


@pytest.fixture
def model(tiny_model: Callable[..., HeadCTClassifier]) -> HeadCTClassifier:
    return tiny_model(O_PROJ, HEAD)


@pytest.fixture
def data(model: HeadCTClassifier, tmp_path: Path) -> dict[str, Any]:
    """The dictionary of a good checkpoint."""
    save_checkpoint(model, tmp_path / "good.pt")
    good: dict[str, Any] = torch.load(tmp_path / "good.pt", weights_only=True)
    return good


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Whatever would take more than 1 GB fails, instead of the machine."""
    with open("/proc/self/statm", encoding="ascii") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + 10**9, before[1]))
    start = time.process_time()
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)
    assert time.process_time() - start < 5


def saved(path: Path, data: Any) -> Path:
    torch.save(data, path)
    return path


def refusal_of(path: Path, **options: Any) -> str:
    """The message of the refusal; it begins with the file's name."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, **options)
    assert len(str(caught.value)) < 1500
    return str(caught.value)


def published_folder(folder: Path, weights: dict[str, Tensor], model: HeadCTClassifier) -> Path:
    folder.mkdir()
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(model.backbone.settings.to_dict()))
    return folder


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_model_comes_back_with_equal_answers(
    model: HeadCTClassifier, volumes: Tensor, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"ckpt{suffix}"
    save_checkpoint(model, path)
    loaded = load_checkpoint(path)
    want, got = model(volumes), loaded.model(volumes)
    assert torch.equal(got.logits, want.logits)
    assert torch.equal(got.embedding, want.embedding)
    assert got.gates is not None and want.gates is not None
    assert torch.equal(got.gates, want.gates)
    assert loaded.config == loaded.model.config == model.config
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not loaded.model.training
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_standardises_the_routers_comes_back_with_them(
    tiny_model: Callable[..., HeadCTClassifier], volumes: Tensor, tmp_path: Path, suffix: str
) -> None:
    model = tiny_model(O_PROJ, HEAD, router=RouterConfig(hidden=4, standardise=True))
    standardise_routers(model, lambda: model(volumes))
    save_checkpoint(model, tmp_path / f"ckpt{suffix}")
    loaded = load_checkpoint(tmp_path / f"ckpt{suffix}").model
    assert torch.equal(loaded.routers[0].std, model.routers[0].std)
    got, want = loaded(volumes).gates, model(volumes).gates
    assert got is not None and want is not None and torch.equal(got, want)


def test_a_router_that_would_divide_by_nothing_is_refused(
    tiny_model: Callable[..., HeadCTClassifier], tmp_path: Path
) -> None:
    model = tiny_model(router=RouterConfig(hidden=4, standardise=True))
    model.routers[0].std[3] = 0.0
    save_checkpoint(model, tmp_path / "ckpt.pt")
    assert "state routers.0.std: expected standard deviations above 0" in refusal_of(tmp_path / "ckpt.pt")


def test_a_checkpoint_from_before_routers_standardised_means_what_it_meant(
    model: HeadCTClassifier, data: dict[str, Any], volumes: Tensor, tmp_path: Path
) -> None:
    del data["config"]["router"]["standardise"]
    loaded = load_checkpoint(saved(tmp_path / "old.pt", data))
    assert loaded.config.router.standardise is False
    assert torch.equal(loaded.model(volumes).logits, model(volumes).logits)


@pytest.mark.parametrize("experts", [0, 1])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_lora_and_frozen_models_come_back_too(
    tiny_model: Callable[..., HeadCTClassifier], volumes: Tensor, tmp_path: Path, suffix: str, experts: int
) -> None:
    model = tiny_model(O_PROJ, HEAD, experts=experts)
    save_checkpoint(model, tmp_path / f"ckpt{suffix}")
    loaded = load_checkpoint(tmp_path / f"ckpt{suffix}").model
    assert torch.equal(loaded(volumes).logits, model(volumes).logits)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_without_the_backbone_its_digest_and_a_folder_stand_for_it(
    model: HeadCTClassifier, data: dict[str, Any], volumes: Tensor, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"ckpt{suffix}"
    save_checkpoint(model, path, with_backbone=False)
    assert path.stat().st_size < (tmp_path / "good.pt").stat().st_size / 4
    folder = published_folder(tmp_path / "weights", data["backbone"], model)
    loaded = load_checkpoint(path, backbone_weights=folder).model
    assert torch.equal(loaded(volumes).logits, model(volumes).logits)


def test_without_the_backbone_an_installed_package_stands_for_the_folder(
    model: HeadCTClassifier,
    data: dict[str, Any],
    volumes: Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, entry = tmp_path / "ckpt.pt", backbone_entry("dinov3-tiny")
    save_checkpoint(model, path, with_backbone=False)
    plain = entry.build(model.config.grid, len(model.config.windows), model.config.backbone.options)
    plain.load_state_dict(data["backbone"])
    weights = install_weights(tmp_path / "packages", monkeypatch, stored(plain))
    monkeypatch.setitem(ENTRIES, entry.id, replace(entry, installed=weights))
    assert torch.equal(load_checkpoint(path).model(volumes).logits, model(volumes).logits)
    plain.load_state_dict({name: value + 1 for name, value in plain.state_dict().items()})
    others = install_weights(tmp_path / "others", monkeypatch, stored(plain))
    monkeypatch.setitem(ENTRIES, entry.id, replace(entry, installed=others))
    assert refusal_of(path).startswith("installed package some-weights-p0: these are not the weights")


def test_without_backbone_or_folder_it_says_which_weights_to_give(model: HeadCTClassifier, tmp_path: Path) -> None:
    save_checkpoint(model, tmp_path / "ckpt.pt", with_backbone=False)
    assert "Pass the public weights of dinov3-tiny with --backbone-weights FOLDER" in refusal_of(tmp_path / "ckpt.pt")


def test_other_backbone_weights_than_those_of_training_are_refused(
    model: HeadCTClassifier, data: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "ckpt.pt"
    save_checkpoint(model, path, with_backbone=False)
    data["backbone"]["norm.bias"] += 1e-6
    folder = published_folder(tmp_path / "weights", data["backbone"], model)
    message = refusal_of(path, backbone_weights=folder)
    assert message.startswith(f"{folder}: these are not the weights that {path} was trained on")
    assert data["backbone_sha256"][:12] in message


def test_weights_may_be_half_floats_or_doubles(data: dict[str, Any], volumes: Tensor, tmp_path: Path) -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        part = {name: tensor.to(dtype) for name, tensor in data["state"].items()}
        loaded = load_checkpoint(saved(tmp_path / "ckpt.pt", {**data, "state": part})).model
        assert {p.dtype for p in loaded.parameters()} == {torch.float32}
        assert torch.equal(loaded.head.base.weight, part["head.weight"].float())


def test_a_checkpoint_is_plain_data_and_float32_tensors_under_the_unadapted_names(
    model: HeadCTClassifier, data: dict[str, Any]
) -> None:
    assert set(data) == {"format", "version", "config", "state", "backbone", "backbone_sha256"}
    assert data["config"] == json.loads(json.dumps(model.config.to_dict()))
    assert f"{O_PROJ}.weight" in data["backbone"]
    assert set(data["state"]) == {
        f"backbone.{O_PROJ}.lora_A", f"backbone.{O_PROJ}.lora_B", "head.lora_A", "head.lora_B", "head.weight",
        "head.bias", "pooling.project.weight", "pooling.project.bias", "pooling.score.weight", "pooling.score.bias",
        *(f"routers.{i}.{layer}.{part}" for i in (0, 1) for layer in ("fc1", "fc2") for part in ("weight", "bias")),
    }  # fmt: skip
    assert {tensor.dtype for part in ("state", "backbone") for tensor in data[part].values()} == {torch.float32}


def test_both_forms_hold_the_same(model: HeadCTClassifier, data: dict[str, Any], tmp_path: Path) -> None:
    save_checkpoint(model, tmp_path / "ckpt.safetensors")
    tensors = load_file(tmp_path / "ckpt.safetensors")
    with safe_open(tmp_path / "ckpt.safetensors", framework="pt") as file:
        header = json.loads(file.metadata()["molre_edge"])
    parts = {f"{part}.{name}": tensor for part in ("state", "backbone") for name, tensor in data[part].items()}
    assert header == {name: value for name, value in data.items() if name not in ("state", "backbone")}
    assert set(tensors) == set(parts)
    assert all(torch.equal(tensors[name], parts[name]) for name in parts)


def test_the_digest_is_over_names_shapes_and_little_endian_values() -> None:
    tensors = {"b": torch.tensor([[1.0, 2.0]]), "a": torch.tensor([3.0], dtype=torch.float16)}
    by_hand = hashlib.sha256(
        b"a:(1,);" + np.array([3.0], "<f4").tobytes() + b"b:(1, 2);" + np.array([1.0, 2.0], "<f4").tobytes()
    )
    assert weights_digest(tensors) == by_hand.hexdigest()
    assert weights_digest(dict(reversed(tensors.items()))) == by_hand.hexdigest()


def test_loading_leaves_the_random_numbers_alone(data: dict[str, Any], tmp_path: Path) -> None:
    before = torch.get_rng_state()
    load_checkpoint(tmp_path / "good.pt")
    assert torch.equal(torch.get_rng_state(), before)


def test_another_suffix_is_refused_before_anything_is_written(model: HeadCTClassifier, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"ckpt.bin: expected a name that ends in .pt or .safetensors"):
        save_checkpoint(model, tmp_path / "ckpt.bin")
    assert os.listdir(tmp_path) == []


class Payload:
    """What runs on unpickling: it makes a folder."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("place", ["config", "state", "note", "whole"])
def test_a_file_that_would_run_code_is_refused_and_runs_nothing(
    data: dict[str, Any], tmp_path: Path, place: str
) -> None:
    trace = tmp_path / "trace"
    path = saved(tmp_path / "ckpt.pt", Payload(trace) if place == "whole" else {**data, place: Payload(trace)})
    message = refusal_of(path)
    assert (
        "refused because it holds more than plain data and tensors (posix.mkdir), and loading it could run" in message
    )
    assert not trace.exists()
    torch.load(path, weights_only=False)  # it does run where it is let
    assert trace.is_dir()


def test_a_bare_pickle_is_never_opened(data: dict[str, Any], tmp_path: Path) -> None:
    trace, path = tmp_path / "trace", tmp_path / "ckpt.pt"
    path.write_bytes(pickle.dumps(Payload(trace)))
    assert "or is a bare pickle, which could run code and is never opened" in refusal_of(path)
    assert not trace.exists()
    pickle.loads(path.read_bytes())
    assert trace.is_dir()


def test_a_pickle_under_the_name_safetensors_is_refused_too(data: dict[str, Any], tmp_path: Path) -> None:
    trace, path = tmp_path / "trace", tmp_path / "ckpt.safetensors"
    saved(path, Payload(trace))
    assert "not a whole safetensors file" in refusal_of(path)
    assert not trace.exists()


def drop(part: str, name: str) -> Edit:
    return lambda data: data[part].pop(name)


def put(part: str, name: str, value: Any) -> Edit:
    return lambda data: data[part].__setitem__(name, value)


def top(name: str, value: Any) -> Edit:
    return lambda data: data.__setitem__(name, value)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda data: data.pop("format"), "expected 'format' to be 'molre-edge-checkpoint', got None"),
        (top("format", "pytorch-lightning"), "got 'pytorch-lightning'); save it with molre_edge.model.checkpoint"),
        (top("version", 2), "the format version is 2, and this release reads version 1. Install the release that"),
        (lambda data: data.pop("version"), "the format version is None"),
        (lambda data: data.pop("config"), "has no configuration ('config')"),
        (top("config", [1]), "has no configuration ('config')"),
        (
            top("epoch", 7),
            "unknown key 'epoch'. A checkpoint has only backbone_sha256, config, format, version, state and",
        ),
        (put("config", "adaptor", {}), "configuration: unknown 'adaptor'; did you mean adapter?"),
        (put("config", "grid", {"slices": 3}), "grid: rows, cols missing"),
        (put("config", "budget", 0.005), "the adapters and routers add"),
        (put("config", "backbone", {"id": "dinov3-tny"}), "unknown 'dinov3-tny'; did you mean dinov3-tiny?"),
        (put("config", "thresholds", np.zeros(2)), "it holds more than plain data and tensors (numpy"),
        (put("config", "thresholds", torch.zeros(2)), "expected plain data beside the tensors"),
        (put("config", 1, 2), "expected plain data beside the tensors"),
        (put("config", "findings", ["a" * 5000, "b"]), "expected plain data beside the tensors"),
        (put("config", "budget", 1 << 70), "expected plain data beside the tensors"),
        (drop("state", "head.bias"), "'state' does not fit its configuration: 1 missing (head.bias), 0 unknown (none)"),
        (put("state", "head.scale", torch.ones(2)), "0 missing (none), 1 unknown (head.scale)"),
        (lambda data: data.pop("state"), "'state' does not fit its configuration: 18 missing"),
        (put("state", "head.bias", torch.ones(3)), "state head.bias: expected shape (2,), got (3,); the weights and"),
        (put("state", "head.bias", torch.tensor([1.0, float("nan")])), "state head.bias: expected finite numbers"),
        (put("state", "head.bias", torch.tensor([1e300, 0.0]).double()), "state head.bias: expected finite numbers"),
        (put("state", "head.bias", torch.ones(2, dtype=torch.int8)), "expected one of float32, float16, bfloat16, flo"),
        (put("state", "head.bias", torch.ones(2, dtype=torch.complex64)), "with values, got torch.complex64 on cpu"),
        (put("state", "head.bias", torch.ones(2, device="meta")), "got torch.float32 on meta"),
        (put("state", "head.bias", torch.ones(2).to_sparse()), "state head.bias: expected a dense tensor"),
        (put("state", "head.bias", [1.0, 1.0]), "state head.bias: expected a dense tensor"),
        (top("state", [torch.ones(2)]), "expected 'state' to map names to tensors"),
        (top("backbone", "dinov3"), "expected 'backbone' to map names to tensors"),
        (drop("backbone", "norm.weight"), "the backbone's weights do not match 'backbone_sha256'"),
        (put("backbone", "norm.weight", torch.ones(64) * 2), "the backbone's weights do not match 'backbone_sha256'"),
        (top("backbone_sha256", "0" * 64), "the backbone's weights do not match 'backbone_sha256' (00000"),
        (top("backbone_sha256", "unknown"), "backbone_sha256: expected 64 hexadecimal digits"),
        (lambda data: (data.pop("backbone"), data.pop("backbone_sha256")), "has neither 'backbone' (weights) nor"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_to_do(
    data: dict[str, Any], tmp_path: Path, edit: Edit, words: str
) -> None:
    edit(data)
    message = refusal_of(saved(tmp_path / "ckpt.pt", data))
    assert message.startswith(f"{tmp_path / 'ckpt.pt'}: ")
    assert words in message


def test_a_backbone_that_came_without_a_digest_must_fit_as_well(data: dict[str, Any], tmp_path: Path) -> None:
    del data["backbone_sha256"]
    load_checkpoint(saved(tmp_path / "ckpt.pt", data))
    del data["backbone"]["norm.weight"]
    message = refusal_of(saved(tmp_path / "ckpt.pt", data))
    assert "'backbone' does not fit its configuration: 1 missing (norm.weight)" in message


def test_something_else_than_a_dictionary_is_refused(tmp_path: Path) -> None:
    assert "expected a dictionary, got list" in refusal_of(saved(tmp_path / "ckpt.pt", [torch.ones(2)]))


def test_a_file_that_is_not_there_and_a_folder_are_named(tmp_path: Path) -> None:
    assert "no such file; expected a checkpoint (.pt or .safetensors)" in refusal_of(tmp_path / "ckpt.pt")
    assert "can't be read: a folder, not a regular file" in refusal_of(tmp_path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_pipe_or_a_device_is_refused_at_once_and_a_link_to_a_file_is_followed(
    model: HeadCTClassifier, tmp_path: Path, suffix: str
) -> None:
    pipe, device, link = (tmp_path / f"{name}{suffix}" for name in ("pipe", "device", "link"))
    os.mkfifo(pipe)
    device.symlink_to("/dev/zero")
    assert "can't be read: a named pipe, not a regular file" in refusal_of(pipe)
    assert "can't be read: a device, not a regular file" in refusal_of(device)
    save_checkpoint(model, tmp_path / f"good{suffix}")
    link.symlink_to(f"good{suffix}")
    assert load_checkpoint(link).sha256 == hashlib.sha256(link.read_bytes()).hexdigest()


def header_of(names: int) -> bytes:
    """A safetensors file of so many empty tensors."""
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    header = json.dumps({f"state.t{i}": entry for i in range(names)}).encode()
    return len(header).to_bytes(8, "little") + header


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (300_000, "its header has 21788890 bytes, and 4194304 is the limit"),
        (50_000, "it names 50000 tensors, and 20000"),
    ],
)
def test_a_header_with_countless_tensors_is_refused_at_once(
    tmp_path: Path, little_memory: None, names: int, words: str
) -> None:
    path = tmp_path / "ckpt.safetensors"
    path.write_bytes(header_of(names))
    start = time.process_time()
    message = refusal_of(path)
    assert time.process_time() - start < 0.5
    assert words in message


@pytest.mark.parametrize("shared", [True, False])
def test_an_archive_with_countless_tensors_is_refused_at_once(tmp_path: Path, shared: bool) -> None:
    one = torch.empty(0)
    tensors = {str(i): one if shared else torch.empty(0) for i in range(200_000 if shared else 21_000)}
    path = saved(tmp_path / "ckpt.pt", {"state": tensors})
    start = time.process_time()
    message = refusal_of(path)
    assert time.process_time() - start < 1
    assert "the limits are 20000 and 2097152" in message


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_one_model_has_one_file_whatever_its_name_and_however_its_configuration_came_about(
    model: HeadCTClassifier, tmp_path: Path, suffix: str
) -> None:
    first, second = tmp_path / f"ckpt{suffix}", tmp_path / "elsewhere" / f"another-name{suffix}"
    save_checkpoint(model, first)
    save_checkpoint(load_checkpoint(first).model, second)
    assert first.read_bytes() == second.read_bytes()
    assert b".partial" not in first.read_bytes()


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.999])
def test_a_file_cut_short_is_refused(model: HeadCTClassifier, tmp_path: Path, suffix: str, kept: float) -> None:
    path = tmp_path / f"ckpt{suffix}"
    save_checkpoint(model, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept if kept in (0, 1, 100) else kept * len(whole))])
    message = refusal_of(path)
    assert "not a whole" in message
    assert "copy it again" in message


def test_a_flipped_bit_in_the_backbone_is_found(data: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "good.pt"
    content = bytearray(path.read_bytes())
    at = content.find(data["backbone"]["embeddings.patch_embeddings.weight"].numpy().tobytes())
    assert at > 0
    content[at] ^= 1
    path.write_bytes(content)
    refusal_of(path)


def test_an_archive_that_unpacks_to_more_than_itself_is_refused(data: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "ckpt.pt"
    with zipfile.ZipFile(tmp_path / "good.pt") as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    assert "unpacks to more bytes than the file has" in refusal_of(path)


def test_tensors_that_lie_on_the_same_bytes_are_refused(
    data: dict[str, Any], tmp_path: Path, little_memory: None
) -> None:
    data["config"]["grid"]["slices"] = 3
    data["state"]["head.weight"] = torch.ones(1, 1).expand(10**6, 10**6)  # 4 bytes in the file
    path = saved(tmp_path / "ckpt.pt", data)
    assert path.stat().st_size < 10**6
    assert "its tensors are larger than the file; store each tensor contiguous" in refusal_of(path)


@pytest.mark.parametrize(
    "config",
    [
        {"backbone": {"id": "dinov3-tiny", "options": {"hidden_size": 8192, "num_attention_heads": 32,
                                                       "intermediate_size": 65536, "num_hidden_layers": 128}}},
        {"backbone": {"id": "dinov3-vitl16"}},
        {"adapter": {"modules": ["*"], "experts": 64, "rank": 512}, "router": {"sharing": "module", "hidden": 4096}},
        {"pooling": {"hidden": 4096}, "adapter": {"modules": ["pooling.*"], "experts": 64, "rank": 512}},
        {"grid": {"slices": 512, "rows": 2048, "cols": 2048}, "pooling": {"hidden": 9}},
    ],
)  # fmt: skip
def test_a_configuration_of_a_larger_model_is_refused_before_it_takes_memory(
    data: dict[str, Any], tmp_path: Path, little_memory: None, config: dict[str, Any]
) -> None:
    data["config"] |= config
    assert "state" in refusal_of(saved(tmp_path / "ckpt.pt", data))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_hidden_layers": 10**9}, "num_hidden_layers: expected a whole number from 1 to 128, got 1000000000"),
        ({"hidden_size": 10**9}, "hidden_size: expected a whole number from 16 to 8192"),
        ({"patch_size": 0}, "patch_size: expected a whole number from 8 to 64, got 0"),
        ({"hidden_act": "os.system"}, "hidden_act: expected one of gelu, silu, got 'os.system'"),
        ({"auto_map": {"AutoModel": "evil.py"}}, "backbone.options: unknown 'auto_map'"),
    ],
)
def test_hostile_options_of_a_backbone_are_refused(
    data: dict[str, Any], tmp_path: Path, little_memory: None, options: dict[str, Any], words: str
) -> None:
    data["config"]["backbone"]["options"] = options
    assert words in refusal_of(saved(tmp_path / "ckpt.pt", data))


def same_list_in_lists() -> list[Any]:
    value: list[Any] = ["lol"] * 10
    for _ in range(12):
        value = [value] * 10
    return value


def test_a_configuration_that_is_endless_when_looked_through_is_refused(
    data: dict[str, Any], tmp_path: Path, little_memory: None
) -> None:
    data["config"]["findings"] = same_list_in_lists()
    assert "larger or deeper than any model's" in refusal_of(saved(tmp_path / "ckpt.pt", data))


def test_a_configuration_that_holds_itself_is_refused(
    data: dict[str, Any], tmp_path: Path, little_memory: None
) -> None:
    data["config"]["backbone"]["options"] = data["config"]
    assert "larger or deeper than any model's" in refusal_of(saved(tmp_path / "ckpt.pt", data))


def test_a_pattern_made_to_hang_does_not(data: dict[str, Any], tmp_path: Path, little_memory: None) -> None:
    data["config"]["adapter"]["modules"] = ["*a" * 120 + "b", "(a+)+$"]
    assert "matches no layer" in refusal_of(saved(tmp_path / "ckpt.pt", data))


def test_safetensors_names_and_metadata_are_checked(
    model: HeadCTClassifier, data: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "ckpt.safetensors"
    tensors = {"state.head.bias": torch.ones(2)}
    save_file(tensors, path)
    assert "not a molre-edge checkpoint (expected 'format'" in refusal_of(path)
    save_file(tensors, path, metadata={"molre_edge": "{"})
    assert "its metadata 'molre_edge' is not JSON" in refusal_of(path)
    save_file(tensors, path, metadata={"molre_edge": "[" * 100_000})
    assert "its metadata 'molre_edge' is not JSON" in refusal_of(path)
    save_file(tensors, path, metadata={"molre_edge": "[]"})
    assert "its metadata 'molre_edge' is not a JSON object" in refusal_of(path)
    save_file({"head.bias": torch.ones(2)}, path, metadata={"molre_edge": "{}"})
    assert "unknown tensor 'head.bias'; names begin with 'state.' or 'backbone.'" in refusal_of(path)
