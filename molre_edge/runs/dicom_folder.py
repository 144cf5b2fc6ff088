"""The folder of a run's DICOM results. They name patients, so it is kept where ``scans.csv`` is kept."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from molre_edge.dicom_results.write import CAPTURE_SUFFIX, SR_SUFFIX, private_folder

__all__ = [
    "DICOM_FOLDER",
    "NO_DICOM_RESULT",
    "NO_DICOM_STUDY",
    "copy_dicom_files",
    "keep_dicom_files",
    "remove_dicom_files",
]

DICOM_FOLDER = "dicom"
"""In a run: its DICOM results. Files are named by the scans' ids."""
NO_DICOM_RESULT = "no_dicom_result"
"""The warning of a scan that was answered and whose results could not be made: the run ends with exit code 4."""
NO_DICOM_STUDY = "no_dicom_study"
"""The warning of a scan from NIfTI, which names no study. It is no failure."""


def remove_dicom_files(folder: Path, scan: str) -> None:
    """Remove the results of a scan."""
    for suffix in (SR_SUFFIX, CAPTURE_SUFFIX):
        (folder / f"{scan}{suffix}").unlink(missing_ok=True)


def keep_dicom_files(run: Path, scans: Iterable[str]) -> None:
    """Remove what an interrupted start left: results of scans that are not answered, and files half written."""
    known = set(scans)
    for path in (run / DICOM_FOLDER).glob("*.dcm"):  # hidden ones too, as files half written are
        if path.name.partition(".")[0] not in known:
            path.unlink(missing_ok=True)


def copy_dicom_files(sources: Sequence[Path], run: Path) -> None:
    """Bring the results of several runs into one folder.

    Args:
        sources: folders of the runs.
        run: folder that gets them.
    """
    for source in (path / DICOM_FOLDER for path in sources if (path / DICOM_FOLDER).is_dir()):
        private_folder(run / DICOM_FOLDER)
        for path in source.glob("scan-*.dcm"):
            target = run / DICOM_FOLDER / path.name
            target.unlink(missing_ok=True)
            try:
                os.link(path, target)
            except OSError:  # another file system
                shutil.copyfile(path, target)
                os.chmod(target, 0o600)
