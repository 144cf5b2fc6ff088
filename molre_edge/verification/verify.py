"""``verify`` as a whole: hashes, engine, golden answers, and what is told of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from molre_edge.bundle.bundle import MANIFEST, Bundle
from molre_edge.engines.choice import choose_engine
from molre_edge.errors import MolreEdgeError
from molre_edge.reports.junit import add_case, close_suite, document, open_suite
from molre_edge.specs import DISCLAIMER
from molre_edge.verification.golden_check import (
    Files,
    GoldenCheck,
    LimitsChoice,
    check_files,
    check_golden,
    choose_limits,
    refusal,
)
from molre_edge.verification.passed import VerifiedRecord, subject_of

__all__ = ["Verification", "verification_junit", "verify_bundle"]


@dataclass(eq=False)
class Verification:
    """What a verification found; what it did not come to is None.

    Attributes:
        folder: of the bundle.
        digest: of the bundle; None where it could not be opened, or is not the one expected.
        files: what became of the hashes.
        engine: name and facts of the engine that was loaded, and why it was taken.
        gate: that applied.
        golden: what the engine answered.
        problem: why it failed, in a sentence.
        remembered: whether ``infer`` will know of the pass.
        seconds: by step.
    """

    folder: Path
    digest: str | None
    files: Files | None = None
    engine: Mapping[str, Any] | None = None
    gate: LimitsChoice | None = None
    golden: GoldenCheck | None = None
    problem: str | None = None
    remembered: bool = False
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0 passed, 3 the answers are too far from PyTorch's, 1 anything else."""
        if self.golden is not None and not self.golden.verdict.passed:
            return 3
        return 0 if self.problem is None else 1

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; docs/verify.md describes it."""
        files, gate, golden = self.files, self.gate, self.golden
        return {
            "bundle": str(self.folder),
            "digest": self.digest,
            "passed": self.exit_code == 0,
            "problem": self.problem,
            "files": None if files is None else {"checked": list(files.checked), "problems": dict(files.problems)},
            "engine": None if self.engine is None else dict(self.engine),
            "gate": None if gate is None else {"source": gate.source, **gate.gate.to_dict()},
            "volumes": None if golden is None else golden.numbers.n,
            "parity": None if golden is None else golden.verdict.to_dict(),
            "compute_ms": None if golden is None else [round(value, 3) for value in golden.compute_ms],
            "remembered": self.remembered,
            "seconds": dict(self.seconds),
            "exit_code": self.exit_code,
            "disclaimer": DISCLAIMER,
        }


def verification_junit(result: Verification) -> str:
    """JUnit XML: a case a file, the loading, and a case a check; what was not come to is skipped."""
    now, engine = datetime.now(timezone.utc).isoformat(timespec="seconds"), result.engine or {}
    properties = {
        "bundle": result.digest or "none",
        "engine": str(engine.get("name", "none")),
        "device": str(engine.get("device", "none")),
        "gate source": result.gate.source if result.gate is not None else "none",
    }
    files = open_suite(0, "hashes of the bundle", now, properties)
    for name in result.files.checked if result.files is not None else ():
        add_case(files, "files", name, result.files.problems.get(name, "") if result.files is not None else "")
    if result.digest is None:
        add_case(files, "files", MANIFEST, result.problem or "")
    answers = open_suite(1, "golden answers", now, properties)
    if result.golden is None:
        altered = result.digest is None or (result.files is not None and bool(result.files.problems))
        add_case(
            answers,
            "engine",
            "loading",
            "" if altered else result.problem or "",
            skipped="the bundle is not as it should be" * altered,
        )
        add_case(answers, "checks", "parity", skipped="the golden answers were not run")
    else:
        add_case(answers, "engine", "loading")
        for check in result.golden.verdict.checks:
            failed = check.text if check.judged and not check.passed else ""
            add_case(answers, "checks", check.name, failed, skipped="" if check.judged else check.text)
        if not result.golden.verdict.passed and not result.golden.verdict.failed:
            add_case(answers, "checks", "judged", "none of the gate's limits could be judged; that is not a pass")
    return document([close_suite(files), close_suite(answers)])


def verify_bundle(
    bundle: Bundle,
    engine: str,
    record: VerifiedRecord,
    *,
    gates: Path | None = None,
    threads: int | None = None,
    on_step: Callable[[str], None] = lambda name: None,
) -> Verification:
    """Verify a bundle with one of its engines; stops at the first step that fails.

    What a user can mend is in the result and not raised.

    Args:
        bundle: opened.
        engine: a word for :func:`molre_edge.engines.choice.choose_engine`.
        record: where a pass is noted.
        gates: the user's file of gates, if there is one.
        threads: CPU threads of ONNX Runtime.
        on_step: is told what begins.
    """
    result = Verification(bundle.folder, bundle.digest)
    try:
        _verify(result, bundle, engine, record, gates, threads, on_step)
    except MolreEdgeError as error:
        result.problem = str(error)
    return result


def _verify(
    result: Verification,
    bundle: Bundle,
    engine: str,
    record: VerifiedRecord,
    gates: Path | None,
    threads: int | None,
    on_step: Callable[[str], None],
) -> None:
    clock = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        result.seconds[name], clock = round(now - clock, 3), now

    on_step("hashes")
    result.files = check_files(bundle)
    lap("hashes")
    if result.files.problems:
        result.problem = next(iter(result.files.problems.values()))
        return
    on_step("loading the engine")
    choice = choose_engine(engine, bundle, threads=threads)
    result.gate = choose_limits(bundle, choice.runner.precision, gates)
    gate = result.gate.gate
    with choice.runner as runner:
        result.engine = {"name": runner.name, "why": choice.why, **runner.facts}
        lap("load")
        on_step("golden answers")
        result.golden = check_golden(bundle, runner, gate)
        subject = subject_of(bundle, runner, gate)
        lap("golden")
        if result.golden.verdict.passed:
            result.remembered = record.add(subject, result.golden.verdict.summary)
        else:
            record.forget(subject)
            result.problem = refusal(runner, result.gate, result.golden.verdict)
