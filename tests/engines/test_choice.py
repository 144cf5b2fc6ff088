"""A word on the command line becomes a runner and a reason, or a list of the words there are."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from molre_edge.bundle.bundle import Bundle
from molre_edge.bundle.engine_files import write_engine
from molre_edge.engines import choice as choice_module
from molre_edge.engines.choice import choose_engine, parse_engine
from molre_edge.engines.cuda.driver import DriverProbe, Gpu
from molre_edge.engines.tensorrt import fit as tensorrt_fit
from molre_edge.engines.tensorrt.api import Target, TensorRT
from molre_edge.engines.tensorrt.fit import here
from molre_edge.errors import BundleError, EngineError, MissingDependencyError, UsageError
from molre_edge.specs import Precision


@pytest.mark.parametrize(
    ("word", "runtime", "precision"),
    [
        ("fp32", None, Precision.FP32),
        ("fp16", None, Precision.FP16),
        ("int8", None, Precision.INT8),
        ("fp8", None, Precision.FP8),
        ("onnxruntime:fp16", "onnxruntime", Precision.FP16),
        ("tensorrt:fp16", "tensorrt", Precision.FP16),
        ("tensorrt-rtx:fp32", "tensorrt-rtx", Precision.FP32),
        ("onnxruntime-rtx:fp16", "onnxruntime-rtx", Precision.FP16),
        ("torch", "torch", Precision.FP32),
        ("torch:fp32", "torch", Precision.FP32),
    ],
)
def test_words_name_a_precision_and_sometimes_a_runtime(word: str, runtime: str | None, precision: Precision) -> None:
    assert parse_engine(word) == (runtime, precision)


@pytest.mark.parametrize(
    "word", ["", "fp4", "FP16", "torch:fp16", "onnxruntime", "onnxruntime:", ":fp16", "cuda:fp16", "a:b:fp32", "fp16 "]
)
def test_other_words_are_refused_with_those_there_are(word: str) -> None:
    with pytest.raises(
        UsageError,
        match=f"--engine {word}: expected {', '.join(Precision)}, with 'onnxruntime:', 'onnxruntime-rtx:', 'openvino:'",
    ):
        parse_engine(word)


def test_without_an_engine_onnx_runtime_is_chosen_with_the_reason(bundle: Bundle, machine: Any) -> None:
    machine(AMPERE)
    choice = choose_engine("fp16", bundle)
    assert choice.runner.name == "onnxruntime:fp16"
    assert choice.why == (
        "ONNX Runtime on the fp16 graph: the bundle has no TensorRT fp16 engine ('molre-edge build --engine fp16 "
        "--target rtx' makes one)"
    )


def test_a_runtime_that_was_asked_for_is_taken(bundle: Bundle, tiny_checkpoint: Path) -> None:
    choice = choose_engine("onnxruntime:fp32", bundle, threads=1)
    assert (choice.runner.name, choice.why) == ("onnxruntime:fp32", "asked for")
    with choice.runner as runner:
        assert runner.facts["threads"] == 1
    assert choose_engine("torch", bundle, checkpoint=tiny_checkpoint).runner.name == "torch:fp32"


def test_torch_without_a_checkpoint_says_what_it_needs(bundle: Bundle) -> None:
    with pytest.raises(EngineError, match=r"needs the checkpoint that the bundle was exported from\. Put it beside"):
        choose_engine("torch", bundle)


def test_a_graph_that_the_bundle_lacks_is_refused_with_how_to_make_it(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match=r"has no int8 graph, only fp32, fp16\. .*'molre-edge calibrate' makes it"):
        choose_engine("int8", bundle)
    with pytest.raises(BundleError, match=r"has no fp8 graph, .*'molre-edge calibrate --precision fp8' makes it"):
        choose_engine("fp8", bundle)


def give_engine(folder: Path, name: str, precision: str, **changes: Any) -> Path:
    """An engine's file whose JSON agrees with the bundle; its content is nothing that could run."""
    bundle = Bundle.open(folder)
    graph = f"graphs/{precision}.onnx"
    facts: dict[str, Any] = {
        "runtime": {"name": "TensorRT-RTX", "version": "1.7.1.116"},
        "target": {"name": name.split("-")[0], "compute_capabilities": ["sm86"], "built_on": here()},
        "precision": precision,
        "options": {},
        "graph": {"file": graph, "sha256": bundle.manifest["files"][graph]},
    }
    return write_engine(bundle, name, b"engine", {**facts, **changes}).path


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "edge-bundle"))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the machine one with that driver and those versions of the libraries."""

    def make(probe: DriverProbe, **versions: str) -> None:
        def load(target: Target, *, feature: str | None = None) -> TensorRT:
            if str(target) not in versions:
                raise MissingDependencyError(feature or "", "tensorrt", "tensorrt")
            return TensorRT(None, {"rtx": "TensorRT-RTX", "here": "TensorRT"}[str(target)], versions[str(target)])

        monkeypatch.setattr(choice_module, "probe_driver", lambda: probe)
        monkeypatch.setattr(tensorrt_fit, "load_tensorrt", load)
        monkeypatch.setattr(tensorrt_fit, "why_no_backend", lambda probe: None)

    return make


AMPERE = DriverProbe("13.0", (Gpu("RTX A2000", (8, 6), 1 << 33),))
NO_DRIVER = DriverProbe(problem="no NVIDIA driver (libcuda.so.1 is not there)")


def test_without_a_driver_onnx_runtime_is_taken_and_the_engine_s_reason_told(copy: Path, machine: Any) -> None:
    give_engine(copy, "rtx-fp16", "fp16")
    machine(NO_DRIVER)
    choice = choose_engine("fp16", Bundle.open(copy))
    assert choice.runner.name == "onnxruntime:fp16"
    assert choice.why == (
        "ONNX Runtime on the fp16 graph: rtx-fp16.engine can't run here: no NVIDIA driver (libcuda.so.1 is not there)"
    )


def test_an_engine_that_fits_is_taken_with_the_reason(copy: Path, machine: Any) -> None:
    give_engine(copy, "rtx-fp16", "fp16")
    give_engine(copy, "rtx-fp32", "fp32")
    machine(AMPERE, rtx="1.7.1.116")
    choice = choose_engine("fp16", Bundle.open(copy))
    assert choice.runner.name == "tensorrt-rtx:fp16"
    assert choice.why == "rtx-fp16.engine fits the RTX A2000 (sm86) of this machine"
    assert choose_engine("tensorrt-rtx:fp32", Bundle.open(copy)).why.startswith("asked for; rtx-fp32.engine fits")


def test_an_engine_built_for_this_gpu_comes_before_a_portable_one(copy: Path, machine: Any) -> None:
    give_engine(copy, "rtx-fp16", "fp16")
    give_engine(copy, "here-fp16", "fp16", runtime={"name": "TensorRT", "version": "10.16.1"})
    machine(AMPERE, rtx="1.7.1.116", here="10.16.1")
    assert choose_engine("fp16", Bundle.open(copy)).runner.name == "tensorrt:fp16"
    assert choose_engine("tensorrt-rtx:fp16", Bundle.open(copy)).runner.name == "tensorrt-rtx:fp16"
    machine(AMPERE, rtx="1.7.1.116", here="10.3.0")
    assert choose_engine("fp16", Bundle.open(copy)).runner.name == "tensorrt-rtx:fp16"
    with pytest.raises(EngineError, match=r"--engine tensorrt:fp16: .*built by TensorRT 10\.16\.1, and 10\.3\.0 is"):
        choose_engine("tensorrt:fp16", Bundle.open(copy))


@pytest.mark.parametrize(
    ("gpu", "versions", "reason"),
    [
        (Gpu("Orin", (8, 7), 0), {"rtx": "1.7.1.116"}, r"built for sm86, and the GPU here is Orin \(sm87\)"),
        (AMPERE.gpus[0], {"rtx": "1.8.0"}, r"built by TensorRT-RTX 1\.7\.1\.116, and 1\.8\.0 is installed"),
        (AMPERE.gpus[0], {}, r"Running it needs tensorrt, which is not installed"),
    ],
)
def test_what_does_not_fit_is_told_and_refused_where_it_was_asked_for(
    gpu: Gpu, versions: dict[str, str], reason: str, copy: Path, machine: Any
) -> None:
    give_engine(copy, "rtx-fp16", "fp16")
    machine(DriverProbe("13.0", (gpu,)), **versions)
    choice = choose_engine("fp16", Bundle.open(copy))
    assert choice.runner.name == "onnxruntime:fp16"
    assert re.search(reason, choice.why)
    with pytest.raises(EngineError, match=reason):
        choose_engine("tensorrt-rtx:fp16", Bundle.open(copy))


def test_without_pycuda_and_cuda_python_the_gpu_is_out_of_reach(
    copy: Path, machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib import metadata

    from molre_edge.engines.cuda.device import why_no_backend

    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    give_engine(copy, "rtx-fp16", "fp16")
    machine(AMPERE, rtx="1.7.1.116")
    monkeypatch.setattr(tensorrt_fit, "why_no_backend", why_no_backend)
    monkeypatch.setattr(metadata, "version", absent)
    choice = choose_engine("fp16", Bundle.open(copy))
    assert choice.runner.name == "onnxruntime:fp16"
    assert "rtx-fp16.engine can't run here: neither pycuda nor cuda-python is installed: pip install" in choice.why


@pytest.mark.parametrize(
    ("versions", "cuda", "reason"),
    [
        ({"cuda-bindings": "13.4.4"}, "12.6", r"cuda-python 13\.4\.4 is newer than the driver's CUDA 12\.6"),
        ({"pycuda": "2026.1"}, "12.6", r"pycuda 2026\.1 can't be loaded \(libcurand of another kind\)"),
        ({"pycuda": "2026.1", "cuda-bindings": "13.4.4"}, "12.6", r"pycuda .*\), and cuda-python .* CUDA 12\.6"),
        ({"cuda-bindings": "13.4.4"}, "13.0", r"can't be loaded \(no such function\)"),
    ],
)
def test_a_backend_that_is_installed_and_does_not_serve_is_a_reason_too(
    versions: dict[str, str], cuda: str, reason: str, copy: Path, machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from molre_edge.engines.cuda import device

    def version(name: str) -> str:
        if name not in versions:
            raise device.metadata.PackageNotFoundError(name)
        return versions[name]

    def load(name: str) -> Any:
        raise (
            ImportError("libcurand of another kind") if name.startswith("pycuda") else RuntimeError("no such function")
        )

    give_engine(copy, "rtx-fp16", "fp16")
    machine(DriverProbe(cuda, AMPERE.gpus), rtx="1.7.1.116")
    monkeypatch.setattr(tensorrt_fit, "why_no_backend", device.why_no_backend)
    monkeypatch.setattr(device.metadata, "version", version)
    monkeypatch.setattr(device.importlib, "import_module", load)
    choice = choose_engine("fp16", Bundle.open(copy))
    assert choice.runner.name == "onnxruntime:fp16"
    assert re.search(f"rtx-fp16.engine can't run here: .*{reason}", choice.why)
    assert choice.why.endswith(f"pip install 'cuda-bindings=={cuda[:2]}.*'")


def test_altered_damaged_and_outdated_engines_are_not_taken(copy: Path, machine: Any) -> None:
    path = give_engine(copy, "rtx-fp16", "fp16")
    machine(AMPERE, rtx="1.7.1.116")
    path.write_bytes(b"swapped")
    assert "altered or swapped" in choose_engine("fp16", Bundle.open(copy)).why
    with pytest.raises(EngineError, match="altered or swapped"):
        choose_engine("tensorrt-rtx:fp16", Bundle.open(copy))
    give_engine(copy, "rtx-fp16", "fp16", graph={"file": "graphs/fp16.onnx", "sha256": "0" * 64})
    assert "it was built from another graphs/fp16.onnx" in choose_engine("fp16", Bundle.open(copy)).why
    path.with_suffix(".json").write_text("{}")
    assert "not the JSON of an engine" in choose_engine("fp16", Bundle.open(copy)).why


def test_without_a_driver_nobody_is_told_to_build_an_engine(copy: Path, machine: Any) -> None:
    machine(NO_DRIVER)
    why = choose_engine("fp32", Bundle.open(copy)).why
    assert why == "ONNX Runtime on the fp32 graph: no NVIDIA driver (libcuda.so.1 is not there)"


def test_an_engine_that_was_asked_for_and_is_not_there_is_told_with_how_to_build_it(copy: Path, machine: Any) -> None:
    machine(NO_DRIVER)
    with pytest.raises(
        EngineError,
        match=r"no tensorrt fp32 engine \('molre-edge build --engine fp32 --target here' makes one\), and no",
    ):
        choose_engine("tensorrt:fp32", Bundle.open(copy))


def test_choosing_loads_neither_torch_nor_a_cuda_package(copy: Path) -> None:
    give_engine(copy, "rtx-fp16", "fp16")
    code = """
import sys
from pathlib import Path
from molre_edge.bundle.bundle import Bundle
from molre_edge.engines.choice import choose_engine
choose_engine("fp16", Bundle.open(Path(sys.argv[1])))
print(sorted({"torch", "onnxruntime", "tensorrt", "tensorrt_rtx", "pycuda", "cuda"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code, str(copy)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
