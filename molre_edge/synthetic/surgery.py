"""What surgeons leave behind: openings in the skull, cavities, tubes, metal."""

from __future__ import annotations

import numpy as np

from molre_edge.synthetic import tissues as hu
from molre_edge.synthetic.brain import Brain
from molre_edge.synthetic.fields import Array, Points, capsule, inside, ramp
from molre_edge.synthetic.plan import Plan, Scene, Site, blob, lesion, mix, site

__all__: list[str] = []


def _flap(points: Points, side: int, centre: tuple[float, float], size: float, noise: Array) -> Array:
    """Distance to the edge of an opening in the side of the skull, mm, negative within it."""
    x, y, z = points
    away = np.hypot((y - centre[0]) * np.float32(0.85), z - centre[1]) - size + 1.2 * noise
    return np.asarray(np.where(x * side > 12, away, np.float32(99)), dtype=np.float32)


def _shell(scene: Scene, spare: float = 0.8) -> Array:
    """Share of the vault's bone, a little wider than it is so that no rim stays."""
    outer = scene.skull.cavity - scene.skull.thickness
    return np.asarray(inside(np.maximum(outer - spare, -scene.skull.cavity - spare), 1.0), dtype=np.float32)


@lesion("craniotomy_or_craniectomy")
def _opening(plan: Plan) -> None:
    plan.labels.add("craniotomy_or_craniectomy")
    centre = (float(plan.rng.uniform(-30, 15)), float(plan.rng.uniform(20, 36)))
    size = float(plan.rng.uniform(26, 36))
    removed = bool(plan.rng.random() < 0.4)

    def paint(scene: Scene) -> None:
        away = _flap(scene.points, plan.side, centre, size, 0.3 * scene.texture)
        bone = _shell(scene)
        if removed:
            mix(scene.values, inside(away, scene.edge) * bone, 38 + 4 * scene.texture)
            return
        mix(scene.values, inside(np.abs(away) - np.float32(1.1), scene.edge) * bone, 40)
        angle = np.arctan2(scene.points[2] - centre[1], scene.points[1] - centre[0])
        plates = inside(np.abs(away) - 6, scene.edge) * (np.cos(5 * angle) > 0.93)
        outer = scene.skull.cavity - scene.skull.thickness
        mix(scene.values, plates * inside(np.abs(outer - 0.8) - 0.6, scene.edge), 2400)

    plan.in_head.append(paint)


@lesion("cranioplasty")
def _cranioplasty(plan: Plan) -> None:
    plan.labels |= {"cranioplasty", "craniotomy_or_craniectomy"}
    centre = (float(plan.rng.uniform(-30, 15)), float(plan.rng.uniform(22, 36)))
    size = float(plan.rng.uniform(26, 34))
    metal = bool(plan.rng.random() < 0.4)

    def paint(scene: Scene) -> None:
        away = _flap(scene.points, plan.side, centre, size, 0.2 * scene.texture)
        mix(scene.values, inside(away, scene.edge) * _shell(scene), 40)
        outer = scene.skull.cavity - scene.skull.thickness
        if metal:  # titanium mesh
            sheet = inside(np.abs(outer) - 0.7, scene.edge)
            mix(scene.values, sheet * inside(away - 2, scene.edge), 2600)
        else:  # acrylic, less dense than bone and even
            plate = inside(np.maximum(outer - 0.2, -scene.skull.cavity - 1.0), scene.edge)
            mix(scene.values, plate * inside(away + 1, scene.edge), 260)

    plan.in_head.append(paint)


def _hole(plan: Plan, place: Site, radius: float = 6.5) -> None:
    def paint(scene: Scene) -> None:
        far = (place[0] * 1.6, place[1] * 1.3, place[2] * 1.7)
        drill = capsule(scene.points, (0.6 * place[0], place[1], 0.6 * place[2]), far, radius)
        mix(scene.values, inside(drill, scene.edge) * _shell(scene), 35)

    plan.in_head.append(paint)


@lesion("burr_hole")
def _burr_hole(plan: Plan) -> None:
    plan.labels.add("burr_hole")
    _hole(plan, (plan.side * 48.0, float(plan.rng.uniform(-30, 35)), float(plan.rng.uniform(38, 46))))


@lesion("resection_cavity")
def _cavity(plan: Plan) -> None:
    plan.labels |= {"resection_cavity", "craniotomy_or_craniectomy"}
    x, y, z = site(plan, "frontal", "parietal")
    centre = (x * 1.2, y, z)
    size = float(plan.rng.uniform(14, 20))

    def paint(brain: Brain) -> None:
        distance = blob(brain.points, centre, (size, size, size), brain.texture, 0.12)
        mix(brain.values, inside(distance - 4, 4.0) * (1 - brain.fluid) * np.float32(0.6), 20)
        mix(brain.values, inside(distance, brain.edge) * ramp(brain.depth, -0.5, 0.5), hu.CSF + 3)

    def bone(scene: Scene) -> None:
        away = _flap(scene.points, plan.side, (y, max(z, 22)), 27.0, 0.3 * scene.texture)
        mix(scene.values, inside(np.abs(away) - np.float32(1.1), scene.edge) * _shell(scene), 40)

    plan.in_brain.append(paint)
    plan.in_head.append(bone)


def _tube(plan: Plan, start: Site, end: Site, radius: float, value: float, lumen: float | None = None) -> None:
    def paint(scene: Scene) -> None:
        distance = capsule(scene.points, start, end, radius)
        mix(scene.values, inside(distance, scene.edge) * (scene.skull.head < 0), value)
        if lumen is not None:
            mix(scene.values, inside(distance + np.float32(0.55 * radius), scene.edge), lumen)

    plan.in_head.append(paint)


@lesion("ventricular_shunt_or_drain")
def _shunt(plan: Plan) -> None:
    plan.labels |= {"ventricular_shunt_or_drain", "burr_hole"}
    s = plan.side
    if plan.rng.random() < 0.5:  # from the front
        start, end = (s * 30.0, 22.0, 75.0), (s * 5.0, 8.0, 9.0)
    else:  # from the back
        start, end = (s * 34.0, -92.0, 40.0), (s * 9.0, 12.0, 14.0)
    _hole(plan, (start[0], start[1] * 0.85, start[2] * 0.85), 4.5)
    _tube(plan, start, end, 1.6, 430.0)


@lesion("intracranial_pressure_monitor")
def _monitor(plan: Plan) -> None:
    plan.labels.add("intracranial_pressure_monitor")
    s = plan.side
    start, end = (s * 36.0, 42.0, 74.0), (s * 27.0, 33.0, 40.0)
    _tube(plan, start, end, 1.0, 1300.0)
    _tube(plan, (s * 35.0, 41.0, 69.0), (s * 33.0, 39.0, 60.0), 2.6, 1800.0)


@lesion("aneurysm_clip_or_coil")
def _clip(plan: Plan) -> None:
    plan.labels.add("aneurysm_clip_or_coil")
    s = plan.side
    place = ((s * 12.0, 5.0, -15.0), (s * 30.0, 7.0, -12.0), (0.0, 14.0, -12.0))[int(plan.rng.integers(3))]
    coil = bool(plan.rng.random() < 0.5)
    plan.metal.append((place, 1.2))

    def paint(scene: Scene) -> None:
        if coil:
            metal = blob(scene.points, place, (3.8, 3.8, 3.8), scene.fine, 0.1)
        else:
            metal = capsule(scene.points, place, (place[0] + s * 8, place[1] + 5, place[2] + 3), 1.7)
        mix(scene.values, inside(metal, scene.edge), hu.METAL)

    plan.in_head.append(paint)


@lesion("embolization_material")
def _embolic(plan: Plan) -> None:
    plan.labels.add("embolization_material")
    place = site(plan, "parietal", "temporal", "frontal")
    plan.metal.append((place, 0.9))

    def paint(scene: Scene) -> None:
        cast = inside(blob(scene.points, place, (9, 11, 9), scene.texture, 0.2), 2.0) * ramp(scene.fine, 0.1, 0.6)
        mix(scene.values, cast * (scene.skull.cavity < -2), 2200)

    plan.in_head.append(paint)


@lesion("electrode_or_lead")
def _electrode(plan: Plan) -> None:
    plan.labels.add("electrode_or_lead")
    for s in (1, -1):
        _tube(plan, (s * 34.0, 24.0, 74.0), (s * 12.0, -13.0, -3.0), 0.9, 2600.0)
        plan.metal.append(((s * 14.0, -10.0, 4.0), 0.45))
