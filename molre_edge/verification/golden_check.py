"""Checks on the box: are the files the exported ones, and does an engine answer as PyTorch did."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from molre_edge.adapters.file import SUFFIX
from molre_edge.adapters.store import ADAPTERS
from molre_edge.bundle.bundle import Bundle, GoldenSet
from molre_edge.bundle.engine_files import ENGINES, list_engines, read_engine
from molre_edge.bundle.golden_origin import golden_words
from molre_edge.engines.batches import answer_volumes, largest_batch
from molre_edge.engines.runner import Runner
from molre_edge.errors import BundleError, ConfigError, ParityFailedError, SigningError
from molre_edge.files import StrPath
from molre_edge.parity import DEFAULT_LIMITS, Outputs, ParityLimits, ParityNumbers, Verdict, limits_from
from molre_edge.parity.batches import BatchJudgement, judge_batches
from molre_edge.parity.limits import limits_by_precision
from molre_edge.progress import SILENT, Progress
from molre_edge.specs import Precision
from molre_edge.verification.passed import VerifiedRecord, subject_of

__all__ = [
    "Files",
    "GoldenCheck",
    "LimitsChoice",
    "check_files",
    "check_golden",
    "choose_limits",
    "refusal",
    "require_verified",
]


@dataclass(frozen=True)
class Files:
    """The result of comparing the files' hashes.

    Attributes:
        checked: names of all files that the manifest, an engine's JSON or the list of adapters covers.
        problems: what is wrong, by name.
    """

    checked: tuple[str, ...]
    problems: Mapping[str, str]


@dataclass(frozen=True)
class LimitsChoice:
    """The limits that apply, and their source in words."""

    limits: ParityLimits
    source: str


@dataclass(frozen=True, eq=False)
class GoldenCheck:
    """An engine's answers to the golden volumes, alone and in every slot of its largest batch, judged by limits.

    Attributes:
        judgement: numbers and verdict, as in a parity report, of the worst answer to each volume; and which slots of a
            batch are wrong.
        outputs: the engine's answers to each volume alone.
        compute_ms: time of each volume alone; the first includes the engine's warm-up.
        seconds: time for all answers, including copies and the comparison.
    """

    judgement: BatchJudgement
    outputs: Outputs
    compute_ms: tuple[float, ...]
    seconds: float

    @property
    def numbers(self) -> ParityNumbers:
        """What was measured."""
        return self.judgement.numbers

    @property
    def verdict(self) -> Verdict:
        """Whether it is within the limits."""
        return self.judgement.verdict


def check_files(bundle: Bundle) -> Files:
    """Compare the hash of every file that the manifest covers, every engine and adapter. Nothing is loaded or run."""
    checked, problems = list[str](), dict[str, str]()
    for name in sorted(bundle.manifest["files"]):
        checked.append(name)
        try:
            bundle.read(name)
        except (BundleError, SigningError) as error:
            problems[name] = str(error)
    _check_adapters(bundle, checked, problems)
    try:
        engines = list_engines(bundle)
    except BundleError as error:
        return Files((*checked, ENGINES), {**problems, ENGINES: str(error)})
    for engine in engines:
        name = f"{ENGINES}/{engine.path.name}"
        checked.append(name)
        try:
            read_engine(bundle, engine)
        except (BundleError, SigningError) as error:
            problems[name] = str(error)
    return Files(tuple(checked), problems)


def _check_adapters(bundle: Bundle, checked: list[str], problems: dict[str, str]) -> None:
    if bundle.fit is None:
        return
    store = bundle.store(remember=False)
    try:
        adapters = store.index().adapters
    except BundleError as error:
        checked.append(ADAPTERS)
        problems[ADAPTERS] = str(error)
        return
    for called, stored in sorted(adapters.items()):
        name = f"{ADAPTERS}/{stored.sha256}{SUFFIX}"
        checked.append(name)
        try:
            store.read_version(stored, called)
        except (BundleError, SigningError) as error:
            problems[name] = str(error)


def choose_limits(
    bundle: Bundle, precision: Precision, given: StrPath | Mapping[Precision, ParityLimits] | None
) -> LimitsChoice:
    """The user's limits; else those under which the graph was exported or calibrated; else the defaults.

    Args:
        bundle: an open bundle.
        precision: the engine's precision.
        given: the user's TOML file or limits by precision; None if the user gave none.

    Raises:
        ConfigError: the user's file is invalid.
        BundleError: the manifest's limits are invalid.
    """
    if given is not None:
        source = "the caller's" if isinstance(given, Mapping) else f"--limits {Path(given).name}"
        return LimitsChoice(limits_by_precision(given)[precision], source)
    parity = bundle.manifest.get("parity") or {}
    try:
        own = DEFAULT_LIMITS[precision]
        if str(precision) in parity:
            entry = parity[str(precision)]
            # "gate": written until version 0.1
            own, _ = limits_from(entry["limits" if "limits" in entry else "gate"], missing=own)
    except (ConfigError, TypeError, KeyError) as error:
        raise BundleError(
            f"{bundle.folder}: the manifest's parity limits of {precision} are invalid ({str(error)[:200]}). Export "
            f"the checkpoint again, or give your own limits with --limits"
        ) from error
    return LimitsChoice(
        own, "default" if own == DEFAULT_LIMITS[precision] else "the bundle's own, under which its graph was made"
    )


def check_golden(
    bundle: Bundle,
    runner: Runner,
    limits: ParityLimits,
    golden: GoldenSet | None = None,
    *,
    progress: Progress = SILENT,
) -> GoldenCheck:
    """Run the golden volumes through an engine, alone and in every slot of its largest batch, and judge its answers.

    Args:
        bundle: an open bundle.
        runner: an entered runner, the engine under test.
        limits: the parity limits.
        golden: the golden set, if the caller has read it already.
        progress: receives the number of answers.

    Raises:
        BundleError: the golden answers are altered.
        EngineError: the engine fails on them.
    """
    golden = golden or bundle.golden()
    start = time.perf_counter()
    size = largest_batch(runner)
    while True:
        answered = answer_volumes(
            runner, golden.volumes, size, lambda done, total: progress.count(done, total, "golden answers")
        )
        fits = int(runner.facts.get("batch_limit", size))
        if fits >= size:
            break
        size = fits  # the device's memory held no more, so larger batches were cut
    judgement = judge_batches(
        answered.answers,
        golden.outputs,
        limits,
        golden_words(bundle.own_golden, len(golden.volumes)),
        findings=bundle.findings,
        thresholds=bundle.thresholds,
    )
    return GoldenCheck(judgement, answered.answers.alone, answered.compute_ms, time.perf_counter() - start)


def require_verified(
    bundle: Bundle,
    runner: Runner,
    choice: LimitsChoice,
    record: VerifiedRecord,
    *,
    progress: Progress = SILENT,
) -> str:
    """Pass an engine that has answered the golden volumes on this machine before, or does so now.

    Args:
        bundle: an open bundle.
        runner: an entered runner, the engine under test.
        choice: the limits.
        record: engines that passed on this machine; a pass is added.
        progress: receives a fact before the golden volumes run, because they take time.

    Returns:
        A sentence that says when the engine passed.

    Raises:
        ParityFailedError: the engine's answers are outside the limits.
    """
    subject = subject_of(bundle, runner, choice.limits)
    since = record.when(subject)
    if since is not None:
        return f"verified on this machine on {since}"
    golden = bundle.golden()
    progress.info(
        f"The engine has not been verified on this machine: it answers {len(golden.volumes)} golden volumes first, "
        f"alone and in batches"
    )
    check = check_golden(bundle, runner, choice.limits, golden)
    if not check.verdict.passed:
        record.forget(subject)
        raise ParityFailedError(refusal(bundle, runner, choice, check))
    kept = record.add(subject, check.verdict.summary)
    return f"verified now in {check.seconds:.1f} s on {check.numbers.n} golden volumes" + (
        "" if kept else "; the pass could not be recorded, so every start verifies again"
    )


def refusal(bundle: Bundle, runner: Runner, choice: LimitsChoice, check: GoldenCheck) -> str:
    """Why an engine must not be used."""
    verdict, fault = check.verdict, check.judgement.fault
    missed = "; ".join(f"{each.name}: {each.text}" for each in verdict.failed) or verdict.summary
    who = "PyTorch" if bundle.own_golden is None else f"your model ({bundle.own_golden.file})"
    built = "engine_sha256" in runner.facts
    again = "Build the engine again" if built else "Export the checkpoint again with the versions of this machine"
    if fault and runner.facts.get("batch"):
        again = "Build the engine again with --batch 1 1 1, which is all that 'infer' needs"
    elif fused := runner.facts.get("fused_attention"):
        again = (
            f"It fuses {fused} attentions, which some versions of TensorRT do wrongly: 'molre-edge "
            f"export --attention unfused' makes graphs that are not fused; build and verify an engine of those"
        )
    return (
        f"{runner.name} does not answer the golden volumes as {who} did, so it is not used: "
        f"{f'{fault}; ' if fault else ''}{missed}. Limits: {choice.source}. {again}, or choose another one with "
        f"--engine; 'molre-edge verify' shows every check"
    )
