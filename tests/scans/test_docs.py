"""docs/concepts/scans.md names every code that a scan can be refused, ignored or warned with, and the limits."""

from __future__ import annotations

import ast
import math
import re
from pathlib import Path

from molre_edge.scans import (
    anatomy,
    choice,
    coarse,
    dicom_pixels,
    dicom_volume,
    find,
    head_place,
    head_size,
    interleave,
    limits,
    nifti_affine,
    rectify,
    split,
    stack,
)

ROOT = Path(__file__).resolve().parents[2]
POSITION = {"ScanError": 0, "ScanWarning": 0, "RejectedScan": 1, "refusal": 0}


def codes_in_source() -> set[str]:
    found = set()
    for path in (ROOT / "molre_edge" / "scans").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            found |= {
                word.value.value
                for word in node.keywords
                if word.arg == "warning" and isinstance(word.value, ast.Constant) and word.value.value
            }
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            at = POSITION.get(name)
            if at is not None and len(node.args) > at and isinstance(node.args[at], ast.Constant):
                found.add(node.args[at].value)
    return found


def test_every_code_is_documented_and_no_other() -> None:
    text = (ROOT / "docs" / "concepts" / "scans.md").read_text(encoding="utf-8")
    codes = codes_in_source()
    assert len(codes) > 40
    assert [code for code in sorted(codes) if f"`{code}`" not in text] == []
    rows = re.findall(r"^\| ((?:`[a-z_0-9]+`(?:, )?)+) \|", text, re.MULTILINE)
    documented = {code for row in rows for code in re.findall(r"`([a-z_0-9]+)`", row)}
    assert documented <= codes


def test_every_code_is_seen_in_a_test() -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "scans").rglob("test_*.py"))
    assert [code for code in sorted(codes_in_source()) if f'"{code}"' not in tests] == []


LIMITS = {
    "a field of view up to 350 mm": choice._LARGE_FIELD_MM == 350,
    "up to 160 mm, in steps of 20 mm": (choice._ENOUGH_MM, choice._COVERAGE_STEP_MM) == (160, 20),
    "slices at most 6 mm apart": choice._THIN_ENOUGH_MM == 6,
    "up to three are tried": find._ALTERNATIVES == 3,
    "At most 100,000 files": limits.MAX_FILES == 100_000,
    "(to 0.1 %)": split.SAME_SPACING == 0.001,
    "(to 0.3 degrees)": round(math.degrees(stack.SAME_DIRECTION), 1) == 0.3,
    "second, third or fourth next one": interleave._MOST_SCANS == 4,
    "below 0.8 of the neighbours'": interleave._RATIO == 0.8,
    "more than 50 HU on the mean, and twice as much": (interleave._ODD_HU, interleave._ODD_RATIO) == (50, 2),
    "wider than 240 mm, narrower than 60 mm": head_size._POSSIBLE_MM == (60, 240),
    "higher than 1.15 times its width": head_size._POSSIBLE_TALL == 1.15,
    "fewer than 4 slices": stack.MIN_SLICES == 4,
    "less than 40 mm are covered": stack.MIN_COVERAGE_MM == 40,
    "more than 2.5 mm between two slices": stack.MAX_GAP_MM == 2.5,
    "accepted up to 0.75 of the thickness": stack.MAX_UNIFORM_GAP == 0.75,
    "more than 41 degrees": int(math.degrees(math.acos(stack.MIN_AXIAL_COSINE))) == 41,
    "more than 200 mm apart in their own plane": rectify.MAX_SHIFT_MM == 200,
    "more than 450 cm² of body": anatomy._MAX_HEAD_AREA_CM2 == 450,
    "less than 150 mL of brain-like tissue": anatomy._MIN_BRAIN_ML == 150,
    "more than 30 cm² of brain, the lowest more than 90 cm²": (
        (anatomy._VERTEX_AREA_CM2, anatomy._BASE_AREA_CM2) == (30, 90)
    ),
    "outside 5 to 65 HU": anatomy._MEDIAN_HU == (5, 65),
    "a hundredth of the picture below -850 HU": (anatomy.MIN_AIR, anatomy.AIR_BELOW_HU) == (0.01, -850),
    "between -15 and 90 HU": coarse.BRAIN_HU == (-15, 90),
    "bone more than 5 % of the body": anatomy._MIN_BONE_PART == 0.05,
    "a space of 25 to 300 cm²": head_place._SKULL_CM2 == (25, 300),
    "openings of up to 24 mm": 2 * head_place._MAX_CLOSING * head_place._SEARCH_MM == 24,
    "less than 5 % of the tissue lies beside it": head_place._MAX_ELSEWHERE == 0.05,
    "the skull and 16 mm around it": head_place._AROUND_MM == 16,
    "at most 45 mm above the skull's space": head_place._ABOVE_MM == 45,
    "steps of more than 2 HU (up to 10)": (dicom_volume._FINE_HU, 2 * dicom_pixels.MAX_NEAR_HU) == (2, 10),
    "changed values by up to 5 HU": dicom_pixels.MAX_NEAR_HU == 5,
    "more than 4096 slices, 4096 pixels a side": (limits.MAX_FRAMES, limits.MAX_SIDE) == (4096, 4096),
    "536 million voxels": limits.MAX_VOXELS // 10**6 == 536,
    "at most 1 GiB": limits.MAX_VOLUME_BYTES == 1 << 30,
    "axes within 1 degree": nifti_affine._SAME_DEGREES == 1,
    "voxel sizes within 0.5 %": nifti_affine._SAME_SIZE == 0.005,
}
"""A number as the page has it -> whether the code has it too. What happens there, the other files show."""


def test_the_numbers_of_the_page_are_the_code_s() -> None:
    text = " ".join((ROOT / "docs" / "concepts" / "scans.md").read_text(encoding="utf-8").split())
    assert [words for words in LIMITS if words not in text] == []
    assert [words for words, same in LIMITS.items() if not same] == []
