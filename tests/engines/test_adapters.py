"""Runners answer by the adapter that they were given last, and refuse one that does not fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from molre_edge.bundle.bundle import Bundle
from molre_edge.engines.onnxruntime_runner import OnnxRuntimeRunner
from molre_edge.errors import AdapterError, EngineError
from molre_edge.specs import Precision

Adapter = dict[str, npt.NDArray[np.float32]]
Volumes = npt.NDArray[np.float16]
Open = Callable[..., Any]


@pytest.fixture(params=["onnxruntime", "openvino"])
def open_runner(request: pytest.FixtureRequest, with_inputs: Callable[[bool], bytes]) -> Open:
    """Makes a runner of the graph with inputs."""

    def make(precision: Precision = Precision.FP32, **options: Any) -> Any:
        if request.param == "onnxruntime":
            return OnnxRuntimeRunner(with_inputs(precision is Precision.FP16), precision, **options)
        pytest.importorskip("openvino")
        from molre_edge.engines.openvino_runner import OpenVinoRunner

        return OpenVinoRunner(with_inputs(precision is Precision.FP16), precision, **options)

    return make


@pytest.mark.parametrize(("precision", "atol"), [(Precision.FP32, 1e-6), (Precision.FP16, 5e-3)])
def test_it_answers_by_the_adapter_given_last(
    precision: Precision,
    atol: float,
    open_runner: Open,
    adapters: tuple[Adapter, Adapter],
    some_volumes: Volumes,
    answered: Callable[..., Any],
) -> None:
    with open_runner(precision) as runner:
        for place in (0, 1, 1, 0):
            runner.use_adapter(adapters[place])
            for size in (1, 3):
                logits = runner.run(some_volumes[:size]).outputs.logits
                np.testing.assert_allclose(logits, answered(adapters[place], some_volumes[:size]), atol=atol)
        assert runner.input_spec.name == "volume"
        assert [spec.name for spec in runner.adapter_specs] == list(adapters[0])


def test_an_adapter_may_be_given_before_it_is_loaded(
    open_runner: Open, adapters: tuple[Adapter, Adapter], some_volumes: Volumes, answered: Callable[..., Any]
) -> None:
    with open_runner(adapter=adapters[1]) as runner:
        logits = runner.run(some_volumes).outputs.logits
    np.testing.assert_allclose(logits, answered(adapters[1], some_volumes), atol=1e-6)


def test_it_keeps_the_numbers_that_it_was_given(
    open_runner: Open, adapters: tuple[Adapter, Adapter], some_volumes: Volumes
) -> None:
    with open_runner(adapter=adapters[0]) as runner:
        before = runner.run(some_volumes).outputs.logits
        for value in adapters[0].values():
            value[...] = 7.0
        assert np.array_equal(runner.run(some_volumes).outputs.logits, before)


def test_without_an_adapter_no_batch_is_answered(open_runner: Open, some_volumes: Volumes) -> None:
    words = r"takes its 3 trained tensors as inputs \(adapter\.backbone\.layer\.A, .*, and no adapter was given\."
    with open_runner() as runner, pytest.raises(EngineError, match=words):
        runner.run(some_volumes)


def test_an_adapter_that_does_not_fit_is_refused_and_the_one_before_stays(
    open_runner: Open, adapters: tuple[Adapter, Adapter], some_volumes: Volumes
) -> None:
    first, second = adapters
    with open_runner(Precision.FP16, adapter=first) as runner:
        before = runner.run(some_volumes).outputs.logits
        wide = {**second, "adapter.backbone.layer.A": second["adapter.backbone.layer.A"] + 7e4}
        with pytest.raises(AdapterError, match=r"adapter\.backbone\.layer\.A reaches 7e\+04, .* 65504 at most"):
            runner.use_adapter(wide)
        with pytest.raises(AdapterError, match=rf"does not fit {runner.name}: 1 tensors are missing"):
            runner.use_adapter({name: second[name] for name in list(second)[1:]})
        assert np.array_equal(runner.run(some_volumes).outputs.logits, before)
        runner.use_adapter({**second, "adapter.head.weight": second["adapter.head.weight"] + 7e4})  # float32 there
        assert np.isfinite(runner.run(some_volumes).outputs.logits).all()


def test_a_graph_of_constants_takes_no_adapter(bundle: Bundle, adapters: tuple[Adapter, Adapter]) -> None:
    with OnnxRuntimeRunner.from_bundle(bundle, Precision.FP32) as runner:
        assert runner.adapter_specs == ()
        with pytest.raises(AdapterError, match=r"are constants, so it takes no adapter\. Export .* --adapters inputs"):
            runner.use_adapter(adapters[0])
