"""ONNX Runtime's TensorRT-RTX plug-in: when it is chosen, that nothing falls back, and what its messages say.

Without an RTX GPU the plug-in's device can't be had. ONNX Runtime registers a real library here, compiled on the fly;
where a session is needed, its own CPU provider stands in for the plug-in's.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import onnxruntime
import pytest

from molre_edge.bundle.bundle import Bundle, GoldenSet
from molre_edge.engines import onnxruntime_rtx_runner as module
from molre_edge.engines.choice import choose_engine
from molre_edge.engines.cuda.driver import DriverProbe, Gpu
from molre_edge.engines.onnxruntime_rtx_runner import PLUG_IN, OnnxRuntimeRtxRunner, why_no_plug_in
from molre_edge.errors import EngineError, MissingDependencyError
from molre_edge.specs import Precision

ADA = DriverProbe("13.0", (Gpu("NVIDIA RTX 2000 Ada", (8, 9), 1 << 34),))
CPU = "CPUExecutionProvider"


@pytest.fixture
def rtx_machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Path | str], None]:
    """Makes this a machine with an Ada GPU and a plug-in of that provider and library."""
    monkeypatch.setattr(module, "probe_driver", lambda: ADA)

    def make(provider: str, library: Path | str) -> None:
        plug_in = ModuleType(PLUG_IN)
        plug_in.get_ep_name = lambda: provider  # type: ignore[attr-defined]
        plug_in.get_library_path = lambda: str(library)  # type: ignore[attr-defined]
        plug_in.__version__ = "0.5.0"  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, PLUG_IN, plug_in)

    return make


@pytest.fixture
def writable(tiny_bundle: Path, tmp_path: Path) -> Bundle:
    return Bundle.open(Path(shutil.copytree(tiny_bundle, tmp_path / "edge-bundle")))


@pytest.fixture(scope="session")
def without_devices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plug-in that ONNX Runtime can load and that offers no device, as the real one does beside an old driver."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("a plug-in needs gcc")
    folder = tmp_path_factory.mktemp("plug-in")
    source, library = folder / "plug_in.c", folder / "libplug_in.so"
    source.write_text(
        "void *CreateEpFactories(const char *n, const void *a, const void *l, void **f, unsigned long most,"
        " unsigned long *count) { *count = 0; return 0; }\n"
        "void *ReleaseEpFactory(void *f) { return 0; }\n"
    )
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return library


def test_it_is_chosen_when_asked_for_and_only_then(bundle: Bundle) -> None:
    chosen = choose_engine("onnxruntime-rtx:fp16", bundle)
    assert isinstance(chosen.runner, OnnxRuntimeRtxRunner)
    assert (chosen.runner.name, chosen.why) == ("onnxruntime-rtx:fp16", "asked for")
    assert not isinstance(choose_engine("fp16", bundle).runner, OnnxRuntimeRtxRunner)
    assert not isinstance(choose_engine("onnxruntime:fp16", bundle).runner, OnnxRuntimeRtxRunner)


@pytest.mark.parametrize(
    ("runtime", "probe", "reason"),
    [
        ("1.23.2", ADA, r"ONNX Runtime 1\.23\.2 can't load plug-ins of this kind: pip install 'onnxruntime>=1\.24'"),
        ("1.24.0", DriverProbe(problem="no NVIDIA driver"), "no NVIDIA driver"),
        (
            "1.32.0",
            DriverProbe("13.0", (Gpu("Orin", (8, 7), 0),)),
            r"does not support the Orin \(sm87\); expected sm86",
        ),
        ("1.32.0", DriverProbe("13.0", (Gpu("A100", (8, 0), 0),)), r"does not support the A100 \(sm80\)"),
        ("1.32.0", DriverProbe("13.0", (Gpu("H100", (9, 0), 0),)), r"does not support the H100 \(sm90\)"),
        ("1.32.0", DriverProbe("12.8", ADA.gpus), r"CUDA up to 12\.8, and the plug-in needs 13\.0: update"),
    ],
)
def test_a_machine_that_can_t_run_it_is_told_why(runtime: str, probe: DriverProbe, reason: str) -> None:
    assert re.search(reason, str(why_no_plug_in(runtime, probe)))


@pytest.mark.parametrize("capability", [(8, 6), (8, 9), (12, 0), (12, 1), (13, 0)])
def test_rtx_gpus_with_a_driver_for_cuda_13_can_run_it(capability: tuple[int, int]) -> None:
    assert why_no_plug_in("1.24.0", DriverProbe("13.0", (Gpu("RTX", capability, 0),))) is None


def test_without_a_gpu_it_is_refused_and_onnx_runtime_does_not_answer_in_its_place(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "probe_driver", lambda: DriverProbe(problem="no NVIDIA driver (it is not there)"))
    expected = r"onnxruntime-rtx:fp16: no NVIDIA driver \(it is not there\)\. Use onnxruntime:fp16 on this machine"
    with pytest.raises(EngineError, match=expected):
        choose_engine("onnxruntime-rtx:fp16", bundle).runner.__enter__()


def test_without_the_plug_in_the_message_names_the_extra(
    bundle: Bundle, rtx_machine: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, PLUG_IN, None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'molre-edge\[ort-rtx\]'"):
        OnnxRuntimeRtxRunner.from_bundle(bundle, Precision.FP16).__enter__()


def test_a_library_that_can_t_be_loaded_is_told_in_onnx_runtime_s_words(
    bundle: Bundle, rtx_machine: Callable[[str, str], None], tmp_path: Path
) -> None:
    library = tmp_path / "broken.so"
    library.write_bytes(b"no library")
    rtx_machine("BrokenExecutionProvider", str(library))
    with pytest.raises(EngineError, match=r"can't load the TensorRT-RTX plug-in: .*broken\.so.*--force-reinstall"):
        OnnxRuntimeRtxRunner.from_bundle(bundle, Precision.FP32).__enter__()


def test_a_plug_in_without_a_device_is_refused_each_time(
    bundle: Bundle, rtx_machine: Callable[[str, Path], None], without_devices: Path
) -> None:
    """ONNX Runtime registers a library once for each process and refuses the second time."""
    rtx_machine("EmptyExecutionProvider", without_devices)
    for _ in range(2):
        with pytest.raises(EngineError, match=r"finds no GPU that it can use, though the driver names NVIDIA RTX 2000"):
            OnnxRuntimeRtxRunner.from_bundle(bundle, Precision.FP32).__enter__()


@pytest.fixture
def on_the_cpu(rtx_machine: Callable[[str, Path], None], without_devices: Path) -> None:
    """The CPU's provider stands in for the plug-in's."""
    rtx_machine(CPU, without_devices)


def test_onnx_runtime_itself_refuses_to_fall_back(writable: Bundle, on_the_cpu: None) -> None:
    """The session that the runner asks for may hold no node on the CPU's provider."""
    with pytest.raises(EngineError, match=r"can't load the fp32 graph: .*fallback"):
        OnnxRuntimeRtxRunner.from_bundle(writable, Precision.FP32).__enter__()


@pytest.fixture
def allowed_on_the_cpu(on_the_cpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """There that provider may be used."""
    monkeypatch.setattr(module, "_NO_FALLBACK", "session.not_an_option")


def test_answers_facts_and_the_kept_kernels(writable: Bundle, golden: GoldenSet, allowed_on_the_cpu: None) -> None:
    with OnnxRuntimeRtxRunner.from_bundle(writable, Precision.FP32) as runner:
        outputs, facts = runner.run(golden.volumes).outputs, runner.facts
        (folder,) = (writable.folder / "engines").iterdir()
        (folder / "kernels").write_bytes(b"compiled")  # as the plug-in does when its session ends
    np.testing.assert_allclose(outputs.logits, golden.outputs.logits, atol=1e-4)
    assert {**facts, "version": "any", "threads": 0} == {
        "runtime": "ONNX Runtime with TensorRT-RTX", "version": "any", "plug_in": "0.5.0",
        "device": "NVIDIA RTX 2000 Ada (sm89)", "threads": 0, "cpu_fallback": False,
    }  # fmt: skip
    assert folder.name == "onnxruntime-rtx-fp32-nvidiartx2000ada-0.5.0"
    assert "kernels" in folder.with_name(f"{folder.name}.sha256").read_text()


def test_a_node_on_another_provider_is_refused(
    writable: Bundle, allowed_on_the_cpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = [SimpleNamespace(ep_name=CPU), SimpleNamespace(ep_name="OtherExecutionProvider")]
    monkeypatch.setattr(onnxruntime.InferenceSession, "get_provider_graph_assignment_info", lambda self: elsewhere)
    with pytest.raises(EngineError, match=r"parts of the graph would run on OtherExecutionProvider"):
        OnnxRuntimeRtxRunner.from_bundle(writable, Precision.FP32).__enter__()


def test_the_real_plug_in_names_its_library_and_onnx_runtime_tries_to_load_it() -> None:
    """Where the extra is installed. Without a driver the loader names what is missing; with one it is registered."""
    pytest.importorskip(PLUG_IN, reason="the extra ort-rtx is not installed")
    code = f"""
import molre_edge, onnxruntime, {PLUG_IN} as plug_in
try:
    onnxruntime.register_execution_provider_library(plug_in.get_ep_name(), plug_in.get_library_path())
    print("registered")
except Exception as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "registered" in done.stdout or "libcuda.so.1" in done.stdout
