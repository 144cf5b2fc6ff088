"""Whether an int8 engine is one: its quantised layers compute in Int8, and its attentions are fused as in float16."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from molre_edge.bundle.bundle import Bundle
from molre_edge.engines.tensorrt.layers import BuiltLayer, LayerSummary, list_weights, not_checked, unread
from molre_edge.errors import BundleError, EngineError

__all__ = ["Quantised", "check_int8"]

_INT8 = "Int8"
_WEIGHTS = 0.98
"""Least share of the graph's INT8 weights that the engine must multiply as such."""
_LAYERS = 0.5
"""The same by number of layers, where not all list their weights: a builder joins layers that read one value."""


@dataclass(frozen=True)
class Quantised:
    """What calibrate says of the int8 graph.

    Attributes:
        layers: in INT8.
        weights: elements of their weights.
        attentions: in the graph.
    """

    layers: int
    weights: int
    attentions: int

    @classmethod
    def of(cls, bundle: Bundle) -> Quantised:
        """Read it from the manifest.

        Raises:
            BundleError: the manifest does not say it.
        """
        section = bundle.manifest.get("calibration")
        names = ("layers", "weights", "attentions")
        values = [section.get(name) if isinstance(section, dict) else None for name in names]
        if not all(type(value) is int and value >= 0 for value in values) or not values[0]:
            raise BundleError(
                f"{bundle.folder}: its manifest does not say what is INT8 in its int8 graph; run 'molre-edge "
                f"calibrate' again"
            )
        return cls(*values)  # type: ignore[arg-type]


def check_int8(
    layers: Sequence[BuiltLayer], expected: Quantised, fused_in_fp16: Callable[[], int | None] = lambda: None
) -> str | None:
    """Refuse an engine whose quantised layers are not Int8, or whose attentions came apart.

    A layer that could not be read may be right.

    Args:
        layers: as built.
        expected: from the bundle.
        fused_in_fp16: builds the float16 graph and counts its fused attentions; None where there is no such graph. It
            is asked only where fewer attentions are fused than the graph has: not every attention can be.

    Returns:
        What could not be checked, as a sentence; None where all was.

    Raises:
        EngineError: it is not an int8 engine; the message counts its layers.
    """
    matrix = [layer for layer in layers if layer.is_matrix]
    right, hidden = [layer for layer in matrix if layer.datatype == _INT8], unread(layers)
    if not matrix:
        return not_checked(layers)
    if list_weights(matrix) and not hidden:
        share, least, what = sum(layer.weights for layer in right) / max(expected.weights, 1), _WEIGHTS, "weights"
    else:
        share, least, what = (len(right) + hidden) / expected.layers, _LAYERS, "layers"
    if share < least:
        counts = Counter(layer.datatype for layer in matrix)
        built = ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
        raise EngineError(
            f"the engine is named int8 and is not int8 inside: {share:.0%} of the graph's INT8 {what} are multiplied "
            f"in Int8, expected at least {least:.0%}; its matrix layers are {built}. It was not kept"
        )
    fused = LayerSummary.of(layers).fused_attention
    if fused + hidden < expected.attentions:
        in_fp16 = fused_in_fp16()
        wanted = expected.attentions if in_fp16 is None else in_fp16
        if fused + hidden < wanted:
            raise EngineError(
                f"the int8 engine fuses {fused} attentions, expected {wanted} as in float16: INT8 took them apart, and "
                f"it would be slower. It was not kept"
            )
    return not_checked(layers) if hidden else None
