"""Where the cerebrospinal fluid lies: ventricles, basal cisterns, the sylvian fissure. Template coordinates, mm."""

from __future__ import annotations

import numpy as np

from molre_edge.synthetic.fields import Array, Points, capsule, ellipsoid, inside, ramp

__all__ = ["cistern_share", "sylvian_distance", "ventricle_distance"]


def ventricle_distance(points: Points, factor: float, horns: float = 1.0) -> Array:
    """Signed distance to the ventricles, mm.

    Args:
        points: template coordinates without mass effect.
        factor: on the radii; 1 in middle age, 2 and more in hydrocephalus.
        horns: extra factor on the temporal horns and the third ventricle, which widen first under pressure.
    """
    x, y, z = points
    side = (np.abs(x), y, z)
    far = np.full(x.shape, 40, dtype=np.float32)
    near = (side[0] < 55) & (y > -95) & (y < 50) & (z > -50) & (z < 48)
    part: Points = (side[0][near], y[near], z[near])
    r = factor
    pieces = [
        capsule(part, (13.5, 30, -1), (6.5, 6, 8), 2.3 * r, 3.2 * r, (1.0, 1.0, 2.0)),  # frontal horn
        capsule(part, (12, 24, 10), (8.5, -2, 18), 3.2 * r, 3.6 * r, (1.15, 1.0, 1.15)),  # body
        capsule(part, (8.5, -2, 18), (17, -30, 19), 3.6 * r, 3.9 * r, (1.2, 1.0, 0.9)),
        capsule(part, (17, -30, 19), (25, -42, 8), 3.9 * r, 5.2 * r),  # atrium
        capsule(part, (25, -42, 8), (23, -70, 3), 4.6 * r, 1.2 * r, (0.8, 1.0, 1.3)),  # occipital horn
        capsule(part, (26, -42, 5), (33, -28, -9), 3.4 * r, 1.7 * r * horns),
        capsule(part, (33, -28, -9), (29, -8, -19), 1.6 * r * horns, 1.3 * r * horns),  # temporal horn
    ]
    lateral = pieces[0]
    for piece in pieces[1:]:
        mixed = np.clip(0.5 + (lateral - piece) / 6, 0, 1)  # smooth union over 3 mm
        lateral = np.asarray(lateral + (piece - lateral) * mixed - 3 * mixed * (1 - mixed), dtype=np.float32)
    lateral = np.maximum(lateral, 0.9 - part[0])  # septum
    caudate = ellipsoid(part, (14.5 + 2.5 * (r - 1), 15, 8), (5.2, 11, 9.5))
    lateral = np.maximum(lateral, -caudate)
    thalamus = ellipsoid(part, (12, -17, 7), (9, 14, 9.5))
    lateral = np.maximum(lateral, -thalamus)
    third = capsule(part, (0, 3, -2), (0, -20, 2), 1.5 * r * horns, 1.5 * r * horns, (1.0, 1.0, 5.5))
    third = np.maximum(third, ellipsoid(part, (0, -9, -1), (8, 15, 12)))
    fourth = np.maximum(
        ellipsoid(part, (0, -45, -31), (8.5 * r**0.5, 5.5 * r**0.5, 11)),
        -(part[1] + 49) - 0.0 + 0.25 * part[0] - 1.5,
    )
    aqueduct = capsule(part, (0, -27, -3), (0, -40, -22), 0.9)
    monro = capsule(part, (0, 2, 4), (6, 2, 10), 1.3 * r)
    result = np.minimum(np.minimum(lateral, third), np.minimum(fourth, np.minimum(aqueduct, monro)))
    far[near] = result
    return far


def cistern_share(moved: Points, factor: float, edge: float, texture: Array) -> Array:
    """Share of basal cistern.

    Args:
        moved: template coordinates without mass effect.
        factor: on the width.
        edge: width of soft edges, mm.
        texture: smooth noise, float32 (voxels,).
    """
    x, y, z = moved
    share = np.zeros_like(x)
    near = (np.abs(x) < 45) & (z < 14) & (y > -100) & (y < 28)
    side: Points = (np.abs(x[near]), y[near], z[near])
    f = factor
    midbrain = ellipsoid(side, (0, -21, -10), (17, 14.5, 13))
    notch = ellipsoid(side, (0, -9, -12), (5, 4.5, 10))  # interpeduncular fossa
    midbrain = np.maximum(midbrain, -notch)
    pons = ellipsoid(side, (0, -25, -29), (18.5, 13.5, 13.5))
    medulla = capsule(side, (0, -33, -44), (0, -42, -80), 9.0, 7.0)
    stem = np.minimum(midbrain, np.minimum(pons, medulla))
    wave = texture[near]
    rooms = [
        np.maximum(ellipsoid(side, (0, 2, -18), (13.5 * f, 13.5 * f, 9)), -(stem - 1.0)),  # suprasellar
        capsule(side, (10, 5, -17), (34, 10, -13), 2.6 * f, 2.2 * f, (1.0, 1.0, 1.3)),  # to the sylvian fissure
        np.maximum(
            np.abs(midbrain - 0.9 * f) - 0.7 * f * (1 + 0.9 * wave), np.maximum(-side[2] - 19, side[2] + 4)
        ),  # ambient
        capsule(side, (0, -40, 3), (9, -37, -3), 3.4 * f, 2.0 * f, (1.0, 1.0, 1.5)),  # quadrigeminal
        np.maximum(np.abs(pons - 1.7 * f) - 1.7 * f, side[1] + 22),  # prepontine
        capsule(side, (17, -36, -31), (30, -45, -33), 2.6 * f, 1.6 * f),  # cerebellopontine angle
        np.maximum(np.abs(medulla - 1.8 * f) - 1.8 * f, side[2] + 40),
        ellipsoid(side, (0, -72, -60), (15 * f, 15 * f, 9 * f)),  # cisterna magna
        capsule(side, (0, -48, 7), (0, -62, 5), 2.2 * f, 1.2),  # superior cerebellar
    ]
    best = rooms[0]
    for room in rooms[1:]:
        best = np.minimum(best, room)
    solid = inside(stem, edge)
    share[near] = inside(best, edge * 1.3) * (1 - solid)
    return share


def sylvian_distance(points: Points, width: float, noise: Array) -> Array:
    """Signed distance to the sylvian fissure and the fluid over the insula."""
    x, y, z = points
    side = np.abs(x)
    far = np.full(x.shape, 30, dtype=np.float32)
    near = (side > 27) & (y > -52) & (y < 30) & (z > -24) & (z < 32)
    ax, py, pz, n = side[near], y[near], z[near], noise[near]
    level = np.float32(-3.5) - np.float32(0.42) * py + 1.6 * n
    narrow = 0.5 + 0.5 * ramp(py, -45, 10)
    gap = np.abs(pz - level) * np.float32(0.9) - np.float32(0.5 * width + 0.1) * narrow * (1 + 0.5 * n)
    gap = np.maximum(gap, np.maximum(37 - ax, np.abs(py + 12) - 34))
    ball = ellipsoid((ax, py, pz), (17, 1, 3), (23.5, 25, 21))
    insula = np.abs(ball - 0.8 - 0.6 * n) - np.float32(0.42 * width) * (1 + 0.9 * n)
    insula = np.maximum(insula, np.maximum(31 - ax, np.abs(py - 0) - 23))
    far[near] = np.minimum(gap, insula)
    return far
