"""What an earlier training has left is gone on with, or kept from being overwritten."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from molre_edge.errors import RunError
from molre_edge.files import sha256_of
from molre_edge.model.classifier import HeadCTClassifier
from molre_edge.model.config import ModelConfig, Routing
from molre_edge.training.data_manifest import Manifest
from molre_edge.training.loop import TrainSettings
from molre_edge.training.resume import check_data, data_digest, make_plan, take_up
from molre_edge.training.start import new_model
from molre_edge.training.state import TrainingState, differences, save_state
from molre_edge.training.volumes import Volumes

ASKED = {"sensitivity": None, "with_backbone": True}
PLAN = {"settings": {"lr": 0.1}}


def test_the_same_training_has_the_same_plan(
    configure: Callable[..., ModelConfig], model: HeadCTClassifier, manifest: Manifest
) -> None:
    again = new_model(configure(), seed=0)
    assert make_plan(model, manifest, TrainSettings()) == make_plan(again, manifest, TrainSettings())


@pytest.mark.parametrize("what", ["settings", "config", "weights", "backbone", "labels", "split", "scans"])
def test_another_training_has_another_plan(
    what: str, configure: Callable[..., ModelConfig], model: HeadCTClassifier, manifest: Manifest
) -> None:
    first, settings = make_plan(model, manifest, TrainSettings()), TrainSettings()
    train, val = manifest.of("train"), manifest.of("val")
    if what == "settings":
        settings = TrainSettings(lr=0.5)
    elif what == "config":
        model = new_model(configure(3), seed=0)
    elif what == "weights":
        model = new_model(configure(), seed=1)
    elif what == "backbone":
        model.backbone.blocks[0].conv1.weight.data[0, 0, 0, 0] += 1
    elif what == "labels":
        manifest = replace(manifest, cases=(replace(train[0], labels=1 - train[0].labels), *train[1:], *val))
    elif what == "split":
        manifest = replace(manifest, cases=(replace(train[0], split="val"), *train[1:], *val))
    else:
        manifest = replace(manifest, cases=(*train[1:], *val))
    assert make_plan(model, manifest, settings) != first


def test_other_experts_routers_and_rates_are_named(configure: Callable[..., ModelConfig], manifest: Manifest) -> None:
    config = configure()
    other = replace(
        config,
        adapter=replace(config.adapter, alpha=3.0),
        router=replace(config.router, level=Routing.VOLUME, temperature=0.5),
    )
    first = make_plan(new_model(config, seed=0), manifest, TrainSettings())
    second = make_plan(new_model(other, seed=0), manifest, TrainSettings(router_lr=0.1, weight_decay=0.0))
    assert differences(first, second) == [
        "config.adapter.alpha (16.0 there, 3.0 now)",
        "config.router.level ('slice' there, 'volume' now)",
        "config.router.temperature (1.0 there, 0.5 now)",
        "settings.router_lr (None there, 0.1 now)",
        "settings.weight_decay (0.01 there, 0.0 now)",
    ]


def test_a_training_that_began_before_routers_could_have_a_rate_goes_on(
    model: HeadCTClassifier, manifest: Manifest
) -> None:
    plan = make_plan(model, manifest, TrainSettings())
    before = {**plan, "settings": {name: v for name, v in plan["settings"].items() if name != "router_lr"}}
    assert differences(before, plan) == []


def test_the_test_split_is_no_part_of_a_plan(model: HeadCTClassifier, manifest: Manifest) -> None:
    without = replace(manifest, cases=(*manifest.of("train"), *manifest.of("val")))
    assert make_plan(model, without, TrainSettings()) == make_plan(model, manifest, TrainSettings())


def place(tmp_path: Path, **state: Any) -> tuple[Path, Path]:
    """A checkpoint and the state of a training beside it."""
    out, state_file = tmp_path / "ckpt.pt", tmp_path / "ckpt-training" / "state.pt"
    out.write_text("weights")
    if state.get("result"):
        state["result"]["checkpoint_sha256"] = sha256_of(out)
    save_state(state_file, TrainingState(**{"plan": PLAN, "epoch": 2, **state}))
    return out, state_file


def test_nothing_there_is_a_new_start(tmp_path: Path) -> None:
    state = take_up(tmp_path / "ckpt.pt", tmp_path / "state.pt", PLAN, ASKED, force=False)
    assert (state.plan, state.epoch, state.result) == (PLAN, 0, None)


def test_a_cut_training_goes_on(tmp_path: Path) -> None:
    out, state_file = place(tmp_path)
    assert take_up(out, state_file, PLAN, {"sensitivity": 0.9}, force=False).epoch == 2


def test_a_finished_one_is_taken_as_it_is(tmp_path: Path) -> None:
    out, state_file = place(tmp_path, result={"asked": ASKED})
    assert take_up(out, state_file, PLAN, ASKED, force=False).result is not None


@pytest.mark.parametrize("kind", ["a finished training", "an interrupted training"])
def test_another_training_is_not_overwritten_unasked(kind: str, tmp_path: Path) -> None:
    out, state_file = place(tmp_path, result={"asked": ASKED} if "finished" in kind else None)
    other = {"settings": {"lr": 0.2}}
    with pytest.raises(RunError, match=rf"{kind} that differs in settings\.lr \(0\.1 there, 0\.2 now\); .* --force"):
        take_up(out, state_file, other, ASKED, force=False)
    state = take_up(out, state_file, other, ASKED, force=True)
    assert (state.plan, state.epoch, state.result) == (other, 0, None)
    assert out.is_file() and state_file.is_file()  # until the new ones take their place


def test_a_checkpoint_from_elsewhere_is_not_overwritten_unasked(tmp_path: Path) -> None:
    out = tmp_path / "ckpt.pt"
    out.write_text("weights")
    with pytest.raises(RunError, match="already exists, and the training that wrote it is not beside it"):
        take_up(out, tmp_path / "state.pt", PLAN, ASKED, force=False)
    assert take_up(out, tmp_path / "state.pt", PLAN, ASKED, force=True).epoch == 0


def test_other_thresholds_for_a_finished_training_need_force_but_no_new_epochs(tmp_path: Path) -> None:
    out, state_file = place(tmp_path, result={"asked": ASKED})
    asked = {**ASKED, "sensitivity": 0.9}
    with pytest.raises(RunError, match=r"differs in sensitivity \(None there, 0\.9 now\)"):
        take_up(out, state_file, PLAN, asked, force=False)
    state = take_up(out, state_file, PLAN, asked, force=True)
    assert (state.epoch, state.result) == (2, None)


def test_a_finished_checkpoint_that_something_else_has_written_over_is_kept(tmp_path: Path) -> None:
    out, state_file = place(tmp_path, result={"asked": ASKED})
    out.write_text("somebody's")
    with pytest.raises(RunError, match=r"ckpt\.pt, which something else has written since"):
        take_up(out, state_file, PLAN, ASKED, force=False)


def volumes(*names: str) -> Volumes:
    return Volumes((), tuple(Path(name) for name in names), ())


def test_scans_that_changed_since_the_first_epoch_need_force_and_a_new_start() -> None:
    one, two = data_digest([volumes("a", "b"), volumes("c")]), data_digest([volumes("a"), volumes("b", "c")])
    assert one != two == data_digest([volumes("a"), volumes("b", "c")])
    state = check_data(TrainingState(PLAN), one, force=False)
    assert state.data == one
    state.epoch = 1
    assert check_data(state, one, force=False) is state
    with pytest.raises(RunError, match=r"the scans changed .* --force"):
        check_data(state, two, force=False)
    new = check_data(state, two, force=True)
    assert (new.epoch, new.data, new.plan) == (0, two, PLAN)
