"""What is to be changed in a normal head, collected from the requested findings before anything is rendered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from molre_edge.synthetic.brain import Brain
from molre_edge.synthetic.fields import Array, Points, ramp
from molre_edge.synthetic.skull import Skull
from molre_edge.synthetic.subject import Subject

__all__ = ["LESIONS", "Collection", "Mass", "Plan", "Scene", "blob", "lesion", "mix", "site"]

Site = tuple[float, float, float]

_LOBES: dict[str, Site] = {
    "frontal": (31, 32, 22),
    "parietal": (34, -46, 36),
    "temporal": (46, -26, -10),
    "occipital": (26, -76, 14),
    "lentiform": (26, 0, 4),
    "thalamus": (13, -18, 8),
    "cerebellum": (22, -66, -34),
    "frontal pole": (24, 52, 2),
    "temporal pole": (38, 6, -26),
}


@dataclass(frozen=True)
class Mass:
    """Something that takes room within the brain: a ball at `centre` (template mm) as large as `radius_mm`."""

    centre: Site
    radius_mm: float


@dataclass(frozen=True)
class Collection:
    """Blood or fluid between skull and brain.

    Attributes:
        side: 1 for the patient's left, -1 for the right.
        thickness: mm at given points, from the points alone.
        push: share of its thickness by which the midline moves.
    """

    side: int
    thickness: Callable[[Points], Array]
    push: float


@dataclass(eq=False)
class Scene:
    """The whole head while it is painted: float32 (voxels,) each.

    Attributes:
        values: CT numbers, HU, changed in place.
        points: template coordinates.
        skull: signed distances.
        texture: smooth noise, about 12 mm.
        fine: fine noise, about 4 mm.
        edge: width of soft edges in plane, mm.
    """

    values: Array
    points: Points
    skull: Skull
    texture: Array
    fine: Array
    edge: float


@dataclass(eq=False)
class Plan:
    """The findings of one head, as changes to make at each stage.

    Attributes:
        subject: changed before anything is rendered.
        rng: for the lesions alone.
        side: the side of one-sided lesions, 1 for the patient's left.
        labels: findings that are shown, without their parents.
        masses: what pushes the brain outward from a centre.
        collections: what pushes it inward from the skull.
        closings: where sulci are pressed shut, 0 to 1, at given points.
        swell_scalp: where the scalp is thicker: centre (template mm), by how many mm, how wide in mm.
        swelling: 0 to 1, closes sulci everywhere.
        in_brain: painters of the brain, after its anatomy.
        in_head: painters of the whole head, after bone and brain.
        metal: places (template mm) and strength of streaks.
        fluid: shares of sinus and of mastoid air replaced by fluid.
        horns: factor on temporal horns and third ventricle.
    """

    subject: Subject
    rng: np.random.Generator
    side: int
    labels: set[str] = field(default_factory=set)
    masses: list[Mass] = field(default_factory=list)
    collections: list[Collection] = field(default_factory=list)
    closings: list[Callable[[Points], Array]] = field(default_factory=list)
    swell_scalp: list[tuple[Site, float, float]] = field(default_factory=list)
    swelling: float = 0.0
    in_brain: list[Callable[[Brain], None]] = field(default_factory=list)
    in_head: list[Callable[[Scene], None]] = field(default_factory=list)
    metal: list[tuple[Site, float]] = field(default_factory=list)
    fluid: list[float] = field(default_factory=lambda: [0.0, 0.0])
    horns: float = 1.0

    def shift(self, points: Points, depth: Array) -> Points:
        """How far the brain at each point was pushed, mm (x, y, z).

        A ball pushes tissue out so that its volume is kept (Mass); a collection pushes it sideways, less with distance.
        """
        total = [np.zeros_like(c) for c in points]
        for mass in self.masses:
            offset = [c - np.float32(m) for c, m in zip(points, mass.centre, strict=True)]
            radius = np.sqrt(offset[0] ** 2 + offset[1] ** 2 + offset[2] ** 2) + np.float32(1e-3)
            before = np.cbrt(np.maximum(radius**3 - np.float32(mass.radius_mm**3), 0))
            moved = (radius - before) * ramp(depth, 0, 12) / radius
            for axis in range(3):
                total[axis] += offset[axis] * moved
        for collection in self.collections:
            reach = np.clip(0.5 + 0.5 * collection.side * points[0] / 62, 0, 1)
            push = np.where(reach > 0.5, 1 - (1 - reach) * 2 * (1 - collection.push), reach * 2 * collection.push)
            # The whole slab of brain at this height moves, as far as the collection over it is thick.
            outside: Points = (np.full_like(points[0], collection.side * 60), points[1], points[2])
            total[0] -= np.float32(collection.side) * collection.thickness(outside) * push.astype(np.float32)
        return total[0], total[1], total[2]

    def closing(self, points: Points) -> Array:
        """By how much sulci are pressed shut at each point, 0 to 1."""
        total = np.full(points[0].shape, np.float32(self.swelling))
        for mass in self.masses:
            square = sum((c - np.float32(m)) ** 2 for c, m in zip(points, mass.centre, strict=True))
            total += np.exp(-square / np.float32(2 * (1.6 * mass.radius_mm) ** 2)) * np.float32(
                min(mass.radius_mm / 14, 1)
            )
        for collection in self.collections:
            total += np.clip(collection.thickness(points) / 9, 0, 1) * (points[0] * collection.side > 0)
        for close in self.closings:
            total = np.maximum(total, close(points))
        return np.asarray(np.minimum(total, 1), dtype=np.float32)

    def scalp(self, points: Points) -> Array | float:
        """By how many mm the scalp is thicker at each point."""
        total: Array | float = 0.0
        for centre, thick, wide in self.swell_scalp:
            square = sum((c - np.float32(m)) ** 2 for c, m in zip(points, centre, strict=True))
            total = total + np.float32(thick) * np.clip(1 - square / np.float32((1.25 * wide) ** 2), 0, 1)
        return total

    def consequences(self) -> set[str]:
        """Findings that follow from what pushes: measured on the midline and around the ventricles, beyond 5 mm."""
        y, z = (a.reshape(-1).astype(np.float32) for a in np.meshgrid(np.arange(-20, 31, 5), np.arange(4, 26, 4)))
        deep = np.full(y.shape, 60, np.float32)
        found: set[str] = set()
        middle = self.shift((np.zeros_like(y), y, z), deep)[0]
        if float(np.abs(middle).max()) > 5:
            found |= {"midline_shift", "mass_effect"}
        for x in (-14, 14):
            moved = self.shift((np.full_like(y, x), y, z), deep)
            if float(np.sqrt(sum(m * m for m in moved)).max()) > 5 and (self.masses or self.collections):
                found.add("mass_effect")
        return found


LESIONS: dict[str, Callable[[Plan], None]] = {}
"""What each finding does to a plan, by the finding's name."""


def lesion(name: str) -> Callable[[Callable[[Plan], None]], Callable[[Plan], None]]:
    """Register a function as the maker of a finding."""

    def register(make: Callable[[Plan], None]) -> Callable[[Plan], None]:
        LESIONS[name] = make
        return make

    return register


def site(plan: Plan, *names: str, jitter: float = 3.0) -> Site:
    """A place in one of the named lobes, on the plan's side, with some variation; template mm."""
    x, y, z = _LOBES[names[int(plan.rng.integers(len(names)))]]
    dx, dy, dz = plan.rng.uniform(-jitter, jitter, 3)
    return (plan.side * (x + float(dx)), y + float(dy), z + float(dz))


def blob(points: Points, centre: Site, radii: tuple[float, float, float], noise: Array, rough: float = 0.18) -> Array:
    """Approximate signed distance to an uneven ellipsoid, mm."""
    size = np.float32(min(radii))
    total = np.zeros_like(points[0])
    for c, m, r in zip(points, centre, radii, strict=True):
        total += ((c - np.float32(m)) * np.float32(1 / r)) ** 2
    uneven = np.float32(rough * min(float(size), 13.0)) * noise
    return np.asarray((np.sqrt(total) - 1) * size + uneven, dtype=np.float32)


def mix(values: Array, share: Array, target: float | Array) -> None:
    """Move `values` towards `target` by `share` (0 to 1), in place."""
    values += share * (np.asarray(target, dtype=np.float32) - values)
