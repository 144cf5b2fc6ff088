"""A word on the command line becomes a runner and a reason, or a list of the words there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from molre_edge.bundle import Bundle
from molre_edge.engines.choice import choose_engine, parse_engine
from molre_edge.errors import BundleError, EngineError
from molre_edge.specs import Precision


@pytest.mark.parametrize(
    ("word", "runtime", "precision"),
    [
        ("fp32", None, Precision.FP32),
        ("fp16", None, Precision.FP16),
        ("int8", None, Precision.INT8),
        ("onnxruntime:fp16", "onnxruntime", Precision.FP16),
        ("torch", "torch", Precision.FP32),
        ("torch:fp32", "torch", Precision.FP32),
    ],
)
def test_words_name_a_precision_and_sometimes_a_runtime(word: str, runtime: str | None, precision: Precision) -> None:
    assert parse_engine(word) == (runtime, precision)


@pytest.mark.parametrize(
    "word", ["", "fp8", "FP16", "torch:fp16", "onnxruntime", "onnxruntime:", ":fp16", "cuda:fp16", "a:b:fp32", "fp16 "]
)
def test_other_words_are_refused_with_those_there_are(word: str) -> None:
    with pytest.raises(EngineError, match=f"--engine {word}: expected fp32, fp16, int8, with 'onnxruntime:' before it"):
        parse_engine(word)


def test_the_best_that_is_ready_is_chosen_with_the_reason(bundle: Bundle) -> None:
    choice = choose_engine("fp16", bundle)
    assert choice.runner.name == "onnxruntime:fp16"
    assert choice.why == "ONNX Runtime on the fp16 graph: TensorRT engines can be built, not run yet"


def test_a_runtime_that_was_asked_for_is_taken(bundle: Bundle, tiny_checkpoint: Path) -> None:
    choice = choose_engine("onnxruntime:fp32", bundle, threads=1)
    assert (choice.runner.name, choice.why) == ("onnxruntime:fp32", "asked for")
    with choice.runner as runner:
        assert runner.facts["threads"] == 1
    assert choose_engine("torch", bundle, checkpoint=tiny_checkpoint).runner.name == "torch:fp32"


def test_torch_without_a_checkpoint_says_what_it_needs(bundle: Bundle) -> None:
    with pytest.raises(EngineError, match="needs the checkpoint that the bundle was exported from: put it beside"):
        choose_engine("torch", bundle)


def test_a_graph_that_the_bundle_lacks_is_refused_with_how_to_make_it(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="has no int8 graph, only fp32, fp16; 'molre-edge calibrate' makes it"):
        choose_engine("int8", bundle)
