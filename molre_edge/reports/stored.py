"""Reading a report.json of this version or of the one before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from molre_edge.parity.limits import limits_from
from molre_edge.reports.parity_report import REPORT_KIND, SCHEMA_VERSION

__all__ = ["read_report"]

_OLD_VERSION = 1
_NOTE = (
    f"report.json was written by an older version of molre-edge (schema_version {_OLD_VERSION}); the next version will "
    "not read it"
)


def read_report(data: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The content of a report.json under the names of this version. The only place that knows the old names.

    Version 1 has ``gate`` (with its ``source``) in place of ``limits`` and ``limits_source``. The verdict and numbers
    keep their old names; whoever needs them computes them again.

    Args:
        data: parsed JSON.

    Returns:
        A copy, in which ``limits`` is a :class:`~molre_edge.parity.ParityLimits` or ``None``; and notes for the reader.

    Raises:
        ValueError: it is not a report, or one of a version that can't be read.
        KeyError: a key is missing.
        ConfigError: the limits are invalid.
    """
    kind, version = data["kind"], data["schema_version"]
    if kind != REPORT_KIND or version not in (_OLD_VERSION, SCHEMA_VERSION):
        raise ValueError(
            f"expected '{REPORT_KIND}' with schema_version {SCHEMA_VERSION} or {_OLD_VERSION}, got '{kind}' with "
            f"{version!r}"
        )
    content = dict(data)
    if version == _OLD_VERSION:
        limits = content.pop("gate")
        content["limits_source"] = None if limits is None else limits["source"]
        content["limits"] = limits and {key: value for key, value in limits.items() if key != "source"}
    notes: tuple[str, ...] = (_NOTE,) if version == _OLD_VERSION else ()
    if content["limits"] is not None:
        content["limits"], more = limits_from(content["limits"], strict=False)
        notes = notes or more  # the note on an old file says enough of its old names
    return content, notes
