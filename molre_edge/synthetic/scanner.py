"""What the scanner adds: slice profile, noise, beam hardening, streaks, the head rest."""

from __future__ import annotations

import numpy as np

from molre_edge.synthetic.fields import Array, box_blur

__all__ = ["add_head_rest", "add_metal_streaks", "add_noise", "add_streaks", "blur_slices"]


def blur_slices(volume: Array, share: float) -> Array:
    """A slice takes `share` of each neighbour, as a real slice profile does; borders are repeated."""
    if volume.shape[0] < 3:
        return volume
    padded = np.concatenate([volume[:1], volume, volume[-1:]])
    result = padded[:-2] + padded[2:]
    result *= np.float32(share)
    return np.asarray(result + volume * np.float32(1 - 2 * share))


def add_noise(volume: Array, rng: np.random.Generator, sd_hu: float, pixel_mm: float) -> None:
    """Correlated noise, in place: the spectrum of filtered back-projection rises, then falls with the kernel.

    Args:
        volume: float32 (slices, rows, cols), HU.
        rng: consumed by one draw per voxel.
        sd_hu: standard deviation in the middle of the head.
        pixel_mm: smaller pixels are blurred over more pixels, so that the grain keeps its size in millimetres.
    """
    grain = rng.standard_normal(volume.shape, dtype=np.float32)
    passes = int(np.clip(round(0.9 / pixel_mm), 1, 4))
    for axis in (1, 2):
        grain = box_blur(grain, axis, passes)
    slow = grain
    for axis in (1, 2):
        slow = box_blur(slow, axis, 2 * passes)
    grain = grain - np.float32(0.7) * slow
    grain *= np.float32(sd_hu) / max(float(grain.std()), 1e-6)
    # Air outside is quieter than the head; detectors starve behind bone.
    density = np.clip((volume.mean(axis=(1, 2)) + 1000) / 500, 0.45, 1.7)[:, None, None]
    grain *= density.astype(np.float32)
    volume += grain


def add_streaks(volume: Array, sd_hu: float, rng: np.random.Generator) -> None:
    """Streaks from side to side between dense bones, strongest at the skull base, in place."""
    bone = np.clip((volume - 700) * np.float32(1 / 600), 0, 1)
    per_row = bone.sum(axis=2, keepdims=True) / volume.shape[2]
    jitter = rng.standard_normal((*volume.shape[:2], 1), dtype=np.float32)
    jitter = box_blur(jitter, 1, 1)
    strength = np.clip((per_row - 0.08) * 9, 0, 1.2)
    body = (volume > -200) & (volume < 300)
    volume += strength * (jitter * np.float32(2.2 * sd_hu) - np.float32(4)) * body


def add_metal_streaks(
    volume: Array, rng: np.random.Generator, centre: tuple[int, float, float], grid: tuple[Array, Array], size: float
) -> None:
    """Dark and bright rays from a piece of metal, in place, in its slice and weakly in the next ones.

    Args:
        volume: float32 (slices, rows, cols), HU.
        rng: for the rays.
        centre: slice index, then row and column positions in mm.
        grid: positions of rows and columns in mm.
        size: strength; 1 for an aneurysm clip.
    """
    index, row, col = centre
    y = (grid[0] - np.float32(row))[:, None]
    x = (grid[1] - np.float32(col))[None, :]
    radius = np.sqrt(x * x + y * y) + np.float32(2)
    angle = np.arctan2(y, x)
    waves = np.zeros_like(radius)
    for _ in range(7):
        order = int(rng.integers(3, 15))
        waves += np.float32(rng.uniform(0.5, 1)) * np.sin(order * angle + np.float32(rng.uniform(0, 6.3)))
    waves = waves * np.float32(420 * size) / (radius + 6) * np.exp(-radius * np.float32(1 / 70))
    for shift, share in ((0, 1.0), (-1, 0.4), (1, 0.4)):
        if 0 <= index + shift < volume.shape[0]:
            volume[index + shift] += np.float32(share) * waves


def add_head_rest(volume: Array, x: Array, y: Array, back_mm: float) -> None:
    """The carbon-fibre head holder behind the head, in place: a curved shell of two thin skins.

    Args:
        volume: float32 (slices, rows, cols), HU.
        x: positions of the columns, mm from the centre of the field, to the left.
        y: positions of the rows, mm from the centre of the field, to the back.
        back_mm: the back of the head, mm.
    """
    reach = 96.0
    bow = y[:, None] - np.float32(back_mm + 5) + (x[None, :] / np.float32(reach)) ** 2 * 62
    bow = bow / np.sqrt(1 + (np.float32(124 / reach**2) * x[None, :]) ** 2)
    shell = np.clip(1.4 - np.abs(np.abs(bow - 5) - 4), 0, 1) * (np.abs(x)[None, :] < reach)
    foam = (np.abs(bow - 5) < 4) * (np.abs(x)[None, :] < reach)
    rest = np.where(shell > 0, shell * 780, foam * 60).astype(np.float32)
    empty = volume < -900
    volume += np.where(empty, rest[None], 0)
