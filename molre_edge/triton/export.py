"""The verb ``export_triton``: a bundle as a model repository for Triton Inference Server."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from molre_edge import __version__
from molre_edge.bundle.bundle import Bundle
from molre_edge.errors import BundleError, UsageError
from molre_edge.files import StrPath, replace_folder
from molre_edge.locks import hold
from molre_edge.progress import SILENT, Progress
from molre_edge.signing.trust import trust_of
from molre_edge.specs import DEFAULT_BUNDLE, DISCLAIMER, Precision, parse_engine
from molre_edge.triton.bundle_copy import copy_bundle
from molre_edge.triton.config import CONFIG_FILE
from molre_edge.triton.forms import BUNDLE, MODEL_SCRIPT, VERSION, onnx_model, plan_model, python_model
from molre_edge.triton.script import SCRIPT, SCRIPT_FILE

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "FORMS",
    "RECORD",
    "ModelForm",
    "TritonModel",
    "TritonRepository",
    "export_triton",
]

ModelForm: TypeAlias = Literal["python", "onnx", "plan"]
FORMS: tuple[ModelForm, ...] = get_args(ModelForm)
"""Who computes: molre-edge within Triton's Python backend, Triton's ONNX Runtime, or Triton's TensorRT."""

RECORD = "molre-edge.json"
FORMAT, FORMAT_VERSION = "molre-edge-triton", 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_MAX_BATCH = 1024
_MAX_DELAY_MS = 60_000


@dataclass(frozen=True)
class TritonModel:
    """One model of a repository.

    Attributes:
        name: by which clients ask for it.
        form: ``python``, ``onnx`` or ``plan``.
        precision: of the graph or engine.
        max_batch: most volumes in a call.
        files: SHA-256 of its files, by their path in the repository.
    """

    name: str
    form: ModelForm
    precision: Precision
    max_batch: int
    files: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**vars(self), "precision": str(self.precision), "files": dict(self.files)}


@dataclass(frozen=True)
class TritonRepository:
    """A model repository as it was written.

    Attributes:
        folder: for ``tritonserver --model-repository``.
        digest: of the bundle.
        models: in the order of their forms.
    """

    folder: Path
    digest: str
    models: tuple[TritonModel, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, as ``molre-edge export-triton --json`` prints it."""
        models = [model.to_dict() for model in self.models]
        return {"repository": str(self.folder), "digest": self.digest, "models": models, "disclaimer": DISCLAIMER}


@dataclass(frozen=True)
class _Wanted:
    """What the caller asked for, checked."""

    forms: tuple[ModelForm, ...]
    engine: str
    precision: Precision
    name: str
    max_batch: int
    max_delay_us: int
    threads: int | None


def export_triton(
    folder: StrPath,
    bundle: StrPath = DEFAULT_BUNDLE,
    *,
    forms: Sequence[str] = ("python",),
    engine: str = "fp16",
    name: str = "molre",
    max_batch: int = 8,
    max_delay_ms: float = 5.0,
    threads: int | None = None,
    expect_digest: str | None = None,
    trust: Sequence[StrPath] | None = None,
    progress: Progress = SILENT,
) -> TritonRepository:
    """Write a bundle as a model repository for Triton Inference Server; docs/guides/triton.md shows how it is served.

    Args:
        folder: to write, new or empty. It appears complete at the end, or not at all.
        bundle: folder of the bundle.
        forms: the models to write, ``<name>-<form>`` each. ``python``: molre-edge answers, in Triton's Python backend,
            with all of the bundle's adapters. ``onnx``: the graph, for Triton's ONNX Runtime. ``plan``: the engine that
            ``build_engine(..., target="here")`` left in the bundle, for Triton's TensorRT.
        engine: as in ``infer_scans``, without ``torch``; a runtime before the precision counts for ``python`` alone.
        name: what the models' names begin with.
        max_batch: most volumes in a call, 1 to 1024; a plan takes no more than its engine was built for.
        max_delay_ms: how long a request waits for others to share a call, in milliseconds.
        threads: CPU threads of ONNX Runtime for ``python``. Default: all cores.
        expect_digest: refuse a bundle with another digest.
        trust: public keys, one of which must have signed the bundle's release; None for those configured here.
        progress: receives events.

    Raises:
        UsageError: an unknown form or engine, or values out of range.
        BundleError: the bundle is missing, altered or not the expected one, has no such graph or engine, or `folder`
            exists already.
        SigningError: the bundle, an adapter or the engine is not signed as `trust` asks.
        AdapterError: an adapter does not fit the bundle's list.
        InUseError: another process writes `folder`.
    """
    wanted = _checked(forms, engine, name, max_batch, max_delay_ms, threads)
    progress.step("reading the bundle")
    opened = Bundle.open(Path(bundle), expect_digest=expect_digest, trust=trust_of(trust))
    opened.graph(wanted.precision)
    place = Path(folder)
    _check_free(place)
    with hold(place, "molre-edge export-triton"):
        _check_free(place)  # again: another process may have written it in between
        with replace_folder(place.resolve()) as partial:
            models = tuple(_write(partial, opened, form, wanted, progress) for form in wanted.forms)
            (partial / SCRIPT_FILE).write_text(SCRIPT, encoding="utf-8")
            _write_record(partial / RECORD, opened, wanted, models)
    return TritonRepository(place, opened.digest, models)


def _checked(
    forms: Sequence[str], engine: str, name: str, max_batch: int, max_delay_ms: float, threads: int | None
) -> _Wanted:
    chosen = tuple(form for form in FORMS if form in forms)
    unknown = sorted(set(forms) - set(FORMS))
    if unknown or not chosen:
        raise UsageError(f"form {', '.join(unknown) or '(none)'}: expected one or more of {', '.join(FORMS)}")
    runtime, precision = parse_engine(engine)
    if runtime == "torch":
        raise UsageError("engine torch: a server needs an engine that a bundle has. Name a precision, such as fp16")
    if not _NAME.fullmatch(name):
        raise UsageError(f"name {name!r}: expected at most 64 letters, digits, '-' and '_', a letter or digit first")
    if not 1 <= max_batch <= _MAX_BATCH:
        raise UsageError(f"largest batch {max_batch}: expected 1 to {_MAX_BATCH} volumes")
    if not 0 <= max_delay_ms <= _MAX_DELAY_MS:
        raise UsageError(f"largest delay {max_delay_ms} ms: expected 0 to {_MAX_DELAY_MS}")
    if threads is not None and threads < 1:
        raise UsageError(f"threads {threads}: expected 1 or more")
    return _Wanted(chosen, engine, precision, name, max_batch, round(max_delay_ms * 1000), threads)


def _check_free(place: Path) -> None:
    if place.exists() and not (place.is_dir() and not any(place.iterdir())):
        raise BundleError(f"{place}: exists already. Expected a new or empty folder: choose another, or remove it")


def _write(folder: Path, bundle: Bundle, form: ModelForm, wanted: _Wanted, progress: Progress) -> TritonModel:
    """Write the folder of one model."""
    progress.step(f"writing the {form} form")
    name = f"{wanted.name}-{form}"
    inside = folder / name / VERSION
    inside.mkdir(parents=True)
    if form == "python":
        model = python_model(
            bundle, name, wanted.engine, wanted.precision, wanted.max_batch, wanted.max_delay_us, wanted.threads
        )
        (inside / "model.py").write_text(MODEL_SCRIPT, encoding="utf-8")
        copy_bundle(bundle, inside / BUNDLE, wanted.precision)
    elif form == "onnx":
        model, content = onnx_model(bundle, name, wanted.precision, wanted.max_batch, wanted.max_delay_us)
        (inside / "model.onnx").write_bytes(content)
    else:
        model, content = plan_model(bundle, name, wanted.precision, wanted.max_batch, wanted.max_delay_us)
        (inside / "model.plan").write_bytes(content)
    (folder / name / CONFIG_FILE).write_text(model.text(), encoding="utf-8")
    return TritonModel(name, form, wanted.precision, model.max_batch, _hashes(folder, folder / name))


def _hashes(root: Path, folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _write_record(path: Path, bundle: Bundle, wanted: _Wanted, models: Sequence[TritonModel]) -> None:
    """What the repository was made from, for people and for the replay."""
    signed = None if bundle.signed is None else bundle.signed.to_dict()
    data = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "tool": {"molre-edge": __version__},
        "bundle": {
            "name": bundle.folder.resolve().name,
            "digest": bundle.digest,
            "checkpoint_sha256": bundle.checkpoint_sha256,
            "graph": bundle.graph(wanted.precision).file,
            "graph_sha256": bundle.manifest["files"][bundle.graph(wanted.precision).file],
            "signed": signed,
        },
        "models": [model.to_dict() for model in models],
        "disclaimer": DISCLAIMER,
    }
    path.write_text(json.dumps(data, indent=2, allow_nan=False) + "\n", encoding="utf-8")
