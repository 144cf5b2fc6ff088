"""The choice of the reference: the PyTorch model where it is at hand, else its golden answers."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from molre_edge.bundle.bundle import Bundle
from molre_edge.errors import MissingDependencyError, RunError, UsageError
from molre_edge.files import sha256_of

__all__ = ["WORDS", "Reference", "choose_reference", "find_checkpoint"]

WORDS = ("auto", "golden", "none")
"""Choices of the reference besides a checkpoint's path."""


@dataclass(frozen=True)
class Reference:
    """What an engine is compared with.

    Attributes:
        kind: ``checkpoint``, ``golden`` or ``none``.
        why: a sentence for the user.
        checkpoint: the file, for ``checkpoint``.
    """

    kind: str
    why: str
    checkpoint: Path | None = None


def choose_reference(wish: str, bundle: Bundle, *, engine_is_reference: bool = False) -> Reference:
    """Choose by the user's wish.

    Args:
        wish: ``auto``, ``golden``, ``none`` or a checkpoint's path.
        bundle: the bundle that was exported from it.
        engine_is_reference: the engine is the PyTorch model itself, so ``auto`` takes the golden answers.

    Raises:
        UsageError: neither a word nor a file.
        RunError: a checkpoint of another model.
        MissingDependencyError: a checkpoint was asked for and torch or transformers is not installed.
    """
    if wish == "none":
        return Reference("none", "no reference was asked for: no parity is judged")
    if wish == "golden":
        return Reference("golden", "the bundle's golden answers, as asked for")
    missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if wish == "auto":
        if engine_is_reference:
            return Reference("golden", "the golden answers, since the engine is the PyTorch model itself")
        if missing:
            return Reference("golden", f"the golden answers, since {missing[0]} is not installed")
        found = find_checkpoint(bundle)
        if found is None:
            return Reference("golden", "the golden answers, since the checkpoint is not beside the bundle or here")
        return Reference("checkpoint", f"the PyTorch model of {found.name}", found)
    path = Path(wish)
    if not path.is_file():
        raise UsageError(
            f"--reference {wish}: no such file, and none of {', '.join(WORDS)}; give the checkpoint that the bundle "
            f"was exported from"
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
