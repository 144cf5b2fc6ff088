"""The one protocol that every engine answers to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from molre_edge.adapters.tensors import PREFIX, Tensors, fit_tensors
from molre_edge.errors import AdapterError, EngineError
from molre_edge.parity import Outputs
from molre_edge.specs import VOLUME, Precision, TensorSpec

__all__ = [
    "RunResult",
    "Runner",
    "StreamingRunner",
    "are_inputs",
    "check_volume",
    "fitting_adapter",
    "no_adapter",
    "one_line",
    "run_stream",
]


@dataclass(frozen=True, eq=False)
class RunResult:
    """Answers of one batch and what they took.

    Attributes:
        outputs: logits, gates, embedding and attention, float32.
        milliseconds: wall time by phase: ``to_device`` (conversion and copies in), ``compute`` (synchronised) and
            ``from_device`` (copies out).
    """

    outputs: Outputs
    milliseconds: dict[str, float] = field(default_factory=dict)


class Runner(Protocol):
    """An engine, ready to run; a context manager that touches no device before it is entered and frees all after."""

    name: str
    """Such as ``onnxruntime:fp16``."""
    precision: Precision

    @property
    def input_spec(self) -> TensorSpec:
        """The volume: HU, [batch, slices, rows, cols]."""

    @property
    def output_specs(self) -> tuple[TensorSpec, ...]:
        """logits, gates (absent for K = 0), embedding, attention (absent for 3D and in graphs of earlier versions)."""

    @property
    def facts(self) -> dict[str, Any]:
        """What a report shows: runtime and version, device, threads, mode."""

    def use_adapter(self, tensors: Tensors) -> None:
        """Answer by these trained tensors from the next batch on; nothing is loaded or built again.

        Args:
            tensors: all that the graph takes as inputs, by name; they are copied.

        Raises:
            AdapterError: they do not fit the graph, or its trained tensors are constants.
        """

    def run(self, volume: npt.NDArray[np.float16]) -> RunResult:
        """Answer a batch of volumes on the model's grid, float16 HU [batch, slices, rows, cols]."""

    def __enter__(self) -> Runner: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@runtime_checkable
class StreamingRunner(Protocol):
    """A runner that computes one batch while it copies the next. Not every runner is one: see :func:`run_stream`."""

    def run_stream(self, volumes: Iterable[npt.NDArray[np.float16]]) -> Iterator[RunResult]:
        """Answer batch after batch, in their order. The next batch is asked for before the last is answered."""


def run_stream(runner: Runner, volumes: Iterable[npt.NDArray[np.float16]]) -> Iterator[RunResult]:
    """Answer batch after batch, in their order; overlapped where the runner can.

    Phases of overlapped batches run at the same time: their sum is more than the time that passed.

    Args:
        runner: entered.
        volumes: float16 HU, each [batch, slices, rows, cols].
    """
    if isinstance(runner, StreamingRunner):
        return runner.run_stream(volumes)
    return map(runner.run, volumes)


def check_volume(volume: npt.NDArray[np.float16], spec: TensorSpec) -> None:
    """Refuse a batch that is not what the engine reads.

    Raises:
        EngineError: wrong dtype or shape; the message gives both.
    """
    fits = volume.ndim == len(spec.shape) and all(
        want is None or want == got for want, got in zip(spec.shape, volume.shape, strict=True)
    )
    if volume.dtype != np.float16 or not fits or volume.shape[0] < 1:
        raise EngineError(
            f"input {spec}: expected float16 HU of that shape, got {volume.dtype} {list(volume.shape)}. "
            f"Bring the scan to the bundle's grid (molre_edge.scans.to_grid)"
        )


def are_inputs(names: Sequence[str]) -> bool:
    """Whether these are the inputs of a bundle's graph: the volume, then trained tensors or nothing."""
    return list(names[:1]) == [VOLUME] and all(name.startswith(PREFIX) for name in names[1:])


def fitting_adapter(tensors: Tensors, specs: Sequence[TensorSpec], whose: str) -> dict[str, npt.NDArray[Any]]:
    """An adapter's tensors as a graph or engine takes them.

    Args:
        tensors: by name.
        specs: the inputs beside the volume.
        whose: the runner's name.

    Raises:
        AdapterError: they do not fit, or there are no such inputs.
    """
    if not specs:
        raise AdapterError(
            f"{whose}: the graph's trained tensors are constants, so it takes no adapter. Export the checkpoint again "
            f"with --adapters inputs"
        )
    return fit_tensors(tensors, specs, whose)


def no_adapter(specs: Sequence[TensorSpec], whose: str) -> EngineError:
    """The error of a batch for a graph whose adapter inputs have no values."""
    return EngineError(
        f"{whose}: the graph takes its {len(specs)} trained tensors as inputs ({specs[0].name}, ...), and no adapter "
        f"was given. Choose an adapter before the first batch"
    )


def one_line(error: Exception) -> str:
    """A runtime's error for a message: they run over several lines."""
    return " ".join(str(error).split()).rstrip(".")
