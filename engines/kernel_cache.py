"""The folder in which ONNX Runtime's TensorRT-RTX plug-in keeps what it compiled for a GPU, hashed by us.

It lies in the bundle beside the engines, outside of what the manifest hashes. The plug-in itself reads and writes the
files. So a list of their SHA-256 is written when a runner closes, and a folder that differs from its list, such as one
of a process that was killed, is emptied before the next runner uses it: that costs a compilation.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path

from molre_edge.bundle.engine_files import ENGINES
from molre_edge.files import read_regular, sha256_of, write_whole
from molre_edge.specs import Precision

__all__ = ["KernelCache"]

_MAX_LIST_BYTES = 1 << 20


class KernelCache:
    """The folder for one GPU, one version of the plug-in and one precision.

    Attributes:
        folder: ``engines/onnxruntime-rtx-fp16-nvidiartxa2000-0.5.0``.
    """

    def __init__(self, bundle: Path, precision: Precision, gpu: str, version: str) -> None:
        """Nothing is read or written yet.

        Args:
            bundle: its folder.
            precision: of the graph: the plug-in names files by the graph's structure.
            gpu: its name.
            version: of the plug-in.
        """
        name = re.sub(r"[^a-z0-9]", "", gpu.lower())
        self.folder = bundle / ENGINES / f"onnxruntime-rtx-{precision}-{name}-{version}"
        self._list = self.folder.parent / f"{self.folder.name}.sha256"

    def open(self) -> Path | None:
        """The folder, with no file in it but those of its list; None if the bundle can't hold one."""
        parent = self.folder.parent
        if parent.is_symlink() or self.folder.is_symlink() or not os.access(parent.parent, os.W_OK):
            return None
        try:
            if self.folder.exists() and self._hashes() != self._listed():
                shutil.rmtree(self.folder)
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            return None
        return self.folder if os.access(self.folder, os.W_OK) else None

    def close(self) -> None:
        """Write the list of what is in the folder now."""
        with contextlib.suppress(OSError):  # the next runner finds a difference, and compiles again
            content = self._hashes()
            if content and content != self._listed():
                with write_whole(self._list) as partial:
                    partial.write_bytes(content)

    def _hashes(self) -> bytes | None:
        """The list as it should be; None for a folder with a link, pipe or device in it."""
        lines = []
        for path in sorted(self.folder.rglob("*")):
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                return None
            if path.is_file():
                lines.append(f"{sha256_of(path)}  {path.relative_to(self.folder).as_posix()}\n")
        return "".join(lines).encode()

    def _listed(self) -> bytes:
        try:
            return read_regular(self._list, largest=_MAX_LIST_BYTES, links=False)
        except OSError:
            return b""
