"""FM_HeadCT's 3D ViT."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from molre_edge.errors import CheckpointError, ConfigError
from molre_edge.model.backbones.registry import backbone_entry
from molre_edge.model.config import DEFAULT_WINDOWS
from molre_edge.specs import Grid

TINY = "headct-vit3d-tiny"


def published() -> Any:
    """MONAI's ViT for RAS volumes of the tiny grid: [cols, rows, slices] where ours is [slices, rows, cols]."""
    from monai.networks.nets.vit import ViT

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.meshgrid")
        vit = ViT(
            in_channels=3, img_size=(32, 32, 16), patch_size=(8, 8, 8), hidden_size=48, mlp_dim=96, num_layers=2,
            num_heads=4, pos_embed_type="sincos", classification=True, qkv_bias=True,
        )  # fmt: skip
    for parameter in vit.parameters():
        nn.init.normal_(parameter, std=0.2)
    vit.classification_head = nn.Identity()
    return vit.eval()


def test_weights_trained_on_ras_volumes_give_the_same_feature(tmp_path: Path, tiny: Any, images: Any) -> None:
    vit, backbone, x = published(), tiny(TINY), images(TINY)
    torch.save({"model": {f"encoder.{name}": value for name, value in vit.state_dict().items()}}, tmp_path / "best.pt")
    backbone_entry(TINY).load(backbone, tmp_path)
    ras = x.permute(0, 1, 4, 3, 2).flip(2, 3)  # cols from left to right, rows from back to front, slices upwards
    with torch.no_grad():
        torch.testing.assert_close(backbone(x), vit(ras)[0])
        assert not torch.allclose(backbone(x), vit(x.permute(0, 1, 4, 3, 2))[0], atol=1e-3)


def test_weights_for_another_grid_are_refused(tmp_path: Path, tiny: Any) -> None:
    save_file(published().state_dict(), tmp_path / "model.safetensors")
    entry = backbone_entry(TINY)
    larger = entry.build(Grid(slices=16, rows=64, cols=32), 3, {})
    with pytest.raises(CheckpointError, match=r"position_embeddings: expected shape \(1, 64, 48\), got \(1, 32, 48\)"):
        entry.load(larger, tmp_path)


def test_volumes_along_other_axes_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"grid.axes: this backbone's weights are brought to SPL .*got SAR"):
        backbone_entry(TINY).build(Grid(slices=16, rows=32, cols=32, axes="SAR"), 3, {})


def test_it_exports_with_moving_gates_and_its_attention_leaves_no_einsum_in_the_graph(
    export_drawn: Callable[..., Any],
) -> None:
    exported = export_drawn(TINY, modules=("blocks.0.attn.qkv", "blocks.1.attn.out_proj"))
    assert (len(exported.result.proof.routers), exported.result.proof.adapted_layers) == (2, 2)
    assert "Einsum" not in exported.operators()


def test_it_reads_fm_headcts_windows_on_96_voxels_a_side() -> None:
    entry = backbone_entry("headct-vit3d")
    assert (entry.windows, entry.grid.shape, entry.mean, entry.std) == (DEFAULT_WINDOWS, (96, 96, 96), (0.0,), (1.0,))


def test_a_grid_that_patches_do_not_fill_is_refused() -> None:
    with pytest.raises(ConfigError, match="multiples of the patch size 8, got 12 x 32 x 32"):
        backbone_entry(TINY).build(Grid(slices=12, rows=32, cols=32), 3, {})


def test_a_width_that_heads_or_positions_do_not_divide_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"multiples of num_heads \(4\) and of 6, got 44"):
        backbone_entry(TINY).build(backbone_entry(TINY).grid, 3, {"hidden_size": 44})
