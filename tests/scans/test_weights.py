"""Each setting of a grid gives what public libraries give for the same: PyTorch, PIL and MONAI."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from molre_edge.errors import ScanError
from molre_edge.scans.grid import pixels_mm, sample, upright
from molre_edge.specs import Grid

RNG = np.random.default_rng(0)
HU = RNG.integers(-1000, 1000, (7, 40, 60)).astype(np.float32)
POSITIONS, THICKNESS, PIXEL = np.arange(7) * 5.0, np.full(7, 5.0), (4.0, 4.0)
OWN = Grid(slices=7, rows=24, cols=32)
PLAIN = replace(OWN, stack="every")  # the scan's own slices
HALF = 0.51
"""HU up to 1000 in half floats are rounded by half at most; cubic ones reach beyond 1024, where it is twice that."""


def on(grid: Grid, hu: Any = HU) -> npt.NDArray[np.float32]:
    positions, thickness = np.arange(len(hu)) * 5.0, np.full(len(hu), 5.0)
    half, weights = sample(hu, positions, thickness, PIXEL, grid, (-2.5, 5.0 * len(hu) - 2.5), (78.0, 118.0))
    assert weights.shape == (grid.slices, len(hu))
    return half.astype(np.float32)


def test_the_defaults_are_those_of_every_version_and_are_not_written() -> None:
    assert OWN.to_dict() == {"slices": 7, "rows": 24, "cols": 32, "field_mm": 256.0, "height_mm": 180.0}
    assert Grid(**OWN.to_dict()) == OWN
    other = replace(OWN, plane="whole", interpolation="cubic", stack="every", slice_step=2, axes="IAR", outside_hu=0)
    assert Grid(**other.to_dict()) == other
    assert set(other.to_dict()) - set(OWN.to_dict()) == set(other.settings)


@pytest.mark.parametrize("shape", [(24, 32), (90, 100)])
@pytest.mark.parametrize(
    ("settings", "mode", "options"),
    [
        ({"interpolation": "linear", "antialias": False}, "bilinear", {"align_corners": False}),
        ({"interpolation": "linear"}, "bilinear", {"align_corners": False, "antialias": True}),
        ({"interpolation": "cubic", "antialias": False}, "bicubic", {"align_corners": False}),
        ({"interpolation": "cubic"}, "bicubic", {"align_corners": False, "antialias": True}),
        ({"interpolation": "nearest"}, "nearest-exact", {}),
    ],
)
def test_whole_pictures_are_resized_as_pytorch_does(
    settings: dict[str, Any], mode: str, options: dict[str, Any], shape: tuple[int, int]
) -> None:
    wanted = F.interpolate(torch.from_numpy(HU)[None], shape, mode=mode, **options)[0].numpy()
    ours = on(replace(PLAIN, plane="whole", rows=shape[0], cols=shape[1], **settings))
    assert np.abs(ours - wanted.clip(-1024, 3071)).max() < 2 * HALF


@pytest.mark.parametrize(
    ("settings", "filter_"),
    [
        ({"interpolation": "linear"}, Image.Resampling.BILINEAR),
        ({"interpolation": "cubic"}, Image.Resampling.BICUBIC),
        ({"interpolation": "nearest"}, Image.Resampling.NEAREST),
    ],
)
def test_whole_pictures_are_resized_as_pil_does(settings: dict[str, Any], filter_: Image.Resampling) -> None:
    wanted = np.stack([np.asarray(Image.fromarray(plane).resize((32, 24), filter_)) for plane in HU])
    assert np.abs(on(replace(PLAIN, plane="whole", **settings)) - wanted).max() < 2 * HALF


def test_areas_are_averaged_as_pytorch_does() -> None:
    grid = Grid(slices=4, rows=20, cols=20, plane="whole", interpolation="area", stack="whole", between="area")
    hu = HU[:, :, :].repeat(2, axis=0)[:12]
    wanted = F.interpolate(torch.from_numpy(hu)[None, None], grid.shape, mode="area")[0, 0].numpy()
    assert np.abs(on(grid, hu) - wanted).max() < HALF


def test_a_whole_scan_is_interpolated_as_pytorch_does() -> None:
    grid = Grid(
        slices=5, rows=24, cols=32, plane="whole", antialias=False, stack="whole", between="linear", outside_hu=0.0
    )
    volume = torch.from_numpy(HU)[None, None]
    wanted = F.interpolate(volume, grid.shape, mode="trilinear", align_corners=False)[0, 0].numpy()
    assert np.abs(on(grid) - wanted).max() < HALF


@pytest.mark.parametrize("axes", ["SPL", "SAR", "IAL", "IPR"])
@pytest.mark.parametrize(("field_mm", "height_mm"), [(79.0, 21.7), (301.0, 98.7)])
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_fixed_spacing_with_crop_and_pad_is_monai_s(axes: str, field_mm: float, height_mm: float, mode: str) -> None:
    """Orientation, Spacing, SpatialPad and CenterSpatialCrop, on axes in MONAI's order: x, y, z.

    Nearest: where no pixel lies halfway between two, which MONAI rounds either way.
    """
    from monai.data import MetaTensor
    from monai.transforms import CenterSpatialCrop, Compose, Orientation, Spacing, SpatialPad

    interpolation, between = ("linear", "linear") if mode == "bilinear" else ("nearest", "nearest")
    grid = Grid(
        slices=7, rows=24, cols=24, field_mm=field_mm, height_mm=height_mm, plane="centre", stack="centre",
        interpolation=interpolation, antialias=False, between=between, outside_hu=-1000.0, axes=axes,
    )  # fmt: skip
    image = MetaTensor(torch.from_numpy(HU.transpose(2, 1, 0))[None], affine=torch.diag(torch.tensor([-4.0, -4, 5, 1])))
    step = field_mm / 24
    steps = Compose(
        [
            Orientation(axcodes=axes[::-1], labels=None),
            Spacing(pixdim=(step, step, height_mm / 7), mode=mode),
            SpatialPad((24, 24, 7), value=-1000),
            CenterSpatialCrop((24, 24, 7)),
        ]
    )
    wanted = steps(image)[0].numpy().transpose(2, 1, 0)
    assert np.abs(on(grid) - wanted).max() < HALF


def test_slices_are_picked_by_number() -> None:
    base = replace(OWN, plane="whole", interpolation="nearest", rows=40, cols=60)

    def numbers(slices: int, **settings: Any) -> list[int]:
        found = on(replace(base, slices=slices, **settings))
        same = [[i for i, plane in enumerate(HU) if (plane == picked).all()] for picked in found]
        return [each[0] if each else -1 for each in same]

    assert numbers(4, stack="spread") == [0, 2, 4, 6]
    assert numbers(3, stack="every", slice_step=2) == [2, 4, 6]  # as CenterSpatialCrop
    assert numbers(2, stack="every", slice_step=2) == [2, 4]
    assert numbers(6, stack="every", slice_step=2) == [-1, 0, 2, 4, 6, -1]
    assert numbers(4, stack="every", slice_step=2, axes="IPL") == [6, 4, 2, 0]
    assert numbers(7, stack="every", axes="IPL") == [6, 5, 4, 3, 2, 1, 0]


def test_what_is_padded_has_the_value_that_is_set() -> None:
    padded = on(replace(PLAIN, plane="centre", slices=9, field_mm=512.0, outside_hu=-500.0))
    assert (padded[0] == -500).all() and (padded[-1] == -500).all() and (padded[:, 0] == -500).all()
    assert (np.abs(padded[4, 12, 12]) <= 1000).all()


@pytest.mark.parametrize("axes", ["SPL", "SAR", "SLP", "SRA", "SRP", "ILA"])
def test_axes_turn_the_head_s_field_and_upright_undoes_it(axes: str) -> None:
    own = on(replace(OWN, cols=24))
    turned = on(replace(OWN, cols=24, axes=axes))
    back = np.stack([upright(plane, replace(OWN, cols=24, axes=axes)) for plane in turned])
    assert (back[:: -1 if axes[0] == "I" else 1] == own).all()


def test_pixels_of_whole_pictures_are_those_of_the_scan() -> None:
    assert pixels_mm(OWN, HU, PIXEL) == (256 / 24, 256 / 24)
    whole = replace(OWN, plane="whole")
    assert pixels_mm(whole, HU, PIXEL) == (160 / 24, 240 / 32)
    assert pixels_mm(replace(whole, axes="SLP"), HU, PIXEL) == (240 / 24, 160 / 32)


def test_a_scan_is_cropped_to_what_is_above_a_value_before_all_else() -> None:
    hu = np.full((9, 40, 60), -1000.0, np.float32)
    hu[2:7, 10:30, 12:42] = 40.0
    grid = Grid(slices=5, rows=20, cols=30, plane="whole", stack="spread", crop_above_hu=0.0)
    positions, thickness = np.arange(9) * 5.0, np.full(9, 5.0)
    half, weights = sample(hu, positions, thickness, PIXEL, grid, (-2.5, 42.5), (78.0, 118.0))
    assert (half == 40).all()
    assert weights.shape == (5, 9) and weights[:, 2:7].tolist() == np.eye(5).tolist()
    assert pixels_mm(grid, hu, PIXEL) == PIXEL
    with pytest.raises(ScanError, match="no value is above 100 HU, which the model's grid is cropped to"):
        sample(hu, positions, thickness, PIXEL, replace(grid, crop_above_hu=100.0), (-2.5, 42.5), (78.0, 118.0))
