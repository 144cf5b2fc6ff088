"""Tries on a machine with an NVIDIA GPU all that could not be tried without one, and writes down what came of it.

    python benchmarks/gpu_check
    python benchmarks/gpu_check --backbone dinov3-tiny --out somewhere    # minutes less
    python benchmarks/gpu_check --seconds 600                             # no new step after ten minutes

Parts, in this order, each made of steps. A step is a process with a time limit of its own; its checks are done, failed,
or can't run here for a reason that is told. The results are written after each step.

- device: the contract of the device layer on pycuda and cuda-python; copies beside a plain kernel in two slots, and its
  CUDA graph. Neither PyTorch nor TensorRT is needed.
- pytorch: the same model in PyTorch on CPU and GPU, in float32, float16 and bfloat16, by the gate of the precision;
  that model through the device layer, its slots and its CUDA graph; the cost of the adapters over the plain backbone;
  some epochs of training; the compiled model.
- engines: builds the float32 and float16 engines of a model with random weights for every library that is here, runs
  them through the runner, holds the answers against the golden ones by the gate of the precision; the cost of the
  adapters over the plain backbone; the engines beside PyTorch; whether TensorRT-RTX takes a GPU that its list lacks.

Results go to docs/results/gpu-check-<date>.json and .md. Without a GPU nothing is written unless --out names a folder.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path

from device_part import DEVICE_STEPS
from engines_part import ENGINE_STEPS
from pytorch_part import PYTORCH_STEPS
from report import Report
from steps import run_apart, run_here

from molre_edge.engines.cuda.driver import probe_driver

STEPS = {step.name: step for step in (*DEVICE_STEPS, *PYTORCH_STEPS, *ENGINE_STEPS)}
PARTS = list(dict.fromkeys(step.part for step in STEPS.values()))
RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
_SHORTEST = 20.0
"""Seconds below which no step is begun."""


def main() -> None:
    """Run it. The exit code is 1 where something failed; what can't run here does not count as a failure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, action="append", help="this part alone; again for more")
    parser.add_argument("--step", choices=STEPS, action="append", help="this step alone; again for more")
    parser.add_argument("--backbone", default="dinov3-vitb16", help="of the model with random weights")
    parser.add_argument("--slices", type=int, default=4, help="of a volume, for a 2D backbone")
    parser.add_argument("--rounds", type=int, default=30, help="of each timing")
    parser.add_argument("--seconds", type=float, help="for all steps together; those that find no time left can't run")
    parser.add_argument("--out", type=Path, help="folder for the results")
    parser.add_argument("--folder", type=Path, help="keep models and logs of the steps here")
    parser.add_argument("--child", choices=STEPS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        report = Report(probe_driver(), options.folder / f"{options.child}.jsonl")
        run_here(STEPS[options.child], report, options, options.folder)
        return
    with tempfile.TemporaryDirectory() as folder:
        if options.folder is not None:
            options.folder.mkdir(parents=True, exist_ok=True)
        sys.exit(1 if run(options, options.folder or Path(folder)).failed else 0)


def run(options: argparse.Namespace, folder: Path) -> Report:
    """All steps that were asked for; the results are written after each."""
    probe = probe_driver()
    report, end, now = Report(probe), time.monotonic() + (options.seconds or 1e9), datetime.now(timezone.utc)
    out = options.out or (RESULTS if probe.problem is None else None)
    given = ["--backbone", options.backbone, "--slices", str(options.slices), "--rounds", str(options.rounds)]
    paths: tuple[Path, ...] = ()
    for step in STEPS.values():
        if step.part not in (options.only or PARTS) or step.name not in (options.step or STEPS):
            continue
        left = end - time.monotonic()
        if probe.problem is not None:
            run_here(step, report, options, folder)
        elif left < _SHORTEST:
            no_time = {"part": step.part, "check": step.name, "state": "can't run", "reason": "no time was left for it"}
            report.take({**no_time, "seconds": 0.0})
        else:
            run_apart(step, report, given, folder, min(step.seconds, left))
        if out is not None:
            paths = report.write(out, now)
    if probe.problem is not None:
        print(f"There is no GPU to check: {probe.problem}")
    for path in paths:
        print(path)
    return report


if __name__ == "__main__":
    main()
