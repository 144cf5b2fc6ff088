"""Whether an int8 or fp8 engine is one: its quantised layers compute in 8 bits, its attentions are fused as in float16.

FP8 needs a GPU of compute capability 8.9 or newer. TensorRT-RTX drops the older ones of its default list from an engine
with FP8 layers, with only a line in its log; so here the list is always stated.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from molre_edge.bundle.bundle import Bundle
from molre_edge.bundle.manifest import CALIBRATION_SECTIONS
from molre_edge.engines.cuda.driver import DriverProbe
from molre_edge.engines.tensorrt.api import BuildOptions, Target
from molre_edge.engines.tensorrt.layers import DATATYPES, BuiltLayer, LayerSummary, list_weights, not_checked, unread
from molre_edge.errors import BundleError, EngineError
from molre_edge.specs import Precision

__all__ = ["FP8_CAPABILITIES", "Quantised", "check_quantised", "fp8_options"]

FP8_CAPABILITIES = ("sm89", "sm120", "sm121")
"""Those of TensorRT-RTX 1.7 that compute in FP8."""

_OLDEST_FP8 = (8, 9)
_WEIGHTS = 0.98
"""Least share of the graph's 8-bit weights that the engine must multiply as such."""
_LAYERS = 0.5
"""The same by number of layers, where not all list their weights: a builder joins layers that read one value."""


@dataclass(frozen=True)
class Quantised:
    """What calibrate says of an 8-bit graph.

    Attributes:
        layers: in 8 bits.
        weights: elements of their weights.
        attentions: in the graph.
        precision: of the graph.
    """

    layers: int
    weights: int
    attentions: int
    precision: Precision = Precision.INT8

    @classmethod
    def of(cls, bundle: Bundle, precision: Precision) -> Quantised:
        """Read it from the manifest.

        Raises:
            BundleError: the manifest does not say it.
        """
        section = bundle.manifest.get(CALIBRATION_SECTIONS[precision])
        names = ("layers", "weights", "attentions")
        values = [section.get(name) if isinstance(section, dict) else None for name in names]
        if not all(type(value) is int and value >= 0 for value in values) or not values[0]:
            raise BundleError(
                f"{bundle.folder}: its manifest does not say which layers of its {precision} graph are in 8 bits; run "
                f"'molre-edge calibrate --precision {precision}' again"
            )
        layers, weights, attentions = values
        return cls(layers, weights, attentions, precision)  # type: ignore[arg-type]


def fp8_options(options: BuildOptions, probe: DriverProbe) -> BuildOptions:
    """The options of an FP8 engine, with the compute capabilities that it is built for.

    Args:
        options: as asked for.
        probe: the driver's answer, for an engine of this machine's GPU.

    Raises:
        EngineError: a GPU that was asked for, or that of this machine, has no FP8.
    """
    if options.target is Target.RTX:
        old = [word for word in options.compute_capabilities if _capability(word) < _OLDEST_FP8]
        if old:
            raise EngineError(
                f"--compute-capability {old[0]}: these GPUs have no FP8; expected 8.9 or newer "
                f"({', '.join(FP8_CAPABILITIES)}). Leave the option out, or build int8 or fp16 for them"
            )
        return replace(options, compute_capabilities=options.compute_capabilities or FP8_CAPABILITIES)
    if probe.gpus and probe.gpus[0].compute_capability < _OLDEST_FP8:
        raise EngineError(
            f"--engine fp8: the {probe.gpus[0]} of this machine has no FP8; expected compute capability 8.9 or newer "
            f"(Ada, Hopper, Blackwell, Thor). Build int8 or fp16"
        )
    return options


def _capability(word: str) -> tuple[int, int]:
    """``sm86`` as (8, 6); an unknown word, which the builder refuses by name, as a new one."""
    found = re.fullmatch(r"sm(\d+)(\d)", word.lower())
    return (int(found[1]), int(found[2])) if found else _OLDEST_FP8


def check_quantised(
    layers: Sequence[BuiltLayer], expected: Quantised, fused_in_fp16: Callable[[], int | None] = lambda: None
) -> str | None:
    """Refuse an engine whose quantised layers are not in 8 bits, or whose attentions came apart.

    A layer that could not be read may be right.

    Args:
        layers: as built.
        expected: from the bundle.
        fused_in_fp16: builds the float16 graph and counts its fused attentions; None where there is no such graph. It
            is asked only where fewer attentions are fused than the graph has: not every attention can be.

    Returns:
        What could not be checked, as a sentence; None where all was.

    Raises:
        EngineError: it is not such an engine; the message counts its layers.
    """
    name, datatype = expected.precision, DATATYPES[expected.precision]
    matrix = [layer for layer in layers if layer.is_matrix]
    right, hidden = [layer for layer in matrix if layer.datatype == datatype], unread(layers)
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
            f"the engine is named {name} and is not {name} inside: {share:.0%} of the graph's 8-bit {what} are "
            f"multiplied in {datatype}, expected at least {least:.0%}; its matrix layers are {built}. It was not kept"
        )
    fused = LayerSummary.of(layers).fused_attention
    if fused + hidden < expected.attentions:
        in_fp16 = fused_in_fp16()
        wanted = expected.attentions if in_fp16 is None else in_fp16
        if fused + hidden < wanted:
            raise EngineError(
                f"the {name} engine fuses {fused} attentions, expected {wanted} as in float16: 8 bits took them apart, "
                f"and it would be slower. It was not kept"
            )
    return not_checked(layers) if hidden else None
