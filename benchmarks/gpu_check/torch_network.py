"""A model of PyTorch as a network of the device layer: the slots, their copies and their CUDA graph run with it.

What the runner of engines does around TensorRT is done here around PyTorch: the addresses, the stream and the capture
are the device layer's. No runner of the product.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from molre_edge.engines.cuda.device import Device, DeviceError, Stream
from molre_edge.parity.outputs import OUTPUT_NAMES
from molre_edge.specs import Grid, Precision, TensorSpec


class TorchNetwork:
    """A classifier on the GPU, in float32 (TF32 off), or under autocast in float16."""

    def __init__(self, model: Any, grid: Grid, precision: Precision) -> None:
        """Move it to the GPU; the answers' shapes come from one pass."""
        import torch

        self._model, self.precision = model.eval().cuda(), precision
        self.input = TensorSpec("volume", "float16", (None, *grid.shape))
        with torch.inference_mode(), self.computing():
            answer = self._model(torch.zeros((1, *grid.shape), device="cuda"))
        self.outputs = tuple(
            TensorSpec(name, "float32", (None, *getattr(answer, name).shape[1:]))
            for name in OUTPUT_NAMES
            if getattr(answer, name) is not None
        )

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """The precision. Autocast keeps no cast weights: a captured pass must not depend on an earlier one's."""
        import torch

        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        half = self.precision is Precision.FP16
        with torch.autocast("cuda", torch.float16, enabled=half, cache_enabled=False):
            yield

    def bind(self, device: Device, size: int, addresses: Mapping[str, int], stream: Stream) -> TorchBound:
        """An execution on the slot's own memory."""
        return TorchBound(self, size, addresses)

    def __call__(self, volume: Any) -> Any:
        """The model's answer."""
        return self._model(volume)


class TorchBound:
    """Tensors over a slot's memory, and a pool of its own for what lies between: a graph finds it where it was."""

    def __init__(self, network: TorchNetwork, size: int, addresses: Mapping[str, int]) -> None:
        """Lay tensors over the addresses."""
        import torch

        self._network, self._pool = network, torch.cuda.MemPool()
        self._tensors = {
            spec.name: torch.as_tensor(_At(addresses[spec.name], (size, *spec.shape[1:]), spec.dtype), device="cuda")
            for spec in (network.input, *network.outputs)
        }

    def enqueue(self, stream: Stream) -> None:
        """Queue one pass on the slot's stream."""
        import torch

        try:
            with (
                torch.cuda.stream(torch.cuda.ExternalStream(stream.handle)),
                torch.cuda.use_mem_pool(self._pool),
                torch.inference_mode(),
                self._network.computing(),
            ):
                answer = self._network(self._tensors["volume"].float())
                for spec in self._network.outputs:
                    self._tensors[spec.name].copy_(getattr(answer, spec.name), non_blocking=True)
        except RuntimeError as error:  # PyTorch's own, such as of what can't be captured
            raise DeviceError(str(error).splitlines()[0]) from error

    def why_no_graph(self, stream: Stream) -> str | None:
        """Nothing is known before it is tried."""
        return None

    def close(self) -> None:
        """Let the memory go."""
        self._tensors, self._pool = {}, None


class _At:
    """Memory of the device as PyTorch takes it."""

    def __init__(self, address: int, shape: tuple[Any, ...], dtype: str) -> None:
        kind = {"float16": "<f2", "float32": "<f4"}[dtype]
        self.__cuda_array_interface__ = {"shape": shape, "typestr": kind, "data": (address, False), "version": 3}
