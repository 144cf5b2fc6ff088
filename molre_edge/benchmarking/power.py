"""Electric power, if the platform reports it: NVIDIA's management library, and the rails of a Jetson or another board.

A source without readings is left out; no figure is estimated.
hwmon: docs.kernel.org/hwmon/sysfs-interface, .../hwmon/ina3221.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

__all__ = ["NvmlGpu", "PowerSource", "Rails", "find_power", "idle_watts", "mean_watts"]

_INTERVAL_S = 0.05


class PowerSource(Protocol):
    """A source of power readings."""

    def watts(self) -> Mapping[str, float]:
        """Watts by rail, now."""


class Rails:
    """Current sensors of the INA family that Linux shows as hwmon devices, as on Jetson modules.

    A channel with ``power*_input`` (microwatts) is read as such. The INA3221 has volts and amperes of three channels
    instead (``in1_input`` in millivolts, ``curr1_input`` in milliamperes); its ``in4`` and above are not rails.
    """

    def __init__(self, sysfs: Path = Path("/sys")) -> None:
        """Find the channels below `sysfs`."""
        self._channels: dict[str, tuple[Path, ...]] = {}
        for device in sorted((sysfs / "class" / "hwmon").glob("hwmon*")):
            kind = _word(device / "name")
            if not kind.startswith("ina"):
                continue
            for power in sorted(device.glob("power*_input")):
                number = power.name.removeprefix("power").removesuffix("_input")
                label = _word(device / f"power{number}_label") or _word(device / f"in{number}_label")
                self._add(label or f"{kind} {device.name} {number}", power)
            for number in "123" if kind == "ina3221" else "":
                volts, amperes = device / f"in{number}_input", device / f"curr{number}_input"
                if volts.is_file() and amperes.is_file() and _word(device / f"in{number}_enable") != "0":
                    self._add(_word(device / f"in{number}_label") or f"{kind} {device.name} {number}", volts, amperes)

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._channels)

    def watts(self) -> dict[str, float]:
        """Watts by rail, under the board's labels. A rail that can't be read now is left out."""
        found = {}
        for label, files in self._channels.items():
            with contextlib.suppress(OSError, ValueError):
                values = [int(file.read_text()) for file in files]
                # microwatts, or millivolts times milliamperes: both are millionths
                found[label] = (values[0] if len(values) == 1 else values[0] * values[1]) / 1e6
        return found

    def _add(self, label: str, *files: Path) -> None:
        name, again = label, 2
        while name in self._channels:
            name, again = f"{label} ({again})", again + 1
        self._channels[name] = files


class NvmlGpu:
    """The first NVIDIA GPU, by NVIDIA's management library (nvidia-ml-py)."""

    def __init__(self, nvml: Any) -> None:
        """Start the library.

        Args:
            nvml: the module ``pynvml``.
        """
        self._nvml = nvml
        nvml.nvmlInit()
        self._gpu = nvml.nvmlDeviceGetHandleByIndex(0)

    def watts(self) -> dict[str, float]:
        """Of the whole board; the library averages over about a second on some GPUs."""
        value = self._try(self._nvml.nvmlDeviceGetPowerUsage, self._gpu)
        return {} if value is None else {"GPU (NVML)": value / 1e3}

    def used_mib(self) -> float | None:
        """Memory in use on the GPU, by all processes."""
        info = self._try(self._nvml.nvmlDeviceGetMemoryInfo, self._gpu)
        return None if info is None else info.used / 2**20

    def facts(self) -> dict[str, Any]:
        """Name, driver, and clocks now in MHz."""
        nvml = self._nvml
        clock = nvml.nvmlDeviceGetClockInfo
        return {
            "name": _text(self._try(nvml.nvmlDeviceGetName, self._gpu)),
            "driver": _text(self._try(nvml.nvmlSystemGetDriverVersion)),
            "sm_clock_mhz": self._try(clock, self._gpu, nvml.NVML_CLOCK_SM),
            "memory_clock_mhz": self._try(clock, self._gpu, nvml.NVML_CLOCK_MEM),
        }

    def _try(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except self._nvml.NVMLError:  # not supported on this GPU
            return None


def find_power(sysfs: Path = Path("/sys")) -> tuple[NvmlGpu | None, list[PowerSource]]:
    """The GPU, if its library is installed and finds one, and all sources of power readings on this machine."""
    gpu: NvmlGpu | None = None
    try:
        import pynvml
    except ImportError:
        pass
    else:
        with contextlib.suppress(pynvml.NVMLError):
            gpu = NvmlGpu(pynvml)
    sources: list[PowerSource] = [gpu] if gpu is not None and gpu.watts() else []
    rails = Rails(sysfs)
    return gpu, [*sources, *([rails] if rails else [])]


@contextlib.contextmanager
def mean_watts(sources: Sequence[PowerSource]) -> Iterator[dict[str, float]]:
    """Samples all sources while the block runs; the dictionary holds the mean of each rail after it."""
    samples: defaultdict[str, list[float]] = defaultdict(list)
    stop, means = threading.Event(), dict[str, float]()

    def sample() -> None:
        while not stop.is_set():
            for source in sources:
                for rail, value in source.watts().items():
                    samples[rail].append(value)
            stop.wait(_INTERVAL_S)

    thread = threading.Thread(target=sample, name="power", daemon=True)
    thread.start()
    try:
        yield means
    finally:
        stop.set()
        thread.join()
    means |= {rail: round(sum(values) / len(values), 3) for rail, values in samples.items()}


def idle_watts(sources: Sequence[PowerSource], seconds: float) -> dict[str, float]:
    """Mean watts while this process does nothing."""
    with mean_watts(sources) as means:
        time.sleep(seconds)
    return means


def _word(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _text(value: Any) -> str | None:
    """Older versions of the library give bytes."""
    return value.decode() if isinstance(value, bytes) else value
