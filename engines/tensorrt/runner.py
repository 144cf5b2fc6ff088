"""TensorRT and TensorRT-RTX: the runner of a bundle's engine on an NVIDIA GPU."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.adapters.tensors import PREFIX, Tensors
from molre_edge.bundle.bundle import Bundle
from molre_edge.bundle.engine_files import EngineFile, read_engine
from molre_edge.engines.cuda.batch_loop import SlotLoop
from molre_edge.engines.cuda.device import Device, open_device
from molre_edge.engines.cuda.trained import TrainedBuffers
from molre_edge.engines.runner import RunResult, check_volume, fitting_adapter, no_adapter
from molre_edge.engines.tensorrt.api import Target, TensorRT, load_tensorrt
from molre_edge.engines.tensorrt.fit import BuiltFor, why_not_gpu, why_not_version
from molre_edge.engines.tensorrt.network import TensorRTNetwork
from molre_edge.engines.tensorrt.timing_cache import RuntimeCache, runtime_cache_path
from molre_edge.errors import EngineError
from molre_edge.specs import VOLUME, TensorSpec

__all__ = ["RUNTIMES", "TensorRTRunner"]

RUNTIMES = {"here": "tensorrt", "rtx": "tensorrt-rtx"}
"""A target, and the word for its runtime on the command line."""

Volume = npt.NDArray[np.float16]


class TensorRTRunner:
    """Runs one engine on the first GPU.

    Attributes:
        name: ``tensorrt:<precision>`` or ``tensorrt-rtx:<precision>``.
        precision: of the engine.
    """

    def __init__(
        self,
        plan: bytes,
        engine: EngineFile,
        specs: tuple[TensorSpec, ...],
        *,
        graphs: bool = True,
        bundle: Path | None = None,
        adapter: Tensors | None = None,
        open_device: Callable[[], Device] = open_device,
    ) -> None:
        """Take an engine; nothing is loaded before the block is entered.

        Args:
            plan: the engine's content, already checked against its hash.
            engine: its facts.
            specs: inputs and outputs of the graph that it was built from.
            graphs: replay each batch size as a CUDA graph.
            bundle: the folder in which TensorRT-RTX keeps what it compiles for this GPU; None keeps nothing.
            adapter: the trained tensors of an engine that takes them as inputs; :meth:`use_adapter` may give them
                later.
            open_device: gives the GPU.

        Raises:
            BundleError: the engine's JSON does not say what it was built for.
        """
        self.built = BuiltFor.of(engine)
        self.precision = self.built.precision
        self.name = f"{RUNTIMES[str(self.built.target)]}:{self.precision}"
        self._plan, self._engine, self._specs = plan, engine, specs
        self._graphs, self._bundle, self._open_device = graphs, bundle, open_device
        self._adapter = adapter
        self._stack = contextlib.ExitStack()
        self._entered: _Entered | None = None

    @classmethod
    def from_bundle(cls, bundle: Bundle, engine: EngineFile, **options: Any) -> TensorRTRunner:
        """The runner of a bundle's engine, its hash and its graph's compared.

        Raises:
            BundleError: swapped, altered, or built from another graph than the bundle's.
            SigningError: the release must be signed, and this machine did not build the engine from it.
        """
        graph = bundle.graph(BuiltFor.of(engine).precision)
        if graph.file != engine.graph:
            raise EngineError(f"{engine.path}: built from {engine.graph}, and named for {graph.file}; build it again")
        # what was compiled for this GPU is code as well, and a signed release does not cover what lies in its folder
        folder = None if bundle.trust else bundle.folder
        return cls(read_engine(bundle, engine), engine, (*graph.inputs, *graph.outputs), bundle=folder, **options)

    def __enter__(self) -> TensorRTRunner:
        """Open the GPU, check that the engine fits it and its library, and load the engine.

        Raises:
            EngineError: it does not fit, there is no driver or GPU, or no library to reach it with.
            MissingDependencyError: TensorRT is not installed.
        """
        if not self._plan:
            raise EngineError(f"{self.name} was closed and can't be used again. Create a new runner")
        with contextlib.ExitStack() as stack:
            device = self._open_device()  # before the library: one of its variants ends the process without a driver
            stack.callback(device.close)
            self._refuse(why_not_gpu(self.built, device.gpu))
            tensorrt = load_tensorrt(self.built.target, feature="Running an engine")
            self._refuse(why_not_version(self.built, tensorrt.name, tensorrt.version))
            cache = None
            if self._bundle is not None and self.built.target is Target.RTX:
                cache = RuntimeCache(runtime_cache_path(self._bundle, device.gpu.name, tensorrt.version))
            with device.active():
                host_code = self.built.version_compatible
                network = TensorRTNetwork(tensorrt, self._plan, host_code=host_code, cache=cache)
            stack.callback(_close_on, device, network)
            ends = (network.input, *network.trained, *network.outputs)
            if {str(spec) for spec in self._specs} != {str(spec) for spec in ends}:
                self._refuse("its inputs and outputs are not those of the graph; build it again")
            with device.active():
                trained = TrainedBuffers(device, network.trained)
            stack.callback(_close_on, device, trained)
            low, _, high = network.batch
            loop = SlotLoop(device, network, smallest=low, largest=high, graphs=self._graphs, shared=trained.addresses)
            stack.callback(loop.close)
            self._entered = _Entered(device, tensorrt, network, trained, loop)
            stack.callback(setattr, self, "_entered", None)
            if self._adapter is not None:
                self.use_adapter(self._adapter)
            self._stack = stack.pop_all()
        self._plan = b""  # the engine has its own copy
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free everything on the GPU."""
        self._stack.close()

    @property
    def input_spec(self) -> TensorSpec:
        """The volume as the engine takes it."""
        return self._ready().network.input

    @property
    def output_specs(self) -> tuple[TensorSpec, ...]:
        """Those of the graph, in its order."""
        self._ready()
        return tuple(spec for spec in self._specs if spec.name != VOLUME and not spec.name.startswith(PREFIX))

    @property
    def adapter_specs(self) -> tuple[TensorSpec, ...]:
        """The trained tensors that the engine takes as inputs; none where they are constants."""
        return self._ready().network.trained

    def use_adapter(self, tensors: Tensors) -> None:
        """Answer by these trained tensors from the next batch on; batches that are under way are waited for.

        They are copied over the earlier ones, so contexts and CUDA graphs stay as they are.

        Raises:
            AdapterError: they do not fit the engine, or its trained tensors are constants.
            EngineError: not in a 'with' block, or the GPU failed.
        """
        entered = self._ready()
        fitting = fitting_adapter(tensors, self.adapter_specs, self.name)
        entered.loop.settle()
        with entered.device.active():
            entered.trained.fill(fitting)

    @property
    def facts(self) -> dict[str, Any]:
        """Runtime, GPU, backend, engine, and how batches run."""
        entered = self._ready()
        return {
            "runtime": entered.tensorrt.name,
            "version": entered.tensorrt.version,
            "device": str(entered.device.gpu),
            "backend": entered.device.backend,
            "engine": self._engine.path.name,
            "engine_sha256": self._engine.sha256,
            "batch": list(entered.network.batch),
            **_fused(self._engine),
            **entered.loop.facts(),
        }

    def run(self, volume: Volume) -> RunResult:
        """Answer a batch; float16 HU [batch, slices, rows, cols]. More than the engine takes at once is cut.

        Raises:
            EngineError: not in a 'with' block, not such a batch, or the GPU failed on it.
        """
        entered = self._ready_to_answer()
        check_volume(volume, entered.network.input)
        return entered.loop.run(volume)

    def run_stream(self, volumes: Iterable[Volume]) -> Iterator[RunResult]:
        """Answer batch after batch; while one is computed, the next is copied.

        Raises:
            EngineError: as :meth:`run`.
        """
        entered = self._ready_to_answer()

        def checked() -> Iterator[Volume]:
            for volume in volumes:
                check_volume(volume, entered.network.input)
                yield volume

        return entered.loop.stream(checked())

    def _ready_to_answer(self) -> _Entered:
        entered = self._ready()
        if entered.network.trained and not entered.trained.filled:
            raise no_adapter(entered.network.trained, self.name)
        return entered

    def _ready(self) -> _Entered:
        if self._entered is None:
            raise EngineError(f"{self.name} is not ready: use it in a 'with' block")
        return self._entered

    def _refuse(self, reason: str | None) -> None:
        if reason is not None:
            raise EngineError(f"{self._engine.path}: {reason}")


@dataclass(frozen=True, eq=False)
class _Entered:
    device: Device
    tensorrt: TensorRT
    network: TensorRTNetwork
    trained: TrainedBuffers
    loop: SlotLoop


def _fused(engine: EngineFile) -> dict[str, int]:
    """The number of attentions that the engine computes in one kernel each, where its JSON says it."""
    layers = engine.facts.get("layers")
    fused = layers.get("fused_attention") if isinstance(layers, dict) else None
    return {"fused_attention": fused} if type(fused) is int else {}


def _close_on(device: Device, part: TensorRTNetwork | TrainedBuffers) -> None:
    with device.active():
        part.close()
