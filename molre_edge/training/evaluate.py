"""The verb that measures a checkpoint on labelled scans. torch is imported late."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molre_edge.errors import ConfigError, MissingDependencyError, UsageError
from molre_edge.files import StrPath
from molre_edge.progress import SILENT, Progress, counter
from molre_edge.specs import DISCLAIMER
from molre_edge.training.options import choose_device

if TYPE_CHECKING:
    from molre_edge.training.data_manifest import Manifest
    from molre_edge.training.evaluation import Evaluation

__all__ = ["EvaluationResult", "evaluate_checkpoint"]


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """How good a checkpoint is on labelled scans.

    Attributes:
        checkpoint_sha256: of the checkpoint's file.
        split: the split that was measured.
        evaluation: AUC by finding, calibration and routing.
        problems: (scan, reason) of unusable scans.
        folder: where the files were written; None if none were.
    """

    checkpoint_sha256: str
    split: str
    evaluation: Evaluation
    problems: tuple[tuple[str, str], ...]
    folder: Path | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as ``evaluate --json`` prints it."""
        return {
            "checkpoint_sha256": self.checkpoint_sha256,
            "split": self.split,
            "problems": [{"scan": name, "reason": reason} for name, reason in self.problems],
            **self.evaluation.to_dict(),
            "disclaimer": DISCLAIMER,
        }


def evaluate_checkpoint(
    checkpoint: StrPath,
    data: StrPath,
    *,
    split: str = "test",
    out: StrPath | None = None,
    backbone_weights: StrPath | None = None,
    cache: StrPath | None = None,
    batch: int = 8,
    device: str | None = None,
    progress: Progress = SILENT,
) -> EvaluationResult:
    """Measure a checkpoint on labelled scans that it was not trained on.

    Args:
        checkpoint: the file.
        data: folder with ``manifest.csv``.
        split: ``train``, ``val`` or ``test``.
        out: folder for ``evaluation.json``, ``findings.csv`` and the routing's files; None writes none.
        backbone_weights: Hugging Face folder, for a checkpoint without the backbone's weights.
        cache: folder of prepared volumes; None for the training's own.
        batch: scans at once.
        device: PyTorch's name of it; None for a GPU, if there is one.
        progress: receives events.

    Raises:
        UsageError: no such split, or `out` is a file.
        ConfigError: the split has no scans.
        MissingDependencyError: torch is not installed.
    """
    checkpoint = Path(checkpoint)
    folder = None if out is None else Path(out)
    try:
        from molre_edge.model.checkpoint import load_checkpoint
        from molre_edge.training.data_manifest import SPLITS, read_manifest
        from molre_edge.training.evaluation import evaluate_outputs
        from molre_edge.training.fit import training_folder
        from molre_edge.training.results import write_evaluation
        from molre_edge.training.samples import VolumeSamples, predict
        from molre_edge.training.volumes import prepare_volumes
    except ImportError as error:
        raise MissingDependencyError("Evaluating", str(error.name), "train") from error
    if split not in SPLITS:
        raise UsageError(f"--split {split}: expected one of {', '.join(SPLITS)}")
    if folder is not None and folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {folder}: is a file; pass a folder")
    place = choose_device(device)
    loaded = load_checkpoint(checkpoint, backbone_weights=None if backbone_weights is None else Path(backbone_weights))
    manifest = read_manifest(Path(data), loaded.config.findings, partial=True)
    if manifest.unknown or manifest.unused:
        progress.info(_columns_words(manifest))
    cases = manifest.of(split)
    if not cases:
        raise ConfigError(f"{manifest.path}: has no scans with split '{split}'; choose another with --split")
    progress.step(f"reading scans ({split})")
    volumes = prepare_volumes(
        cases,
        loaded.config.grid,
        training_folder(checkpoint) / "cache" if cache is None else Path(cache),
        counter(progress, len(cases), "scans"),
    )
    for name, reason in volumes.problems:
        progress.warn(f"{name} can't be used: {reason}")
    samples = VolumeSamples(volumes)
    progress.step("answers")
    outputs = predict(loaded.model.to(place), samples, batch, counter(progress, len(volumes), "scans"))
    result = evaluate_outputs(outputs, samples.labels, loaded.config.findings, loaded.config.thresholds)
    if folder is not None:
        write_evaluation(folder, result, loaded.sha256, split)
    return EvaluationResult(loaded.sha256, split, result, tuple(volumes.problems), folder)


def _columns_words(manifest: Manifest) -> str:
    """Which of the model's findings have a column, and which columns are not used."""
    known = len(manifest.findings) - len(manifest.unknown)
    words = f"Labels: {known} of the model's {len(manifest.findings)} findings have a column in {manifest.path.name}"
    if manifest.unused:
        more = ", ..." if len(manifest.unused) > 5 else ""
        words += f"; {len(manifest.unused)} columns are not used ({', '.join(manifest.unused[:5])[:200]}{more})"
    return words
