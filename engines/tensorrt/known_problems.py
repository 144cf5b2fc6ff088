"""Versions of TensorRT that are known to answer wrongly for a backbone, from public reports."""

from __future__ import annotations

from molre_edge.bundle.bundle import Bundle
from molre_edge.engines.tensorrt.api import version_numbers
from molre_edge.specs import Precision

__all__ = ["known_problem"]

_ISSUE = "https://github.com/NVIDIA/TensorRT/issues/"
_HALF = (Precision.FP16, Precision.INT8)
"""An int8 graph is float16 wherever it is not INT8."""
_ALL = (Precision.FP32, *_HALF)

_KNOWN = (
    ((10, 3), "dinov3", _HALF, "answers wrongly for DINOv3 in float16", f"{_ISSUE}4723"),
    ((10, 4), "dinov3", _ALL, "answers wrongly for DINOv3, in float32 too", f"{_ISSUE}4742"),
    ((10, 15), "dinov3-vitl", _ALL, "answers wrongly for DINOv3 ViT-L", f"{_ISSUE}4723"),
)
"""Version, how the backbone's id begins, precisions, what was reported, and where."""


def known_problem(bundle: Bundle, precision: Precision, name: str, version: str) -> str | None:
    """What is known against a version of the library for the bundle's backbone, as a sentence; None if nothing is."""
    backbone = str(bundle.manifest["config"]["backbone"]["id"])
    for numbers, prefix, precisions, what, where in _KNOWN:
        same = name == "TensorRT" and version_numbers(version)[:2] == numbers
        if same and backbone.startswith(prefix) and precision in precisions:
            return (
                f"{name} {version} was reported to be one that {what} ({where}): run 'molre-edge verify' before you "
                f"use its answers, and prefer another version"
            )
    return None
