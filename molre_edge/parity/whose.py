"""Whose answers an engine is compared with, in the words of a verdict's first line."""

from __future__ import annotations

from typing import Literal, get_args

__all__ = [
    "GIVEN",
    "Given",
    "as_golden_rebuild",
    "as_own_answers",
    "as_own_model",
    "as_rebuild",
]

Given = Literal["path", "hu", "grid"]
"""What the user's own model got: the scan's path, its HU volume, or the volume on the model's grid."""

GIVEN: tuple[Given, ...] = get_args(Given)

_FROM: dict[Given, str] = {
    "path": "from scan files",
    "hu": "from HU volumes: differences in reading files can't show here",
    "grid": "from volumes on the model's grid: differences in reading and resampling can't show here",
}
_BLIND = "differences in preprocessing can't show here"


def as_rebuild(checkpoint: str) -> str:
    """The words for molre-edge's own PyTorch model, rebuilt from a checkpoint, on the same volumes as the engine."""
    return f"as molre-edge's rebuild of {checkpoint} answers: {_BLIND}"


def as_golden_rebuild(volumes: int) -> str:
    """The words for golden answers of that model."""
    return f"as molre-edge's rebuild of the checkpoint answered {_count(volumes, 'golden volume')} at export: {_BLIND}"


def as_own_answers(file: str, scans: int, given: Given) -> str:
    """The words for golden answers that the user's own model gave, from `file`."""
    return f"as your model answered ({file}, {_count(scans, 'scan')}, {_FROM[given]})"


def as_own_model(name: str, scans: int, given: Given) -> str:
    """The words for the user's own model, called `name`, that answers the scans of a run."""
    return f"as your model answers ({name}, {_count(scans, 'scan')}, {_FROM[given]})"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
