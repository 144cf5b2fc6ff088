"""Does an adapter answer its golden volumes on this box as PyTorch did, on everything that may run it here?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from molre_edge.adapters.fit import fit_adapter
from molre_edge.adapters.tensors import check_half_range
from molre_edge.bundle.bundle import Bundle, GoldenSet
from molre_edge.engines.choice import choose_engine, ready_engines
from molre_edge.errors import EngineError, ParityFailedError
from molre_edge.files import StrPath
from molre_edge.parity import ParityLimits
from molre_edge.progress import SILENT, Progress
from molre_edge.specs import QUANTISED, Precision
from molre_edge.verification.golden_check import check_golden, choose_limits, refusal
from molre_edge.verification.passed import VerifiedRecord, subject_of

__all__ = ["EngineCheck", "check_adapter", "check_fit"]


@dataclass(frozen=True)
class EngineCheck:
    """How one engine answered an adapter's golden volumes.

    Attributes:
        engine: its name, such as ``onnxruntime:fp16``.
        passed: whether it may be used with the adapter. None: it could not be asked.
        summary: of the verdict, or why it could not be asked.
    """

    engine: str
    passed: bool | None
    summary: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"engine": self.engine, "passed": self.passed, "summary": self.summary}


def check_fit(bundle: Bundle) -> None:
    """Bring the bundle's chosen adapter to the shapes and the range of each of its graphs.

    Raises:
        AdapterError: it does not fit one of them; the message names what differs.
    """
    assert bundle.using is not None
    facts = bundle.adapter_facts()
    for graph in bundle.graphs.values():
        fitted = fit_adapter(bundle.using, facts, graph.adapter_inputs)
        check_half_range(fitted.tensors, graph.adapter_inputs)


def check_adapter(
    bundle: Bundle,
    record: VerifiedRecord,
    *,
    limits: StrPath | Mapping[Precision, ParityLimits] | None = None,
    threads: int | None = None,
    progress: Progress = SILENT,
) -> tuple[EngineCheck, ...]:
    """Ask every engine that is ready here for the golden answers of the bundle's chosen adapter.

    An 8-bit graph was made with another adapter. If it does not hold for this one, that is told and not an error:
    ``infer`` then refuses that precision with this adapter.

    Args:
        bundle: with an adapter chosen, which fits.
        record: engines that passed on this machine; passes are added, so that ``infer`` does not ask again.
        limits: the user's; None for the bundle's own.
        threads: CPU threads of ONNX Runtime.
        progress: receives progress events.

    Raises:
        ParityFailedError: an engine that is not of an 8-bit graph answers outside its limits.
        EngineError: a graph can't be loaded by ONNX Runtime.
        AdapterError: the adapter's golden answers are to other volumes.
    """
    golden, words = bundle.golden(), ready_engines(bundle)
    checks = []
    for word in words:
        progress.step(f"golden answers on {word}")
        try:
            checks.append(_checked(word, bundle, golden=golden, record=record, given=limits, threads=threads))
        except EngineError as error:
            if word.startswith("onnxruntime"):
                raise
            checks.append(EngineCheck(word, None, str(error)))
        if checks[-1].passed is not True:
            progress.warn(f"{word}: {checks[-1].summary}")
    return tuple(checks)


def _checked(
    word: str,
    bundle: Bundle,
    *,
    golden: GoldenSet,
    record: VerifiedRecord,
    given: StrPath | Mapping[Precision, ParityLimits] | None,
    threads: int | None,
) -> EngineCheck:
    with choose_engine(word, bundle, threads=threads).runner as runner:
        choice = choose_limits(bundle, runner.precision, given)
        check = check_golden(bundle, runner, choice.limits, golden)
        subject = subject_of(bundle, runner, choice.limits)
        if check.verdict.passed:
            record.add(subject, check.verdict.summary)
            return EngineCheck(word, True, check.verdict.summary)
        record.forget(subject)
        precision = runner.precision
        if precision not in QUANTISED:
            raise ParityFailedError(refusal(bundle, runner, choice, check))
    return EngineCheck(word, False, f"{precision} does not hold for this adapter: {check.verdict.summary}")
