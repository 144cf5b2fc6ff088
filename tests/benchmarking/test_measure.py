"""Runners in turns: who takes part, what is counted, and how figures are made of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from molre_edge.benchmarking.measure import NOT_ASKED, Candidate, Measured, measure, summarise
from molre_edge.bundle.bundle import Bundle
from molre_edge.engines.onnxruntime_runner import OnnxRuntimeRunner
from molre_edge.errors import EngineError, RunError
from molre_edge.specs import Precision


class Constant:
    """Something that tells watts."""

    def watts(self) -> dict[str, float]:
        return {"VDD_IN": 5.0}


def candidate(bundle: Bundle, precision: Precision, **settings: Any) -> Candidate:
    return Candidate(
        f"onnxruntime:{precision}", lambda: OnnxRuntimeRunner.from_bundle(bundle, precision, threads=1), **settings
    )


def missing() -> Any:
    raise EngineError("no GPU")


@pytest.fixture
def both(bundle: Bundle) -> list[Candidate]:
    return [candidate(bundle, Precision.FP32), candidate(bundle, Precision.FP16)]


def test_every_runner_answers_every_batch_size_in_every_round(
    bundle: Bundle, both: list[Candidate], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, int]] = []
    run = OnnxRuntimeRunner.run
    monkeypatch.setattr(OnnxRuntimeRunner, "run", lambda self, v: calls.append((self.name, len(v))) or run(self, v))
    measured = measure(both, bundle.golden().volumes, batches=[1, 4], rounds=4)
    arms = measured.arms
    assert {(arm.name, arm.batch, len(arm.total_ms), len(arm.compute_ms)) for arm in arms} == {
        (f"onnxruntime:{p}", batch, 4, 4) for p in ("fp32", "fp16") for batch in (1, 4)
    }
    rounds = [calls[8:][i : i + 4] for i in range(0, 16, 4)]  # after 2 calls each to warm up
    assert all(set(each) == set(rounds[0]) for each in rounds)
    assert len({each[0] for each in rounds}) == 4  # each goes first once
    assert set(measured.facts) == {"onnxruntime:fp32", "onnxruntime:fp16"}
    assert measured.absent == measured.idle_watts == {}
    assert all(np.array(arms[0].compute_ms) <= np.array(arms[0].total_ms))


def test_who_is_not_ready_is_told_and_an_error_if_named(bundle: Bundle, both: list[Candidate]) -> None:
    volumes = bundle.golden().volumes
    measured = measure([*both, Candidate("tensorrt:fp16", missing)], volumes, batches=[1], rounds=3)
    assert measured.absent == {"tensorrt:fp16": "no GPU"}
    with pytest.raises(EngineError, match="no GPU"):
        measure([Candidate("tensorrt:fp16", missing, named=True)], volumes, batches=[1], rounds=3)
    with pytest.raises(RunError, match="no runner is ready: tensorrt:fp16: no GPU"):
        measure([Candidate("tensorrt:fp16", missing)], volumes, batches=[1], rounds=3)


def test_two_words_for_one_runner_are_measured_once(bundle: Bundle, both: list[Candidate]) -> None:
    assert len(measure([both[0], both[0]], bundle.golden().volumes, batches=[1], rounds=3).arms) == 1


def test_power_is_the_mean_while_it_ran_and_energy_is_a_scan_s(bundle: Bundle, both: list[Candidate]) -> None:
    measured = measure(both[:1], bundle.golden().volumes, batches=[2], rounds=3, power=[Constant()], power_seconds=0.2)
    [arm] = measured.arms
    without = measure(both[:1], bundle.golden().volumes, batches=[1], rounds=3, power=[Constant()], power_seconds=0)
    assert without.no_power == NOT_ASKED and without.idle_watts == {}
    assert measured.idle_watts == arm.watts == {"VDD_IN": 5.0}
    took = arm.joules_per_scan["VDD_IN"] / 5.0
    assert 0 < took < 1.2  # seconds a scan


def test_ratios_are_those_within_the_rounds() -> None:
    machine = np.array([1.0, 10.0, 2.0, 5.0])  # a busy machine
    arms = [
        Measured("onnxruntime:fp32", 1, list(100 * machine), list(90 * machine)),
        Measured("onnxruntime:fp16", 1, list(50 * machine), list(40 * machine)),
        Measured("plain:fp16", 1, list(40 * machine), list(30 * machine)),
        Measured("torch:fp32", 1, list(200 * machine), list(190 * machine)),
    ]
    first, half, plain, torch = summarise(arms)
    assert first.to_first is None and first.to_plain is None  # there is no plain fp32
    assert half.to_first == pytest.approx((0.5, 0.5, 0.5)) and half.to_plain == pytest.approx((1.25, 1.25, 1.25))
    assert plain.to_plain is None and torch.to_plain is None
    assert half.median_ms == 175 and half.scans_per_second == pytest.approx(1e3 / 175)
    assert half.p90_ms < half.p95_ms < half.p99_ms < 500
