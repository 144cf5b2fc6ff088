"""What MoLRE's adapters cost: the plain backbone, stacked experts and a loop over experts, side by side.

    python benchmarks/adapters.py --backbone dinov3-vitb16 --slices 4 --rounds 15

One volume a call. All arms run in every round, in an order that rotates, so that a busy machine slows all of them; the
table shows medians over the rounds, and the median and quartiles of each round's ratio to the plain backbone. A time is
the network alone, windows included: no reading of scans, no resampling.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from molre_edge.engines.onnxruntime_runner import OnnxRuntimeRunner
from molre_edge.engines.torch_runner import TorchRunner
from molre_edge.export.golden import synthetic_volumes
from molre_edge.export.graph import export_fp32
from molre_edge.files import write_json
from molre_edge.model.adapters import MoLRELinear
from molre_edge.model.backbones.registry import backbone_entry
from molre_edge.model.classifier import HeadCTClassifier
from molre_edge.model.config import AdapterConfig, BackboneConfig, ModelConfig
from molre_edge.model.placement import count_parameters
from molre_edge.specs import Grid, Precision

PLAIN, STACKED, LOOP = "plain", "stacked", "loop"


class LoopedLinear(MoLRELinear):
    """The same layer with one product down and one up an expert, as the formula is written."""

    def forward(self, x: Tensor) -> Tensor:
        """W0 x + sum_k g_k (alpha / r) B_k A_k x."""
        gates = self._stacked_gates(x)
        assert gates is not None
        answer = self.base(x)
        for expert in range(self.experts):
            part = slice(expert * self.rank, (expert + 1) * self.rank)
            gate = gates[..., part.start : part.start + 1]
            while gate.dim() < x.dim():
                gate = gate.unsqueeze(1)
            answer = answer + gate * F.linear(F.linear(x, self.lora_A[part]), self.lora_B[:, part])
        return answer


def build(arm: str, backbone: str, grid: Grid) -> HeadCTClassifier:
    """One arm; all arms share the backbone's random weights."""
    torch.manual_seed(0)
    adapter = AdapterConfig(experts=0)
    if arm != PLAIN:
        adapter = AdapterConfig(modules=backbone_entry(backbone).adapted, experts=6, rank=8)
    model = HeadCTClassifier(ModelConfig(backbone=BackboneConfig(id=backbone), grid=grid, adapter=adapter)).eval()
    for module in model.modules():
        if isinstance(module, MoLRELinear):
            torch.nn.init.normal_(module.lora_B, std=0.02)
            if arm == LOOP:
                module.__class__ = LoopedLinear
    return model


def interleave(arms: dict[str, Callable[[], float]], rounds: int) -> dict[str, np.ndarray]:
    """Milliseconds of each arm, [rounds]."""
    names = list(arms)
    times: dict[str, list[float]] = {name: [] for name in names}
    for name in names:  # warm-up
        arms[name]()
        arms[name]()
    for i in range(rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            times[name].append(arms[name]())
    return {name: np.array(values) for name, values in times.items()}


def time_torch(models: dict[str, HeadCTClassifier], volume: np.ndarray, rounds: int) -> dict[str, np.ndarray]:
    """PyTorch, float32, on the CPU."""
    runners = {name: TorchRunner(model, device="cpu").__enter__() for name, model in models.items()}
    arms = {name: lambda r=runner: r.run(volume).milliseconds["compute"] for name, runner in runners.items()}
    return interleave(arms, rounds)


def time_onnxruntime(graphs: dict[str, bytes], volume: np.ndarray, rounds: int) -> dict[str, np.ndarray]:
    """ONNX Runtime, float32, on the CPU."""
    runners = {name: OnnxRuntimeRunner(raw, Precision.FP32, cpu_only=True).__enter__() for name, raw in graphs.items()}
    arms = {name: lambda r=runner: r.run(volume).milliseconds["compute"] for name, runner in runners.items()}
    return interleave(arms, rounds)


def summarise(runtime: str, times: dict[str, np.ndarray]) -> list[dict[str, object]]:
    """Rows of the table."""
    rows = []
    for name, values in times.items():
        low, middle, high = np.percentile(values / times[PLAIN], [25, 50, 75])
        rows.append(
            {
                "runtime": runtime,
                "arm": name,
                "median_ms": round(float(np.median(values)), 1),
                "ratio": round(float(middle), 4),
                "quartiles": [round(float(low), 4), round(float(high), 4)],
                "rounds": len(values),
            }
        )
    return rows


def main() -> None:
    """Run it and print the table."""
    import onnxruntime

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="dinov3-vitb16")
    parser.add_argument("--slices", type=int, default=4)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    grid = Grid(slices=options.slices, rows=options.size, cols=options.size)
    volume = synthetic_volumes(grid, 2)[1:]
    start = time.perf_counter()
    graphs, models = {}, {}
    for arm in (PLAIN, STACKED, LOOP):
        models[arm] = build(arm, options.backbone, grid)
        graphs[arm] = export_fp32(models[arm]).SerializeToString()
        gc.collect()
    rows = summarise("ONNX Runtime", time_onnxruntime(graphs, volume, options.rounds))
    graphs.clear()
    gc.collect()
    rows += summarise("PyTorch", time_torch(models, volume, options.rounds))
    count = count_parameters(models[STACKED])
    facts = {
        "backbone": options.backbone,
        "volume": f"1 x {options.slices} x {options.size} x {options.size}",
        "adapted_layers": len(backbone_entry(options.backbone).adapted),
        "experts": 6,
        "rank": 8,
        "added_fraction": round(count.fraction, 5),
        "threads": torch.get_num_threads(),
        "machine": f"{platform.machine()}, {platform.system()}",
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
        "seconds_in_all": round(time.perf_counter() - start),
    }
    table = Table(title=", ".join(f"{name} {value}" for name, value in facts.items()))
    for heading in ("runtime", "arm", "median ms", "ratio to plain", "quartiles"):
        table.add_column(heading)
    for row in rows:
        low, high = row["quartiles"]  # type: ignore[misc]
        table.add_row(
            str(row["runtime"]), str(row["arm"]), str(row["median_ms"]), str(row["ratio"]), f"{low} to {high}"
        )
    Console(width=100).print(table)
    print(json.dumps({**facts, "rows": rows}))
    if options.json:
        write_json(options.json, {**facts, "rows": rows})


if __name__ == "__main__":
    main()
