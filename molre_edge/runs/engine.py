"""An engine that may answer scans: chosen for this machine, and verified on it."""

from __future__ import annotations

from pathlib import Path

from molre_edge.bundle.bundle import Bundle
from molre_edge.engines.choice import EngineChoice, choose_engine, parse_engine
from molre_edge.engines.runner import Runner
from molre_edge.progress import Progress
from molre_edge.runs.judging import UserLimits
from molre_edge.runs.reference import find_checkpoint
from molre_edge.verification.golden_check import LimitsChoice, choose_limits, require_verified
from molre_edge.verification.passed import VerifiedRecord, record_path

__all__ = ["check_engine", "pick_engine"]


def pick_engine(
    word: str,
    bundle: Bundle,
    *,
    checkpoint: Path | None = None,
    backbone_weights: Path | None = None,
    threads: int | None = None,
    progress: Progress,
) -> EngineChoice:
    """Choose a runner and say which; it is not entered yet.

    Args:
        word: for :func:`molre_edge.engines.choice.choose_engine`.
        bundle: an open bundle.
        checkpoint: for ``torch``; looked for beside the bundle if it is not given.
        backbone_weights: for ``torch``, the Hugging Face folder of a checkpoint without the backbone's weights.
        threads: CPU threads of ONNX Runtime.
        progress: receives events.

    Raises:
        UsageError: an unknown word.
        EngineError: the engine cannot run here.
    """
    if checkpoint is None and parse_engine(word)[0] == "torch":
        checkpoint = find_checkpoint(bundle)
    choice = choose_engine(word, bundle, checkpoint=checkpoint, backbone_weights=backbone_weights, threads=threads)
    progress.info(f"Engine: {choice.runner.name} ({choice.why})")
    return choice


def check_engine(bundle: Bundle, runner: Runner, limits: UserLimits | None, progress: Progress) -> None:
    """Let an engine through only if it answered the golden volumes on this machine, or does so now.

    The PyTorch model needs no check: the golden answers are its own.

    Raises:
        ParityFailedError: it answers too far from PyTorch.
    """
    if runner.name.startswith("torch"):
        return
    progress.step("verifying the engine")
    if limits is None:
        chosen = choose_limits(bundle, runner.precision, None)
    else:
        chosen = LimitsChoice(limits[runner.precision], limits.source)
    how = require_verified(bundle, runner, chosen, VerifiedRecord(record_path()), progress=progress)
    progress.info(f"Engine {how}")
