"""Several runs of one model side by side: each with its own verdict, and each engine against that of the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from molre_edge.parity.comparison import compare
from molre_edge.parity.numbers import ParityNumbers
from molre_edge.parity.outputs import Outputs, ParityError
from molre_edge.reports.parity_report import Report
from molre_edge.specs import DISCLAIMER

__all__ = ["COMPARISON_KIND", "Between", "Comparison", "Side", "put_side_by_side"]

COMPARISON_KIND = "molre-edge parity comparison"
_SCHEMA_VERSION = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Side:
    """One run.

    Attributes:
        name: unique name on the page.
        report: of the run.
        keys: identify volumes across runs, one for each volume that the engine answered; never shown.
        answers: of the engine for these volumes; None if it answered none.
    """

    name: str
    report: Report
    keys: tuple[str, ...]
    answers: Outputs | None


@dataclass(frozen=True, eq=False)
class Between:
    """An engine compared with the engine of the first run, on the volumes that both answered.

    Attributes:
        first: name of the first run.
        run: name of the other run.
        numbers: the first engine is the reference here.
    """

    first: str
    run: str
    numbers: ParityNumbers


@dataclass(frozen=True, eq=False)
class Comparison:
    """Runs side by side.

    Attributes:
        created: UTC time, ISO 8601.
        sides: the runs, at least two, in the given order.
        between: each run but the first, compared with the first.
        notes: sentences for the reader.
    """

    created: str
    sides: tuple[Side, ...]
    between: tuple[Between, ...]
    notes: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether no run failed. A run that was not judged did not fail."""
        return all(side.report.verdict is None or side.report.verdict.passed for side in self.sides)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the report.json of several runs."""
        return {
            "schema_version": _SCHEMA_VERSION,
            "kind": COMPARISON_KIND,
            "disclaimer": DISCLAIMER,
            "created": self.created,
            "runs": [{"name": side.name, "report": side.report.to_dict()} for side in self.sides],
            "between": [
                {"first": each.first, "run": each.run, "numbers": each.numbers.to_dict()} for each in self.between
            ],
            "notes": list(self.notes),
        }


def put_side_by_side(sides: Sequence[Side], created: str) -> Comparison:
    """Compare runs.

    Raises:
        ParityError: the runs have different models, findings or thresholds, or no volume in common.
    """
    if len(sides) < 2:
        raise ParityError("Side by side: expected at least two runs; name another run")
    first, *others = sides
    for other in others:
        _same_model(first, other)
    notes: list[str] = []
    if len({side.report.bundle.digest for side in sides}) > 1:
        notes.append("the runs used different bundles of the same model; see what differs in the provenance")
    if len({side.report.limits for side in sides if side.report.limits}) > 1:
        notes.append(
            "the runs are judged by different limits: a run that passed may be farther from its reference than one "
            "that failed"
        )
    between = []
    for other in others:
        numbers = _numbers(first, other)
        between.append(Between(first.name, other.name, numbers))
        if not numbers.n == len(first.keys) == len(other.keys):
            notes.append(
                f"{first.name} answered {len(first.keys)} volumes and {other.name} {len(other.keys)}; they are "
                f"compared on the {numbers.n} that both answered"
            )
        notes += _references_apart(first, other)
    return Comparison(created, tuple(sides), tuple(between), tuple(notes))


def _same_model(first: Side, other: Side) -> None:
    a, b = first.report, other.report
    model_a, model_b = (each.bundle.checkpoint_sha256 or f"bundle {each.bundle.digest}" for each in (a, b))
    names = f"{other.name} can't be compared with {first.name}"
    if model_a != model_b:
        raise ParityError(
            f"{names}: its model is another one (checkpoint {model_b[:12]}..., not {model_a[:12]}...). Compare runs of "
            f"one checkpoint"
        )
    if a.findings != b.findings:
        raise ParityError(
            f"{names}: it has other findings ({len(b.findings)}, not the same {len(a.findings)}). Compare runs of one "
            "checkpoint"
        )
    if a.thresholds != b.thresholds:
        raise ParityError(
            f"{names}: it has other thresholds, so decisions can't be compared. Compare runs of one checkpoint"
        )
    if not set(first.keys) & set(other.keys):
        raise ParityError(
            f"{names}: they have no volume in common. Run both on the same scans, or both with --reference golden"
        )


def _numbers(first: Side, other: Side) -> ParityNumbers:
    """The other engine compared with the first, on the volumes of both."""
    assert first.answers is not None and other.answers is not None  # they have keys
    place = {key: i for i, key in enumerate(other.keys)}
    both = [(i, place[key]) for i, key in enumerate(first.keys) if key in place]
    ours, theirs = first.answers.take([i for i, _ in both]), other.answers.take([j for _, j in both])
    report = first.report
    return compare(ours, theirs, findings=report.findings, thresholds=np.array(report.thresholds))


def _references_apart(first: Side, other: Side) -> list[str]:
    """A sentence if the references of two runs differ in kind, or in their answers to scans of the same ids."""
    a, b = first.report, other.report
    if a.reference_outputs is None or b.reference_outputs is None:
        return []
    if a.reference.kind != b.reference.kind:
        return [
            f"{first.name} was compared with {a.reference.kind}, {other.name} with {b.reference.kind}, so their "
            "differences are of different volumes"
        ]
    if a.scans != b.scans:
        return []
    dp = np.abs(a.reference_outputs.probabilities - b.reference_outputs.probabilities)
    apart = float(np.max(dp, initial=0.0, where=np.isfinite(dp)))
    if apart <= 1e-4:
        return []
    return [
        f"the references of {first.name} and {other.name} differ by up to {apart:.2g} in a probability: "
        f"the same ids may stand for different scans, or the versions of PyTorch differ"
    ]
