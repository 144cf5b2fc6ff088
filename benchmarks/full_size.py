"""Exports a full-size model and tells time and peak memory.

    python benchmarks/full_size.py dinov3-vitb16                       # random weights: a test of the structure
    python benchmarks/full_size.py efficientnet-lite0 --scans FOLDER   # trained weights, and real activations

The volumes are on the backbone's own grid, but of 4 slices where it is 2D. A backbone of the extra ``weights`` gets its
trained weights, any other random ones; adapters, routers and head are drawn, with the backbone's default placement
(K = 6, r = 8, one router of hidden size 8 a block), or come with ``--checkpoint``. Exports it in a process of its own
with two golden volumes, and prints the parity of both graphs, seconds by step and that process's largest memory.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import resource
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from molre_edge.demo import draw_model
from molre_edge.errors import MolreEdgeError
from molre_edge.export.exporter import export_checkpoint
from molre_edge.export.golden import scan_volumes, synthetic_volumes
from molre_edge.files import write_json
from molre_edge.model.backbones.registry import backbone_entry
from molre_edge.model.checkpoint import save_checkpoint
from molre_edge.model.defaults import default_config
from molre_edge.parity import ParityNumbers
from molre_edge.progress import Silent
from molre_edge.specs import Grid, Precision

_VOLUMES = 2


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backbone", nargs="?", default="dinov3-vitb16")
    parser.add_argument("--slices", type=int, help="4 for a 2D backbone, the grid's for a 3D one")
    parser.add_argument("--size", type=int, help="rows and cols; the grid's by default")
    parser.add_argument("--scans", type=Path, help="folder of scans for the golden set; synthetic volumes by default")
    parser.add_argument("--checkpoint", type=Path, help="a trained one, in place of a drawn one")
    parser.add_argument("--fp32-only", action="store_true", help="without the float16 graph")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, bundle = options.checkpoint or Path(folder) / "ckpt.pt", Path(folder) / "edge-bundle"
        figures: dict[str, Any] = {"model": str(options.checkpoint)}
        if options.checkpoint is None:
            figures = _draw(options.backbone, _grid(options), options.scans, checkpoint)
        start = time.perf_counter()
        with ProcessPoolExecutor(
            1, mp_context=multiprocessing.get_context("spawn")
        ) as pool:  # a killed one is an error
            result = pool.submit(_export, checkpoint, bundle, options.scans, options.fp32_only).result()
            seconds = time.perf_counter() - start
        figures |= {
            "golden": "synthetic" if options.scans is None else "scans",
            "seconds": round(seconds, 1),
            "peak_gib": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20, 2),
            "graph_megabytes": {
                path.name: round(path.stat().st_size / 1e6, 1) for path in sorted(bundle.glob("graphs/*"))
            },
            "machine": f"{platform.machine()}, {platform.system()}",
            **result,
        }
    print(json.dumps(figures, indent=2))
    if options.json:
        write_json(options.json, figures)
    sys.exit("error" in figures)


def _grid(options: argparse.Namespace) -> Grid:
    entry = backbone_entry(options.backbone)
    size = {"rows": options.size, "cols": options.size} if options.size else {}
    return replace(entry.grid, slices=options.slices or (4 if entry.dimensions == 2 else entry.grid.slices), **size)


def _draw(backbone: str, grid: Grid, scans: Path | None, checkpoint: Path) -> dict[str, Any]:
    """Draw a model on the volumes, write its checkpoint, and say what it is."""
    entry = backbone_entry(backbone)
    config = default_config(backbone, grid=grid, adapter="molre" if entry.adapted else "none")
    # the block of extremes among them: fitted to heads alone, it would get logits in the hundreds
    volumes = synthetic_volumes(grid, 3) if scans is None else scan_volumes(scans, grid, _VOLUMES)[0]
    save_checkpoint(draw_model(config, volumes, trained_backbone=entry.installed is not None), checkpoint)
    return {
        "backbone": backbone,
        "weights": "random" if entry.installed is None else f"trained, {entry.installed}",
        "volumes": " x ".join(str(side) for side in (_VOLUMES, *grid.shape)),
    }


class _Steps(Silent):
    def step(self, name: str) -> None:
        print(f"- {name}", file=sys.stderr, flush=True)


def _export(checkpoint: Path, bundle: Path, scans: Path | None, fp32_only: bool) -> dict[str, Any]:
    """Figures of an export, or why it was refused."""
    try:
        precisions = (Precision.FP32,) if fp32_only else (Precision.FP32, Precision.FP16)
        result = export_checkpoint(
            checkpoint, bundle, precisions=precisions, golden=scans, golden_volumes=_VOLUMES, progress=_Steps()
        )
    except MolreEdgeError as error:
        return {"error": str(error)}
    told = result.to_dict()
    return {
        "seconds_by_step": told["seconds"],
        **{name: told[name] for name in ("added_fraction", "parity", "routing")},
        "logits": {str(precision): _logits(parity.numbers) for precision, parity in result.parity.items()},
    }


def _logits(numbers: ParityNumbers) -> dict[str, float]:
    """The largest difference of each finding's logit: the median finding's and the worst one's."""
    largest = [each.logit.size for each in numbers.per_finding if each.logit is not None]
    return {"median": statistics.median(largest), "largest": max(largest)}


if __name__ == "__main__":
    main()
