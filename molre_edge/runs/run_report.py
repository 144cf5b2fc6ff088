"""The parity report of a run, built in one place: for a run that just ended, and for one read from its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from molre_edge.parity import ParityLimits, compare, judge
from molre_edge.reports.parity_report import (
    BundleFacts,
    EngineFacts,
    FailedScan,
    ReferenceFacts,
    Report,
    TimingRow,
)
from molre_edge.runs.pairs import Pair

__all__ = ["RunFacts", "build_report"]


@dataclass(frozen=True, kw_only=True, eq=False)
class RunFacts:
    """What a report says of a run besides its numbers; the fields are those of :class:`Report`."""

    title: str
    created: str
    engine: EngineFacts
    reference: ReferenceFacts
    bundle: BundleFacts
    findings: tuple[str, ...]
    thresholds: tuple[float, ...]
    failed: tuple[FailedScan, ...]
    warnings: Mapping[str, tuple[str, ...]]
    timing: tuple[TimingRow, ...]
    command: str
    versions: Mapping[str, str]
    notes: tuple[str, ...]
    rows: Mapping[str, int]


def build_report(facts: RunFacts, pair: Pair | None, limits: ParityLimits | None, limits_source: str) -> Report:
    """Compare and judge what both answered, and put it together with the facts.

    Args:
        facts: of the run.
        pair: what reference and engine answered; None if nothing was compared, and then nothing is judged.
        limits: to judge by; needed if there is a pair.
        limits_source: where they came from.

    Raises:
        ParityError: the answers of reference and engine do not fit together.
    """
    numbers = verdict = None
    if pair is not None and limits is not None:
        thresholds = np.array(facts.thresholds)
        numbers = compare(pair.expected, pair.got, findings=facts.findings, thresholds=thresholds, labels=pair.truth)
        verdict = judge(numbers, limits, facts.reference.words)
    return Report(
        **vars(facts),
        scans=() if pair is None else pair.names,
        numbers=numbers,
        limits=limits if pair is not None else None,
        limits_source=limits_source,
        verdict=verdict,
        reference_outputs=None if pair is None else pair.expected,
        engine_outputs=None if pair is None else pair.got,
    )
