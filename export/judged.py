"""Judges a graph's answers to the golden volumes, and says what to do about one that fails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from molre_edge.bundle.golden_origin import OwnGolden, golden_words
from molre_edge.errors import ParityFailedError
from molre_edge.export.manifest_content import GraphParity
from molre_edge.parity import Outputs, ParityLimits, Verdict, compare, judge
from molre_edge.specs import Precision

if TYPE_CHECKING:
    from molre_edge.model.checkpoint import LoadedCheckpoint

__all__ = ["judged"]


def judged(
    precision: Precision,
    reference: Outputs,
    answers: Outputs,
    checkpoint: LoadedCheckpoint,
    limits: Mapping[Precision, ParityLimits],
    own: OwnGolden | None,
) -> GraphParity:
    """Judge the answers of a graph to the golden volumes.

    Raises:
        ParityFailedError: they are outside the limits; the message names the checks, and what to do.
    """
    config = checkpoint.config
    numbers = compare(reference, answers, findings=config.findings, thresholds=np.asarray(config.thresholds))
    verdict = judge(numbers, limits[precision], golden_words(own, numbers.n))
    if not verdict.passed:
        reasons = "; ".join(check.text for check in verdict.failed)
        raise ParityFailedError(
            f"the {precision} graph is outside its parity limits on the golden volumes: {reasons}. "
            + _advice(precision, verdict, own)
        )
    return GraphParity(numbers, verdict, limits[precision])


def _advice(precision: Precision, verdict: Verdict, own: OwnGolden | None) -> str:
    """What to do about a graph that failed; other limits are named only if they can help."""
    if precision is Precision.FP32 and own is not None:
        return (
            f"The rebuild in PyTorch is within them, with |Δlogit| up to {own.max_abs_dlogit:.3g} and |Δp| up to "
            f"{own.max_abs_dp:.3g} from your model, which leaves little room; set "
            f"limits that fit your use with --limits"
        )
    if precision is Precision.FP32:
        return "This is a bug in the export or in ONNX Runtime; please report the model's configuration"
    if verdict.other_limits_can_help:
        return "Export with --precision fp32 only, or set limits that fit your use with --limits"
    return "Export with --precision fp32 only: no limits allow NaN or infinity"
