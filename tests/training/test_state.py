"""The state of a training comes back from disk as it was, and says what differs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from molre_edge.errors import RunError
from molre_edge.training.state import TrainingState, differences, load_state, save_state

PLAN = {"settings": {"lr": 0.001, "seed": 0}, "config": {"findings": ["a"], "options": {}}}


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    state = TrainingState(PLAN, "d", 3, dict(model.state_dict()), optimizer.state_dict(), {}, 2, 0.5, [{"epoch": 1.0}])
    save_state(tmp_path / "state.pt", state)
    back = load_state(tmp_path / "state.pt")
    assert back is not None
    assert (back.plan, back.data, back.epoch, back.best_epoch, back.best_score) == (PLAN, "d", 3, 2, 0.5)
    assert (back.rows, back.result) == ([{"epoch": 1.0}], None)
    assert all(torch.equal(back.trainable[name], value) for name, value in model.state_dict().items())
    assert back.optimizer["param_groups"] == optimizer.state_dict()["param_groups"]


def test_where_none_is_there_is_none(tmp_path: Path) -> None:
    assert load_state(tmp_path / "state.pt") is None


@pytest.mark.parametrize("damage", ["cut", "text", "other", "unknown"])
def test_a_state_that_can_not_be_read_is_told_with_what_to_do(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    save_state(path, TrainingState(PLAN))
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:100])
    elif damage == "text":
        path.write_text("not an archive")
    else:
        data = torch.load(path, weights_only=True)
        torch.save({**data, **({"format": "older"} if damage == "other" else {"more": 1})}, path)
    with pytest.raises(RunError, match=r"state\.pt: (not a complete|was written by).*; delete it to start again$"):
        load_state(path)


def test_nothing_in_a_state_is_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "sprung",))  # type: ignore[return-value]

    torch.save({"format": "molre-edge-training-1", "plan": Trap()}, tmp_path / "state.pt")
    with pytest.raises(RunError, match="not a complete training state"):
        load_state(tmp_path / "state.pt")
    assert not (tmp_path / "sprung").exists()


def test_differences_are_named_down_to_the_value() -> None:
    other = {"settings": {"lr": 0.01, "seed": 0, "clip": 1.0}, "config": {"findings": ["a"], "options": {"width": 4}}}
    assert differences(PLAN, PLAN) == []
    assert differences(PLAN, other) == [
        "settings.lr (0.001 there, 0.01 now)",
        "config.options ({} there, None now)",
        "settings.clip (None there, 1.0 now)",
        "config.options.width (None there, 4 now)",
    ]
