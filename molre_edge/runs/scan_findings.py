"""What a model answered for one scan, in the words that files, JSON and the library share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.parity import Outputs
from molre_edge.scans import Attended, GridSlice, ScanWarning, attended_slice

__all__ = ["Answer", "Finding", "ScanFindings", "attended_of", "findings_of", "mean_gates"]

Gates = tuple[tuple[float | None, ...], ...]
"""Weights of the experts, by router; None for a weight that is not a number."""


@dataclass(frozen=True)
class Finding:
    """One finding of one scan.

    Attributes:
        name: as the model calls it.
        probability: from 0 to 1; None if the engine did not return a number.
        threshold: the model's decision threshold for this finding.
    """

    name: str
    probability: float | None
    threshold: float

    @property
    def positive(self) -> bool | None:
        """The decision: the probability reaches the threshold. None without a probability: neither yes nor no."""
        return None if self.probability is None else self.probability >= self.threshold

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without the name."""
        return {"probability": self.probability, "threshold": self.threshold, "positive": self.positive}


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """What a model answered for one volume.

    Attributes:
        findings: by name, in the order of the model's outputs.
        gates: each router's weights of its experts, mean over the slices; None for a model without experts.
        attended: the slice that the pooling's attention points to, which is no evidence of a finding; None for a 3D
            model, and for a graph exported before attention was an output.
        warnings: what a reader should know about the scan.
        facts: of the scan, without identifiers: spacing, number of slices and so on.
        milliseconds: wall time by phase; docs/reference/infer.md says what each phase includes.
    """

    findings: Mapping[str, Finding]
    gates: Gates | None
    attended: Attended | None = None
    warnings: tuple[ScanWarning, ...]
    facts: Mapping[str, Any]
    milliseconds: Mapping[str, float]

    @property
    def positive(self) -> tuple[str, ...]:
        """Names of the findings whose probability reaches the threshold."""
        return tuple(name for name, finding in self.findings.items() if finding.positive)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, in the words of ``findings.jsonl``."""
        return {
            "findings": {name: finding.to_dict() for name, finding in self.findings.items()},
            "gates": None if self.gates is None else [list(row) for row in self.gates],
            "attention": None if self.attended is None else self.attended.to_dict(),
            "warnings": [{"code": warning.code, "text": warning.text} for warning in self.warnings],
            "scan_facts": dict(self.facts),
            "milliseconds": dict(self.milliseconds),
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class ScanFindings(Answer):
    """The answer for one scan of a run.

    Attributes:
        scan: its anonymous id in the run.
    """

    scan: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: ``findings.jsonl`` and ``infer --json`` have the same words."""
        return {"scan": self.scan, **super().to_dict()}


def findings_of(outputs: Outputs, names: Sequence[str], thresholds: npt.NDArray[np.float64]) -> dict[str, Finding]:
    """The findings in the outputs of a single volume.

    Args:
        outputs: of one volume.
        names: of the findings, in the order of the logits.
        thresholds: float64 [findings].
    """
    values = zip(names, outputs.probabilities[0], thresholds, strict=True)
    return {name: Finding(name, _number(p), float(threshold)) for name, p, threshold in values}


def mean_gates(outputs: Outputs) -> Gates | None:
    """The gates of a single volume, mean over its slices; None for a model without experts."""
    if outputs.gates is None:
        return None
    return tuple(tuple(_number(weight) for weight in router) for router in outputs.gates[0].mean(axis=0))


def attended_of(outputs: Outputs, slices: Sequence[GridSlice]) -> Attended | None:
    """The slice with the largest weight in the outputs of a single volume, by the images of its grid."""
    return attended_slice(None if outputs.attention is None else outputs.attention[0], slices)


def _number(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None
