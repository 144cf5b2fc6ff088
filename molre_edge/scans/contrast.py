"""Whether a contrast agent was given, from the forms in which headers say so.

Sources: DICOM PS3.3 C.7.6.4 (Contrast/Bolus), C.7.6.4b (Enhanced Contrast/Bolus), C.7.6.16.2.12 (Contrast/Bolus Usage).
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from molre_edge.scans.dicom_access import Attributes

__all__ = ["has_contrast", "names_no_agent"]

_NOTHING = frozenset(
    {
        "NONE", "UNKNOWN", "NA", "NIL", "NULL", "NULLUM", "FALSE", "NATIVE", "NATIV", "NATIF", "NATIVO", "PLAIN",
        "UNENHANCED", "NATIVSCAN", "NATIVSERIE", "NONCONTRAST", "NONENHANCED", "NCCT", "NECT",
    }
)  # fmt: skip
"""Whole texts that name no agent."""
_NO = frozenset(
    {
        "NO", "NON", "NOT", "N", "WITHOUT", "WO", "OHNE", "KEIN", "KEINE", "KEINER", "NICHT", "SANS", "PAS", "SIN",
        "SENZA", "SEM", "NAO", "ZONDER", "GEEN", "UTAN", "UDEN", "UTEN", "INGEN", "BEZ", "BRAK", "ILMAN",
    }
)  # fmt: skip
"""First words that deny what follows, in the languages of the sites that were seen."""
_AGENT_WORDS = frozenset(
    {
        "CONTRAST", "CONTRASTE", "CONTRASTO", "KONTRAST", "KONTRASTMITTEL", "KONTRASTU", "KONTRASTMEDEL",
        "CONTRASTMIDDEL", "CM", "KM", "MDC", "PDC", "PRODUIT", "DE", "DI", "IV", "I", "V", "INTRAVENOUS", "ORAL", "PO",
        "AGENT", "MEDIUM", "MEDIA", "MIDDEL", "BOLUS", "DYE", "INJECTION", "INJECTED", "INJ", "ENHANCED",
        "ENHANCEMENT", "GIVEN", "USED", "ADMINISTERED", "APPLIED", "APPLICABLE", "AVAILABLE", "INDICATED", "GEGEBEN",
    }
)  # fmt: skip
"""Words that may follow a denial. Any other (``non-ionic``) makes the text name an agent."""


@lru_cache(256)
def names_no_agent(text: str) -> bool:
    """Whether the free text of Contrast/Bolus Agent says that none was given: ``NO CONTRAST``, ``N/A``, ``ohne KM``.

    An unknown text names an agent: a needless warning is better than a contrast that nobody notices.
    """
    plain = unicodedata.normalize("NFKD", text.upper()).encode("ascii", "ignore").decode()
    plain = re.sub(r"\bW ?/ ?O\b", "WITHOUT", plain)
    plain = re.sub(r"\bN ?[/.] ?A\b", "NA", plain)
    words = re.findall(r"[A-Z0-9]+", plain)
    if not words:
        return text.isascii()  # a text in other letters is unknown
    if words[0].lstrip("0") == "" and set(words[1:]) <= {"ML", "CC", "MG"}:
        return True
    if len(words) == 1 and words[0] in _NOTHING:
        return True
    if "ORAL" in words and {"IV", "INTRAVENOUS", "INJECTED"} & set(words[words.index("ORAL") :]):
        return False  # "no oral, IV contrast": one is denied, the other may be named
    denied = _AGENT_WORDS | _NOTHING
    return words[0] in _NO | _NOTHING and all(word in denied for word in words[1:])


def has_contrast(attributes: Attributes) -> bool:
    """Whether a contrast agent was given for a frame.

    A frame's Contrast/Bolus Usage decides where it is stated; else a named or coded agent or ingredient, or a volume or
    dose that is not zero.
    """
    usage = attributes.contrast_usage()
    if usage is not None:
        states = [
            str(item.get(name) or "").strip().upper()
            for item in usage
            for name in ("ContrastBolusAgentAdministered", "ContrastBolusAgentDetected")
        ]
        if any(states):
            return "YES" in states
    for name in ("ContrastBolusVolume", "ContrastBolusTotalDose"):
        if (attributes.number(name) or 0.0) > 0.0:
            return True
    coded = attributes.items("ContrastBolusAgentSequence")
    if any(not names_no_agent(str(item.get("CodeMeaning") or "agent")) for item in coded):
        return True
    return not all(names_no_agent(attributes.text(name)) for name in ("ContrastBolusAgent", "ContrastBolusIngredient"))
