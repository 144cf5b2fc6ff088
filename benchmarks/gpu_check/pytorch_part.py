"""PyTorch on the GPU: answers beside the CPU's, the model through the device layer, adapters' cost, training."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
from device_part import backend_open
from drawn import MOLRE, PLAIN_MODEL, checkpoint, grid_of, model_of, volumes_of
from engines_part import differences, judged, short
from report import CanNotRunError, Report
from steps import Step
from torch_network import TorchNetwork

from molre_edge.engines.cuda.device import BACKENDS
from molre_edge.engines.runner import RunResult
from molre_edge.parity import Outputs
from molre_edge.specs import Precision

EPOCHS = 8
BATCHES = (1, 4)
_PRECISIONS = (Precision.FP32, Precision.FP16)


class AutocastRunner:
    """A classifier under autocast on the GPU. No runner of the product: its logits are what the comparison is about."""

    precision = Precision.FP16
    input_spec: Any = None
    output_specs: Any = ()

    def __init__(self, path: Path, *, kind: str = "float16", compiled: bool = False) -> None:
        """Take a checkpoint; nothing is on the GPU before it is entered."""
        self.name = f"torch-{'compiled' if compiled else 'eager'}:{kind}"
        self._path, self._kind, self._compiled, self._model = path, kind, compiled, None

    def __enter__(self) -> AutocastRunner:
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
        """Answer a batch under autocast: matrix products in 16 bits, the rest as PyTorch decides."""
        import torch

        marks = [time.perf_counter()]
        with torch.inference_mode(), torch.autocast("cuda", getattr(torch, self._kind)):
            fed = torch.from_numpy(volume).cuda().float()
            torch.cuda.synchronize()
            marks.append(time.perf_counter())
            answer = self._model(fed)
            torch.cuda.synchronize()
            marks.append(time.perf_counter())
            named = answer._asdict().items()
            outputs = Outputs.of({name: value.float().cpu().numpy() for name, value in named if value is not None})
        marks.append(time.perf_counter())
        phases = np.diff(marks) * 1e3
        return RunResult(outputs, dict(zip(("to_device", "compute", "from_device"), map(float, phases), strict=True)))


def need_gpu() -> Any:
    """PyTorch, if it can use the GPU."""
    import torch

    if not torch.cuda.is_available():
        raise CanNotRunError(
            f"PyTorch {torch.__version__} can't use the GPU: install one built for CUDA (pytorch.org tells the command)"
        )
    return torch


def reference(report: Report, options: argparse.Namespace, folder: Path) -> None:
    """Answers of the CPU in float32, and what the GPU makes of them."""
    found: dict[str, Outputs] = {}
    report.check("models are drawn, and the CPU answers", lambda: on_cpu(options, folder, found))
    report.check("float32 on the GPU beside the CPU (TF32 off)", lambda: exact(options, folder, found))
    report.check("float16 on the GPU (autocast)", lambda: rounded(options, folder, found, "float16"))
    report.check("bfloat16 on the GPU (autocast)", lambda: rounded(options, folder, found, "bfloat16"))


def cpu_answers(options: argparse.Namespace, folder: Path) -> Outputs:
    """Float32 answers of the CPU; kept for later steps."""
    from molre_edge.engines.torch_runner import TorchRunner

    path = folder / f"cpu-{options.slices}.npz"
    if not path.is_file():
        with TorchRunner(model_of(options, folder, MOLRE), device="cpu") as runner:
            volumes = volumes_of(options, folder)
            answers = Outputs.stack([runner.run(volumes[i : i + 1]).outputs for i in range(len(volumes))])
        np.savez(path, **answers.arrays)
    with np.load(path) as kept:
        return Outputs.of(kept)


def on_cpu(options: argparse.Namespace, folder: Path, found: dict[str, Outputs]) -> dict[str, Any]:
    """Draw both models; the answers of the one with adapters."""
    torch = need_gpu()
    checkpoint(options, folder, PLAIN_MODEL)
    found["cpu"] = cpu_answers(options, folder)
    spread = float(found["cpu"].logits.std(0).mean())
    return {"torch": torch.__version__, "deviation of logits over volumes": short(spread)}


def exact(options: argparse.Namespace, folder: Path, found: dict[str, Outputs]) -> dict[str, Any]:
    """The product's reference runner on the GPU, alone and in a batch, by the gate of float32."""
    from molre_edge.engines.torch_runner import TorchRunner

    need_gpu()
    wanted, model, volumes = _wanted(found), model_of(options, folder, MOLRE), volumes_of(options, folder)
    with TorchRunner(model) as runner:
        alone = Outputs.stack([runner.run(volumes[i : i + 1]).outputs for i in range(len(volumes))])
        batch = runner.run(volumes).outputs
        facts = runner.facts
    return judged({"alone": alone, "batch": batch}, model.config, wanted, Precision.FP32, {"device": facts["device"]})


def rounded(options: argparse.Namespace, folder: Path, found: dict[str, Outputs], kind: str) -> dict[str, Any]:
    """16 bits on the GPU beside float32 on the CPU; float16 has a gate, bfloat16 has none."""
    need_gpu()
    wanted, volumes = _wanted(found), volumes_of(options, folder)
    with AutocastRunner(checkpoint(options, folder, MOLRE), kind=kind) as runner:
        answers = runner.run(volumes).outputs
    if kind == "bfloat16":
        return {"batch": differences(answers, wanted), "gate": "none: no product runs in bfloat16"}
    return judged({"batch": answers}, model_of(options, folder, MOLRE).config, wanted, Precision.FP16, {})


def _wanted(found: dict[str, Outputs]) -> Outputs:
    if "cpu" not in found:
        raise CanNotRunError("there are no answers of the CPU to compare with; see the check before")
    return found["cpu"]


def through_slots(report: Report, options: argparse.Namespace, folder: Path) -> None:
    """The model through the device layer."""
    for backend in BACKENDS:
        for precision in _PRECISIONS:
            name = f"{backend}: the model in {precision} through slots and CUDA graph"
            report.check(name, lambda b=backend, p=precision: slots(options, folder, b, p))


def slots(options: argparse.Namespace, folder: Path, backend: str, precision: Precision) -> dict[str, Any]:
    """Volumes alone, streamed and in a batch, with and without a CUDA graph, by the gate of the precision."""
    from molre_edge.engines.cuda.batch_loop import SlotLoop

    need_gpu()
    model, volumes, wanted = model_of(options, folder, MOLRE), volumes_of(options, folder), cpu_answers(options, folder)
    device = backend_open(backend)
    figures: dict[str, Any] = {"backend": device.backend}
    answers = {}
    with device.active():
        network = TorchNetwork(model, grid_of(options), precision)
    ones = [volumes[i : i + 1] for i in range(len(volumes))]
    for graphs in (False, True):
        how = "with graph" if graphs else "without graph"
        loop = SlotLoop(device, network, smallest=1, largest=len(volumes), graphs=graphs)
        answers[f"{how}, alone"] = Outputs.stack([loop.run(one).outputs for one in ones])
        answers[f"{how}, streamed"] = Outputs.stack([r.outputs for r in loop.stream([*ones[::-1], *ones])][len(ones) :])
        answers[f"{how}, batch"] = loop.run(volumes).outputs
        times = [loop.run(one).milliseconds for one in ones * 8]
        start = time.perf_counter()
        count = len(list(loop.stream(ones * 8)))
        streamed = 1e3 * (time.perf_counter() - start) / count
        figures[how] = {
            "phases alone, ms": {name: short(float(np.median([t[name] for t in times]))) for name in times[0]},
            "streamed, ms a volume": short(streamed),
            **loop.facts(),
        }
        loop.close()
    same = {
        f"graph equals no graph, {how}": bool(
            (answers[f"with graph, {how}"].logits == answers[f"without graph, {how}"].logits).all()
        )
        for how in ("alone", "streamed", "batch")
    }
    device.close()
    captured = figures["with graph"]["prepared"]
    if set(captured.values()) != {"CUDA graph"}:
        raise AssertionError(f"not captured: {captured}")
    return judged(answers, model.config, wanted, precision, {**figures, **same})


@dataclass(frozen=True)
class Arm:
    """One that takes part in a timing; its call gives milliseconds."""

    name: str
    model: str
    call: Callable[[npt.NDArray[np.float16]], float]


def overhead(report: Report, options: argparse.Namespace, folder: Path) -> None:
    """What adapters cost."""
    for precision in _PRECISIONS:
        name = f"adapters over the plain backbone, {precision}"
        report.check(name, lambda p=precision: adapters_cost(options, folder, p))


def adapters_cost(options: argparse.Namespace, folder: Path, precision: Precision) -> dict[str, Any]:
    """Both models in turns: eager, wall clock around the network, and as a CUDA graph, by events around it."""
    from molre_edge.engines.cuda.batch_loop import SlotLoop

    torch = need_gpu()
    volumes, device = volumes_of(options, folder), backend_open(None)
    arms, loops, figures = [], [], {"includes": "the network alone, windows included; no copies"}
    for kind in (PLAIN_MODEL, MOLRE):
        with device.active():
            network = TorchNetwork(model_of(options, folder, kind), grid_of(options), precision)
        loop = SlotLoop(device, network, smallest=1, largest=max(BATCHES))
        loops.append(loop)
        arms.append(Arm("eager", kind, lambda v, n=network: _eager(torch, n, v)))
        arms.append(Arm("CUDA graph", kind, lambda v, s=loop: s.run(v).milliseconds["compute"]))
    for batch in BATCHES:
        figures[f"batch {batch}"] = in_turns(arms, volumes[:batch], options.rounds)
    captured = [loop.facts()["prepared"] for loop in loops]
    for loop in loops:
        loop.close()
    device.close()
    return {**figures, "volume": list(volumes.shape[1:]), "captured": captured, "rounds": options.rounds}


def _eager(torch: Any, network: TorchNetwork, volume: npt.NDArray[np.float16]) -> float:
    with torch.inference_mode(), network.computing():
        fed = torch.from_numpy(volume).cuda().float()
        torch.cuda.synchronize()
        start = time.perf_counter()
        network(fed)
        torch.cuda.synchronize()
        return 1e3 * (time.perf_counter() - start)


def in_turns(arms: Sequence[Arm], volumes: npt.NDArray[np.float16], rounds: int) -> dict[str, Any]:
    """Medians of each arm in milliseconds, and of each round's ratio of the model with adapters to the plain one."""
    times: dict[tuple[str, str], list[float]] = {(arm.name, arm.model): [] for arm in arms}
    for turn in range(-3, rounds):
        shift = turn % len(arms)
        for arm in [*arms[shift:], *arms[:shift]]:
            taken = arm.call(volumes)
            if turn >= 0:
                times[arm.name, arm.model].append(taken)
    figures: dict[str, Any] = {}
    for how in dict.fromkeys(arm.name for arm in arms):
        plain, molre = np.array(times[how, PLAIN_MODEL]), np.array(times[how, MOLRE])
        low, middle, high = np.percentile(molre / plain, [25, 50, 75])
        figures[how] = {
            "plain, ms": short(float(np.median(plain))),
            "with adapters, ms": short(float(np.median(molre))),
            "ratio": short(float(middle)),
            "quartiles": [short(float(low)), short(float(high))],
        }
    return figures


class InMemory:
    """Labelled volumes that lie on the GPU."""

    def __init__(self, volumes: Any, labels: npt.NDArray[np.float32]) -> None:
        """Keep both."""
        self._volumes, self.labels = volumes, labels

    def __len__(self) -> int:
        """Their number."""
        return len(self.labels)

    def answer(self, model: Any, indices: Sequence[int]) -> Any:
        """The model's answers to some of them."""
        return model(self._volumes[list(indices)])


def training(report: Report, options: argparse.Namespace, folder: Path) -> None:
    """Training."""
    report.check("training as the product does it, in bfloat16", lambda: learn(options, folder))


def learn(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The product's loop on the drawn volumes: losses are finite and fall; time of an epoch and memory."""
    torch = need_gpu()
    from molre_edge.training.loop import TrainSettings, train_model
    from molre_edge.training.state import TrainingState

    logits = cpu_answers(options, folder).logits
    volumes = torch.from_numpy(volumes_of(options, folder)).cuda().float()
    samples = InMemory(volumes, (logits < np.median(logits, 0)).astype(np.float32))
    model = model_of(options, folder, MOLRE).cuda()
    torch.cuda.reset_peak_memory_stats()
    settings = TrainSettings(epochs=EPOCHS, batch=len(samples), patience=EPOCHS)
    rows = train_model(model, samples, samples, settings, TrainingState(plan={})).rows
    losses = [row["train_loss"] for row in rows]
    if not np.isfinite(losses).all() or losses[-1] >= losses[0]:
        raise AssertionError(f"the losses are {losses}")
    return {
        "batch": len(samples),
        "steps": len(rows),
        "first loss": short(losses[0]),
        "last loss": short(losses[-1]),
        "first step, ms": short(1e3 * rows[0]["seconds"]),
        "later steps, median, ms": short(1e3 * float(np.median([row["seconds"] for row in rows[1:]]))),
        "peak MiB": round(torch.cuda.max_memory_allocated() / 2**20, 1),
    }


def compiled(report: Report, options: argparse.Namespace, folder: Path) -> None:
    """torch.compile."""
    report.check("float16, compiled", lambda: compile_and_time(options, folder))


def compile_and_time(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Its answers by the gate of float16, how long it compiles, and its time beside the eager model's, in turns."""
    torch = need_gpu()
    volumes, wanted = volumes_of(options, folder), cpu_answers(options, folder)
    path, times = checkpoint(options, folder, MOLRE), {"eager": list[float](), "compiled": list[float]()}
    with AutocastRunner(path) as eager, AutocastRunner(path, compiled=True) as fast:
        start = time.perf_counter()
        answers = fast.run(volumes).outputs
        seconds = time.perf_counter() - start
        for turn in range(-3, options.rounds):
            for name, runner in (("eager", eager), ("compiled", fast)):
                taken = runner.run(volumes).milliseconds["compute"]
                if turn >= 0:
                    times[name].append(taken)
    figures = {f"{name}, ms": short(float(np.median(values))) for name, values in times.items()}
    figures |= {"first call, s": short(seconds), "batch": len(volumes), "rounds": options.rounds}
    figures |= {"triton": getattr(torch.utils, "_triton", None) is not None and torch.utils._triton.has_triton()}
    config = model_of(options, folder, MOLRE).config
    return judged({"batch": answers}, config, wanted, Precision.FP16, figures)


PYTORCH_STEPS = (
    Step("pytorch", "reference", 120, reference),
    Step("pytorch", "slots", 120, through_slots),
    Step("pytorch", "overhead", 120, overhead),
    Step("pytorch", "training", 90, training),
    Step("pytorch", "compile", 180, compiled),
)
