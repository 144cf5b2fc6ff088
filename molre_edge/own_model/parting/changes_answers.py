"""What may differ behind the embedding: the head, logits taken for probabilities, calibration, the order of findings.

These need no run of the model: they take the rebuild's logits of all scans.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from molre_edge.own_model.parting.chain import Change
from molre_edge.own_model.parting.steps import Step
from molre_edge.own_model.rounded import LogitRange
from molre_edge.parity.outputs import sigmoid

__all__ = ["answer_changes"]

_F64 = npt.NDArray[np.float64]
_LEAST_SCANS = 3
"""A constant of each finding is told from chance by so many scans."""


def answer_changes(
    given: LogitRange, logits: _F64, bias: _F64, findings: tuple[str, ...], order: tuple[str, ...] | None
) -> Iterator[Change]:
    """Changes of the answers.

    Args:
        given: the user's answers [scans, findings], in the checkpoint's order.
        logits: of the rebuild, [scans, findings].
        bias: of the head, [findings].
        findings: of the checkpoint.
        order: as :attr:`Agreement.order`.
    """
    are_logits = bool((given.low == given.high).all())
    if order is not None:
        places = [findings.index(name) for name in order]
        inverse = np.argsort(places)
        reverse = order == findings[::-1]
        text = "names its findings in " + ("the reverse order of" if reverse else "another order than") + " the "
        setting = ", ".join(f'"{name}"' for name in order[:10]) + (", ..." if len(order) > 10 else "")
        yield Change(
            Step.ORDER,
            f"{text}checkpoint's",
            f'in the checkpoint, "findings": [{setting}], thresholds likewise',
            "answers",
            lambda found: found[:, inverse],
        )
    yield from _of_probabilities(are_logits)
    ratio = _ratio(given, logits)
    if ratio is not None:
        yield Change(
            Step.PROBABILITIES,
            f"multiplies its logits by {ratio:.6g} (a calibration, as by a temperature of {1 / ratio:.6g})",
            "put the factor into weights and bias of the head, or answer without it",
            "answers",
            lambda found: found * ratio,
        )
    yield Change(
        Step.HEAD,
        "has a head without bias",
        "set the head's bias in the checkpoint to 0",
        "answers",
        lambda found: found - bias,
    )
    if len(logits) >= _LEAST_SCANS:
        shift = np.median(given.nearest(logits) - logits, axis=0)
        moved = np.flatnonzero(np.abs(shift) > 1e-4)
        if len(moved):
            some = ", ".join(f"{findings[i]} by {shift[i]:+.4g}" for i in moved[:5])
            more = f" and {len(moved) - 5} more" if len(moved) > 5 else ""
            yield Change(
                Step.HEAD,
                f"has another bias in the head: {some}{more}",
                "add these differences to the head's bias in the checkpoint",
                "answers",
                lambda found: found + shift,
            )


def _of_probabilities(are_logits: bool) -> Iterator[Change]:
    def change(text: str, fix: str, apply: Callable[[_F64], _F64]) -> Change:
        return Change(Step.PROBABILITIES, text, fix, "answers", apply)

    if are_logits:
        yield change(
            "gave probabilities where logits were said",
            "name the array probabilities in answers.npz (or return them without the key 'logits')",
            sigmoid,
        )
        yield change(
            "gave logarithms of probabilities where logits were said",
            "give logits or probabilities",
            lambda found: -np.logaddexp(0.0, -found),
        )
    else:
        yield change(
            "applies the sigmoid twice",
            "apply it once, or give logits",
            sigmoid,
        )
    yield change("gives probabilities of absence", "give 1 - p, or logits with the other sign", lambda found: -found)
    yield change(
        "has a softmax over the findings, not a sigmoid of each",
        "apply a sigmoid to each finding's logit",
        _softmax_logits if not are_logits else _log_softmax,
    )


def _log_softmax(logits: _F64) -> _F64:
    most = logits.max(axis=1, keepdims=True)
    found: _F64 = logits - most - np.log(np.exp(logits - most).sum(axis=1, keepdims=True))
    return found


def _softmax_logits(logits: _F64) -> _F64:
    logs = _log_softmax(logits)
    found: _F64 = logs - np.log(np.maximum(-np.expm1(logs), 1e-300))
    return found


def _ratio(given: LogitRange, logits: _F64) -> float | None:
    """The factor between the user's logits and the rebuild's, if one can be told."""
    own = given.nearest(logits)
    usable = np.isfinite(own) & (np.abs(logits) > 0.05)
    if not usable.any():
        return None
    ratio = float(np.median(own[usable] / logits[usable]))
    return ratio if np.isfinite(ratio) and ratio > 0 and abs(ratio - 1) > 1e-4 else None
