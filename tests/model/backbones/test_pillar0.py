"""The stand-in for Pillar0-HeadCT."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from molre_edge.errors import CheckpointError, ConfigError
from molre_edge.model.backbones.pillar0 import _WindowAttention
from molre_edge.model.backbones.registry import backbone_entry
from molre_edge.specs import Grid

TINY = "pillar0-tiny"


def test_it_says_that_it_is_a_stand_in_and_has_pillar_0s_known_sizes() -> None:
    entry = backbone_entry("pillar0-standin")
    with torch.device("meta"):
        backbone = entry.build(entry.grid, len(entry.windows), {})
    assert "stand-in" in entry.source
    assert (len(set(entry.windows)), entry.grid.shape, backbone.embed_dim) == (11, (128, 256, 256), 1152)
    assert round(sum(p.numel() for p in backbone.parameters()) / 1e6) == 43


def test_a_volumes_feature_does_not_depend_on_the_others_of_its_batch(tiny: Any, images: Any) -> None:
    backbone, x = tiny(TINY), images(TINY)
    with torch.no_grad():
        torch.testing.assert_close(backbone(x)[1:], backbone(x[1:]))


def test_windows_are_neighbours_in_space_and_are_put_back_where_they_were() -> None:
    attention = _WindowAttention(8, 2, (2, 4, 4), (2, 2, 2))
    place = torch.arange(32).reshape(1, 32, 1)
    windows = attention._split(place)
    assert windows.shape == (4, 8, 1)
    assert windows[1].flatten().tolist() == [2, 3, 6, 7, 18, 19, 22, 23]  # cols 2 and 3 of rows 0 and 1, both slices
    assert torch.equal(attention._join(windows), place)


def test_fine_tokens_see_their_window_and_all_of_the_other_scale() -> None:
    torch.manual_seed(0)
    attention = _WindowAttention(8, 2, (1, 2, 4), (1, 2, 2)).eval()
    own, other = torch.randn(1, 8, 8), torch.randn(1, 3, 8)
    with torch.no_grad():
        before = attention(own, other)
        changed = own.clone()
        changed[:, 0] += torch.arange(8.0)  # the first token, in the left window: columns 0 and 1
        left = [0, 1, 4, 5]
        moved = (attention(changed, other) - before).abs().amax(2)[0]
        assert [i for i in range(8) if moved[i] > 1e-6] == left
        changed = other.clone()
        changed[:, 0] += torch.arange(8.0)
        assert ((attention(own, changed) - before).abs().amax(2)[0] > 1e-6).all()


def test_far_voxels_hear_of_each_other_through_the_coarse_scale(tiny: Any, images: Any) -> None:
    backbone, x = tiny(TINY), images(TINY)[:1]
    other = x.clone()
    other[..., :8, :8] += 1.0  # one corner, of another window than the corner below
    tokens = []
    backbone.norms[0].register_forward_hook(
        lambda module, inputs, output: tokens.append(output.unflatten(1, (2, 8, 8)))
    )
    with torch.no_grad():
        backbone(x)
        backbone(other)
    assert (tokens[0] - tokens[1])[:, :, -1, -1].abs().max() > 1e-5


def test_it_exports_with_moving_gates(export_drawn: Callable[..., Any]) -> None:
    modules = ("blocks.0.down.attention.key_value", "blocks.0.up.fc1", "blocks.1.up.attention.proj", "embed")
    proof = export_drawn(TINY, modules=modules).result.proof
    assert proof.adapted_layers == 4


def test_there_are_no_published_weights_to_load(tmp_path: Path, tiny: Any) -> None:
    with pytest.raises(CheckpointError, match="pillar0-standin takes no published weights"):
        backbone_entry(TINY).load(tiny(TINY), tmp_path)


def test_a_grid_that_windows_do_not_fill_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"multiples of patch_size \* pool \* window \(8\), got 12 x 32 x 32"):
        backbone_entry(TINY).build(Grid(slices=12, rows=32, cols=32), 11, {})


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"width in multiples of heads \(3\)"):
        backbone_entry(TINY).build(backbone_entry(TINY).grid, 11, {"heads": 3})
