"""The verb ``write_reference_inputs``: scans as another program needs them to answer."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from molre_edge import __version__
from molre_edge.bundle.bundle import Bundle
from molre_edge.errors import MissingDependencyError, OwnModelError, ScanError
from molre_edge.files import StrPath, replace_folder, write_whole
from molre_edge.locks import hold
from molre_edge.own_model.answers import ANSWERS, write_answers
from molre_edge.own_model.inputs_folder import InputScan, InputsFolder
from molre_edge.own_model.process import MODEL_FAILED, OwnModel, OwnModelAnswer, OwnModelFailedError
from molre_edge.own_model.script import SCRIPT, SCRIPT_FILE
from molre_edge.own_model.spec import ModelSpec, parse_model_spec
from molre_edge.progress import SILENT, Progress
from molre_edge.scans import HeadVolume, ScanSource, ScanWarning, read_scan, resample
from molre_edge.scans.coarse import shrink
from molre_edge.scans.grid import head_centre_mm, head_range_mm, pixels_mm
from molre_edge.scans.head_place import find_head
from molre_edge.scans.workers.finder import find_apart
from molre_edge.scans.workers.prepare import guarded
from molre_edge.specs import DEFAULT_BUNDLE, DISCLAIMER, HEAD_AXES, Grid

__all__ = ["ReferenceInputs", "RejectedInput", "write_reference_inputs"]

_UNITS = "Hounsfield units"
_DIRECTIONS = {
    "S": "inferior to superior",
    "I": "superior to inferior",
    "P": "anterior to posterior",
    "A": "posterior to anterior",
    "L": "from the patient's right to left",
    "R": "from the patient's left to right",
}
_LOCKED = 0o700  # images of patients


@dataclass(frozen=True)
class RejectedInput:
    """A scan that can't be used: path, stable code and reason. The path may carry the name of a patient."""

    path: Path
    code: str
    reason: str


@dataclass(frozen=True)
class ReferenceInputs:
    """What another program needs to answer the same scans.

    Attributes:
        folder: with ``inputs.json``, ``hu/``, ``grid/`` and ``answer_scans.py``.
        scans: names of the scans in it.
        rejected: scans that can't be used, with the reason.
    """

    folder: Path
    scans: tuple[str, ...]
    rejected: tuple[RejectedInput, ...]

    @property
    def answers(self) -> Path | None:
        """``answers.npz``, if your model answered; else it is yours to write."""
        path = self.folder / ANSWERS
        return path if path.is_file() else None

    @property
    def exit_code(self) -> int:
        """4 if some scans can't be used, else 0."""
        return 4 if self.rejected else 0

    def to_dict(self) -> dict[str, Any]:
        """Plain data: what ``reference --json`` prints."""
        return {
            "folder": str(self.folder),
            "scans": list(self.scans),
            "answers": None if self.answers is None else str(self.answers),
            "rejected": [{**asdict(each), "path": str(each.path)} for each in self.rejected],
            "exit_code": self.exit_code,
            "disclaimer": DISCLAIMER,
        }


def write_reference_inputs(
    scans: StrPath,
    folder: StrPath,
    *,
    checkpoint: StrPath | None = None,
    bundle: StrPath = DEFAULT_BUNDLE,
    model: str | None = None,
    progress: Progress = SILENT,
) -> ReferenceInputs:
    """Write what another program needs to answer scans: paths, HU volumes, volumes on the model's grid, and a script.

    That program writes ``answers.npz`` into the folder, and ``export_checkpoint(..., reference_answers=folder)``
    compares. The folder holds images and paths of patients; only its user can enter it.

    Args:
        scans: a DICOM or NIfTI file, or a folder with any of them, at any depth.
        folder: to write, new or empty. It appears complete at the end, or not at all.
        checkpoint: gives the model's grid; None takes that of `bundle`.
        bundle: folder of a bundle, if no checkpoint is given.
        model: your own model as ``FILE.py:function``, which answers now, so that ``answers.npz`` is there at once. Its
            code is run, in a process of its own.
        progress: receives events.

    Raises:
        UsageError: `model` names no function of a file or module.
        OwnModelError: `folder` exists, no scan can be used, or `model` can't be loaded or does not answer by name.
        ScanError: `scans` does not exist.
        CheckpointError: the checkpoint can't be read.
        BundleError: the bundle can't be read.
        InUseError: another process writes `folder`.
        MissingDependencyError: a checkpoint is given and torch is not installed.
    """
    place = Path(folder)
    _check_free(place)
    spec = None if model is None else parse_model_spec(model)
    with hold(place, "molre-edge reference"):
        _check_free(place)  # again: another process may have written it in between
        return _written(Path(scans), place, checkpoint, bundle, spec, progress)


def _check_free(place: Path) -> None:
    if place.exists() and not (place.is_dir() and not any(place.iterdir())):
        raise OwnModelError(f"{place}: exists already. Choose another folder with -o, or remove it")


def _written(
    scans: Path,
    place: Path,
    checkpoint: StrPath | None,
    bundle: StrPath,
    spec: ModelSpec | None,
    progress: Progress,
) -> ReferenceInputs:
    progress.step("reading the model's grid")
    grid, findings = _model_of(checkpoint, bundle)
    progress.step("looking for scans")
    found = find_apart(scans)
    rejected = [RejectedInput(bad.path, bad.code, bad.reason) for bad in found.rejected]
    for each in rejected:
        progress.warn(f"{each.path.name} can't be used: {each.reason}")
    progress.warn("The folder will hold images and paths of patients: protect it as you protect the scans.")
    progress.step("scans")
    with contextlib.ExitStack() as stack:
        own = None if spec is None else stack.enter_context(OwnModel(spec, grid, findings))
        partial = stack.enter_context(replace_folder(place.resolve(), mode=_LOCKED))
        for part in ("hu", "grid"):
            (partial / part).mkdir(mode=_LOCKED)
        kept = _write_scans(partial, found.scans, grid, own, rejected, progress)
        inputs = InputsFolder(partial, grid, kept)
        failed = [each.reason for each in rejected if each.code == MODEL_FAILED]
        if not inputs.scans and failed:
            raise OwnModelError(f"your model answered no scan; of the first: {failed[0]}")
        if not inputs.scans:
            raise OwnModelError(f"{scans}: none of the scans can be used; 'molre-edge inspect {scans}' says why")
        _describe(inputs, rejected)
        with write_whole(partial / SCRIPT_FILE) as script:
            script.write_text(SCRIPT, encoding="utf-8")
    return ReferenceInputs(place, tuple(scan.scan for scan in kept), tuple(rejected))


def _model_of(checkpoint: StrPath | None, bundle: StrPath) -> tuple[Grid, tuple[str, ...]]:
    """Grid and findings of a checkpoint, else of a bundle."""
    if checkpoint is None:
        opened = Bundle.open(Path(bundle))
        return opened.grid, opened.findings
    try:
        from molre_edge.model.checkpoint_file import read_checkpoint_file
        from molre_edge.model.config import ModelConfig
    except ImportError as error:
        raise MissingDependencyError("Reading a checkpoint", str(error.name), "export") from error
    config = ModelConfig.from_dict(read_checkpoint_file(Path(checkpoint)).config)
    return config.grid, config.findings


def _write_scans(
    folder: Path,
    sources: Sequence[ScanSource],
    grid: Grid,
    own: OwnModel | None,
    rejected: list[RejectedInput],
    progress: Progress,
) -> tuple[InputScan, ...]:
    """Write the scans that can be used, and the answers of the user's own model if it is there."""
    kept: list[InputScan] = []
    answers: list[OwnModelAnswer] = []
    for done, source in enumerate(sources):
        progress.count(done, len(sources), "scans")
        written = _write_scan(folder, f"scan-{len(kept) + 1:04d}", source, grid)
        if isinstance(written, _Written) and own is not None:
            try:
                answers.append(own.answer(source, written.volume, written.warnings))
            except OwnModelFailedError as error:
                for name in (written.scan.hu, written.scan.grid):
                    (folder / name).unlink()
                written = ScanError(MODEL_FAILED, f"your model failed: {error}")
        if isinstance(written, ScanError):
            rejected.append(RejectedInput(source.path, written.code, str(written)))
            progress.warn(f"{source.path.name} can't be used: {written}")
        else:
            kept.append(written.scan)
            for warning in written.warnings:
                progress.warn(f"{written.scan.scan}: {warning.text}")
    if own is not None and answers:
        _write_answers(folder, own, tuple(scan.scan for scan in kept), answers)
    return tuple(kept)


def _write_answers(folder: Path, own: OwnModel, scans: tuple[str, ...], answers: Sequence[OwnModelAnswer]) -> None:
    kinds = {answer.kind for answer in answers}
    if len(kinds) > 1:
        raise OwnModelError(f"{own.name}: returned logits for some scans and probabilities for others")
    values = np.stack([answer.values for answer in answers])
    values = values.astype(min((answer.dtype for answer in answers), key=lambda kind: np.dtype(kind).itemsize))
    (kind,) = kinds
    write_answers(folder / ANSWERS, given=own.given, scans=scans, findings=own.findings, arrays={kind: values})


class _Written(NamedTuple):
    """A scan whose volumes are written; `volume` is that on the grid, float16 HU [slices, rows, cols]."""

    scan: InputScan
    volume: npt.NDArray[np.float16]
    warnings: tuple[ScanWarning, ...]


def _write_scan(folder: Path, name: str, source: ScanSource, grid: Grid) -> _Written | ScanError:
    """Read one scan and write both of its volumes; the reason if it can't be used."""

    def read() -> tuple[HeadVolume, npt.NDArray[np.float16], Mapping[str, Any]]:
        volume = read_scan(source)
        return volume, resample(volume, grid)[0], _field(volume, grid)

    result = guarded(read)
    if isinstance(result, ScanError):
        return result
    volume, on_grid, field = result
    units = {"units": np.array(_UNITS)}
    hu: dict[str, npt.NDArray[Any]] = {
        "hu": volume.hu.astype(np.float32),  # as read it may be int16, in which others overflow
        "positions_mm": volume.positions_mm,
        "thickness_mm": volume.thickness_mm,
        "pixel_mm": np.array(volume.pixel_mm),
    }
    pixels = pixels_mm(grid, volume.hu, volume.pixel_mm)
    fitted = {"volume": on_grid, "pixel_mm": np.array(pixels), **field}
    read_from = (
        dict.fromkeys(each.path for each in volume.sources) or source.files
    )  # of another series, if one was read
    scan = InputScan(
        scan=name,
        path=str(source.path.resolve()),
        files=tuple(str(file.resolve()) for file in read_from),
        hu_sha256=_save(folder / "hu" / f"{name}.npz", {**hu, **units, "axes": np.array(_axes(HEAD_AXES))}),
        grid_sha256=_save(folder / "grid" / f"{name}.npz", {**fitted, **units, "axes": np.array(_axes(grid.axes))}),
    )
    return _Written(scan, on_grid, volume.warnings)


def _field(volume: HeadVolume, grid: Grid) -> dict[str, npt.NDArray[np.float64]]:
    """Where the head lies in the volume: lower and upper end, and its centre along rows and cols, in mm."""
    coarse = shrink(volume)
    bottom, top = head_range_mm(volume, coarse, grid.height_mm)
    centre = head_centre_mm(coarse, find_head(coarse, grid.height_mm), bottom, top)
    return {"range_mm": np.array((bottom, top)), "centre_mm": np.array(centre)}


def _axes(letters: str) -> str:
    """Directions of slices, rows and cols, in words."""
    names = ("slices", "rows", "cols")
    return ", ".join(f"{name} {_DIRECTIONS[letter]}" for name, letter in zip(names, letters, strict=True))


def _save(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """Write an archive; returns its SHA-256."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # no name is one of its own options
    path.write_bytes(buffer.getvalue())
    return hashlib.sha256(buffer.getbuffer()).hexdigest()


def _describe(inputs: InputsFolder, rejected: list[RejectedInput]) -> None:
    inputs.write(
        {
            "molre_edge": __version__,
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "units": _UNITS,
            "axes": _axes(HEAD_AXES),
            "grid_axes": _axes(inputs.grid.axes),
            "rejected": [{**asdict(each), "path": str(each.path)} for each in rejected],
        }
    )
