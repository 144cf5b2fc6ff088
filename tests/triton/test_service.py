"""Many requests at a time: answered in one call, each by its adapter, none at the cost of another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from molre_edge.errors import AdapterError, EngineError
from molre_edge.runs.loaded import LoadedModel, load_model
from molre_edge.triton.service import Answers, Asked, Service


@pytest.fixture(scope="module")
def model(tiny_bundle: Path) -> Iterator[LoadedModel]:
    with load_model(tiny_bundle, "onnxruntime:fp32", readers=0) as loaded:
        yield loaded


def volumes(model: LoadedModel, count: int, hu: float) -> np.ndarray:
    steps = np.arange(count, dtype=np.float32).reshape(count, 1, 1, 1)
    return np.full((count, *model.grid.shape), hu, np.float32) + 10 * steps


def answered(service: Service, *asked: Asked) -> list[Answers]:
    answers = []
    for each in service.answer(asked):
        assert not isinstance(each, Exception), each
        answers.append(each)
    return answers


def test_requests_are_answered_in_one_call_as_each_would_be_alone(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, sizes, run = Service(model), list[int](), model.run
    asked = [Asked(volumes(model, count, 20.0 * count)) for count in (1, 3, 2)]
    alone = [answered(service, each)[0] for each in asked]
    monkeypatch.setattr(model, "run", lambda volume: [sizes.append(len(volume)), run(volume)][1])
    for one, other in zip(alone, answered(service, *asked), strict=True):
        assert one.keys() == other.keys()
        assert np.allclose(one["logits"], other["logits"], atol=1e-5)
        assert one["findings"].tolist() == other["findings"].tolist()
    assert sizes == [6]


def test_an_answer_says_what_it_means_and_what_gave_it(model: LoadedModel) -> None:
    [answer] = answered(Service(model), Asked(volumes(model, 2, 30.0)))
    count = len(model.findings)
    assert {name: values.shape for name, values in answer.items()} == {
        "logits": (2, count),
        "probabilities": (2, count),
        "thresholds": (2, count),
        "findings": (2, count),
        "embedding": (2, 96),
        "gates": (2, 4, 2, 3),
        "attention": (2, 4),
        "provenance": (2, 1),
    }
    assert [name.decode() for name in answer["findings"][1]] == list(model.findings)
    assert answer["thresholds"][1].tolist() == model.thresholds.tolist()
    assert np.allclose(answer["probabilities"], 1 / (1 + np.exp(-answer["logits"].astype(np.float64))))
    assert json.loads(answer["provenance"][1, 0]) == {"bundle": model.bundle, "engine": "onnxruntime:fp32"}


def test_a_request_that_can_not_be_answered_costs_no_other(model: LoadedModel) -> None:
    broken = volumes(model, 1, 0.0)
    broken[0, 0, 0, 0] = np.nan
    good = volumes(model, 1, 30.0)
    short = good[:, :-1]
    first, second, third, fourth, fifth = Service(model).answer(
        [Asked(good), Asked(broken), Asked(good, "other"), Asked(short), Asked(good)]
    )
    assert isinstance(second, EngineError) and "NaN or infinity" in str(second)
    assert isinstance(third, AdapterError) and "take no adapter" in str(third)
    assert isinstance(fourth, EngineError) and "expected float16 HU of that shape" in str(fourth)
    assert not isinstance(first, Exception) and not isinstance(fifth, Exception)
    assert np.allclose(first["logits"], fifth["logits"], atol=1e-5)


def test_no_call_is_larger_than_the_engine_takes(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = answered(Service(model), Asked(volumes(model, 5, 30.0)))[0]
    sizes, run = list[int](), model.run
    monkeypatch.setattr(model, "facts", {**model.facts, "batch": [1, 1, 2]})
    monkeypatch.setattr(model, "run", lambda volume: [sizes.append(len(volume)), run(volume)][1])
    parts = answered(Service(model), Asked(volumes(model, 5, 30.0)))[0]
    assert sizes == [2, 2, 1]
    assert np.allclose(whole["logits"], parts["logits"], atol=1e-5)
