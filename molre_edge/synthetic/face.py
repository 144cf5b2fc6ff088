"""Face, nose, ears and neck, with orbits, sinuses and the bones around them: a sketch, since the brain is the point."""

from __future__ import annotations

import numpy as np

from molre_edge.synthetic import tissues as hu
from molre_edge.synthetic.fields import Array, Points, capsule, ellipsoid, inside, ramp

__all__ = ["face_distance", "paint_face"]


def face_distance(points: Points) -> Array:
    """Signed distance to the face, the nose, the ears and the neck."""
    x, y, z = points
    side = (np.abs(x), y, z)
    face = ellipsoid(points, (0, 18, -58), (70, 71, 64))
    nose = capsule(points, (0, 85, -36), (0, 99, -62), 6, 9)
    ear = ellipsoid(side, (82, -32, -38), (4, 15, 24))
    neck = capsule(points, (0, -34, -40), (0, -34, -120), 58, 56, stretch=(1.0, 1.0, 1.0))
    result = np.minimum(np.minimum(face, neck), np.minimum(nose, ear))
    for eye in (-33.0, 33.0):
        socket = ellipsoid(points, (eye, 92, -37), (15, 9, 8))
        result = np.maximum(result, -socket)
    return np.asarray(result)


def paint_face(
    canvas: Array,
    points: Points,
    vault: Array,
    fine: Array,
    texture: Array,
    pixel_mm: float,
    fluid: tuple[float, float],
) -> None:
    """Orbits, sinuses, petrous and facial bones below the brain, onto `canvas`, in place.

    Args:
        canvas: CT numbers of the points that lie below z = 12 in the template.
        points: their template coordinates.
        vault: their signed distance to the vault.
        fine: fine noise, for the walls of air cells.
        texture: smooth noise.
        pixel_mm: side of a pixel in template millimetres.
        fluid: two shares 0 to 1: of the sinuses' and of the mastoid cells' air that is replaced by fluid.
    """
    x, y, z = points
    side = (np.abs(x), y, z)
    soft = 1.2 * pixel_mm

    def lay(distance: Array, value: float | Array, edge: float = soft) -> None:
        nonlocal canvas
        canvas += inside(distance, edge) * (value - canvas)

    air_sinus = hu.AIR + fluid[0] * (hu.MUCOSA - hu.AIR)
    air_mastoid = hu.AIR + fluid[1] * (hu.MUCOSA - hu.AIR)
    # Otic capsule, mastoid and its cells, ear canal.
    lay(capsule(side, (22, -22, -32), (40, -31, -33), 4), hu.OTIC_BONE + 100 * texture)
    mastoid = ellipsoid(side, (57, -40, -44), (10, 15, 19))
    lay(mastoid, 800 + 200 * texture)
    cells = (fine > -0.15) & (mastoid < -1.5)
    canvas[cells] = air_mastoid + 120
    tympanum = ellipsoid(side, (44, -24, -37), (4, 5, 6))
    lay(tympanum, air_mastoid)
    canal = capsule(side, (50, -24, -40), (90, -27, -41), 3.2)
    lay(canal - 2, 900 * (1 - ramp(side[0], 64, 68)) + 20)
    lay(canal, hu.AIR)
    # First cervical vertebra: a ring with heavy flanks.
    ring = np.abs(np.hypot(x * np.float32(0.82), y + 41) - 16) - (2.2 + 4.5 * ramp(side[0], 9, 17))
    lay(np.maximum(ring, np.abs(z + 76) - 7), 850 + 150 * texture)
    # Bones of the face.
    cheek = capsule(side, (46, 62, -52), (66, 36, -50), 5.5)
    lay(cheek, 1000)
    lay(capsule(side, (66, 36, -50), (67, -10, -46), 2.6), 1200)
    lay(capsule(side, (52, -8, -48), (50, 2, -90), 5.0), 900)
    lay(capsule(side, (20, 8, -52), (18, 8, -80), 2.4), 900)  # pterygoid plates
    # Cheek sinus, nose, ethmoid cells, sphenoid and frontal sinus.
    maxillary = ellipsoid(side, (27, 52, -66), (15, 19, 16))
    lay(maxillary - 2, 900)
    lay(maxillary, air_sinus)
    nose = np.maximum(
        side[0] - 13 + 9 * ramp(y, 62, 90) - texture, np.maximum(np.abs(y - 50) - 38, np.abs(z + 66) - 26)
    )
    lay(nose, hu.AIR)
    shells = capsule(side, (8, 30, -66), (8, 74, -66), 3.2, stretch=(1.0, 1.0, 2.2))
    lay(shells, 45)
    lay(side[0] - np.float32(1.2), np.where(nose < 0, np.float32(260), canvas))
    lay(capsule(points, (0, 84, -38), (0, 91, -50), 3.5, stretch=(1.8, 1.0, 1.0)), 900)
    ethmoid = np.maximum(side[0] - np.float32(12), np.maximum(np.abs(y - 47) - 24, np.abs(z + 34) - 10))
    lay(ethmoid - 1.5, 700)
    walls = np.abs(fine) < 0.35
    lay(ethmoid, np.where(walls, np.float32(250), np.float32(air_sinus)))
    sphenoid = ellipsoid(side, (7.5, 14, -39), (6.8, 10, 9))
    lay(sphenoid - 2, 900)
    lay(sphenoid, air_sinus)
    frontal = np.maximum(ellipsoid(side, (10, 66.5, -13), (10, 6, 12)), 2.2 - vault)
    frontal = frontal + 1.5 * texture
    lay(frontal - 2.0, 1100)
    lay(frontal, air_sinus)
    _paint_orbits(canvas, side, soft)


def _paint_orbits(canvas: Array, side: Points, soft: float) -> None:
    cone = capsule(side, (32, 66, -37), (15, 22, -32), 19, 4.5)
    near = cone < 6
    part: Points = (side[0][near], side[1][near], side[2][near])
    values = canvas[near]
    cone = cone[near]

    def lay(distance: Array, value: float) -> None:
        nonlocal values
        values += inside(distance, soft) * (np.float32(value) - values)

    is_air = values < -500
    rim = np.maximum(cone - 2.4, part[1] - np.float32(68))
    lay(rim, 1000)
    values[is_air & (part[1] > 68)] = hu.AIR
    fat = np.where(is_air & (cone > -2), np.float32(9), cone)
    lay(fat, hu.FAT)
    for start, end, radius in (
        ((20.5, 66, -37), (14, 26, -33), 2.2),
        ((45, 64, -37), (18, 26, -33), 2.2),
        ((32, 66, -26), (17, 26, -30), 2.2),
        ((32, 66, -48), (17, 26, -36), 2.2),
        ((32, 58, -37), (15, 20, -31), 2.1),
    ):
        lay(capsule(part, start, end, radius), 45)
    globe = ellipsoid(part, (33, 69, -37), (12, 12, 12))
    lay(globe, 45)
    lay(globe + 1.6, hu.VITREOUS)
    lay(ellipsoid(part, (33, 77.5, -37), (4.6, 2.3, 4.6)), hu.LENS)
    canvas[near] = values
