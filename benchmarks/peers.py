"""The CPU engine beside its peers on a full-size model: eager PyTorch, torch.compile, OpenVINO.

    python benchmarks/peers.py WORK --rounds 8

Draws DINOv3-B with adapters and random weights on volumes of 4 slices, exports it into WORK (kept for the next time),
and times all runners in turns in one process, each with the same number of threads, as ``molre-edge bench`` does: a
ratio is taken within each round, since times on shared cores drift. Answers are compared with eager PyTorch's.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from molre_edge.benchmarking.candidates import find_volumes
from molre_edge.benchmarking.measure import Candidate, measure, summarise
from molre_edge.bundle.bundle import Bundle
from molre_edge.demo import draw_model
from molre_edge.engines.onnxruntime_runner import OnnxRuntimeRunner
from molre_edge.engines.openvino_runner import OpenVinoRunner
from molre_edge.engines.torch_runner import TorchRunner
from molre_edge.export.exporter import export_checkpoint
from molre_edge.export.golden import synthetic_volumes
from molre_edge.machine import cpu_model, cpu_state, usable_cores
from molre_edge.model.backbones.registry import backbone_entry
from molre_edge.model.checkpoint import save_checkpoint
from molre_edge.model.defaults import default_config
from molre_edge.progress import SILENT
from molre_edge.specs import Precision


class CompiledRunner(TorchRunner):
    """The PyTorch model through torch.compile; it is compiled at the first call."""

    name = "torch.compile:fp32"

    def __enter__(self) -> CompiledRunner:
        """Wrap the model."""
        import torch

        super().__enter__()
        self._model = torch.compile(self._model)  # type: ignore[assignment]
        return self


def prepare(work: Path, backbone: str, slices: int) -> tuple[Path, Bundle]:
    """The checkpoint and the bundle of a model with random weights, made if they are not there."""
    checkpoint, folder = work / "ckpt.pt", work / "edge-bundle"
    if not folder.is_dir():
        work.mkdir(parents=True, exist_ok=True)
        grid = replace(backbone_entry(backbone).grid, slices=slices)
        config = default_config(backbone, grid=grid, adapter="molre")
        save_checkpoint(draw_model(config, synthetic_volumes(grid, 3)), checkpoint)
        export_checkpoint(checkpoint, folder, golden_volumes=2, adapters="constants")
    return checkpoint, Bundle.open(folder)


def farthest(runner: Any, volumes: Any, expected: Any) -> float:
    """The largest difference of a logit from those expected."""
    with runner:
        return float(np.abs(runner.run(volumes).outputs.logits - expected).max())


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--backbone", default="dinov3-vitb16")
    parser.add_argument("--slices", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, default=usable_cores())
    options = parser.parse_args()
    import torch

    torch.set_num_threads(options.threads)
    checkpoint, bundle = prepare(options.work, options.backbone, options.slices)
    volumes, words = find_volumes(bundle, None, 1, SILENT)
    makers = {
        "torch": lambda: TorchRunner.from_checkpoint(checkpoint),
        "torch.compile": lambda: CompiledRunner.from_checkpoint(checkpoint),
        "onnxruntime": lambda: OnnxRuntimeRunner.from_bundle(bundle, Precision.FP32, threads=options.threads),
        "openvino": lambda: OpenVinoRunner.from_bundle(bundle, Precision.FP32, threads=options.threads),
    }
    with makers["torch"]() as eager:
        expected = eager.run(volumes[:1]).outputs.logits
    apart = {name: farthest(make(), volumes[:1], expected) for name, make in makers.items() if name != "torch"}
    before = cpu_state()
    candidates = [Candidate(name, make, named=True) for name, make in makers.items()]
    measured = measure(candidates, volumes, batches=[1], rounds=options.rounds)
    result = {
        "backbone": options.backbone,
        "volumes": words,
        "threads": options.threads,
        "cpu": cpu_model(),
        "cores": usable_cores(),
        "state": [before, cpu_state()],
        "farthest logit from eager": apart,
        "facts": measured.facts,
        "rows": [asdict(row) for row in summarise(measured.arms)],
        "times_ms": {arm.name: [round(value, 1) for value in arm.total_ms] for arm in measured.arms},
    }
    print(json.dumps(result, indent=2, default=str))


if __name__ == "__main__":
    main()
