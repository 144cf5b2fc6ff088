"""Exports a full-size model with random weights and tells time and peak memory.

    python benchmarks/full_size.py dinov3-vitb16

The volumes are on the backbone's own grid, but of 4 slices where it is 2D. Draws the model with the backbone's default
placement (K = 6, r = 8, one router of hidden size 8 a block), runs
``molre-edge export`` on it in a process of its own with two golden volumes, and prints the parity of both graphs,
seconds by step and the largest resident memory of that process.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from molre_edge.demo import draw_model
from molre_edge.export.golden import synthetic_volumes
from molre_edge.files import write_json
from molre_edge.model.backbones.registry import backbone_entry
from molre_edge.model.checkpoint import save_checkpoint
from molre_edge.model.defaults import default_config

_EXPORT = (sys.executable, "-m", "molre_edge", "export")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backbone", nargs="?", default="dinov3-vitb16")
    parser.add_argument("--slices", type=int, help="4 for a 2D backbone, the grid's for a 3D one")
    parser.add_argument("--size", type=int, help="rows and cols; the grid's by default")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    entry = backbone_entry(options.backbone)
    size = {"rows": options.size, "cols": options.size} if options.size else {}
    grid = replace(entry.grid, slices=options.slices or (4 if entry.dimensions == 2 else entry.grid.slices), **size)
    config = default_config(options.backbone, grid=grid, adapter="molre" if entry.adapted else "none")
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, bundle = Path(folder) / "ckpt.pt", Path(folder) / "edge-bundle"
        # the block of extremes among them: fitted to heads alone, it would get logits in the hundreds
        save_checkpoint(draw_model(config, synthetic_volumes(grid, 3)), checkpoint)
        start = time.perf_counter()
        run = subprocess.run(
            [*_EXPORT, str(checkpoint), "-o", str(bundle), "--golden-volumes", "2", "--json"],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        result = json.loads(run.stdout) if run.stdout else {}
        sizes = {path.name: round(path.stat().st_size / 1e6, 1) for path in sorted(bundle.glob("graphs/*"))}
    figures = {
        "backbone": options.backbone,
        "volumes": " x ".join(str(side) for side in (2, *grid.shape)),
        "exit_code": run.returncode,
        "seconds": round(seconds, 1),
        "peak_gib": round(peak, 2),
        "graph_megabytes": sizes,
        "machine": f"{platform.machine()}, {platform.system()}",
        "seconds_by_step": result.get("seconds"),
        **{name: result.get(name) for name in ("added_fraction", "parity", "routing")},
    }
    print(json.dumps(figures, indent=2))
    if options.json:
        write_json(options.json, figures)
    sys.exit(run.returncode)


if __name__ == "__main__":
    main()
