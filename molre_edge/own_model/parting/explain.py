"""The verb ``explain_reference``: where the user's own model and the rebuild of its checkpoint part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from molre_edge.engines.torch_runner import TorchRunner
from molre_edge.errors import MissingDependencyError
from molre_edge.files import StrPath, write_json
from molre_edge.own_model.agreement import Agreement, agree
from molre_edge.own_model.answers import ANSWERS, OwnAnswers, read_answers
from molre_edge.own_model.inputs_folder import HuVolume, InputScan, InputsFolder, open_inputs
from molre_edge.own_model.parting.chain import Array, Chain
from molre_edge.own_model.parting.conclude import conclude
from molre_edge.own_model.parting.explanation import Explanation
from molre_edge.own_model.parting.pictures import pictures_of
from molre_edge.own_model.parting.steps_file import read_steps
from molre_edge.own_model.parting.walk import walk
from molre_edge.own_model.rounded import LogitRange
from molre_edge.parity import Outputs, ParityLimits
from molre_edge.parity.limits import limits_by_precision
from molre_edge.progress import SILENT, Progress
from molre_edge.reports.explanation_page import write_explanation
from molre_edge.specs import Precision

if TYPE_CHECKING:
    from molre_edge.model.checkpoint import LoadedCheckpoint

__all__ = ["EXPLANATION", "explain_reference"]

EXPLANATION = "explanation"
"""The folder that it writes, below that of the inputs."""

_WALKED = 8
"""Scans that are walked: those that differ most, or those of which steps were saved."""


def explain_reference(
    folder: StrPath,
    checkpoint: StrPath,
    *,
    out: StrPath | None = None,
    limits: StrPath | Mapping[Precision, ParityLimits] | None = None,
    backbone_weights: StrPath | None = None,
    seconds: float = 600.0,
    progress: Progress = SILENT,
) -> Explanation:
    """Find the first step at which your own model and the rebuild of its checkpoint part.

    The chain is walked from one value that your program saved in ``steps/`` to the next, each time from your own value
    on. Where it parts, known mistakes are tried, each by running the model, and one is named only if it gives your
    values.

    Args:
        folder: of ``write_reference_inputs``, with ``answers.npz`` and perhaps ``steps/``.
        checkpoint: a ``.pt`` or ``.safetensors`` file.
        out: folder for ``explanation.json`` and ``explanation.html``; None for ``explanation`` in `folder`. They show
            images of patients.
        limits: a TOML file of parity limits, or the limits by precision; those of fp32 count.
        backbone_weights: the Hugging Face folder, if the checkpoint does not contain the backbone's weights.
        seconds: after so long no further change is tried.
        progress: receives events.

    Raises:
        MissingDependencyError: torch is not installed.
        CheckpointError: the checkpoint can't be read or is invalid.
        ConfigError: the limits are invalid, or the folder was written for another grid.
        OwnModelError: the folder is incomplete or altered, or the answers are of other scans or findings.
    """
    place = Path(folder)
    budget = limits_by_precision(limits)[Precision.FP32]
    inputs, answers = open_inputs(place), read_answers(place / ANSWERS)
    progress.step("loading the checkpoint")
    try:
        from molre_edge.model.checkpoint import load_checkpoint
    except ImportError as error:
        raise MissingDependencyError("Explaining a reference", str(error.name), "export") from error
    weights = None if backbone_weights is None else Path(backbone_weights)
    loaded = load_checkpoint(Path(checkpoint), backbone_weights=weights)
    inputs.check_grid(loaded.config.grid)
    progress.step("answering the scans")
    agreement = _agreement(inputs, answers, loaded, budget, progress)
    progress.step("walking the chain")
    chain = Chain(loaded.model, loaded.config.grid)
    walked = _walked(inputs, answers, agreement)
    segments = walk(chain, walked.volumes, walked.saved, walked.logits, budget)
    progress.step("trying changes")
    target = place / EXPLANATION if out is None else Path(out)
    explanation = conclude(chain, agreement, segments, walked.files, folder=target, seconds=seconds, progress=progress)
    target.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_json(target / "explanation.json", explanation.to_dict())
    write_explanation(
        target,
        explanation.to_dict(),
        [row.where for row in explanation.rows],
        pictures_of(chain, segments, explanation),
    )
    return explanation


@dataclass(frozen=True, eq=False)
class _Walked:
    """The scans that are walked.

    Attributes:
        volumes: what the user's model was given.
        saved: values of the user's program.
        logits: the user's answers [1, findings].
        files: scan -> the user's file names, and ours, in the order of the slices.
    """

    volumes: Mapping[str, HuVolume | Array]
    saved: Mapping[str, Mapping[str, Array]]
    logits: Mapping[str, LogitRange]
    files: Mapping[str, tuple[Sequence[str], Sequence[str]]]


def _agreement(
    inputs: InputsFolder, answers: OwnAnswers, loaded: LoadedCheckpoint, limits: ParityLimits, progress: Progress
) -> Agreement:
    """The rebuild's answers beside the user's, on all scans."""
    parts = []
    with TorchRunner(loaded.model, device="cpu") as runner:
        for done, scan in enumerate(inputs.scans):
            progress.count(done, len(inputs.scans), "scans")
            parts.append(runner.run(inputs.grid_volume(scan)[None]).outputs)
    return agree(
        answers,
        Outputs.stack(parts),
        scans=[scan.scan for scan in inputs.scans],
        findings=loaded.config.findings,
        thresholds=loaded.config.thresholds,
        limits=limits,
    )


def _walked(inputs: InputsFolder, answers: OwnAnswers, agreement: Agreement) -> _Walked:
    """Scans with saved values, else those that differ most."""
    points: dict[str, set[str]] = {}
    files: dict[str, tuple[Sequence[str], Sequence[str]]] = {}
    for scan in inputs.scans:  # the values of all scans together may not fit into memory
        if (steps := read_steps(inputs.folder, scan.scan)) is not None:
            points[scan.scan] = set(steps.values)
            if steps.files is not None:
                files[scan.scan] = (steps.files, scan.files)
    given = {name: array for name in ("gates", "embedding") if (array := getattr(answers, name)) is not None}
    for scan_name in answers.scans if given else ():
        points.setdefault(scan_name, set()).update(given)
    apart = np.abs(agreement.reference.logits - agreement.rebuild.logits).max(axis=1)
    ranked = sorted(inputs.scans, key=lambda scan: -apart[agreement.scans.index(scan.scan)])
    saving = [scan for scan in ranked if points.get(scan.scan)]
    most = max((len(points[scan.scan]) for scan in saving), default=0)
    # scans of which as much was saved as of any: the points that are compared are those that all of them have
    chosen = [scan for scan in saving if len(points[scan.scan]) == most] or ranked
    chosen = chosen[:_WALKED]
    saved: dict[str, dict[str, npt.NDArray[np.float32]]] = {}
    for scan in chosen if most else ():
        steps = read_steps(inputs.folder, scan.scan)
        saved[scan.scan] = {name: array[answers.scans.index(scan.scan)] for name, array in given.items()}
        saved[scan.scan] |= steps.values if steps else {}
    return _Walked(
        volumes={scan.scan: _volume(inputs, scan, answers.given) for scan in chosen},
        saved=saved,
        logits={scan.scan: _logits(agreement, scan.scan) for scan in chosen},
        files=files,
    )


def _volume(inputs: InputsFolder, scan: InputScan, given: str) -> HuVolume | npt.NDArray[np.float32]:
    if given == "grid":
        return inputs.grid_volume(scan).astype(np.float32)
    return inputs.hu_volume(scan)


def _logits(agreement: Agreement, scan: str) -> LogitRange:
    return agreement.ranges.rows([agreement.scans.index(scan)])
