"""The state of a training on disk, written whole after every epoch, so that a killed training can continue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from molre_edge.errors import RunError, shown
from molre_edge.files import write_whole
from molre_edge.regular import open_regular

__all__ = ["TrainingState", "differences", "load_state", "save_state"]

_FORMAT = "molre-edge-training-1"


@dataclass
class TrainingState:
    """Everything that the next epoch depends on, and the result once there is one.

    Attributes:
        plan: what is trained, plain data: configuration, settings, digests of the first weights and of the manifest.
        data: digest of the scans that are trained on.
        epoch: epochs done.
        trainable: the weights that learn, after the last epoch.
        optimizer: its state.
        best: the weights of the best epoch so far.
        best_epoch: its number, from 1; 0 before the first.
        best_score: its score on the validation split.
        rows: the metrics of every epoch.
        result: plain data about the finished checkpoint; None until it is written.
    """

    plan: dict[str, Any]
    data: str = ""
    epoch: int = 0
    trainable: dict[str, Tensor] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_epoch: int = 0
    best_score: float = float("-inf")
    rows: list[dict[str, float]] = field(default_factory=list)
    result: dict[str, Any] | None = None


def save_state(path: Path, state: TrainingState) -> None:
    """Write the state whole."""
    with write_whole(path) as partial, partial.open("wb") as file:
        torch.save({"format": _FORMAT, **vars(state)}, file)


def load_state(path: Path) -> TrainingState | None:
    """Load the state of a training; None if there is none yet.

    Raises:
        RunError: the file is damaged, or another release wrote it.
    """
    if not path.exists():
        return None
    try:
        with open_regular(path) as file:
            data = torch.load(file, map_location="cpu", weights_only=True)
        if data.pop("format") == _FORMAT:
            return TrainingState(**data)
    except Exception as error:  # a damaged archive raises all kinds, some with advice not to be followed
        raise RunError(
            f"{path}: not a complete training state ({type(error).__name__}); delete it to start again"
        ) from error
    raise RunError(f"{path}: was written by another release; delete it to start again")


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """List the differences of two plans, each as ``settings.lr (0.001 there, 0.002 now)``."""
    old, new = dict(_flat(there)), dict(_flat(here))
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return [f"{name} ({shown(old.get(name))} there, {shown(new.get(name))} now)" for name in names]


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
