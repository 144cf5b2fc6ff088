"""The user's own model in a process of its own: started once, asked scan by scan, ended at the latest with the caller.

Its code is the user's choice on the command line, never one that a file or bundle makes. A crash, an error or an
endless loop ends that process and not the caller's.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from molre_edge.errors import OwnModelError
from molre_edge.own_model.answers import logits_of
from molre_edge.own_model.rounded import LogitRange
from molre_edge.own_model.spec import ModelSpec
from molre_edge.parity.whose import GIVEN, Given
from molre_edge.scans import ScanSource, ScanWarning
from molre_edge.scans.workers.prepare import receive, send
from molre_edge.specs import Grid

__all__ = ["MODEL_FAILED", "OwnModel", "OwnModelAnswer", "OwnModelFailedError"]

MODEL_FAILED = "own_model_failed"
"""The code of a scan on which the user's own model failed."""
ANSWER_SECONDS = 600.0
"""Loading the model, and one answer, may take so long each."""

_LAST_SECONDS = 2.0
_TAIL_BYTES = 2000
_DTYPES = {"float16": np.float16, "float32": np.float32}
"""Number formats coarser than float64, the coarsest first."""


class OwnModelFailedError(OwnModelError):
    """The user's own model failed on one scan; it may answer others.

    Attributes:
        brief: why, without the words of the user's own code, which may name a patient's path: for reports.
    """

    def __init__(self, message: str, brief: str) -> None:
        """Create the error."""
        super().__init__(message)
        self.brief = brief


@dataclass(frozen=True, eq=False)
class OwnModelAnswer:
    """The answer to one scan.

    Attributes:
        logits: [1, findings], in the order of the caller's findings.
        kind: ``logits`` or ``probabilities``, what the model returned.
        values: float64 [findings], as it was returned.
        dtype: the number format in which it was returned, of the coarsest value.
        compute_ms: the time of the function alone, on the wall clock.
    """

    logits: LogitRange
    kind: str
    values: npt.NDArray[np.float64]
    dtype: type[np.floating]
    compute_ms: float


class OwnModel:
    """A context manager: the user's function, in a process of its own.

    Attributes:
        name: such as ``mine.py:answer``.
        findings: names that it answers.
        given: what it takes, known once it is entered.
        facts: what it says of itself, once it is entered.
    """

    def __init__(
        self, spec: ModelSpec, grid: Grid, findings: tuple[str, ...], *, seconds: float = ANSWER_SECONDS
    ) -> None:
        """Start nothing yet.

        Args:
            spec: the function.
            grid: of the volumes that it may ask for.
            findings: names that it must answer.
            seconds: loading, and each answer, may take.
        """
        self.name = spec.name
        self.given: Given = "path"
        self.facts: dict[str, Any] = {}
        self.findings = findings
        self._spec, self._grid, self._seconds = spec, grid, seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed by __exit__

    def __enter__(self) -> OwnModel:
        """Start the process and load the model.

        Raises:
            OwnModelError: it can't be loaded, or does not say what it takes.
        """
        try:
            self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process at once."""
        self._end()
        self._said.close()

    def answer(
        self, source: ScanSource, volume: npt.NDArray[np.float16], warnings: Iterable[ScanWarning] = ()
    ) -> OwnModelAnswer:
        """Answer one scan.

        Args:
            source: the scan's files.
            volume: the scan on the grid, float16 HU [slices, rows, cols]; only a model that takes it gets it.
            warnings: with which the scan was read. Where another series took the chosen one's place, a model that takes
                paths would answer the chosen one.

        Raises:
            OwnModelFailedError: it raised an error, crashed, or took too long; the next scan may be answered.
            OwnModelError: it returned other names, or no numbers: no scan will be answered.
        """
        if self.given == "path" and any(warning.code == "series_replaced" for warning in warnings):
            text = "was not asked: another series took the place of the chosen one, and it takes the chosen one's path"
            raise OwnModelFailedError(f"{self.name}: {text}", text)
        if self._process is None:
            self._start()
        job = json.dumps(source.to_dict()).encode()
        data = self._ask(job, np.ascontiguousarray(volume, dtype="<f2").data.cast("B"))
        try:
            kind, numbers, compute_ms = str(data["kind"]), dict(data["numbers"]), float(data["compute_ms"])
        except (KeyError, TypeError, ValueError) as error:
            raise OwnModelError(f"{self.name}: gave no answer of the expected form ({error})") from error
        values, dtype = self._in_order(numbers)
        if not np.isfinite(values).all():
            bad = self.findings[int(np.argmin(np.isfinite(values)))]
            text = f"returned NaN or infinity for {bad}"
            raise OwnModelFailedError(f"{self.name}: {text}", text)
        try:
            logits = logits_of(values.astype(dtype)[None], kind)
        except ValueError as error:
            raise OwnModelError(f"{self.name}: {error}") from error
        return OwnModelAnswer(logits, kind, values, dtype, compute_ms)

    def _in_order(self, numbers: Mapping[str, Any]) -> tuple[npt.NDArray[np.float64], type[np.floating]]:
        """The numbers in the order of the findings, and the coarsest of their number formats."""
        missing = [name for name in self.findings if name not in numbers]
        unknown = [name for name in numbers if name not in self.findings]
        if missing or unknown:
            parts = [f"no answer for {len(missing)} findings ({', '.join(missing[:5])})"] if missing else []
            parts += [f"{len(unknown)} unknown findings ({', '.join(map(str, unknown[:5]))})"] if unknown else []
            raise OwnModelError(
                f"{self.name}: returned {' and '.join(parts)}; expected the {len(self.findings)} findings of the "
                f"checkpoint by name"
            )
        dtypes = {str(numbers[name][1]) for name in self.findings}
        if "bfloat16" in dtypes:
            raise OwnModelError(
                f"{self.name}: returned bfloat16, in which probabilities are too coarse to compare. Convert logits "
                f"with .float() before the sigmoid, or return {{'logits': {{...}}}}"
            )
        coarsest = next((found for word, found in _DTYPES.items() if word in dtypes), np.float64)
        return np.array([float(numbers[name][0]) for name in self.findings]), coarsest

    def _start(self) -> None:
        spec = self._spec
        start = (
            f"import sys; sys.path[:] = {sys.path!r}\n"  # first of all: the same molre_edge as here
            f"from molre_edge.own_model.worker import serve\n"
            f"from molre_edge.specs import Grid\n"
            f"serve({spec.where!r}, {spec.function!r}, {spec.is_file!r}, Grid(**{self._grid.to_dict()!r}))"
        )
        self._said.seek(0)
        self._said.truncate()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", start],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                start_new_session=True,  # Ctrl-C is for the run, which finishes what it has begun
            )
        except OSError as error:
            raise OwnModelError(f"{self.name}: a process for it can't be started ({error.strerror})") from error
        try:
            ready = self._ask()
        except OwnModelFailedError as error:  # while it was loaded: it will not get better
            raise OwnModelError(str(error)) from error
        if ready.get("given") not in GIVEN:
            raise OwnModelError(f"{self.name}: its process did not start as expected")
        self.given = ready["given"]
        self.facts = {"runtime": "your model", "function": self.name, "python": str(ready.get("python"))}

    def _ask(self, *job: bytes | memoryview) -> dict[str, Any]:
        """Send a job, if there is one, and wait for the answer.

        Raises:
            OwnModelFailedError: an error of the function, a crash or a time-out.
            OwnModelError: the function itself is wrong.
        """
        process, late = self._process, threading.Event()
        assert process is not None and process.stdin is not None and process.stdout is not None

        def end() -> None:
            late.set()
            _kill(process)

        timer = threading.Timer(self._seconds, end)
        timer.daemon = True
        timer.start()
        try:
            if job:
                send(process.stdin, *job)
            data: dict[str, Any] = json.loads(receive(process.stdout))
        except (OSError, EOFError, ValueError) as error:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LAST_SECONDS)  # it is about to end: let it, for its own exit code
            self._end()
            why, last = self._why(process.returncode, late.is_set())
            raise OwnModelFailedError(f"{self.name}: {why}{last}", why) from error
        finally:
            timer.cancel()
        if "problem" not in data:
            return data
        if data["problem"] == "failed":
            raise OwnModelFailedError(f"{self.name}: {data['text']}", str(data["brief"]))
        raise OwnModelError(f"{self.name}: {data['text']}")

    def _why(self, code: int, late: bool) -> tuple[str, str]:
        """Why the process has gone; and the last line that it wrote."""
        if late:
            return f"took more than {self._seconds:g} s", ""
        how = f"exit code {code}"
        with contextlib.suppress(ValueError):
            how = signal.Signals(-code).name
        self._said.seek(0, 2)
        self._said.seek(max(0, self._said.tell() - _TAIL_BYTES))
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        last = "".join(c for c in lines[-1] if c.isprintable())[:300] if lines else ""
        return f"its process ended ({how})", f"; its last line was: {last}" if last else ""

    def _end(self) -> None:
        if self._process is None:
            return
        _kill(self._process)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        self._process = None


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the process and those that the user's code started, which would hold its pipes open: it leads their group."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
