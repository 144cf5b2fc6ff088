"""Presets give the numbers of the public code that they are named after."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from molre_edge.errors import ConfigError
from molre_edge.model.config import ModelConfig
from molre_edge.model.intensity import WindowChannels
from molre_edge.model.presets import LEFT_OUT, PRESETS, Preset, preset
from molre_edge.scans.grid import sample

BRAIN = ((40.0, 80.0),) * 3
PICTURES = np.random.default_rng(0).integers(64, 192, (2, 60, 80), np.uint8)
"""As HU within the narrowest window, where nothing is clipped: so the order of windows and resizing is no matter."""


def read(given: Preset, hu: npt.NDArray[Any], pixel_mm: float, step_mm: float) -> torch.Tensor:
    """Normalised channels [slices, channels, rows, cols]."""
    positions, thickness = np.arange(len(hu)) * step_mm, np.full(len(hu), step_mm)
    ends, middle = (-step_mm / 2, step_mm * (len(hu) - 0.5)), (pixel_mm * 30, pixel_mm * 40)
    half, _ = sample(hu.astype(np.float32), positions, thickness, (pixel_mm, pixel_mm), given.grid, ends, middle)
    constants = given.normalisation
    return WindowChannels(given.windows or BRAIN, constants.mean, constants.std)(torch.from_numpy(half).float())


def on_pictures(name: str) -> torch.Tensor:
    """Our channels of pictures of 8 bits, whose values are brain's."""
    given = preset(name)
    return read(replace(given, grid=replace(given.grid, slices=2)), PICTURES * (80 / 255), 0.5, 5.0)


def test_merlin_is_monai_s_transforms() -> None:
    from monai.data import MetaTensor
    from monai.transforms import CenterSpatialCrop, Compose, Orientation, ScaleIntensityRange, Spacing, SpatialPad

    hu = np.random.default_rng(1).integers(-1024, 1200, (20, 60, 80)).astype(np.float32)
    affine = torch.diag(torch.tensor([-0.7, -0.7, 5.0, 1.0]))  # as read: slices up, rows back, columns to the left
    steps = Compose(
        [
            Orientation(axcodes="RAS", labels=None),
            Spacing(pixdim=(1.5, 1.5, 3), mode="bilinear"),
            ScaleIntensityRange(a_min=-1000, a_max=1000, b_min=0.0, b_max=1.0, clip=True),
            SpatialPad(spatial_size=[224, 224, 160]),
            CenterSpatialCrop(roi_size=[224, 224, 160]),
        ]
    )
    wanted = (
        steps(MetaTensor(torch.from_numpy(hu.transpose(2, 1, 0))[None], affine=affine))[0].numpy().transpose(2, 1, 0)
    )
    ours = read(preset("merlin"), hu, 0.7, 5.0)[:, 0].numpy()
    assert np.abs(ours - wanted).max() < 4e-4  # half floats: 0.5 of 2000 HU
    assert np.count_nonzero(wanted) > 5000


def test_ct_fm_is_monai_s_transforms_but_for_the_value_that_it_pads_with() -> None:
    from monai.data import MetaTensor
    from monai.transforms import (
        CenterSpatialCrop,
        Compose,
        CropForeground,
        Orientation,
        ScaleIntensityRange,
        Spacing,
        SpatialPad,
    )

    hu = np.full((30, 60, 80), -1000.0, np.float32)
    hu[3:25, 8:50, 6:71] = np.random.default_rng(2).integers(-100, 1200, (22, 42, 65))
    affine = torch.tensor([[0, 0, -0.9, 0], [0, -0.9, 0, 0], [7.0, 0, 0, 0], [0, 0, 0, 1]])  # slices, rows, cols
    steps = Compose(
        [
            Orientation(axcodes="SPL", labels=None),
            CropForeground(allow_smaller=True),
            Spacing(pixdim=(5, 2, 2), mode="bilinear"),
            SpatialPad(spatial_size=[48, 128, 128], value=-1024),  # the source's mode is "minimum"
            CenterSpatialCrop(roi_size=[48, 128, 128]),
            ScaleIntensityRange(a_min=-1024, a_max=2048, b_min=0, b_max=1, clip=True),
        ]
    )
    wanted = steps(MetaTensor(torch.from_numpy(hu)[None], affine=affine))[0].numpy()
    ours = read(preset("ct-fm"), hu, 0.9, 7.0)[:, 0].numpy()
    assert np.abs(ours - wanted).max() < 4e-4  # half floats: 0.5 of 3072 HU
    assert np.count_nonzero(wanted) > 5000


def test_medgemma_is_its_notebook_and_gemma_s_image_processor() -> None:
    from transformers import Gemma3ImageProcessor

    hu = PICTURES * (80 / 255)
    windows = ((-1024, 1024), (-135, 215), (0, 80))  # the notebook's clips, to 0 ... 255 and rounded
    colours = np.stack(
        [np.round((np.clip(hu, low, high) - low) / (high - low) * 255) for low, high in windows], axis=-1
    )
    processor = Gemma3ImageProcessor(size={"height": 896, "width": 896})
    wanted = processor(list(colours.astype(np.uint8)), return_tensors="pt")["pixel_values"]
    assert (on_pictures("medgemma") - wanted).abs().max() < 1.1 * 2 / 255 / 0.5  # twice rounded to 8 bits


def test_medsiglip_is_siglip_s_image_processor() -> None:
    from transformers import SiglipImageProcessor

    processor = SiglipImageProcessor(size={"height": 448, "width": 448})
    wanted = processor(list(np.repeat(PICTURES[..., None], 3, axis=-1)), return_tensors="pt")["pixel_values"]
    assert (on_pictures("medsiglip") - wanted).abs().max() < 1.5 / 255 / 0.5  # both axes rounded to 8 bits


@pytest.mark.parametrize(("name", "mode", "size"), [("dinov3", "bilinear", 224), ("medimageinsight", "bicubic", 480)])
def test_pictures_are_resized_and_normalised_as_torchvision_does_for_the_source(
    name: str, mode: str, size: int
) -> None:
    """Both rescale to 0 ... 1 and call torchvision's resize of tensors, which is this function of PyTorch."""
    from torch.nn.functional import interpolate

    unit = torch.from_numpy(PICTURES / 255.0).float()[:, None].expand(-1, 3, -1, -1)
    resized = interpolate(unit, (size, size), mode=mode, antialias=True)
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    inside = (resized >= 0) & (resized <= 1)  # what a cubic kernel makes beyond, our window clips
    assert (on_pictures(name) - (resized - mean) / std).abs()[inside].max() < 3e-3


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_valid_configuration(name: str) -> None:
    config = ModelConfig.from_dict({"backbone": {"id": "dinov3-tiny"}, **preset(name).settings()})
    assert config.grid == PRESETS[name].grid and config.normalisation == PRESETS[name].normalisation


@pytest.mark.parametrize(
    ("name", "words"), [("merlyn", "did you mean merlin"), *((k, v[:20]) for k, v in LEFT_OUT.items())]
)
def test_an_unknown_preset_is_refused_with_the_nearest_and_one_that_is_left_out_with_the_reason(
    name: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        preset(name)
