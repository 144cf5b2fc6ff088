"""Which runner a word on the command line means, on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from molre_edge.bundle import Bundle
from molre_edge.engines.onnxruntime_runner import OnnxRuntimeRunner
from molre_edge.engines.runner import Runner
from molre_edge.engines.torch_runner import TorchRunner
from molre_edge.errors import EngineError
from molre_edge.specs import Precision

__all__ = ["EngineChoice", "choose_engine", "parse_engine"]

_RUNTIMES = ("onnxruntime", "torch")


@dataclass(frozen=True)
class EngineChoice:
    """A runner, not entered yet, and why it was chosen."""

    runner: Runner
    why: str


def parse_engine(word: str) -> tuple[str | None, Precision]:
    """``fp16``, ``onnxruntime:fp16`` or ``torch`` as runtime (None: the best one) and precision.

    Raises:
        EngineError: another word; the message lists what there is.
    """
    runtime, colon, precision = word.rpartition(":")
    if word == "torch":
        runtime, precision = "torch", "fp32"
    precisions = [p.value for p in Precision]
    known = runtime in _RUNTIMES or not (runtime or colon)
    if not known or precision not in precisions or (runtime == "torch" and precision != "fp32"):
        raise EngineError(
            f"--engine {word}: expected {', '.join(precisions)}, with 'onnxruntime:' before it to force that runtime, "
            f"or 'torch' for the PyTorch model itself"
        )
    return runtime or None, Precision(precision)


def choose_engine(
    word: str,
    bundle: Bundle,
    *,
    checkpoint: Path | None = None,
    backbone_weights: Path | None = None,
    threads: int | None = None,
) -> EngineChoice:
    """The runner that a word means.

    Args:
        word: see :func:`parse_engine`.
        bundle: opened.
        checkpoint: the reference's file, for ``torch``.
        backbone_weights: the Hugging Face folder of a checkpoint without them, for ``torch``.
        threads: CPU threads of ONNX Runtime.

    Raises:
        EngineError: an unknown word, or ``torch`` without a checkpoint.
        BundleError: the bundle has no graph of that precision.
    """
    runtime, precision = parse_engine(word)
    if runtime == "torch":
        if checkpoint is None:
            raise EngineError(
                "--engine torch needs the checkpoint that the bundle was exported from: put it beside the bundle, or "
                "name it with --reference"
            )
        return EngineChoice(TorchRunner.from_checkpoint(checkpoint, backbone_weights=backbone_weights), "asked for")
    runner = OnnxRuntimeRunner.from_bundle(bundle, precision, threads=threads)
    why = (
        "asked for" if runtime else f"ONNX Runtime on the {precision} graph: TensorRT engines can be built, not run yet"
    )
    return EngineChoice(runner, why)
