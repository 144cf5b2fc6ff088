"""Parity limits as a verb takes them: a file, values, or none."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from molre_edge.errors import ConfigError
from molre_edge.parity import DEFAULT_LIMITS, ParityLimits, load_limits
from molre_edge.progress import SILENT, Progress
from molre_edge.specs import Precision

__all__ = ["Limits", "UserLimits", "read_limits"]

Limits = str | os.PathLike[str] | Mapping[Any, Any] | None
"""Parity limits as a verb takes them: a TOML file, values by precision, or None for the defaults."""


class UserLimits(dict[Precision, ParityLimits]):
    """Limits by precision that the user gave.

    Attributes:
        source: where they came from, for reports.
    """

    source: str = "default"


def read_limits(limits: Limits, progress: Progress = SILENT) -> UserLimits | None:
    """Limits that the user gave, by precision; None if there are none.

    Args:
        limits: a TOML file as of :func:`molre_edge.parity.load_limits`; or a mapping from precision to
            :class:`ParityLimits`, or to the limits that differ from the default. Precisions that are not named keep
            their defaults.
        progress: receives a warning for each former name of a limit.

    Raises:
        ConfigError: not readable, an unknown precision or limit, or a value out of range.
    """
    if limits is None:
        return None
    if not isinstance(limits, Mapping):
        path = Path(limits)
        read = UserLimits(load_limits(path, progress=progress))
        read.source = f"--limits {path.name}"
        return read
    read = UserLimits(DEFAULT_LIMITS)
    read.source = "given as values"
    for word, value in limits.items():
        try:
            precision = Precision(str(word))
        except ValueError as error:
            known = ", ".join(precision.value for precision in Precision)
            raise ConfigError(f"limits: unknown precision {word!r}, expected {known}") from error
        try:
            read[precision] = value if isinstance(value, ParityLimits) else replace(DEFAULT_LIMITS[precision], **value)
        except TypeError as error:
            raise ConfigError(f"limits of {precision}: expected ParityLimits or limits by name ({error})") from error
    return read
