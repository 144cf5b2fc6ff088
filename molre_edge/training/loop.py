"""The training loop: plain PyTorch, one device.

No loop library (Lightning, Accelerate): what is left of the loop without one is forty lines, and resuming to the same
metrics after a kill needs its state in our own hands anyway.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from molre_edge.errors import ConfigError, RunError
from molre_edge.model.classifier import HeadCTClassifier
from molre_edge.model.standardisation import standardise_routers
from molre_edge.parity import auc, sigmoid
from molre_edge.training.gates import gate_entropy, spread_between_scans
from molre_edge.training.loss import focal_loss, prevalence_weights
from molre_edge.training.samples import Samples, predict
from molre_edge.training.state import TrainingState

__all__ = ["TrainSettings", "Trained", "macro_auc", "train_model"]

_MEASURED_ON = 256
"""Scans at most that say what a router's input is like: enough for means and deviations."""


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """How to train.

    Attributes:
        epochs: at most.
        batch: scans per gradient step.
        accumulate: batches whose gradients are summed before each optimizer step.
        lr: the largest learning rate, reached after the warm-up.
        router_lr: likewise, of the routers; None for `lr`.
        weight_decay: of AdamW, on matrices only.
        warmup: share of all steps in which the learning rate rises; a cosine takes it to zero in the rest.
        patience: epochs without a better validation score before training ends.
        gamma: of the focal loss.
        clip: largest norm of a step's gradient.
        train_backbone: also train the backbone, to pretrain small ones.
        seed: of weights and order.
    """

    epochs: int = 30
    batch: int = 8
    accumulate: int = 1
    lr: float = 1e-3
    router_lr: float | None = None
    weight_decay: float = 0.01
    warmup: float = 0.1
    patience: int = 10
    gamma: float = 2.0
    clip: float = 1.0
    train_backbone: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("epochs", "batch", "accumulate", "patience"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("lr", "router_lr", "clip"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"{name}: expected a number above 0, got {value}")
        for name in ("weight_decay", "gamma"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name}: expected a number of at least 0, got {getattr(self, name)}")
        if not 0 <= self.warmup < 1:
            raise ConfigError(f"warmup: expected a share from 0 up to below 1, got {self.warmup}")


@dataclass(frozen=True, eq=False)
class Trained:
    """State of the model after training.

    Attributes:
        best_epoch: whose weights the model now has, from 1.
        best_score: mean AUC of that epoch on the validation split, or minus its loss where no AUC can be computed.
        epochs: run in all.
        rows: epoch, lr, losses, validation AUC, seconds and, with routers, the gates' entropy (nats, mean over routers)
            and spread between the validation scans, of every epoch.
    """

    best_epoch: int
    best_score: float
    epochs: int
    rows: tuple[dict[str, float], ...]


def train_model(
    model: HeadCTClassifier,
    train: Samples,
    val: Samples,
    settings: TrainSettings,
    state: TrainingState,
    *,
    save: Callable[[TrainingState], None] = lambda state: None,
    on_epoch: Callable[[dict[str, float]], None] = lambda row: None,
) -> Trained:
    """Train adapters, routers, pooling and head, from where the state is.

    From the state after any epoch, a training ends in the same weights and metrics: an epoch's order comes from the
    seed and its number alone.

    Args:
        model: on its device, with its first weights; ends with those of the best epoch.
        train: the scans to train on.
        val: the scans that the best epoch is chosen on.
        settings: of the loop.
        state: a new one, or one that `save` was given in an earlier call; changes.
        save: receives the state after each epoch.
        on_epoch: receives each epoch's metrics, those of earlier calls first.

    Raises:
        ConfigError: the backbone is trained, and a step has fewer than 2 scans.
        RunError: a loss is not finite.
    """
    if settings.train_backbone and min(settings.batch, len(train)) < 2:
        raise ConfigError(
            f"batch {settings.batch}, {len(train)} scans: training the backbone needs at least 2 scans per step"
        )
    parameters = _learning(model, settings)
    optimizer = _optimizer(parameters, settings)
    peaks = [float(group["lr"]) for group in optimizer.param_groups]
    if state.epoch:
        _put(model, state.trainable)
        optimizer.load_state_dict(state.optimizer)
    for row in state.rows:
        on_epoch(row)
    weights = prevalence_weights(torch.from_numpy(train.labels)).to(next(model.parameters()).device)
    while state.epoch < settings.epochs and state.epoch - state.best_epoch < settings.patience:
        # with a frozen backbone, only adapters before a router change what it reads, and they start at no change
        if state.epoch == 0 or settings.train_backbone:
            standardise_routers(model, partial(_look, model, train, settings))
        row = _epoch(model, train, optimizer, peaks, weights, settings, state.epoch)
        row |= _validate(model, val, weights.cpu(), settings)
        if not math.isfinite(row["train_loss"] + row["val_loss"]):
            raise RunError(f"epoch {state.epoch + 1}: the loss is NaN or infinite; lower the learning rate (--lr)")
        state.epoch += 1
        score = row["val_auc"] if math.isfinite(row["val_auc"]) else -row["val_loss"]
        state.trainable, state.optimizer = _take(model, parameters), optimizer.state_dict()
        if score > state.best_score:
            state.best, state.best_epoch, state.best_score = state.trainable, state.epoch, score
        state.rows.append(row)
        save(state)
        on_epoch(row)
    _put(model, state.best)
    return Trained(state.best_epoch, state.best_score, state.epoch, tuple(state.rows))


def _look(model: HeadCTClassifier, samples: Samples, settings: TrainSettings) -> None:
    """Pass some scans through the model, those that the seed chooses."""
    model.eval()
    chosen = np.random.default_rng(settings.seed).permutation(len(samples))[:_MEASURED_ON]
    for start in range(0, len(chosen), settings.batch):
        samples.answer(model, chosen[start : start + settings.batch].tolist())


def _learning(model: HeadCTClassifier, settings: TrainSettings) -> dict[str, nn.Parameter]:
    """The parameters that learn: all but the backbone's own, and those too where the backbone is trained."""
    model.requires_grad_(True)
    model.backbone.requires_grad_(settings.train_backbone)
    for name, parameter in model.named_parameters():
        if name.endswith((".lora_A", ".lora_B")):
            parameter.requires_grad_(True)
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def _optimizer(parameters: dict[str, nn.Parameter], settings: TrainSettings) -> torch.optim.AdamW:
    """AdamW with the peak of its learning rate as ``lr`` of each group; routers have groups of their own if asked."""
    routers = {name for name in parameters if settings.router_lr is not None and name.startswith("routers.")}
    groups: list[dict[str, Any]] = []
    for names, lr in ((parameters.keys() - routers, settings.lr), (routers, settings.router_lr)):
        chosen = [p for name, p in parameters.items() if name in names]
        groups += [
            {"params": [p for p in chosen if p.dim() > 1], "weight_decay": settings.weight_decay, "lr": lr},
            {"params": [p for p in chosen if p.dim() <= 1], "weight_decay": 0.0, "lr": lr},
        ]
    return torch.optim.AdamW([group for group in groups if group["params"]])


def _epoch(
    model: HeadCTClassifier,
    samples: Samples,
    optimizer: torch.optim.Optimizer,
    peaks: list[float],
    weights: Tensor,
    settings: TrainSettings,
    epoch: int,
) -> dict[str, float]:
    start = time.perf_counter()
    model.train(settings.train_backbone)  # a frozen backbone stays as it was validated, its norms included
    torch.manual_seed(settings.seed * 100_003 + epoch)
    order = np.random.default_rng([settings.seed, epoch]).permutation(len(samples))
    batches = _batches(order, settings.batch)
    steps = math.ceil(len(batches) / settings.accumulate)
    total, lr = 0.0, settings.lr
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for step in range(steps):
        of_steps = epoch * steps + step, settings.epochs * steps
        lr = _rate(settings.lr, settings, *of_steps)
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = _rate(peak, settings, *of_steps)
        part = batches[step * settings.accumulate : (step + 1) * settings.accumulate]
        scans = sum(len(batch) for batch in part)
        for batch in part:
            with _mixed_precision(weights.device):
                logits = samples.answer(model, batch.tolist()).logits
            labels = torch.from_numpy(samples.labels[batch]).to(weights.device)
            loss = focal_loss(logits.float(), labels, weights, gamma=settings.gamma) * (len(batch) / scans)
            loss.backward()
            total += float(loss.detach()) * scans
        nn.utils.clip_grad_norm_(parameters, settings.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    seconds = time.perf_counter() - start
    return {"epoch": epoch + 1, "lr": lr, "train_loss": total / len(samples), "seconds": round(seconds, 3)}


def _batches(order: npt.NDArray[np.int64], size: int) -> list[npt.NDArray[np.int64]]:
    """Batches of `size`; a last one of a single scan, from which no batch norm learns, joins the one before."""
    batches = [order[i : i + size] for i in range(0, len(order), size)]
    if len(batches) > 1 and size > 1 and len(batches[-1]) == 1:
        batches[-2:] = [np.concatenate(batches[-2:])]
    return batches


def _validate(model: HeadCTClassifier, samples: Samples, weights: Tensor, settings: TrainSettings) -> dict[str, float]:
    answers = predict(model, samples, settings.batch)
    logits, gates = answers.logits, answers.gates
    loss = focal_loss(
        torch.from_numpy(np.asarray(logits)), torch.from_numpy(samples.labels), weights, gamma=settings.gamma
    )
    row = {"val_loss": float(loss), "val_auc": macro_auc(logits, samples.labels)}
    if gates is not None and gates.shape[-1] > 1:
        row |= {"gate_entropy": float(gate_entropy(gates).mean()), "gate_spread": spread_between_scans(gates)}
    return row


def macro_auc(logits: npt.NDArray[Any], labels: npt.NDArray[np.float32]) -> float:
    """Mean AUC over the findings that have both classes; NaN where none has."""
    scores = sigmoid(logits)
    areas = []
    for i, column in enumerate(labels.T):
        known = ~np.isnan(column)
        positive = column[known] == 1
        if positive.any() and not positive.all():
            areas.append(auc(scores[known, i], positive))
    return float(np.mean(areas)) if areas else float("nan")


def _rate(peak: float, settings: TrainSettings, step: int, steps: int) -> float:
    warm = max(1, round(settings.warmup * steps))
    if step < warm:
        return peak * (step + 1) / warm
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _mixed_precision(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """bfloat16 on a GPU that has it: no loss scaling is needed; float32 elsewhere."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return contextlib.nullcontext()


def _take(model: HeadCTClassifier, parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """A copy of what learns, and of all buffers: those of batch norms change in pretraining."""
    known = {name for name, _ in model.named_parameters()}
    buffers = {name: value for name, value in model.state_dict().items() if name not in known}
    return {name: value.detach().cpu().clone() for name, value in {**parameters, **buffers}.items()}


def _put(model: HeadCTClassifier, weights: dict[str, Tensor]) -> None:
    own = model.state_dict()
    with torch.no_grad():
        for name, value in weights.items():
            own[name].copy_(value)
