"""What a TensorRT builder says while it works, and how it is stopped.

TensorRT tells of a failure by returning nothing; the reason is in its log alone. Its callbacks run between C++ frames,
through which no Python error may pass: what is raised there is kept, the build is cancelled, and it is raised after.
"""

from __future__ import annotations

import contextlib
import functools
import re
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from molre_edge.progress import SILENT, Progress

__all__ = ["LAYER_LOG", "Watch", "listed", "listening", "watching"]

LAYER_LOG = "Layers:\n"
"""How the one message begins in which the builder lists what it built."""

_MOST_PROBLEMS = 20
_DROPPED = re.compile(r"will not be able to run on target\(s\): (sm\d+(?:, sm\d+)*)")
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
"""Ctrl-C, a service that is stopped, a terminal that is closed. Windows has no SIGHUP."""


class Watch:
    """One build's messages and progress.

    Attributes:
        problems: errors and warnings of the library, in order.
        layers: its layer listings, one an optimisation profile.
        dropped: compute capabilities, such as ``sm86``, that the library took from its list, since the network has a
            datatype that those GPUs lack. A line in its log is all it says.
        stopped: why the build is to end early.
    """

    def __init__(self, progress: Progress = SILENT) -> None:
        """Begin without messages.

        Args:
            progress: receives the percentage that is done. What it raises ends the build.
        """
        self.problems: list[str] = []
        self.layers: list[str] = []
        self.dropped: tuple[str, ...] = ()
        self.stopped: BaseException | None = None
        self._progress = progress
        self._open: list[list[Any]] = []  # phases that run, outermost first: name, steps, steps done
        self._percent = -1

    def hear(self, is_problem: bool, message: str) -> None:
        """Take a message. Of the many others none is kept: of a large model they fill gigabytes."""
        if message.startswith(LAYER_LOG):
            self.layers.append(message)
        elif found := _DROPPED.search(message):
            self.dropped = tuple(found[1].split(", "))
        elif is_problem:
            self.problems.append(message.strip())

    def begin(self, name: str, steps: int) -> None:
        """A phase begins."""
        self._open.append([name, max(steps, 1), 0])

    def step(self, name: str, step: int) -> bool:
        """A step of a phase ends. False asks the builder to stop."""
        for phase in self._open:
            if phase[0] == name:
                phase[2] = step + 1
        part = 0.0
        for _, steps, done in reversed(self._open):
            part = min(1.0, (done + part) / steps)
        self._report(part)
        return self.stopped is None

    def end(self, name: str) -> None:
        """A phase ends."""
        self._open = [phase for phase in self._open if phase[0] != name]
        if not self._open:
            self._report(1.0)

    def _report(self, part: float) -> None:
        percent = int(100 * part)
        if self.stopped is not None or percent <= self._percent:  # a step may hold several phases, one after the other
            return
        self._percent = percent
        try:
            self._progress.count(percent, 100, "percent")
        except BaseException as error:  # KeyboardInterrupt too
            self.stopped = error


@contextlib.contextmanager
def watching(trt: Any, progress: Progress = SILENT) -> Iterator[tuple[Watch, Any, Any]]:
    """A watch, and the logger and progress monitor that feed it, for one build.

    A signal that would raise KeyboardInterrupt, such as Ctrl-C, cancels the build when the builder next tells how far
    it is, and is raised when it has let go, at the latest when the block ends; other work of the library's can't be
    stopped. The second signal ends the process.
    """
    watch = Watch(progress)
    with _stopped_by_signals(watch), listening(trt, watch) as logger:
        yield watch, logger, _monitor(trt, watch)
    if watch.stopped is not None:
        raise watch.stopped


@contextlib.contextmanager
def _stopped_by_signals(watch: Watch) -> Iterator[None]:
    """Within the block, the first of those signals stops the watch; the next is the system's to handle."""
    on_main = threading.current_thread() is threading.main_thread()
    numbers = [getattr(signal, name) for name in _SIGNALS if on_main and hasattr(signal, name)]
    caught = [number for number in numbers if signal.getsignal(number) is signal.default_int_handler]

    def stop(number: int, frame: FrameType | None) -> None:
        watch.stopped = KeyboardInterrupt()
        for each in caught:
            signal.signal(each, signal.SIG_DFL)

    for number in caught:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in caught:
            signal.signal(number, signal.default_int_handler)


@contextlib.contextmanager
def listening(trt: Any, watch: Watch) -> Iterator[Any]:
    """The library's logger; within the block its messages go to `watch`."""
    logger = _logger(trt)
    before, logger.watch = logger.watch, watch
    try:
        yield logger
    finally:
        logger.watch = before


@functools.cache
def _logger(trt: Any) -> Any:
    """The library's logger, one a process: it keeps the first that it is given and may write to it at any time."""
    base: Any = trt.ILogger
    told = (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR, trt.ILogger.WARNING)

    class Logger(base):  # type: ignore[misc]  # the library has no types
        def __init__(self) -> None:
            base.__init__(self)
            self.watch: Watch | None = None

        def log(self, severity: Any, message: str) -> None:
            if self.watch is not None:
                self.watch.hear(severity in told, message)

    return Logger()


def _monitor(trt: Any, watch: Watch) -> Any:
    base: Any = trt.IProgressMonitor

    class Monitor(base):  # type: ignore[misc]  # the library has no types
        def __init__(self) -> None:
            base.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            watch.begin(phase_name, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return watch.step(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            watch.end(phase_name)

    return Monitor()


def listed(problems: list[str]) -> str:
    """The library's words under a message of ours, each once and not too many."""
    told = list(dict.fromkeys(problems))
    more = [f"and {len(told) - _MOST_PROBLEMS} more"] if len(told) > _MOST_PROBLEMS else []
    return "".join(f"\n- {line}" for line in [*told[:_MOST_PROBLEMS], *more]) or " it did not say why"
