"""``molre-edge verify``: is this bundle complete, and does its engine answer here as PyTorch did."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import molre_edge
from molre_edge.cli.shell import (
    AdapterOption,
    BundleOption,
    DigestOption,
    EngineOption,
    JsonOption,
    LimitsOption,
    QuietOption,
    Speaker,
    ThreadsOption,
    TrustOption,
    UsageError,
    bundle_folder,
    command,
    engine_of,
)
from molre_edge.specs import DEFAULT_BUNDLE, DISCLAIMER

if TYPE_CHECKING:
    from molre_edge.verification.verify import Verification

__all__ = ["verify"]


@command
def verify(
    engine: EngineOption = "fp16",
    bundle: BundleOption = DEFAULT_BUNDLE,
    adapter: AdapterOption = None,
    expect_digest: DigestOption = None,
    trust: TrustOption = None,
    accept_older: Annotated[
        bool,
        typer.Option("--accept-older", help="Accept a signed release older than one that was used here, from now on."),
    ] = False,
    limits: LimitsOption = None,
    threads: ThreadsOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Also write a file: JUnit XML if its name ends in .xml, else the JSON of --json."
        ),
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Check a bundle on this machine: the hashes of all its files, then the golden answers through one engine.

    It needs no PyTorch, and only seconds if the engine is fast, so a service can run it at every start. Exit codes: 0
    passed; 1 a file is altered, or the engine can't run here; 2 wrong usage; 3 the engine does not answer as PyTorch
    did.
    """
    speaker = Speaker(as_json, quiet)
    if engine_of(engine)[0] == "torch":
        raise UsageError("--engine torch: engines are compared with the PyTorch model; name an engine, such as fp16")
    with speaker.progress() as progress:
        result = molre_edge.verify_bundle(
            bundle_folder(bundle),
            engine,
            adapter=adapter,
            expect_digest=expect_digest,
            trust=trust,
            accept_older=accept_older,
            limits=limits,
            threads=threads,
            out=out,
            progress=progress,
        )
    _show(result, speaker)
    if result.exit_code:
        raise typer.Exit(result.exit_code)


def _show(result: Verification, speaker: Speaker) -> None:
    if result.signed is not None:
        signed = result.signed
        speaker.say(f"Signed: {signed['name'] or 'no name'}, version {signed['version']}, by key {signed['key']}")
    if result.files is not None:
        altered = result.files.problems
        for problem in altered.values():
            speaker.say(f"  ✗ {problem}")
        words = f"{len(altered)} differ" if altered else "all are right"
        speaker.say(f"Files: {len(result.files.checked)} hashes compared, {words}")
    if result.engine is not None:
        speaker.say(f"Engine: {result.engine['name']} ({result.engine['why']})")
        if "adapter" in result.engine:
            speaker.say(f"Adapter: {result.engine['adapter']} ({result.engine['adapter_sha256'][:12]})")
    if result.golden is not None and result.limits is not None:
        verdict = result.golden.verdict
        speaker.say(verdict.headline, "green" if verdict.passed else "bold red")
        for check in verdict.checks:
            mark = "✓" if check.passed else "–" if not check.judged else "✗"
            speaker.say(f"  {mark} {check.name}: {check.text}")
        judged = result.golden.judgement
        if judged.more:
            speaker.say(f"Judged: each volume alone, and {judged.more} answers in batches of {judged.size}")
        if judged.fault:
            speaker.say(f"  ✗ {judged.fault}", "bold red")
        speaker.say(f"Limits: {result.limits.source}")
    passed = result.passed
    times = ", ".join(f"{name.replace('_', ' ')} {value:.1f}" for name, value in result.seconds.items())
    speaker.say(
        f"Verification {'passed' if passed else 'failed'} (seconds: {times})", "green" if passed else "bold red"
    )
    speaker.say(DISCLAIMER, style="dim")
    if result.problem is not None:
        speaker.complain(result.problem)
    speaker.result(result.to_dict())
