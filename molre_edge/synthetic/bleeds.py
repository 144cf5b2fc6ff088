"""Haemorrhages."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from molre_edge.synthetic import tissues as hu
from molre_edge.synthetic.brain import Brain
from molre_edge.synthetic.fields import Array, Points, inside, ramp
from molre_edge.synthetic.plan import Collection, Mass, Plan, Site, blob, lesion, mix, site

__all__ = ["crescent", "haematoma", "lens"]


def haematoma(plan: Plan, centre: Site, radius: float, value: float = hu.CLOTTED_BLOOD, oedema: float = 5.0) -> None:
    """Add a clot with a rim of oedema that pushes the brain away."""
    squash = plan.rng.uniform(0.8, 1.2, 3)
    radii = (radius * float(squash[0]), radius * float(squash[1]), radius * float(squash[2]))
    plan.masses.append(Mass(centre, 0.92 * radius))

    def paint(brain: Brain) -> None:
        distance = blob(brain.points, centre, radii, brain.texture + 0.3 * brain.fine)
        rim = inside(distance - np.float32(oedema) * (1 + np.float32(0.4) * brain.texture), 3.0)
        tissue = rim * (1 - brain.fluid) * ramp(brain.surface, 0, 3)
        mix(brain.values, tissue * np.float32(0.8), hu.OEDEMA)
        within = inside(distance, 1.4 * brain.edge) * ramp(brain.depth, 0.5, 2)
        mix(brain.values, within, np.float32(value) + 3 * brain.texture)

    plan.in_brain.append(paint)


def crescent(side: int, thickness: float, middle: tuple[float, float], reach: tuple[float, float]) -> Collection:
    """A subdural collection: follows the convexity, thins out slowly, does not cross the midline.

    Args:
        side: 1 for the patient's left.
        thickness: greatest, mm.
        middle: where it is thickest (y, z), template mm.
        reach: its standard deviations along y and z, mm.
    """

    def measure(points: Points) -> Array:
        x, y, z = points
        profile = np.exp(-(((y - np.float32(middle[0])) / np.float32(reach[0])) ** 2) / 2)
        profile = profile * np.exp(-(((z - np.float32(middle[1])) / np.float32(reach[1])) ** 2) / 2)
        return np.asarray(thickness * profile * ramp(x * side, 1, 14), dtype=np.float32)

    return Collection(side, measure, 0.55)


def lens(side: int, thickness: float, centre: Site, radius: float) -> Collection:
    """An epidural collection: biconvex, with an abrupt end."""

    def measure(points: Points) -> Array:
        square = sum((c - np.float32(m)) ** 2 for c, m in zip(points, centre, strict=True))
        return np.asarray(thickness * np.clip(1 - square / np.float32(radius**2), 0, 1) ** 0.8, dtype=np.float32)

    return Collection(side, measure, 0.35)


def fill(plan: Plan, collection: Collection, value: Callable[[Brain], Array | float]) -> None:
    """Add a collection and paint it between skull and brain."""
    plan.collections.append(collection)

    def paint(brain: Brain) -> None:
        thick = collection.thickness(brain.points)
        share = inside(brain.depth - thick, brain.edge) * ramp(thick, 0.4, 1.2) * ramp(brain.depth, -0.5, 0.5)
        share = share * (brain.cerebellum < 0.5)
        mix(brain.values, share.astype(np.float32), value(brain))

    plan.in_brain.append(paint)


def _clotted(brain: Brain) -> Array:
    return np.asarray(hu.CLOTTED_BLOOD - 2 + 3 * brain.texture)


@lesion("intracranial_hemorrhage_any")
@lesion("intraparenchymal_hemorrhage")
def _intraparenchymal(plan: Plan) -> None:
    plan.labels.add("intraparenchymal_hemorrhage")
    centre = site(plan, "lentiform", "lentiform", "thalamus", "frontal", "parietal", "temporal")
    haematoma(plan, centre, float(plan.rng.uniform(11, 24)))


@lesion("subdural_hemorrhage")
@lesion("acute_subdural_hematoma")
def _acute_subdural(plan: Plan) -> None:
    plan.labels.add("acute_subdural_hematoma")
    thickness = float(plan.rng.uniform(6, 15))
    middle = (float(plan.rng.uniform(-35, 20)), float(plan.rng.uniform(15, 35)))
    fill(plan, crescent(plan.side, thickness, middle, (42, 30)), _clotted)


@lesion("subacute_chronic_subdural_hematoma")
def _chronic_subdural(plan: Plan) -> None:
    plan.labels.add("subacute_chronic_subdural_hematoma")
    thickness = float(plan.rng.uniform(9, 20))
    value = float(plan.rng.uniform(-5, 12)) + hu.CHRONIC_BLOOD

    def settled(brain: Brain) -> Array:
        # Cells sink to the back of a lying patient.
        return np.asarray(value + 7 * ramp(-brain.points[1], 20, 70) + 2 * brain.texture)

    fill(plan, crescent(plan.side, thickness, (float(plan.rng.uniform(-15, 15)), 30), (45, 32)), settled)


@lesion("epidural_hemorrhage")
def _epidural(plan: Plan) -> None:
    plan.labels.add("epidural_hemorrhage")
    centre = (plan.side * 60.0, float(plan.rng.uniform(-45, 25)), float(plan.rng.uniform(-2, 30)))
    fill(plan, lens(plan.side, float(plan.rng.uniform(10, 24)), centre, float(plan.rng.uniform(32, 44))), _clotted)


@lesion("intraventricular_hemorrhage")
def _intraventricular(plan: Plan) -> None:
    plan.labels.add("intraventricular_hemorrhage")
    level = float(plan.rng.uniform(-36, -16))
    cast = bool(plan.rng.random() < 0.4)
    plan.subject.ventricle *= 1.15

    def paint(brain: Brain) -> None:
        y = brain.points[1]
        sunk = 1 - ramp(y + 0.8 * brain.texture, level - 2, level + 2)  # blood settles in the occipital horns
        if cast:
            sunk = np.maximum(sunk, (brain.points[0] * plan.side > 1) * ramp(brain.texture, -0.6, 0.4))
        share = inside(brain.ventricle, brain.edge) * sunk
        mix(brain.values, share.astype(np.float32), hu.CLOTTED_BLOOD - 3)

    plan.in_brain.append(paint)


@lesion("subarachnoid_hemorrhage")
@lesion("aneurysmal_subarachnoid_hemorrhage")
def _aneurysmal(plan: Plan) -> None:
    plan.labels.add("aneurysmal_subarachnoid_hemorrhage")
    strength = float(plan.rng.uniform(0.85, 1.0))
    plan.subject.cistern *= 1.15
    plan.subject.sulcus_mm = max(plan.subject.sulcus_mm, 1.8)

    def paint(brain: Brain) -> None:
        x, y, z = brain.moved
        reach = 1 - ramp(np.sqrt(x * x + (y - 2) ** 2 + (1.3 * (z + 14)) ** 2), 42, 74)
        share = np.maximum(brain.cistern, brain.fluid * reach) * inside(-brain.ventricle, brain.edge)
        share = share * (1 - ramp(-z, 38, 52)) * np.float32(strength)
        mix(brain.values, np.minimum(1.35 * share, 1).astype(np.float32), hu.CLOTTED_BLOOD - 5 + 3 * brain.fine)

    plan.in_brain.append(paint)


@lesion("traumatic_subarachnoid_hemorrhage")
def _traumatic(plan: Plan) -> None:
    plan.labels.add("traumatic_subarachnoid_hemorrhage")
    centre = (plan.side * 48.0, float(plan.rng.uniform(-50, 30)), float(plan.rng.uniform(5, 50)))
    plan.subject.sulcus_mm = max(plan.subject.sulcus_mm, 1.6)

    def paint(brain: Brain) -> None:
        near = 1 - ramp(blob(brain.points, centre, (34, 34, 34), brain.texture), -8, 2)
        share = brain.fluid * near * ramp(brain.depth, 0.5, 2) * inside(-brain.ventricle, brain.edge)
        mix(brain.values, share.astype(np.float32), hu.CLOTTED_BLOOD - 6)

    plan.in_brain.append(paint)


@lesion("hemorrhagic_contusion")
def _contusion(plan: Plan) -> None:
    plan.labels.add("hemorrhagic_contusion")
    centre = site(plan, "frontal pole", "temporal pole")
    size = float(plan.rng.uniform(11, 18))

    def paint(brain: Brain) -> None:
        distance = blob(brain.points, centre, (size, 1.2 * size, size), brain.texture)
        bruised = inside(distance - 4, 6.0) * (1 - brain.fluid) * ramp(brain.depth, 0, 2)
        mix(brain.values, bruised * np.float32(0.75), hu.CONTUSED_BRAIN)
        spots = ramp(0.6 * brain.texture + 0.9 * brain.fine, -0.1, 0.5) * inside(distance, 4.0)
        mix(brain.values, spots * ramp(brain.depth, 0.5, 2), hu.CLOTTED_BLOOD - 2)

    plan.in_brain.append(paint)
    plan.masses.append(Mass(centre, 0.55 * size))


@lesion("chronic_hemorrhage")
def _chronic_haemorrhage(plan: Plan) -> None:
    plan.labels.add("chronic_hemorrhage")
    centre = site(plan, "lentiform", "frontal", "parietal")
    size = float(plan.rng.uniform(6, 10))

    def paint(brain: Brain) -> None:
        slit = blob(brain.points, centre, (0.6 * size, 1.8 * size, 1.2 * size), brain.texture, 0.12)
        mix(brain.values, inside(slit, 1.5 * brain.edge) * ramp(brain.depth, 1, 3), hu.SCAR + 4)

    plan.in_brain.append(paint)
