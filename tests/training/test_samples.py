"""Volumes where the backbone learns or is adapted; else its features, computed once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from molre_edge.model.config import AdapterConfig, ModelConfig
from molre_edge.specs import Grid
from molre_edge.training.data_manifest import Manifest
from molre_edge.training.samples import FeatureSamples, VolumeSamples, has_fixed_features, make_samples, predict
from molre_edge.training.start import new_model
from molre_edge.training.volumes import Volumes, prepare_volumes

GRID = Grid(slices=4, rows=32, cols=32)
Configure = Callable[..., ModelConfig]


@pytest.fixture
def volumes(manifest: Manifest, shared_cache: Path) -> Volumes:
    return prepare_volumes(manifest.of("val"), GRID, shared_cache)


HEAD = AdapterConfig(modules=("pooling.project", "head"), experts=2, rank=2)
"""Modules after the backbone: its features do not change."""


@pytest.mark.parametrize("dimensions", [2, 3])
def test_answers_from_features_are_those_from_volumes(
    dimensions: int, configure: Configure, volumes: Volumes, tmp_path: Path
) -> None:
    adapter = HEAD if dimensions == 2 else AdapterConfig(modules=("head",), experts=2, rank=2)
    model = new_model(configure(dimensions=dimensions, adapter=adapter), seed=0)
    model.backbone.requires_grad_(False)
    features = make_samples(model, volumes, tmp_path)
    assert isinstance(features, FeatureSamples) and len(features) == len(volumes)
    one, two = predict(model, features, 3), predict(model, VolumeSamples(volumes), 3)
    np.testing.assert_allclose(one.logits, two.logits, atol=1e-5)
    np.testing.assert_allclose(one.gates, two.gates, atol=1e-5)  # type: ignore[arg-type]
    np.testing.assert_array_equal(features.labels, volumes.labels)


def test_features_are_computed_once_and_after_a_kill_only_those_that_lack(
    configure: Configure, volumes: Volumes, tmp_path: Path
) -> None:
    model = new_model(configure(0), seed=0)
    make_samples(model, volumes, tmp_path)
    files = sorted(tmp_path.rglob("*.npy"))
    before = {file: file.stat().st_mtime_ns for file in files}
    files[1].unlink()
    told: list[None] = []
    make_samples(model, volumes, tmp_path, lambda: told.append(None))
    changed = {file for file in files if file.stat().st_mtime_ns != before[file]}
    assert changed == {files[1]} and len(told) == len(files) == len(volumes)


def test_other_weights_have_other_features(configure: Configure, volumes: Volumes, tmp_path: Path) -> None:
    for seed in (0, 1):
        make_samples(new_model(configure(0), seed=seed), volumes, tmp_path)
    assert len(list(tmp_path.glob("features-*"))) == 2


def test_a_backbone_that_is_adapted_or_learns_runs_every_time(
    configure: Configure, volumes: Volumes, tmp_path: Path
) -> None:
    learning = new_model(configure(0), seed=0)
    learning.backbone.requires_grad_(True)
    for model in (new_model(configure(2), seed=0), new_model(configure(1), seed=0), learning):
        assert not has_fixed_features(model)
        assert isinstance(make_samples(model, volumes, tmp_path), VolumeSamples)


def test_predictions_keep_the_order_whatever_the_batch_and_leave_the_mode_alone(
    configure: Configure, volumes: Volumes
) -> None:
    model = new_model(configure(), seed=0).train()
    told: list[None] = []
    whole = predict(model, VolumeSamples(volumes), 100, lambda: told.append(None))
    assert model.training and len(told) == len(whole) == len(volumes)
    parts = predict(model, VolumeSamples(volumes), 3)
    np.testing.assert_allclose(parts.logits, whole.logits, atol=1e-5)
    with torch.no_grad():
        single = model.eval()(torch.from_numpy(volumes.load([2]).astype(np.float32)))
    np.testing.assert_allclose(whole.logits[2], single.logits[0], atol=1e-5)


def test_a_frozen_model_has_no_gates_and_lora_has_gates_of_one(configure: Configure, volumes: Volumes) -> None:
    assert predict(new_model(configure(0), seed=0), VolumeSamples(volumes), 8).gates is None
    gates = predict(new_model(configure(1), seed=0), VolumeSamples(volumes), 8).gates
    assert gates is not None and (gates == 1).all()
