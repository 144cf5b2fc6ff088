"""What a machine can do is told for any machine, with the command that brings what it lacks."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from molre_edge import doctor
from molre_edge.doctor import Diagnosis, Part, diagnose
from molre_edge.engines.cuda.driver import DriverProbe, Gpu
from molre_edge.engines.onnxruntime_rtx_runner import PLUG_IN, PLUG_IN_PACKAGE

NO_DRIVER = DriverProbe(problem="no NVIDIA driver (libcuda.so.1 is not there)")
ORIN = DriverProbe("12.6", (Gpu("Orin", (8, 7), 8 << 30, integrated=True),))
AMPERE = DriverProbe("13.0", (Gpu("RTX A2000", (8, 6), 6 << 30),))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Describes a machine of that kind, with these packages and system files, and diagnoses it."""

    def make(probe: DriverProbe, processor: str, packages: dict[str, str], files: dict[str, str]) -> Diagnosis:
        modules = {"tensorrt_rtx", "tensorrt", "torch", "onnxruntime", "openvino", PLUG_IN}
        monkeypatch.setattr(doctor, "probe_driver", lambda: probe)
        monkeypatch.setattr(platform, "machine", lambda: processor)
        monkeypatch.setattr(doctor, "_is_there", lambda module: module in packages and module in modules)
        monkeypatch.setattr(
            doctor, "_version", lambda *names: next((packages[n] for n in names if n in packages), None)
        )
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return diagnose(root=tmp_path, folder=tmp_path)

    return make


def part(found: Diagnosis, name: str) -> Part:
    (one,) = (each for each in found.parts if each.name == name)
    return one


JETSON = {
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
    "proc/meminfo": "MemTotal:        7802356 kB\nMemFree:  100 kB\nMemAvailable:    5242880 kB\n",
}


def test_a_jetson_is_told_its_jetpack_and_gets_tensorrt_from_there(machine: Any) -> None:
    found = machine(ORIN, "aarch64", {"onnxruntime": "1.23.0"}, JETSON)
    assert found.machine.startswith("NVIDIA Jetson Orin Nano Developer Kit, ")
    assert part(found, "JetPack").found == "L4T 36.4.3, JetPack 6.1 or 6.2"
    assert part(found, "memory").found == "5.0 GiB free of 7.4"
    assert "python3-libnvinfer" in part(found, "TensorRT").install
    assert "--system-site-packages" in part(found, "TensorRT").install
    assert part(found, "TensorRT-RTX").install.startswith("not for a Jetson")
    assert part(found, "cuda-python").install == "pip install 'cuda-bindings==12.*'"
    assert found.can_run["tensorrt"] == "not installed"
    assert found.can_run["onnxruntime"] is None and found.anything_runs
    assert found.can_run["openvino"] == "not installed"
    assert part(found, "OpenVINO").install == "pip install 'molre-edge[openvino]'"


def test_a_jetson_with_all_of_it_runs_tensorrt_and_not_rtx(machine: Any) -> None:
    packages = {"onnxruntime": "1.23.0", "tensorrt": "10.3.0", "pycuda": "2026.1", "tensorrt_rtx": "1.7.1.116"}
    found = machine(ORIN, "aarch64", packages, JETSON)
    assert found.can_run["tensorrt"] is None
    assert found.can_run["tensorrt-rtx"].startswith("TensorRT-RTX does not support the Orin (sm87)")


def test_a_workstation_gets_commands_of_its_own(machine: Any) -> None:
    found = machine(AMPERE, "x86_64", {"onnxruntime": "1.32.0", "cuda-bindings": "13.4.4"}, {})
    assert part(found, "TensorRT").install == "pip install 'molre-edge[tensorrt]'"
    assert part(found, "TensorRT-RTX").install == "pip install 'molre-edge[rtx]'"
    assert part(found, "NVIDIA GPU").found == "RTX A2000 (sm86), 6.0 GiB; driver ?, for CUDA up to 13.0"
    assert part(found, "pycuda").state == "missing" and part(found, "cuda-python").state == "ok"
    assert "JetPack" not in {each.name for each in found.parts}


def test_the_plug_in_of_onnx_runtime_is_named_with_what_it_needs(machine: Any) -> None:
    name, runtime = "ONNX Runtime's RTX plug-in", {"onnxruntime": "1.32.0"}
    found = machine(AMPERE, "x86_64", runtime, {})
    assert part(found, name).install == "pip install 'molre-edge[ort-rtx]'"
    assert found.can_run["onnxruntime-rtx"] == "not installed"
    plug_in = {PLUG_IN: "", PLUG_IN_PACKAGE: "0.5.0"}
    found = machine(AMPERE, "x86_64", {**runtime, **plug_in}, {})
    assert (part(found, name).found, found.can_run["onnxruntime-rtx"]) == ("0.5.0", None)
    old = machine(AMPERE, "x86_64", {"onnxruntime": "1.23.2", **plug_in}, {}).can_run["onnxruntime-rtx"]
    assert old.startswith("ONNX Runtime 1.23.2 can't load plug-ins of this kind: pip install 'onnxruntime>=1.24'")
    assert old.endswith(", which needs Python 3.11 or newer")
    assert (
        "does not support the Orin" in machine(ORIN, "aarch64", {**runtime, **plug_in}, {}).can_run["onnxruntime-rtx"]
    )


def test_extras_are_told_with_what_they_lack(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ["cryptography>=42; extra == 'sign'", *(f"{name}>=1; extra == 'dicom'" for name in ("highdicom", "pillow"))]
    monkeypatch.setattr(doctor.metadata, "requires", lambda _: asked)
    found = machine(NO_DRIVER, "x86_64", {"cryptography": "42.0"}, {})
    assert (part(found, "extra 'sign'").state, part(found, "extra 'dicom'").state) == ("ok", "missing")
    lacking = part(found, "extra 'dicom'")
    assert lacking.found == "not installed: highdicom, pillow"
    assert lacking.needed_for.startswith("molre-edge node, infer --sr")
    assert lacking.install == "pip install 'molre-edge[dicom]'"
    assert part(found, "extra 'train'").found == "not known to the molre-edge that is installed"


def test_what_is_there_and_does_not_serve_is_a_problem(machine: Any) -> None:
    packages = {"tensorrt": "8.6.1", "cuda-bindings": "13.4.4", "onnxruntime": "1.23.0"}
    found = machine(DriverProbe("12.6", AMPERE.gpus), "x86_64", packages, {})
    assert (part(found, "TensorRT").state, part(found, "cuda-python").state) == ("problem", "problem")
    assert part(found, "cuda-python").found == "13.4.4 is newer than the driver's CUDA 12.6"
    assert found.can_run["tensorrt"] == "8.6.1 is not a version that molre-edge supports"


@pytest.mark.parametrize(
    ("l4t", "jetpack", "state"),
    [
        ("R35 (release), REVISION: 4.1", "5.1", "problem"),
        ("R36 (release), REVISION: 2.0", "unknown", "problem"),
        ("R36 (release), REVISION: 3.0", "6.0", "problem"),
        ("R36 (release), REVISION: 4.0", "6.1 or 6.2", "ok"),
        ("R38 (release), REVISION: 2.0", "7.0 or 7.1", "ok"),
    ],
)
def test_a_jetpack_with_tensorrt_8_is_told_to_be_too_old(machine: Any, l4t: str, jetpack: str, state: str) -> None:
    found = part(machine(NO_DRIVER, "aarch64", {}, {"etc/nv_tegra_release": f"# {l4t}, GCID: 1\n"}), "JetPack")
    assert found.state == state and found.found.endswith(f"JetPack {jetpack}")


def test_a_machine_where_nothing_runs_and_nothing_can_be_looked_at_is_still_told(
    machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("odd")

    for name in ("usable_cores", "_text"):
        monkeypatch.setattr(doctor, name, broken if name == "usable_cores" else lambda path: "\0")
    monkeypatch.setattr(doctor.shutil, "disk_usage", broken)
    found = machine(NO_DRIVER, "riscv64", {}, {})
    assert not found.anything_runs
    assert part(found, "CPU").found == "could not be examined (RuntimeError: odd)"
    assert part(found, "disk").state == "problem"
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_broken_onnx_runtime_is_a_problem_with_what_to_do(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    found = machine(NO_DRIVER, "x86_64", {"onnxruntime": "1.32.0"}, {})
    assert part(found, "ONNX Runtime").state == "problem"
    assert "--force-reinstall" in part(found, "ONNX Runtime").install
    assert not found.anything_runs


def test_everything_that_lacks_says_what_for_and_how_to_get_it(machine: Any) -> None:
    for probe, processor, files in ((NO_DRIVER, "x86_64", {}), (NO_DRIVER, "aarch64", JETSON), (AMPERE, "x86_64", {})):
        for each in machine(probe, processor, {}, files).parts:
            assert each.state == "ok" or (each.needed_for and each.install) or each.name == "disk", each


def test_this_machine_is_told_without_a_heavy_import() -> None:
    code = """
import sys
from molre_edge.doctor import diagnose
found = diagnose()
print(sorted({"torch", "tensorrt", "tensorrt_rtx", "pycuda", "cuda", "transformers", "onnx"} & set(sys.modules)))
print(found.can_run["onnxruntime"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "None"]


@pytest.mark.parametrize(
    ("line", "driver"),
    [
        ("NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build  (dvs-builder@U22)", "580.159.04"),
        ("NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build  (buildbrain@mobile)", "540.4.0"),
        ("NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 18:56:32 UTC 2023", "535.129.03"),
        ("something else", "?"),
    ],
)
def test_the_driver_is_told_by_its_own_version_and_not_by_the_processor_s(machine: Any, line: str, driver: str) -> None:
    text = f"NVRM version: {line}\nGCC version:  gcc version 11.4.0 (Ubuntu 11.4.0-1ubuntu1~22.04)\n"
    found = part(machine(AMPERE, "x86_64", {}, {"proc/driver/nvidia/version": text}), "NVIDIA GPU").found
    assert found.endswith(f"; driver {driver}, for CUDA up to 13.0")


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"version.json": '{"cuda" : {"name" : "CUDA SDK", "version" : "12.6.11"}}'}, "12.6.11"),
        ({"include/cuda.h": "/* x */\n#define CUDA_VERSION 13020\n"}, "13.2"),
        ({}, "version unknown"),
    ],
)
def test_the_toolkit_s_version_is_read_from_what_it_brings(
    machine: Any, files: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda name, path=None: "/opt/nvcc")
    found = machine(NO_DRIVER, "x86_64", {}, {f"usr/local/cuda/{name}": text for name, text in files.items()})
    assert part(found, "CUDA toolkit").found == f"{told} (/opt/nvcc)"
