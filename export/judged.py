"""Judges a graph's answers to the golden volumes, and says what to do about one that fails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from molre_edge.adapters.tensors import Tensors
from molre_edge.bundle.golden_origin import OwnGolden, golden_words
from molre_edge.engines.batches import answer_alone, answer_in_batches
from molre_edge.engines.onnxruntime_runner import OnnxRuntimeRunner
from molre_edge.engines.torch_runner import TorchRunner
from molre_edge.errors import ExportError, ParityFailedError
from molre_edge.export.manifest_content import GraphParity
from molre_edge.parity import Outputs, ParityLimits, Verdict
from molre_edge.parity.batches import BatchAnswers, judge_batches
from molre_edge.specs import Precision

if TYPE_CHECKING:
    from molre_edge.model.checkpoint import LoadedCheckpoint
    from molre_edge.model.classifier import HeadCTClassifier

__all__ = ["graph_answers", "judged", "torch_answers"]

_BATCH = 3
"""Every slot of such a batch is judged. A graph with a constant batch may answer two volumes, and fails on three."""


def torch_answers(model: HeadCTClassifier, golden: npt.NDArray[np.float16]) -> Outputs:
    """PyTorch's answers, one volume at a time.

    Raises:
        ExportError: the model answers NaN or infinity.
    """
    with TorchRunner(model, device="cpu") as runner:
        answers = Outputs.stack([runner.run(golden[i : i + 1]).outputs for i in range(len(golden))])
    bad = [i + 1 for i in range(len(golden)) if not np.isfinite(answers.logits[i]).all()]
    if bad:
        raise ExportError(
            f"the PyTorch model itself answers NaN or infinity on golden volume {bad[0]} of {len(golden)}. Expected "
            f"finite logits. Some of its weights are too large: train it again, or go back to an earlier checkpoint"
        )
    return answers


def graph_answers(
    raw: bytes,
    golden: npt.NDArray[np.float16],
    precision: Precision,
    *,
    optimise: bool = True,
    batch: int = _BATCH,
    adapter: Tensors | None = None,
) -> BatchAnswers:
    """A graph's answers on ONNX Runtime, on the CPU: alone, and in every slot of a batch.

    Args:
        raw: the graph's content.
        golden: float16 HU [n, slices, rows, cols].
        precision: of the graph.
        optimise: let ONNX Runtime optimise the graph.
        batch: slots of a batch; 1 for no batches.
        adapter: the trained tensors, for a graph that takes them as inputs.
    """
    with OnnxRuntimeRunner(raw, precision, optimise=optimise, cpu_only=True, adapter=adapter) as runner:
        alone, _ = answer_alone(runner, golden)
        return BatchAnswers(alone, answer_in_batches(runner, golden, batch))


def judged(
    precision: Precision,
    reference: Outputs,
    answers: BatchAnswers,
    checkpoint: LoadedCheckpoint,
    limits: Mapping[Precision, ParityLimits],
    own: OwnGolden | None,
) -> GraphParity:
    """Judge the answers of a graph to the golden volumes, alone and in every slot of a batch.

    Raises:
        ParityFailedError: they are outside the limits; the message names the checks, and what to do.
    """
    config = checkpoint.config
    judgement = judge_batches(
        answers,
        reference,
        limits[precision],
        golden_words(own, len(reference)),
        findings=config.findings,
        thresholds=np.asarray(config.thresholds),
    )
    verdict = judgement.verdict
    if not verdict.passed:
        fault = [judgement.fault] if judgement.fault else []
        reasons = "; ".join([*fault, *(check.text for check in verdict.failed)])
        raise ParityFailedError(
            f"the {precision} graph is outside its parity limits on the golden volumes: {reasons}. "
            + _advice(precision, verdict, None if judgement.fault else own)
        )
    return GraphParity(
        judgement.numbers, verdict, limits[precision], {"size": judgement.size, "answers": judgement.more}
    )


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
