"""The user's own model as the reference of a run: what it answers for a scan, and what to say where it fails."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

import numpy as np

from molre_edge.bundle.bundle import Bundle
from molre_edge.engines.runner import Runner
from molre_edge.own_model.process import MODEL_FAILED, OwnModel, OwnModelFailedError
from molre_edge.parity import Outputs
from molre_edge.progress import Progress
from molre_edge.runs.reference import Reference
from molre_edge.scans import ScanSource, ScanWarning
from molre_edge.scans.workers.prepare import Prepared

__all__ = ["ReferenceAnswer", "ask_reference", "enter_own_model"]


@dataclass(frozen=True, eq=False)
class ReferenceAnswer:
    """What the reference answered for one scan.

    Attributes:
        outputs: None if it was not asked, or failed.
        milliseconds: by phase.
        warnings: that it failed, for reports.
        failure: why, in the words of the user's own code, which may name a path: for the terminal.
    """

    outputs: Outputs | None = None
    milliseconds: dict[str, float] = field(default_factory=dict)
    warnings: tuple[ScanWarning, ...] = ()
    failure: str = ""


def enter_own_model(
    reference: Reference, bundle: Bundle, stack: contextlib.ExitStack, progress: Progress
) -> OwnModel | None:
    """Start the user's own model, if that is the reference.

    Raises:
        OwnModelError: it can't be loaded, or does not say what it takes.
    """
    if reference.own is None:
        return None
    progress.step("loading your model")
    model = stack.enter_context(OwnModel(reference.own, bundle.grid, bundle.findings))
    progress.info(f"Your model: {model.name} takes {model.given}, in a process of its own")
    return model


def ask_reference(
    runner: Runner | None, own: OwnModel | None, source: ScanSource, found: Prepared, engine: Outputs
) -> ReferenceAnswer:
    """Ask the reference about a scan, if there is one.

    Args:
        runner: the PyTorch model.
        own: the user's own model.
        source: the scan's files.
        found: the scan on the grid.
        engine: the engine's answers. A probability is rounded, so it stands for a range of logits, of which the one
            nearest to the engine's is taken.

    Raises:
        OwnModelError: the user's own model answers no scan as it must.
    """
    if runner is not None:
        result = runner.run(found.volume[None])
        return ReferenceAnswer(result.outputs, result.milliseconds)
    if own is None:
        return ReferenceAnswer()
    try:
        answer = own.answer(source, found.volume, found.warnings)
    except OwnModelFailedError as error:
        text = f"not compared: your model failed on it ({error.brief})"
        return ReferenceAnswer(warnings=(ScanWarning(MODEL_FAILED, text),), failure=str(error))
    outputs = Outputs(answer.logits.nearest(engine.logits), np.zeros((1, 0), dtype=np.float32))
    return ReferenceAnswer(outputs, {"compute": answer.compute_ms})
