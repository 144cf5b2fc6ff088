"""Every layer that may be FP8 in FP8, whatever it costs: parity, the share in 8 bits, and the engine of TensorRT-RTX.

    python benchmarks/fp8.py BUNDLE SCANS --json FIGURES.json

The ranges are the largest values on some of the scans. No limits are kept: what a search within them finds is measured
by benchmarks/int8.py --precision fp8. The bundle gets the graph and the engine, so give it a copy. No GPU is needed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from molre_edge import build_engine
from molre_edge.bundle.bundle import Bundle
from molre_edge.calibration.confirm import Confirmed
from molre_edge.calibration.keep import keep
from molre_edge.calibration.prepare import hash_inputs, prepare
from molre_edge.calibration.ranking import Item, Ranking
from molre_edge.calibration.search import Candidate
from molre_edge.calibration.settings import CalibrationSettings
from molre_edge.files import write_json
from molre_edge.parity import ParityLimits
from molre_edge.progress import Silent
from molre_edge.scans import find_scans
from molre_edge.specs import Precision, RangeMethod

ANYTHING = ParityLimits("anything", max_abs_dp=1.0)
TARGETS: tuple[tuple[str, ...], ...] = ((), ("sm89",))
"""Compute capabilities of the engines; none is the default of FP8 engines."""


class _Progress(Silent):
    def step(self, name: str) -> None:
        print(f"- {name}", flush=True)


def measure(bundle: Path, scans: Path) -> dict[str, Any]:
    """The figures of one bundle, which gets the graph and the last engine."""
    settings = CalibrationSettings(precision=Precision.FP8, method=RangeMethod.MINMAX, confirm_share=1.0)
    prepared = prepare(hash_inputs(Bundle.open(bundle), find_scans(scans), settings, ANYTHING, progress=_Progress()))
    print(f"- judging {len(prepared.layers)} layers in FP8", flush=True)
    model, judgement = prepared.evaluator.confirm(prepared.layers, prepared.clipping[RangeMethod.MINMAX])
    item = Item("all layers", prepared.layers, 0.0)
    candidate = Candidate(Ranking(RangeMethod.MINMAX, {RangeMethod.MINMAX: 0.0}, {}, (item,)), (item,))
    _, report = keep(prepared, Confirmed(candidate, model, judgement, ()))
    numbers = {each.what: each.numbers for each in judgement.comparisons}
    figures: dict[str, Any] = {
        "summary": report["summary"],
        "bytes": report["bytes"],
        "parity": {
            what: {
                "volumes": each.n,
                "max_abs_dp": each.dp.max_abs,
                "max_abs_dlogit": each.max_abs_dlogit,
                "cosine": each.min_cosine,
                "routing_l1": None if each.gates is None else each.gates.max_l1,
            }
            for what, each in numbers.items()
        },
        "engines": [],
    }
    print(json.dumps(figures, indent=2), flush=True)
    for capabilities in TARGETS:
        facts = build_engine(bundle, Precision.FP8, compute_capabilities=capabilities).facts
        figures["engines"].append(
            {name: facts[name] for name in ("runtime", "target", "layers", "bytes", "build_seconds", "warnings")}
        )
    return figures


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="a copy: it is written to")
    parser.add_argument("scans", type=Path, help="at least two")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    figures = measure(options.bundle, options.scans)
    print(json.dumps(figures, indent=2))
    if options.json:
        write_json(options.json, figures)


if __name__ == "__main__":
    main()
