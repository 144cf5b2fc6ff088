"""Sharp and smooth kernels by the names of their makers."""

from __future__ import annotations

import pytest

from molre_edge.scans.kernel import is_bone_kernel


@pytest.mark.parametrize(
    "kernel",
    [
        "H70h", "Hr60f", "B60s", "J70h\\3", "Bl57d 3", "BONE", "BONEPLUS", "BONE+", "HD BONE", "LUNG", "EDGE", "DETAIL",
        "FC30", "FC81", "FC51", "D", "E", "L", "YA", "YB", "Y-Sharp", "Y-SHARP", "B_SHARP_C", "B_VSHARP_B",
        "B_VSHARP_C",
        "H_SHARP_D", "BODY_SHARP", "Inner_Ear_Bone", "Hr40f BONE",
    ],
)  # fmt: skip
def test_sharp_kernels(kernel: str) -> None:
    assert is_bone_kernel(kernel)


@pytest.mark.parametrize(
    "kernel",
    [
        "", "H31s", "Hr40f", "J30s\\2", "STANDARD", "STD+", "SOFT", "SYNTHETIC", "FC26", "FC64", "A", "B", "C", "UB",
        "UA",
        "B_SOFT_B", "B_SOFT_D", "B_SOFT_E", "H_SOFT_L", "Brain Standard", "CB", "Hr40f BRAIN",
    ],
)  # fmt: skip
def test_smooth_and_unknown_kernels(kernel: str) -> None:
    assert not is_bone_kernel(kernel)
