"""The NVIDIA driver asked through its own library: which GPUs are here, with no CUDA package and no context made."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from typing import Any

__all__ = ["LIBCUDA", "DriverProbe", "Gpu", "error_text", "load_libcuda", "probe_driver"]

LIBCUDA = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
"""The driver's library. It comes with the driver, on a Jetson with JetPack, and never from a package index."""

# Of CUdevice_attribute in cuda.h.
_INTEGRATED, _MAJOR, _MINOR = 18, 75, 76


@dataclass(frozen=True)
class Gpu:
    """A GPU as the driver describes it.

    Attributes:
        name: such as ``NVIDIA RTX A2000``.
        compute_capability: (major, minor).
        memory_bytes: of the GPU; on a Jetson the memory that it shares with the CPU.
        integrated: whether it shares the CPU's memory, as on a Jetson.
    """

    name: str
    compute_capability: tuple[int, int]
    memory_bytes: int
    integrated: bool = False

    @property
    def sm(self) -> str:
        """The compute capability as builders write it: ``sm86``."""
        return "sm{}{}".format(*self.compute_capability)

    def __str__(self) -> str:
        """For messages: ``NVIDIA RTX A2000 (sm86)``."""
        return f"{self.name} ({self.sm})"


@dataclass(frozen=True)
class DriverProbe:
    """What the driver said.

    Attributes:
        cuda: newest CUDA version that the driver can run, such as ``13.0``; None without a driver.
        gpus: those that this process may use, in CUDA's order.
        problem: why nothing can run on a GPU; None where something can.
    """

    cuda: str | None = None
    gpus: tuple[Gpu, ...] = ()
    problem: str | None = None


def load_libcuda() -> Any:
    """The driver's library.

    Raises:
        OSError: it is not there.
    """
    return ctypes.CDLL(LIBCUDA)


def probe_driver() -> DriverProbe:
    """Ask the driver. Never raises: what is wrong is the answer's ``problem``."""
    try:
        cu = load_libcuda()
    except OSError:
        return DriverProbe(problem=f"no NVIDIA driver ({LIBCUDA} is not there)")
    try:
        version = ctypes.c_int()
        cu.cuDriverGetVersion(ctypes.byref(version))
        cuda = f"{version.value // 1000}.{version.value % 1000 // 10}" if version.value else None
        code = cu.cuInit(0)
        if code:
            return DriverProbe(cuda, problem=f"the NVIDIA driver does not start: {error_text(cu, code)}")
        count = ctypes.c_int()
        code = cu.cuDeviceGetCount(ctypes.byref(count))
        gpus = tuple(_gpu(cu, index) for index in range(0 if code else count.value))
    except (AttributeError, OSError, ValueError) as error:  # a library that is no driver
        return DriverProbe(problem=f"{LIBCUDA} is there and is no NVIDIA driver that is known ({error})")
    return DriverProbe(cuda, gpus, None if gpus else "the NVIDIA driver finds no GPU that this process may use")


def _gpu(cu: Any, index: int) -> Gpu:
    device, name, memory = ctypes.c_int(), ctypes.create_string_buffer(256), ctypes.c_size_t()
    if code := cu.cuDeviceGet(ctypes.byref(device), index):
        raise ValueError(error_text(cu, code))
    cu.cuDeviceGetName(name, len(name), device)
    cu.cuDeviceTotalMem_v2(ctypes.byref(memory), device)

    def attribute(number: int) -> int:
        value = ctypes.c_int()
        cu.cuDeviceGetAttribute(ctypes.byref(value), number, device)
        return value.value

    return Gpu(
        name.value.decode(errors="replace"),
        (attribute(_MAJOR), attribute(_MINOR)),
        memory.value,
        integrated=bool(attribute(_INTEGRATED)),
    )


def error_text(cu: Any, code: int) -> str:
    """A driver's error code in words: ``CUDA_ERROR_NO_DEVICE (100): no CUDA-capable device is detected``."""
    name, text = ctypes.c_char_p(), ctypes.c_char_p()
    cu.cuGetErrorName(code, ctypes.byref(name))
    cu.cuGetErrorString(code, ctypes.byref(text))
    return f"{(name.value or b'error').decode()} ({code}): {(text.value or b'no text').decode()}"
