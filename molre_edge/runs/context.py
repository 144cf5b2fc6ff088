"""What ``infer`` was asked for, and what a run works with: two frozen values, each filled in one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from molre_edge.bundle.bundle import Bundle
from molre_edge.dicom_results.facts import check_extra, check_kind
from molre_edge.engines.runner import Runner
from molre_edge.errors import UsageError
from molre_edge.files import StrPath
from molre_edge.own_model.process import OwnModel
from molre_edge.own_model.spec import is_model_spec
from molre_edge.parity import ParityLimits
from molre_edge.progress import SILENT, Progress
from molre_edge.runs.judging import Limits
from molre_edge.runs.labels import LabelTable
from molre_edge.runs.reference import WORDS, Reference
from molre_edge.runs.scan_ids import Shard
from molre_edge.specs import DEFAULT_BUNDLE

__all__ = ["InferOptions", "RunContext"]

_HOW = "in the report"
_ALWAYS: Mapping[str, Any] = {_HOW: str}
_NEVER: Mapping[str, Any] = {_HOW: None}


def _as(word: str) -> Mapping[str, Any]:
    """Shown with a word in place of the value: a path may carry the name of a patient."""
    return {_HOW: lambda value: value if value in WORDS else word}


def _reference_word(value: str) -> str:
    return "FILE.py:FUNCTION" if is_model_spec(value) else value if value in WORDS else "CKPT"


_NUMBERS = (("reference_scans", 1, None), ("threads", 1, None), ("readers", 0, 64), ("settle", 0, None))
"""Options that are numbers, with their lowest and highest value."""


@dataclass(frozen=True, kw_only=True)
class InferOptions:
    """What ``infer`` was asked for; :func:`molre_edge.runs.infer.infer_scans` explains each option.

    The metadata of a field say how the report's copy of the command shows the option; without, as it is.
    """

    scans: Path = field(metadata=_NEVER)
    engine: str = field(default="fp16", metadata=_ALWAYS)
    bundle: Path = field(default=DEFAULT_BUNDLE, metadata=_NEVER)
    out: Path | None = field(default=None, metadata=_NEVER)
    resume: bool = field(default=False, metadata=_NEVER)
    reference: str = field(default="auto", metadata={_HOW: _reference_word})
    reference_scans: int | None = None
    backbone_weights: Path | None = field(default=None, metadata=_as("DIR"))
    labels: Path | None = field(default=None, metadata=_as("CSV"))
    limits: Limits = field(default=None, metadata=_as("TOML"))
    all_series: bool = False
    settle: float = 0.0
    expect_digest: str | None = None
    trust: Sequence[StrPath] | None = field(default=None, metadata=_NEVER)
    threads: int | None = None
    readers: int | None = None
    images: bool = False
    sr: str | None = None
    secondary_capture: bool = False
    shard: str | None = None
    id_secret: Path | None = field(default=None, metadata=_NEVER)
    adapter: str | None = None

    def __post_init__(self) -> None:
        """Refuse numbers out of range, and a shard that could not be merged, before anything is opened.

        Raises:
            UsageError: with the option, its value and its range.
            MissingDependencyError: DICOM results are wanted, and their extra is not installed.
        """
        if self.sr is not None:
            check_kind(self.sr)
        if self.dicom is not None:
            check_extra()
        if self.shard is not None:
            Shard.parse(self.shard)
            if self.id_secret is None:
                raise UsageError("--shard needs --id-secret FILE: name the same file for all shards of a run")
            if self.reference_scans is not None:
                raise UsageError(
                    "--reference-scans N does not fit to --shard, as the first N scans of a run are not known to its "
                    "shards; compare all scans, or none (--reference golden)"
                )
        for name, low, high in _NUMBERS:
            value = getattr(self, name)
            if value is not None and (value < low or (high is not None and value > high)):
                to = f" to {high}" if high is not None else " up"
                raise UsageError(f"--{name.replace('_', '-')} {value}: expected a number from {low}{to}")

    @property
    def dicom(self) -> str | None:
        """Which DICOM results are wanted, in a word; None for none."""
        words = [*([self.sr] if self.sr else []), *(["capture"] if self.secondary_capture else [])]
        return "+".join(words) or None

    def as_typed(self) -> str:
        """The command line for the report. Paths carry names of people, so placeholders stand for them."""
        words = ["molre-edge infer SCANS"]
        for option in fields(self):
            value, how = getattr(self, option.name), option.metadata.get(_HOW, str)
            if how is None or (value == option.default and option.metadata != _ALWAYS):
                continue
            words.append(f"--{option.name.replace('_', '-')}")
            if value is not True:
                words.append(str(how(value)))
        return " ".join(words)


@dataclass(frozen=True, kw_only=True, eq=False)
class RunContext:
    """What a run works with. ``infer_scans`` makes it once; run and conclusion read it.

    Attributes:
        scans: the file or folder of scans.
        bundle: an open bundle.
        runner: an entered runner, the engine under test.
        reference: the choice of the reference.
        reference_runner: an entered runner, for the reference kind ``checkpoint``; else None.
        own_model: the user's own model, entered, for the reference kind ``own model``; else None.
        limits: the parity limits of this engine.
        limits_source: where they came from, for the report.
        labels: of the scans; None without any.
        reference_scans: how many scans are compared with the reference, the first usable ones; None for all.
        all_series: take every series of a study.
        settle_seconds: refuse studies with a file that changed less than this many seconds ago.
        readers: processes that read ahead; 0 reads between the engine's answers.
        most_readers: while the engine waits for them, more are started, up to so many.
        images: show slices of the worst scans in the report.
        sr: kind of the structured report that each DICOM scan gets; None for none.
        secondary_capture: each DICOM scan gets a page of its positive findings.
        command: for the report.
        notes: for the report and the result.
        progress: receives events.
    """

    scans: Path
    bundle: Bundle
    runner: Runner
    reference: Reference
    limits: ParityLimits
    reference_runner: Runner | None = None
    own_model: OwnModel | None = None
    limits_source: str = "default"
    labels: LabelTable | None = None
    reference_scans: int | None = None
    all_series: bool = False
    settle_seconds: float = 0.0
    readers: int = 0
    most_readers: int = 0
    images: bool = False
    sr: str | None = None
    secondary_capture: bool = False
    command: str = ""
    notes: tuple[str, ...] = ()
    progress: Progress = SILENT
