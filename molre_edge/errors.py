"""Errors the user can fix. Anything else is a bug and keeps its traceback.

Standard library only: every layer imports this module.
"""

from __future__ import annotations

import reprlib
from typing import Any

__all__ = [
    "AdapterError",
    "BundleError",
    "CalibrationError",
    "CheckpointError",
    "ConfigError",
    "EngineError",
    "ExportError",
    "InUseError",
    "MissingDependencyError",
    "MolreEdgeError",
    "OwnModelError",
    "ParityFailedError",
    "RunError",
    "ScanError",
    "SigningError",
    "UsageError",
    "shown",
]


class MolreEdgeError(Exception):
    """An error the user can fix. The message says what is wrong, where, what was expected, and what to do next."""


class UsageError(MolreEdgeError):
    """A verb or command got arguments that do not exist or do not fit together. Nothing was started; exit code 2."""


class ConfigError(MolreEdgeError):
    """A configuration value is out of range, or a key is unknown."""


class CheckpointError(MolreEdgeError):
    """A checkpoint can't be read, has another format, or does not fit its own configuration."""


class BundleError(MolreEdgeError):
    """A bundle is missing, incomplete, altered, or of another format version."""


class AdapterError(MolreEdgeError):
    """An adapter can't be read, does not fit a bundle, graph, engine or model, or there is none of that name."""


class ExportError(MolreEdgeError):
    """An export was refused, because a check of the graph or its parity failed. The message names the check."""


class ParityFailedError(ExportError):
    """A graph's answers are outside its parity limits. The message names the checks that failed."""


class InUseError(MolreEdgeError):
    """Another process writes the same folder. The message names that process."""


class CalibrationError(MolreEdgeError):
    """An int8 or fp8 graph can't be made from these scans, or from this bundle."""


class EngineError(MolreEdgeError):
    """A runner can't be created, or does not fit this machine or this input."""


class OwnModelError(MolreEdgeError):
    """The user's own model, or the folder with its answers, can't be used as a reference."""


class RunError(MolreEdgeError):
    """A run can't start, continue or be resumed."""


class SigningError(MolreEdgeError):
    """A key or signature can't be used, or something is not signed as this machine wants it."""


class ScanError(MolreEdgeError):
    """One scan can't be used.

    Attributes:
        code: a stable word for the reason, such as ``not_ct`` or ``slices_missing``; docs/concepts/scans.md lists them.
    """

    def __init__(self, code: str, message: str) -> None:
        """Create the error.

        Args:
            code: a stable word for the reason, snake_case.
            message: what is wrong and what was expected, without any patient identifier or path.
        """
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[type[ScanError], tuple[str, str]]:
        """For pickle, which would leave out the code."""
        return type(self), (self.code, str(self))


class MissingDependencyError(MolreEdgeError):
    """An optional library is not installed."""

    def __init__(self, feature: str, library: str, extra: str) -> None:
        """Create the error, with the command that installs the library.

        Args:
            feature: what needs the library, as the start of a sentence ("Exporting a checkpoint").
            library: its name.
            extra: the extra of this package that installs it.
        """
        super().__init__(f"{feature} needs {library}, which is not installed: pip install 'molre-edge[{extra}]'")
        self.library = library
        self.extra = extra


def shown(value: Any) -> str:
    """A value for a message, at most one line, however long or nested it is."""
    brief = reprlib.Repr()
    brief.maxlevel, brief.maxstring = 2, 60
    return brief.repr(value)
