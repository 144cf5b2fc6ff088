"""Times, in words: what each includes, and its percentiles."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.reports.parity_report import TimingRow
from molre_edge.reports.waiting import ENGINE_WAITED, READER_WAITED, WAITS

__all__ = ["ENGINE_PHASES", "OWN_MODEL_PHASES", "REFERENCE_PHASES", "Times", "timing_json"]

ENGINE_PHASES: Mapping[str, str] = {
    "read": "opening the scan's files, decoding pixels, checks",
    "geometry": "resampling to the model's grid",
    "to_device": "conversion to the engine's dtype and copies to its device",
    "compute": "the network, windows and normalisation included, device synchronised",
    "from_device": "copies back and conversion to float32",
    "post": "logits to probabilities",
    "end_to_end": "all of the above added up for one scan, files to probabilities; without waiting for its turn, the "
    "reference and files of results",
    "interval": "from the answer before to this one, its turn in the run: reading and writing answers are not in it as "
    "far as they overlap, refused scans are; not the reference",
    ENGINE_WAITED: "the engine had nothing to do until the scan was read",
    READER_WAITED: "its reader had nothing to do before it, since enough volumes waited to be taken",
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

_WITHOUT_RATE = {"read", "geometry", "to_device", "from_device", "post", *WAITS}


class Times:
    """Collects the times of scans: 8 bytes a phase and scan."""

    def __init__(self) -> None:
        """Hold none."""
        self._values: dict[str, array[float]] = {}

    def add(self, milliseconds: Mapping[str, float]) -> None:
        """Take over the times of a scan, by phase."""
        for phase, value in milliseconds.items():
            self._values.setdefault(phase, array("d")).append(value)

    def rows(self, who: str, phases: Mapping[str, str]) -> list[TimingRow]:
        """Median and percentiles of each phase that has times.

        Args:
            who: the runner's name.
            phases: name -> what it includes.
        """
        known = {phase: np.asarray(self._values[phase]) for phase in phases if phase in self._values}
        return [_row(who, phase, values, phases[phase]) for phase, values in known.items()]


def _row(who: str, phase: str, values: npt.NDArray[np.float64], includes: str) -> TimingRow:
    median, p90, p95, p99 = (float(v) for v in np.percentile(values, [50, 90, 95, 99]))
    total = float(values.sum())
    rate = None if phase in _WITHOUT_RATE or total <= 0 else 1e3 * len(values) / total
    return TimingRow(
        who=who,
        phase=phase,
        median_ms=median,
        p90_ms=p90,
        p95_ms=p95,
        p99_ms=p99,
        n=len(values),
        scans_per_second=rate,
        includes=includes,
        total_s=total / 1e3,
    )


def timing_json(rows: Iterable[TimingRow], facts: Mapping[str, Any]) -> dict[str, Any]:
    """The content of ``timing.json``: rows by runner and phase, with what they were measured on."""
    table: dict[str, dict[str, Any]] = {}
    for row in rows:
        data = {name: value for name, value in vars(row).items() if name not in {"who", "phase"}}
        table.setdefault(row.who, {})[row.phase] = data
    return {"unit": "milliseconds per scan", "measured_on": dict(facts), "phases": table}
