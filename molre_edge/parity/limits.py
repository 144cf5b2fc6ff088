"""Parity limits: how far an engine may be from the reference.

Limits hold nothing measured: :mod:`molre_edge.parity.numbers` measures, and :mod:`molre_edge.parity.verdict` compares
the numbers with the limits.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from molre_edge.errors import ConfigError
from molre_edge.files import read_regular
from molre_edge.progress import SILENT, Progress
from molre_edge.specs import Precision

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found, unused-ignore]  # installed on 3.10 only

__all__ = ["DEFAULT_LIMITS", "ParityLimits", "limits_by_precision", "limits_from", "load_limits"]

_RANGES = {
    "max_abs_dp": (0.0, 1.0),
    "max_abs_dlogit": (0.0, 1000.0),
    "flip_margin_logit": (0.0, 1000.0),
    "max_far_flips_fraction": (0.0, 1.0),
    "max_flips_fraction": (0.0, 1.0),
    "min_cosine": (-1.0, 1.0),
    "max_routing_l1": (0.0, 2.0),
    "max_attention_l1": (0.0, 2.0),
    "max_mean_auc_drop": (0.0, 1.0),
    "max_finding_auc_drop": (0.0, 1.0),
}
_OLD_NAMES = {"max_gate_l1": "max_routing_l1"}
_OLD_MARGIN = "flip_margin"
"""Replaced by ``flip_margin_logit``. It was a probability, of which a margin in logits is four times as much at 0.5."""
_LOGITS_PER_P = 4.0
_OFF = "off"
_MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class ParityLimits:
    """How far an engine may be from the reference. A limit of ``None`` is not judged.

    Attributes:
        name: shown in reports.
        max_abs_dp: largest absolute difference of a probability, over all scans and findings.
        max_abs_dlogit: largest absolute difference of a logit; wider for a saturated one, see
            :mod:`molre_edge.parity.logits`.
        flip_margin_logit: a decision flip is far if the logit of the reference or of the engine lies farther than this
            from the threshold's logit; wider for a saturated threshold.
        max_far_flips_fraction: far flips, as a fraction of scans times findings.
        max_flips_fraction: flips at any distance, as a fraction of scans times findings. Those whose reference lies on
            the threshold are left out. Unless this is 0, a single flip is always allowed.
        min_cosine: smallest cosine between the embeddings of a scan.
        max_routing_l1: largest L1 distance between two gate vectors (sum over experts; from 0 to 2).
        max_mean_auc_drop: AUC of the reference minus AUC of the engine, mean over the findings with labels.
        max_finding_auc_drop: the same for the worst finding.
        max_attention_l1: largest L1 distance between a scan's weights of the slices (sum over slices; from 0 to 2).
    """

    name: str
    max_abs_dp: float | None = None
    max_abs_dlogit: float | None = None
    flip_margin_logit: float = 0.0
    max_far_flips_fraction: float | None = None
    max_flips_fraction: float | None = None
    min_cosine: float | None = None
    max_routing_l1: float | None = None
    max_mean_auc_drop: float | None = None
    max_finding_auc_drop: float | None = None
    max_attention_l1: float | None = None

    def __post_init__(self) -> None:
        """Refuse limits that are out of range, and limits that are all off.

        Raises:
            ConfigError: the message names the limit and its range.
        """
        if not isinstance(self.name, str) or not self.name:
            raise ConfigError(f"name of the limits: expected a text, got {self.name!r}")
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is None and name != "flip_margin_logit":
                continue
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not low <= value <= high:  # nan is in no range
                raise ConfigError(
                    f"limits '{self.name}', {name}: expected a number from {low:g} to {high:g}, got {value!r}"
                )
        if all(getattr(self, name) is None for name in _RANGES if name != "flip_margin_logit"):
            raise ConfigError(f"limits '{self.name}': every limit is off, so nothing would be judged; set at least one")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


DEFAULT_LIMITS: dict[Precision, ParityLimits] = {
    Precision.FP32: ParityLimits("fp32", 1e-4, 4e-4, 4e-4, 0.0, 0.001, 0.9999, 1e-3, 1e-4, 0.001, 1e-3),
    Precision.FP16: ParityLimits("fp16", 0.01, 0.04, 0.04, 0.0, 0.01, 0.999, 0.01, 0.001, 0.005, 0.01),
    Precision.INT8: ParityLimits("int8", 0.05, 0.2, 0.2, 0.0, 0.005, 0.99, 0.05, 0.005, 0.01, 0.05),
    Precision.FP8: ParityLimits("fp8", 0.05, 0.2, 0.2, 0.0, 0.005, 0.99, 0.05, 0.005, 0.01, 0.05),
}
"""The default limits; docs/concepts/parity.md gives the reason for each number."""


def limits_from(
    data: Mapping[str, Any], *, missing: ParityLimits | None = None, strict: bool = True
) -> tuple[ParityLimits, tuple[str, ...]]:
    """Limits from plain data, such as :meth:`ParityLimits.to_dict` returns. The only reader of stored limits.

    Names of the version before this one are read too.

    Args:
        data: as stored in a bundle's manifest or in a report.
        missing: a limit that the data does not have, since an older version wrote it, is taken from here. By default
            it is off.
        strict: refuse unknown keys, which a later version may have written. Otherwise drop them with a note.

    Returns:
        The limits, and a sentence about each old name and each dropped key.

    Raises:
        ConfigError: a key is unknown or missing, is there under its old name too, or has an impossible value.
    """
    content, notes = _with_new_names(data)
    names = [field.name for field in fields(ParityLimits)]
    unknown = [key for key in content if key not in names]
    if unknown and strict:
        raise ConfigError(f"limits: unknown key '{unknown[0]}', expected {', '.join(names)}")
    for key in unknown:
        del content[key]
        notes = (*notes, f"'{key}' is a limit that this version does not know, so it is not judged")
    if "name" not in content:
        raise ConfigError("limits: the key 'name' is missing")
    return replace(missing, **content) if missing else ParityLimits(**content), notes


def load_limits(path: Path | str, *, progress: Progress = SILENT) -> dict[Precision, ParityLimits]:
    """Limits from a TOML file with the tables ``[fp32]``, ``[fp16]``, ``[int8]`` and ``[fp8]``.

    A limit that the file does not name keeps its default; the text ``"off"`` turns a limit off.

    Args:
        path: the file, UTF-8.
        progress: receives a warning for each old name in the file.

    Raises:
        ConfigError: the file can't be read, is not TOML, or has an unknown table, an unknown key or a wrong value.
    """
    path = Path(path)
    try:
        data = tomllib.loads(
            read_regular(path, largest=_MAX_BYTES).decode("utf-8-sig")
        )  # some editors write a byte order mark
    except OSError as error:
        raise ConfigError(f"{path.name}: can't be read: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name}: not a TOML file: {error}") from error
    tables = [precision.value for precision in Precision]
    for table, content in data.items():
        if table not in tables:
            raise ConfigError(f"{path.name}: unknown table [{table}], expected {', '.join(tables)}")
        if not isinstance(content, dict):
            raise ConfigError(f"{path.name}: {table}: expected a table [{table}], got {content!r}")
    limits = dict(DEFAULT_LIMITS)
    for precision, default in DEFAULT_LIMITS.items():
        limits[precision] = _changed(default, data.get(precision.value, {}), f"{path.name}: [{precision}]", progress)
    return limits


def _changed(default: ParityLimits, table: Mapping[str, Any], where: str, progress: Progress) -> ParityLimits:
    """The default limits with the changes of one table of a file."""
    names = [field.name for field in fields(ParityLimits)]
    try:
        content, notes = _with_new_names(table)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    for note in notes:
        progress.warn(f"{where}: {note}")
    for key in content:
        if key not in names:
            raise ConfigError(f"{where} has an unknown key '{key}', expected {', '.join(names)}")
    changes: dict[str, Any] = {key: None if value == _OFF else value for key, value in content.items()}
    try:
        return replace(default, **changes)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _with_new_names(data: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A copy of limits under their present names, and a sentence about each old name."""
    content, notes = dict(data), []
    for old, new in _OLD_NAMES.items():
        if old not in content:
            continue
        if new in content:
            raise ConfigError(f"'{old}' is the old name of '{new}', and both are set; remove '{old}'")
        content[new] = content.pop(old)
        notes.append(f"'{old}' is the old name of '{new}'; rename it, the next version will not read it")
    if _OLD_MARGIN in content:
        notes.append(_replace_old_margin(content))
    return content, tuple(notes)


def limits_by_precision(
    given: str | os.PathLike[str] | Mapping[Precision, ParityLimits] | None,
    *,
    progress: Progress = SILENT,
) -> dict[Precision, ParityLimits]:
    """The limits of each precision, as a verb's argument gives them.

    Args:
        given: a TOML file, or limits by precision; a precision that is not named keeps its default. None for the
            defaults.
        progress: receives a warning for each old name in the file.

    Raises:
        ConfigError: the file is invalid.
    """
    if given is None:
        return dict(DEFAULT_LIMITS)
    if isinstance(given, Mapping):
        return {**DEFAULT_LIMITS, **{Precision(name): limits for name, limits in given.items()}}
    return load_limits(Path(given), progress=progress)


def _replace_old_margin(content: dict[str, Any]) -> str:
    """Put the present limits on flips in place of the old margin, a probability; returns a sentence about it.

    The old ``max_flips_fraction`` limited the flips beyond the margin, and with a margin of 0 those at any distance.
    """
    for new in ("flip_margin_logit", "max_far_flips_fraction"):
        if new in content:
            raise ConfigError(f"'{_OLD_MARGIN}' was replaced by '{new}', and both are set; remove '{_OLD_MARGIN}'")
    margin = content.pop(_OLD_MARGIN)
    if isinstance(margin, bool) or not isinstance(margin, int | float) or not 0.0 <= margin <= 1.0:
        raise ConfigError(f"{_OLD_MARGIN}: expected a number from 0 to 1, got {margin!r}")
    later = "the next version will not read it"
    if margin == 0 and "max_flips_fraction" in content:
        return f"'{_OLD_MARGIN}' is not needed: max_flips_fraction counts flips at any distance; remove it, {later}"
    content["flip_margin_logit"] = _LOGITS_PER_P * margin
    if "max_flips_fraction" in content:
        content["max_far_flips_fraction"] = content.pop("max_flips_fraction")
    return f"'{_OLD_MARGIN}' is read as flip_margin_logit = {_LOGITS_PER_P * margin:g}; replace it, {later}"
