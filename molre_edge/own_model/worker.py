"""What runs in the process of the user's own model: it loads the function, then answers scans on request."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import os
import platform
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from molre_edge.parity.whose import GIVEN
from molre_edge.scans import ScanSource, read_scan
from molre_edge.scans.workers.prepare import receive, send
from molre_edge.scans.workers.worker import begin_worker
from molre_edge.specs import Grid

__all__ = ["PARAMETERS", "serve"]

PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "path": ("path", "files"),
    "hu": ("hu", "positions_mm", "thickness_mm", "pixel_mm"),
    "grid": ("grid",),
}
"""What the model may get -> parameters that its function may have. The first one says which of the three it is."""

_CONTRACT, _FAILED = "contract", "failed"
_LONGEST = 400


class _ContractError(Exception):
    """The function itself is wrong: every scan would fail."""


def serve(where: str, function: str, is_file: bool, grid: Grid) -> None:
    """Load the function and answer jobs from stdin on stdout; what it prints goes to stderr.

    Args:
        where: the file or module.
        function: the name in it.
        is_file: whether `where` is a file.
        grid: of the volumes that come with the jobs.
    """
    jobs, answers = begin_worker()
    _let_children_end()
    with suppress(EOFError, BrokenPipeError):
        try:
            answer = _load(where, function, is_file)
            given, names = _declared(answer)
        except BaseException as error:
            send(answers, _problem(error, where, _CONTRACT))
            return
        send(answers, json.dumps({"given": given, "python": platform.python_version()}).encode())
        size = 2 * grid.slices * grid.rows * grid.cols
        while True:
            source, raw = ScanSource.from_dict(json.loads(receive(jobs))), receive(jobs, size)
            volume = np.frombuffer(raw, "<f2").reshape(grid.shape).astype(np.float32)
            send(answers, _answered(answer, _arguments(source, volume, given, names), where))


def _let_children_end() -> None:
    """Processes that the user's code starts end when they are told to, though this one does not."""
    signals = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    for each in signals:
        signal.signal(each, lambda *_: None)  # unlike SIG_IGN, not handed on to a program that is started

    def set_back() -> None:
        for each in signals:
            signal.signal(each, signal.SIG_DFL)

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=set_back)


def _load(where: str, function: str, is_file: bool) -> Callable[..., Any]:
    """Import the user's code. This runs it, which is what the user asked for."""
    if is_file:
        sys.path.insert(0, str(Path(where).parent))  # its neighbours can be imported, as from a script
        module = _import_file(Path(where))
    else:
        sys.path.insert(0, os.getcwd())
        module = importlib.import_module(where)
    found = getattr(module, function, None)
    if not callable(found):
        there = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise _ContractError(f"has no function {function!r}; it has {', '.join(there[:10]) or 'none'}")
    return found  # type: ignore[no-any-return]


def _import_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise _ContractError("can't be imported as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # as an import does it: dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def _declared(answer: Callable[..., Any]) -> tuple[str, tuple[str, ...]]:
    """What the function takes, by the names of its parameters."""
    parameters = inspect.signature(answer).parameters.values()
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    kinds = [kind for kind in GIVEN if any(p.name == kind for p in named)]
    if len(kinds) != 1:
        every = "; ".join(f"{lead} (also {', '.join(more)})" if more else lead for lead, *more in PARAMETERS.values())
        got = ", ".join(p.name for p in named) or "none"
        raise _ContractError(f"its parameters are {got}; expected one of these names: {every}")
    (kind,) = kinds
    known = PARAMETERS[kind]
    unknown = [p.name for p in named if p.name not in known and p.default is p.empty]
    unknown += [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY and p.default is p.empty]
    if unknown:
        raise _ContractError(f"its parameter {unknown[0]!r} is unknown; beside {kind!r} expected {', '.join(known)}")
    return kind, tuple(p.name for p in named if p.name in known)


def _arguments(
    source: ScanSource, volume: np.ndarray[Any, np.dtype[np.float32]], given: str, names: tuple[str, ...]
) -> Callable[[], dict[str, Any]]:
    """What the function gets, made when it is called: reading may fail, as the function may."""

    def make() -> dict[str, Any]:
        if given == "path":
            values: dict[str, Any] = {"path": source.path, "files": list(source.files)}
        elif given == "grid":
            values = {"grid": volume}
        else:
            scan = read_scan(source)
            values = {name: getattr(scan, name) for name in PARAMETERS["hu"]}
            values["hu"] = values["hu"].astype("float32")  # as read it may be int16, in which others overflow
        return {name: values[name] for name in names}

    return make


def _answered(answer: Callable[..., Any], arguments: Callable[[], dict[str, Any]], where: str) -> bytes:
    """The function's answer as JSON, or why there is none."""
    try:
        taken = arguments()
        start = time.perf_counter()
        returned = answer(**taken)
        seconds = time.perf_counter() - start
        kind, numbers = _numbers(returned)
        return json.dumps({"kind": kind, "numbers": numbers, "compute_ms": 1e3 * seconds}).encode()
    except _ContractError as error:
        return _problem(error, where, _CONTRACT)
    except BaseException as error:
        return _problem(error, where, _FAILED)


def _numbers(returned: Any) -> tuple[str, dict[str, tuple[float, str]]]:
    """Kind of the answers; and name -> (number, its dtype)."""
    kind, found = "probabilities", returned
    if isinstance(returned, Mapping) and len(returned) == 1:
        (key,) = returned
        if key in ("logits", "probabilities") and isinstance(returned[key], Mapping):
            kind, found = str(key), returned[key]
    if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found):
        raise _ContractError(
            f"returned {type(found).__name__}; expected a dictionary from the names of findings to probabilities, or "
            f"{{'logits': dictionary}}"
        )
    numbers = {}
    for name, value in found.items():
        try:
            number = float(value)
        except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: a tensor of several numbers
            raise _ContractError(
                f"returned for {name[:60]!r} {_brief(value)}, which is not one number: {error}"
            ) from error
        numbers[name] = (number, str(getattr(value, "dtype", "float64")).rpartition(".")[2])
    return kind, numbers


def _brief(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return f"a {type(value).__name__}" + (f" of shape {list(shape)}" if shape is not None else "")


def _problem(error: BaseException, where: str, kind: str) -> bytes:
    """What went wrong, with the line of the user's own file."""
    text = str(error) if isinstance(error, _ContractError) else f"{type(error).__name__}: {error}"
    lines = [each for each in traceback.extract_tb(error.__traceback__) if each.filename == where]
    at = f" (line {lines[-1].lineno})" if lines and not isinstance(error, _ContractError) else ""
    brief = f"{type(error).__name__}{at}"
    return json.dumps({"problem": kind, "text": f"{text[:_LONGEST]}{at}", "brief": brief}).encode()
