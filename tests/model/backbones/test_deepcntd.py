"""The stand-in for the paper's 3D baseline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from molre_edge.errors import CheckpointError
from molre_edge.model.backbones.registry import backbone_entry
from molre_edge.specs import Precision

TINY = "deepcntd-tiny"


def test_it_says_that_it_is_a_stand_in() -> None:
    assert "stand-in" in backbone_entry("deepcntd-standin").source


def test_it_is_a_3d_network_of_about_seven_million_parameters_without_a_place_for_molre() -> None:
    entry = backbone_entry("deepcntd-standin")
    assert entry.parameters is not None
    assert (entry.dimensions, round(entry.parameters / 1e6), entry.adapted) == (3, 7, ())


def test_one_volume_does_not_change_the_answer_to_another_while_it_is_trained(tiny: Any, images: Any) -> None:
    backbone, x = tiny(TINY).train(), images(TINY)
    with torch.no_grad():
        torch.testing.assert_close(backbone(x)[:1], backbone(x[:1]))


def test_it_exports_without_experts(export_drawn: Callable[..., Any]) -> None:
    exported = export_drawn(TINY, adapter="none")
    assert exported.result.proof is None
    assert "InstanceNormalization" in exported.operators(Precision.FP16)


def test_it_exports_with_experts_where_a_configuration_names_modules(export_drawn: Callable[..., Any]) -> None:
    exported = export_drawn(TINY, adapter="none", modules=("layers.2.blocks.0.conv1",))
    assert exported.result.proof.adapted_layers == 1


def test_there_are_no_published_weights_to_load(tmp_path: Path, tiny: Any) -> None:
    with pytest.raises(CheckpointError, match="deepcntd-standin has no published weights"):
        backbone_entry(TINY).load(tiny(TINY), tmp_path)
