"""The synthetic head: the same for a seed, with HU as in a head, with findings where they belong."""

import math
from functools import cache
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest

from molre_edge.errors import ConfigError
from molre_edge.findings import default_findings
from molre_edge.synthetic import (
    SUPPORTED_FINDINGS,
    SyntheticHead,
    make_head,
    random_findings,
    write_dicom_series,
    write_nifti,
)
from molre_edge.synthetic.subject import draw_subject

SMALL = (20, 96, 96)  # 8 mm slices, 2.4 mm pixels
SEED = 11


@pytest.fixture(scope="module")
def plain() -> SyntheticHead:
    return make_head(SEED, shape=SMALL)


@pytest.fixture(scope="module")
def finer() -> SyntheticHead:
    return make_head(SEED, shape=(32, 112, 112))


@pytest.fixture(scope="module")
def full() -> SyntheticHead:
    return make_head(4)


@cache
def head_with(finding: str, shape: tuple[int, int, int] = SMALL) -> SyntheticHead:
    """Made once for all tests that look at it; they do not change it."""
    head = make_head(SEED, [finding], shape=shape)
    head.hu.flags.writeable = False
    return head


def change(finding: str, plain: SyntheticHead) -> np.ndarray:
    return head_with(finding).hu - plain.hu


# The head


def test_a_seed_gives_the_same_bytes_and_another_seed_another_head(plain: SyntheticHead) -> None:
    again = make_head(SEED, shape=SMALL)
    assert again.hu.tobytes() == plain.hu.tobytes()
    assert make_head(SEED + 1, shape=SMALL).hu.tobytes() != plain.hu.tobytes()
    lesion = [make_head(SEED, ["intra_axial_mass"], shape=SMALL).hu.tobytes() for _ in range(2)]
    assert lesion[0] == lesion[1]


def test_the_order_of_findings_and_repeats_do_not_matter() -> None:
    one = make_head(1, ["burr_hole", "lacunar_infarct"], shape=SMALL)
    two = make_head(1, iter(["lacunar_infarct", "burr_hole", "burr_hole"]), shape=SMALL)
    assert one.hu.tobytes() == two.hu.tobytes()
    assert one.labels == two.labels


def test_what_a_head_is(full: SyntheticHead) -> None:
    assert full.hu.dtype == np.float32
    assert full.hu.shape == (32, 256, 256)
    assert full.spacing_mm == pytest.approx((5.0, 0.9, 0.9))
    assert full.labels == frozenset()
    assert full.seed == 4
    assert np.array_equal(full.hu, np.rint(full.hu))
    assert full.hu.min() >= -1024
    assert full.hu.max() <= 3071


def test_air_outside_is_air(full: SyntheticHead) -> None:
    corner = full.hu[:, :20, :20]
    assert corner.mean() == pytest.approx(-1000, abs=4)
    assert full.hu[-1].max() < 0  # nothing but air above the vertex, apart from the head rest
    assert (full.hu[:, :, 0] < -900).mean() > 0.9


@pytest.mark.parametrize("seed", range(4))
def test_brain_has_the_density_of_brain_and_skull_that_of_bone(seed: int) -> None:
    hu = make_head(seed, shape=SMALL).hu
    middle = hu[11:15, 32:64, 34:62]
    assert 24 < np.median(middle) < 38
    assert np.percentile(middle, 2) > -12
    assert np.percentile(middle, 98) < 60
    assert (hu > 300).mean() > 0.02
    assert hu.max() > 900


@pytest.mark.parametrize("seed", range(3))
def test_the_skull_is_a_closed_ring(seed: int) -> None:
    hu = make_head(seed).hu
    for index in (18, 21, 24):
        rows, cols = np.nonzero(hu[index] > 300)
        row, col = rows.mean(), cols.mean()
        y, x = np.mgrid[:256, :256]
        angle = np.floor((np.arctan2(y - row, x - col) + math.pi) / (2 * math.pi) * 180).astype(int) % 180
        bone = np.bincount(angle[hu[index] > 300], minlength=180)
        assert (bone > 0).all(), f"slice {index}"


def test_grey_matter_is_denser_than_white() -> None:
    # Young people: narrow sulci, so that the cortex is not lost in fluid.
    seed = next(s for s in range(50) if draw_subject(s).age < 30)
    hu = make_head(seed).hu[19:23]
    head = hu > -200
    assert head.any()
    bone = hu > 300
    depth = np.full(hu.shape, 99)
    reached = bone.copy()
    for step in range(32):
        grown = reached.copy()
        grown[:, 1:] |= reached[:, :-1]
        grown[:, :-1] |= reached[:, 1:]
        grown[:, :, 1:] |= reached[:, :, :-1]
        grown[:, :, :-1] |= reached[:, :, 1:]
        depth[grown & ~reached] = step
        reached = grown
    brain = (hu > 18) & (hu < 48)
    inner = np.zeros_like(brain)
    inner[:, 60:200, 70:186] = True
    cortex = hu[brain & inner & (depth >= 3) & (depth < 8)].mean()
    core = hu[brain & inner & (depth >= 22) & (depth < 30)].mean()
    assert cortex > core + 1.0


def test_the_same_head_at_any_resolution() -> None:
    fine = make_head(2, shape=(32, 192, 192)).hu
    coarse = make_head(2, shape=(16, 96, 96)).hu
    pooled = fine.reshape(16, 2, 96, 2, 96, 2).mean(axis=(1, 3, 5))
    assert np.corrcoef(pooled.ravel(), coarse.ravel())[0, 1] > 0.97


def test_a_volume_of_less_height_keeps_the_vertex() -> None:
    whole = make_head(2, shape=(20, 64, 64), spacing_mm=(8.0, 3.6, 3.6)).hu
    upper = make_head(2, shape=(10, 64, 64), spacing_mm=(8.0, 3.6, 3.6)).hu
    assert np.abs(upper[1:] - whole[11:]).mean() < 8


def test_heads_differ_in_size_and_ventricles() -> None:
    sizes = {int((make_head(seed, shape=(8, 48, 48)).hu > -300).sum()) for seed in range(6)}
    assert len(sizes) > 3


# Findings


def test_supported_findings_are_known_and_spread_over_all_groups() -> None:
    groups = {f.name: f.group for f in default_findings()}
    assert len(SUPPORTED_FINDINGS) >= 24
    assert {groups[name] for name in SUPPORTED_FINDINGS} == set(groups.values())


@pytest.mark.parametrize("finding", SUPPORTED_FINDINGS)
def test_a_finding_changes_the_head_and_is_in_the_labels_with_its_parents(finding: str, plain: SyntheticHead) -> None:
    head = head_with(finding)
    assert finding in head.labels
    parents = {f.name: f.parent for f in default_findings()}
    assert all(parents[name] in head.labels for name in head.labels if parents[name])
    changed = np.abs(head.hu - plain.hu) > 3
    assert changed.sum() >= 3
    # The air around the head and the noise stay as they are; only streaks of metal reach that far.
    metal = {"foreign_body", "aneurysm_clip_or_coil", "embolization_material", "electrode_or_lead"}
    assert finding in metal or not changed[:, :3].any()
    assert changed.mean() < 0.35


BLEEDS = [
    "intraparenchymal_hemorrhage",
    "intraventricular_hemorrhage",
    "aneurysmal_subarachnoid_hemorrhage",
    "acute_subdural_hematoma",
    "epidural_hemorrhage",
    "hemorrhagic_contusion",
    "hyperdense_artery_sign",
]


@pytest.mark.parametrize("finding", BLEEDS)
def test_clotted_blood_is_denser_than_brain(finding: str, finer: SyntheticHead) -> None:
    plain = finer.hu
    hu = head_with(finding, plain.shape).hu
    blood = hu[(hu - plain > 18) & (plain < 60) & (plain > -30)]
    assert blood.size >= 3
    assert 45 < np.median(blood) < 90


DARKER = {
    "acute_ischemic_infarct": (10, 30),
    "subacute_infarct": (5, 26),
    "chronic_infarct": (-5, 24),
    "posterior_circulation_infarct": (8, 30),
    "lacunar_infarct": (-5, 28),
    "small_vessel_ischemic_disease": (5, 29),
    "encephalomalacia_gliosis": (-8, 24),
    "cerebral_atrophy": (-10, 26),
    "hydrocephalus": (-8, 26),
    "arachnoid_cyst": (-8, 24),
    "subdural_hygroma": (-8, 26),
    "resection_cavity": (-8, 26),
}


@pytest.mark.parametrize(("finding", "bounds"), DARKER.items())
def test_fluid_and_infarcts_are_darker_than_brain(finding: str, bounds: tuple[int, int], plain: SyntheticHead) -> None:
    difference = change(finding, plain)
    hu = plain.hu + difference
    dark = hu[(difference < -7) & (plain.hu > 15) & (plain.hu < 55)]
    assert dark.size >= 4
    assert bounds[0] < np.median(dark) < bounds[1]


EXTREMES = {
    "pneumocephalus": (-1024, -300),
    "intracranial_lipoma": (-130, -8),
    "intracranial_calcification": (70, 600),
    "foreign_body": (1000, 3071),
    "aneurysm_clip_or_coil": (300, 3071),
    "ventricular_shunt_or_drain": (60, 1500),
    "electrode_or_lead": (100, 3071),
}


@pytest.mark.parametrize(("finding", "bounds"), EXTREMES.items())
def test_air_fat_calcium_and_metal(finding: str, bounds: tuple[int, int], finer: SyntheticHead) -> None:
    plain = finer.hu
    hu = head_with(finding, plain.shape).hu
    inside = (plain > -20) & (plain < 60)
    values = hu[inside]
    extreme = values.min() if bounds[0] < 0 else values.max()
    assert bounds[0] <= extreme <= bounds[1]


@pytest.mark.parametrize("finding", ["calvarial_fracture", "burr_hole", "craniotomy_or_craniectomy"])
def test_holes_in_the_skull_are_in_bone(finding: str, plain: SyntheticHead) -> None:
    difference = change(finding, plain)
    lost = difference < -80
    assert lost.sum() >= 3
    assert np.median(plain.hu[lost]) > 250


@pytest.mark.parametrize(
    "finding",
    ["intraparenchymal_hemorrhage", "lacunar_infarct", "burr_hole", "intracranial_lipoma", "scalp_hematoma"],
)
def test_a_local_finding_leaves_the_rest_alone(finding: str, plain: SyntheticHead) -> None:
    assert (np.abs(change(finding, plain)) > 3).mean() < 0.06


def test_parents_and_consequences() -> None:
    head = make_head(5, ["acute_subdural_hematoma"], shape=(8, 48, 48))
    assert {"acute_subdural_hematoma", "subdural_hemorrhage", "intracranial_hemorrhage_any"} <= head.labels
    shifted = make_head(5, ["midline_shift"], shape=(8, 48, 48))
    assert {"midline_shift", "mass_effect", "intracranial_hemorrhage_any"} <= shifted.labels
    assert "ventriculomegaly" in make_head(5, ["hydrocephalus"], shape=(8, 48, 48)).labels
    assert "midline_shift" not in make_head(5, ["lacunar_infarct"], shape=(8, 48, 48)).labels


@pytest.mark.parametrize("seed", range(6))
def test_a_shift_that_is_asked_for_is_there(seed: int) -> None:
    assert {"midline_shift", "mass_effect"} <= make_head(seed, ["midline_shift"], shape=(8, 48, 48)).labels


def test_a_shift_moves_the_ventricles() -> None:
    shape, seed = (32, 128, 128), 10  # an old head with wide ventricles

    def middle(hu: np.ndarray) -> float:
        part = hu[15:20, 35:75, 40:88]
        fluid = (part > -10) & (part < 17)
        return float(np.nonzero(fluid)[2].mean())

    plain = make_head(seed, shape=shape).hu
    shifted = make_head(seed, ["midline_shift"], shape=shape).hu
    assert abs(middle(shifted) - middle(plain)) * 1.8 > 2


def test_several_findings_at_once() -> None:
    names = ("calvarial_fracture", "scalp_hematoma", "acute_subdural_hematoma", "pneumocephalus")
    head = make_head(8, names, shape=SMALL)
    assert set(names) <= head.labels


def test_an_unknown_finding_is_refused_with_a_near_name() -> None:
    with pytest.raises(ConfigError, match=r"'acute_subdural_hematom' .*Did you mean 'acute_subdural_hematoma'"):
        make_head(0, ["acute_subdural_hematom"], shape=SMALL)
    with pytest.raises(ConfigError, match="Supported: intracranial_hemorrhage_any"):
        make_head(0, ["???"], shape=SMALL)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed: expected"),
        ({"seed": 0, "shape": (4, 4)}, "shape: expected"),
        ({"seed": 0, "shape": (0, 64, 64)}, "shape: expected"),
        ({"seed": 0, "spacing_mm": (0.0, 1.0, 1.0)}, "spacing_mm: expected"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_head(**arguments)  # type: ignore[arg-type]


def test_random_findings_are_supported_and_often_none() -> None:
    rng = np.random.default_rng(0)
    draws = [random_findings(rng) for _ in range(1500)]
    assert all(set(draw) <= set(SUPPORTED_FINDINGS) for draw in draws)
    assert 0.2 < np.mean([not draw for draw in draws]) < 0.5
    generic = {"intracranial_hemorrhage_any", "subdural_hemorrhage", "subarachnoid_hemorrhage", "extra_axial_mass"}
    assert {name for draw in draws for name in draw} == set(SUPPORTED_FINDINGS) - generic
    assert random_findings(np.random.default_rng(3)) == random_findings(np.random.default_rng(3))


# Files


def test_a_dicom_series_reads_back(plain: SyntheticHead, tmp_path: Path) -> None:
    paths = write_dicom_series(plain, tmp_path / "series")
    assert len(paths) == SMALL[0]
    assert sorted(p.name for p in tmp_path.joinpath("series").iterdir()) == [p.name for p in paths]
    items = [pydicom.dcmread(path) for path in paths]
    volume = np.stack([i.pixel_array * float(i.RescaleSlope) + float(i.RescaleIntercept) for i in items])
    assert np.abs(volume - plain.hu).max() <= 0.5
    first = items[0]
    assert (first.Modality, first.BodyPartExamined, str(first.PatientName)) == ("CT", "HEAD", "SYNTHETIC")
    assert list(first.ImageType) == ["ORIGINAL", "PRIMARY", "AXIAL"]
    assert first.SOPClassUID == pydicom.uid.CTImageStorage
    assert first.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
    assert len({i.SOPInstanceUID for i in items}) == len(items)
    assert len({i.SeriesInstanceUID for i in items}) == 1
    assert all(i.SOPInstanceUID.is_valid for i in items)
    heights = [float(i.ImagePositionPatient[2]) for i in items]
    assert np.diff(heights) == pytest.approx(plain.spacing_mm[0])
    assert [float(s) for s in first.PixelSpacing] == pytest.approx(plain.spacing_mm[1:])
    assert [float(c) for c in first.ImageOrientationPatient] == [1, 0, 0, 0, 1, 0]


def test_files_of_a_seed_are_the_same(plain: SyntheticHead, tmp_path: Path) -> None:
    one = write_dicom_series(plain, tmp_path / "a")
    two = write_dicom_series(make_head(SEED, shape=SMALL), tmp_path / "b")
    assert [p.read_bytes() for p in one] == [p.read_bytes() for p in two]
    other = write_dicom_series(make_head(SEED + 1, shape=SMALL), tmp_path / "c")
    assert pydicom.dcmread(other[0]).StudyInstanceUID != pydicom.dcmread(one[0]).StudyInstanceUID


def dicom_position(item: pydicom.Dataset, row: int, col: int) -> np.ndarray:
    origin = np.array(item.ImagePositionPatient, dtype=float)
    direction = np.array(item.ImageOrientationPatient, dtype=float)
    row_mm, col_mm = (float(s) for s in item.PixelSpacing)
    return np.asarray(origin + direction[:3] * col * col_mm + direction[3:] * row * row_mm)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_and_dicom_agree_on_left_and_right(suffix: str, tmp_path: Path) -> None:
    head = make_head(SEED, ["acute_subdural_hematoma"], shape=SMALL)
    items = [pydicom.dcmread(p) for p in write_dicom_series(head, tmp_path / "series")]
    path = write_nifti(head, tmp_path / f"head{suffix}")
    image: Any = nibabel.load(path)
    axes: Any = nibabel.aff2axcodes
    assert axes(image.affine) == ("L", "P", "S")
    data = np.asarray(image.dataobj)
    for index, row, col in ((0, 0, 0), (12, 40, 70), (19, 95, 3)):
        where = dicom_position(items[index], row, col) * (-1, -1, 1)  # LPS to RAS
        i, j, k = np.rint(np.linalg.inv(image.affine) @ [*where, 1])[:3].astype(int)
        assert (i, j, k) == (col, row, index)
        assert data[i, j, k] == head.hu[index, row, col]


def test_a_nifti_name_must_say_so(plain: SyntheticHead, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.nii"):
        write_nifti(plain, tmp_path / "head.dcm")


def test_a_tilted_gantry_shears_the_volume_and_keeps_the_anatomy(tmp_path: Path) -> None:
    head = make_head(6, shape=(32, 96, 96))
    tilt = 17.0
    items = [pydicom.dcmread(p) for p in write_dicom_series(head, tmp_path, tilt_degrees=tilt)]
    orientation = np.array(items[0].ImageOrientationPatient, dtype=float)
    assert orientation[:3] == pytest.approx([1, 0, 0])
    assert orientation[3:] == pytest.approx([0, math.cos(math.radians(tilt)), -math.sin(math.radians(tilt))])
    steps = np.diff([list(map(float, i.ImagePositionPatient)) for i in items], axis=0)
    assert steps == pytest.approx(np.tile([0, 0, head.spacing_mm[0]], (len(items) - 1, 1)))
    assert len(items) > 32
    assert items[-1].pixel_array.max() < 0  # the vertex is still in the volume
    # Every voxel shows what lies at its position in the untilted head.
    straight = [pydicom.dcmread(p) for p in write_dicom_series(head, tmp_path / "straight")]
    low = np.array(straight[0].ImagePositionPatient, dtype=float)
    rng = np.random.default_rng(0)
    differences = []
    for index, row, col in rng.integers((8, 20, 24), (24, 76, 72), (400, 3)):
        x, y, z = dicom_position(items[index], row, col) - low
        place = np.array([z / head.spacing_mm[0], y / head.spacing_mm[1], x / head.spacing_mm[2]])
        near = np.rint(place).astype(int)
        if (near >= 0).all() and (near < head.hu.shape).all() and abs(place[0] - near[0]) < 0.1:
            differences.append(float(items[index].pixel_array[row, col]) - head.hu[tuple(near)])
    assert len(differences) > 30
    assert np.median(np.abs(differences)) < 8


def test_a_tilt_that_no_gantry_has_is_refused(plain: SyntheticHead, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tilt_degrees: expected -30 to 30"):
        write_dicom_series(plain, tmp_path, tilt_degrees=45)
