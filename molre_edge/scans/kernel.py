"""Tells sharp (bone, lung) reconstruction kernels from smooth ones by the makers' names for them."""

from __future__ import annotations

import re

__all__ = ["is_bone_kernel"]

_WORDS = frozenset("EDGE ULTRA DETAIL DTL INNEREAR IAC HIRES".split())  # noqa: SIM905 - words read better as one text
"""Words of GE, Canon and others, beside those of `_PARTS`."""
_PARTS = ("BONE", "SHARP", "LUNG", "KNOCHEN")
"""Parts of words: ``BONEPLUS``, ``HDBONE``, ``Y-Sharp`` (Philips), ``B_VSHARP_C`` (United Imaging), ``BODY_SHARP``."""
_ALONE = frozenset("D E L Y YA YB YC YD YE".split())  # noqa: SIM905
"""Philips: letters that are the whole name. Within another name, such as ``B_SOFT_D``, they say nothing."""


def is_bone_kernel(kernel: str) -> bool:
    """Whether a reconstruction kernel is a sharp one; unknown names count as smooth.

    Args:
        kernel: Convolution Kernel (0018,1210), such as ``H31s``, ``BONEPLUS``, ``FC30``, with the words of Convolution
            Kernel Group (0018,9316) where there are any. Several values are separated by a blank or a backslash.
    """
    values = kernel.upper().replace("\\", " ").split()
    if values and values[0] in _ALONE:
        return True
    for value in values:
        for word in re.findall(r"[A-Z0-9]+", value):
            if word in _WORDS or any(part in word for part in _PARTS):
                return True
            # Toshiba, Canon: 30s and 80s bone, 50s lung
            if (match := re.fullmatch(r"FC(\d\d)\w*", word)) and match[1][0] in "358":
                return True
            # Siemens: the number is the sharpness
            if (match := re.fullmatch(r"(?!FC)[A-Z]{1,2}(\d\d)[A-Z]?\d?", word)) and int(match[1]) >= 55:
                return True
    return False
