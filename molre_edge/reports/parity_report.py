"""The parity report: one value, written as JSON and as one self-contained HTML file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any, Literal

from molre_edge.parity.limits import ParityLimits
from molre_edge.parity.numbers import ParityNumbers
from molre_edge.parity.outputs import Outputs
from molre_edge.parity.verdict import Verdict
from molre_edge.specs import DISCLAIMER

__all__ = [
    "LISTED",
    "REPORT_KIND",
    "SCHEMA_VERSION",
    "BundleFacts",
    "EngineFacts",
    "FailedScan",
    "KeySlice",
    "ReferenceFacts",
    "Report",
    "TimingRow",
    "lasting_notes",
]

_NOT_FINITE = "is null because it was not a finite number"

SCHEMA_VERSION = 2
"""Of report.json. Raise it if a field goes away or changes its meaning, not if a field is added."""

LISTED = 1000
"""Scans and volumes that report.json lists one by one; of more, it has counts, distributions and the worst."""
_LISTED_FLIPS = 100  # of a finding

REPORT_KIND = "molre-edge parity report"
"""The value of ``kind`` in report.json."""


@dataclass(frozen=True, kw_only=True)
class EngineFacts:
    """The engine.

    Attributes:
        name: the runner, such as ``onnxruntime:fp16``.
        precision: of the graph, such as ``fp16``.
        runtime: library and version, such as ``ONNX Runtime 1.23.2``.
        device: in words, such as ``CPU (8 cores)``.
        threads: CPU threads it used, if known.
        details: other facts to show, such as the builder's options.
    """

    name: str
    precision: str
    runtime: str
    device: str
    threads: int | None = None
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ReferenceFacts:
    """The reference.

    Attributes:
        kind: the PyTorch model rebuilt from the checkpoint, the user's own model, the answers stored in the bundle, or
            none.
        volumes: the compared volumes, such as ``the 12 scans of this run`` or ``8 golden volumes of the bundle``.
        details: other facts to show, such as the version of PyTorch.
        words: whose answers they are, for the first line of the verdict; see :mod:`molre_edge.parity.whose`.
    """

    kind: Literal["pytorch checkpoint", "own model", "golden answers", "none"]
    volumes: str = ""
    details: Mapping[str, str] = field(default_factory=dict)
    words: str = ""


@dataclass(frozen=True, kw_only=True)
class BundleFacts:
    """The bundle. Hashes are SHA-256 in hex, ``None`` if unknown.

    Attributes:
        digest: of the manifest.
        checkpoint_sha256: of the checkpoint it was exported from.
        graph_sha256: of the ONNX graph that answered.
        grid: of the model's input, the fields of :class:`molre_edge.specs.Grid`.
        adapter: name of the adapter that answered; None where the graph holds what was trained.
        adapter_sha256: of its file.
    """

    digest: str
    checkpoint_sha256: str | None = None
    graph_sha256: str | None = None
    grid: Mapping[str, float | str | bool] | None = None
    adapter: str | None = None
    adapter_sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class TimingRow:
    """One line of the timing table.

    Attributes:
        who: ``engine`` or ``reference``, or a runner's name.
        phase: such as ``compute`` or ``end_to_end``.
        median_ms: milliseconds per scan, as the percentiles beside it.
        p90_ms: 90th percentile.
        p95_ms: 95th percentile.
        p99_ms: 99th percentile.
        n: repetitions measured, warm-up not counted.
        scans_per_second: throughput of this phase alone, if it makes sense.
        includes: the steps that the time includes, in words.
        total_s: seconds of all repetitions; None in reports of versions that did not tell it.
    """

    who: str
    phase: str
    median_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    n: int
    scans_per_second: float | None = None
    includes: str = ""
    total_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class FailedScan:
    """An unusable scan: its anonymous id, a stable code for the reason, and the reason."""

    scan: str
    code: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class KeySlice:
    """A slice of one of the worst scans. Only the page shows it.

    Attributes:
        scan: its anonymous id.
        data: a PNG of the brain window, as a ``data:`` address.
        width: pixels.
        height: pixels.
        slice: number of the slice on the model's grid, from 1; inferior to superior, unless its axes differ.
        slices: of that grid.
        by_routing: whether it is the slice where the gates differ most; otherwise it is the middle one.
    """

    scan: str
    data: str
    width: int
    height: int
    slice: int
    slices: int
    by_routing: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Report:
    """Everything a parity report shows.

    Attributes:
        title: heading of the report.
        created: UTC time, ISO 8601.
        engine: the engine under test.
        reference: the engine was compared with this.
        bundle: the engine's bundle.
        findings: names, in the order of the model's outputs.
        thresholds: float (findings,), probabilities.
        scans: anonymous ids of the volumes compared, in the order of `numbers`.
        numbers: ``None`` without a reference; nothing is judged then.
        limits: the limits that applied.
        limits_source: ``default``, or the file that they came from.
        verdict: present if and only if `numbers` are.
        reference_outputs: of the compared volumes; only the pictures need them.
        engine_outputs: of the compared volumes; only the pictures need them.
        groups: finding -> group, for findings other than the default 75.
        failed: unusable scans.
        warnings: scan id -> its warnings.
        timing: rows of the timing table.
        command: the exact command line.
        versions: library -> version.
        notes: sentences for the reader, such as which mode of a runtime rounds to half precision.
        rows: scan id -> its row in scans.csv, where that is known; only the page shows them.
    """

    title: str
    created: str
    engine: EngineFacts
    reference: ReferenceFacts
    bundle: BundleFacts
    findings: tuple[str, ...]
    thresholds: tuple[float, ...]
    scans: tuple[str, ...] = ()
    numbers: ParityNumbers | None = None
    limits: ParityLimits | None = None
    limits_source: str = "default"
    verdict: Verdict | None = None
    reference_outputs: Outputs | None = None
    engine_outputs: Outputs | None = None
    groups: Mapping[str, str] = field(default_factory=dict)
    failed: tuple[FailedScan, ...] = ()
    warnings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    timing: tuple[TimingRow, ...] = ()
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    rows: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a report whose parts contradict each other.

        Raises:
            ValueError: some of numbers, limits and verdict are missing, or they don't fit the scans or findings.
        """
        parts = {"numbers": self.numbers, "limits": self.limits, "verdict": self.verdict}
        missing = [name for name, part in parts.items() if part is None]
        if missing and len(missing) < len(parts):
            raise ValueError(f"Report: numbers, limits and verdict come together; missing: {', '.join(missing)}")
        if (self.reference.kind == "none") != (self.numbers is None):
            raise ValueError(f"Report: reference '{self.reference.kind}' with{'out' if missing else ''} numbers")
        if len(self.thresholds) != len(self.findings):
            raise ValueError(f"Report: {len(self.findings)} findings, {len(self.thresholds)} thresholds")
        if self.numbers is not None:
            if len(self.scans) != self.numbers.n:
                raise ValueError(f"Report: {self.numbers.n} volumes compared, {len(self.scans)} scan ids")
            if len(self.findings) != len(self.numbers.per_finding):
                raise ValueError(
                    f"Report: {len(self.numbers.per_finding)} findings compared, {len(self.findings)} names"
                )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for report.json. A number that is not finite becomes ``None``, and a note says where."""
        data = {
            "schema_version": SCHEMA_VERSION,
            "kind": REPORT_KIND,
            "disclaimer": DISCLAIMER,
            "title": self.title,
            "created": self.created,
            "verdict": self.verdict.to_dict() if self.verdict else None,
            "limits": self.limits.to_dict() if self.limits else None,
            "limits_source": self.limits_source if self.limits else None,
            "engine": _facts(self.engine),
            "reference": _facts(self.reference),
            "bundle": _facts(self.bundle),
            "findings": list(self.findings),
            "thresholds": [float(value) for value in self.thresholds],
            "scans": list(self.scans),
            "failed": [asdict(scan) for scan in self.failed[:LISTED]],
            "failed_count": len(self.failed),
            "warnings": {scan: list(texts) for scan, texts in islice(self.warnings.items(), LISTED)},
            "warned_count": len(self.warnings),
            "timing": [asdict(row) for row in self.timing],
            "numbers": _shortened(self.numbers),
            "command": self.command,
            "versions": dict(self.versions),
        }
        lost: list[str] = []
        plain: dict[str, Any] = _plain(data, "", lost)
        plain["notes"] = [*self.notes, *(f"{where} {_NOT_FINITE}" for where in lost)]
        return plain


def _shortened(numbers: ParityNumbers | None) -> dict[str, Any] | None:
    """Numbers for report.json, without what has an entry for each volume where there are more than it lists."""
    if numbers is None:
        return None
    data = numbers.to_dict()
    for each, finding in zip(data["per_finding"], numbers.per_finding, strict=True):
        each["flip_count"] = len(finding.flips)
    if numbers.n > LISTED:
        data["cosine"] = []
        if data["gates"] is not None:
            data["gates"]["max_l1_per_scan"] = []
        if data["attention"] is not None:
            data["attention"]["max_l1_per_scan"] = []
        data["nonfinite"] = data["nonfinite"][:LISTED]
        for each in data["per_finding"]:
            each["flips"] = each["flips"][:_LISTED_FLIPS]
    return data


def lasting_notes(notes: Iterable[str]) -> tuple[str, ...]:
    """The notes of a stored report without those on its numbers: they are written again with the new numbers."""
    return tuple(
        note for note in notes if not (note.startswith(("numbers.", "verdict.")) and note.endswith(_NOT_FINITE))
    )


def _facts(facts: EngineFacts | ReferenceFacts | BundleFacts) -> dict[str, Any]:
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in vars(facts).items()}


def _plain(value: Any, where: str, lost: list[str]) -> Any:
    """A copy of plain data with ``None`` for floats that are not finite; `lost` receives the place of each."""
    if isinstance(value, dict):
        return {key: _plain(each, f"{where}.{key}" if where else str(key), lost) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each, f"{where}[{i}]", lost) for i, each in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        lost.append(where)
        return None
    return value
