"""PyTorch on the same GPU: the same model in float16, eager and compiled, beside the engines; a training step."""

from __future__ import annotations

import argparse
import contextlib
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from engines_part import fitting, judged, runner_of, timed
from report import CanNotRunError, Report

from molre_edge.benchmarking.measure import Candidate
from molre_edge.bundle.bundle import Bundle
from molre_edge.engines.runner import RunResult
from molre_edge.parity import Outputs
from molre_edge.specs import Precision

STEPS = 10


class HalfRunner:
    """A classifier in float16 on the GPU. No runner of the product: its logits are what the comparison is about."""

    precision = Precision.FP16
    input_spec: Any = None
    output_specs: Any = ()

    def __init__(self, checkpoint: Path, *, compiled: bool) -> None:
        """Load it; nothing is on the GPU before it is entered."""
        self.name = f"torch-{'compiled' if compiled else 'eager'}:fp16"
        self._path, self._compiled, self._model = checkpoint, compiled, None

    def __enter__(self) -> HalfRunner:
        """Move it to the GPU."""
        import torch

        from molre_edge.model.checkpoint import load_checkpoint

        model = load_checkpoint(self._path).model.eval().cuda()
        self._model = torch.compile(model) if self._compiled else model
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free it."""
        import torch

        self._model = None
        torch.cuda.empty_cache()

    @property
    def facts(self) -> dict[str, Any]:
        """Version."""
        import torch

        return {"runtime": "PyTorch", "version": torch.__version__}

    def run(self, volume: Any) -> RunResult:
        """Answer a batch under autocast: matrix products in float16, the rest as PyTorch decides."""
        import torch

        marks = [time.perf_counter()]
        with torch.inference_mode(), torch.autocast("cuda", torch.float16):
            fed = torch.from_numpy(volume).cuda().float()
            torch.cuda.synchronize()
            marks.append(time.perf_counter())
            answer = self._model(fed)
            torch.cuda.synchronize()
            marks.append(time.perf_counter())
            gates = None if answer.gates is None else answer.gates.float().cpu().numpy()
            outputs = Outputs(answer.logits.float().cpu().numpy(), answer.embedding.float().cpu().numpy(), gates)
        marks.append(time.perf_counter())
        phases = np.diff(marks) * 1e3
        return RunResult(outputs, dict(zip(("to_device", "compute", "from_device"), map(float, phases), strict=True)))


def pytorch_checks(report: Report, options: argparse.Namespace, folder: Path) -> None:
    """All checks of PyTorch; they use the bundle of the engines' part."""
    report.check("float16 answers, eager", lambda: answers(folder, compiled=False))
    report.check("float16 answers, compiled", lambda: answers(folder, compiled=True))
    report.check("PyTorch and engines in turns", lambda: in_turns(folder, options.rounds))
    report.check("a training step in mixed precision", lambda: training_step(folder))


def _ready(folder: Path) -> Bundle:
    try:
        import torch
    except ImportError as error:
        raise CanNotRunError(f"PyTorch is not installed ({error})") from error
    if not torch.cuda.is_available():
        raise CanNotRunError("this PyTorch can't use the GPU")
    if not (folder / "molre").is_dir():
        raise CanNotRunError("there is no bundle; run the part 'engines' too")
    return Bundle.open(folder / "molre")


def answers(folder: Path, *, compiled: bool) -> dict[str, Any]:
    """Beside the golden answers, which are float32; they are held against the gate of float16."""
    bundle = _ready(folder)
    golden = bundle.golden()
    with HalfRunner(folder / "molre.pt", compiled=compiled) as runner:
        return judged({"batch": runner.run(golden.volumes).outputs}, bundle, golden.outputs, Precision.FP16, {})


def in_turns(folder: Path, rounds: int) -> dict[str, Any]:
    """Times of PyTorch and of every engine that is there for this GPU, interleaved."""
    bundle = _ready(folder)
    candidates = [
        Candidate(how, lambda compiled=compiled: HalfRunner(folder / "molre.pt", compiled=compiled))
        for how, compiled in (("eager", False), ("compiled", True))
    ]
    for name in ("rtx-fp16", "here-fp16"):
        with contextlib.suppress(CanNotRunError):
            fitting(bundle, name)
            candidates.append(Candidate(name, lambda n=name: runner_of(bundle, n)))
    return timed(candidates, bundle.golden().volumes, rounds)


def training_step(folder: Path) -> dict[str, Any]:
    """Steps of adapters, routers and head on the focal loss under autocast; it must be finite and fall."""
    bundle = _ready(folder)
    import torch

    from molre_edge.model.checkpoint import load_checkpoint
    from molre_edge.training.loss import focal_loss, prevalence_weights

    model = load_checkpoint(folder / "molre.pt").model.cuda().train()
    golden = bundle.golden()
    volumes = torch.from_numpy(golden.volumes.astype(np.float32)).cuda()
    labels = torch.from_numpy((golden.outputs.logits < np.median(golden.outputs.logits, 0)).astype(np.float32)).cuda()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser, scaler = torch.optim.AdamW(trained, 1e-3), torch.amp.GradScaler("cuda")
    weights = prevalence_weights(labels)
    losses, seconds = [], []
    torch.cuda.reset_peak_memory_stats()
    for _ in range(STEPS):
        torch.cuda.synchronize()
        start = time.perf_counter()
        with torch.autocast("cuda", torch.float16):
            logits = model(volumes).logits
        loss = focal_loss(logits.float(), labels, weights)
        optimiser.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimiser)
        scaler.update()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
        losses.append(float(loss))
    if not np.isfinite(losses).all() or losses[-1] >= losses[0]:
        raise AssertionError(f"the losses are {losses}")
    return {
        "batch": len(volumes),
        "first loss": round(losses[0], 5),
        "last loss": round(losses[-1], 5),
        "ms a step": round(1e3 * float(np.median(seconds)), 2),
        "peak MiB": round(torch.cuda.max_memory_allocated() / 2**20, 1),
    }
