"""What the demo runs on: its folder, synthetic scans, and heads to learn from."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import molre_edge
from molre_edge.errors import ConfigError, MissingDependencyError
from molre_edge.progress import SILENT, Progress

__all__ = [
    "CHECKPOINT",
    "DATA",
    "LEARNED",
    "PRETRAINED",
    "SCANS",
    "SCANS_TO_LEARN",
    "check_installed",
    "make_data",
    "make_scans",
    "prepare_folder",
]

CHECKPOINT = "ckpt.pt"
SCANS = "scans"
MARK = "DEMO.txt"
DATA = "data"
PRETRAINED = "backbone.pt"
_OURS = {MARK, CHECKPOINT, SCANS, DATA, PRETRAINED, "edge-bundle", "edge-runs"} | {
    f"{Path(name).stem}-training" for name in (CHECKPOINT, PRETRAINED)
}
_MARK_TEXT = """Everything in this folder was made by 'molre-edge demo' and is replaced by 'molre-edge demo --force'.
The scans are synthetic, and the model knows no patient: its answers mean nothing.
"""

_HEADS: tuple[tuple[str, ...], ...] = (
    (),
    ("acute_subdural_hematoma", "midline_shift"),
    ("intraparenchymal_hemorrhage",),
    ("acute_ischemic_infarct",),
    ("cerebral_atrophy", "small_vessel_ischemic_disease"),
    ("hydrocephalus", "ventricular_shunt_or_drain"),
    ("epidural_hemorrhage", "calvarial_fracture"),
    ("intra_axial_mass",),
)
LEARNED = (
    "acute_ischemic_infarct",
    "acute_subdural_hematoma",
    "cerebral_atrophy",
    "craniotomy_or_craniectomy",
    "hydrocephalus",
    "small_vessel_ischemic_disease",
)
"""What the trained demo model learns to find."""
SCANS_TO_LEARN = 240


def check_installed() -> None:
    """Say what is missing before anything is made.

    Raises:
        MissingDependencyError: a library of the extra ``export`` is not installed.
    """
    for name in ("torch", "transformers", "onnx", "onnxscript", "onnxsim"):
        if importlib.util.find_spec(name) is None:
            raise MissingDependencyError("The demo", name, "export")


def prepare_folder(folder: Path, *, force: bool) -> None:
    """Make an empty folder with a mark that it is a demo's; only what carries that mark is ever removed.

    Args:
        folder: a new one, an empty one, or an earlier demo's.
        force: remove the earlier demo.

    Raises:
        ConfigError: something is there already that must not be lost.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: is a file; name a folder for the demo")
    folder.mkdir(parents=True, exist_ok=True)
    there = {path.name for path in folder.iterdir()}
    # the names of a demo's parts are those of real work too: without the mark they are somebody's
    foreign = there if MARK not in there else there - _OURS
    if foreign:
        raise ConfigError(
            f"{folder}: holds {sorted(foreign)[0]}, which is not part of a demo. Move it away, or name another folder"
        )
    if there and not force:
        what = "a demo already" if (folder / "edge-runs" / "fp16" / "report.html").is_file() else "an unfinished demo"
        raise ConfigError(
            f"{folder}: holds {what}; 'molre-edge demo {folder} --force' makes it anew (and deletes all runs, engines "
            f"and graphs in it), or name another folder (make demo DEMO=other)"
        )
    for name in there - {MARK}:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    (folder / MARK).write_text(_MARK_TEXT, encoding="utf-8")


def make_scans(folder: Path) -> None:
    """Write synthetic head CT scans: DICOM series, one of them with a tilted gantry, and a NIfTI file."""
    from molre_edge.synthetic import make_head, write_dicom_series, write_nifti

    for i, findings in enumerate(_HEADS):
        head = make_head(100 + i, findings)
        name = f"head-{i + 1}"
        if i == len(_HEADS) - 1:
            write_nifti(head, folder / f"{name}.nii.gz")
        else:
            write_dicom_series(head, folder / name, tilt_degrees=12.0 if i == 1 else 0.0)


def make_data(folder: Path, progress: Progress = SILENT) -> None:
    """Write 240 synthetic heads, each of :data:`LEARNED` in three of ten, in ``train``, ``val`` and ``test``."""
    molre_edge.synthesize_scans(folder, scans=SCANS_TO_LEARN, findings=LEARNED, processes=None, progress=progress)
