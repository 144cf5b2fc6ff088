"""What a user's own preprocessing may do otherwise between HU and the backbone: windows and normalisation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import permutations

import numpy as np

from molre_edge.own_model.parting.chain import Array, Change
from molre_edge.own_model.parting.steps import Step

__all__ = ["intensity_changes", "normalisation_change", "window_change"]

Window = tuple[float, float]

KNOWN_WINDOWS: dict[Window, str] = {
    (40.0, 80.0): "brain",
    (35.0, 80.0): "brain",
    (40.0, 40.0): "stroke",
    (32.0, 8.0): "stroke",
    (35.0, 40.0): "stroke",
    (80.0, 200.0): "blood",
    (75.0, 215.0): "blood",
    (50.0, 130.0): "blood",
    (100.0, 200.0): "blood",
    (40.0, 350.0): "soft tissue",
    (40.0, 375.0): "soft tissue",
    (40.0, 400.0): "soft tissue",
    (50.0, 350.0): "soft tissue",
    (600.0, 2800.0): "bone",
    (480.0, 2500.0): "bone",
    (500.0, 2000.0): "bone",
    (600.0, 2000.0): "bone",
    (400.0, 1800.0): "bone",
    (0.0, 2000.0): "wide",
    (0.0, 2048.0): "wide",
    (1023.5, 4095.0): "all of CT",
}
"""(centre, width) in HU that are in use."""

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
KNOWN_NORMALISATIONS: tuple[tuple[str, Sequence[float], Sequence[float]], ...] = (
    ("ImageNet's", *_IMAGENET),
    ("0.5 and 0.5 (as SigLIP)", (0.5,), (0.5,)),
    ("none (0 and 1)", (0.0,), (1.0,)),
    ("CLIP's", (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    ("ImageNet's, in reverse order of channels", _IMAGENET[0][::-1], _IMAGENET[1][::-1]),
    ("ImageNet's means of the channels", (0.449,), (0.226,)),
)
_MOST_CHANNELS = 4


def intensity_changes(windows: Sequence[Window], mean: Sequence[float], std: Sequence[float]) -> Iterator[Change]:
    """Changes of windows and normalisation.

    Args:
        windows: of the checkpoint.
        mean: of its channels.
        std: of its channels.
    """
    for channel, window in enumerate(windows):
        for other, name in KNOWN_WINDOWS.items():
            if other != tuple(window):
                yield window_change(windows, {channel: other}, f"; yours is in use for {name}")
    if all(high > low for low, high in windows):
        read = {place: ((low + high) / 2, high - low) for place, (low, high) in enumerate(windows)}
        yield window_change(windows, read, ": the checkpoint's pairs are lowest and highest HU, not centre and width")
    if len(windows) <= _MOST_CHANNELS:
        for order in permutations(range(len(windows))):
            if order != tuple(range(len(windows))) and [windows[i] for i in order] != list(windows):
                moved = {place: windows[source] for place, source in enumerate(order) if place != source}
                yield window_change(windows, moved, ": the channels are in another order")
    yield from _forms(windows, mean, std)
    for name, means, deviations in KNOWN_NORMALISATIONS:
        if len(means) in (1, len(windows)):
            yield normalisation_change(means, deviations, len(windows), f", {name}")
    yield normalisation_change(mean, [s * s for s in std], len(windows), ": it divides by the variance")
    yield Change(
        Step.NORMALISATION,
        "brings each slice to mean 0 and deviation 1 by its own values",
        "molre-edge normalises by constants: train with constants",
        "normalised",
        lambda _, x: _standardised(x, (2, 3)),
    )
    yield Change(
        Step.NORMALISATION,
        "brings each volume to mean 0 and deviation 1 by its own values",
        "molre-edge normalises by constants: train with constants",
        "normalised",
        lambda _, x: _standardised(x, (0, 2, 3)),
    )


def window_change(windows: Sequence[Window], others: dict[int, Window], why: str) -> Change:
    """Other windows for some channels.

    Args:
        windows: of the checkpoint.
        others: channel, from 0 -> (centre, width).
        why: the end of the sentence.
    """
    all_of_them = [tuple(others.get(place, window)) for place, window in enumerate(windows)]
    parts = [
        f"window {place + 1} is ({centre:g}, {width:g}), the checkpoint's is ({windows[place][0]:g}, "
        f"{windows[place][1]:g})"
        for place, (centre, width) in others.items()
    ]
    setting = ", ".join(f"[{centre:g}, {width:g}]" for centre, width in all_of_them)
    return Change(
        Step.WINDOWS,
        f"windows HU otherwise: {'; '.join(parts)}{why}",
        f'in the checkpoint, "windows": [{setting}]',
        "windowed",
        lambda chain, hu: chain.model.intensity.ranged(_windowed(hu, all_of_them)),
    )


def normalisation_change(mean: Sequence[float], std: Sequence[float], channels: int, why: str) -> Change:
    """Another mean and deviation; one for all channels, or one each."""
    words = [", ".join(f"{value:.6g}" for value in values) for values in (mean, std)]
    shape = (1, channels, 1, 1)
    mean_of, std_of = (
        np.broadcast_to(np.asarray(v, np.float32), (channels,)).reshape(shape) for v in (list(mean), list(std))
    )
    return Change(
        Step.NORMALISATION,
        f"normalises with mean ({words[0]}) and deviation ({words[1]}){why}",
        f'in the checkpoint, "normalisation": {{"mean": [{words[0]}], "std": [{words[1]}]}}',
        "normalised",
        lambda _, x: (x - mean_of) / std_of,
    )


def _forms(windows: Sequence[Window], mean: Sequence[float], std: Sequence[float]) -> Iterator[Change]:
    """Other formulas for the same windows."""

    def change(text: str, apply: Callable[[Array], Array]) -> Change:
        formula = "(HU - centre + width / 2) / width, clipped to 0 ... 1"
        fix = f"window in your code as docs/reference/checkpoint.md says: {formula}"
        return Change(Step.WINDOWS, text, fix, "windowed", lambda chain, hu: chain.model.intensity.ranged(apply(hu)))

    def linear(hu: Array) -> Array:
        return np.stack([((hu - (c - 0.5)) / (w - 1) + 0.5).clip(0, 1) for c, w in windows], 1)

    def sigmoid(hu: Array) -> Array:
        return np.stack([1 / (1 + np.exp(-4 * (hu - c) / w)) for c, w in windows], 1)

    def open_ended(hu: Array) -> Array:
        return np.stack([(hu - c + w / 2) / w for c, w in windows], 1)

    yield change("windows by DICOM's LINEAR function, with (centre - 0.5) and (width - 1)", linear)
    yield change("windows by DICOM's SIGMOID function", sigmoid)
    yield change("does not clip to the windows", open_ended)
    yield change("rounds windowed values to 8 bits", lambda hu: np.rint(_windowed(hu, windows) * 255) / 255)
    yield change("cuts windowed values down to 8 bits", lambda hu: np.floor(_windowed(hu, windows) * 255) / 255)
    means, deviations = (", ".join(f"{value:.6g}" for value in values) for values in (mean, std))
    for low, high in ((0.0, 1.0), (0.0, 255.0), (-1.0, 1.0)):
        yield Change(
            Step.WINDOWS,
            f"windows to {low:g} ... {high:g}, not to what the checkpoint says",
            f'in the checkpoint, "window_range": [{low:g}, {high:g}], "normalisation": {{"mean": [{means}], "std": '
            f"[{deviations}]}}",
            "windowed",
            lambda _, hu, low=low, high=high: low + (high - low) * _windowed(hu, windows),
        )


def _windowed(hu: Array, windows: Sequence[Sequence[float]]) -> Array:
    """[slices, rows, cols] -> [slices, channels, rows, cols]."""
    return np.stack([((hu - (c - w / 2)) / w).clip(0.0, 1.0) for c, w in windows], axis=1)


def _standardised(x: Array, axes: tuple[int, ...]) -> Array:
    return (x - x.mean(axes, keepdims=True)) / np.maximum(x.std(axes, keepdims=True), 1e-6)  # type: ignore[no-any-return]
