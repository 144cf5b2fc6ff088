"""Tells sharp (bone, lung) reconstruction kernels from smooth ones by the makers' names for them."""

from __future__ import annotations

import re

__all__ = ["is_bone_kernel"]

_WORDS = frozenset("BONE BONEPLUS BONE+ EDGE LUNG ULTRA DETAIL SHARP D E L YB YC YD YE".split())  # noqa: SIM905 - words read better as one text
"""GE (words) and Philips (letters)."""


def is_bone_kernel(kernel: str) -> bool:
    """Whether a convolution kernel (DICOM 0018,1210) is a sharp one; unknown names count as smooth.

    Args:
        kernel: such as ``H31s``, ``BONEPLUS``, ``FC30``.
    """
    words = kernel.upper().replace("\\", " ").split()
    for word in words:
        if word in _WORDS:
            return True
        if match := re.fullmatch(r"FC(\d\d)\w*", word):  # Toshiba, Canon: 30s and 80s bone, 50s lung
            return match[1][0] in "358"
        if match := re.fullmatch(r"[A-Z]{1,2}(\d\d)[A-Z]?\d?", word):  # Siemens: the number is the sharpness
            return int(match[1]) >= 55
    return False
