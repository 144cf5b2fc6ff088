"""The loop learns what it should, stops when it should, and goes on from any epoch as if nothing had happened."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from molre_edge.errors import ConfigError, RunError
from molre_edge.model.classifier import HeadCTClassifier
from molre_edge.model.config import ModelConfig
from molre_edge.parity import auc
from molre_edge.training import loop
from molre_edge.training.loop import Trained, TrainSettings, macro_auc, train_model
from molre_edge.training.start import new_model
from molre_edge.training.state import TrainingState

QUICK = TrainSettings(epochs=4, batch=4, lr=0.02)


def run(model: HeadCTClassifier, samples: Any, settings: TrainSettings = QUICK, **more: Any) -> Trained:
    val = more.pop("val", samples)
    return train_model(model, samples, val, settings, more.pop("state", TrainingState({})), **more)


def without_seconds(trained: Trained) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in trained.rows]


def test_it_learns_what_is_plain_to_see(model: HeadCTClassifier, samples: Any) -> None:
    trained = run(model, samples, TrainSettings(epochs=12, batch=4, lr=0.03))
    assert trained.rows[-1]["train_loss"] < 0.75 * trained.rows[0]["train_loss"]
    assert trained.best_score > 0.9 and trained.epochs == 12 == len(trained.rows)
    assert trained.best_score == max(row["val_auc"] for row in trained.rows)


@pytest.mark.parametrize("experts", [0, 1, 2])
def test_adapters_routers_pooling_and_head_learn_and_the_backbone_does_not(
    experts: int, configure: Callable[..., ModelConfig], samples: Any
) -> None:
    model = new_model(configure(experts), seed=0)
    before = copy.deepcopy(model.state_dict())
    run(model, samples, replace(QUICK, patience=1, epochs=2), val=replace(samples, labels=np.roll(samples.labels, 1)))
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    adapters = {name for name in before if name.endswith(("lora_A", "lora_B"))}
    routers = {name for name in before if name.startswith("routers.")}
    assert len(adapters) == (4 if experts else 0) and bool(routers) == (experts > 1)
    rest = {name for name in before if name.startswith(("pooling.", "head."))} - {"pooling.score.bias"}
    assert changed - {"pooling.score.bias"} == adapters | routers | rest  # a softmax does not see its bias


def test_a_backbone_that_is_trained_learns_and_its_norms_gather_statistics(
    configure: Callable[..., ModelConfig], samples: Any
) -> None:
    model = new_model(configure(0), seed=0)
    before = copy.deepcopy(model.backbone.state_dict())
    run(model, samples, replace(QUICK, train_backbone=True))
    changed = {name for name, value in model.backbone.state_dict().items() if not torch.equal(value, before[name])}
    assert {"blocks.0.down.weight", "norm.running_mean", "norm.num_batches_tracked"} <= changed


@pytest.mark.parametrize("train_backbone", [False, True])
def test_from_every_epoch_on_it_ends_in_the_same_weights_and_metrics(
    train_backbone: bool, configure: Callable[..., ModelConfig], samples: Any
) -> None:
    settings = replace(QUICK, train_backbone=train_backbone, accumulate=2, router_lr=0.05)
    states: list[TrainingState] = []
    model = new_model(configure(), seed=0)
    whole = run(model, samples, settings, save=lambda state: states.append(copy.deepcopy(state)))
    assert [state.epoch for state in states] == [1, 2, 3, 4]
    for state in states:
        torch.manual_seed(99)  # whatever happened to the random state in between
        again = new_model(configure(), seed=0)
        seen: list[float] = []
        resumed = run(again, samples, settings, state=state, on_epoch=lambda row, seen=seen: seen.append(row["epoch"]))
        assert without_seconds(resumed) == without_seconds(whole) and seen == [1, 2, 3, 4]
        assert (resumed.best_epoch, resumed.best_score) == (whole.best_epoch, whole.best_score)
        two = again.state_dict()
        assert all(torch.equal(value, two[name]) for name, value in model.state_dict().items())


def test_what_routers_read_is_measured_on_the_training_scans_before_the_first_epoch(
    model: HeadCTClassifier, samples: Any
) -> None:
    read: list[torch.Tensor] = []
    handle = model.routers[0].register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    with torch.no_grad():
        model(samples.volumes)
    handle.remove()
    run(model, samples, val=replace(samples, volumes=samples.volumes + 50))
    torch.testing.assert_close(model.routers[0].mean, read[0].mean(0), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("experts", [1, 2])
def test_each_epoch_says_how_even_and_how_different_the_gates_of_validation_scans_are(
    experts: int, configure: Callable[..., ModelConfig], samples: Any
) -> None:
    model = new_model(configure(experts), seed=0)
    row = run(model, samples, replace(QUICK, epochs=1)).rows[0]
    if experts == 1:
        assert not {"gate_entropy", "gate_spread"} & set(row)
        return
    with torch.no_grad():
        gates = model(samples.volumes).gates.double()  # [12, slices, routers, 2]
    assert row["gate_entropy"] == pytest.approx(float(-(gates * gates.log()).sum(-1).mean()), rel=1e-5)
    assert row["gate_spread"] == pytest.approx(float(gates.mean(1).std(0, correction=0).mean()), rel=1e-4)


def test_routers_of_a_trained_model_tell_scans_apart_because_their_input_is_standardised(
    configure: Callable[..., ModelConfig], samples: Any
) -> None:
    spreads = {}
    for standardise in (True, False):
        config = configure()
        model = new_model(replace(config, router=replace(config.router, standardise=standardise)), seed=0)
        run(model, samples, TrainSettings(epochs=12, batch=4, lr=0.03))
        with torch.no_grad():
            gates = model(samples.volumes).gates
        assert gates is not None
        spreads[standardise] = float(gates.mean(1).std(0).mean())
    assert spreads[True] > 0.02 and spreads[True] > 2 * spreads[False], spreads


def test_it_ends_after_epochs_without_a_better_score_and_keeps_the_best(model: HeadCTClassifier, samples: Any) -> None:
    states: list[TrainingState] = []
    trained = run(
        model,
        samples,
        TrainSettings(epochs=50, batch=4, lr=0.03, patience=3),
        save=lambda state: states.append(copy.deepcopy(state)),
    )
    assert trained.epochs == trained.best_epoch + 3 < 50
    best = states[trained.best_epoch - 1].trainable
    assert all(torch.equal(value, best[name]) for name, value in model.state_dict().items() if name in best)


def test_the_seed_decides_the_order(configure: Callable[..., ModelConfig], samples: Any) -> None:
    one, two, other = (
        run(new_model(configure(), seed=0), samples, replace(QUICK, seed=seed, epochs=2)) for seed in (0, 0, 1)
    )
    assert without_seconds(one) == without_seconds(two) != without_seconds(other)


def test_accumulated_batches_move_the_weights_as_one_large_batch(
    configure: Callable[..., ModelConfig], samples: Any
) -> None:
    known = replace(samples, labels=np.nan_to_num(samples.labels))  # with unknown ones, means weigh otherwise
    models = []
    for batch, accumulate in ((12, 1), (3, 4)):
        models.append(new_model(configure(), seed=0))
        run(models[-1], known, TrainSettings(epochs=1, batch=batch, accumulate=accumulate, lr=0.01))
    for one, two in zip(models[0].state_dict().values(), models[1].state_dict().values(), strict=True):
        torch.testing.assert_close(one, two, atol=2e-4, rtol=1e-3)


def test_unknown_labels_and_a_finding_without_positives_are_no_obstacle(model: HeadCTClassifier, samples: Any) -> None:
    samples.labels[:, 1] = 0
    samples.labels[6:, 0] = np.nan
    trained = run(model, samples)
    assert all(math.isfinite(value) for row in trained.rows for value in row.values())


def test_without_any_area_the_loss_decides(model: HeadCTClassifier, samples: Any) -> None:
    val = replace(samples, labels=np.zeros_like(samples.labels))
    trained = run(model, samples, val=val)
    assert all(math.isnan(row["val_auc"]) for row in trained.rows)
    assert trained.best_score == -min(row["val_loss"] for row in trained.rows)


@pytest.mark.parametrize("where", ["train", "val"])
def test_a_loss_that_is_not_finite_ends_it_and_leaves_no_state(
    where: str, model: HeadCTClassifier, samples: Any
) -> None:
    broken = replace(samples, volumes=torch.full_like(samples.volumes, float("nan")))
    saved: list[TrainingState] = []
    with pytest.raises(RunError, match=r"epoch 1: the loss is NaN or infinite; lower the learning rate"):
        run(
            model, broken if where == "train" else samples, val=broken if where == "val" else samples, save=saved.append
        )
    assert saved == []


def test_a_last_batch_of_one_joins_the_one_before() -> None:
    order = np.arange(9)
    assert [len(batch) for batch in loop._batches(order, 4)] == [4, 5]
    assert [len(batch) for batch in loop._batches(order[:8], 4)] == [4, 4]
    assert [len(batch) for batch in loop._batches(order[:6], 4)] == [4, 2]
    assert [len(batch) for batch in loop._batches(order[:3], 1)] == [1, 1, 1]
    np.testing.assert_array_equal(np.concatenate(loop._batches(order, 4)), order)


def test_a_volume_backbone_learns_from_9_scans_in_batches_of_8(
    configure: Callable[..., ModelConfig], samples: Any
) -> None:
    few = replace(samples, volumes=samples.volumes[:9], labels=samples.labels[:9])
    model = new_model(configure(0, dimensions=3), seed=0)
    assert run(model, few, TrainSettings(epochs=1, train_backbone=True)).epochs == 1
    with pytest.raises(ConfigError, match="at least 2 scans per step"):
        run(model, few, TrainSettings(epochs=1, batch=1, train_backbone=True))


def test_the_rate_rises_to_its_largest_and_falls_as_a_cosine_towards_zero() -> None:
    settings = TrainSettings(lr=0.5, warmup=0.1)
    rates = [loop._rate(0.5, settings, step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([0.05 * (i + 1) for i in range(10)])
    assert rates[9] == max(rates) == 0.5
    assert rates[10:] == pytest.approx([0.25 * (1 + math.cos(math.pi * i / 90)) for i in range(90)])
    assert loop._rate(0.5, settings, 0, 1) == 0.5


def test_routers_can_have_a_rate_of_their_own_and_nothing_else_changes_with_it(
    configure: Callable[..., ModelConfig], samples: Any
) -> None:
    weights = []
    for router_lr in (None, QUICK.lr, 1e-9):
        model = new_model(configure(), seed=0)
        run(model, samples, replace(QUICK, epochs=1, router_lr=router_lr))
        weights.append(model.state_dict())
    first = new_model(configure(), seed=0).state_dict()
    fc2 = first["routers.0.fc2.weight"]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert not torch.allclose(weights[0]["routers.0.fc2.weight"], fc2, atol=1e-4)
    torch.testing.assert_close(weights[2]["routers.0.fc2.weight"], fc2, atol=1e-6, rtol=0)
    assert not torch.allclose(weights[2]["head.weight"], first["head.weight"], atol=1e-4)


def test_weights_decay_on_matrices_only(model: HeadCTClassifier) -> None:
    parameters = loop._learning(model, QUICK)
    groups = loop._optimizer(parameters, replace(QUICK, weight_decay=0.3)).param_groups
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0]
    assert [min(p.dim() for p in group["params"]) for group in groups] == [2, 1]
    assert sum(len(group["params"]) for group in groups) == len(parameters)


def test_precision_is_mixed_on_a_gpu_alone() -> None:
    with loop._mixed_precision(torch.device("cpu")):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_on_a_gpu_it_learns_in_bfloat16(model: HeadCTClassifier, samples: Any) -> None:
    on_gpu = replace(samples, volumes=samples.volumes.cuda())
    trained = run(model.cuda(), on_gpu, TrainSettings(epochs=12, batch=4, lr=0.03))
    assert trained.best_score > 0.9
    with loop._mixed_precision(torch.device("cuda")):
        assert (torch.ones(2, 2, device="cuda") @ torch.ones(2, 2, device="cuda")).dtype == torch.bfloat16


def test_the_mean_area_is_over_findings_that_have_both_classes() -> None:
    nan = np.nan
    labels = np.array([[1, 1, nan], [0, 1, 0], [1, nan, nan], [0, 1, 0]], dtype=np.float32)
    logits = np.array([[2.0, 0, 0], [1.0, 0, 0], [0.5, 0, 0], [-1.0, 0, 0]])
    assert macro_auc(logits, labels) == auc(logits[:, 0], labels[:, 0] == 1) == 0.75
    assert math.isnan(macro_auc(logits[:, 1:], labels[:, 1:]))


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": 0}, {"batch": 0}, {"accumulate": 0}, {"patience": 0}, {"lr": 0.0}, {"lr": math.nan}, {"warmup": 1.0},
     {"weight_decay": -1.0}, {"weight_decay": math.nan}, {"router_lr": 0.0}, {"router_lr": math.inf},
     {"gamma": -1.0}, {"clip": 0.0}],
)  # fmt: skip
def test_settings_that_can_not_train_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        TrainSettings(**wrong)
