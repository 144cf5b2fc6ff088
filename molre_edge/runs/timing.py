"""Times, in words: what each includes, and its percentiles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from molre_edge.reports.parity_report import TimingRow

__all__ = ["ENGINE_PHASES", "OWN_MODEL_PHASES", "REFERENCE_PHASES", "timing_json", "timing_rows"]

ENGINE_PHASES: Mapping[str, str] = {
    "read": "opening the scan's files, decoding pixels, checks",
    "geometry": "resampling to the model's grid",
    "to_device": "conversion to the engine's dtype and copies to its device",
    "compute": "the network, windows and normalisation included, device synchronised",
    "from_device": "copies back and conversion to float32",
    "post": "logits to probabilities",
    "end_to_end": "all of the above added up for one scan, files to probabilities; without waiting for its turn, the "
    "reference and files of results",
    "interval": "from the answer before to this one, its turn in the run: reading that overlaps is not in it, refused "
    "scans and writing the answers are; not the reference",
}
"""Phases of an engine's time per scan, and what each includes. Discovery and warm-up are in none of them."""

REFERENCE_PHASES: Mapping[str, str] = {
    "to_device": "conversion to float32 and copies to its device",
    "compute": "the network in PyTorch, windows and normalisation included, device synchronised",
    "from_device": "copies back",
}
"""The same for the reference, which gets the volume that the engine got."""

OWN_MODEL_PHASES: Mapping[str, str] = {
    "compute": "your model's function, from its call to its return; a function that takes a path reads the scan in it",
}
"""The same for the user's own model."""

_WITHOUT_RATE = {"read", "geometry", "to_device", "from_device", "post"}


def timing_rows(who: str, phases: Mapping[str, str], samples: Sequence[Mapping[str, float]]) -> list[TimingRow]:
    """Median and percentiles of each phase.

    Args:
        who: the runner's name.
        phases: name -> what it includes.
        samples: milliseconds by phase, one mapping a scan.
    """
    rows = []
    for phase, includes in phases.items():
        values = np.array([sample[phase] for sample in samples if phase in sample])
        if not len(values):
            continue
        median, p90, p95, p99 = (float(v) for v in np.percentile(values, [50, 90, 95, 99]))
        total = float(values.sum())
        rate = None if phase in _WITHOUT_RATE or total <= 0 else 1e3 * len(values) / total
        rows.append(
            TimingRow(
                who=who,
                phase=phase,
                median_ms=median,
                p90_ms=p90,
                p95_ms=p95,
                p99_ms=p99,
                n=len(values),
                scans_per_second=rate,
                includes=includes,
            )
        )
    return rows


def timing_json(rows: Iterable[TimingRow], facts: Mapping[str, Any]) -> dict[str, Any]:
    """The content of ``timing.json``: rows by runner and phase, with what they were measured on."""
    table: dict[str, dict[str, Any]] = {}
    for row in rows:
        data = {name: value for name, value in vars(row).items() if name not in {"who", "phase"}}
        table.setdefault(row.who, {})[row.phase] = data
    return {"unit": "milliseconds per scan", "measured_on": dict(facts), "phases": table}
