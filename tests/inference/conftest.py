"""An opened bundle, its runner, a quiet listener, and runners that answer wrongly on purpose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from molre_edge.bundle import Bundle
from molre_edge.engines.onnxruntime_runner import OnnxRuntimeRunner
from molre_edge.engines.runner import RunResult
from molre_edge.inference.conclusion import RunSummary
from molre_edge.inference.reference import Reference
from molre_edge.inference.run import run_scans
from molre_edge.inference.store import RunStore, Task
from molre_edge.parity import GATES, Outputs
from molre_edge.specs import Precision

TASK = Task(bundle="b", engine="onnxruntime:fp32", reference="golden", scans="s", all_series=False)


@pytest.fixture(scope="session")
def bundle(tiny_bundle: Path) -> Bundle:
    return Bundle.open(tiny_bundle)


@pytest.fixture(scope="session")
def runner(bundle: Bundle) -> Iterator[OnnxRuntimeRunner]:
    with OnnxRuntimeRunner.from_bundle(bundle, Precision.FP32) as entered:
        yield entered


class Altered:
    """A real runner whose answers are changed afterwards: an engine that is broken."""

    def __init__(self, inner: OnnxRuntimeRunner, change: Callable[[Outputs], Outputs]) -> None:
        self._inner, self._change = inner, change
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def run(self, volume: np.ndarray) -> RunResult:
        self.asked += 1
        result = self._inner.run(volume)
        return replace(result, outputs=self._change(result.outputs))


@pytest.fixture
def altered(runner: OnnxRuntimeRunner) -> Callable[[Callable[[Outputs], Outputs]], Altered]:
    return lambda change: Altered(runner, change)


class Told:
    """A listener that keeps what it was told."""

    def __init__(self) -> None:
        self.counts: tuple[int, int, int] | None = None
        self.estimates: list[str] = []
        self.scans: dict[str, str | None] = {}

    def started(self, todo: int, done: int, rejected: int) -> None:
        self.counts = (todo, done, rejected)

    def expected(self, text: str) -> None:
        self.estimates.append(text)

    def finished(self, scan: str, problem: str | None) -> None:
        self.scans[scan] = problem

    def stopping(self) -> None:
        self.estimates.append("stopping")


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def task() -> Task:
    return TASK


@pytest.fixture
def run(bundle: Bundle, runner: OnnxRuntimeRunner, told: Told, tmp_path: Path) -> Callable[..., RunSummary]:
    """Run the tiny bundle's fp32 graph over a folder; keyword arguments replace those of `run_scans`."""

    def go(scans: Path, store: RunStore | None = None, **changes: Any) -> RunSummary:
        settings: dict[str, Any] = {
            "bundle": bundle,
            "runner": runner,
            "reference": Reference("golden", "the golden answers were asked for"),
            "reference_runner": None,
            "gate": GATES[Precision.FP32],
            "gate_source": "default",
            "progress": told,
        }
        return run_scans(scans, store or RunStore.create(tmp_path / "run", TASK), **{**settings, **changes})

    return go
