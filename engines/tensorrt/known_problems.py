"""Versions of TensorRT that are known to answer wrongly for a backbone, on some GPUs or all, from public reports."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from molre_edge.bundle.bundle import Bundle
from molre_edge.engines.tensorrt.api import version_numbers
from molre_edge.specs import QUANTISED, Precision

__all__ = ["is_unfused", "known_problem"]

_ISSUE = "https://github.com/NVIDIA/TensorRT/issues/"
_HALF = (Precision.FP16, *QUANTISED)
"""An int8 or fp8 graph is float16 wherever it is not in 8 bits."""
_ALL = (Precision.FP32, *_HALF)
_WITH_ATTENTION = ("dinov3", "siglip", "headct-vit", "pillar0", "davit")


@dataclass(frozen=True)
class _Report:
    """What was reported of TensorRT.

    Attributes:
        lowest: first version, (major, minor).
        highest: last version that was reported; later ones were not tried or are right.
        backbones: how the backbone's id begins.
        precisions: of the graph.
        what: what the version does.
        where: number of the issue.
        sm: GPU that it was seen on, if others were right or not tried; empty for any.
        fused: the kernel that fuses an attention is at fault, so a graph whose attention can't be fused is right.
    """

    lowest: tuple[int, int]
    highest: tuple[int, int]
    backbones: tuple[str, ...]
    precisions: tuple[Precision, ...]
    what: str
    where: int
    sm: str = ""
    fused: bool = False


_REPORTS = (
    _Report((10, 3), (10, 3), ("dinov3",), _HALF, "answers wrongly for DINOv3 in float16", 4723),
    _Report((10, 4), (10, 4), ("dinov3",), _ALL, "answers wrongly for DINOv3, in float32 too", 4742),
    _Report((10, 15), (10, 15), ("dinov3-vitl",), _ALL, "answers wrongly for DINOv3 ViT-L", 4723),
    _Report(
        (10, 0), (10, 16), _WITH_ATTENTION, _HALF,
        "answers wrongly on consumer Blackwell GPUs (sm120) where it fuses a transformer's attention in float16", 4837,
        sm="sm120", fused=True,
    ),
)  # fmt: skip


def is_unfused(bundle: Bundle) -> bool:
    """Whether the bundle was exported with ``--attention unfused``."""
    return bundle.manifest.get("attention") == "unfused"


def known_problem(
    bundle: Bundle, precision: Precision, name: str, version: str, capabilities: Collection[str]
) -> str | None:
    """What is known against a version of the library for the bundle's backbone.

    Args:
        bundle: an open bundle.
        precision: of the graph.
        name: of the library: ``TensorRT`` or ``TensorRT-RTX``.
        version: of the library.
        capabilities: of the GPUs that the engine is for, such as ``sm120``.

    Returns:
        A sentence; None if nothing is known.
    """
    backbone = str(bundle.manifest["config"]["backbone"]["id"])
    for report in _REPORTS:
        if (
            name == "TensorRT"
            and report.lowest <= version_numbers(version)[:2] <= report.highest
            and backbone.startswith(report.backbones)
            and precision in report.precisions
            and (not report.sm or report.sm in capabilities)
            and not (report.fused and is_unfused(bundle))
        ):
            remedy = ", or export with --attention unfused" if report.fused else ""
            return (
                f"{name} {version} was reported to be one that {report.what} ({_ISSUE}{report.where}): run "
                f"'molre-edge verify' before you use its answers, and prefer another version{remedy}"
            )
    return None
