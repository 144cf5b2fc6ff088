"""Trauma: bone, scalp, air, foreign bodies, fluid beneath the dura."""

from __future__ import annotations

import numpy as np

from molre_edge.synthetic import tissues as hu
from molre_edge.synthetic.bleeds import crescent, fill
from molre_edge.synthetic.brain import Brain
from molre_edge.synthetic.fields import Array, capsule, inside, ramp
from molre_edge.synthetic.plan import Mass, Plan, Scene, blob, lesion, mix, site

__all__: list[str] = []


def _near_side(scene: Scene, plan: Plan) -> Array:
    return ramp(scene.points[0] * plan.side, 4, 10)


def _bone(scene: Scene) -> Array:
    """Share of vault bone."""
    outer = scene.skull.cavity - scene.skull.thickness
    return np.asarray(inside(outer - 0.8, 1.0) * inside(-scene.skull.cavity - 0.8, 1.0), dtype=np.float32)


@lesion("calvarial_fracture")
def _fracture(plan: Plan) -> None:
    plan.labels.add("calvarial_fracture")
    start, slope = float(plan.rng.uniform(-45, 25)), float(plan.rng.uniform(-0.5, 0.5))
    lowest, highest = float(plan.rng.uniform(-5, 10)), float(plan.rng.uniform(45, 62))

    def paint(scene: Scene) -> None:
        _, y, z = scene.points
        line = y - np.float32(start) - np.float32(slope) * z - 2.0 * scene.texture
        share = inside(np.abs(line) - np.float32(0.9), scene.edge) * ramp(z, lowest - 3, lowest)
        share = share * (1 - ramp(z, highest, highest + 3)) * _near_side(scene, plan) * _bone(scene)
        mix(scene.values, share * np.float32(0.92), 60)

    plan.in_head.append(paint)


@lesion("displaced_skull_fracture")
def _displaced(plan: Plan) -> None:
    plan.labels |= {"displaced_skull_fracture", "calvarial_fracture"}
    centre = (float(plan.rng.uniform(-45, 25)), float(plan.rng.uniform(15, 45)))
    depth = float(plan.rng.uniform(5, 9))

    def paint(scene: Scene) -> None:
        _, y, z = scene.points
        away = np.hypot(y - centre[0], z - centre[1]) + 2 * scene.texture
        piece = inside(np.asarray(away - 16, dtype=np.float32), scene.edge) * _near_side(scene, plan)
        bone = _bone(scene)
        mix(scene.values, piece * bone, 45)  # where the piece was
        pushed = scene.skull.cavity + np.float32(depth) * (1 - np.float32(0.5) * ramp(away, 2, 16))
        thick = scene.skull.thickness
        moved = inside(np.abs(pushed - thick / 2) - thick / 2, scene.edge)
        ends = inside(np.asarray(away - 14.5, dtype=np.float32), scene.edge) * _near_side(scene, plan)
        mix(scene.values, moved * ends, 1050)

    plan.in_head.append(paint)


@lesion("skull_base_fracture")
def _base_fracture(plan: Plan) -> None:
    plan.labels |= {"skull_base_fracture", "mastoid_effusion"}
    plan.fluid[1] = max(plan.fluid[1], 0.9)
    start = float(plan.rng.uniform(-34, -22))

    def paint(scene: Scene) -> None:
        x, y, z = scene.points
        line = y - np.float32(start) + np.float32(0.35) * (x * plan.side - 40) - scene.texture
        share = inside(np.abs(line) - np.float32(0.9), scene.edge) * (scene.values > 300) * (z < -12) * (z > -58)
        share = share * ramp(x * plan.side, 14, 18) * (scene.skull.cavity > -1)
        mix(scene.values, share * np.float32(0.9), 80)

    plan.in_head.append(paint)


@lesion("scalp_hematoma")
def _scalp(plan: Plan) -> None:
    plan.labels.add("scalp_hematoma")
    centre = (plan.side * 62.0, float(plan.rng.uniform(-60, 40)), float(plan.rng.uniform(20, 45)))
    thick = float(plan.rng.uniform(6, 12))
    wide = float(plan.rng.uniform(24, 34))
    plan.swell_scalp.append((centre, thick, wide))

    def paint(scene: Scene) -> None:
        square = sum((c - np.float32(m)) ** 2 for c, m in zip(scene.points, centre, strict=True))
        near = 1 - ramp(np.sqrt(square) + 2 * scene.texture, 0.75 * wide, 1.1 * wide)
        outside = scene.skull.cavity - scene.skull.thickness
        share = ramp(outside, 0.3, 1.5) * ramp(-scene.skull.head, 2, 3.5) * near
        mix(scene.values, np.asarray(share, dtype=np.float32), hu.CLOTTED_BLOOD - 8 + 6 * scene.texture)

    plan.in_head.append(paint)


@lesion("pneumocephalus")
def _air(plan: Plan) -> None:
    plan.labels.add("pneumocephalus")
    level = float(plan.rng.uniform(42, 56))
    bubbles = [
        (float(plan.rng.uniform(-30, 30)), float(plan.rng.uniform(10, 55)), float(plan.rng.uniform(-5, 45)))
        for _ in range(int(plan.rng.integers(3, 7)))
    ]

    def paint(brain: Brain) -> None:
        # Air rises to the forehead of a lying patient and gathers between skull and brain.
        pool = ramp(brain.points[1] + 2 * brain.texture, level, level + 3) * (1 - ramp(brain.depth, 4, 6))
        pool = pool * ramp(brain.depth, -0.5, 0.5) * ramp(brain.points[0] * plan.side, 1, 3) * (brain.points[2] > -8)
        for bubble in bubbles:
            pool = np.maximum(pool, inside(blob(brain.points, bubble, (2.5, 2.5, 3), brain.fine, 0.1), brain.edge))
        mix(brain.values, np.asarray(pool * ramp(brain.depth, -0.5, 0.5), dtype=np.float32), hu.AIR + 60)

    plan.in_brain.append(paint)


@lesion("foreign_body")
def _foreign(plan: Plan) -> None:
    plan.labels.add("foreign_body")
    place = site(plan, "frontal", "parietal", "occipital", "temporal")
    plan.metal.append((place, 1.3))

    def paint(scene: Scene) -> None:
        piece = blob(scene.points, place, (3.2, 4.5, 3.2), scene.fine, 0.15)
        mix(scene.values, inside(piece, scene.edge), hu.METAL)

    plan.in_head.append(paint)


@lesion("subdural_hygroma")
def _hygroma(plan: Plan) -> None:
    plan.labels.add("subdural_hygroma")
    thickness = float(plan.rng.uniform(6, 11))
    for side in (plan.side, -plan.side) if plan.rng.random() < 0.5 else (plan.side,):
        fill(plan, crescent(side, thickness, (22, 28), (38, 30)), lambda brain: hu.CSF + 2.0)


@lesion("diffuse_axonal_injury")
def _axonal(plan: Plan) -> None:
    plan.labels |= {"diffuse_axonal_injury", "intracranial_hemorrhage_any"}
    spots = [site(plan, "frontal", "parietal", "thalamus", "temporal", jitter=9) for _ in range(7)]
    spots += [(-x, y, z) for x, y, z in spots[:3]]

    def paint(brain: Brain) -> None:
        for spot in spots:
            dot = inside(blob(brain.points, spot, (2.6, 2.6, 3.2), brain.fine, 0.15), brain.edge)
            mix(brain.values, dot * ramp(brain.surface, 1, 3), hu.CLOTTED_BLOOD)

    plan.in_brain.append(paint)


@lesion("non_hemorrhagic_contusion")
def _bruise(plan: Plan) -> None:
    plan.labels.add("non_hemorrhagic_contusion")
    centre = site(plan, "frontal pole", "temporal pole")
    size = float(plan.rng.uniform(13, 18))
    plan.masses.append(Mass(centre, 0.3 * size))

    def paint(brain: Brain) -> None:
        share = inside(blob(brain.points, centre, (size, size, size), brain.texture), 6.0)
        mix(brain.values, share * (1 - brain.fluid) * ramp(brain.depth, 0, 2), hu.CONTUSED_BRAIN)

    plan.in_brain.append(paint)


@lesion("orbital_or_soft_tissue_emphysema")
def _emphysema(plan: Plan) -> None:
    plan.labels.add("orbital_or_soft_tissue_emphysema")

    def paint(scene: Scene) -> None:
        room = capsule(scene.points, (plan.side * 40.0, 62, -46), (plan.side * 64.0, 20, -30), 12)
        fat = ramp(-scene.values, 20, 60) * (scene.values > -200)
        streaks = ramp(scene.fine, 0.2, 0.7) * inside(room, 4.0)
        mix(scene.values, np.asarray(streaks * np.maximum(fat, 0.5 * (scene.values < 120)), dtype=np.float32), -700)

    plan.in_head.append(paint)
