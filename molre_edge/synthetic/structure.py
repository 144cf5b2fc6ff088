"""Swelling, shift, ventricles, and what years leave behind."""

from __future__ import annotations

import numpy as np

from molre_edge.synthetic import tissues as hu
from molre_edge.synthetic.bleeds import crescent, fill, haematoma
from molre_edge.synthetic.brain import Brain
from molre_edge.synthetic.fields import capsule, ellipsoid, inside, ramp
from molre_edge.synthetic.plan import Plan, Scene, blob, lesion, mix, site

__all__: list[str] = []


@lesion("mass_effect")
@lesion("midline_shift")
def _shift(plan: Plan) -> None:
    # A shift needs a cause: a large haematoma over or within one hemisphere.
    if plan.consequences() >= {"midline_shift", "mass_effect"}:
        return
    if plan.rng.random() < 0.5:
        plan.labels.add("acute_subdural_hematoma")
        middle = (float(plan.rng.uniform(-15, 10)), float(plan.rng.uniform(16, 24)))
        layer = crescent(plan.side, float(plan.rng.uniform(14, 19)), middle, (42, 30))
        fill(plan, layer, lambda brain: hu.CLOTTED_BLOOD - 2 + 3 * brain.texture)
    else:
        plan.labels.add("intraparenchymal_hemorrhage")
        x, y, z = site(plan, "lentiform")
        haematoma(plan, (plan.side * max(abs(x), 31.0), y, z), float(plan.rng.uniform(27, 30)))


@lesion("sulcal_or_cisternal_effacement")
def _effaced(plan: Plan) -> None:
    plan.labels.add("sulcal_or_cisternal_effacement")
    plan.swelling = max(plan.swelling, 0.95)
    plan.subject.cistern *= 0.5


@lesion("brain_herniation")
def _herniation(plan: Plan) -> None:
    plan.labels |= {"brain_herniation", "sulcal_or_cisternal_effacement"}
    _shift(plan)
    plan.subject.cistern *= 0.3
    plan.swelling = max(plan.swelling, 0.7)


@lesion("cerebral_edema")
def _oedema(plan: Plan) -> None:
    plan.labels |= {"cerebral_edema", "sulcal_or_cisternal_effacement"}
    plan.swelling = max(plan.swelling, 1.0)
    plan.subject.contrast = min(plan.subject.contrast, 0.5)
    plan.subject.white_offset_hu -= 3.0
    plan.subject.ventricle *= 0.65
    plan.subject.cistern *= 0.5


@lesion("hydrocephalus")
def _hydrocephalus(plan: Plan) -> None:
    plan.labels |= {"hydrocephalus", "ventriculomegaly"}
    plan.subject.ventricle = max(plan.subject.ventricle, 1.0) * float(plan.rng.uniform(1.7, 2.2))
    plan.horns = max(plan.horns, 1.6)
    plan.swelling = max(plan.swelling, 0.6)

    def paint(brain: Brain) -> None:  # fluid pressed into the white matter around the horns
        halo = (1 - ramp(brain.ventricle, 1, 8)) * (1 - brain.fluid) * (1 - brain.grey) * (1 - brain.cerebellum)
        mix(brain.values, np.float32(0.45) * halo * ramp(brain.ventricle, 0, 1), hu.OEDEMA)

    plan.in_brain.append(paint)


@lesion("ventriculomegaly")
def _ventriculomegaly(plan: Plan) -> None:
    plan.labels.add("ventriculomegaly")
    plan.subject.ventricle = max(plan.subject.ventricle, 1.0) * float(plan.rng.uniform(1.45, 1.8))


@lesion("mega_cisterna_magna")
def _cisterna(plan: Plan) -> None:
    plan.labels.add("mega_cisterna_magna")

    def paint(brain: Brain) -> None:
        room = ellipsoid(brain.points, (0, -88, -44), (34, 15, 19))
        mix(brain.values, inside(room, brain.edge) * brain.cerebellum * ramp(brain.depth, 0, 1), hu.CSF)

    plan.in_brain.append(paint)


@lesion("cerebral_atrophy")
def _atrophy(plan: Plan) -> None:
    plan.labels.add("cerebral_atrophy")
    subject = plan.subject
    subject.sulcus_mm = max(subject.sulcus_mm + 1.0, float(plan.rng.uniform(3.2, 4.2)))
    subject.rim_mm = max(subject.rim_mm + 1.2, float(plan.rng.uniform(3.4, 5.0)))
    subject.ventricle = max(subject.ventricle * 1.15, float(plan.rng.uniform(1.3, 1.5)))
    subject.cistern = max(subject.cistern, 1.2)


@lesion("small_vessel_ischemic_disease")
def _small_vessel(plan: Plan) -> None:
    plan.labels.add("small_vessel_ischemic_disease")
    width = float(plan.rng.uniform(7, 13))

    def paint(brain: Brain) -> None:
        high = ramp(brain.moved[2], -4, 8) * (1 - brain.cerebellum)
        caps = 1 - ramp(brain.ventricle + 3.5 * brain.texture, 0.35 * width, width)
        patches = ramp(brain.texture, 0.6, 1.2) * ramp(brain.moved[2], 8, 18) * ramp(brain.sulcus, 4, 6)
        share = np.maximum(caps, 0.8 * patches) * (1 - brain.grey) * (1 - brain.fluid) * high
        mix(brain.values, (np.float32(0.85) * share).astype(np.float32), 17)

    plan.in_brain.append(paint)


@lesion("encephalomalacia_gliosis")
def _scar(plan: Plan) -> None:
    plan.labels.add("encephalomalacia_gliosis")
    centre = site(plan, "frontal pole", "temporal pole", "occipital", "parietal")
    size = float(plan.rng.uniform(14, 21))

    def paint(brain: Brain) -> None:
        distance = blob(brain.points, centre, (size, size, size), brain.texture, 0.25)
        mix(brain.values, inside(distance - 5, 5.0) * (1 - brain.grey) * np.float32(0.6), 19)
        strands = 1 - np.float32(0.35) * ramp(brain.fine, 0.8, 1.4)
        mix(brain.values, inside(distance, 2.0) * ramp(brain.depth, 0, 1) * strands, hu.SCAR - 1)

    plan.in_brain.append(paint)


@lesion("intracranial_calcification")
def _calcification(plan: Plan) -> None:
    plan.labels.add("intracranial_calcification")
    both_nuclei = bool(plan.rng.random() < 0.6)
    spots = [site(plan, "frontal", "parietal", "temporal", "occipital", jitter=10) for _ in range(4)]

    def paint(brain: Brain) -> None:
        if both_nuclei:  # the pallidum on both sides
            side = (np.abs(brain.moved[0]), brain.moved[1], brain.moved[2])
            dust = inside(ellipsoid(side, (20, -1, 1), (3.5, 7, 4.5)), 2.0) * ramp(brain.fine, -0.7, 0.5)
            mix(brain.values, dust, 130)
            return
        for spot in spots:
            grain = inside(blob(brain.moved, spot, (2.2, 2.4, 2.8), brain.fine, 0.1), brain.edge)
            mix(brain.values, grain * ramp(brain.depth, 2, 4), 300)

    plan.in_brain.append(paint)


@lesion("vascular_calcification")
def _vessel_wall(plan: Plan) -> None:
    plan.labels.add("vascular_calcification")

    def paint(brain: Brain) -> None:
        side = (np.abs(brain.points[0]), brain.points[1], brain.points[2])
        siphon = np.minimum(
            capsule(side, (9, -6, -24), (9, 5, -23), 2.6), capsule(side, (9, 5, -23), (10, 3, -17), 2.3)
        )
        basilar = capsule(side, (4, -17, -46), (1, -12, -34), 1.8)
        wall = inside(np.minimum(siphon, basilar), brain.edge) * ramp(brain.fine, -1.0, 0.2)
        mix(brain.values, wall, 480)

    plan.in_brain.append(paint)


@lesion("paranasal_sinus_disease")
def _sinus(plan: Plan) -> None:
    plan.labels.add("paranasal_sinus_disease")
    plan.fluid[0] = max(plan.fluid[0], float(plan.rng.uniform(0.96, 1.0)))


@lesion("mastoid_effusion")
def _mastoid(plan: Plan) -> None:
    plan.labels.add("mastoid_effusion")
    plan.fluid[1] = max(plan.fluid[1], float(plan.rng.uniform(0.96, 1.0)))


@lesion("empty_sella")
def _sella(plan: Plan) -> None:
    plan.labels.add("empty_sella")

    def paint(scene: Scene) -> None:
        room = ellipsoid(scene.points, (0, 0, -29), (7.5, 6.5, 6.5))
        mix(scene.values, inside(room, scene.edge), hu.CSF)

    plan.in_head.append(paint)
