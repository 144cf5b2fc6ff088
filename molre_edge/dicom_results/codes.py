"""Codes of the findings: SNOMED CT where one fits exactly, else a scheme of the project, which each object declares."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from molre_edge.findings import finding_words

__all__ = ["ATTENTION", "OWN_SCHEME", "THRESHOLD", "FindingCode", "code_of", "finding_codes"]

OWN_SCHEME = "99MOLRE"
_LONGEST_MEANING = 64


@dataclass(frozen=True)
class FindingCode:
    """A concept.

    Attributes:
        value: at most 16 characters.
        scheme: ``SCT`` (SNOMED CT), ``99MOLRE`` or another designator.
        meaning: at most 64 characters, for people.
    """

    value: str
    scheme: str
    meaning: str


THRESHOLD = FindingCode("T001", OWN_SCHEME, "Decision threshold")
"""No standard scheme has the probability from which on a model calls a finding present."""

ATTENTION = FindingCode("T002", OWN_SCHEME, "Image of the model's most attention, not of a finding")
"""Purpose of a reference to an image: no standard scheme has one that says nothing of findings."""


@cache
def finding_codes() -> dict[str, FindingCode]:
    """The codes of the project's findings (``codes.csv``), by their names."""
    text = resources.files("molre_edge").joinpath("codes.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return {row["finding"]: FindingCode(row["code"], row["scheme"], row["meaning"]) for row in rows}


def code_of(name: str) -> FindingCode:
    """The code of a finding; a name that the project does not know gets one of its own scheme, from the name's hash."""
    known = finding_codes().get(name)
    if known is not None:
        return known
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:12].upper()
    meaning = finding_words(name.replace("\\", " "))
    return FindingCode(f"U{digest}", OWN_SCHEME, meaning[:_LONGEST_MEANING])
