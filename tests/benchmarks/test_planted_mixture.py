"""Routers learn to route from the target alone, where an input shows which correction it needs."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch


@pytest.fixture
def planted(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """benchmarks/planted_mixture.py as a module, on one thread: its products are too small for two."""
    spec = importlib.util.spec_from_file_location("planted_mixture", root / "benchmarks" / "planted_mixture.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield module
    torch.set_num_threads(threads)


def test_routers_learn_without_supervision_which_of_three_conflicting_corrections_an_input_needs(
    planted: ModuleType,
) -> None:
    mixture = planted.drawn_mixture(600, seed=0, width=16, tokens=2)
    results = planted.compare(mixture, rates=(0.01, 0.03, 0.1), steps=120, batch=64, seed=0)
    molre, lora = results["molre"], results["lora"]
    assert molre.parameters <= lora.parameters  # each at its best rate of the three, chosen on other inputs
    assert molre.error <= 0.75 * lora.error
    assert molre.gate_distance >= 0.4  # half the L1 distance of mean gates, of the two contexts that differ least
