"""The choice of the reference: the PyTorch model where it is at hand, else its golden answers."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from molre_edge.bundle.bundle import Bundle
from molre_edge.errors import MissingDependencyError, RunError, UsageError
from molre_edge.files import sha256_of
from molre_edge.own_model.spec import ModelSpec, is_model_spec, parse_model_spec

__all__ = ["WORDS", "Reference", "choose_reference", "find_checkpoint"]

WORDS = ("auto", "golden", "none")
"""Choices of the reference besides a checkpoint's path and the user's own model."""


@dataclass(frozen=True)
class Reference:
    """What an engine is compared with.

    Attributes:
        kind: ``checkpoint``, ``own model``, ``golden`` or ``none``.
        why: a sentence for the user.
        checkpoint: the file, for ``checkpoint``.
        own: the user's own function, for ``own model``.
    """

    kind: str
    why: str
    checkpoint: Path | None = None
    own: ModelSpec | None = None

    @property
    def identity(self) -> str:
        """What a run that continues must have in common with its start."""
        return self.kind if self.own is None else f"{self.kind} {self.own.identity}"


def choose_reference(wish: str, bundle: Bundle, *, engine_is_reference: bool = False) -> Reference:
    """Choose by the user's wish.

    Args:
        wish: ``auto``, ``golden``, ``none``, a checkpoint's path, or the user's own model as ``FILE.py:function``.
        bundle: the bundle that was exported from it.
        engine_is_reference: the engine is the PyTorch model itself, so ``auto`` takes the golden answers.

    Raises:
        UsageError: neither a word nor a file, or no file of the user's own model.
        RunError: a checkpoint of another model.
        MissingDependencyError: a checkpoint was asked for and torch or transformers is not installed.
    """
    if wish == "none":
        return Reference("none", "no reference was asked for: no parity is judged")
    if wish == "golden":
        return Reference("golden", "the bundle's golden answers, as asked for")
    missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if wish == "auto":
        if bundle.own_golden is not None:
            why = f"the bundle's golden answers, which your own model gave ({bundle.own_golden.file})"
            return Reference("golden", why)
        if engine_is_reference:
            return Reference("golden", "the golden answers, since the engine is the PyTorch model itself")
        if missing:
            return Reference("golden", f"the golden answers, since {missing[0]} is not installed")
        found = find_checkpoint(bundle)
        if found is None:
            return Reference("golden", "the golden answers, since the checkpoint is not beside the bundle or here")
        return Reference("checkpoint", f"the PyTorch model of {found.name}", found)
    path = Path(wish)
    if not path.is_file() and is_model_spec(wish):
        own = parse_model_spec(wish)
        return Reference("own model", f"your own model, {own.name}", own=own)
    if not path.is_file():
        raise UsageError(
            f"--reference {wish}: no such file, and none of {', '.join(WORDS)}; give the checkpoint that the bundle "
            f"was exported from, or your own model as FILE.py:function"
        )
    if missing:
        raise MissingDependencyError("The PyTorch reference", missing[0], "export")
    digest = sha256_of(path)
    if digest != bundle.checkpoint_sha256:
        raise RunError(
            f"{path}: is not the checkpoint that the bundle was exported from (its SHA-256 is {digest[:12]}..., the "
            f"manifest has {bundle.checkpoint_sha256[:12]}...); name that one, or take --reference golden"
        )
    return Reference("checkpoint", f"the PyTorch model of {path.name}", path)


def find_checkpoint(bundle: Bundle) -> Path | None:
    """The checkpoint with the manifest's SHA-256, beside the bundle or in the current folder."""
    for path in _candidates(bundle):
        try:
            if sha256_of(path) == bundle.checkpoint_sha256:
                return path
        except OSError:
            continue
    return None


def _candidates(bundle: Bundle) -> Iterator[Path]:
    seen = set()
    for folder in (bundle.folder.resolve().parent, Path.cwd()):
        for path in sorted([*folder.glob("*.pt"), *folder.glob("*.safetensors")]):
            if path not in seen and path.is_file():
                seen.add(path)
                yield path
