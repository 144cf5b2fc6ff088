"""One synthetic head CT from a seed: anatomy in millimetres, lesions on request, then the scanner."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from molre_edge.errors import ConfigError
from molre_edge.scans.scan_records import HeadVolume
from molre_edge.specs import HU_MAX, HU_MIN
from molre_edge.synthetic import tissues as hu
from molre_edge.synthetic.brain import Brain, Folds, draw_folds, render_brain
from molre_edge.synthetic.catalogue import check_names, with_parents
from molre_edge.synthetic.face import paint_face
from molre_edge.synthetic.fields import Array, Ints, Points, lattice_noise
from molre_edge.synthetic.plan import LESIONS, Plan, Scene
from molre_edge.synthetic.scanner import add_head_rest, add_metal_streaks, add_noise, add_streaks, blur_slices
from molre_edge.synthetic.skull import paint_skull, shape_skull
from molre_edge.synthetic.subject import Subject, draw_subject, stream

__all__ = ["SyntheticHead", "make_head"]

_THIN_SLICE_MM = 2.5
_SLAB_VOXELS = 1 << 16  # painted at a time: arrays of these stay in the processor's cache, which makes it twice as fast


@dataclass(frozen=True, eq=False)
class SyntheticHead:
    """A synthetic head CT.

    Attributes:
        hu: float32 (slices, rows, cols), whole Hounsfield units; slices from inferior to superior, rows from anterior
            to posterior, columns from the patient's right to left.
        spacing_mm: distance of slices, rows and columns.
        labels: the findings that are present, with their parents and consequences.
        seed: what it was made from.
    """

    hu: Array
    spacing_mm: tuple[float, float, float]
    labels: frozenset[str]
    seed: int

    def as_volume(self) -> HeadVolume:
        """The head as if it had been read from files, for :func:`molre_edge.scans.to_grid`."""
        between, down, across = self.spacing_mm
        positions = np.arange(len(self.hu), dtype=np.float64) * between
        hu = np.asarray(self.hu, dtype=np.float32)
        return HeadVolume(hu, positions, np.full(len(hu), between), (down, across), (), {})


def make_head(
    seed: int,
    findings: Iterable[str] = (),
    *,
    shape: tuple[int, int, int] = (32, 256, 256),
    spacing_mm: tuple[float, float, float] | None = None,
) -> SyntheticHead:
    """Make a synthetic head CT without contrast medium, from the skull base to the vertex.

    Everything is described in millimetres, so any shape and spacing shows the same head, apart from the noise. The same
    arguments give the same volume. A lesion has random numbers of its own: the head around it is that of the seed.

    Args:
        seed: chooses person, pose, scanner and the exact form of the findings; 0 or more.
        findings: names from :data:`SUPPORTED_FINDINGS`.
        shape: (slices, rows, cols); (16, 128, 128) is good for training and takes about a quarter of a second.
        spacing_mm: distance of slices, rows and columns; by default what makes `shape` cover 160 mm along the body and
            230.4 mm in plane: (5.0, 0.9, 0.9) for the default shape. The top of the head is always in the volume;
            a volume of less height ends higher.

    Returns:
        The head and its labels: the findings, their parents and their consequences, such as a shift of the midline.

    Raises:
        ConfigError: a finding is not supported, or shape, spacing or seed are out of range.
    """
    names = check_names(findings)
    _check(seed, shape, spacing_mm)
    slices, rows, cols = shape
    spacing = spacing_mm or (160.0 / slices, 230.4 / rows, 230.4 / cols)
    plan = make_plan(seed, names)
    grid = _place(plan.subject, shape, spacing)
    # A thick slice is the mean of two thinner ones: oblique surfaces blur as they do in a scanner.
    layers = 2 if spacing[0] > _THIN_SLICE_MM else 1
    volume = np.full((slices * layers, rows, cols), hu.AIR, dtype=np.float32)
    _render(volume, grid.finer(layers), plan, seed)
    if layers > 1:
        volume = volume.reshape(slices, layers, rows, cols).mean(axis=1, dtype=np.float32)
    subject = plan.subject
    noise = stream(seed, "noise")
    volume = blur_slices(volume, min(subject.slice_blur * 5.0 / spacing[0], 0.2))
    add_streaks(volume, subject.noise_hu, noise)
    add_head_rest(volume, grid.x, grid.y, grid.back_mm)
    for place, strength in plan.metal:
        add_metal_streaks(volume, stream(seed, "metal"), grid.locate(place), (grid.y, grid.x), strength)
    add_noise(volume, noise, subject.noise_hu, spacing[1])
    np.rint(volume, out=volume)
    np.clip(volume, HU_MIN, HU_MAX, out=volume)
    return SyntheticHead(volume, spacing, with_parents(plan.labels | plan.consequences()), seed)


def _check(seed: int, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float] | None) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ConfigError(f"seed: expected a whole number of at least 0, got {seed!r}")
    if len(shape) != 3 or not all(1 <= n <= 1024 for n in shape):
        raise ConfigError(f"shape: expected three whole numbers (slices, rows, cols) from 1 to 1024, got {shape!r}")
    if spacing_mm is not None and (len(spacing_mm) != 3 or not all(0.2 <= s <= 40 for s in spacing_mm)):
        raise ConfigError(f"spacing_mm: expected three numbers (slice, row, col) from 0.2 to 40 mm, got {spacing_mm!r}")


def make_plan(seed: int, names: tuple[str, ...]) -> Plan:
    """The person of a seed with the named findings, before anything is rendered."""
    rng = stream(seed, "lesions")
    plan = Plan(draw_subject(seed), rng, side=1 if rng.random() < 0.5 else -1)
    for name in names:
        plan.rng = stream(seed, name)
        LESIONS[name](plan)
    return plan


@dataclass(frozen=True, eq=False)
class _Grid:
    """Where the voxels lie: scanner millimetres (x to the left, y to the back, z to the top), and the head in them."""

    x: Array
    y: Array
    z: Array
    spacing: tuple[float, float, float]
    centre: tuple[float, float]
    back_mm: float
    subject: Subject

    def finer(self, layers: int) -> _Grid:
        """The same with each slice cut into thinner ones."""
        step = self.spacing[0] / layers
        offsets = (np.arange(layers, dtype=np.float32) - np.float32((layers - 1) / 2)) * np.float32(step)
        z = (self.z[:, None] + offsets[None, :]).reshape(-1)
        return replace(self, z=z, spacing=(step, *self.spacing[1:]))

    def locate(self, place: tuple[float, float, float]) -> tuple[int, float, float]:
        """Slice index, row and column position (mm) of a place in template coordinates."""
        scaled = np.array(place) * self.subject.scale
        x, front, z = self.subject.rotation.T @ scaled
        index = round((float(z) - float(self.z[0])) / self.spacing[0])
        return index, self.centre[1] - float(front), self.centre[0] + float(x)


def _place(subject: Subject, shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> _Grid:
    slices, rows, cols = shape
    x = ((np.arange(cols) - (cols - 1) / 2) * spacing[2]).astype(np.float32)
    y = ((np.arange(rows) - (rows - 1) / 2) * spacing[1]).astype(np.float32)
    top = 78 * subject.scale[2] + subject.vault_mm + subject.scalp_mm + 5
    z = (top - (slices - 1 - np.arange(slices)) * spacing[0]).astype(np.float32)
    centre = (subject.offset_mm[0], subject.offset_mm[1] - 12)
    back = centre[1] + 105 * subject.scale[1] + subject.vault_mm + subject.scalp_mm
    return _Grid(x, y, z, spacing, centre, back, subject)


def _render(volume: Array, grid: _Grid, plan: Plan, seed: int) -> None:
    """Paint the head into `volume` (float32, HU), in place."""
    subject = plan.subject
    across, front = grid.x - np.float32(grid.centre[0]), np.float32(grid.centre[1]) - grid.y
    axes = (grid.z.astype(np.float64), front.astype(np.float64), across.astype(np.float64))
    rng = stream(seed, "shape")
    warps = [lattice_noise(rng, 48.0, axes) for _ in range(3)]
    noise = [lattice_noise(rng, step_mm, axes) for step_mm in (32.0, 11.0, 4.0)]
    folds = draw_folds(seed)
    inside_field = ((across / 94) ** 2)[None, :] + (((front + 12) / 118) ** 2)[:, None] < 1
    columns = np.flatnonzero(inside_field)
    if not len(columns):
        return
    depth = max(1, _SLAB_VOXELS // len(columns))
    for low in range(0, len(volume), depth):
        slab = slice(low, low + depth)
        z = np.repeat(grid.z[slab], len(columns))
        count = len(grid.z[slab])
        scanner = (np.tile(across[columns % len(across)], count), np.tile(front[columns // len(across)], count), z)
        index = (np.arange(count)[:, None] * inside_field.size + columns[None, :]).reshape(-1)
        taken = [field[slab].reshape(-1)[index] for field in (*warps, *noise)]
        points = []
        turn = subject.rotation.astype(np.float32) / np.asarray(subject.scale, np.float32)[:, None]
        for warp, row in zip(taken[:3], turn, strict=True):
            warp *= np.float32(1.5)
            for component, axis in zip(row, scanner, strict=True):
                warp += component * axis
            points.append(warp)
        _render_slab(
            volume[slab], index, (points[0], points[1], points[2]), (taken[3], taken[4], taken[5]), grid, plan, folds
        )


def _render_slab(
    volume: Array, index: Ints, points: Points, noise: tuple[Array, Array, Array], grid: _Grid, plan: Plan, folds: Folds
) -> None:
    """Paint some slices.

    Args:
        volume: the slices, float32 HU, changed in place.
        index: the voxels within reach of the head, into the flattened slices.
        points: their template coordinates, float32 (voxels,) each.
        noise: their wobble, texture and fine noise, float32 (voxels,) each.
        grid: of the whole volume.
        plan: of the head.
        folds: of its brain.
    """
    subject, (wobble, texture, fine) = plan.subject, noise
    pixel = max(grid.spacing[1] / subject.scale[1], grid.spacing[2] / subject.scale[0])
    thick = grid.spacing[0] / subject.scale[2]
    skull = shape_skull(points, subject, pixel, thick, wobble)
    skull.head -= plan.scalp(points)
    keep = np.flatnonzero(skull.head < np.float32(pixel + 0.6 * thick))
    skull = skull.take(keep)
    head: Points = (points[0][keep], points[1][keep], points[2][keep])
    scene = Scene(np.full(keep.shape, hu.AIR, np.float32), head, skull, texture[keep], fine[keep], 1.2 * pixel)
    paint_skull(scene.values, skull, head, scene.texture, scene.fine)
    low = np.flatnonzero(head[2] < 8)
    part: Points = (head[0][low], head[1][low], head[2][low])
    values = scene.values[low]
    fluid = (plan.fluid[0], plan.fluid[1])
    paint_face(values, part, skull.vault[low], scene.fine[low], scene.texture[low], pixel, fluid)
    scene.values[low] = values
    _render_brain(scene, plan, folds)
    for paint in plan.in_head:
        paint(scene)
    volume.reshape(-1)[index[keep]] = scene.values


def _render_brain(scene: Scene, plan: Plan, folds: Folds) -> None:
    skull = scene.skull
    within = np.flatnonzero(skull.cavity < 2.0 * skull.edge)
    points: Points = (scene.points[0][within], scene.points[1][within], scene.points[2][within])
    texture, depth = scene.texture[within], -skull.cavity[within]
    shift = plan.shift(points, depth)
    moved = [p - s + np.float32(sign * 0.8) * texture for p, s, sign in zip(points, shift, (1, -1, 1), strict=True)]
    brain = Brain(points, (moved[0], moved[1], moved[2]), depth, scene.edge, texture, scene.fine[within])
    collection = np.zeros_like(depth)
    for layer in plan.collections:
        collection = np.maximum(collection, layer.thickness(points))
    render_brain(brain, plan.subject, folds, collection, plan.closing(points), plan.horns)
    for paint in plan.in_brain:
        paint(brain)
    share = np.clip(0.5 + depth / skull.edge[within], 0, 1)
    under = scene.values[within]
    scene.values[within] = under + share * (brain.values - under)
