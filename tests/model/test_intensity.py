"""Windows and normalisation, inside the model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from molre_edge.model.classifier import HeadCTClassifier
from molre_edge.model.config import ModelConfig
from molre_edge.model.intensity import WindowChannels

BRAIN = (40.0, 80.0)


def test_a_window_maps_its_edges_to_zero_and_one_and_clips_beyond() -> None:
    hu = torch.tensor([[[-1024.0, 0.0, 20.0, 40.0, 80.0, 3071.0]]])
    out = WindowChannels([BRAIN], mean=[0.0], std=[1.0])(hu)
    assert out.shape == (1, 1, 1, 6)
    assert out.flatten().tolist() == [0.0, 0.0, 0.25, 0.5, 1.0, 1.0]


def test_each_window_is_a_channel_with_its_own_mean_and_deviation() -> None:
    layer = WindowChannels([BRAIN, (80.0, 200.0), (600.0, 2800.0)], mean=[0.1, 0.2, 0.3], std=[0.5, 0.25, 2.0])
    out = layer(torch.full((2, 1, 1), 60.0))
    want = [(60 / 80 - 0.1) / 0.5, (80 / 200 - 0.2) / 0.25, (860 / 2800 - 0.3) / 2.0]
    assert out.shape == (2, 3, 1, 1)
    for unit in out:
        assert unit.flatten().tolist() == pytest.approx(want, abs=1e-6)


def test_one_mean_and_deviation_serve_all_windows() -> None:
    out = WindowChannels([BRAIN, (80.0, 200.0)], mean=[0.5], std=[0.5])(torch.full((1, 2, 2), -1000.0))
    assert torch.equal(out, torch.full((1, 2, 2, 2), -1.0))


def test_windows_are_configuration_and_no_weights() -> None:
    assert WindowChannels([BRAIN], [0.5], [0.5]).state_dict() == {}


@pytest.mark.parametrize("name", ["IMAGENET_STANDARD", "IMAGENET_DEFAULT", "OPENAI_CLIP"])
def test_means_and_deviations_in_use_give_what_transformers_gives(name: str) -> None:
    from transformers.image_transforms import normalize
    from transformers.utils import constants

    mean, std = getattr(constants, f"{name}_MEAN"), getattr(constants, f"{name}_STD")
    config = ModelConfig.from_dict(
        {
            "backbone": {"id": "dinov3-tiny"},
            "grid": {"slices": 2, "rows": 16, "cols": 32},
            "normalisation": {"mean": list(mean), "std": list(std)},
        }
    )
    hu = torch.randint(-1024, 3072, (2, 16, 32), generator=torch.Generator().manual_seed(0)).float()
    ours = HeadCTClassifier(config).intensity(hu)
    for unit, plane in zip(ours, hu.numpy(), strict=True):
        windowed = np.stack([np.clip((plane - c + w / 2) / w, 0, 1) for c, w in config.windows])
        wanted = normalize(windowed, mean, std, input_data_format="channels_first")
        assert np.abs(unit.numpy() - wanted).max() < 1e-5


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 255.0)])
def test_windows_lead_to_the_range_that_is_set_as_monai_s_do(low: float, high: float) -> None:
    from monai.transforms import ScaleIntensityRange

    hu = torch.linspace(-100, 200, 31)[None, None, None]  # [units, channels, rows, cols]
    layer = WindowChannels([BRAIN, (80.0, 200.0)], [0.4], [0.3], [(low, high), (0.0, 1.0)])
    wanted = [ScaleIntensityRange(0, 80, low, high, clip=True), ScaleIntensityRange(-20, 180, 0, 1, clip=True)]
    windowed = torch.cat([torch.as_tensor(scale(hu)) for scale in wanted], 1)
    torch.testing.assert_close(layer.window(hu[0]), windowed, rtol=1e-5, atol=1e-5 * high)
    torch.testing.assert_close(layer(hu[0]), (windowed - 0.4) / 0.3, rtol=1e-5, atol=1e-4 * high)
    np.testing.assert_allclose(layer.unranged(layer.ranged(np.ones((1, 2, 1, 1)))), 1.0)


def test_the_same_range_for_all_written_once_or_a_window_gives_the_same() -> None:
    hu = torch.linspace(-100, 200, 31)[None, None]
    once, each = (WindowChannels([BRAIN] * 2, [0.0], [1.0], [(0.0, 255.0)] * count) for count in (1, 2))
    assert torch.equal(once(hu[0]), each(hu[0]))


def test_half_floats_stay_half_floats_and_close() -> None:
    hu = torch.linspace(-1024, 3071, 97).reshape(1, 1, -1)
    layer = WindowChannels([BRAIN, (600.0, 2800.0)], [0.5], [0.5])
    full, half = layer(hu.half().float()), layer.half()(hu.half())
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), full, rtol=0, atol=2e-3)
