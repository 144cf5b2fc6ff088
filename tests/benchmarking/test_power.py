"""Power is read from what the platform has, here made-up sysfs trees and a made-up NVML; never invented."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from molre_edge.benchmarking.power import NvmlGpu, Rails, find_power, idle_watts, mean_watts


def write(folder: Path, **files: object) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_text(f"{content}\n")
    return folder


@pytest.fixture
def orin(tmp_path: Path) -> Path:
    """A Jetson: one INA3221 with three rails and its sums, and a fan that is no sensor of ours."""
    volts = {"in1_input": 19000, "in2_input": 5000, "in3_input": 5000}
    labels = {"in1_label": "VDD_IN", "in2_label": "VDD_CPU_GPU_CV", "in3_label": "VDD_SOC"}
    amperes = {"curr1_input": 400, "curr2_input": 600, "curr3_input": 200}
    sums = {"in4_input": 12, "in5_input": 9, "in7_label": "sum of shunt voltages", "curr4_input": 1200}
    write(tmp_path / "class" / "hwmon" / "hwmon3", name="ina3221", **volts, **labels, **amperes, **sums)
    write(tmp_path / "class" / "hwmon" / "hwmon1", name="pwmfan", power1_input=7)
    return tmp_path


def test_the_rails_of_a_jetson_are_volts_times_amperes(orin: Path) -> None:
    assert Rails(orin).watts() == {"VDD_IN": 7.6, "VDD_CPU_GPU_CV": 3.0, "VDD_SOC": 1.0}


def test_a_sensor_with_microwatts_is_read_as_such_and_labels_are_told_apart(tmp_path: Path) -> None:
    for number in (0, 1):
        write(tmp_path / "class" / "hwmon" / f"hwmon{number}", name="ina238", power1_input=2_500_000, in1_label="VIN")
    write(tmp_path / "class" / "hwmon" / "hwmon2", name="ina226", power1_input=1_000_000)
    assert Rails(tmp_path).watts() == {"VIN": 2.5, "VIN (2)": 2.5, "ina226 hwmon2 1": 1.0}


def test_a_channel_that_is_off_or_cannot_be_read_is_left_out(orin: Path) -> None:
    device = orin / "class" / "hwmon" / "hwmon3"
    (device / "in2_enable").write_text("0\n")
    rails = Rails(orin)
    (device / "curr3_input").write_text("")
    assert rails.watts() == {"VDD_IN": 7.6}


def test_where_nothing_tells_there_is_no_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert find_power(tmp_path) == (None, [])


def test_the_mean_is_of_samples_while_the_block_ran(orin: Path) -> None:
    rails = Rails(orin)
    with mean_watts([rails]) as means:
        assert means == {}
        time.sleep(0.15)
    assert means["VDD_IN"] == 7.6
    assert idle_watts([rails], 0.01)["VDD_SOC"] == 1.0


class MadeUpNvml(ModuleType):
    """The names of nvidia-ml-py that are used."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM = 1, 2

    class NVMLError(Exception):
        pass

    def __init__(self, *, watts: bool = True, gpus: int = 1) -> None:
        super().__init__("pynvml")
        self._watts, self._gpus = watts, gpus

    def nvmlInit(self) -> None:
        if not self._gpus:
            raise self.NVMLError("no driver")

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return f"gpu {index}"

    def nvmlDeviceGetPowerUsage(self, gpu: str) -> int:
        if not self._watts:
            raise self.NVMLError("not supported")
        return 72_500

    def nvmlDeviceGetMemoryInfo(self, gpu: str) -> Any:
        return SimpleNamespace(used=512 << 20)

    def nvmlDeviceGetName(self, gpu: str) -> bytes:
        return b"NVIDIA L4"

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.1"

    def nvmlDeviceGetClockInfo(self, gpu: str, kind: int) -> int:
        return {1: 2040, 2: 6251}[kind]


def test_a_gpu_tells_watts_memory_and_clocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", MadeUpNvml())
    gpu, [source] = find_power(tmp_path)
    assert gpu is not None and source is gpu
    assert gpu.watts() == {"GPU (NVML)": 72.5} and gpu.used_mib() == 512
    assert gpu.facts() == {
        "name": "NVIDIA L4",
        "driver": "580.1",
        "sm_clock_mhz": 2040,
        "memory_clock_mhz": 6251,
    }


def test_a_gpu_that_does_not_tell_watts_is_no_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", MadeUpNvml(watts=False))
    gpu, sources = find_power(tmp_path)
    assert isinstance(gpu, NvmlGpu) and sources == []


def test_a_library_without_a_driver_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", MadeUpNvml(gpus=0))
    assert find_power(tmp_path) == (None, [])
