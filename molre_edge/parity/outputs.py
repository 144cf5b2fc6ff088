"""What a runner answered for a batch of volumes, as plain arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from molre_edge.errors import MolreEdgeError

__all__ = ["OUTPUT_NAMES", "FloatArray", "Outputs", "ParityError", "sigmoid"]

FloatArray = npt.NDArray[np.floating]

_OPTIONAL = ("gates", "attention")
OUTPUT_NAMES = ("logits", "embedding", *_OPTIONAL)
"""Of what a model answers; some have no gates, some no attention."""


class ParityError(MolreEdgeError):
    """Two sets of outputs can't be compared: none at all, or of models that don't match."""


def sigmoid(logits: FloatArray) -> npt.NDArray[np.float64]:
    """The logistic function in float64, without overflow for any finite logit; the shape stays."""
    x = np.asarray(logits, dtype=np.float64)
    decay = np.exp(-np.abs(x))  # in (0, 1], so neither branch can overflow
    result: npt.NDArray[np.float64] = np.where(x >= 0, 1.0, decay) / (1.0 + decay)
    return result


@dataclass(frozen=True, eq=False)
class Outputs:
    """The outputs of one runner for n volumes.

    Attributes:
        logits: float32 (n, findings), before the sigmoid.
        embedding: float32 (n, d), the vector before the head; (n, 0) from a reference that gives logits only.
        gates: float32 (n, slices or 1, routers, experts), each expert vector summing to one;
            ``None`` for a model without experts (K = 0).
        attention: float32 (n, slices), the pooling's weights of the slices, which sum to one; ``None`` for a 3D model,
            and of a graph exported before it was an output.
    """

    logits: FloatArray
    embedding: FloatArray
    gates: FloatArray | None = None
    attention: FloatArray | None = None

    def __post_init__(self) -> None:
        """Turn every array into float32 and refuse shapes that don't belong together.

        Raises:
            ParityError: an array has the wrong number of axes, or another number of volumes.
        """
        for name, axes in (
            ("logits", "(volumes, findings)"),
            ("embedding", "(volumes, d)"),
            ("gates", "(volumes, slices or 1, routers, experts)"),
            ("attention", "(volumes, slices)"),
        ):
            value = getattr(self, name)
            if value is None and name in _OPTIONAL:
                continue
            with np.errstate(over="ignore"):  # a value beyond float32 becomes inf and is reported as such
                array = np.asarray(value, dtype=np.float32)
            if array.ndim != axes.count(",") + 1:
                raise ParityError(f"Output '{name}': expected {axes}, got shape {array.shape}")
            if len(array) != len(self.logits):
                raise ParityError(
                    f"Output '{name}': expected {len(self.logits)} volumes as in logits, got {len(array)}"
                )
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        """The number of volumes."""
        return len(self.logits)

    @property
    def probabilities(self) -> npt.NDArray[np.float64]:
        """sigmoid(logits), float64 (n, findings)."""
        return sigmoid(self.logits)

    @property
    def only_logits(self) -> bool:
        """Whether a reference, such as the user's own model, gave neither embedding nor gates."""
        return self.embedding.shape[1] == 0 and self.gates is None

    def take(self, volumes: Sequence[int]) -> Outputs:
        """The outputs for some of the volumes, in the order given."""
        places = list(volumes)
        gates, attention = (None if array is None else array[places] for array in (self.gates, self.attention))
        return Outputs(self.logits[places], self.embedding[places], gates, attention)

    @property
    def arrays(self) -> dict[str, FloatArray]:
        """Those that there are, by the names that files and graphs have for them."""
        found = {name: getattr(self, name) for name in OUTPUT_NAMES}
        return {name: array for name, array in found.items() if array is not None}

    @staticmethod
    def of(arrays: Mapping[str, FloatArray]) -> Outputs:
        """The inverse of :attr:`arrays`; other names are left out."""
        optional = (arrays.get(name) for name in _OPTIONAL)
        return Outputs(arrays["logits"], arrays["embedding"], *optional)

    @staticmethod
    def stack(outputs: Sequence[Outputs]) -> Outputs:
        """The outputs of several batches as one, in their order.

        Raises:
            ParityError: the list is empty, or the batches come from models of different shapes.
        """
        if not outputs:
            raise ParityError("No outputs to stack: expected at least one batch")
        for name in OUTPUT_NAMES:
            arrays = [getattr(each, name) for each in outputs]
            shapes = {None if array is None else array.shape[1:] for array in arrays}
            if len(shapes) > 1:
                told = ", ".join(sorted("none" if shape is None else str(shape) for shape in shapes))
                raise ParityError(f"Output '{name}' differs in shape between batches: {told}")
        return Outputs.of({name: np.concatenate([each.arrays[name] for each in outputs]) for name in outputs[0].arrays})
