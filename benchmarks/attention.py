"""What attention that can't be fused costs on ONNX Runtime: both graphs in turns, on the CPU, in float32.

The same weights, drawn at random; ``python benchmarks/attention.py --backbone dinov3-vits16``. ONNX Runtime fuses
neither graph's attention, so this is the cost of the guards alone. What a fused kernel gains on a GPU is not in it.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import onnx
from adapters import STACKED, build, interleave

from molre_edge.engines.onnxruntime_runner import OnnxRuntimeRunner
from molre_edge.export.attention import FUSED, UNFUSED, unfuse_attention
from molre_edge.export.golden import synthetic_volumes
from molre_edge.export.graph import export_fp32
from molre_edge.specs import Grid, Precision


def main() -> None:
    """Run it and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="dinov3-vits16")
    parser.add_argument("--slices", type=int, default=4)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    grid = Grid(slices=options.slices, rows=options.size, cols=options.size)
    volume = synthetic_volumes(grid, 2)[1:]
    fused = export_fp32(build(STACKED, options.backbone, grid))
    unfused = onnx.ModelProto()
    unfused.CopyFrom(fused)
    attentions = unfuse_attention(unfused)
    runners = {
        name: OnnxRuntimeRunner(graph.SerializeToString(), Precision.FP32, cpu_only=True).__enter__()
        for name, graph in ((FUSED, fused), (UNFUSED, unfused))
    }
    arms = {name: lambda r=runner: r.run(volume).milliseconds["compute"] for name, runner in runners.items()}
    times = interleave(arms, options.rounds)
    ratios = np.percentile(times[UNFUSED] / times[FUSED], [25, 50, 75])
    figures = {
        "backbone": options.backbone,
        "attentions": attentions,
        "rounds": options.rounds,
        "median_ms": {name: round(float(np.median(values)), 1) for name, values in times.items()},
        "unfused over fused, lower quartile, median, upper quartile": [round(float(ratio), 3) for ratio in ratios],
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
