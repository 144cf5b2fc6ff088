"""ONNX Runtime answers as the reference did, in a 'with' block, and says what it can't do."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from few_processes import run_with_few_processes

from molre_edge.bundle.bundle import Bundle, GoldenSet
from molre_edge.engines.onnxruntime_runner import OnnxRuntimeRunner
from molre_edge.errors import BundleError, EngineError
from molre_edge.specs import Precision, TensorSpec

Volumes = npt.NDArray[np.float16]


@pytest.mark.parametrize(("precision", "atol"), [(Precision.FP32, 1e-4), (Precision.FP16, 0.1)])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_it_reproduces_the_golden_answers_in_batches_of_one_two_and_three(
    precision: Precision, atol: float, size: int, bundle: Bundle, golden: GoldenSet
) -> None:
    with OnnxRuntimeRunner.from_bundle(bundle, precision) as runner:
        outputs = runner.run(golden.volumes[:size]).outputs
    np.testing.assert_allclose(outputs.logits, golden.outputs.logits[:size], atol=atol)
    assert outputs.gates is not None and golden.outputs.gates is not None
    np.testing.assert_allclose(outputs.gates, golden.outputs.gates[:size], atol=atol)
    assert {outputs.logits.dtype, outputs.gates.dtype, outputs.embedding.dtype} == {np.dtype("float32")}


@pytest.mark.parametrize(("precision", "dtype"), [(Precision.FP32, "float32"), (Precision.FP16, "float16")])
def test_it_takes_float16_volumes_whatever_the_graph_reads(
    precision: Precision, dtype: str, bundle: Bundle, volumes: Volumes
) -> None:
    with OnnxRuntimeRunner.from_bundle(bundle, precision) as runner:
        assert runner.input_spec == TensorSpec("volume", dtype, (None, 4, 32, 32))
        assert runner.output_specs == bundle.graph(precision).outputs
        assert len(runner.run(volumes).outputs) == 3
        with pytest.raises(EngineError, match=r"got float32 \[3, 4, 32, 32\]"):
            runner.run(volumes.astype(np.float32))  # type: ignore[arg-type]
        with pytest.raises(EngineError, match=r"got float16 \[3, 4, 32, 16\]"):
            runner.run(volumes[..., :16])


def test_a_volume_that_is_a_view_is_answered_as_its_copy(bundle: Bundle, volumes: Volumes) -> None:
    view = volumes[:, :, ::-1]
    with OnnxRuntimeRunner.from_bundle(bundle, Precision.FP16) as runner:
        assert np.array_equal(runner.run(view).outputs.logits, runner.run(view.copy()).outputs.logits)


def test_times_are_told_by_phase_in_milliseconds(bundle: Bundle, volumes: Volumes) -> None:
    with OnnxRuntimeRunner.from_bundle(bundle, Precision.FP32) as runner:
        times = runner.run(volumes).milliseconds
    assert list(times) == ["to_device", "compute", "from_device"]
    assert all(value >= 0 for value in times.values())
    assert 0.1 < times["compute"] < 60_000


def test_facts_say_what_ran(bundle: Bundle) -> None:
    with OnnxRuntimeRunner.from_bundle(bundle, Precision.FP16, threads=1) as runner:
        facts = runner.facts
        assert runner.name == "onnxruntime:fp16"
    assert (facts["runtime"], facts["threads"], facts["graph_optimisation"]) == ("ONNX Runtime", 1, True)
    assert facts["device"] in {"CPU", "CUDA"}
    assert "int8_kernels" not in facts


def test_int8_graphs_are_run_with_exact_kernels_and_that_is_said(bundle: Bundle) -> None:
    graph = bundle.read(bundle.graph(Precision.FP16).file)
    with OnnxRuntimeRunner(graph, Precision.INT8) as runner:
        assert runner.facts["int8_kernels"] == "exact (session.x64quantprecision)"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores of a process can't be chosen here")
def test_it_takes_as_many_threads_as_the_process_may_use(bundle: Bundle) -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        with OnnxRuntimeRunner.from_bundle(bundle, Precision.FP32) as runner:
            assert runner.facts["threads"] == 1
    finally:
        os.sched_setaffinity(0, before)


def test_outside_a_with_block_it_is_not_ready(bundle: Bundle, volumes: Volumes) -> None:
    runner = OnnxRuntimeRunner.from_bundle(bundle, Precision.FP32)
    for use in (lambda: runner.run(volumes), lambda: runner.input_spec, lambda: runner.facts):
        with pytest.raises(EngineError, match="onnxruntime:fp32 is not ready: use it in a 'with' block"):
            use()
    with runner:
        runner.run(volumes)
    with pytest.raises(EngineError, match="is not ready"):
        runner.run(volumes)
    with pytest.raises(EngineError, match=r"was closed and can't be used again\. Create a new runner"), runner:
        pass


def test_an_altered_graph_is_refused_before_anything_is_loaded(tiny_bundle: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "edge-bundle"))
    (folder / "graphs" / "fp32.onnx").write_bytes(b"x")
    with pytest.raises(BundleError, match=r"graphs/fp32\.onnx: altered or damaged"):
        OnnxRuntimeRunner.from_bundle(Bundle.open(folder), Precision.FP32)


def test_what_is_no_graph_is_refused_with_what_to_do() -> None:
    with pytest.raises(
        EngineError, match=r"ONNX Runtime .* can't load the fp32 graph: .* or export the checkpoint again"
    ):
        OnnxRuntimeRunner(b"no graph", Precision.FP32).__enter__()


def test_a_graph_of_another_kind_is_refused_by_its_outputs(bundle: Bundle) -> None:
    graph = onnx.load_from_string(bundle.read("graphs/fp32.onnx"))
    del graph.graph.output[0]
    with pytest.raises(EngineError, match=r"the graph's outputs are attention, embedding, gates\. Expected those of"):
        OnnxRuntimeRunner(graph.SerializeToString(), Precision.FP32).__enter__()


def test_a_failure_within_the_graph_names_the_batch(bundle: Bundle, volumes: Volumes) -> None:
    graph = onnx.load_from_string(bundle.read("graphs/fp32.onnx"))
    for node in graph.graph.node:
        node.output[:] = ["before" if name == "logits" else name for name in node.output]
    graph.graph.node.append(onnx.helper.make_node("Reshape", ["before", "shape"], ["fixed"], name="fixed"))
    graph.graph.node.append(onnx.helper.make_node("Identity", ["fixed"], ["logits"], name="same"))
    graph.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 75]), "shape"))
    with OnnxRuntimeRunner(graph.SerializeToString(), Precision.FP32, cpu_only=True) as runner:
        assert len(runner.run(volumes[:1]).outputs) == 1
        with pytest.raises(EngineError, match=r"onnxruntime:fp32 failed on a batch of 2: .* use smaller batches"):
            runner.run(volumes[:2])


def test_threads_that_can_not_be_started_are_told_with_what_to_do(bundle: Bundle, tmp_path: Path) -> None:
    code = f"""
from molre_edge.bundle.bundle import Bundle
from molre_edge.engines.onnxruntime_runner import OnnxRuntimeRunner
from molre_edge.errors import EngineError
from molre_edge.specs import Precision

try:
    with OnnxRuntimeRunner.from_bundle(Bundle.open({str(bundle.folder)!r}), Precision.FP32, threads=2):
        pass
except EngineError as error:
    print(error)
"""
    start = ["env", "OPENBLAS_NUM_THREADS=1", sys.executable, "-c", code]
    done = run_with_few_processes(start, 1, tmp_path / "work")
    assert "can't start its 2 threads: allow this user" in done.stdout and "--threads" in done.stdout, done.stderr
