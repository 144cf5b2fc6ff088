"""The brain: folded cortex over white matter, deep nuclei, ventricles, cisterns, brainstem, cerebellum and its dura.

The folds are the zero level of a band-passed noise. It is read at the point of the brain's surface above each voxel, so
that every sulcus is a sheet that runs from the surface into the depth.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from molre_edge.scans.synthetic import tissues as hu
from molre_edge.scans.synthetic.fields import (
    Array,
    Mask,
    Points,
    capsule,
    ellipsoid,
    inside,
    lattice_noise,
    ramp,
    sample_grid,
    sheet,
)
from molre_edge.scans.synthetic.subject import Subject, stream

__all__ = ["Brain", "Folds", "draw_folds", "render_brain", "tentorium_height", "ventricle_distance"]

_FOLD_STEP = 2.0
_FOLD_ORIGIN = (-84.0, -120.0, -72.0)
_FOLD_SIZE = (85, 105, 83)
_CENTRE = (0.0, -18.0, 2.0)


@dataclass(frozen=True, eq=False)
class Folds:
    """Sulci of one brain on a 2 mm grid (x, y, z): millimetres from the nearest sulcus, and how deep sulci go."""

    distance: Array
    depth: Array


@dataclass(eq=False)
class Brain:
    """What is known of every voxel within the skull, float32 (voxels,) unless said otherwise.

    Attributes:
        points: template coordinates, before any shift of the brain.
        moved: where the tissue at each voxel would lie without mass effect, template coordinates.
        depth: millimetres below the inner table.
        surface: millimetres below the surface of the brain; negative in the fluid over it.
        sulcus: millimetres to the nearest sulcal or outer surface of the brain; negative in fluid.
        ventricle: signed distance to the ventricles, mm.
        cistern: share of basal cistern, 0 to 1.
        cerebellum: share of the room below the tentorium, 0 to 1.
        grey: share of grey matter.
        fluid: share of cerebrospinal fluid.
        edge: width of soft edges, mm.
        texture: smooth noise, about 12 mm.
        fine: fine noise, about 4 mm.
        values: CT numbers, HU.
    """

    points: Points
    moved: Points
    depth: Array
    edge: float
    texture: Array
    fine: Array
    surface: Array = field(default_factory=lambda: np.empty(0, np.float32))
    sulcus: Array = field(default_factory=lambda: np.empty(0, np.float32))
    ventricle: Array = field(default_factory=lambda: np.empty(0, np.float32))
    cistern: Array = field(default_factory=lambda: np.empty(0, np.float32))
    cerebellum: Array = field(default_factory=lambda: np.empty(0, np.float32))
    grey: Array = field(default_factory=lambda: np.empty(0, np.float32))
    fluid: Array = field(default_factory=lambda: np.empty(0, np.float32))
    values: Array = field(default_factory=lambda: np.empty(0, np.float32))


def draw_folds(seed: int) -> Folds:
    """The sulci of a seed."""
    axes = tuple(o + _FOLD_STEP * np.arange(n) for o, n in zip(_FOLD_ORIGIN, _FOLD_SIZE, strict=True))
    rng = stream(seed, "folds")
    noise = lattice_noise(rng, 10.5, (axes[0], axes[1], axes[2]), band=True)
    slopes = np.gradient(noise, _FOLD_STEP)
    steep = np.sqrt(slopes[0] ** 2 + slopes[1] ** 2 + slopes[2] ** 2)
    distance = np.clip(np.abs(noise) / (steep + 0.25 * steep.mean()), 0, 9).astype(np.float32)
    depth = 17 + 5 * lattice_noise(rng, 26.0, (axes[0], axes[1], axes[2]))
    return Folds(distance, np.clip(depth, 6, 25).astype(np.float32))


def tentorium_height(x: Array, y: Array) -> Array:
    """Height of the tentorium over (x, y)."""
    ridge = 6 - 0.0115 * x * x - np.float32(0.0075) * np.clip(-(y + 46), 0, None) ** 2
    return np.asarray(ridge - np.float32(0.004) * np.clip(y + 40, 0, None) ** 2, dtype=np.float32)


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


def _cistern_share(brain: Brain, factor: float) -> Array:
    """Share of basal cistern, from the moved coordinates."""
    x, y, z = brain.moved
    share = np.zeros_like(x)
    near = (np.abs(x) < 45) & (z < 14) & (y > -100) & (y < 28)
    side: Points = (np.abs(x[near]), y[near], z[near])
    edge = brain.edge
    f = factor
    midbrain = ellipsoid(side, (0, -21, -10), (17, 14.5, 13))
    notch = ellipsoid(side, (0, -9, -12), (5, 4.5, 10))  # interpeduncular fossa
    midbrain = np.maximum(midbrain, -notch)
    pons = ellipsoid(side, (0, -25, -29), (18.5, 13.5, 13.5))
    medulla = capsule(side, (0, -33, -44), (0, -42, -80), 9.0, 7.0)
    stem = np.minimum(midbrain, np.minimum(pons, medulla))
    wave = brain.texture[near]
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


def _sylvian(points: Points, width: float, noise: Array) -> Array:
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


def render_brain(
    brain: Brain, subject: Subject, folds: Folds, collection: Array, closing: Array, horns: float = 1.0
) -> None:
    """Fill in `brain` from its coordinates.

    Args:
        brain: with points, moved, depth, edge and noise; the rest is written here.
        subject: whose brain it is.
        folds: from :func:`draw_folds`.
        collection: mm of blood or fluid between the inner table and the brain, float32 (voxels,).
        closing: how much sulci are pressed shut, 0 to 1, float32 (voxels,).
        horns: factor on temporal horns and third ventricle.
    """
    x, y, z = brain.moved
    edge = brain.edge
    n = brain.texture
    rim = np.float32(subject.rim_mm) * (1 + np.float32(0.35) * n)
    over_base = ramp(-z, 8, 30)
    rim = rim * (1 - np.float32(0.45) * over_base)
    rim = rim * (1 - np.float32(0.85) * closing)
    brain.surface = np.asarray(brain.depth - collection - rim, dtype=np.float32)
    # Below or above the tentorium.
    px, py, pz = brain.points
    roof = tentorium_height(px, py)
    tent = (pz - roof) / np.sqrt(1 + (np.float32(0.023) * px) ** 2 + 0.3)
    behind = ramp(-(py + np.float32(0.50) * np.abs(px)), 12, 22)
    brain.cerebellum = inside(tent, edge) * behind
    # Midline.
    midline = np.abs(x - np.float32(0.5) * n)
    callosum = ((y + 8) / np.float32(41)) ** 2 + ((z - 1) / np.float32(27)) ** 2
    open_midline = ((callosum > 1) & (z > -14) & (tent > 0) & ((y > 6) | (z > 4))) | ((y > 28) & (z > -24))
    gap = midline - np.float32(0.45 * subject.sulcus_mm + 0.35)
    gap = np.where(open_midline, gap, np.float32(9))
    # Sulci: read the folds at the surface above.
    dx, dy, dz = (c - np.float32(m) for c, m in zip((x, y, z), _CENTRE, strict=True))
    radius = np.sqrt(dx * dx + dy * dy + dz * dz) + np.float32(1)
    up = 1 + np.clip(brain.surface, 0, 30) / radius
    at: Points = (dx * up + np.float32(_CENTRE[0]), dy * up + np.float32(_CENTRE[1]), dz * up + np.float32(_CENTRE[2]))
    away = sample_grid(folds.distance, at, _FOLD_ORIGIN, _FOLD_STEP) * np.sqrt(1 / up)
    reach = sample_grid(folds.depth, at, _FOLD_ORIGIN, _FOLD_STEP)
    past = np.clip(brain.surface - reach, 0, None)
    shallow = np.clip(1.15 - brain.surface / 24, 0.3, 1)
    fold = np.sqrt(away * away + past * past) - np.float32(0.5 * subject.sulcus_mm) * shallow
    fold = np.minimum(fold, _medial_folds(brain, folds, gap, open_midline, subject.sulcus_mm))
    fold = np.where(brain.cerebellum > 0.5, np.float32(9), fold)
    sylvian = _sylvian(brain.moved, subject.sulcus_mm, n)
    supra = np.minimum(np.minimum(fold, gap), sylvian) + closing * np.float32(0.5 * subject.sulcus_mm + 0.6)
    supra = np.where(brain.cerebellum > 0.5, np.float32(9), supra)
    brain.sulcus = np.minimum(brain.surface, supra)
    _render_matter(brain, subject)
    # Fluid.
    brain.ventricle = ventricle_distance(brain.moved, subject.ventricle, horns)
    brain.cistern = _cistern_share(brain, subject.cistern)
    fluid = np.maximum(inside(brain.sulcus, edge * 0.9), inside(brain.ventricle + np.float32(0.4) * brain.fine, edge))
    brain.fluid = np.maximum(fluid, brain.cistern)
    brain.values += brain.fluid * (np.float32(hu.CSF) - brain.values)
    _render_dura(brain, tent, behind)
    _render_calcium(brain, subject)


def _medial_folds(brain: Brain, folds: Folds, gap: Array, open_midline: Mask, width: float) -> Array:
    """Signed distance to the sulci of the hemispheres' inner faces, which run straight away from the midline."""
    x, y, z = brain.moved
    result = np.full(x.shape, np.float32(9))
    near = np.flatnonzero((gap > 0) & (gap < 15) & open_midline & (np.abs(x) < 20))
    # The folds of another place of the same grid, on each side its own.
    inward, wave = gap[near], brain.texture[near]
    place = np.float32(66) - inward
    at: Points = (
        np.where(x[near] > 0, place, -place),
        y[near] + np.float32(0.6) * inward + 2 * wave,
        z[near] + np.float32(0.4) * inward + 2 * wave,
    )
    away = sample_grid(folds.distance, at, _FOLD_ORIGIN, _FOLD_STEP)
    reach = np.clip(sample_grid(folds.depth, at, _FOLD_ORIGIN, _FOLD_STEP) * np.float32(1.1) - 11, 0, 14)
    past = np.clip(inward - reach, 0, None)
    result[near] = np.sqrt(away * away + past * past) - np.float32(0.3 * width) * (1 - inward / 18)
    return result


def _render_matter(brain: Brain, subject: Subject) -> None:
    """Grey and white matter, nuclei, brainstem and cerebellum."""
    x, y, z = brain.moved
    side: Points = (np.abs(x), y, z)
    edge = brain.edge
    ribbon = 1 - ramp(brain.sulcus, 2.6, 4.2)
    deep = np.zeros_like(x)
    near = (side[0] < 40) & (y > -50) & (y < 32) & (z > -16) & (z < 34)
    part: Points = (side[0][near], y[near], z[near])
    soft = 1.6 * edge
    caudate = inside(ellipsoid(part, (12.5, 14, 7), (5.5, 9.5, 9)), soft)
    tail = inside(capsule(part, (13, 6, 16), (20, -26, 20), 3.0, 1.6), soft)
    lentiform = ellipsoid((part[0] + 0.22 * (part[1] - 2), part[1], part[2]), (24.5, 1, 2), (7.5, 17, 10.5))
    thalamus = inside(ellipsoid((part[0] + 0.25 * (part[1] + 18), *part[1:]), (10.5, -18, 7), (8.5, 14, 9)), soft)
    insula = ellipsoid(part, (17, 1, 3), (23.5, 25, 21))
    cortex = inside(np.abs(insula + 2.0) - 1.6, soft) * ramp(part[0], 28, 33)
    deep[near] = np.maximum.reduce([caudate, tail, inside(lentiform, soft), thalamus * np.float32(0.85), cortex])
    grey = np.maximum(ribbon, deep)
    # Brainstem and cerebellum: little contrast, with fine leaves.
    below = brain.cerebellum
    arbor = ramp(brain.surface + 2.2 * brain.texture, 9, 17) * 0.65
    leaves = np.float32(0.5) + np.float32(0.25) * brain.fine
    stem = inside(ellipsoid(side, (0, -26, -28), (17, 14, 22)), 4.0)
    cerebellar = np.clip(1 - arbor + 0.5 * leaves - 0.25, -0.1, 1.1)
    grey = grey + below * (cerebellar - grey)
    grey = grey + stem * (np.float32(0.4) - grey)
    brain.grey = grey.astype(np.float32)
    white = np.float32(hu.WHITE_MATTER + subject.white_offset_hu)
    step = np.float32(hu.GREY_MATTER - hu.WHITE_MATTER - subject.white_offset_hu) * np.float32(subject.contrast)
    if subject.contrast < 1:
        white = white + np.float32(0.35 * (1 - subject.contrast)) * step
    brain.values = np.asarray(white + grey * step + np.float32(0.5) * brain.texture, dtype=np.float32)


def _render_dura(brain: Brain, tent: Array, behind: Array) -> None:
    """Falx, tentorium and venous sinuses."""
    x, y, z = brain.points
    edge = brain.edge
    values = brain.values
    bent = x + np.float32(0.25) * brain.texture
    below = np.where(y > -45, ((y + 8) / np.float32(52)) ** 2 + ((z - 2) / np.float32(33)) ** 2 - 1, tent)
    share = sheet(bent, 0.7, edge) * ((below > 0) & (z > -8) & (tent > -1)) * np.float32(0.9)
    values += share * (np.float32(hu.DURA) - values)
    roof = sheet(tent, 0.5, 2 * edge) * behind
    values += roof * (np.float32(hu.DURA) - values)
    # Superior sagittal, straight, transverse sinus, torcula.
    wall = -brain.depth
    sagittal = np.maximum(np.abs(x) + 0.6 * np.abs(wall + 2.5) - 4.2, -z + np.where(y < -60, -16, 10))
    sagittal = np.where((wall > -7), sagittal, 9).astype(np.float32)
    side: Points = (np.abs(x), y, z)
    straight = capsule(side, (0, -52, 5), (0, -94, -12), 1.7)
    groove = np.maximum(np.abs(tent + 1) - 3.4, np.maximum(-wall - 7, y + 42))
    vessels = np.minimum(np.minimum(sagittal, straight), groove.astype(np.float32))
    values += inside(vessels, edge) * (np.float32(hu.VENOUS_BLOOD) - values)
    # Arteries at the base: basilar tip, carotid ends, middle cerebral arteries.
    moved: Points = (np.abs(brain.moved[0]), brain.moved[1], brain.moved[2])
    near = (moved[0] < 32) & (moved[2] < -6) & (moved[1] > -30) & (moved[1] < 20)
    part: Points = (moved[0][near], moved[1][near], moved[2][near])
    arteries = np.minimum(capsule(part, (0, -10, -14), (0, -12, -36), 1.6), capsule(part, (9, 4, -24), (10, 3, -17), 2))
    arteries = np.minimum(arteries, capsule(part, (10, 3, -17), (28, 6, -15), 1.3))
    local = values[near]
    local += inside(arteries, edge) * (np.float32(hu.FLOWING_BLOOD) - local)
    values[near] = local


def _render_calcium(brain: Brain, subject: Subject) -> None:
    """Calcified pineal gland and choroid plexus, normal in adults."""
    x, y, z = brain.moved
    side: Points = (np.abs(x), y, z)
    plexus = capsule(side, (21, -36, 15), (26, -44, 6), 1.8, 2.4)
    soft = inside(plexus, 2 * brain.edge)
    brain.values += soft * (np.float32(42) - brain.values)
    if subject.calcified:
        speckle = np.clip(0.6 + 0.5 * brain.fine, 0, 1)
        calcium = inside(capsule(side, (25, -43, 8), (26, -45, 6), 2.0), brain.edge) * speckle
        pineal = inside(ellipsoid(side, (0, -29, 3), (3.0, 3.4, 3.0)), brain.edge)
        brain.values += np.maximum(calcium, pineal) * (np.float32(hu.CALCIUM) - brain.values)
