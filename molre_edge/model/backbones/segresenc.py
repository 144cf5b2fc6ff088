"""CT-FM's encoder (arXiv 2501.09001): MONAI's SegResEncoder, a residual 3D convolutional network of five levels.

The volume feature is the mean of the last level over positions, as in CT-FM's feature extractor. CT-FM turns scans to
SPL: superior, posterior, left, which is the order of our own slices, rows and columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from molre_edge.errors import ConfigError
from molre_edge.model.backbones.entry import BackboneEntry, register
from molre_edge.model.backbones.frozen import FrozenNorms
from molre_edge.model.backbones.options import Choice, Range, check_options
from molre_edge.model.backbones.published import check_published
from molre_edge.model.backbones.weights import load_published
from molre_edge.specs import Grid

__all__ = ["SegResBackbone", "build_segresenc", "load_segresenc"]

_OPTIONS: dict[str, Range | Choice] = {
    "init_filters": Range(4, 128),
    "last_blocks": Range(1, 16),
}


class SegResBackbone(FrozenNorms):
    """Volumes [batch, channels, slices, rows, cols] -> volume features [batch, d].

    Attributes:
        conv_init, layers: the encoder's, by their published names.
        settings: the encoder's arguments that names and shapes of weights do not show, and its filters.
        embed_dim: d, the filters of the last level.
    """

    def __init__(self, grid: Grid, channels: int, settings: Mapping[str, Any]) -> None:
        """Build with random weights.

        Raises:
            ConfigError: the grid is too small for the levels.
        """
        super().__init__()
        blocks = (*settings["blocks"], settings["last_blocks"])
        if min(grid.shape) < 2 ** (len(blocks) - 1):
            raise ConfigError(
                f"grid: expected at least {2 ** (len(blocks) - 1)} slices, rows and cols for {len(blocks)} levels, "
                f"got {grid.slices} x {grid.rows} x {grid.cols}"
            )
        from monai.networks.nets.segresnet_ds import SegResEncoder

        filters = settings["init_filters"]
        encoder = SegResEncoder(
            init_filters=filters, in_channels=channels, blocks_down=blocks, norm=settings["norm"], act="relu"
        )
        self.conv_init, self.layers = encoder.conv_init, encoder.layers
        self.settings = {"init_filters": filters, "norm": settings["norm"], "act": "relu"}
        self.embed_dim = filters * 2 ** (len(blocks) - 1)

    def forward(self, volumes: Tensor) -> Tensor:
        """The last level, averaged."""
        x = self.conv_init(volumes)
        level: Any
        for level in self.layers:
            x = level["downsample"](level["blocks"](x))
        return x.flatten(2).mean(2)  # type: ignore[no-any-return]


def load_segresenc(module: nn.Module, folder: Path) -> None:
    """Load CT-FM's feature extractor, or the encoder of its segmentation network; see BackboneEntry.load."""
    if not isinstance(module, SegResBackbone):
        raise TypeError(f"expected a SegResBackbone, got {type(module).__name__}")
    check_published(folder, module.settings)
    load_published(module, folder)


def build_segresenc(settings: Mapping[str, Any]) -> Callable[[Grid, int, Mapping[str, Any]], nn.Module]:
    """An entry's ``build``, for these settings where the options do not say otherwise."""

    def build(grid: Grid, channels: int, options: Mapping[str, Any]) -> nn.Module:
        return SegResBackbone(grid, channels, {**settings, **check_options(options, _OPTIONS)})

    return build


def _ct_fm(
    name: str, parameters: int | None, grid: Grid, adapted: tuple[str, ...], settings: Mapping[str, Any]
) -> None:
    register(
        BackboneEntry(
            id=name,
            dimensions=3,
            parameters=parameters,
            grid=grid,
            mean=(0.0,),
            std=(1.0,),
            adapted=adapted,
            build=build_segresenc(settings),
            load=load_segresenc,
            source="project-lighter/CT-FM, its SegResEncoder and the preprocessing of its head CT task; MONAI",
            windows=((512.0, 3072.0),),  # HU -1024 to 2048 to 0..1
        )
    )


# Experts of a convolution have its kernel, 27 times a linear layer's: the last whose own fit in 0.5 % is adapted.
_ct_fm(
    "ct-fm-segresenc",
    77_760_992,
    Grid(slices=48, rows=128, cols=128, field_mm=256.0, height_mm=240.0),  # 5 x 2 x 2 mm
    ("layers.3.downsample",),
    {"init_filters": 32, "blocks": (1, 2, 2, 4), "last_blocks": 4, "norm": "batch"},
)
_ct_fm(
    "ct-fm-tiny",
    None,
    Grid(slices=8, rows=32, cols=32),
    ("layers.1.downsample",),
    {"init_filters": 8, "blocks": (1, 1), "last_blocks": 1, "norm": "batch"},
)
