"""An adapter's tensors in the GPU's memory: taken once, filled in place, so that their addresses stay."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.engines.cuda.device import Buffer, Device
from molre_edge.specs import TensorSpec

__all__ = ["TrainedBuffers"]


class TrainedBuffers:
    """One buffer for each trained tensor that a network takes as input. All contexts and CUDA graphs share them.

    Attributes:
        addresses: by name.
        filled: whether they hold an adapter.
    """

    def __init__(self, device: Device, specs: Sequence[TensorSpec]) -> None:
        """Take the memory; the device is active.

        Raises:
            DeviceMemoryError: the memory is not there; nothing is kept.
        """
        self.filled = False
        self._device, self._buffers = device, dict[str, Buffer]()
        with contextlib.ExitStack() as stack:
            for spec in specs:
                nbytes = int(np.prod(spec.sides)) * np.dtype(spec.dtype).itemsize
                self._buffers[spec.name] = buffer = device.alloc(nbytes)
                stack.callback(buffer.close)
            self._stack = stack.pop_all()
        self.addresses: Mapping[str, int] = {name: buffer.address for name, buffer in self._buffers.items()}

    def fill(self, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
        """Copy an adapter there and wait for it; nothing may run that reads the buffers. The device is active.

        Args:
            tensors: all of them, contiguous and in the network's precision.
        """
        self.filled = False  # if a copy fails, what is there is no adapter
        with contextlib.closing(self._device.stream()) as stream:
            for name, buffer in self._buffers.items():
                self._device.h2d(buffer, tensors[name], stream)
            stream.synchronize()
        self.filled = True

    def close(self) -> None:
        """Free them, after everything that was bound to them."""
        self._stack.close()
