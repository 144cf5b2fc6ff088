"""What differs between people and between scans, drawn once per seed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Subject", "draw_subject", "stream"]


def stream(seed: int, purpose: str) -> np.random.Generator:
    """A random generator of its own for each purpose, so that a lesion never changes the anatomy or the noise."""
    return np.random.default_rng([seed, *purpose.encode("ascii")])


@dataclass
class Subject:
    """One person on one scanner. Lesions may change a subject before the head is rendered.

    Attributes:
        scale: size relative to the template (x, y, z).
        rotation: 3x3, from scanner axes to head axes.
        offset_mm: centre of the head from the centre of the field of view (x, y, z).
        age: years, 20 to 90; the source of atrophy and calcification.
        sulcus_mm: width of the sulci at the surface.
        rim_mm: subarachnoid space beneath the inner table.
        ventricle: factor on the radii of the ventricles.
        cistern: factor on the basal cisterns.
        vault_mm: thickness of the skull vault.
        scalp_mm: thickness of the scalp.
        noise_hu: standard deviation of the noise in the brain.
        slice_blur: share of the neighbouring slices in a slice.
        white_offset_hu: change of the white matter against its literature value.
        calcified: the pineal gland and the choroid plexus are calcified, a normal variant of adults.
    """

    scale: tuple[float, float, float]
    rotation: NDArray[np.float64]
    offset_mm: tuple[float, float, float]
    age: float
    sulcus_mm: float
    rim_mm: float
    ventricle: float
    cistern: float
    vault_mm: float
    scalp_mm: float
    noise_hu: float
    slice_blur: float
    white_offset_hu: float
    calcified: bool
    contrast: float = 1.0  # of grey against white matter; 0 after global hypoxia


def _rotation(pitch: float, yaw: float, roll: float) -> NDArray[np.float64]:
    """Rotation matrix from angles in degrees: nodding (about x), turning (about z), leaning (about y)."""
    p, w, r = (math.radians(a) for a in (pitch, yaw, roll))
    about_x = np.array([[1, 0, 0], [0, math.cos(p), -math.sin(p)], [0, math.sin(p), math.cos(p)]])
    about_z = np.array([[math.cos(w), -math.sin(w), 0], [math.sin(w), math.cos(w), 0], [0, 0, 1]])
    about_y = np.array([[math.cos(r), 0, math.sin(r)], [0, 1, 0], [-math.sin(r), 0, math.cos(r)]])
    return np.asarray(about_x @ about_y @ about_z)


def draw_subject(seed: int) -> Subject:
    """The person and the scan of a seed."""
    rng = stream(seed, "subject")
    size = 0.94 + 0.025 * float(np.clip(rng.standard_normal(), -2, 2))
    scale = tuple(size * (1 + 0.015 * float(np.clip(rng.standard_normal(), -2, 2))) for _ in range(3))
    angles = np.clip(rng.standard_normal(3), -2, 2) * (4.0, 3.0, 2.0)
    age = float(rng.uniform(20, 90))
    old = (age - 20) / 70  # 0 to 1
    wear = float(np.clip(old + 0.18 * rng.standard_normal(), 0, 1.2))
    return Subject(
        scale=(scale[0], scale[1], scale[2]),
        rotation=_rotation(float(angles[0]), float(angles[1]), float(angles[2])),
        offset_mm=(float(rng.uniform(-5, 5)), float(rng.uniform(-5, 5)), 0.0),
        age=age,
        sulcus_mm=1.35 + 1.6 * wear,
        rim_mm=0.9 + 2.1 * wear,
        ventricle=0.85 + 0.5 * wear + 0.07 * float(rng.standard_normal()),
        cistern=0.92 + 0.25 * wear,
        vault_mm=float(rng.uniform(5.0, 7.5)),
        scalp_mm=float(rng.uniform(4.0, 7.0)),
        noise_hu=float(rng.uniform(2.2, 4.2)),
        slice_blur=float(rng.uniform(0.08, 0.16)),
        white_offset_hu=float(rng.uniform(-1.5, 0.8)),
        calcified=bool(rng.random() < 0.2 + 0.7 * old),
    )
