"""Preprocessing of published models as settings of a checkpoint: geometry and intensity. Without torch.

Only what a public source says, and each is compared with that source's own numbers by a test.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from molre_edge.errors import ConfigError, shown
from molre_edge.model.config import NormalisationConfig
from molre_edge.specs import Grid

__all__ = ["LEFT_OUT", "PRESETS", "Preset", "preset"]

_IMAGENET = NormalisationConfig(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
_HALF = NormalisationConfig(mean=(0.5,), std=(0.5,))


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Preprocessing of a published model.

    Attributes:
        name: such as ``merlin``.
        source: where it is written down.
        grid: of the model, with all that says how a scan comes onto it.
        windows: (centre, width) in HU; None where the source has none for CT: then they are yours to choose.
        normalisation: of the channels, which lead from 0 to 1.
        differs: where molre-edge can't do as the source does, and what it does instead.
    """

    name: str
    source: str
    grid: Grid
    windows: tuple[tuple[float, float], ...] | None
    normalisation: NormalisationConfig
    differs: tuple[str, ...] = ()

    def settings(self) -> dict[str, Any]:
        """The part of a checkpoint's configuration, plain data; see docs/reference/checkpoint.md."""
        settings: dict[str, Any] = {"grid": self.grid.to_dict()}
        if self.windows is not None:
            settings["windows"] = [list(window) for window in self.windows]
        settings["normalisation"] = {"mean": list(self.normalisation.mean), "std": list(self.normalisation.std)}
        return settings


_WINDOWS_FIRST = (
    "the source rounds windowed pictures to 8 bits and resizes them after; here HU are resized, then windowed: values "
    "differ at edges from air or bone to brain"
)

PRESETS: Mapping[str, Preset] = {
    each.name: each
    for each in (
        Preset(
            name="merlin",
            source="StanfordMIMI/Merlin, merlin/data/monai_transforms.py",
            grid=Grid(
                slices=160,
                rows=224,
                cols=224,
                field_mm=336.0,  # 1.5 mm
                height_mm=480.0,  # 3 mm
                plane="centre",
                antialias=False,
                stack="centre",
                between="linear",
                outside_hu=-1000.0,
                axes="SAR",
            ),
            windows=((0.0, 2000.0),),
            normalisation=NormalisationConfig(mean=(0.0,), std=(1.0,)),
        ),
        Preset(
            name="ct-fm",
            source="project-lighter/CT-FM, evaluation/sinoct.yaml (geometry) and scripts/feature_extractor.py (HU)",
            grid=Grid(
                slices=48,
                rows=128,
                cols=128,
                field_mm=256.0,  # 2 mm
                height_mm=240.0,  # 5 mm
                plane="centre",
                antialias=False,
                stack="centre",
                between="linear",
                crop_above_hu=0.0,
            ),
            windows=((512.0, 3072.0),),
            normalisation=NormalisationConfig(mean=(0.0,), std=(1.0,)),
            differs=("the source pads with the lowest value of each line; here it is -1024 HU",),
        ),
        Preset(
            name="medgemma",
            source="Google-Health/medgemma, high_dimensional_ct_hugging_face.ipynb; transformers, Gemma3ImageProcessor",
            grid=Grid(slices=85, rows=896, cols=896, plane="whole", stack="spread"),
            windows=((0.0, 2048.0), (40.0, 350.0), (40.0, 80.0)),
            normalisation=_HALF,
            differs=(
                _WINDOWS_FIRST,
                "the source takes all slices of scans with up to 85, and of longer ones 85 by its own count; here 85 "
                "are spread evenly from the first to the last",
            ),
        ),
        Preset(
            name="medsiglip",
            source="google/medsiglip-448; transformers, SiglipImageProcessor",
            grid=Grid(slices=32, rows=448, cols=448, plane="whole", interpolation="cubic", stack="spread"),
            windows=None,
            normalisation=_HALF,
            differs=(_WINDOWS_FIRST, "the source reads single pictures; 32 slices, spread evenly, are our choice"),
        ),
        Preset(
            name="dinov3",
            source="transformers, DINOv3ViTImageProcessor",
            grid=Grid(slices=32, rows=224, cols=224, plane="whole", stack="spread"),
            windows=None,
            normalisation=_IMAGENET,
            differs=(_WINDOWS_FIRST, "the source reads single pictures; 32 slices, spread evenly, are our choice"),
        ),
        Preset(
            name="medimageinsight",
            source="YalaLab/rate-evals, rate_eval/models/medimageinsight.py",
            grid=Grid(slices=32, rows=480, cols=480, plane="whole", interpolation="cubic", stack="spread"),
            windows=None,
            normalisation=_IMAGENET,
            differs=("the source pools all slices of a scan; 32, spread evenly, are our choice",),
        ),
    )
}
"""By name."""

LEFT_OUT: Mapping[str, str] = {
    "fm_headct": "it reads by B-splines, crops after it resampled, and averages windowed values; none is a setting",
    "pillar-0": "its windows and resampling are in the package rve, whose source was not found",
}
"""Models whose preprocessing can't be given as settings, with the reason."""


def preset(name: str) -> Preset:
    """The preset of a name.

    Raises:
        ConfigError: unknown, or left out; the message says why, or names the nearest.
    """
    if name in PRESETS:
        return PRESETS[name]
    if name in LEFT_OUT:
        raise ConfigError(f"preset {name}: there is none, since {LEFT_OUT[name]} (docs/reference/preprocessing.md)")
    near = difflib.get_close_matches(str(name)[:100], [*PRESETS, *LEFT_OUT], n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ConfigError(f"preset: expected one of {', '.join(PRESETS)}, got {shown(name)}{hint}")
