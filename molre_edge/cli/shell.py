"""What the commands share: where they speak, how they fail, and options with one meaning everywhere."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TextIO, TypeVar

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from molre_edge.bundle.bundle import DEFAULT_BUNDLE, Bundle
from molre_edge.cli import completion
from molre_edge.cli.suggest import did_you_mean, nearest, nearest_path
from molre_edge.errors import EngineError, MolreEdgeError, ParityFailedError
from molre_edge.specs import Precision

__all__ = [
    "BundleOption",
    "DigestOption",
    "EngineOption",
    "ExitCode",
    "JsonOption",
    "LabelsOption",
    "LimitsOption",
    "QuietOption",
    "Speaker",
    "ThreadsOption",
    "UsageError",
    "WeightsOption",
    "command",
    "engine_of",
    "open_bundle",
]

_P = ParamSpec("_P")
_R = TypeVar("_R")


class ExitCode:
    """What a command's exit code says."""

    DONE = 0
    ERROR = 1
    USAGE = 2
    PARITY_FAILED = 3
    SCANS_REJECTED = 4
    INTERRUPTED = 130


class UsageError(MolreEdgeError):
    """A command was not used as its help says; exit code 2."""


BundleOption = Annotated[
    Path,
    typer.Option(
        "--bundle",
        help="The bundle's folder.",
        envvar="MOLRE_EDGE_BUNDLE",
        show_default=str(DEFAULT_BUNDLE),
        autocompletion=completion.bundles,
    ),
]
DigestOption = Annotated[
    str | None,
    typer.Option("--expect-digest", metavar="SHA256", help="Refuse a bundle with another digest than this."),
]
EngineOption = Annotated[
    str,
    typer.Option(
        "--engine",
        "-e",
        help="fp32, fp16 or int8, on the best runtime here; 'onnxruntime:fp16', 'tensorrt:fp16' or 'tensorrt-rtx:fp16' "
        "forces one; or 'torch'.",
        autocompletion=completion.engines,
    ),
]
LimitsOption = Annotated[
    Path | None, typer.Option("--limits", "--gates", exists=True, dir_okay=False, help="Your own parity limits, TOML.")
]
LabelsOption = Annotated[
    Path | None,
    typer.Option(
        "--labels",
        exists=True,
        dir_okay=False,
        help="CSV with a column 'scan' and a column a finding (1, 0, empty): AUC is measured and judged too.",
    ),
]
ThreadsOption = Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads. Default: all cores.")]
WeightsOption = Annotated[
    Path | None,
    typer.Option(
        "--backbone-weights",
        exists=True,
        file_okay=False,
        help="Hugging Face folder (config.json, safetensors), for a checkpoint without the backbone's weights.",
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout; tables and progress go to stderr.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no tables; errors only.")]


_WIDTH_OF_A_LOG = 200


class _Rate(ProgressColumn):
    """Parts a second, or seconds a part where that is more than one."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        return Text(f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each")


@dataclass
class Speaker:
    """Results on stdout, progress and problems on stderr.

    Attributes:
        as_json: the result is one JSON object on stdout, and tables go to stderr.
        quiet: only the JSON object, problems and warnings are shown.
        out: where tables and results go.
        err: where progress and problems go.
    """

    as_json: bool = False
    quiet: bool = False
    out: Console = field(init=False)
    err: Console = field(init=False)

    def __post_init__(self) -> None:
        """Open the consoles. Where nobody looks on, lines are not broken."""
        self.err = _console(sys.stderr)
        self.out = self.err if self.as_json else _console(sys.stdout)

    def say(self, text: str, style: str | None = None) -> None:
        """A line of the result."""
        if not self.quiet:
            self.out.print(text, style=style)

    def tell(self, text: str, style: str | None = None) -> None:
        """A line about how it goes."""
        if not self.quiet:
            self.err.print(text, style=style)

    def warn(self, text: str) -> None:
        """Something that must not be missed."""
        self.err.print(f"warning: {text}", style="yellow")

    def warn_in_handler(self, text: str) -> None:
        """The same from a signal's handler, past the console: its locks may be held by what was interrupted."""
        os.write(sys.stderr.fileno(), f"\nwarning: {text}\n".encode())

    def complain(self, text: str) -> None:
        """What went wrong."""
        self.err.print(f"error: {text}", style="red")

    def show(self, table: Table) -> None:
        """A table of the result."""
        if not self.quiet:
            self.out.print(table)

    def result(self, data: dict[str, Any]) -> None:
        """The result for programs."""
        if self.as_json:
            sys.stdout.write(json.dumps(data, indent=2, allow_nan=False) + "\n")

    def counter(self) -> Progress:
        """A bar that counts parts, with times; nothing where nobody looks on."""
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            _Rate(),
            console=self.err,
            disable=self.quiet or not self.err.is_terminal,
        )

    @contextlib.contextmanager
    def progress(self) -> Iterator[_Events]:
        """Shows the events of a verb: the running step with what is done of it, facts and warnings."""
        with self.steps() as step:
            yield _Events(self, step)

    @contextlib.contextmanager
    def steps(self) -> Iterator[Callable[[str], None]]:
        """Shows the step that is running; on a terminal with a spinner, else one line a step."""
        if self.quiet:
            yield lambda name: None
        elif self.err.is_terminal:
            with self.err.status("") as status:
                yield lambda name: status.update(Text(name, style="bold"))
        else:
            yield lambda name: self.tell(f"- {name}")


class _Events:
    """A progress that shows its events through a speaker."""

    def __init__(self, speaker: Speaker, show_step: Callable[[str], None]) -> None:
        self._speaker, self._show_step, self._name = speaker, show_step, ""

    def step(self, name: str) -> None:
        self._name = name
        self._show_step(name)

    def info(self, text: str) -> None:
        self._speaker.tell(text)

    def warn(self, text: str) -> None:
        self._speaker.warn(text)

    def count(self, done: int, total: int | None, unit: str) -> None:
        if self._speaker.err.is_terminal:
            self._show_step(f"{self._name}: {done}{'' if total is None else f' of {total}'} {unit}")

    def stopping(self) -> None:
        self._speaker.warn_in_handler("stopping after the item in hand")


def engine_of(word: str) -> tuple[str | None, Precision]:
    """Runtime (None: the best one) and precision of a word for ``--engine``.

    Raises:
        UsageError: it is none; the message names the nearest.
    """
    from molre_edge.engines.choice import parse_engine

    try:
        return parse_engine(word)
    except EngineError as error:
        raise UsageError(f"{error}.{did_you_mean(nearest(word, completion.engines('')))}") from error


def open_bundle(folder: Path, expect_digest: str | None = None) -> Bundle:
    """The bundle that the user named.

    Raises:
        UsageError: no such folder.
        BundleError: what is there is no bundle of ours, or another than the one expected.
    """
    if not os.path.isdir(folder):  # unlike Path.is_dir, False for a name that is too long
        raise UsageError(
            f"{folder}: no such bundle.{did_you_mean(nearest_path(folder))} Make one with "
            f"'molre-edge export CKPT -o {folder}', or name another with --bundle"
        )
    return Bundle.open(folder, expect_digest=expect_digest)


def command(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Turn errors that the user can mend into a message and an exit code; anything else keeps its trace."""

    @functools.wraps(function)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return function(*args, **kwargs)
        except UsageError as error:
            _complain(str(error))
            raise typer.Exit(ExitCode.USAGE) from None
        except MolreEdgeError as error:
            _complain(str(error))
            raise typer.Exit(
                ExitCode.PARITY_FAILED if isinstance(error, ParityFailedError) else ExitCode.ERROR
            ) from None
        except KeyboardInterrupt:
            _complain("interrupted")
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        except BrokenPipeError:  # whoever read stdout has gone, as 'head' does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(ExitCode.ERROR) from None
        except OSError as error:  # a full disk, a folder that may not be written
            _complain(f"{error.filename or 'system'}: {error.strerror or error}")
            raise typer.Exit(ExitCode.ERROR) from None

    return run


def _console(stream: TextIO) -> Console:
    """A console that shows texts as they are: a name may look like markup, as [bold] or :warning: do."""
    stderr, tty = stream is sys.stderr, stream.isatty()
    # a file or a log has no width: with the 80 columns that rich takes there, tables lose the ends of long names
    width = None if tty or "COLUMNS" in os.environ else _WIDTH_OF_A_LOG
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=not tty, width=width)


def _complain(text: str) -> None:
    Speaker().complain(text)
