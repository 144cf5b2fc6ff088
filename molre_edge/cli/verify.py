"""``molre-edge verify``: is this bundle whole, and does its engine answer here as PyTorch did."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from molre_edge.bundle.bundle import DEFAULT_BUNDLE
from molre_edge.cli.shell import (
    BundleOption,
    DigestOption,
    EngineOption,
    JsonOption,
    LimitsOption,
    QuietOption,
    Speaker,
    ThreadsOption,
    UsageError,
    command,
    engine_of,
    open_bundle,
)
from molre_edge.errors import BundleError
from molre_edge.files import write_json, write_whole
from molre_edge.specs import DISCLAIMER
from molre_edge.verification.record_place import record_path

if TYPE_CHECKING:
    from molre_edge.verification.verify import Verification

__all__ = ["verify"]


@command
def verify(
    engine: EngineOption = "fp16",
    bundle: BundleOption = DEFAULT_BUNDLE,
    expect_digest: DigestOption = None,
    gates: LimitsOption = None,
    threads: ThreadsOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write a file as well: JUnit if it ends in .xml, else what --json prints."),
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Check a bundle on this machine: the hashes of all its files, then the golden answers through the engine.

    Needs no PyTorch, and seconds where the engine is fast: a service can run it at every start. Exit codes: 0 passed;
    1 a file is altered, or the engine can't run here; 2 usage; 3 the engine does not answer as PyTorch did.
    """
    speaker = Speaker(as_json, quiet)
    start = time.perf_counter()
    from molre_edge.verification.passed import VerifiedRecord
    from molre_edge.verification.verify import Verification, verification_junit, verify_bundle

    if engine_of(engine)[0] == "torch":
        raise UsageError("--engine torch: the PyTorch model is what engines are held against; name one of those")
    record = VerifiedRecord(record_path())
    try:
        opened = open_bundle(bundle, expect_digest)
    except BundleError as error:  # a result as well: else a reader of --out keeps to the last one
        result = Verification(bundle, None, problem=str(error))
    else:
        with speaker.steps() as step:
            result = verify_bundle(opened, engine, record, gates=gates, threads=threads, on_step=step)
    result.seconds["in_all"] = round(time.perf_counter() - start, 3)
    if out is not None and out.suffix == ".xml":
        with write_whole(out) as partial:
            partial.write_text(verification_junit(result), encoding="utf-8")
    elif out is not None:
        write_json(out, result.to_dict())
    _show(result, speaker)
    if result.exit_code:
        raise typer.Exit(result.exit_code)


def _show(result: Verification, speaker: Speaker) -> None:
    if result.files is not None:
        altered = result.files.problems
        for problem in altered.values():
            speaker.say(f"  ✗ {problem}")
        words = f"{len(altered)} of them not as they should be" if altered else "all as the manifest and engines say"
        speaker.say(f"Files: {len(result.files.checked)} hashes compared, {words}")
    if result.engine is not None:
        speaker.say(f"Engine: {result.engine['name']} ({result.engine['why']})")
    if result.golden is not None and result.gate is not None:
        for check in result.golden.verdict.checks:
            mark = "✓" if check.passed else "–" if not check.judged else "✗"
            speaker.say(f"  {mark} {check.name}: {check.text}")
        speaker.say(f"Limits: {result.gate.source}")
    passed = result.exit_code == 0
    times = ", ".join(f"{name.replace('_', ' ')} {value:.1f}" for name, value in result.seconds.items())
    speaker.say(
        f"Verification {'passed' if passed else 'failed'} (seconds: {times})", "green" if passed else "bold red"
    )
    speaker.say(DISCLAIMER, style="dim")
    if result.problem is not None:
        speaker.complain(result.problem)
    speaker.result(result.to_dict())
