"""Budgets: how far an engine may be from the reference.

A gate holds limits and nothing measured; :mod:`molre_edge.parity.numbers` measures, and
:mod:`molre_edge.parity.verdict` puts the two together. (The *router's* gates are outputs of the model; here a gate is
what a release has to pass.)
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
from molre_edge.specs import Precision

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found, unused-ignore]  # installed on 3.10 only

__all__ = ["DEFAULT_LIMITS", "ParityLimits", "limits_by_precision", "load_limits"]

_RANGES = {
    "max_abs_dp": (0.0, 1.0),
    "flip_margin": (0.0, 1.0),
    "max_flips_fraction": (0.0, 1.0),
    "min_cosine": (-1.0, 1.0),
    "max_gate_l1": (0.0, 2.0),
    "max_mean_auc_drop": (0.0, 1.0),
    "max_finding_auc_drop": (0.0, 1.0),
}
_OFF = "off"
_MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class ParityLimits:
    """A budget. A limit of ``None`` is not judged.

    Attributes:
        name: how reports call it.
        max_abs_dp: largest absolute difference of a probability, over all scans and findings.
        flip_margin: a decision flip counts when the reference's or the engine's probability lies farther than this
            from the threshold; 0 counts every flip.
        max_flips_fraction: flips that count, as a fraction of scans times findings.
        min_cosine: smallest cosine between the embeddings of a scan.
        max_gate_l1: largest L1 distance between two gate vectors (sum over experts; from 0 to 2).
        max_mean_auc_drop: AUC of the reference minus AUC of the engine, mean over the findings with labels.
        max_finding_auc_drop: the same for the worst finding.
    """

    name: str
    max_abs_dp: float | None = None
    flip_margin: float = 0.0
    max_flips_fraction: float | None = None
    min_cosine: float | None = None
    max_gate_l1: float | None = None
    max_mean_auc_drop: float | None = None
    max_finding_auc_drop: float | None = None

    def __post_init__(self) -> None:
        """Refuse limits out of range, and a gate that would judge nothing.

        Raises:
            ConfigError: with the name of the limit and its range.
        """
        if not isinstance(self.name, str) or not self.name:
            raise ConfigError(f"gate name: expected a text, got {self.name!r}")
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is None and name != "flip_margin":
                continue
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not low <= value <= high:  # nan is in no range
                raise ConfigError(
                    f"gate {self.name}, {name}: expected a number from {low:g} to {high:g}, got {value!r}"
                )
        if all(getattr(self, name) is None for name in _RANGES if name != "flip_margin"):
            raise ConfigError(f"gate {self.name}: every limit is off, so it would judge nothing")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


DEFAULT_LIMITS: dict[Precision, ParityLimits] = {
    Precision.FP32: ParityLimits("fp32", 1e-4, 1e-4, 0.0, 0.9999, 1e-3, 1e-4, 0.001),
    Precision.FP16: ParityLimits("fp16", 0.01, 0.01, 0.0, 0.999, 0.01, 0.001, 0.005),
    Precision.INT8: ParityLimits("int8", 0.05, 0.0, 0.005, 0.99, 0.05, 0.005, 0.01),
}
"""The default gates; docs/parity.md says where each number comes from."""


def load_limits(path: Path | str) -> dict[Precision, ParityLimits]:
    """Gates from a TOML file with tables ``[fp32]``, ``[fp16]`` and ``[int8]``.

    What the file does not name keeps its default; the text ``"off"`` means that a limit is not judged.

    Args:
        path: the file, UTF-8.

    Raises:
        ConfigError: the file can't be read, is not TOML, or names an unknown table or key.
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
    tables, keys = [precision.value for precision in Precision], [field.name for field in fields(ParityLimits)]
    for table, content in data.items():
        if table not in tables:
            raise ConfigError(f"{path.name}: unknown table [{table}], expected {', '.join(tables)}")
        if not isinstance(content, dict):
            raise ConfigError(f"{path.name}: {table}: expected a table [{table}], got {content!r}")
        for key in content:
            if key not in keys:
                raise ConfigError(f"{path.name}: [{table}] has an unknown key '{key}', expected {', '.join(keys)}")
    gates = dict(DEFAULT_LIMITS)
    for precision, gate in DEFAULT_LIMITS.items():
        changes: dict[str, Any] = {
            key: None if value == _OFF else value for key, value in data.get(precision.value, {}).items()
        }
        try:
            gates[precision] = replace(gate, **changes)
        except ConfigError as error:
            raise ConfigError(f"{path.name}: {error}") from error
    return gates


def limits_by_precision(
    given: str | os.PathLike[str] | Mapping[Precision, ParityLimits] | None,
) -> dict[Precision, ParityLimits]:
    """The limits of each precision, as a verb's argument gives them.

    Args:
        given: a TOML file, or limits by precision; a precision that is not named keeps its default. None for the
            defaults.

    Raises:
        ConfigError: the file is invalid.
    """
    if given is None:
        return dict(DEFAULT_LIMITS)
    if isinstance(given, Mapping):
        return {**DEFAULT_LIMITS, **{Precision(name): limits for name, limits in given.items()}}
    return load_limits(Path(given))
