"""Tumours and cysts."""

from __future__ import annotations

import numpy as np

from molre_edge.synthetic import tissues as hu
from molre_edge.synthetic.brain import Brain
from molre_edge.synthetic.fields import inside, ramp
from molre_edge.synthetic.plan import Mass, Plan, Scene, Site, blob, lesion, mix, site

__all__: list[str] = []


def _tumour(plan: Plan, centre: Site, size: float, *, necrosis: float, oedema: float) -> None:
    """A growth with a dark core and oedema that follows the white matter."""
    plan.masses.append(Mass(centre, 0.8 * size))

    def paint(brain: Brain) -> None:
        distance = blob(brain.points, centre, (size, 1.1 * size, size), brain.texture)
        spread = inside(distance - np.float32(oedema) * (1 + np.float32(0.5) * brain.texture), 5.0)
        tissue = (1 - brain.fluid) * ramp(brain.depth, 0, 2)
        white = np.clip(1.15 - 0.9 * brain.grey, 0, 1)
        mix(brain.values, np.asarray(spread * white * tissue, dtype=np.float32), hu.OEDEMA)
        mix(brain.values, inside(distance, 2 * brain.edge) * ramp(brain.depth, 0.5, 2), hu.TUMOUR + 6 + brain.texture)
        core = inside(distance + np.float32(size * (1 - necrosis)), 3.0)
        mix(brain.values, core * ramp(brain.depth, 1, 3), 17)

    plan.in_brain.append(paint)


@lesion("intra_axial_mass")
def _intra_axial(plan: Plan) -> None:
    plan.labels.add("intra_axial_mass")
    centre = site(plan, "frontal", "parietal", "temporal")
    _tumour(plan, centre, float(plan.rng.uniform(13, 22)), necrosis=0.65, oedema=float(plan.rng.uniform(9, 16)))


@lesion("posterior_fossa_mass")
def _posterior_fossa(plan: Plan) -> None:
    plan.labels |= {"posterior_fossa_mass", "intra_axial_mass"}
    centre = site(plan, "cerebellum")
    _tumour(plan, centre, float(plan.rng.uniform(10, 15)), necrosis=0.5, oedema=7)


def _round(plan: Plan, centre: Site, radii: Site, value: float, *, push: float = 0.9, uneven: float = 0.06) -> None:
    """A smooth round thing of one density."""
    if push:
        plan.masses.append(Mass(centre, push * min(radii)))

    def paint(brain: Brain) -> None:
        share = inside(blob(brain.points, centre, radii, brain.texture, uneven), 1.2 * brain.edge)
        mix(brain.values, share * ramp(brain.depth, -0.5, 0.5), value + np.float32(0.8) * brain.texture)

    plan.in_brain.append(paint)


@lesion("extra_axial_mass")
@lesion("meningioma")
def _meningioma(plan: Plan) -> None:
    plan.labels |= {"meningioma", "extra_axial_mass"}
    size = float(plan.rng.uniform(11, 19))
    place = int(plan.rng.integers(3))
    centre: Site = (plan.side * (64 - 0.6 * size), float(plan.rng.uniform(-25, 15)), float(plan.rng.uniform(18, 36)))
    if place == 1:  # beside the falx
        centre = (plan.side * (0.9 * size + 1), float(plan.rng.uniform(15, 35)), float(plan.rng.uniform(38, 50)))
    elif place == 2:  # over the orbital roof
        centre = (plan.side * 8.0, 40, -18 + size)
    _round(plan, centre, (size, size, size), hu.MENINGIOMA)

    def paint(brain: Brain) -> None:
        grains = inside(blob(brain.points, centre, (size, size, size), brain.texture, 0.06), 3.0)
        mix(brain.values, grains * ramp(brain.fine, 1.3, 1.8), hu.CALCIUM * 0.7)

    plan.in_brain.append(paint)


@lesion("sellar_or_pituitary_mass")
def _sellar(plan: Plan) -> None:
    plan.labels.add("sellar_or_pituitary_mass")
    size = float(plan.rng.uniform(9, 13))
    _round(plan, (0.0, 1, -22), (size, 0.9 * size, 1.15 * size), 45, push=0.6)


@lesion("pineal_region_mass")
def _pineal(plan: Plan) -> None:
    plan.labels.add("pineal_region_mass")
    size = float(plan.rng.uniform(8, 12))
    _round(plan, (0.0, -32, 3), (size, size, size), 46, push=0.7)
    plan.subject.ventricle *= 1.5
    plan.horns = max(plan.horns, 1.5)
    plan.labels |= {"hydrocephalus", "ventriculomegaly"}


@lesion("colloid_cyst")
def _colloid(plan: Plan) -> None:
    plan.labels.add("colloid_cyst")
    size = float(plan.rng.uniform(4.5, 8))
    _round(plan, (0.0, 5, 8), (size, size, size), hu.COLLOID + 4, push=0.5, uneven=0.02)


@lesion("arachnoid_cyst")
def _arachnoid(plan: Plan) -> None:
    plan.labels.add("arachnoid_cyst")
    size = float(plan.rng.uniform(15, 24))
    _round(plan, (plan.side * 44.0, 14, -22), (0.9 * size, size, 0.9 * size), hu.CSF, push=0.95)


@lesion("epidermoid_or_dermoid")
def _epidermoid(plan: Plan) -> None:
    plan.labels.add("epidermoid_or_dermoid")
    size = float(plan.rng.uniform(8, 13))
    _round(plan, (plan.side * 21.0, -43, -30), (size, size, size), 10, push=0.7, uneven=0.2)


@lesion("intracranial_lipoma")
def _lipoma(plan: Plan) -> None:
    plan.labels.add("intracranial_lipoma")
    if plan.rng.random() < 0.6:  # over the corpus callosum
        _round(plan, (0.0, float(plan.rng.uniform(-5, 20)), 29), (4.5, 15, 5), hu.FAT, push=0.4)
    else:
        _round(plan, (plan.side * 5.0, -39, -1), (5, 4.5, 5), hu.FAT, push=0.3)


@lesion("abscess_or_empyema")
def _abscess(plan: Plan) -> None:
    plan.labels.add("abscess_or_empyema")
    centre = site(plan, "frontal", "temporal", "parietal")
    size = float(plan.rng.uniform(10, 15))
    plan.masses.append(Mass(centre, 0.8 * size))

    def paint(brain: Brain) -> None:
        distance = blob(brain.points, centre, (size, size, size), brain.texture, 0.08)
        spread = inside(distance - 11 * (1 + np.float32(0.4) * brain.texture), 5.0) * (1 - brain.fluid)
        mix(brain.values, spread * ramp(brain.depth, 0, 2) * np.clip(1.15 - 0.9 * brain.grey, 0, 1), hu.OEDEMA)
        mix(brain.values, inside(distance, 2 * brain.edge), 41)
        mix(brain.values, inside(distance + 3, 2 * brain.edge), 18)

    plan.in_brain.append(paint)


@lesion("skull_bone_lesion")
def _bone(plan: Plan) -> None:
    plan.labels.add("skull_bone_lesion")
    centre = (plan.side * 52.0, float(plan.rng.uniform(-60, 30)), float(plan.rng.uniform(25, 50)))
    size = float(plan.rng.uniform(11, 16))
    dense = bool(plan.rng.random() < 0.4)

    def paint(scene: Scene) -> None:
        _, y, z = scene.points
        away = np.asarray(np.hypot(y - centre[1], z - centre[2]) + 1.5 * scene.texture, dtype=np.float32)
        away = np.where(scene.points[0] * plan.side > 5, away, np.float32(99))
        outer = scene.skull.cavity - scene.skull.thickness
        bone = inside(np.maximum(outer - 1.5, -scene.skull.cavity - 1.0), 1.5)
        mix(scene.values, bone * inside(away - np.float32(size), 3.0), 1500 if dense else 55)

    plan.in_head.append(paint)
