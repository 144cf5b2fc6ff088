"""What a change of the adapter costs, and how large an adapter is: one bundle, one engine, two trainings.

    python benchmarks/adapter_switching.py WORK --backbone dinov3-vitb16 --slices 4 --switches 20

Makes two checkpoints of one backbone (random weights), exports the first with its trained tensors as inputs, packs the
second, adds it, and switches a loaded model from one to the other before each volume. A switch is timed alone; the
volume after it is beside volumes without a switch, in turns. Loading the engine, exporting and packing are timed once.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import molre_edge
from molre_edge.export.golden import extreme_volume
from molre_edge.machine import cpu_model, usable_cores
from molre_edge.model.checkpoint import save_checkpoint
from molre_edge.model.classifier import HeadCTClassifier
from molre_edge.model.config import ModelConfig
from molre_edge.model.defaults import default_config
from molre_edge.specs import Grid

FINDINGS = ("intraparenchymal_hemorrhage", "midline_shift", "hydrocephalus")


def main() -> None:
    """Run, and print JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--backbone", default="dinov3-vitb16")
    parser.add_argument("--slices", type=int, default=4)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--switches", type=int, default=20)
    parser.add_argument("--engine", default="onnxruntime:fp32")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    print(json.dumps(measured(options), indent=2))


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    grid = Grid(slices=options.slices, rows=options.side, cols=options.side)
    config = default_config(options.backbone, adapter="molre", grid=grid, findings=FINDINGS)
    bundle, seconds = options.work / "edge-bundle", dict[str, float]()
    first, second = checkpoints(config, options.work)
    timed(seconds, "export", lambda: molre_edge.export_checkpoint(first, bundle, golden_volumes=2, adapters="inputs"))
    out = options.work / "second.adapter"
    packed = timed(seconds, "pack", lambda: molre_edge.pack_adapter(second, out, bundle=bundle, force=True))
    added = timed(seconds, "add", lambda: molre_edge.add_adapter(packed.path, bundle=bundle))
    start = time.perf_counter()
    with molre_edge.load_model(bundle, options.engine, readers=0) as model:
        seconds["load"] = round(time.perf_counter() - start, 3)
        volume = extreme_volume(grid, 0)[None]
        figures = switched(model, volume, options.switches)
    return {
        "backbone": options.backbone,
        "grid": list(grid.shape),
        "engine": options.engine,
        "machine": {"cpu": cpu_model(), "cores": usable_cores(), "system": platform.platform()},
        "versions": {"molre-edge": molre_edge.__version__, "torch": torch.__version__},
        "adapter": {"bytes": packed.bytes, "share_of_fp16_graph": packed.graph_share},
        "golden_answers_of_add_s": added.seconds["golden_answers"],
        "seconds": seconds,
        **figures,
    }


def checkpoints(config: ModelConfig, work: Path) -> tuple[Path, Path]:
    """Two trainings at random, of one backbone with random weights."""
    torch.manual_seed(0)
    model = HeadCTClassifier(config).eval()
    paths = (work / "first.safetensors", work / "second.safetensors")
    for seed, path in enumerate(paths, start=1):
        torch.manual_seed(seed)
        with torch.no_grad():
            for name, value in model.named_parameters():
                if name.endswith("lora_B"):
                    value.normal_(std=0.02)
                elif not name.startswith("backbone."):
                    value.normal_(std=0.5 / max(value.shape[-1], 1) ** 0.5)
        save_checkpoint(model, path)
    return paths


def timed(seconds: dict[str, float], name: str, work: Callable[[], Any]) -> Any:
    """The work's result; its duration is noted."""
    start = time.perf_counter()
    result = work()
    seconds[name] = round(time.perf_counter() - start, 3)
    return result


def switched(model: Any, volume: np.ndarray, switches: int) -> dict[str, Any]:
    """Switches in turns with volumes; every answer must be that of the adapter in use."""
    names, answers = ("default", "second"), {}
    for name in names:
        model.use_adapter(name)
        answers[name] = model.run(volume).logits
    assert not np.allclose(answers["default"], answers["second"], atol=1e-3)
    switch_ms, after_ms, without_ms = [], [], []
    for number in range(switches):
        name = names[number % 2]
        start = time.perf_counter()
        model.use_adapter(name)
        switch_ms.append(1e3 * (time.perf_counter() - start))
        for times in (after_ms, without_ms):
            start = time.perf_counter()
            logits = model.run(volume).logits
            times.append(1e3 * (time.perf_counter() - start))
            assert np.array_equal(logits, answers[name])
    return {"switch_ms": spread(switch_ms), "volume_after_ms": spread(after_ms), "volume_ms": spread(without_ms)}


def spread(values: list[float]) -> dict[str, float]:
    """Median, quartiles and the largest."""
    low, median, high = np.percentile(values, [25, 50, 75])
    rounded = {"median": median, "lower_quartile": low, "upper_quartile": high, "largest": max(values)}
    return {"n": len(values), **{name: float(f"{value:.4g}") for name, value in rounded.items()}}


if __name__ == "__main__":
    main()
