"""The state of a training on disk, whole after every epoch, so that a killed one goes on as if nothing had happened."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from molre_edge.errors import RunError
from molre_edge.files import write_whole

__all__ = ["TrainingState", "load_state", "save_state"]

_FORMAT = "molre-edge-training"


@dataclass
class TrainingState:
    """Everything that the next epoch depends on.

    Attributes:
        key: hash of configuration, settings and data; a state of another training is refused.
        epoch: epochs done.
        trainable: the weights that learn.
        optimizer: its state.
        best: the weights of the best epoch so far.
        best_epoch: its number, from 1; 0 before the first.
        best_score: its score on the validation split.
        rows: the metrics of every epoch.
    """

    key: str
    epoch: int = 0
    trainable: dict[str, Tensor] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_epoch: int = 0
    best_score: float = float("-inf")
    rows: list[dict[str, float]] = field(default_factory=list)


def save_state(path: Path, state: TrainingState) -> None:
    """Write the state whole."""
    with write_whole(path) as partial:
        torch.save({"format": _FORMAT, **vars(state)}, partial)


def load_state(path: Path, key: str) -> TrainingState | None:
    """The state of this training; None where there is none yet.

    Raises:
        RunError: damaged, or of a training with another configuration, other settings or other data.
    """
    if not path.is_file():
        return None
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
        if data.pop("format") != _FORMAT:
            raise ValueError("not a training state")
        state = TrainingState(**data)
    except Exception as error:  # a damaged archive raises all kinds
        raise RunError(f"{path}: damaged ({error}); remove it to start again") from error
    if state.key != key:
        raise RunError(
            f"{path.parent}: holds a training with another configuration, other settings or other data; choose another "
            f"checkpoint with -o, or remove that folder to start again"
        )
    return state
