"""Numbers that explain what a user's program saved: read off its values, or fitted to its answers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from own_chain import MEAN, STD, WINDOWS, normalised, windowed

from molre_edge.model.intensity import WindowChannels
from molre_edge.own_model.parting.estimate import describe_hu, fit, from_channels, from_normalised
from molre_edge.own_model.parting.steps import Step

CHAIN: Any = SimpleNamespace(model=SimpleNamespace(intensity=WindowChannels(WINDOWS, MEAN, STD)))
HU = np.random.default_rng(0).integers(-300, 600, (3, 24, 32)).astype(np.float32)


def test_a_window_is_read_off_its_channel() -> None:
    others = [(40.0, 80.0), (61.5, 173.0), (600.0, 2800.0)]
    (change,) = from_channels(HU, windowed(HU, others), WINDOWS)
    assert change.step is Step.WINDOWS and change.fix.endswith("[[40, 80], [61.5, 173], [600, 2800]]")
    assert np.abs(change.apply(CHAIN, HU) - windowed(HU, others)).max() < 1e-6
    assert list(from_channels(HU, windowed(HU), WINDOWS)) == []


def test_mean_and_deviation_are_read_off_normalised_channels() -> None:
    (change,) = from_normalised(windowed(HU), normalised(windowed(HU), MEAN[::-1], STD))
    assert "mean (0.406, 0.456, 0.485) and deviation (0.229, 0.224, 0.225)" in change.text


@pytest.mark.parametrize(
    ("yours", "step", "words"),
    [
        (HU[::-1], Step.SLICES, "from superior to inferior"),
        (HU[:, ::-1], Step.AXES, "anterior and posterior exchanged"),
        (HU - 1024, Step.HU, "-1024 on HU"),
        (2 * HU + 10, Step.HU, "2 x HU +10"),
        (HU.clip(-100, 300), Step.HU, "clips HU to -100 ... 300"),
        (HU[::-1] + 1024, Step.SLICES, "+1024 on HU, and stacks the slices from superior"),
        (HU[:2], Step.FILES, "a volume of [2, 24, 32], molre-edge reads [3, 24, 32]"),
    ],
)
def test_what_another_volume_is(yours: Any, step: Step, words: str) -> None:
    described = describe_hu(HU, yours)
    assert described is not None and described[0] is step and words in described[1]


def test_a_volume_of_something_else_is_not_explained() -> None:
    assert describe_hu(HU, np.random.default_rng(1).normal(size=HU.shape).astype(np.float32)) is None


def test_numbers_are_fitted_or_given_up() -> None:
    places = np.linspace(-3, 3, 50)

    def apart(numbers: Any) -> Any:
        return np.tanh(numbers[0] * places + numbers[1]) - np.tanh(1.7 * places - 0.4)

    found = fit((1.0, 0.0), (0.01, 0.01), apart, good=1e-6)
    assert found is not None and np.allclose(found, (1.7, -0.4), atol=1e-5)
    assert fit((1.0, 0.0), (0.01, 0.01), lambda numbers: apart(numbers) + 1.0, good=1e-6) is None
