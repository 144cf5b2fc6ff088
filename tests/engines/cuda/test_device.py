"""Every backend keeps the device's contract: on a GPU where there is one, on a stand-in for the driver everywhere."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from molre_edge.engines.cuda.device import BACKENDS, Device, open_device
from molre_edge.engines.cuda.driver import DriverProbe, Gpu, probe_driver
from molre_edge.engines.device_check import DEVICE_CHECKS
from molre_edge.errors import EngineError

NO_GPU = probe_driver().problem
MODULES = {"pycuda": "pycuda", "cuda-python": "cuda.bindings"}

CHECK_ALL = """
import ctypes, json, sys
from molre_edge.engines.cuda.device import open_device
from molre_edge.engines.device_check import DEVICE_CHECKS
found = {}
device = open_device(sys.argv[1])
for check in DEVICE_CHECKS:
    try:
        check(device)
        found[check.__name__] = "kept"
    except Exception as error:
        found[check.__name__] = repr(error)
device.close()
left = ctypes.CDLL("libcuda.so.1").stand_in_alive()
print(json.dumps({"backend": device.backend, "gpu": str(device.gpu), "found": found, "left": left}))
"""


def needs(backend: str) -> None:
    pytest.importorskip(MODULES[backend], reason=f"{backend} is not installed", exc_type=ImportError)


@pytest.mark.parametrize("check", DEVICE_CHECKS, ids=lambda check: check.__name__)
def test_the_device_of_the_tests_keeps_the_contract(check: Callable[[Device], None], host_device: Any) -> None:
    device = host_device()
    check(device)
    device.close()


def test_a_device_that_breaks_the_contract_is_found_out(host_device: Any) -> None:
    class Eager(host_device):  # type: ignore[misc]
        def capture(self, stream: Any, work: Callable[[], None]) -> Any:
            work()
            return super().capture(stream, work)

    (check,) = (check for check in DEVICE_CHECKS if "not_before" in check.__name__)
    with pytest.raises(AssertionError, match="expected 0 before the launches"):
        check(Eager())


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_backends_call_the_driver_as_the_contract_says(backend: str, stand_in: Path) -> None:
    importable = subprocess.run(
        [sys.executable, "-c", f"import {MODULES[backend]}"], env={**os.environ, "LD_LIBRARY_PATH": str(stand_in)}
    )
    if importable.returncode:
        pytest.skip(f"{backend} is not installed")
    done = subprocess.run(
        [sys.executable, "-c", CHECK_ALL, backend],
        env={**os.environ, "LD_LIBRARY_PATH": str(stand_in)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["backend"].startswith(f"{backend} ") and told["gpu"] == "Stand-in (sm86)"
    assert {name: kept for name, kept in told["found"].items() if kept != "kept"} == {}
    assert len(told["found"]) == len(DEVICE_CHECKS)
    assert told["left"] == 0
    assert done.stderr == ""  # neither a function that the stand-in lacks, nor a clean-up that pycuda could not do


@pytest.mark.gpu
@pytest.mark.skipif(NO_GPU is not None, reason=f"needs an NVIDIA GPU: {NO_GPU}")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("check", DEVICE_CHECKS, ids=lambda check: check.__name__)
def test_a_gpu_keeps_the_contract(check: Callable[[Device], None], backend: str) -> None:
    needs(backend)
    device = open_device(backend)
    check(device)
    device.close()


@pytest.mark.skipif(NO_GPU is None, reason="there is a GPU")
def test_without_a_driver_the_reason_is_told() -> None:
    with pytest.raises(EngineError, match=r"A TensorRT engine needs an NVIDIA GPU and its driver; 'molre-edge doctor'"):
        open_device()


def in_stand_in(code: str, stand_in: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "LD_LIBRARY_PATH": str(stand_in), **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_driver_is_asked_for_its_gpus_without_any_cuda_package(stand_in: Path) -> None:
    code = """
import sys
from molre_edge.engines.cuda.driver import probe_driver
probe = probe_driver()
print(probe.cuda, *probe.gpus, probe.gpus[0].memory_bytes, probe.problem, *({"cuda", "pycuda"} & set(sys.modules)))
"""
    assert in_stand_in(code, stand_in) == "13.0 Stand-in (sm86) 2147483648 None"


def test_a_driver_without_a_gpu_says_so_in_its_own_words(stand_in: Path) -> None:
    code = "from molre_edge.engines.cuda.driver import probe_driver; print(probe_driver().problem)"
    told = in_stand_in(code, stand_in, STAND_IN_NO_DEVICE="1")
    assert told == ("the NVIDIA driver does not start: CUDA_ERROR_NO_DEVICE (100): no CUDA-capable device is detected")


def test_a_library_of_that_name_that_is_no_driver_is_an_answer_too(tmp_path: Path, monkeypatch: Any) -> None:
    driver = importlib.import_module("molre_edge.engines.cuda.driver")
    monkeypatch.setattr(driver, "load_libcuda", lambda: __import__("ctypes").CDLL(None))  # this process itself
    assert "is no NVIDIA driver that is known" in driver.probe_driver().problem


def test_with_a_driver_and_no_backend_both_are_named_with_what_to_install(stand_in: Path) -> None:
    code = """
import sys
sys.modules.update({"pycuda": None, "cuda": None})
from molre_edge.engines.cuda.device import open_device
try:
    open_device()
except Exception as error:
    print(type(error).__name__, error)
"""
    told = in_stand_in(code, stand_in)
    assert told.startswith(
        "EngineError running a TensorRT engine needs pycuda or cuda-python, and neither can be loaded"
    )
    assert "pip install 'molre-edge[cuda]'" in told


@pytest.mark.parametrize("kind", [ImportError, OSError, RuntimeError])
def test_a_backend_that_fails_to_load_is_named_with_its_reason(kind: type[Exception], monkeypatch: Any) -> None:
    from molre_edge.engines.cuda import device

    def load(name: str) -> Any:
        raise kind("built for another driver")

    monkeypatch.setattr(device, "probe_driver", lambda: DriverProbe("12.6", (Gpu("A2000", (8, 6), 1 << 33),)))
    monkeypatch.setattr(device.importlib, "import_module", load)
    with pytest.raises(EngineError, match=r"neither can be loaded \(pycuda: built for .*; cuda-python: built for "):
        open_device()
