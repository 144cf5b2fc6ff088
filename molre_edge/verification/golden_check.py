"""Verifying on the box: are the files those that were exported, and does an engine here answer as PyTorch did."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from molre_edge.bundle.bundle import Bundle, GoldenSet
from molre_edge.bundle.engine_files import ENGINES, list_engines, read_engine
from molre_edge.engines.runner import Runner
from molre_edge.errors import BundleError, ConfigError, ParityFailedError
from molre_edge.parity import (
    DEFAULT_LIMITS,
    Outputs,
    ParityLimits,
    ParityNumbers,
    Verdict,
    compare,
    judge,
    limits_from,
    load_limits,
)
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
    """What became of the files' hashes.

    Attributes:
        checked: names of all files that the manifest or an engine's JSON covers.
        problems: name -> what is wrong with it.
    """

    checked: tuple[str, ...]
    problems: Mapping[str, str]


@dataclass(frozen=True)
class LimitsChoice:
    """The gate that applies, and where it comes from."""

    gate: ParityLimits
    source: str


@dataclass(frozen=True, eq=False)
class GoldenCheck:
    """What an engine answered to the golden volumes, held against a gate.

    Attributes:
        numbers, verdict: as of a parity report.
        outputs: the engine's answers.
        compute_ms: of each volume; the first includes the engine's warm-up.
        seconds: for all of them, copies and comparison included.
    """

    numbers: ParityNumbers
    verdict: Verdict
    outputs: Outputs
    compute_ms: tuple[float, ...]
    seconds: float


def check_files(bundle: Bundle) -> Files:
    """Compare the hash of every file that the manifest covers, and of every engine. Nothing is loaded or run."""
    checked, problems = [], {}
    for name in sorted(bundle.manifest["files"]):
        checked.append(name)
        try:
            bundle.read(name)
        except BundleError as error:
            problems[name] = str(error)
    try:
        engines = list_engines(bundle)
    except BundleError as error:
        return Files((*checked, ENGINES), {**problems, ENGINES: str(error)})
    for engine in engines:
        name = f"{ENGINES}/{engine.path.name}"
        checked.append(name)
        try:
            read_engine(bundle, engine)
        except BundleError as error:
            problems[name] = str(error)
    return Files(tuple(checked), problems)


def choose_limits(bundle: Bundle, precision: Precision, gates: Path | None) -> LimitsChoice:
    """The user's gate; else the one that the graph was exported or calibrated under; else the default.

    Args:
        bundle: opened.
        precision: of the engine.
        gates: the user's file (TOML), if there is one.

    Raises:
        ConfigError: the user's file is no file of gates.
        BundleError: the manifest's gate is none.
    """
    if gates is not None:
        return LimitsChoice(load_limits(gates)[precision], f"--gates {gates.name}")
    parity = bundle.manifest.get("parity") or {}
    try:
        own = DEFAULT_LIMITS[precision]
        if str(precision) in parity:
            own, _ = limits_from(parity[str(precision)]["gate"], missing=own)
    except (ConfigError, TypeError, KeyError) as error:
        raise BundleError(
            f"{bundle.folder}: the manifest's parity of {precision} has no gate of ours ({str(error)[:200]}); export "
            f"the checkpoint again, or give a gate with --gates"
        ) from error
    return LimitsChoice(
        own, "default" if own == DEFAULT_LIMITS[precision] else "the bundle's own, under which its graph was made"
    )


def check_golden(bundle: Bundle, runner: Runner, gate: ParityLimits, golden: GoldenSet | None = None) -> GoldenCheck:
    """Run the golden volumes through an engine, one by one, and judge its answers.

    Args:
        bundle: opened.
        runner: entered.
        gate: its budget.
        golden: if it was read already.

    Raises:
        BundleError: the golden answers are altered.
        EngineError: the engine fails on them.
    """
    golden = golden or bundle.golden()
    start = time.perf_counter()
    results = [runner.run(golden.volumes[i : i + 1]) for i in range(len(golden.volumes))]
    outputs = Outputs.stack([result.outputs for result in results])
    numbers = compare(golden.outputs, outputs, findings=bundle.findings, thresholds=bundle.thresholds)
    verdict = judge(numbers, gate)
    times = tuple(result.milliseconds["compute"] for result in results)
    return GoldenCheck(numbers, verdict, outputs, times, time.perf_counter() - start)


def require_verified(
    bundle: Bundle,
    runner: Runner,
    choice: LimitsChoice,
    record: VerifiedRecord,
    *,
    tell: Callable[[str], None] = lambda text: None,
) -> str:
    """Let an engine through that has answered the golden volumes here, or does so now.

    Args:
        bundle: opened.
        runner: entered.
        choice: the gate.
        record: what has passed on this machine before; a pass is noted there.
        tell: is told before it takes time.

    Returns:
        A sentence about how it is known.

    Raises:
        ParityFailedError: it answers too far from PyTorch.
    """
    subject = subject_of(bundle, runner, choice.gate)
    since = record.when(subject)
    if since is not None:
        return f"verified on this machine on {since}"
    golden = bundle.golden()
    tell(f"The engine has not been verified on this machine: {len(golden.volumes)} golden volumes go first")
    check = check_golden(bundle, runner, choice.gate, golden)
    if not check.verdict.passed:
        record.forget(subject)
        raise ParityFailedError(refusal(runner, choice, check.verdict))
    kept = record.add(subject, check.verdict.summary)
    return f"verified now in {check.seconds:.1f} s on {check.numbers.n} golden volumes" + (
        "" if kept else "; that could not be noted, so it is done at every start"
    )


def refusal(runner: Runner, choice: LimitsChoice, verdict: Verdict) -> str:
    """Why an engine must not be used."""
    what_next = "Build the engine again, or take another one with --engine; 'molre-edge verify' shows all of it"
    missed = "; ".join(f"{check.name}: {check.text}" for check in verdict.failed) or verdict.summary
    return (
        f"{runner.name} does not answer the golden volumes as PyTorch did, so it is not used: {missed}. Limits: "
        f"{choice.source}. {what_next}"
    )
