"""Tries on a machine with an NVIDIA GPU all that could not be tried without one, and writes down what came of it.

    python benchmarks/gpu_check
    python benchmarks/gpu_check --backbone dinov3-tiny --out somewhere    # minutes less

Parts, each of which is done, failed, or can't run here for a reason that is told:

- device: the contract of the device layer on pycuda and cuda-python; copies beside a plain kernel in two slots, and its
  CUDA graph. No TensorRT is needed.
- engines: builds the float32 and float16 engines of a model with random weights for every library that is here, runs
  them through the runner, holds the answers against the golden ones by the gate of the precision; the cost of the
  adapters over the plain backbone; whether TensorRT-RTX takes a GPU that its list lacks.
- pytorch: the same model in PyTorch, eager and compiled, in float16, by the same gate, and beside the engines; a
  training step in mixed precision.

Results go to docs/results/gpu-check-<date>.json and .md. Without a GPU nothing is written unless --out names a folder.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path

from device_part import device_checks
from engines_part import engine_checks
from pytorch_part import pytorch_checks
from report import Report

from molre_edge.engines.cuda.driver import probe_driver

PARTS = {"device": device_checks, "engines": engine_checks, "pytorch": pytorch_checks}
RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"


def main() -> None:
    """Run it. The exit code is 1 where something failed; what can't run here is no failure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, action="append", help="this part alone; again for more")
    parser.add_argument("--backbone", default="dinov3-vitb16", help="of the model with random weights")
    parser.add_argument("--slices", type=int, default=4, help="of a volume, for a 2D backbone")
    parser.add_argument("--rounds", type=int, default=30, help="of each timing")
    parser.add_argument("--out", type=Path, help="folder for the results")
    options = parser.parse_args()
    probe = probe_driver()
    report = Report(probe)
    with tempfile.TemporaryDirectory() as folder:
        for name in options.only or PARTS:
            report.begin(name)
            PARTS[name](report, options, Path(folder))
    if probe.problem is not None:
        print(f"There is no GPU to check: {probe.problem}")
    if options.out is not None or probe.problem is None:
        for path in report.write(options.out or RESULTS, datetime.now(timezone.utc)):
            print(path)
    sys.exit(1 if report.failed else 0)


if __name__ == "__main__":
    main()
