"""The brain: folded cortex over white matter, deep nuclei, ventricles, cisterns, brainstem, cerebellum and its dura.

The folds are the zero level of a band-passed noise. It is read at the point of the brain's surface above each voxel, so
that every sulcus is a sheet that runs from the surface into the depth.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from molre_edge.synthetic import tissues as hu
from molre_edge.synthetic.fields import (
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
from molre_edge.synthetic.spaces import cistern_share, sylvian_distance, ventricle_distance
from molre_edge.synthetic.subject import Subject, stream

__all__ = ["Brain", "Folds", "draw_folds", "render_brain", "tentorium_height"]

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
    sylvian = sylvian_distance(brain.moved, subject.sulcus_mm, n)
    supra = np.minimum(np.minimum(fold, gap), sylvian) + closing * np.float32(0.5 * subject.sulcus_mm + 0.6)
    supra = np.where(brain.cerebellum > 0.5, np.float32(9), supra)
    brain.sulcus = np.minimum(brain.surface, supra)
    _render_matter(brain, subject)
    # Fluid.
    brain.ventricle = ventricle_distance(brain.moved, subject.ventricle, horns)
    brain.cistern = cistern_share(brain.moved, subject.cistern, edge, n)
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
