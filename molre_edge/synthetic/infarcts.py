"""Ischaemia and vessels."""

from __future__ import annotations

import numpy as np

from molre_edge.synthetic import tissues as hu
from molre_edge.synthetic.brain import Brain
from molre_edge.synthetic.fields import Array, Points, capsule, ellipsoid, inside, ramp
from molre_edge.synthetic.plan import Plan, blob, lesion, mix, site

__all__ = ["territory"]


def territory(points: Points, side: int, direction: tuple[float, float, float], opening: float, noise: Array) -> Array:
    """A wedge: 1 within a cone from the middle of the hemisphere to its surface, 0 outside.

    Args:
        points: template coordinates.
        side: 1 for the patient's left.
        direction: from the wedge's apex outward (x for the left side, y, z).
        opening: cosine of half the angle.
        noise: makes the border uneven.
    """
    apex = (side * 14.0, -12.0, 10.0)
    # A territory is wider from front to back than across.
    scale = (1.0, 0.62, 0.75)
    offset = [(c - np.float32(a)) * np.float32(k) for c, a, k in zip(points, apex, scale, strict=True)]
    length = np.sqrt(offset[0] ** 2 + offset[1] ** 2 + offset[2] ** 2) + 1
    norm = float(np.linalg.norm(direction))
    along = (offset[0] * side * direction[0] + offset[1] * direction[1] + offset[2] * direction[2]) / (length * norm)
    return ramp(np.asarray(along + np.float32(0.07) * noise, dtype=np.float32), opening - 0.02, opening + 0.03)


def _middle_cerebral(plan: Plan, brain: Brain, opening: float) -> Array:
    wedge = territory(brain.moved, plan.side, (1.0, 0.1, 0.15), opening, brain.texture)
    own = ramp(brain.points[0] * plan.side, 12, 18) * (brain.cerebellum < 0.5)
    return np.asarray(wedge * own, dtype=np.float32)


def _darken(brain: Brain, share: Array, value: float, uneven: float = 1.0) -> None:
    """Brain of one density, grey as white; what is fluid stays fluid."""
    mix(brain.values, share * (1 - brain.fluid) * ramp(brain.depth, 0, 2), value + np.float32(uneven) * brain.texture)


@lesion("acute_ischemic_infarct")
def _acute(plan: Plan) -> None:
    plan.labels.add("acute_ischemic_infarct")
    opening = float(plan.rng.uniform(0.58, 0.82))
    value = float(plan.rng.uniform(17, 21))
    plan.closings.append(lambda points: 0.8 * _wedge(plan, points, opening))
    plan.in_brain.append(lambda brain: _darken(brain, 0.92 * _middle_cerebral(plan, brain, opening), value))


def _wedge(plan: Plan, points: Points, opening: float) -> Array:
    flat = np.zeros_like(points[0])
    return territory(points, plan.side, (1.0, 0.1, 0.15), opening, flat) * ramp(points[0] * plan.side, 12, 18)


@lesion("early_ischemic_signs")
def _early(plan: Plan) -> None:
    plan.labels.add("early_ischemic_signs")
    opening = float(plan.rng.uniform(0.72, 0.85))
    plan.closings.append(lambda points: 0.7 * _wedge(plan, points, opening))

    def paint(brain: Brain) -> None:
        # The insular ribbon, the lentiform nucleus and the cortex fade to the density of white matter.
        share = _middle_cerebral(plan, brain, opening)
        deep = inside(ellipsoid(brain.moved, (plan.side * 28.0, 1, 3), (14, 22, 15)), 5.0)
        share = np.maximum(share, deep) * brain.grey
        _darken(brain, share * np.float32(0.85), hu.WHITE_MATTER + plan.subject.white_offset_hu - 2.5, 0.4)

    plan.in_brain.append(paint)


@lesion("subacute_infarct")
def _subacute(plan: Plan) -> None:
    plan.labels.add("subacute_infarct")
    opening = float(plan.rng.uniform(0.68, 0.85))
    value = float(plan.rng.uniform(12, 16))
    plan.closings.append(lambda points: 0.6 * _wedge(plan, points, opening))
    plan.in_brain.append(lambda brain: _darken(brain, 0.95 * _middle_cerebral(plan, brain, opening), value))


@lesion("hemorrhagic_transformation")
def _transformed(plan: Plan) -> None:
    plan.labels |= {"hemorrhagic_transformation", "acute_ischemic_infarct", "intraparenchymal_hemorrhage"}
    opening = float(plan.rng.uniform(0.72, 0.86))
    plan.closings.append(lambda points: 0.8 * _wedge(plan, points, opening))

    def paint(brain: Brain) -> None:
        share = _middle_cerebral(plan, brain, opening)
        _darken(brain, 0.92 * share, 18.0)
        patches = ramp(brain.texture + 0.5 * brain.fine, 0.5, 1.1) * share * ramp(brain.surface, 4, 8)
        mix(brain.values, patches * (1 - brain.fluid), hu.CLOTTED_BLOOD - 6)

    plan.in_brain.append(paint)


@lesion("hyperdense_artery_sign")
def _dense_artery(plan: Plan) -> None:
    plan.labels.add("hyperdense_artery_sign")

    def paint(brain: Brain) -> None:
        s = plan.side
        first = capsule(brain.moved, (s * 10.0, 4, -16), (s * 26.0, 8, -13), 2.4)
        second = capsule(brain.moved, (s * 26.0, 8, -13), (s * 37.0, 3, -10), 2.0)
        mix(brain.values, inside(np.minimum(first, second), brain.edge), hu.CLOTTED_BLOOD + 4)

    plan.in_brain.append(paint)


@lesion("chronic_infarct")
def _chronic(plan: Plan) -> None:
    plan.labels |= {"chronic_infarct", "encephalomalacia_gliosis"}
    opening = float(plan.rng.uniform(0.78, 0.88))

    def paint(brain: Brain) -> None:
        share = _middle_cerebral(plan, brain, opening)
        _darken(brain, share, hu.SCAR, 2.0)
        rim = _middle_cerebral(plan, brain, opening - 0.06) * (1 - share) * (1 - brain.grey)
        _darken(brain, 0.6 * rim, 20.0)

    plan.in_brain.append(paint)


@lesion("posterior_circulation_infarct")
def _posterior(plan: Plan) -> None:
    plan.labels |= {"posterior_circulation_infarct", "acute_ischemic_infarct"}
    cerebellar = bool(plan.rng.random() < 0.6)
    value = float(plan.rng.uniform(15, 20))

    def paint(brain: Brain) -> None:
        x, y, z = brain.points
        own = x * plan.side
        if cerebellar:  # the lower half of one cerebellar hemisphere
            share = brain.cerebellum * ramp(own + brain.texture, 5, 9) * (1 - ramp(z + 2 * brain.texture, -30, -24))
        else:  # one occipital lobe
            share = (1 - brain.cerebellum) * ramp(own, 2, 4) * (1 - ramp(y + 0.6 * own + 3 * brain.texture, -56, -48))
            share = share * (1 - ramp(z, 22, 32))
        _darken(brain, np.asarray(0.92 * share, dtype=np.float32), value)

    plan.in_brain.append(paint)


@lesion("lacunar_infarct")
def _lacunar(plan: Plan) -> None:
    plan.labels.add("lacunar_infarct")
    places = [site(plan, "lentiform", "thalamus", jitter=5) for _ in range(int(plan.rng.integers(1, 4)))]
    sizes = [float(plan.rng.uniform(3.0, 5.5)) for _ in places]

    def paint(brain: Brain) -> None:
        for place, size in zip(places, sizes, strict=True):
            hole = blob(brain.moved, place, (size, 1.2 * size, 1.3 * size), brain.fine, 0.1)
            _darken(brain, inside(hole, 1.5 * brain.edge), hu.SCAR, 0.5)

    plan.in_brain.append(paint)


@lesion("hypoxic_ischemic_injury")
def _hypoxic(plan: Plan) -> None:
    plan.labels |= {"hypoxic_ischemic_injury", "cerebral_edema", "sulcal_or_cisternal_effacement"}
    plan.subject.contrast = float(plan.rng.uniform(0.0, 0.2))
    plan.subject.white_offset_hu -= 1.0
    plan.subject.ventricle *= 0.75
    plan.swelling = max(plan.swelling, 0.85)


@lesion("dural_venous_sinus_thrombosis")
def _venous(plan: Plan) -> None:
    plan.labels.add("dural_venous_sinus_thrombosis")

    def paint(brain: Brain) -> None:
        x, y, z = brain.points
        size = np.abs(x) + np.float32(0.5) * np.abs(brain.depth - 2.5) - np.float32(5.0)
        size = np.maximum(size, np.where(y < -60, -16, 12) - z)
        clot = np.where(brain.depth < 8, size, np.float32(9)).astype(np.float32)
        clot = np.minimum(clot, capsule(brain.points, (0, -52, 5), (0, -94, -12), 2.8))
        mix(brain.values, inside(clot, brain.edge) * ramp(brain.depth, 0, 1), hu.CLOTTED_BLOOD + 4)

    plan.in_brain.append(paint)
