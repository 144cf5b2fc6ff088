"""What identifies a training, and what an earlier one left behind."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from molre_edge.errors import RunError
from molre_edge.model.checkpoint import plain_names, weights_digest
from molre_edge.model.checkpoint_file import BACKBONE_PREFIX, read_checkpoint_file
from molre_edge.model.classifier import HeadCTClassifier
from molre_edge.regular import open_regular, sha256_of_open
from molre_edge.training.data_manifest import Manifest
from molre_edge.training.loop import TrainSettings
from molre_edge.training.state import TrainingState, differences, load_state
from molre_edge.training.volumes import Volumes

__all__ = ["check_data", "data_digest", "is_finished", "make_plan", "take_back", "take_up"]


def make_plan(model: HeadCTClassifier, manifest: Manifest, settings: TrainSettings) -> dict[str, Any]:
    """Everything that determines the result of a training, except the scans' content, as plain data.

    Args:
        model: before training.
        manifest: its rows of ``train`` and ``val`` count; those of ``test`` do not.
        settings: of the loop.
    """
    rows = hashlib.sha256()
    for split in ("train", "val"):
        for case in manifest.of(split):
            rows.update(f"{case.name}|{split}|".encode("utf-8", "surrogateescape"))
            rows.update(case.labels.tobytes())
    return {
        "config": model.config.to_dict(),
        "settings": asdict(settings),
        "first weights": weights_digest(model.state_dict()),
        "rows of the manifest": rows.hexdigest(),
    }


def data_digest(volumes: Iterable[Volumes]) -> str:
    """Of the prepared scans: changes with a scan's files, and with those that can be used."""
    names = ["\n".join(file.name for file in each.files) for each in volumes]
    return hashlib.sha256("\n\n".join(names).encode()).hexdigest()


def take_up(out: Path, state_file: Path, plan: dict[str, Any], asked: dict[str, Any], *, force: bool) -> TrainingState:
    """Return the state to continue from, or a new one. Other trainings are never overwritten without `force`.

    Args:
        out: the checkpoint to write.
        state_file: of the training.
        plan: from :func:`make_plan`.
        asked: other settings of the finished checkpoint: how its thresholds are set, what it stores.
        force: allow replacing an earlier training or checkpoint.

    Raises:
        RunError: another checkpoint or training exists there; the message says what differs.
    """
    state = load_state(state_file)
    if state is None:
        if out.exists() and not force:
            raise RunError(
                f"{out}: already exists, and the training that wrote it is not beside it; choose another name with -o, "
                f"or replace it with --force"
            )
        return TrainingState(plan)
    differing = differences(state.plan, plan)
    if state.result is not None and not differing:
        differing = differences(state.result["asked"], asked)
        if not differing and out.exists() and _digest(out) != state.result["checkpoint_sha256"]:
            differing = [f"{out.name}, which something else has written since"]
        if differing and force:
            state.result = None  # the epochs are good: only the checkpoint is written anew
    elif differing and force:
        return TrainingState(plan)
    if differing and not force:
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        kind = "a finished training" if state.result is not None else "an interrupted training"
        raise RunError(
            f"{out}: belongs to {kind} that differs in {', '.join(differing[:3])}{more}; choose another name with -o, "
            f"or replace it with --force"
        )
    return state


def _digest(path: Path) -> str | None:
    """SHA-256 of a file; None for what is not a regular file, such as a pipe, which would be waited for."""
    try:
        with open_regular(path) as file:
            return sha256_of_open(file)
    except OSError:
        return None


def check_data(state: TrainingState, digest: str, *, force: bool) -> TrainingState:
    """Return the state if it was trained on these scans.

    Raises:
        RunError: scans changed, appeared or disappeared since, and `force` is not set.
    """
    if state.epoch == 0:
        state.data = digest
    if state.data == digest:
        return state
    if not force:
        raise RunError(
            "the scans changed after this training started, or the set of usable scans did; start it again with "
            "--force, or choose another name with -o"
        )
    return TrainingState(state.plan, digest)


def is_finished(state: TrainingState, out: Path) -> bool:
    """Whether the checkpoint is there as this training wrote it; :func:`take_up` has compared its hash."""
    return state.result is not None and out.is_file()


def take_back(model: HeadCTClassifier, checkpoint: Path) -> None:
    """Give a model the trained weights of its own finished checkpoint.

    Raises:
        CheckpointError: it can't be read.
    """
    file = read_checkpoint_file(checkpoint)
    backbone = {BACKBONE_PREFIX + name: tensor for name, tensor in (file.backbone or {}).items()}
    weights, own = {**file.state, **backbone}, model.state_dict()
    with torch.no_grad():
        for name, plain in plain_names(model).items():
            if plain in weights:
                own[name].copy_(weights[plain])
