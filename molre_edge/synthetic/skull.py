"""The skull: the cavity of the brain, the bone around it, the face below it and the scalp over it.

Template coordinates are millimetres, close to MNI space: x to the left, y to the front, z to the top, the origin near
the anterior commissure. The cavity is a vault (a superellipsoid) closed below by a height map, the skull base.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache

import numpy as np

from molre_edge.synthetic import tissues as hu
from molre_edge.synthetic.face import face_distance
from molre_edge.synthetic.fields import Array, Ints, Points, inside, ramp, sample_map
from molre_edge.synthetic.subject import Subject

__all__ = ["Skull", "paint_skull", "shape_skull", "vault_distance"]

_ORIGIN = (0.0, -130.0)  # of the base maps: |x| from 0 to 99, y from -130 to 109


@dataclass
class Skull:
    """Signed distances, float32 (voxels,), millimetres; negative inside.

    Attributes:
        cavity: to the inner surface of the skull.
        vault: to the vault as if it went on below the base.
        head: to the skin.
        thickness: of the bone outside the cavity.
        edge: width of a soft edge, wider where the surface lies flat in a thick slice.
        above_base: height above the skull base.
    """

    cavity: Array
    vault: Array
    head: Array
    thickness: Array
    edge: Array
    above_base: Array

    def take(self, index: Ints) -> Skull:
        """The same for some of the voxels."""
        return Skull(*(getattr(self, item.name)[index] for item in fields(self)))


def vault_distance(points: Points) -> tuple[Array, Array]:
    """Signed distance to the vault's inner surface, and how much its normal points along z (0 to 1)."""
    x, y, z = points
    width = 1 - np.float32(0.0013) * (y + np.float32(25))
    parts = [np.abs(x / (width * np.float32(67.5))), np.abs(y + np.float32(18)) / np.float32(87)]
    parts.append(np.abs(z - np.float32(8)) / np.float32(70))
    total = np.zeros_like(x)
    slopes: list[Array] = []
    for part, radius in zip(parts, (67.5, 87.0, 70.0), strict=True):
        power = part * np.sqrt(np.sqrt(part))  # part ** 1.25
        total += power * part
        slopes.append(power * np.float32(1 / radius))
    length = np.sqrt(slopes[0] ** 2 + slopes[1] ** 2 + slopes[2] ** 2)
    np.maximum(length, 1e-5, out=length)
    k = total ** np.float32(1 / 2.25)
    # k - 1 over the length of its gradient, which is slopes / k ** 1.25
    distance = (k - 1) * k * np.sqrt(np.sqrt(k)) / length
    return distance.astype(np.float32), np.asarray(slopes[2] / length, dtype=np.float32)


@cache
def _base_maps() -> tuple[Array, Array, Array]:
    """Height of the skull base, the cosine of its slope, and the thickness of its bone, over (|x|, y)."""
    a, y = np.meshgrid(np.arange(100.0), np.arange(-130.0, 110.0), indexing="ij")
    ridge = y - (-13 - 0.50 * a)  # in front of the petrous ridge: positive
    wing = y - (11 + 0.22 * a)  # in front of the sphenoid ridge: positive
    height = np.full(a.shape, -62.0)
    middle = -41 + 0.010 * (a - 34) ** 2 + 0.007 * (y + 4) ** 2
    height = np.where((ridge > 0) & (wing < 0), np.minimum(middle, -24), height)
    front = -19 + 6 * np.exp(-(((a - 26) / 14) ** 2) - ((y - 42) / 18) ** 2) - 6 * np.exp(-((a / 6) ** 2))
    height = np.where(wing >= 0, front, height)
    petrous = -20 - 1.25 * np.clip(np.abs(ridge) * 0.89 - 2, 0, None) + np.where(a > 45, 0.25 * (a - 45), 0)
    height = np.where(a > 9, np.maximum(height, np.clip(petrous, -62, None)), height)
    lesser = -17 - 1.6 * np.clip(np.abs(wing) - 1.5, 0, None)
    height = np.where(a > 10, np.maximum(height, lesser), height)
    centre = np.where(y > -9, -25.0, -24 + 1.9 * (y + 9))  # sella, then the clivus
    centre = np.maximum(centre, -64)
    centre = np.maximum(centre, np.where(np.abs(y + 9) < 2.5, -20.0, -99))  # dorsum sellae
    centre -= 8 * np.exp(-((a / 7) ** 2) - ((y + 1) / 5) ** 2)
    height = np.where((a < 11) & (y < 12) & (y > -32), np.maximum(centre, -64), height)
    hole = np.hypot(a / 15, (y + 43) / 18)
    height = np.where(hole < 1, -110, height)
    thickness = np.full(a.shape, 5.0)
    thickness = np.where(wing > 0, 1.9, thickness)
    thickness = np.where((ridge > 8) & (wing < -3), 3.0, thickness)
    body = np.clip(1.25 - np.abs(ridge + 4) / 15, 0, 1) * (a > 8)
    thickness = np.maximum(thickness, 26 * body)
    thickness = np.where((a < 13) & (y < 14) & (y > -32), 11.0, thickness)
    padded = height
    for _ in range(3):
        padded = _smooth(padded)
        thickness = _smooth(thickness)
    by_x, by_y = np.gradient(padded)
    flatness = 1 / np.sqrt(1 + by_x**2 + by_y**2)
    return padded.astype(np.float32), flatness.astype(np.float32), thickness.astype(np.float32)


def _smooth(image: np.ndarray) -> np.ndarray:
    for axis in (0, 1):
        edge = np.pad(image, [(1, 1) if i == axis else (0, 0) for i in range(2)], mode="edge")
        image = np.apply_along_axis(np.convolve, axis, edge, [0.25, 0.5, 0.25], mode="valid")
    return image


def shape_skull(points: Points, subject: Subject, pixel_mm: float, slice_mm: float, wobble: Array) -> Skull:
    """Distances to skull and skin.

    Args:
        points: template coordinates, float32 (voxels,).
        subject: whose head it is.
        pixel_mm: side of a pixel in template millimetres.
        slice_mm: distance of the slices in template millimetres.
        wobble: smooth noise, float32 (voxels,), for the thickness of bone and scalp.
    """
    x, y, z = points
    side = np.abs(x)
    vault, upright = vault_distance(points)
    height, flatness, base = (sample_map(m, side, y, _ORIGIN) for m in _base_maps())
    # Beyond the surface's own slope its distance is that along z, or a steep wall would reach far up.
    below = (height - z) * np.maximum(flatness, ramp(z - height, 5, 30))
    below = below + 1.3 * wobble * ramp(z - height, -12, 2)
    cavity = np.maximum(vault, below)
    level = upright + ramp(below - vault, -3, 3) * (flatness - upright)
    edge = np.float32(1.1 * pixel_mm) + level * np.float32(0.75 * slice_mm)
    # The vault is thickest at the back of the head and thin over the temples.
    thickness = np.float32(subject.vault_mm) * (1 + np.float32(0.16) * wobble)
    thickness = thickness * (1 + np.float32(0.25) * ramp(-y, 40, 100) + np.float32(0.15) * ramp(y, 30, 70))
    thin = ramp(side, 45, 62) * (1 - ramp(np.abs(y - 5), 20, 45)) * (1 - ramp(z, 5, 35))
    thickness = thickness * (1 - np.float32(0.5) * thin)
    share = ramp(below - vault, -2, 4) * ramp(-z, -6, 4)
    thickness = thickness + share * (base * (1 + np.float32(0.15) * wobble) - thickness)
    scalp = np.float32(subject.scalp_mm) * (1 + np.float32(0.18) * wobble)
    scalp = scalp + np.float32(5) * thin + np.float32(4) * ramp(-z, 10, 50) * ramp(-y, 20, 70)
    head = vault - np.float32(subject.vault_mm) - scalp
    lower = z < 8
    head[lower] = np.minimum(head[lower], face_distance((x[lower], y[lower], z[lower])))
    return Skull(cavity, vault, head, np.maximum(thickness, 1.8).astype(np.float32), edge, -below)


def paint_skull(canvas: Array, skull: Skull, points: Points, texture: Array, fine: Array) -> None:
    """Scalp, muscle and bone of the vault and the base, onto `canvas` (float32, voxels, HU), in place.

    Args:
        canvas: the CT numbers so far.
        skull: from :func:`shape_skull`.
        points: template coordinates.
        texture: smooth noise for marbling.
        fine: fine noise for diploe and air cells.
    """
    x, y, z = points
    side = np.abs(x)
    width = skull.edge
    depth = -skull.head
    # Skin, then fat with septa, then muscle where there is some.
    canvas += inside(skull.head, width) * np.float32(hu.SKIN - hu.AIR)
    over = skull.vault - skull.thickness  # above the bone
    muscle = ramp(side, 40, 56) * (1 - ramp(np.abs(y - 2), 28, 46)) * (1 - ramp(z, 10, 42))
    low = np.maximum(ramp(-z, 16, 30), ramp(-z, 2, 22) * ramp(-y, 45, 75))
    galea = (over < 1.8) & (z > -25)
    fat = (depth > 1.6) & ~galea
    share = inside(np.float32(1.6) - depth, width * np.float32(0.7)) * fat
    planes = ramp(np.abs(texture), 0.08, 0.3)  # thin sheets of fat between the muscles
    meat = np.maximum(muscle * ramp(depth, 3.0, 4.5), low * planes * ramp(depth, 4, 6.5))
    canvas += share * (np.float32(hu.FAT) + meat * np.float32(hu.MUSCLE - hu.FAT) - canvas)
    # Bone.
    outer = skull.cavity - skull.thickness
    face_front = (z < skull_front(y)) & (skull.vault > -8)
    bone = inside(outer, width) - inside(skull.cavity, width)
    # The base ends at the rim of the foramen magnum; below it are the first vertebra and the neck.
    around = np.hypot(x, (y + 43) * np.float32(0.85))
    bone *= 1 - ramp(-z, 58, 62) * ramp(around, 17, 22)
    bone *= 1 - ramp(-z, 62, 65)
    bone[face_front & (skull.above_base < 0) & (skull.above_base < -skull.thickness)] = 0
    middle = np.abs(skull.cavity / skull.thickness - np.float32(0.5))
    spongy = (1 - ramp(middle, 0.12, 0.34)) * ramp(skull.thickness, 3.0, 5.0)
    value = np.float32(hu.CORTICAL_BONE) - spongy * np.float32(hu.CORTICAL_BONE - hu.DIPLOE) * (1 + 0.25 * fine)
    petrous = (skull.thickness > 9) & (z < -8) & (side > 9)
    value = np.where(petrous, np.float32(1000) + 320 * texture, value)
    canvas += bone * (value - canvas)


def skull_front(y: Array) -> Array:
    """Below this height, in front, the vault gives way to the face."""
    return np.asarray(np.where(y > 10, np.float32(-14), np.float32(-200)))
