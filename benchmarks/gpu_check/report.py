"""What came of each check, as JSON and as a page."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from molre_edge import __version__
from molre_edge.doctor import diagnose
from molre_edge.engines.cuda.driver import DriverProbe
from molre_edge.errors import MissingDependencyError
from molre_edge.files import write_json, write_whole

DISCLAIMER = (
    "Research and engineering tool, not a cleared medical device. Weights are random: no figure here is one of a "
    "diagnosis."
)

_INSTALL = {
    "SimpleITK": "pip install 'molre-edge[export]'",
    "cuda": "pip install 'molre-edge[cuda]'",
    "torch": "pip install 'molre-edge[export]'",
    "transformers": "pip install 'molre-edge[export]'",
    "monai": "pip install 'molre-edge[export]'",
    "onnx": "pip install 'molre-edge[export]'",
    "onnxscript": "pip install 'molre-edge[export]'",
    "onnxsim": "pip install 'molre-edge[export]'",
    "safetensors": "pip install 'molre-edge[export]'",
    "einops": "pip install 'molre-edge[export]'",
}
"""Module -> what brings it; others are installed by their own name."""


class CanNotRunError(Exception):
    """A check can't run on this machine; the text says why."""


class FailedError(Exception):
    """A check found something wrong; the text says what, and its figures are told all the same."""

    def __init__(self, reason: str, figures: dict[str, Any]) -> None:
        """Keep both."""
        super().__init__(reason)
        self.figures = figures


class Report:
    """Runs checks and keeps what came of them."""

    def __init__(self, probe: DriverProbe, journal: Path | None = None) -> None:
        """Begin with nothing checked.

        Args:
            probe: what the driver says.
            journal: where each check is noted when it begins and when it ends, a line of JSON each.
        """
        self.probe, self.checks, self._part, self._journal = probe, list[dict[str, Any]](), "", journal

    def begin(self, part: str) -> None:
        """The checks that follow belong to a part."""
        self._part = part

    @property
    def failed(self) -> bool:
        """Whether a check failed."""
        return any(check["state"] == "failed" for check in self.checks)

    def check(self, name: str, work: Callable[[], dict[str, Any] | None], *, gpu: bool = True) -> bool:
        """Run a check, which gives figures, raises :class:`CanNotRunError`, or fails by any other error.

        A package that is not installed does not count as a failure.

        Returns:
            Whether it was done.
        """
        start, told = time.perf_counter(), {"part": self._part, "check": name}
        self._note({**told, "state": "running"})
        try:
            if gpu and self.probe.problem is not None:
                raise CanNotRunError(self.probe.problem)
            told |= {"state": "done", "figures": work() or {}}
        except (CanNotRunError, MissingDependencyError) as reason:
            told |= {"state": "can't run", "reason": str(reason)}
        except FailedError as error:
            told |= {"state": "failed", "reason": str(error), "figures": error.figures}
        except Exception as error:  # whatever happens on an unknown GPU is a result
            missing = _missing(error)
            told |= {"state": "failed" if missing is None else "can't run"}
            told |= {"reason": missing or f"{type(error).__name__}: {error}"}
            told |= {} if missing else {"trace": traceback.format_exc()}
        told["seconds"] = round(time.perf_counter() - start, 2)
        self._note(told)
        self.take(told)
        return told["state"] == "done"

    def take(self, told: dict[str, Any]) -> None:
        """Keep what came of a check, and show it."""
        self.checks.append(told)
        print(
            f"{told['state']:>9}  {told['part']}: {told['check']}  {told.get('reason', '')}".splitlines()[0], flush=True
        )

    def write(self, folder: Path, now: datetime) -> tuple[Path, Path]:
        """Write both files, named by the day."""
        found = diagnose()
        data = {
            "date": now.isoformat(timespec="seconds"),
            "molre-edge": __version__,
            "machine": found.machine.split(", ", 1)[-1],
            "driver's CUDA": self.probe.cuda,
            "gpus": [str(gpu) for gpu in self.probe.gpus],
            "versions": {part.name: part.found for part in found.parts if part.name not in {"Python", "disk"}},
            "checks": self.checks,
            "disclaimer": DISCLAIMER,
        }
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"gpu-check-{now:%Y-%m-%d}.json"
        write_json(path, json.loads(json.dumps(data, default=str)))
        page = path.with_suffix(".md")
        with write_whole(page) as partial:
            partial.write_text(self._page(data), encoding="utf-8")
        return path, page

    def _note(self, told: dict[str, Any]) -> None:
        if self._journal is not None:
            with self._journal.open("a", encoding="utf-8") as file:
                file.write(json.dumps(told, default=str) + "\n")

    def _page(self, data: dict[str, Any]) -> str:
        gpus = ", ".join(data["gpus"]) or "no GPU"
        lines = [f"# GPU check, {data['date'][:10]}", "", f"On {gpus}; `benchmarks/gpu_check`.", ""]
        lines += ["| part | check | state | what came of it |", "| --- | --- | --- | --- |"]
        for check in data["checks"]:
            told = check.get("reason") or ", ".join(f"{name} {value}" for name, value in _flat(check["figures"]))
            told = " ".join(told.replace("|", "/").split())[:600]
            lines.append(f"| {check['part']} | {check['check']} | {check['state']} | {told} |")
        lines += ["", "| what | found |", "| --- | --- |"]
        lines += [f"| {name} | {found} |" for name, found in data["versions"].items()]
        return "\n".join([*lines, "", data["disclaimer"], ""])


def _missing(error: BaseException | None) -> str | None:
    """What to install, where an error is that of a package that is not there; None for any other error."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and error.name:
            package = error.name.split(".")[0]
            if package == "molre_edge":
                return None
            return f"{package} is not installed: {_INSTALL.get(package, f'pip install {package}')}"
        error = error.__cause__
    return None


def _flat(figures: dict[str, Any], before: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in figures.items():
        inside = isinstance(value, dict)
        found += _flat(value, f"{before}{name} ") if inside else [(f"{before}{name}", value)]
    return found
