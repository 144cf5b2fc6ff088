"""The verb ``verify_bundle``: hashes, engine, golden answers, and the result as data and as JUnit XML."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from molre_edge.bundle.bundle import MANIFEST, Bundle
from molre_edge.engines.choice import choose_engine, parse_engine
from molre_edge.errors import BundleError, ConfigError, EngineError, MolreEdgeError
from molre_edge.files import StrPath, name_problem, write_json, write_whole
from molre_edge.parity import ParityLimits
from molre_edge.parity.batches import BatchJudgement
from molre_edge.progress import SILENT, Progress
from molre_edge.reports.junit import add_case, close_suite, document, open_suite
from molre_edge.signing.trust import trust_of
from molre_edge.specs import DEFAULT_BUNDLE, DISCLAIMER, Precision
from molre_edge.verification.golden_check import (
    Files,
    GoldenCheck,
    LimitsChoice,
    check_files,
    check_golden,
    choose_limits,
    refusal,
)
from molre_edge.verification.passed import VerifiedRecord, record_path, subject_of

__all__ = ["Verification", "verification_junit", "verify_bundle"]


@dataclass(frozen=True, eq=False)
class Verification:
    """The result of a verification. A step that was not reached is None.

    Attributes:
        folder: the bundle.
        digest: the bundle's digest; None if it could not be opened, or is not the expected one.
        signed: the release's signature: key, name, version and trusted comment; None if none was asked for.
        files: the comparison of the hashes.
        engine: name and facts of the engine, and why it was chosen.
        limits: the limits that applied.
        golden: the engine's answers.
        problem: why the verification failed, in a sentence.
        remembered: whether ``infer`` will find this pass in the record.
        seconds: duration of each step.
    """

    folder: Path
    digest: str | None = None
    signed: Mapping[str, Any] | None = None
    files: Files | None = None
    engine: Mapping[str, Any] | None = None
    limits: LimitsChoice | None = None
    golden: GoldenCheck | None = None
    problem: str | None = None
    remembered: bool = False
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every step passed."""
        return self.exit_code == 0

    @property
    def exit_code(self) -> int:
        """0: passed. 3: the answers are outside the limits. 1: anything else."""
        if self.golden is not None and not self.golden.verdict.passed:
            return 3
        return 0 if self.problem is None else 1

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, as ``molre-edge verify --json`` prints it; docs/reference/verify.md describes it."""
        files, limits, golden = self.files, self.limits, self.golden
        return {
            "bundle": str(self.folder),
            "digest": self.digest,
            "signed": None if self.signed is None else dict(self.signed),
            "passed": self.passed,
            "problem": self.problem,
            "reference": None if golden is None else golden.verdict.reference,
            "files": None if files is None else {"checked": list(files.checked), "problems": dict(files.problems)},
            "engine": None if self.engine is None else dict(self.engine),
            "limits": None if limits is None else {"source": limits.source, **limits.limits.to_dict()},
            "volumes": None if golden is None else golden.numbers.n,
            "batches": None if golden is None else _batches(golden.judgement),
            "parity": None if golden is None else golden.verdict.to_dict(),
            "compute_ms": None if golden is None else [round(value, 3) for value in golden.compute_ms],
            "remembered": self.remembered,
            "seconds": dict(self.seconds),
            "exit_code": self.exit_code,
            "disclaimer": DISCLAIMER,
        }


def verify_bundle(
    bundle: Bundle | StrPath = DEFAULT_BUNDLE,
    engine: str = "fp16",
    *,
    adapter: str | None = None,
    expect_digest: str | None = None,
    trust: Sequence[StrPath] | None = None,
    accept_older: bool = False,
    limits: StrPath | Mapping[Precision, ParityLimits] | None = None,
    threads: int | None = None,
    out: StrPath | None = None,
    record: VerifiedRecord | None = None,
    progress: Progress = SILENT,
) -> Verification:
    """Verify a bundle on this machine: the hashes of its files, then the golden answers through one engine.

    The first step that fails ends the verification. What the user can fix is in the result and is not raised.

    Args:
        bundle: the bundle's folder, or an open bundle.
        engine: such as ``fp16`` or ``onnxruntime:fp16``; see :func:`molre_edge.engines.choice.choose_engine`.
        adapter: name of the bundle's adapter; None for its default.
        expect_digest: refuse a bundle with another digest.
        trust: public keys (``.pub`` files of minisign), one of which must have signed the bundle's release; None for
            those that are configured on this machine.
        accept_older: accept a release older than one that was used here, from now on.
        limits: a TOML file of parity limits, or the limits by precision; None for the bundle's own.
        threads: CPU threads of ONNX Runtime; None for all cores.
        out: a file to write as well: JUnit XML if its name ends in ``.xml``, else JSON.
        record: engines that passed on this machine; None for the user's own record.
        progress: receives progress events.

    Raises:
        ConfigError: the name of `out` is too long.
        EngineError: `engine` names no engine, or is ``torch``, which engines are compared with.
    """
    if parse_engine(engine)[0] == "torch":
        raise EngineError("--engine torch: engines are compared with the PyTorch model; name an engine, such as fp16")
    if out is not None and (problem := name_problem(out)):
        raise ConfigError(f"--out {out}: {problem}. Choose a shorter name")
    record = VerifiedRecord(record_path()) if record is None else record
    draft = _Draft(bundle.folder if isinstance(bundle, Bundle) else Path(bundle))
    start = time.perf_counter()
    try:
        keys = trust_of(trust)
        opened = Bundle.of(bundle, expect_digest=expect_digest, trust=keys, accept_older=accept_older, remember=False)
        draft.digest = opened.digest
        draft.signed = None if opened.signed is None else opened.signed.to_dict()
        _verify(draft, opened, adapter, engine, record, limits, threads, progress)
        if draft.problem is None and keys:  # from now on no older one is used
            used = Bundle.open(opened.folder, trust=keys, accept_older=accept_older)
            used.select(adapter)
    except MolreEdgeError as error:
        draft.problem = str(error)
    draft.seconds["in_all"] = round(time.perf_counter() - start, 3)
    result = Verification(**vars(draft))
    if out is not None:
        _write(result, Path(out))
    return result


@dataclass
class _Draft:
    """A verification that is running; the fields of :class:`Verification`."""

    folder: Path
    digest: str | None = None
    signed: Mapping[str, Any] | None = None
    files: Files | None = None
    engine: Mapping[str, Any] | None = None
    limits: LimitsChoice | None = None
    golden: GoldenCheck | None = None
    problem: str | None = None
    remembered: bool = False
    seconds: dict[str, float] = field(default_factory=dict)


def _verify(
    draft: _Draft,
    bundle: Bundle,
    adapter: str | None,
    engine: str,
    record: VerifiedRecord,
    given: StrPath | Mapping[Precision, ParityLimits] | None,
    threads: int | None,
    progress: Progress,
) -> None:
    clock = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        draft.seconds[name], clock = round(now - clock, 3), now

    progress.step("hashes")
    draft.files = check_files(bundle)
    lap("hashes")
    if draft.files.problems:
        raise BundleError(next(iter(draft.files.problems.values())))
    progress.step("loading the engine")
    bundle = bundle.select(adapter)
    choice = choose_engine(engine, bundle, threads=threads)
    draft.limits = choose_limits(bundle, choice.runner.precision, given)
    with choice.runner as runner:
        draft.engine = {"name": runner.name, "why": choice.why, **runner.facts}
        lap("load")
        progress.step("golden answers")
        draft.golden = check_golden(bundle, runner, draft.limits.limits, progress=progress)
        subject = subject_of(bundle, runner, draft.limits.limits)
        lap("golden")
        if draft.golden.verdict.passed:
            draft.remembered = record.add(subject, draft.golden.verdict.summary)
        else:
            record.forget(subject)
            draft.problem = refusal(bundle, runner, draft.limits, draft.golden)


def _batches(judgement: BatchJudgement) -> dict[str, Any]:
    return {
        "size": judgement.size,
        "answers": judgement.more,
        "wrong_slots": list(judgement.wrong_slots),
        "right_alone": judgement.right_alone,
    }


def _write(result: Verification, path: Path) -> None:
    if path.suffix != ".xml":
        write_json(path, result.to_dict())
        return
    with write_whole(path) as partial:
        partial.write_text(verification_junit(result), encoding="utf-8")


def verification_junit(result: Verification) -> str:
    """JUnit XML: one case for each file, for loading, and for each check. Steps that were not reached are skipped."""
    now, engine = datetime.now(timezone.utc).isoformat(timespec="seconds"), result.engine or {}
    properties = {
        "bundle": result.digest or "none",
        "engine": str(engine.get("name", "none")),
        "device": str(engine.get("device", "none")),
        "limits source": result.limits.source if result.limits is not None else "none",
        "reference": result.golden.verdict.reference if result.golden is not None else "none",
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
            skipped="the bundle's files failed their check" * altered,
        )
        add_case(answers, "checks", "parity", skipped="the golden volumes were not run")
    else:
        add_case(answers, "engine", "loading")
        for check in result.golden.verdict.checks:
            failed = check.text if check.judged and not check.passed else ""
            add_case(answers, "checks", check.name, failed, skipped="" if check.judged else check.text)
        judged = result.golden.judgement
        add_case(
            answers, "checks", "batches", judged.fault, skipped="the engine takes one at a time" * (not judged.more)
        )
        if not result.golden.verdict.passed and not result.golden.verdict.failed:
            add_case(answers, "checks", "judged", "no limit could be judged; that is not a pass")
    return document([close_suite(files), close_suite(answers)])
