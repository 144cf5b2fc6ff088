"""The one protocol that every engine answers to."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from molre_edge.errors import EngineError
from molre_edge.parity import Outputs
from molre_edge.specs import Precision, TensorSpec

__all__ = ["RunResult", "Runner", "check_volume"]


@dataclass(frozen=True, eq=False)
class RunResult:
    """Answers of one batch and what they took.

    Attributes:
        outputs: logits, gates and embedding, float32.
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
        """logits, gates (absent for K = 0), embedding."""

    @property
    def facts(self) -> dict[str, Any]:
        """What a report shows: runtime and version, device, threads, mode."""

    def run(self, volume: npt.NDArray[np.float16]) -> RunResult:
        """Answer a batch of volumes on the model's grid, float16 HU [batch, slices, rows, cols]."""

    def __enter__(self) -> Runner: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


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
