"""The TensorRT runner, on a device in host memory, with a module in TensorRT's place that runs graphs on ONNX Runtime.

Nothing here runs TensorRT: that needs a GPU. What is tested is all that is ours around it.
"""

from __future__ import annotations

import ctypes
import enum
import hashlib
import json
import shutil
import weakref
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from molre_edge.bundle.bundle import MANIFEST, Bundle, GoldenSet
from molre_edge.bundle.engine_files import EngineFile, list_engines, write_engine
from molre_edge.engines.cuda.device import DeviceError, DeviceMemoryError
from molre_edge.engines.cuda.driver import Gpu, probe_driver
from molre_edge.engines.runner import StreamingRunner, run_stream
from molre_edge.engines.tensorrt import api as tensorrt_api
from molre_edge.engines.tensorrt import runner as tensorrt_runner
from molre_edge.engines.tensorrt.api import BuildOptions, Target, TensorRT
from molre_edge.engines.tensorrt.build import build_tensorrt as build_engine
from molre_edge.engines.tensorrt.fit import here, why_not_here
from molre_edge.engines.tensorrt.runner import TensorRTRunner
from molre_edge.errors import AdapterError, BundleError, EngineError
from molre_edge.parity import Outputs
from molre_edge.specs import Precision

Volumes = npt.NDArray[np.float16]
VERSION = "11.4.0.106"


class Mode(enum.Enum):
    INPUT = 0
    OUTPUT = 1


class DataType(enum.Enum):
    FLOAT = 0
    HALF = 1


class Engine:
    """A plan is a graph; an execution is a session of ONNX Runtime on the memory at the addresses."""

    def __init__(self, plan: bytes, device: Any, batch: tuple[int, int, int], fails: str | None) -> None:
        import onnxruntime as ort

        self.session = ort.InferenceSession(plan, providers=["CPUExecutionProvider"])
        self.tensors = [*self.session.get_inputs(), *self.session.get_outputs()]
        self.device, self.batch, self.fails, self.num_io_tensors = device, batch, fails, len(self.tensors)
        self.made: list[weakref.ref[Any]] = [weakref.ref(self)]

    def of(self, name: str) -> Any:
        return next(tensor for tensor in self.tensors if tensor.name == name.removeprefix("other_"))

    def get_tensor_name(self, place: int) -> str:
        return f"{'other_' if self.fails == 'tensors' else ''}{self.tensors[place].name}"

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType.HALF if "float16" in self.of(name).type else DataType.FLOAT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(side if isinstance(side, int) else -1 for side in self.of(name).shape)

    def get_tensor_mode(self, name: str) -> Mode:
        return Mode.INPUT if name == "volume" or name.startswith("adapter.") else Mode.OUTPUT

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        return [(size, *self.get_tensor_shape(name)[1:]) for size in self.batch]

    def create_execution_context(self, strategy: str) -> Context | None:
        assert strategy == "ours"
        return None if self.fails == "context" else Context(self)


class Context:
    def __init__(self, engine: Engine) -> None:
        self.engine, self.addresses, self.shape, self.memory = engine, dict[str, int](), (), 0
        engine.made.append(weakref.ref(self))

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        if self.engine.fails == "profile":
            LOGGER.log("ERROR", "Unable to switch the profile")
            raise RuntimeError("Failed in setOptimizationProfileAsync")
        return profile == 0

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        return self.engine.batch[0] <= shape[0] <= self.engine.batch[2]

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def infer_shapes(self) -> list[str]:
        return [tensor.name for tensor in self.engine.tensors if tensor.name not in self.addresses]

    def update_device_memory_size_for_shapes(self) -> int:
        return 1 << 40 if self.engine.fails == "scratch" else 1000 * self.shape[0]

    def set_device_memory(self, address: int, size: int) -> None:
        if self.engine.fails == "set memory":
            raise RuntimeError("on purpose")
        assert size >= 1000 * self.shape[0]
        self.memory = address

    def execute_async_v3(self, handle: int) -> bool:
        if self.engine.fails == "enqueue":
            LOGGER.log("ERROR", "Cask failure on purpose")
            return False
        assert self.memory
        device = self.engine.device
        (stream,) = (thing for thing in device.alive if getattr(thing, "handle", None) == handle)
        device.queue(stream, self._work)
        return True

    def _work(self) -> None:
        session = self.engine.session
        feed = {"volume": self._array("volume", self.shape)}
        for tensor in session.get_inputs()[1:]:
            feed[tensor.name] = self._array(tensor.name, tuple(tensor.shape))
        names = [output.name for output in session.get_outputs()]
        for name, value in zip(names, session.run(names, feed), strict=True):
            self._array(name, value.shape)[...] = value

    def _array(self, name: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        kind = np.dtype(np.float16 if self.engine.get_tensor_dtype(name) is DataType.HALF else np.float32)
        raw = (ctypes.c_char * (int(np.prod(shape)) * kind.itemsize)).from_address(self.addresses[name])
        return np.frombuffer(raw, kind).reshape(shape)


LOGGER: Any = None


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING = "INTERNAL_ERROR", "ERROR", "WARNING"

    def __init__(self) -> None:
        global LOGGER
        LOGGER = self

    def log(self, severity: str, message: str) -> None:
        raise NotImplementedError


class Setting:
    """A machine: its GPU, its TensorRT, and what goes wrong."""

    def __init__(self, device: Any) -> None:
        self.device, self.version, self.batch, self.fails = device, VERSION, (1, 1, 4), None
        self.made: list[weakref.ref[Any]] = []  # engines and contexts

    def load(self, target: Target, *, feature: str | None = None) -> TensorRT:
        setting = self

        class Runtime:
            def __init__(self, logger: Any) -> None:
                assert setting.device.depth, "the GPU comes first"

            def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
                if setting.fails in ("load", "memory"):
                    reason = "out of memory" if setting.fails == "memory" else "Serialization assertion failed"
                    LOGGER.log("ERROR", reason)
                    return None
                engine = Engine(plan, setting.device, setting.batch, setting.fails)
                setting.made = engine.made
                return engine

        module: Any = ModuleType("tensorrt")
        module.ILogger, module.Runtime, module.TensorIOMode = ILogger, Runtime, Mode
        module.ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="ours")
        return TensorRT(module, "TensorRT", self.version)


@pytest.fixture
def setting(host_device: Any, monkeypatch: pytest.MonkeyPatch) -> Setting:
    setting = Setting(host_device())
    monkeypatch.setattr(tensorrt_runner, "load_tensorrt", setting.load)
    return setting


def facts_of(bundle: Bundle, precision: Precision, **changes: Any) -> dict[str, Any]:
    name = f"graphs/{precision}.onnx"
    return {
        "runtime": {"name": "TensorRT", "version": VERSION},
        "target": {"name": "here", "compute_capabilities": ["sm86"], "built_on": here()},
        "precision": str(precision),
        "options": {},
        "graph": {"file": name, "sha256": bundle.manifest["files"][name]},
        **changes,
    }


@pytest.fixture
def engines(tiny_bundle: Path, tmp_path: Path) -> Bundle:
    """The tiny bundle with an 'engine' of each precision: its graph."""
    bundle = Bundle.open(Path(shutil.copytree(tiny_bundle, tmp_path / "edge-bundle")))
    for precision in (Precision.FP32, Precision.FP16):
        content = bundle.read(f"graphs/{precision}.onnx")
        write_engine(bundle, f"here-{precision}", content, facts_of(bundle, precision))
    return bundle


def runner_of(bundle: Bundle, setting: Setting, name: str = "here-fp32") -> TensorRTRunner:
    (engine,) = (engine for engine in list_engines(bundle) if engine.path.stem == name)
    return TensorRTRunner.from_bundle(bundle, engine, open_device=lambda: setting.device)


@pytest.mark.parametrize(("name", "atol"), [("here-fp32", 1e-4), ("here-fp16", 0.1)])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_it_gives_the_golden_answers_and_frees_the_gpu(
    name: str, atol: float, size: int, engines: Bundle, setting: Setting, golden: GoldenSet
) -> None:
    with runner_of(engines, setting, name) as runner:
        result = runner.run(golden.volumes[:size])
        assert runner.input_spec == engines.graph(runner.precision).inputs[0]
        assert runner.output_specs == engines.graph(runner.precision).outputs
        assert isinstance(runner, StreamingRunner)
    np.testing.assert_allclose(result.outputs.logits, golden.outputs.logits[:size], atol=atol)
    assert result.outputs.gates is not None and golden.outputs.gates is not None
    np.testing.assert_allclose(result.outputs.gates, golden.outputs.gates[:size], atol=atol)
    assert list(result.milliseconds) == ["to_device", "compute", "from_device"]
    assert setting.device.alive == [] and setting.device.used == 0


def test_batches_are_answered_as_a_stream(engines: Bundle, setting: Setting, golden: GoldenSet) -> None:
    with runner_of(engines, setting) as runner:
        answers = list(run_stream(runner, [golden.volumes[i : i + 1] for i in (0, 1, 2, 0)]))
        with pytest.raises(EngineError, match=r"got float16 \[1, 4, 32, 16\]"):
            list(run_stream(runner, [golden.volumes[:1], golden.volumes[:1, ..., :16]]))
    expected = golden.outputs.logits[[0, 1, 2, 0]]
    np.testing.assert_allclose(np.concatenate([a.outputs.logits for a in answers]), expected, atol=1e-4)


def test_facts_say_what_ran_and_how(engines: Bundle, setting: Setting, volumes: Volumes) -> None:
    with runner_of(engines, setting, "here-fp16") as runner:
        runner.run(volumes[:1])
        facts = runner.facts
    assert runner.name == "tensorrt:fp16"
    assert (facts["runtime"], facts["version"], facts["device"]) == ("TensorRT", VERSION, "Host (sm86)")
    assert facts["engine"] == "here-fp16.engine" and facts["batch"] == [1, 1, 4]
    assert facts["prepared"] == {"1": "CUDA graph"}
    json.dumps(facts)


def test_a_batch_of_another_form_is_refused(engines: Bundle, setting: Setting, volumes: Volumes) -> None:
    with runner_of(engines, setting) as runner:
        for wrong in (volumes.astype(np.float32), volumes[0], volumes[:0], volumes[:, :2]):
            with pytest.raises(EngineError, match="expected float16 HU of that shape"):
                runner.run(wrong)  # type: ignore[arg-type]


def test_where_memory_runs_out_the_batch_is_halved_and_facts_say_so(
    engines: Bundle, setting: Setting, golden: GoldenSet, host_device: Any
) -> None:
    with runner_of(engines, setting) as probe:
        probe.run(golden.volumes[:1])
        one = setting.device.used
    setting.device = host_device(memory=2 * one)
    with runner_of(engines, setting) as runner:
        logits = runner.run(golden.volumes).outputs.logits
        facts = runner.facts
    np.testing.assert_allclose(logits, golden.outputs.logits, atol=1e-4)
    assert facts["batch_limit"] == 1
    assert "a batch of 3 does not fit in the GPU's memory" in facts["notes"][0]


@pytest.mark.parametrize(
    ("fails", "kind", "message"),
    [
        ("load", EngineError, r"TensorRT 11\.4\.0\.106 can't load the engine:\n- Serialization assertion failed"),
        ("memory", DeviceMemoryError, "can't load the engine:\n- out of memory"),
        ("context", EngineError, "can't make an execution context"),
        ("enqueue", EngineError, "TensorRT can't run the engine:\n- Cask failure on purpose"),
        ("tensors", EngineError, "the engine's tensors are other_.*Expected those of a bundle's graph"),
        ("profile", EngineError, "does not take a batch of 1 :\n- Unable to switch the profile\n- Failed in setOpt"),
        ("scratch", DeviceMemoryError, "a batch of 1, the smallest that the engine takes, does not fit"),
    ],
)
def test_what_the_library_refuses_is_told_in_its_words_and_leaves_nothing(
    fails: str, kind: type[Exception], message: str, engines: Bundle, setting: Setting, volumes: Volumes
) -> None:
    setting.fails = fails
    with pytest.raises(kind, match=message) as kept, runner_of(engines, setting) as runner:
        runner.run(volumes[:1])
    assert setting.device.alive == []
    # and who keeps the error, whose traceback holds frames, keeps neither the engine nor a context of it
    assert kept.value.__traceback__ is not None and [made for made in setting.made if made() is not None] == []


@pytest.mark.parametrize(
    ("answer", "told"), [(True, "CUDA graph"), (False, "TensorRT can't capture this engine: it takes")]
)
def test_a_context_that_can_be_asked_says_whether_it_makes_a_graph(
    answer: bool, told: str, engines: Bundle, setting: Setting, golden: GoldenSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(
        Context, "is_stream_capturable", lambda self, stream: asked.append(stream) or answer, raising=False
    )
    with runner_of(engines, setting) as runner:
        outputs = runner.run(golden.volumes[:1]).outputs
        assert runner.facts["prepared"]["1"].startswith(told)
        assert asked == [thing.handle for thing in setting.device.alive if hasattr(thing, "handle")]
    np.testing.assert_allclose(outputs.logits, golden.outputs.logits[:1], atol=1e-4)
    assert setting.device.captures == answer


def test_scratch_memory_that_the_context_does_not_take_is_freed(
    engines: Bundle, setting: Setting, volumes: Volumes
) -> None:
    setting.fails = "set memory"
    with pytest.raises(RuntimeError, match="on purpose"), runner_of(engines, setting) as runner:
        runner.run(volumes[:1])
    assert setting.device.alive == [] and setting.device.used == 0


def test_an_engine_for_another_gpu_is_refused_before_it_is_loaded(engines: Bundle, setting: Setting) -> None:
    setting.device.gpu = Gpu("Thor", (11, 0), 1 << 30)
    with (
        pytest.raises(
            EngineError, match=r"here-fp32\.engine: it was built for sm86, and the GPU here is Thor \(sm110\)"
        ),
        runner_of(engines, setting),
    ):
        pass


def test_an_engine_of_another_version_is_refused_before_it_is_loaded(engines: Bundle, setting: Setting) -> None:
    setting.version = "10.3.0"
    with (
        pytest.raises(
            EngineError, match=r"it was built by TensorRT 11\.4\.0\.106, and 10\.3\.0 is installed; build it"
        ),
        runner_of(engines, setting),
    ):
        pass


def test_an_engine_with_other_tensors_than_the_graph_s_is_refused(engines: Bundle, setting: Setting) -> None:
    content = engines.read("graphs/fp16.onnx")
    write_engine(engines, "here-fp32", content, facts_of(engines, Precision.FP32))
    with (
        pytest.raises(EngineError, match="its inputs and outputs are not those of the graph"),
        runner_of(engines, setting),
    ):
        pass
    assert setting.device.alive == []


def test_swapped_altered_and_outdated_engines_are_refused_before_anything_is_opened(
    engines: Bundle, setting: Setting
) -> None:
    path = engines.folder / "engines/here-fp32.engine"
    content = path.read_bytes()
    shutil.copy(engines.folder / "engines/here-fp16.engine", path)
    with pytest.raises(BundleError, match="altered or swapped"):
        runner_of(engines, setting)
    path.write_bytes(content[:-1])
    with pytest.raises(BundleError, match="altered or swapped"):
        runner_of(engines, setting)
    path.write_bytes(content)
    graph = engines.folder / "graphs/fp32.onnx"
    graph.write_bytes(graph.read_bytes() + b"\0")
    manifest = json.loads((engines.folder / MANIFEST).read_text())
    manifest["files"]["graphs/fp32.onnx"] = hashlib.sha256(graph.read_bytes()).hexdigest()
    (engines.folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="built from another graphs/fp32"):
        runner_of(Bundle.open(engines.folder), setting)


def test_outside_a_with_block_it_is_not_ready(engines: Bundle, setting: Setting, volumes: Volumes) -> None:
    runner = runner_of(engines, setting)
    for use in (lambda: runner.run(volumes), lambda: runner.input_spec, lambda: runner.facts):
        with pytest.raises(EngineError, match="tensorrt:fp32 is not ready: use it in a 'with' block"):
            use()
    with runner:
        pass
    with pytest.raises(EngineError, match="was closed and can't be used again"), runner:
        pass


def test_without_a_driver_it_says_so(engines: Bundle) -> None:
    if probe_driver().problem is None:
        pytest.skip("there is a GPU")
    (engine,) = (engine for engine in list_engines(engines) if engine.path.stem == "here-fp32")
    with (
        pytest.raises(EngineError, match="A TensorRT engine needs an NVIDIA GPU"),
        TensorRTRunner.from_bundle(engines, engine),
    ):
        pass


def test_rtx_waits_for_its_kernels_and_both_give_scratch_memory_themselves() -> None:
    rtx = pytest.importorskip("tensorrt_rtx")
    config = SimpleNamespace(set_execution_context_allocation_strategy=lambda how: made.append(how))
    made: list[Any] = []
    engine = SimpleNamespace(
        create_runtime_config=lambda: config, create_execution_context=lambda given: made.append(given) or "context"
    )
    assert TensorRT(rtx, "TensorRT-RTX", "1.7").new_context(engine) == "context"
    assert made == [rtx.ExecutionContextAllocationStrategy.USER_MANAGED, config]
    eager = rtx.DynamicShapesKernelSpecializationStrategy.EAGER
    assert config.dynamic_shapes_kernel_specialization_strategy == eager
    joined: list[Any] = []
    cache: Any = SimpleNamespace(join=joined.append)
    assert TensorRT(rtx, "TensorRT-RTX", "1.7").new_context(engine, cache) == "context"
    assert joined == [config]


def test_an_old_engine_s_json_without_what_it_was_built_for_is_refused(engines: Bundle) -> None:
    (engine,) = (engine for engine in list_engines(engines) if engine.path.stem == "here-fp32")
    for part in ("target", "precision", "runtime", "options"):
        lacking = replace(engine, facts={name: value for name, value in engine.facts.items() if name != part})
        with pytest.raises(BundleError, match=r"here-fp32\.json: does not name the engine's target"):
            TensorRTRunner.from_bundle(engines, lacking)


@pytest.fixture
def open_adaptable(setting: Setting, with_inputs: Any, tmp_path: Path) -> Any:
    """Makes a runner of an 'engine' whose trained tensors are inputs."""

    def make(precision: Precision, **options: Any) -> TensorRTRunner:
        from molre_edge.export.graph import graph_facts

        raw = with_inputs(precision is Precision.FP16)
        graph = graph_facts(onnx.load_from_string(raw), f"graphs/{precision}.onnx")
        facts = {
            "runtime": {"name": "TensorRT", "version": VERSION},
            "target": {"name": "here", "compute_capabilities": ["sm86"], "built_on": here()},
            "precision": str(precision),
            "options": {},
        }
        engine = EngineFile(tmp_path / f"here-{precision}.engine", "0" * 64, graph.file, "0" * 64, facts)
        specs = (*graph.inputs, *graph.outputs)
        return TensorRTRunner(raw, engine, specs, open_device=lambda: setting.device, **options)

    return make


@pytest.mark.parametrize(("precision", "atol"), [(Precision.FP32, 1e-6), (Precision.FP16, 5e-3)])
def test_adapters_change_between_batches_and_addresses_and_cuda_graphs_stay(
    precision: Precision,
    atol: float,
    open_adaptable: Any,
    setting: Setting,
    adapters: Any,
    some_volumes: Volumes,
    answered: Any,
) -> None:
    with open_adaptable(precision, adapter=adapters[1]) as runner:
        for place in (1, 0, 1):
            runner.use_adapter(adapters[place])
            logits = runner.run(some_volumes).outputs.logits
            np.testing.assert_allclose(logits, answered(adapters[place], some_volumes), atol=atol)
        streamed = [result.outputs.logits for result in runner.run_stream(some_volumes[i : i + 1] for i in range(3))]
        np.testing.assert_allclose(np.concatenate(streamed), answered(adapters[1], some_volumes), atol=atol)
        captures, buffers = setting.device.captures, len(setting.device.arrays)
        runner.use_adapter(adapters[0])
        runner.run(some_volumes)
        assert (setting.device.captures, len(setting.device.arrays)) == (captures, buffers)
        assert [spec.name for spec in runner.output_specs] == ["logits", "embedding"]
        assert [spec.name for spec in runner.adapter_specs] == list(adapters[0])
    assert setting.device.alive == [] and setting.device.used == 0


def test_without_an_adapter_or_with_one_that_does_not_fit_nothing_is_answered(
    open_adaptable: Any, setting: Setting, adapters: Any, some_volumes: Volumes
) -> None:
    lacking = {name: adapters[0][name] for name in list(adapters[0])[1:]}
    with open_adaptable(Precision.FP32) as runner:
        for run in (runner.run, lambda volumes: list(runner.run_stream([volumes]))):
            with pytest.raises(EngineError, match=r"tensorrt:fp32: the graph takes its 3 trained tensors .* Choose"):
                run(some_volumes)
        with pytest.raises(AdapterError, match=r"does not fit tensorrt:fp32: 1 tensors are missing"):
            runner.use_adapter(lacking)
    assert setting.device.alive == [] and setting.device.used == 0


def test_an_engine_that_is_entered_with_an_adapter_that_does_not_fit_frees_the_gpu(
    open_adaptable: Any, setting: Setting
) -> None:
    with pytest.raises(AdapterError, match="3 tensors are missing"), open_adaptable(Precision.FP32, adapter={}):
        pass
    assert setting.device.alive == [] and setting.device.used == 0


def test_a_copy_that_fails_leaves_no_adapter_behind(
    open_adaptable: Any, setting: Setting, adapters: Any, some_volumes: Volumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise DeviceError("on purpose")

    with open_adaptable(Precision.FP32, adapter=adapters[0]) as runner:
        with monkeypatch.context() as patch, pytest.raises(EngineError, match="on purpose"):
            patch.setattr(setting.device, "h2d", fail)
            runner.use_adapter(adapters[1])
        with pytest.raises(EngineError, match="no adapter was given"):
            runner.run(some_volumes)
        runner.use_adapter(adapters[0])
        assert len(runner.run(some_volumes).outputs) == 3


def test_versions_are_compared_as_numbers() -> None:
    assert tensorrt_api.version_numbers("10.16.1.11") == (10, 16, 1, 11) > tensorrt_api.version_numbers("10.3.0")


@pytest.mark.gpu
@pytest.mark.skipif(probe_driver().problem is not None, reason=f"needs an NVIDIA GPU: {probe_driver().problem}")
@pytest.mark.parametrize("target", Target)
@pytest.mark.parametrize(("precision", "atol"), [(Precision.FP32, 1e-3), (Precision.FP16, 0.1)])
def test_a_gpu_gives_the_golden_answers(
    target: Target, precision: Precision, atol: float, tiny_bundle: Path, tmp_path: Path, golden: GoldenSet
) -> None:
    pytest.importorskip("tensorrt_rtx" if target is Target.RTX else "tensorrt")
    bundle = Bundle.open(Path(shutil.copytree(tiny_bundle, tmp_path / "edge-bundle")))
    engine = build_engine(bundle, precision, BuildOptions(target=target))
    if (reason := why_not_here(engine, bundle, probe_driver())) is not None:
        pytest.skip(reason)
    with TensorRTRunner.from_bundle(bundle, engine) as runner:
        whole = runner.run(golden.volumes).outputs
        parts = [r.outputs for r in runner.run_stream(golden.volumes[i : i + 1] for i in range(3))]
        facts = runner.facts
    for outputs in (whole, Outputs.stack(parts)):
        np.testing.assert_allclose(outputs.logits, golden.outputs.logits, atol=atol)
    assert set(facts["prepared"].values()) == {"CUDA graph"} and facts["notes"] == []
