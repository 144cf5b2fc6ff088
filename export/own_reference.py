"""An export whose golden answers are those of the user's own model, from the folder of ``molre-edge reference``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from molre_edge.bundle.golden import MAX_GOLDEN_BYTES
from molre_edge.bundle.golden_origin import note_problem
from molre_edge.errors import ConfigError, ExportError, OwnModelError, ParityFailedError, UsageError
from molre_edge.export.golden import MIN_GOLDEN
from molre_edge.files import write_json
from molre_edge.own_model.agreement import Agreement, agree
from molre_edge.own_model.answers import ANSWERS, OwnAnswers, read_answers
from molre_edge.own_model.inputs_folder import InputsFolder, open_inputs
from molre_edge.parity import Outputs, ParityLimits
from molre_edge.specs import Precision

if TYPE_CHECKING:
    from molre_edge.model.config import ModelConfig

__all__ = ["COMPARISON", "OwnReference", "check_note", "open_own_reference"]

COMPARISON = "comparison.json"
"""Written beside the answers: every finding, compared."""


@dataclass(frozen=True, eq=False)
class OwnReference:
    """The answers of the user's own model, and the scans that it answered.

    Attributes:
        inputs: the open folder.
        answers: of the own model.
        note: the user's words about where they come from.
        keep: how many of the scans become golden volumes; all of them are compared.
    """

    inputs: InputsFolder
    answers: OwnAnswers
    note: str
    keep: int

    def volumes(self) -> npt.NDArray[np.float16]:
        """All scans on the model's grid, float16 HU [n, slices, rows, cols].

        Raises:
            OwnModelError: a file is missing or altered, or there are too many scans for this memory.
        """
        count = len(self.inputs.scans)
        try:
            volumes = np.empty((count, *self.inputs.grid.shape), dtype=np.float16)
        except MemoryError as error:
            raise OwnModelError(
                f"{self.inputs.folder}: its {count} scans do not fit into memory. Run 'molre-edge reference' again "
                f"with fewer scans"
            ) from error
        for place, scan in enumerate(self.inputs.scans):
            volumes[place] = self.inputs.grid_volume(scan)
        return volumes

    def check(self, rebuild: Outputs, config: ModelConfig, limits: Mapping[Precision, ParityLimits]) -> Agreement:
        """Compare the rebuild of the checkpoint with the own model, and write ``comparison.json``.

        Raises:
            OwnModelError: other scans, findings or shapes, or an HU volume that was altered after it was written.
            ParityFailedError: the rebuild does not answer as the own model did; the message names what differs.
        """
        if self.answers.given == "hu":
            for scan in self.inputs.scans:
                self.inputs.check_hu(scan)
        agreement = agree(
            self.answers,
            rebuild,
            scans=[scan.scan for scan in self.inputs.scans],
            findings=config.findings,
            thresholds=config.thresholds,
            limits=limits[Precision.FP32],
        )
        path = self.inputs.folder / COMPARISON
        write_json(path, agreement.to_dict())
        if not agreement.passed:
            raise ParityFailedError(
                f"{agreement.message()}\nEvery finding is in {path}. No bundle was written. 'molre-edge reference "
                f"{self.inputs.folder} --explain --checkpoint CKPT' finds the first step that differs "
                f"(docs/guides/when-parity-fails.md)"
            )
        return agreement


def check_note(note: str | None, folder: Path | None) -> None:
    """Refuse a note without answers, and one that can't be stored.

    Raises:
        UsageError: either of these.
    """
    if note is not None and folder is None:
        raise UsageError("--reference-note says where the answers of --reference-answers come from; name their folder")
    if problem := note_problem(note or ""):
        raise UsageError(f"--reference-note: {problem}")


def open_own_reference(folder: Path, config: ModelConfig, *, note: str | None, keep: int | None) -> OwnReference:
    """Open the folder of ``molre-edge reference`` with the answers in it.

    Args:
        folder: its path.
        config: of the checkpoint.
        note: the user's words about where the answers come from.
        keep: golden volumes; None for all scans.

    Raises:
        OwnModelError: folder or answers are missing, damaged or altered.
        ConfigError: the inputs were written for another grid, or `keep` is below 2.
        ExportError: too few scans, or too many for a bundle.
    """
    if keep is not None and keep < MIN_GOLDEN:
        raise ConfigError(f"golden volumes: {keep}; expected at least {MIN_GOLDEN}")
    inputs, answers = open_inputs(folder), read_answers(folder / ANSWERS)
    inputs.check_grid(config.grid)
    if len(inputs.scans) < MIN_GOLDEN:
        raise ExportError(
            f"{folder}: {len(inputs.scans)} scan; expected at least {MIN_GOLDEN}, because the proof of dynamic routing "
            f"compares the gates of two scans. Run 'molre-edge reference' again with more scans"
        )
    kept = min(keep or len(inputs.scans), len(inputs.scans))
    size = 2 * kept * int(np.prod(config.grid.shape))
    if size > MAX_GOLDEN_BYTES:
        raise ExportError(
            f"{folder}: {kept} scans take {size / 1e9:.1f} GB as golden volumes; at most {MAX_GOLDEN_BYTES / 1e9:.1f} "
            f"GB fit into a bundle. Store fewer with --golden-volumes; all of them are still compared"
        )
    return OwnReference(inputs, answers, note or "", kept)
