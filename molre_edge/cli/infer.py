"""``molre-edge infer``: scans to findings, times and a parity report."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from molre_edge.bundle import DEFAULT_BUNDLE
from molre_edge.cli import completion
from molre_edge.cli.shell import (
    BundleOption,
    DigestOption,
    EngineOption,
    GatesOption,
    JsonOption,
    LabelsOption,
    QuietOption,
    Speaker,
    ThreadsOption,
    UsageError,
    WeightsOption,
    command,
    engine_of,
    open_bundle,
)
from molre_edge.cli.state import record_path
from molre_edge.errors import MolreEdgeError, RunError
from molre_edge.parity import DISCLAIMER, GATES, load_gates

if TYPE_CHECKING:
    from molre_edge.engines.runner import Runner
    from molre_edge.inference.conclusion import RunSummary
    from molre_edge.inference.reference import Reference
    from molre_edge.inference.store import RunStore, Task

__all__ = ["InferOptions", "infer", "new_folder", "run_infer", "show_run"]

DEFAULT_RUNS = Path("edge-runs")
_SHOWN = 20
_SHOWN_PHASES = {"read", "compute", "end_to_end", "interval"}


@dataclass(frozen=True, kw_only=True)
class InferOptions:
    """What ``infer`` was asked for; see the command's help."""

    scans: Path
    engine: str = "fp16"
    bundle: Path = DEFAULT_BUNDLE
    out: Path | None = None
    resume: bool = False
    reference: str = "auto"
    reference_scans: int | None = None
    backbone_weights: Path | None = None
    labels: Path | None = None
    gates: Path | None = None
    all_series: bool = False
    settle: float = 0.0
    expect_digest: str | None = None
    threads: int | None = None
    readers: int | None = None


@command
def infer(
    scans: Annotated[
        Path, typer.Argument(exists=True, help="A DICOM or NIfTI file, or a folder with any of them, at any depth.")
    ],
    engine: EngineOption = "fp16",
    bundle: BundleOption = DEFAULT_BUNDLE,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The run's folder. Default: ./edge-runs/<UTC time>.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run: that of --out, else the newest that fits.")
    ] = False,
    reference: Annotated[
        str,
        typer.Option(
            "--reference",
            metavar="auto|golden|none|CKPT",
            autocompletion=completion.references,
            help="What to compare with: the PyTorch model of the checkpoint, the bundle's golden answers, or nothing. "
            "auto: the model, if torch is installed and its checkpoint lies beside the bundle or here; else golden.",
        ),
    ] = "auto",
    reference_scans: Annotated[
        str, typer.Option("--reference-scans", metavar="N|all", help="Run the PyTorch model on the first N scans only.")
    ] = "all",
    backbone_weights: WeightsOption = None,
    labels: LabelsOption = None,
    gates: GatesOption = None,
    all_series: Annotated[
        bool, typer.Option("--all-series", help="Every usable series of a study, not only the one to prefer.")
    ] = False,
    settle: Annotated[
        float,
        typer.Option(
            "--settle",
            min=0.0,
            metavar="SECONDS",
            help="Refuse studies with a file that changed less than SECONDS ago: they may still be arriving. 0: off.",
        ),
    ] = 0.0,
    expect_digest: DigestOption = None,
    threads: ThreadsOption = None,
    readers: Annotated[
        int | None,
        typer.Option(
            "--readers",
            min=0,
            max=64,
            help="Processes that read scans ahead of the engine; 0 reads between its answers. Default: half the cores, "
            "1 to 4.",
        ),
    ] = None,
    images: Annotated[
        bool,
        typer.Option("--images", help="Show a slice of each of the worst scans in the report. PATIENTS' IMAGES."),
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run the bundle on scans: findings per scan, times by phase, and parity with the PyTorch reference.

    Exit codes: 0 done; 1 an error that can be mended, or no scan could be used; 2 usage; 3 parity failed; 4 done, but
    some scans could not be used; 130 interrupted (go on with --resume). Ctrl-C finishes the scan in hand first.
    """
    speaker = Speaker(as_json, quiet)
    summary = run_infer(
        InferOptions(
            scans=scans,
            engine=engine,
            bundle=bundle,
            out=out,
            resume=resume,
            reference=reference,
            reference_scans=_count(reference_scans),
            backbone_weights=backbone_weights,
            labels=labels,
            gates=gates,
            all_series=all_series,
            settle=settle,
            expect_digest=expect_digest,
            threads=threads,
            readers=readers,
        ),
        speaker,
    )
    if images:
        from molre_edge.cli.report import add_pictures

        try:
            add_pictures(summary.folder, scans, speaker)
        except (MolreEdgeError, OSError) as error:  # the run itself is finished, and its report written
            speaker.warn(f"no pictures in the report: {error}")
    show_run(summary, speaker)
    if summary.exit_code:
        raise typer.Exit(summary.exit_code)


def run_infer(options: InferOptions, speaker: Speaker) -> RunSummary:
    """Wire bundle, runner, reference, store and run together."""
    from molre_edge.engines.choice import choose_engine
    from molre_edge.inference.labels import read_labels
    from molre_edge.inference.readers import default_readers
    from molre_edge.inference.reference import choose_reference, find_checkpoint
    from molre_edge.inference.run import run_scans
    from molre_edge.inference.store import Task
    from molre_edge.inference.verified import VerifiedRecord
    from molre_edge.inference.verify import choose_gate, require_verified

    runtime, _ = engine_of(options.engine)
    bundle = open_bundle(options.bundle, options.expect_digest)
    if options.reference not in {"auto", "golden", "none"} and not Path(options.reference).is_file():
        raise UsageError(
            f"--reference {options.reference}: no such file, and none of auto, golden, none; give the checkpoint that "
            f"the bundle was exported from"
        )
    gates = GATES if options.gates is None else load_gates(options.gates)
    labels = None if options.labels is None else read_labels(options.labels, bundle.findings)
    reference = choose_reference(options.reference, bundle, engine_is_reference=runtime == "torch")
    checkpoint = reference.checkpoint or (find_checkpoint(bundle) if runtime == "torch" else None)
    choice = choose_engine(
        options.engine,
        bundle,
        checkpoint=checkpoint,
        backbone_weights=options.backbone_weights,
        threads=options.threads,
    )
    speaker.tell(f"Engine: {choice.runner.name} ({choice.why})")
    speaker.tell(f"Reference: {reference.why}")
    task = Task(
        bundle=bundle.digest,
        engine=choice.runner.name,
        reference=reference.kind,
        scans=Task.hide(options.scans),
        all_series=options.all_series,
        threads=options.threads,
    )
    with contextlib.ExitStack() as stack:
        runner = stack.enter_context(choice.runner)
        store = _store(options, task, speaker)
        stack.callback(store.abandon)
        if runtime != "torch":  # the golden answers are its own
            limits = choose_gate(bundle, runner.precision, options.gates)
            how = require_verified(bundle, runner, limits, VerifiedRecord(record_path()), tell=speaker.tell)
            speaker.tell(f"Engine {how}")
        reference_runner = _reference_runner(reference, options, stack)
        go_on = f"what is done is kept: add --resume -o {store.folder} to go on"
        try:
            with _Bar(speaker) as bar:
                return run_scans(
                    options.scans,
                    store,
                    bundle=bundle,
                    runner=runner,
                    reference=reference,
                    reference_runner=reference_runner,
                    gate=gates[choice.runner.precision],
                    gate_source="default" if options.gates is None else f"--gates {options.gates.name}",
                    progress=bar,
                    reference_scans=options.reference_scans,
                    all_series=options.all_series,
                    settle_seconds=options.settle,
                    labels=labels,
                    command=_as_typed(options),
                    readers=default_readers() if options.readers is None else options.readers,
                )
        except KeyboardInterrupt:
            speaker.warn(f"stopped; {go_on}")
            raise
        except OSError as error:  # a full disk, a folder that became read-only: the scans' own errors are ScanErrors
            raise RunError(f"{error.filename or store.folder}: {error.strerror or error}; {go_on}") from error


def _reference_runner(reference: Reference, options: InferOptions, stack: contextlib.ExitStack) -> Runner | None:
    if reference.checkpoint is None:
        return None
    from molre_edge.engines.torch_runner import TorchRunner

    runner = TorchRunner.from_checkpoint(reference.checkpoint, backbone_weights=options.backbone_weights)
    return stack.enter_context(runner)


def _store(options: InferOptions, task: Task, speaker: Speaker) -> RunStore:
    from molre_edge.inference.store import RunStore

    if options.resume:
        folder = options.out or RunStore.newest_unfinished(DEFAULT_RUNS, task)
        speaker.tell(f"Going on with {folder}")
        return RunStore.resume(folder, task)
    return RunStore.create(options.out or new_folder(DEFAULT_RUNS), task)


def new_folder(root: Path) -> Path:
    """A folder named by the time, also when two start within one second."""
    name = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    for folder in (root / f"{name}{suffix}" for suffix in ("", *(f"-{i}" for i in range(2, 100)))):
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder
    raise RunError(f"{root / name}: is there already, as are 98 more; name a folder with -o")


def _count(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--reference-scans {text}: expected a whole number of at least 1, or 'all'")
    return int(text)


def _as_typed(options: InferOptions) -> str:
    """The command for the report; paths carry names of people and stay out."""
    words = ["molre-edge infer SCANS --engine", options.engine]
    if options.reference != "auto":
        words += ["--reference", options.reference if options.reference in {"golden", "none"} else "CKPT"]
    if options.reference_scans is not None:
        words += ["--reference-scans", str(options.reference_scans)]
    if options.backbone_weights is not None:
        words.append("--backbone-weights DIR")
    if options.labels is not None:
        words.append("--labels CSV")
    if options.gates is not None:
        words.append("--gates TOML")
    if options.settle:
        words += ["--settle", f"{options.settle:g}"]
    if options.all_series:
        words.append("--all-series")
    if options.expect_digest is not None:
        words += ["--expect-digest", options.expect_digest]
    if options.threads is not None:
        words += ["--threads", str(options.threads)]
    if options.readers is not None:
        words += ["--readers", str(options.readers)]
    return " ".join(words)


class _Bar:
    """A progress bar on a terminal, a line a problem elsewhere."""

    def __init__(self, speaker: Speaker) -> None:
        self._speaker = speaker
        self._bar = speaker.counter()
        self._task = self._bar.add_task("scans", total=None)

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def started(self, todo: int, done: int, rejected: int) -> None:
        earlier = f", {done} done before" if done else ""
        refused = f", {rejected} can't be used" if rejected else ""
        self._speaker.tell(f"Scans: {todo} to do{earlier}{refused}")
        self._bar.update(self._task, total=todo + done, completed=done)

    def expected(self, text: str) -> None:
        self._speaker.tell(text[0].upper() + text[1:])

    def finished(self, scan: str, problem: str | None) -> None:
        self._bar.advance(self._task)
        if problem is not None:
            self._speaker.warn(f"{scan} can't be used: {problem}")

    def stopping(self) -> None:
        self._speaker.warn_in_handler("stopping after the scan in hand; Ctrl-C again stops at once")


def show_run(summary: RunSummary, speaker: Speaker) -> None:
    """Tell what a run found."""
    if summary.rows:
        speaker.show(_timing_table(summary))
    if summary.positive:
        table = Table(title="Findings that reach their threshold", title_justify="left")
        table.add_column("scan", no_wrap=True)
        table.add_column("findings", overflow="fold")
        for scan, names in summary.positive[:_SHOWN]:
            table.add_row(scan, ", ".join(names) or "–")
        speaker.show(table)
        if len(summary.positive) > _SHOWN:
            speaker.say(f"... and {len(summary.positive) - _SHOWN} scans more, all in findings.csv")
    if summary.rejected:
        table = Table(title="Scans that can't be used", title_justify="left")
        for heading in ("scan", "code", "reason"):
            table.add_column(heading, overflow="fold")
        for row in summary.rejected[:_SHOWN]:
            table.add_row(*row)
        speaker.show(table)
        if len(summary.rejected) > _SHOWN:
            speaker.say(f"... and {len(summary.rejected) - _SHOWN} more, all in scans.csv")
    if summary.verdict is not None:
        for check in summary.verdict.checks:
            mark = "✓" if check.passed else "–" if not check.judged else "✗"
            speaker.say(f"  {mark} {check.name}: {check.text}")
        speaker.say(
            f"Parity {summary.verdict.summary}; {summary.compared}",
            style="green" if summary.verdict.passed else "bold red",
        )
    for note in summary.notes:
        speaker.say(f"Note: {note}")
    speaker.say(
        f"{summary.done} scan{'' if summary.done == 1 else 's'} answered, {len(summary.rejected)} can't be used"
    )
    speaker.say(f"Findings: {summary.folder / 'findings.csv'}  (ids and paths: {summary.folder / 'scans.csv'})")
    speaker.say(f"Report: {summary.report}")
    speaker.say(DISCLAIMER, style="dim")
    if not summary.done:
        speaker.complain("no scan could be used; the reasons are in scans.csv")
    if summary.verdict is not None and not summary.verdict.passed:
        failed = ", ".join(check.name for check in summary.verdict.failed) or "nothing could be judged"
        speaker.complain(f"parity failed: {failed}; see {summary.report}")
    speaker.result(
        {
            "run": str(summary.folder),
            "report": str(summary.report),
            "scans": summary.done,
            "rejected": [{"scan": s, "code": c, "reason": r} for s, c, r in summary.rejected],
            "parity": None if summary.verdict is None else summary.verdict.to_dict(),
            "timing": [vars(row) for row in summary.rows],
            "exit_code": summary.exit_code,
            "disclaimer": DISCLAIMER,
        }
    )


def _timing_table(summary: RunSummary) -> Table:
    table = Table(title="Milliseconds per scan, warm-up apart (all phases: timing.json)", title_justify="left")
    for heading in ("who", "phase", "median", "p90", "p95", "p99", "scans/s"):
        table.add_column(heading, justify="left" if heading in {"who", "phase"} else "right")
    for row in summary.rows:
        if row.phase not in _SHOWN_PHASES:
            continue
        rate = "" if row.scans_per_second is None else f"{row.scans_per_second:.2f}"
        times = (f"{value:.1f}" for value in (row.median_ms, row.p90_ms, row.p95_ms, row.p99_ms))
        table.add_row(row.who, row.phase, *times, rate)
    return table
