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
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from molre_edge.cli import completion
from molre_edge.cli.suggest import did_you_mean, nearest_path
from molre_edge.errors import MolreEdgeError, ParityFailedError, UsageError
from molre_edge.files import restore_folder
from molre_edge.progress import Progress
from molre_edge.specs import DEFAULT_BUNDLE, Precision, parse_engine

__all__ = [
    "AdapterOption",
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
    "TrustOption",
    "UsageError",
    "WeightsOption",
    "bundle_folder",
    "command",
    "engine_of",
    "key_password",
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
AdapterOption = Annotated[
    str | None,
    typer.Option("--adapter", metavar="NAME", help="One of the bundle's adapters. Default: its default adapter."),
]
DigestOption = Annotated[
    str | None,
    typer.Option("--expect-digest", metavar="SHA256", help="Refuse a bundle with another digest than this."),
]
TrustOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--trust",
        metavar="KEY.pub",
        exists=True,
        dir_okay=False,
        help="Use the bundle only if this key signed its release; repeat to allow several keys. Default: the keys "
        "configured on this machine, if any.",
    ),
]
EngineOption = Annotated[
    str,
    typer.Option(
        "--engine",
        "-e",
        help="fp32, fp16, int8 or fp8, on the best runtime here; 'onnxruntime:fp16', 'onnxruntime-rtx:fp16', "
        "'openvino:fp16', 'tensorrt:fp16' or 'tensorrt-rtx:fp16' forces one; or 'torch'.",
        autocompletion=completion.engines,
    ),
]
LimitsOption = Annotated[
    Path | None,
    typer.Option("--limits", exists=True, dir_okay=False, help="Parity limits of your own, TOML."),
]
"""Its former name ``--gates`` still works, with a warning: see :class:`molre_edge.cli.suggest.Program`."""
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
        help="Hugging Face folder (config.json, safetensors), for a checkpoint without the backbone's weights. "
        "Default: the installed package that has them.",
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

    def counter(self) -> Bars:
        """A bar that counts parts, with times; nothing where nobody looks on."""
        return Bars(
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
    def progress(self) -> Iterator[Progress]:
        """Shows what a verb reports: on a terminal a spinner for steps and a bar for counts, elsewhere a line a step.

        Facts and warnings are lines on stderr everywhere. Quiet leaves the warnings.
        """
        if self.quiet or not self.err.is_terminal:
            yield _Lines(self)
        else:
            with _Live(self) as live:
                yield live

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


class _Lines:
    """Progress where nobody looks on: a line a step, a fact and a warning."""

    def __init__(self, speaker: Speaker) -> None:
        self._speaker = speaker

    def step(self, name: str) -> None:
        self._speaker.tell(f"- {name}")

    def info(self, text: str) -> None:
        self._speaker.tell(text)

    def warn(self, text: str) -> None:
        self._speaker.warn(text)

    def count(self, done: int, total: int | None, unit: str) -> None:
        pass

    def stopping(self) -> None:
        self._speaker.warn_in_handler("stopping after the current item; a second signal stops at once")


class _Live(_Lines):
    """Progress on a terminal: one line that shows the step, with a bar while something is counted."""

    def __init__(self, speaker: Speaker) -> None:
        super().__init__(speaker)
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False, style="bold"))
        self._steps = Bars(*columns, console=speaker.err, transient=True)
        self._counts = speaker.counter()
        self._shown: Bars | None = None
        self._task = self._counts.add_task("", total=None)

    def __enter__(self) -> _Live:
        return self

    def __exit__(self, *_: object) -> None:
        self._show(None)

    def step(self, name: str) -> None:
        for task in self._steps.task_ids:
            self._steps.remove_task(task)
        self._steps.add_task(name, total=None)
        self._show(self._steps)

    def count(self, done: int, total: int | None, unit: str) -> None:
        if self._shown is not self._counts:
            self._counts.reset(self._task)
            self._show(self._counts)
        self._counts.update(self._task, description=unit, completed=done, total=total)

    def _show(self, bars: Bars | None) -> None:
        """One display at a time holds the last line of the terminal."""
        if bars is self._shown:
            return
        if self._shown is not None:
            self._shown.stop()
        if bars is not None:
            bars.start()
        self._shown = bars


def engine_of(word: str) -> tuple[str | None, Precision]:
    """Runtime (None: the best one) and precision of a word for ``--engine``.

    Raises:
        UsageError: an unknown word; the message names the nearest.
    """
    return parse_engine(word)


def bundle_folder(folder: Path) -> Path:
    """The folder that the user named, if it is one.

    Raises:
        UsageError: no such folder; the message names the nearest.
    """
    with contextlib.suppress(OSError):
        restore_folder(folder)  # a replacement that was killed may have put it aside
    if not os.path.isdir(folder):  # unlike Path.is_dir, False for a name that is too long
        raise UsageError(
            f"{folder}: no such bundle.{did_you_mean(nearest_path(folder))} Make one with "
            f"'molre-edge export CKPT -o {folder}', or name another with --bundle"
        )
    return folder


def key_password(key: Path, *, new: bool = False) -> str | None:
    """The password of a secret key: from ``MOLRE_EDGE_KEY_PASSWORD``, else asked for; None if the key has none."""
    with contextlib.suppress(OSError):
        if not new and "encrypted" not in key.read_bytes()[:100].decode(errors="replace"):
            return None
    given = os.environ.get("MOLRE_EDGE_KEY_PASSWORD")
    if given is not None:
        return given
    return str(typer.prompt(f"Password of {key}", hide_input=True, confirmation_prompt=new, err=True))


def command(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Turn errors that the user can fix into a message and an exit code; anything else keeps its traceback."""

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
