"""The verb ``diagnose``: what this machine can run, and what to install for the rest.

Nothing here raises: an unusual machine is described, not refused. Versions come from the packages' metadata. Of the
heavy libraries only ONNX Runtime is imported, because it must run.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from molre_edge import __version__
from molre_edge.engines.cuda.device import newer_than_driver
from molre_edge.engines.cuda.driver import DriverProbe, Gpu, probe_driver
from molre_edge.engines.onnxruntime_rtx_runner import PLUG_IN, PLUG_IN_PACKAGE, why_no_plug_in
from molre_edge.engines.tensorrt.api import Target, version_is_known, version_numbers
from molre_edge.engines.tensorrt.fit import RTX_CAPABILITIES
from molre_edge.machine import usable_cores
from molre_edge.offline import telemetry_problem

__all__ = ["Diagnosis", "Part", "diagnose"]

OK, MISSING, PROBLEM = "ok", "missing", "problem"

_JETPACKS = (("39.2", "7.2"), ("38", "7.0 or 7.1"), ("36.4", "6.1 or 6.2"), ("36.3", "6.0"), ("35", "5.1"))
"""How an L4T version begins, and the JetPack that brings it."""
_OLDEST_L4T = (36, 4)
"""The first that brings a TensorRT that serves: 10.3. Those before bring 8."""
_EXTRAS = (
    ("export", "molre-edge export"),
    ("train", "molre-edge train and evaluate"),
    ("dicom", "molre-edge node, infer --sr and --secondary-capture"),
    ("sign", "signed releases"),
)
"""Extras whose packages any machine can install, and what needs them."""


@dataclass(frozen=True)
class Part:
    """One part of the diagnosis.

    Attributes:
        name: the part's name.
        state: ``ok``, ``missing`` or ``problem``.
        found: what was found, or what is wrong, in words.
        needed_for: what does not work without it.
        install: the command that installs it, or what to do; empty if nothing needs to be done.
    """

    name: str
    state: str
    found: str
    needed_for: str = ""
    install: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """The result of a diagnosis.

    Attributes:
        machine: the kind of machine, in words.
        parts: the parts, in the order of the chain.
        can_run: by runtime, None if it can run engines here, else why it can't.
    """

    machine: str
    parts: tuple[Part, ...]
    can_run: dict[str, str | None]

    @property
    def anything_runs(self) -> bool:
        """Whether a bundle can be run at all."""
        return None in self.can_run.values()

    @property
    def exit_code(self) -> int:
        """0: some runtime can run. 1: none can."""
        return 0 if self.anything_runs else 1

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, as ``molre-edge doctor --json`` prints it."""
        return {
            "machine": self.machine,
            "parts": [asdict(part) for part in self.parts],
            "can_run": self.can_run,
            "exit_code": self.exit_code,
        }


def diagnose(*, root: Path = Path("/"), folder: Path = Path()) -> Diagnosis:
    """Find out what this machine can run.

    Args:
        root: the root of its system files.
        folder: the folder for results; its free space is reported.
    """
    jetson = _l4t(root) is not None
    probe = probe_driver()
    onnxruntime = _safely("ONNX Runtime", _onnxruntime)
    openvino = _safely("OpenVINO", _openvino)
    plug_in = _safely("ONNX Runtime's RTX plug-in", _plug_in)
    torch = _torch()
    backends = _backends(probe)
    tensorrt = _tensorrt(jetson=jetson)
    rtx = _rtx(jetson=jetson)
    gpu = _gpu(probe, root, jetson=jetson)
    parts = (
        _safely("Python", _python),
        Part("molre-edge", OK, __version__),
        onnxruntime,
        plug_in,
        openvino,
        torch,
        *_extras(),
        gpu,
        *_jetpack(root),
        tensorrt,
        rtx,
        *backends,
        _safely("CUDA toolkit", lambda: _toolkit(root)),
        _offline(),
        _safely("CPU", _cpu),
        _safely("memory", lambda: _memory(root)),
        _safely("disk", lambda: _disk(folder)),
    )
    usable = any(part.state == OK for part in backends)
    reach = None if usable else "neither pycuda nor cuda-python is usable here"
    can_run = {
        "onnxruntime": None if onnxruntime.state == OK else onnxruntime.found,
        "onnxruntime-rtx": _why_no_plug_in(onnxruntime, plug_in, probe),
        "openvino": None if openvino.state == OK else openvino.found,
        "tensorrt": _why_not(tensorrt, probe, reach),
        "tensorrt-rtx": _why_not(rtx, probe, reach) or _not_for_rtx(probe.gpus[0]),
        "torch": None if torch.state == OK else torch.found,
    }
    return Diagnosis(_machine(root), parts, can_run)


def _why_not(library: Part, probe: DriverProbe, reach: str | None) -> str | None:
    return probe.problem or (None if library.state == OK else library.found) or reach


def _why_no_plug_in(onnxruntime: Part, plug_in: Part, probe: DriverProbe) -> str | None:
    if onnxruntime.state != OK:
        return onnxruntime.found
    return why_no_plug_in(_version("onnxruntime", "onnxruntime-gpu") or "", probe) or (
        None if plug_in.state == OK else plug_in.found
    )


def _not_for_rtx(gpu: Gpu) -> str | None:
    if gpu.sm in RTX_CAPABILITIES or gpu.compute_capability >= (12, 0):
        return None
    return f"TensorRT-RTX does not support the {gpu}; it builds for {', '.join(RTX_CAPABILITIES)}"


def _safely(name: str, look: Callable[[], Part]) -> Part:
    try:
        return look()
    except Exception as error:  # the other parts are still reported
        return Part(name, PROBLEM, f"could not be examined ({type(error).__name__}: {error})")


def _version(*distributions: str) -> str | None:
    """Version of the first distribution that is installed."""
    for name in distributions:
        with contextlib.suppress(metadata.PackageNotFoundError, ValueError, OSError):
            return metadata.version(name)
    return None


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError, AttributeError):
        return False


def _python() -> Part:
    return Part("Python", OK, f"{platform.python_version()} ({sys.executable})")


def _onnxruntime() -> Part:
    name, needed, install = "ONNX Runtime", "running bundles everywhere", "pip install 'onnxruntime>=1.23'"
    if not _is_there("onnxruntime"):
        return Part(name, MISSING, "not installed", needed, install)
    try:
        import onnxruntime
    except Exception as error:  # a broken installation fails in many ways
        return Part(name, PROBLEM, f"can't be loaded ({error})", needed, f"{install} --force-reinstall")
    providers = [each.removesuffix("ExecutionProvider") for each in onnxruntime.get_available_providers()]
    return Part(name, OK, f"{onnxruntime.__version__}, with {', '.join(providers)}")


def _openvino() -> Part:
    name, needed, install = "OpenVINO", "a second CPU runtime", "pip install 'molre-edge[openvino]'"
    version = _version("openvino") if _is_there("openvino") else None
    return Part(name, OK, version) if version else Part(name, MISSING, "not installed", needed, install)


def _plug_in() -> Part:
    name, needed = "ONNX Runtime's RTX plug-in", "RTX GPUs without an engine file (--engine onnxruntime-rtx:fp16)"
    version = _version(PLUG_IN_PACKAGE) if _is_there(PLUG_IN) else None
    return (
        Part(name, OK, version)
        if version
        else Part(name, MISSING, "not installed", needed, "pip install 'molre-edge[ort-rtx]'")
    )


def _torch() -> Part:
    version = _version("torch") if _is_there("torch") else None
    if version:
        return Part("PyTorch", OK, version)
    needed = "the PyTorch reference, export and training; not on the edge box"
    return Part("PyTorch", MISSING, "not installed", needed, "pip install 'molre-edge[export]'")


def _extras() -> tuple[Part, ...]:
    """The packages that extras install, beside PyTorch."""
    parts = []
    for extra, needed in _EXTRAS:
        name, asked = f"extra '{extra}'", _asked_for(extra)
        lacking = [each for each in asked if _version(each) is None]
        told = f"not installed: {', '.join(lacking)}" if asked else "not known to the molre-edge that is installed"
        install = f"pip install 'molre-edge[{extra}]'"
        parts.append(
            Part(name, OK, "complete") if asked and not lacking else Part(name, MISSING, told, needed, install)
        )
    return tuple(parts)


def _asked_for(extra: str) -> Sequence[str]:
    """Names of the packages of an extra, with those of the extras that it asks for."""
    of_extra = re.compile(rf"extra\s*==\s*['\"]{extra}['\"]")
    try:
        lines = [line for line in metadata.requires("molre-edge") or () if of_extra.search(line)]
    except metadata.PackageNotFoundError:
        return ()
    names: list[str] = []
    for line in lines:
        if other := re.match(r"molre-edge\[([A-Za-z0-9_-]+)\]", line):
            names += _asked_for(other[1])
        elif match := re.match(r"[A-Za-z0-9._-]+", line):
            names.append(match[0])
    return list(dict.fromkeys(names))


def _gpu(probe: DriverProbe, root: Path, *, jetson: bool) -> Part:
    needed = "TensorRT engines"
    if probe.problem is not None:
        install = "flash the Jetson with JetPack" if jetson else "install NVIDIA's driver for the GPU, if there is one"
        return Part("NVIDIA GPU", MISSING if probe.cuda is None else PROBLEM, probe.problem, needed, install)
    told = ", ".join(f"{gpu}, {gpu.memory_bytes / 2**30:.1f} GiB" for gpu in probe.gpus)
    # 'Kernel Module for x86_64  580.159.04' or 'x86_64 Kernel Module  535.129.03': the first word that is a version
    driver = re.search(r"NVRM version:.*?\s(\d+\.\d[\d.]*)(?!\S)", _text(root / "proc/driver/nvidia/version"))
    return Part("NVIDIA GPU", OK, f"{told}; driver {driver[1] if driver else '?'}, for CUDA up to {probe.cuda}")


def _jetpack(root: Path) -> tuple[Part, ...]:
    l4t = _l4t(root)
    if l4t is None:
        return ()
    jetpack = next((name for start, name in _JETPACKS if f"{l4t}.".startswith(f"{start}.")), None)
    told = f"L4T {l4t}, JetPack {jetpack or 'unknown'}"
    if version_numbers(l4t) < _OLDEST_L4T:
        return (Part("JetPack", PROBLEM, told, "TensorRT engines", "JetPack 6.1 or later: TensorRT 8 is too old"),)
    return (Part("JetPack", OK, told),)


def _l4t(root: Path) -> str | None:
    """``36.4.3`` of ``# R36 (release), REVISION: 4.3, ...``; None where this is no Jetson."""
    found = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", _text(root / "etc/nv_tegra_release"))
    return f"{found[1]}.{found[2]}" if found else None


def _tensorrt(*, jetson: bool) -> Part:
    needed = "engines for the GPU of this machine (--target here)"
    if jetson:
        install = (
            "sudo apt install python3-libnvinfer, and an environment that sees it: "
            "/usr/bin/python3 -m venv --system-site-packages .venv"
        )
    elif platform.machine() == "x86_64":
        install = "pip install 'molre-edge[tensorrt]'"
    else:
        install = "NVIDIA's package of TensorRT for this machine"
    distributions = ("tensorrt", "tensorrt_cu13", "tensorrt_cu12")
    return _library("TensorRT", Target.HERE, "tensorrt", distributions, needed, install)


def _rtx(*, jetson: bool) -> Part:
    needed = "portable engines for RTX GPUs, built without a GPU (--target rtx)"
    fits = platform.system() == "Linux" and platform.machine() == "x86_64"
    install = "pip install 'molre-edge[rtx]'" if fits else "build them on Linux x86-64"
    if jetson:
        install = "not for a Jetson: TensorRT-RTX does not support its GPU"
    return _library("TensorRT-RTX", Target.RTX, "tensorrt_rtx", ("tensorrt_rtx",), needed, install)


def _library(name: str, target: Target, module: str, distributions: Sequence[str], needed: str, install: str) -> Part:
    if not _is_there(module):
        return Part(name, MISSING, "not installed", needed, install)
    version = _version(*distributions)
    if version is None:
        return Part(name, OK, "installed; its package does not name its version")
    if not version_is_known(target, version):
        return Part(name, PROBLEM, f"{version} is not a version that molre-edge supports", needed, install)
    return Part(name, OK, version)


def _backends(probe: DriverProbe) -> tuple[Part, Part]:
    """Pycuda and cuda-python; one of them reaches the GPU."""
    needed = "running TensorRT engines, by one of pycuda and cuda-python"
    pycuda, cuda = _version("pycuda"), _version("cuda-bindings")
    install = "PATH=/usr/local/cuda/bin:$PATH pip install pycuda (it is compiled: CUDA toolkit and C++ compiler needed)"
    first = Part("pycuda", OK, pycuda) if pycuda else Part("pycuda", MISSING, "not installed", needed, install)
    major = (probe.cuda or "13").split(".")[0]  # its first number is that of the driver's CUDA
    install = f"pip install 'cuda-bindings=={major}.*'"
    if cuda is None:
        return first, Part("cuda-python", MISSING, "not installed", needed, install)
    if (told := newer_than_driver(cuda, probe)) is not None:
        return first, Part("cuda-python", PROBLEM, told, needed, install)
    return first, Part("cuda-python", OK, cuda)


def _toolkit(root: Path) -> Part:
    nvcc = shutil.which("nvcc") or shutil.which("nvcc", path=str(root / "usr/local/cuda/bin"))
    version = _cuda_version(root / "usr/local/cuda")
    if nvcc is None:
        return Part(
            "CUDA toolkit", MISSING, "no nvcc", "building pycuda", "NVIDIA's CUDA toolkit; cuda-python needs none"
        )
    return Part("CUDA toolkit", OK, f"{version or 'version unknown'} ({nvcc})")


def _cuda_version(toolkit: Path) -> str | None:
    """Of its version.json, which some packages of it leave out, else of its header."""
    if told := re.search(r'"cuda"\s*:\s*\{[^}]*"version"\s*:\s*"([\d.]+)"', _text(toolkit / "version.json")):
        return told[1]
    number = re.search(r"^#define CUDA_VERSION (\d+)", _text(toolkit / "include/cuda.h"), re.MULTILINE)
    return f"{int(number[1]) // 1000}.{int(number[1]) % 1000 // 10}" if number else None


def _offline() -> Part:
    """Whether no library of this process sends usage data."""
    problem = telemetry_problem()
    if problem is None:
        return Part("offline", OK, "yes: usage data of ONNX Runtime and of the Hugging Face libraries is off")
    return Part("offline", PROBLEM, f"not certain: {problem}", "privacy", "start the program anew")


def _cpu() -> Part:
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return Part("CPU", OK, f"{usable_cores()} cores that this process may use of {os.cpu_count()}{load}")


def _memory(root: Path) -> Part:
    told = dict(re.findall(r"^(\w+):\s+(\d+) kB", _text(root / "proc/meminfo"), re.MULTILINE))
    if "MemTotal" not in told:
        return Part("memory", OK, "unknown")
    available = int(told.get("MemAvailable") or told.get("MemFree") or 0) / 2**20
    return Part("memory", OK, f"{available:.1f} GiB free of {int(told['MemTotal']) / 2**20:.1f}")


def _disk(folder: Path) -> Part:
    usage = shutil.disk_usage(folder)
    told = f"{usage.free / 2**30:.1f} GiB free in the current folder"
    if usage.free < 2**30:
        return Part("disk", PROBLEM, told, "engines and results, which take up to some GiB", "free some space")
    return Part("disk", OK, told)


def _machine(root: Path) -> str:
    model = _text(root / "proc/device-tree/model").strip("\0\n ")
    return ", ".join(part for part in (model, f"{platform.system()} {platform.release()}", platform.machine()) if part)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")[: 1 << 16]
    except OSError:
        return ""
