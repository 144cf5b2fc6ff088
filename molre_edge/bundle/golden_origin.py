"""Whose answers a bundle's golden answers are: those of the user's own model, or of the rebuild of its checkpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from molre_edge.errors import shown
from molre_edge.parity.whose import GIVEN, Given, as_golden_rebuild, as_own_answers

__all__ = ["MAX_NOTE", "OUTPUTS", "OwnGolden", "golden_words", "note_problem"]

OUTPUTS = ("logits", "embedding", "gates")
"""What the user's own model may answer. It gives the first at least; the rest, and attention over slices, is then the
rebuild's."""

MAX_NOTE = 1000
"""Longest note on the origin of the answers, in characters."""

_MOST = 100_000
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class OwnGolden:
    """The user's own model gave the golden answers.

    Attributes:
        file: name of the file that held them, such as ``answers.npz``.
        sha256: of that file.
        scans: how many scans that file answered. The golden volumes are some or all of them.
        given: what the model got.
        outputs: which of :data:`OUTPUTS` it gave. The others are those of the rebuild.
        max_abs_dp: largest difference of a probability between it and the rebuild of the checkpoint, on all scans.
        max_abs_dlogit: the same for a logit, as :mod:`molre_edge.parity.logits` measures it.
        note: the user's own words about where the answers come from.
    """

    file: str
    sha256: str
    scans: int
    given: Given
    outputs: tuple[str, ...]
    max_abs_dp: float
    max_abs_dlogit: float
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the manifest."""
        return {**asdict(self), "outputs": list(self.outputs)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> OwnGolden:
        """The inverse of :meth:`to_dict`; a later version may have written more.

        Raises:
            KeyError: a key is missing.
            ValueError: an impossible value.
        """
        outputs = data["outputs"]
        numbers = (data["max_abs_dp"], data["max_abs_dlogit"])
        sound = (
            _is_text(data["file"], _FILE)
            and _is_text(data["sha256"], _SHA256)
            and type(data["scans"]) is int
            and 0 < data["scans"] <= _MOST
            and data["given"] in GIVEN
            and isinstance(outputs, list)
            and "logits" in outputs
            and set(outputs) <= set(OUTPUTS)
            and all(type(number) in (int, float) and number >= 0 for number in numbers)
            and note_problem(data["note"]) is None
        )
        if not sound:
            raise ValueError(f"golden answers: unexpected values {shown(dict(data))}")
        names = ("file", "sha256", "scans", "given", "max_abs_dp", "max_abs_dlogit", "note")
        return cls(**{name: data[name] for name in names}, outputs=tuple(outputs))


def note_problem(note: object) -> str | None:
    """Why a text can't be a note on the origin of the answers; None if it can."""
    if not isinstance(note, str) or len(note) > MAX_NOTE:
        return f"expected a text of at most {MAX_NOTE} characters"
    return None if not note or note.isprintable() else "expected one line of printable characters"


def golden_words(own: OwnGolden | None, volumes: int) -> str:
    """Whose answers the golden answers are, for the first line of a verdict on `volumes` of them."""
    return as_golden_rebuild(volumes) if own is None else as_own_answers(own.file, volumes, own.given)


def _is_text(value: object, form: re.Pattern[str]) -> bool:
    return isinstance(value, str) and form.fullmatch(value) is not None
