"""Safetensors files of unknown origin: the header is bounded and checked first, tensors are read by the library."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from molre_edge.regular import handle_path, open_regular
from molre_edge.safetensors_header import SafetensorsHeader, read_header

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["SafetensorsFile", "open_safetensors"]


@dataclass(frozen=True)
class SafetensorsFile:
    """An open file.

    Attributes:
        header: its names, shapes and metadata.
        file: the open file, for its size and hash.
    """

    header: SafetensorsHeader
    file: BinaryIO
    _library: Any

    def tensor(self, name: str) -> Tensor:
        """One tensor, read from the file."""
        return self._library.get_tensor(name)  # type: ignore[no-any-return]


@contextlib.contextmanager
def open_safetensors(path: Path) -> Iterator[SafetensorsFile]:
    """Open a safetensors file.

    Raises:
        ValueError: it is not a whole safetensors file, or it breaks a limit; the message is the reason alone.
        OSError: it can't be opened, or is not a regular file.
    """
    from safetensors import SafetensorError, safe_open

    with open_regular(path) as file:
        header = read_header(file)
        try:
            with safe_open(handle_path(file, path), framework="pt") as library:
                yield SafetensorsFile(header, file, library)
        except SafetensorError as error:
            raise ValueError(str(error)) from error
