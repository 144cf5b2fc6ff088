"""From nothing to two parity reports: scans, a model, a bundle, and a run on each engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import molre_edge
from molre_edge.demo.material import CHECKPOINT, DATA, SCANS, check_installed, make_data, make_scans, prepare_folder
from molre_edge.demo.model import make_checkpoint, train_checkpoint
from molre_edge.progress import SILENT, Progress

if TYPE_CHECKING:
    from molre_edge.export.exporter import ExportResult
    from molre_edge.runs.infer_result import InferResult

__all__ = ["DemoResult", "make_demo"]

_ENGINES = ("fp32", "fp16")
_BY_GRAVITY = (3, 1, 4)


@dataclass(frozen=True, kw_only=True, eq=False)
class DemoResult:
    """What a demo made.

    Attributes:
        folder: of the demo.
        exported: the bundle.
        runs: by engine.
    """

    folder: Path
    exported: ExportResult
    runs: Mapping[str, InferResult]

    @property
    def exit_code(self) -> int:
        """The gravest of the runs' exit codes: parity failed, no scan, some scans, else 0."""
        codes = {run.exit_code for run in self.runs.values()}
        return next((code for code in _BY_GRAVITY if code in codes), 0)

    @property
    def areas(self) -> dict[str, float]:
        """Mean AUC over the findings with labels, by ``PyTorch`` and engine; nothing without labels."""
        numbers = {engine: run.numbers for engine, run in self.runs.items() if run.numbers is not None}
        areas = {engine: each.mean_auc_engine for engine, each in numbers.items()}
        reference = next((each.mean_auc_reference for each in numbers.values()), None)
        measured = {"PyTorch": reference, **areas}
        return {name: area for name, area in measured.items() if area is not None}

    def to_dict(self) -> dict[str, Any]:
        """Plain data: what ``demo --json`` prints."""
        return {engine: {"report": str(run.report), "exit_code": run.exit_code} for engine, run in self.runs.items()}


def make_demo(folder: Path, *, untrained: bool = False, force: bool = False, progress: Progress = SILENT) -> DemoResult:
    """Make scans and a model, export it, and run it on both engines.

    Args:
        folder: new, empty, or an earlier demo's.
        untrained: draw the weights instead of training: faster, and without AUC.
        force: replace an earlier demo in that folder.
        progress: receives events.

    Raises:
        ConfigError: the folder holds something that must not be lost.
        MissingDependencyError: a library of the extra ``export`` is not installed.
    """
    check_installed()
    prepare_folder(folder, force=force)
    checkpoint, scans, data, bundle = (folder / name for name in (CHECKPOINT, SCANS, DATA, "edge-bundle"))
    progress.step("synthetic scans")
    make_scans(scans)
    if untrained:
        progress.step("a small model with random weights")
        make_checkpoint(checkpoint, scans)
    else:
        make_data(data, progress)
        train_checkpoint(checkpoint, data, progress)
    exported = molre_edge.export_checkpoint(checkpoint, bundle, progress=progress)
    runs = {}
    for engine in _ENGINES:
        runs[engine] = molre_edge.infer_scans(
            scans if untrained else data / "test",
            engine,
            bundle=bundle,
            out=folder / "edge-runs" / engine,
            reference=str(checkpoint),
            labels=None if untrained else data / "manifest.csv",
            progress=progress,
        )
    return DemoResult(folder=folder, exported=exported, runs=runs)
