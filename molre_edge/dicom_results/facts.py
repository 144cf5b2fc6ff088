"""What a DICOM result says about its maker, what it needs of a finding, and the error that refuses a source."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Protocol

from molre_edge import __version__
from molre_edge.errors import MissingDependencyError, MolreEdgeError, UsageError
from molre_edge.specs import SR_KINDS, SrKind

__all__ = [
    "MAKER",
    "SR_KINDS",
    "AttendedImage",
    "FindingRow",
    "ResultError",
    "ResultFacts",
    "SrKind",
    "check_extra",
    "check_kind",
]

MAKER = "molre-edge"
"""Manufacturer and model in every object that this package makes."""


class ResultError(MolreEdgeError):
    """A source for which no valid DICOM result can be made.

    Attributes:
        code: a stable word for the reason; docs/reference/dicom-results.md lists them.
    """

    def __init__(self, code: str, message: str) -> None:
        """Create the error.

        Args:
            code: a stable word, snake_case.
            message: what is wrong and what was expected, without any identifier or path.
        """
        super().__init__(message)
        self.code = code


class FindingRow(Protocol):
    """One finding of one scan, as :class:`molre_edge.runs.scan_findings.Finding` is."""

    @property
    def name(self) -> str:
        """As the model calls it."""

    @property
    def probability(self) -> float | None:
        """From 0 to 1; None if the engine did not return a number."""

    @property
    def threshold(self) -> float:
        """The model's decision threshold."""

    @property
    def positive(self) -> bool | None:
        """The decision; None without a probability."""


@dataclass(frozen=True)
class AttendedImage:
    """The image nearest to the slice that the model attended to most. It is no evidence of a finding.

    Attributes:
        instance: its SOP Instance UID.
        frame: of a file with several, from 1.
        weight: of that slice in the model's pooling, from 0 to 1.
    """

    instance: str
    frame: int
    weight: float


@dataclass(frozen=True, kw_only=True)
class ResultFacts:
    """Who answered.

    Attributes:
        bundle: digest of the bundle, hexadecimal.
        engine: name of the runner, such as ``onnxruntime:fp16``.
        adapter: digest of the adapter; None without one.
        version: of molre-edge.
    """

    bundle: str
    engine: str
    adapter: str | None = None
    version: str = __version__

    @property
    def identity(self) -> tuple[str, ...]:
        """What makes the answers of two makers different ones."""
        return (self.bundle, self.adapter or "", self.engine)

    @property
    def lines(self) -> tuple[str, ...]:
        """For people and for Algorithm Parameters."""
        adapter = () if self.adapter is None else (f"adapter sha256:{self.adapter}",)
        return (f"bundle sha256:{self.bundle}", *adapter, f"engine {self.engine}")


def check_extra() -> None:
    """Refuse before any work if the extra is not installed.

    Raises:
        MissingDependencyError: highdicom is not installed.
    """
    if importlib.util.find_spec("highdicom") is None:
        raise MissingDependencyError("Writing results as DICOM", "highdicom", "dicom")


def check_kind(kind: str) -> SrKind:
    """The kind of structured report that a word names.

    Raises:
        UsageError: an unknown word.
    """
    for known in SR_KINDS:
        if kind == known:
            return known
    raise UsageError(f"--sr {kind}: expected {' or '.join(SR_KINDS)}")
