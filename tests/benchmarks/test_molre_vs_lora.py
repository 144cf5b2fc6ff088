"""What benchmarks/molre_vs_lora.py refuses before it trains anything."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def comparison(root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, as a module that trains nothing."""
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    spec = importlib.util.spec_from_file_location("molre_vs_lora", root / "benchmarks" / "molre_vs_lora.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def begun(*args: Any) -> None:
        raise InterruptedError

    monkeypatch.setattr(module, "data", begun)
    monkeypatch.setattr(module.torch, "set_num_threads", lambda count: None)  # it would be this process's, for good
    return module


def start(comparison: ModuleType, monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["molre_vs_lora.py", *map(str, words)])
    comparison.main()


@pytest.mark.parametrize("seeds", [1, 11])
def test_seeds_without_an_interval_are_refused_at_the_start(
    comparison: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seeds: int
) -> None:
    with pytest.raises(SystemExit) as caught:
        start(comparison, monkeypatch, tmp_path / "new", "--seeds", seeds)
    assert caught.value.code == 2
    assert not (tmp_path / "new").exists()


def test_a_folder_of_other_settings_is_refused_and_more_seeds_go_on(
    comparison: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for words in ((), ("--seeds", 7)):
        with pytest.raises(InterruptedError):
            start(comparison, monkeypatch, tmp_path, *words)
    before = json.loads((tmp_path / "settings.json").read_text())
    for name in ("epochs", "lr", "rank", "scans", "pretrain-epochs", "pretraining-scans"):
        with pytest.raises(SystemExit, match=rf"was made with {name.replace('-', '_')} .*, now 3.*another folder"):
            start(comparison, monkeypatch, tmp_path, f"--{name}", 3)
    assert json.loads((tmp_path / "settings.json").read_text()) == before


def test_a_folder_that_does_not_say_its_settings_is_refused(
    comparison: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "convnet2d-small-pretraining.json").write_text("{}")
    with pytest.raises(SystemExit, match="does not say"):
        start(comparison, monkeypatch, tmp_path)
