"""The user's own model as named on the command line: ``FILE.py:function``, or a function of an importable module."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from molre_edge.errors import UsageError
from molre_edge.files import sha256_of

__all__ = ["ModelSpec", "is_model_spec", "parse_model_spec"]

_NAME = re.compile(r"[A-Za-z_]\w*")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


@dataclass(frozen=True)
class ModelSpec:
    """A function that the user named.

    Attributes:
        where: the file, absolute, or the module.
        function: the name in it.
        is_file: whether `where` is a file.
    """

    where: str
    function: str
    is_file: bool

    @property
    def name(self) -> str:
        """For messages and reports, without folders: ``mine.py:answer``."""
        return f"{Path(self.where).name if self.is_file else self.where}:{self.function}"

    @property
    def identity(self) -> str:
        """Differs if the file's content does: answers of two versions of a model are not mixed in one run."""
        return f"{sha256_of(Path(self.where)) if self.is_file else self.where}:{self.function}"


def is_model_spec(text: str) -> bool:
    """Whether a text names a function, as ``mine.py:answer`` and ``package.module:answer`` do."""
    where, colon, function = text.rpartition(":")
    return bool(colon and _NAME.fullmatch(function) and (where.endswith(".py") or _MODULE.fullmatch(where)))


def parse_model_spec(text: str) -> ModelSpec:
    """The function that a text names. Nothing is imported.

    Raises:
        UsageError: another form, or a file that is not there.
    """
    if not is_model_spec(text):
        raise UsageError(f"{text}: expected your model as FILE.py:function, or as module:function")
    where, _, function = text.rpartition(":")
    if not where.endswith(".py"):
        return ModelSpec(where, function, False)
    path = Path(where)
    if not path.is_file():
        raise UsageError(f"{text}: there is no file {where}. Name the Python file of your model, then its function")
    return ModelSpec(str(path.resolve()), function, True)
