"""OpenVINO answers as ONNX Runtime and the reference do, sends nothing, and says what it can't do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from molre_edge.bundle.bundle import Bundle, GoldenSet
from molre_edge.engines.choice import choose_engine
from molre_edge.engines.onnxruntime_runner import OnnxRuntimeRunner
from molre_edge.engines.openvino_runner import OpenVinoRunner
from molre_edge.errors import EngineError, MissingDependencyError
from molre_edge.specs import Precision, TensorSpec

pytest.importorskip("openvino", reason="OpenVINO has no package for this machine")
Volumes = npt.NDArray[np.float16]


@pytest.mark.parametrize(("precision", "atol"), [(Precision.FP32, 1e-4), (Precision.FP16, 0.1)])
def test_it_reproduces_the_golden_answers_gates_included(
    precision: Precision, atol: float, bundle: Bundle, golden: GoldenSet
) -> None:
    with OpenVinoRunner.from_bundle(bundle, precision) as runner:
        assert runner.input_spec.shape == (None, 4, 32, 32)
        assert runner.output_specs == bundle.graph(precision).outputs
        batches = [runner.run(golden.volumes[:size]).outputs for size in (3, 1, 2)]
    for got, size in zip(batches, (3, 1, 2), strict=True):
        np.testing.assert_allclose(got.logits, golden.outputs.logits[:size], atol=atol)
        assert got.gates is not None and golden.outputs.gates is not None
        np.testing.assert_allclose(got.gates, golden.outputs.gates[:size], atol=atol)
        assert {got.logits.dtype, got.gates.dtype, got.embedding.dtype} == {np.dtype("float32")}


def test_the_router_still_looks_at_the_image(bundle: Bundle, golden: GoldenSet) -> None:
    with OpenVinoRunner.from_bundle(bundle, Precision.FP32) as runner:
        gates = runner.run(golden.volumes).outputs.gates
    assert gates is not None and np.abs(gates[0] - gates[1]).max() > 1e-3
    np.testing.assert_allclose(gates.sum(axis=-1), 1.0, atol=1e-5)


def test_a_batch_of_another_kind_is_refused(bundle: Bundle, volumes: Volumes) -> None:
    with OpenVinoRunner.from_bundle(bundle, Precision.FP32) as runner:
        assert runner.input_spec == TensorSpec("volume", "float32", (None, 4, 32, 32))
        with pytest.raises(EngineError, match=r"got float16 \[3, 4, 32, 16\]"):
            runner.run(volumes[..., :16])


def test_facts_say_what_ran_and_in_which_precision_it_computes(bundle: Bundle, volumes: Volumes) -> None:
    with OpenVinoRunner.from_bundle(bundle, Precision.FP16, threads=1) as runner:
        facts, times = runner.facts, runner.run(volumes).milliseconds
    assert runner.name == "openvino:fp16"
    assert {**facts, "version": "any"} == {
        "runtime": "OpenVINO", "version": "any", "device": "CPU", "threads": 1, "computes_in": "f32",
    }  # fmt: skip
    assert list(times) == ["to_device", "compute", "from_device"]


def test_it_is_chosen_when_asked_for_and_only_then(bundle: Bundle) -> None:
    assert isinstance(choose_engine("openvino:fp16", bundle).runner, OpenVinoRunner)
    assert isinstance(choose_engine("onnxruntime:fp16", bundle).runner, OnnxRuntimeRunner)
    assert choose_engine("fp16", bundle).runner.name != "openvino:fp16"


def test_outside_a_with_block_it_is_not_ready(bundle: Bundle, volumes: Volumes) -> None:
    runner = OpenVinoRunner.from_bundle(bundle, Precision.FP32)
    with pytest.raises(EngineError, match="openvino:fp32 is not ready: use it in a 'with' block"):
        runner.run(volumes)
    with runner:
        runner.run(volumes)
    with pytest.raises(EngineError, match=r"was closed and can't be used again\. Create a new runner"), runner:
        pass


def test_what_is_no_graph_of_ours_is_refused_with_what_to_do(bundle: Bundle) -> None:
    with pytest.raises(EngineError, match=r"OpenVINO .* can't load the fp32 graph: .*\. Use onnxruntime:fp32"):
        OpenVinoRunner(b"no graph", Precision.FP32).__enter__()
    graph = onnx.load_from_string(bundle.read("graphs/fp32.onnx"))
    del graph.graph.output[0]
    with pytest.raises(EngineError, match=r"the graph's outputs are attention, embedding, gates\. Expected those of"):
        OpenVinoRunner(graph.SerializeToString(), Precision.FP32).__enter__()


def test_without_it_the_message_names_the_extra(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'molre-edge\[openvino\]'"):
        OpenVinoRunner.from_bundle(bundle, Precision.FP32).__enter__()


def test_it_writes_nothing_into_the_home_folder_and_sends_nothing(tiny_bundle: Path, tmp_path: Path) -> None:
    """By itself the package writes a client id there and sends an event when it is imported."""
    code = """
import json, sys
asked = []
watched = ("socket.getaddrinfo", "socket.connect", "subprocess.Popen", "os.fork", "os.posix_spawn")
sys.addaudithook(lambda event, _: asked.append(event) if event in watched else None)
import molre_edge
with molre_edge.load_model(sys.argv[1], "openvino:fp32", readers=0):
    import openvino
    print(json.dumps([asked, "openvino_telemetry.main" in sys.modules]))
"""
    outside = {name: value for name, value in os.environ.items() if name != "CI" and not name.startswith("XDG_")}
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code, str(tiny_bundle)],
        capture_output=True, text=True, env={**outside, "HOME": str(home), "XDG_STATE_HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[], False]
    assert list(home.iterdir()) == []
