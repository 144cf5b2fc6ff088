"""What the store takes and gives: an image's fate, a study to answer, what became of it, an object to send."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["Ahead", "Conclusion", "Delivery", "Job", "Received"]

Received = Literal["new", "again", "differs"]
"""What an image was: new, one that is here already, or one of the same UID with another content (the first is kept)."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A study to answer, with all images that it has now.

    Attributes:
        study: its id.
        number: for people.
        version: that its report will have.
        attempts: which attempt this is, from 1.
        images: ids.
        folder: with exactly these images. The store removes it when the job is concluded or put off.
        last: time of the last image, seconds since 1970.
    """

    study: str
    number: int
    version: int
    attempts: int
    images: tuple[str, ...]
    folder: Path
    last: float


@dataclass(frozen=True, kw_only=True)
class Ahead:
    """A study that is due after the one in hand, to be read meanwhile. Nothing is noted of it: a crash forgets it.

    Attributes:
        study: its id.
        images: ids, of all that it has.
        folder: with exactly these images.
    """

    study: str
    images: tuple[str, ...]
    folder: Path


@dataclass(frozen=True, kw_only=True)
class Conclusion:
    """What became of a job.

    Attributes:
        outcome: ``answered``; ``unchanged``, where new images change nothing of what was answered; ``refused``.
        code: why it was refused.
        answered: digest of the images that were read, and of what read them.
        report: a folder with the report's files, which the store takes; None if there is none.
    """

    outcome: Literal["answered", "unchanged", "refused"]
    code: str = ""
    answered: str = ""
    report: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One object that waits for one destination.

    Attributes:
        id: of the row.
        number: of the study, for people.
        version: of the report.
        object: ``sr`` or ``capture``.
        path: its file.
        attempts: so far.
    """

    id: int
    number: int
    version: int
    object: str
    path: Path
    attempts: int
