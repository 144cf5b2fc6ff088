"""``answers.npz``: what the user's own model answered, as its program wrote it down."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.errors import OwnModelError
from molre_edge.files import read_regular, write_whole
from molre_edge.own_model.array_file import MAX_ARRAY_BYTES, read_arrays
from molre_edge.own_model.rounded import LogitRange
from molre_edge.parity.whose import GIVEN, Given

__all__ = ["ANSWERS", "OwnAnswers", "read_answers", "write_answers"]

ANSWERS = "answers.npz"

_TEXTS = ("scans", "findings", "given")
_OUTPUTS = ("logits", "probabilities", "embedding", "gates")
_THRESHOLDS = "thresholds"
_AXES = {"logits": 2, "probabilities": 2, "embedding": 2, "gates": 4}
_HOW = "The file answer_scans.py beside it shows how to write it"


@dataclass(frozen=True, eq=False)
class OwnAnswers:
    """What the user's own model answered.

    Attributes:
        file: name of the file.
        sha256: of the file.
        given: what the model got for each scan.
        scans: the answered scans by name, as in ``inputs.json``.
        findings: names, in the order of the columns.
        logits: [scans, findings].
        embedding: float32 [scans, d], the vector before the head; None if not given.
        gates: float32 [scans, slices or 1, routers, experts]; None if not given.
        thresholds: float64 [findings], probabilities; None if not given.
    """

    file: str
    sha256: str
    given: Given
    scans: tuple[str, ...]
    findings: tuple[str, ...]
    logits: LogitRange
    embedding: npt.NDArray[np.float32] | None = None
    gates: npt.NDArray[np.float32] | None = None
    thresholds: npt.NDArray[np.float64] | None = None

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs that were given."""
        more = {"embedding": self.embedding, "gates": self.gates}
        return ("logits", *(name for name, array in more.items() if array is not None))


def read_answers(path: Path) -> OwnAnswers:
    """Read the answers of the user's own model. Python objects are never unpacked.

    Raises:
        OwnModelError: the file is missing or has another format; the message names the array.
    """
    try:
        content = read_regular(path, largest=MAX_ARRAY_BYTES)
    except OSError as error:
        raise OwnModelError(
            f"{path}: can't be read ({error.strerror}). Expected your model's answers. {_HOW}"
        ) from error
    try:
        arrays = read_arrays(content, (*_TEXTS, *_OUTPUTS, _THRESHOLDS))
        return _answers(path.name, hashlib.sha256(content).hexdigest(), arrays)
    except ValueError as error:
        raise OwnModelError(f"{path}: {error}. {_HOW}") from error


def _answers(file: str, sha256: str, arrays: Mapping[str, npt.NDArray[Any]]) -> OwnAnswers:
    for name in _TEXTS:
        if name not in arrays:
            raise ValueError(f"has no array {name!r}")
    given = str(arrays["given"].reshape(-1)[0]) if arrays["given"].size == 1 else ""
    if given not in GIVEN:
        raise ValueError(f"given: expected one of {', '.join(GIVEN)}, what your model got; got {given[:40]!r}")
    scans, findings = _names("scans", arrays["scans"]), _names("findings", arrays["findings"])
    numbers = [name for name in ("logits", "probabilities") if name in arrays]
    if len(numbers) != 1:
        raise ValueError("expected one of the arrays logits and probabilities")
    for name in _OUTPUTS:
        if name in arrays:
            _check(name, arrays[name], len(scans))
    values = arrays[numbers[0]]
    if values.shape[1] != len(findings):
        raise ValueError(f"{numbers[0]}: {values.shape[1]} columns; expected {len(findings)}, one a finding")
    return OwnAnswers(
        file=file,
        sha256=sha256,
        given=given,
        scans=scans,
        findings=findings,
        logits=logits_of(values, numbers[0]),
        embedding=_float32(arrays.get("embedding")),
        gates=_float32(arrays.get("gates")),
        thresholds=_thresholds(arrays.get(_THRESHOLDS), len(findings)),
    )


def logits_of(values: npt.NDArray[np.floating], kind: str) -> LogitRange:
    """Answers as logits.

    Args:
        values: [scans, findings], finite.
        kind: ``logits`` or ``probabilities``.

    Raises:
        ValueError: a probability is not from 0 to 1.
    """
    if kind == "logits":
        return LogitRange.of_logits(values)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(
            f"probabilities: from {values.min():.3g} to {values.max():.3g}; expected 0 to 1. Name the array logits if "
            f"your model gives logits (a function returns {{'logits': {{...}}}})"
        )
    narrow = values.astype(np.float32)
    if (narrow == values).all():  # float32 numbers are float64 after float(), tolist() and the like
        return LogitRange.of_probabilities(values if values.dtype.itemsize < narrow.dtype.itemsize else narrow)
    return LogitRange.of_probabilities(values)


def _names(what: str, array: npt.NDArray[Any]) -> tuple[str, ...]:
    if array.dtype.kind != "U" or array.ndim != 1 or not array.size:
        raise ValueError(f"{what}: expected a list of texts, got {array.dtype} {list(array.shape)}")
    names = tuple(str(name) for name in array)
    if len(set(names)) != len(names):
        raise ValueError(f"{what}: expected each name once")
    return names


def _check(name: str, array: npt.NDArray[Any], count: int) -> None:
    if array.dtype.kind != "f" or array.ndim != _AXES[name] or len(array) != count:
        axes = ", ".join([str(count), *["n"] * (_AXES[name] - 1)])
        raise ValueError(
            f"{name}: expected floats [{axes}], a row for each of scans; got {array.dtype} {list(array.shape)}"
        )
    bad = ~np.isfinite(array.reshape(count, -1)).all(axis=1)
    if bad.any():
        raise ValueError(
            f"{name}: NaN or infinity in {int(bad.sum())} of {count} scans, first in row {bad.argmax() + 1}"
        )


def _thresholds(array: npt.NDArray[Any] | None, count: int) -> npt.NDArray[np.float64] | None:
    if array is None:
        return None
    if array.dtype.kind != "f" or array.shape != (count,) or not ((array >= 0) & (array <= 1)).all():
        raise ValueError(
            f"thresholds: expected {count} probabilities, one a finding; got {array.dtype} {list(array.shape)}"
        )
    return array.astype(np.float64)


def _float32(array: npt.NDArray[Any] | None) -> npt.NDArray[np.float32] | None:
    return None if array is None else array.astype(np.float32)


def write_answers(
    path: Path,
    *,
    given: Given,
    scans: tuple[str, ...],
    findings: tuple[str, ...],
    arrays: Mapping[str, npt.NDArray[np.floating]],
) -> None:
    """Write answers, whole or not at all.

    Args:
        path: the file.
        given: what the model got for each scan.
        scans: names of the scans.
        findings: names of the columns.
        arrays: ``logits`` or ``probabilities``, and ``embedding`` and ``gates`` if known; a row for each scan.
    """
    texts = {"scans": np.array(scans), "findings": np.array(findings), "given": np.array(given)}
    with write_whole(path) as partial, partial.open("wb") as file:
        np.savez(file, **texts, **arrays)  # type: ignore[arg-type]  # no name is one of its own options
