"""The configuration of a MoLRE classifier: a frozen value, checked on creation, plain data on disk.

Without torch, so that a configuration can be read and shown anywhere.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from enum import Enum
from typing import Any, TypeVar

from molre_edge.errors import ConfigError, shown
from molre_edge.findings import default_findings, reserved_word
from molre_edge.specs import Grid

__all__ = [
    "DEFAULT_BUDGET",
    "DEFAULT_RANGE",
    "DEFAULT_WINDOWS",
    "AdapterConfig",
    "BackboneConfig",
    "ModelConfig",
    "NormalisationConfig",
    "PoolingConfig",
    "RouterConfig",
    "RouterSharing",
    "Routing",
]

DEFAULT_WINDOWS: tuple[tuple[float, float], ...] = ((40.0, 80.0), (80.0, 200.0), (600.0, 2800.0))
"""(centre, width) in HU of the brain, blood and bone windows, as FM_HeadCT and NeuroVFM use them."""

DEFAULT_RANGE = (0.0, 1.0)
"""What a window leads to."""

DEFAULT_BUDGET = 0.005
"""Added parameters (experts and routers) over all others: the paper stays below 0.5 %."""


class Routing(str, Enum):
    """What shares one gate vector: a slice, a volume, or a single token."""

    SLICE = "slice"
    VOLUME = "volume"
    TOKEN = "token"


class RouterSharing(str, Enum):
    """Which adapted modules share one router: those of a block, none, or all of the backbone.

    The pooling and the head never share with the backbone: their units are others.
    """

    BLOCK = "block"
    MODULE = "module"
    MODEL = "model"


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """Which backbone.

    Attributes:
        id: an entry of the registry, such as ``dinov3-vitb16``.
        options: what differs from that entry, in the backbone's own words (``num_hidden_layers`` and the like).
    """

    id: str
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the kinds; the backbone itself checks its options."""
        if not isinstance(self.id, str) or not 0 < len(self.id) <= 100:
            raise ConfigError(f"backbone.id: expected a name of up to 100 characters, got {shown(self.id)}")
        if not isinstance(self.options, dict) or not all(isinstance(key, str) for key in self.options):
            raise ConfigError(f"backbone.options: expected a table of names and values, got {shown(self.options)}")


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """The low-rank experts.

    Attributes:
        modules: which modules are adapted: full names (``backbone.layer.11.attention.o_proj``) or their ends
            at a dot (``attention.o_proj``), as PEFT's ``target_modules`` list; ``*`` stands for any characters.
            Empty: no module is adapted.
        experts: K. 6 is the paper's, 1 is LoRA, 0 leaves the frozen layer.
        rank: r of each expert.
        alpha: the experts' sum is scaled by ``alpha / rank``.
    """

    modules: tuple[str, ...] = ()
    experts: int = 6
    rank: int = 8
    alpha: float = 16.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        if len(self.modules) > 1024 or not all(isinstance(name, str) and 0 < len(name) <= 256 for name in self.modules):
            raise ConfigError(
                f"adapter.modules: expected up to 1024 names or patterns of up to 256 characters, got "
                f"{shown(self.modules)}"
            )
        _check_int("adapter.experts", self.experts, 0, 64)
        _check_int("adapter.rank", self.rank, 1, 512)
        _check_float("adapter.alpha", self.alpha, 1e-6, 1e6)
        if self.experts > 0 and not self.modules:
            raise ConfigError(
                "adapter.modules: expected at least one module to adapt for "
                f"adapter.experts = {self.experts}; set experts to 0 for a frozen backbone"
            )


@dataclass(frozen=True, kw_only=True)
class RouterConfig:
    """The routers: two-layer perceptrons with a softmax.

    Attributes:
        level: what shares one gate vector.
        sharing: which modules share one router.
        hidden: size of the hidden layer.
        temperature: the router's logits are divided by it before the softmax.
        standardise: the router's input is brought to mean 0 and deviation 1 with constants of the checkpoint. Without,
            what all heads have in common outweighs what tells them apart, and routers do not learn to look.
    """

    level: Routing = Routing.SLICE
    sharing: RouterSharing = RouterSharing.BLOCK
    hidden: int = 8
    temperature: float = 1.0
    standardise: bool = False

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not isinstance(self.standardise, bool):
            raise ConfigError(f"router.standardise: expected true or false, got {shown(self.standardise)}")
        _check_int("router.hidden", self.hidden, 1, 4096)
        _check_float("router.temperature", self.temperature, 1e-3, 1e3)


@dataclass(frozen=True, kw_only=True)
class PoolingConfig:
    """Attention pooling over slices: size of its hidden layer. 3D backbones have no pooling, and ignore it."""

    hidden: int = 128

    def __post_init__(self) -> None:
        """Check the range."""
        _check_int("pooling.hidden", self.hidden, 1, 4096)


@dataclass(frozen=True, kw_only=True)
class NormalisationConfig:
    """Mean and deviation of windowed channels: ``(x - mean) / std``, x from 0 to 1 or within the windows' range.

    Attributes:
        mean: one a channel, or one for all.
        std: likewise.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, values, low in (("mean", self.mean, -1e4), ("std", self.std, 1e-4)):
            if not 1 <= len(values) <= 16:
                raise ConfigError(f"normalisation.{name}: expected 1 to 16 numbers, got {len(values)}")
            for value in values:
                _check_float(f"normalisation.{name}", value, low, 1e4)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """All that defines a classifier but its weights.

    Attributes:
        backbone: which backbone.
        grid: the grid that the model reads.
        windows: (centre, width) in HU, one a channel; on disk also ``{"low": ..., "high": ...}``.
        window_range: (low, high) that the windows lead to, one for all or one a window.
        normalisation: mean and deviation of the channels; None for the backbone's own.
        adapter: the experts.
        router: the routers.
        pooling: the pooling over slices.
        findings: names of the outputs.
        thresholds: decision threshold of each finding, a probability.
        budget: the largest allowed ratio of added parameters to all others.
    """

    backbone: BackboneConfig
    grid: Grid
    windows: tuple[tuple[float, float], ...] = DEFAULT_WINDOWS
    window_range: tuple[tuple[float, float], ...] = (DEFAULT_RANGE,)
    normalisation: NormalisationConfig | None = None
    adapter: AdapterConfig = field(default_factory=lambda: AdapterConfig(experts=0))
    router: RouterConfig = field(default_factory=RouterConfig)
    pooling: PoolingConfig = field(default_factory=PoolingConfig)
    findings: tuple[str, ...] = field(default_factory=lambda: tuple(f.name for f in default_findings()))
    thresholds: tuple[float, ...] = ()
    budget: float = DEFAULT_BUDGET

    def __post_init__(self) -> None:
        """Check what spans several fields."""
        if not self.findings or len(set(self.findings)) != len(self.findings):
            raise ConfigError("findings: expected at least one name, and each name once")
        for name in self.findings:
            if len(name) > 100 or not name.replace("_", "").replace("-", "").isalnum():
                raise ConfigError(
                    f"findings: expected words of up to 100 letters, digits, '_' and '-', got {shown(name)}"
                )
            if reason := reserved_word(name):
                raise ConfigError(f"findings: {reason}; give the finding another name")
        if not self.thresholds:
            object.__setattr__(self, "thresholds", (0.5,) * len(self.findings))
        if len(self.thresholds) != len(self.findings):
            raise ConfigError(
                f"thresholds: expected one for each of the {len(self.findings)} findings, got {len(self.thresholds)}"
            )
        for name, value in zip(self.findings, self.thresholds, strict=True):
            _check_float(f"thresholds[{name}]", value, 0.0, 1.0)
        if not 1 <= len(self.windows) <= 16:
            raise ConfigError(f"windows: expected 1 to 16 (centre, width) pairs, got {len(self.windows)}")
        for centre, width in self.windows:
            _check_float("windows: centre", centre, -1024.0, 3071.0)
            _check_float("windows: width", width, 1.0, 8192.0)
        self._check_ranges()
        self._check_normalisation()
        _check_float("budget", self.budget, 0.0, 1e3)

    def _check_ranges(self) -> None:
        if len(self.window_range) not in (1, len(self.windows)):
            raise ConfigError(
                f"window_range: expected one (low, high), or one for each of the {len(self.windows)} windows, got "
                f"{len(self.window_range)}"
            )
        for low, high in self.window_range:
            _check_float("window_range: low", low, -1e4, 1e4)
            _check_float("window_range: high", high, -1e4, 1e4)
            if not low < high:
                raise ConfigError(f"window_range: expected low below high, got {shown((low, high))}")
        if set(self.window_range) != {DEFAULT_RANGE} and self.normalisation is None:
            raise ConfigError(
                "normalisation: missing; the backbone's own is for windows that lead to 0 ... 1, and window_range says "
                "otherwise. Give mean and std, such as 0 and 1"
            )

    def _check_normalisation(self) -> None:
        if self.normalisation is None:
            return
        for name in ("mean", "std"):
            count = len(getattr(self.normalisation, name))
            if count not in (1, len(self.windows)):
                raise ConfigError(
                    f"normalisation.{name}: expected one number, or one for each of the {len(self.windows)} windows, "
                    f"got {count}"
                )

    def to_dict(self) -> dict[str, Any]:
        """Plain data (dict, list, str, int, float), as a checkpoint and a bundle store it."""
        data: dict[str, Any] = _plain({**asdict(self), "grid": self.grid.to_dict()})
        if self.normalisation is None:  # as versions before it was a setting wrote and read it
            del data["normalisation"]
        if set(self.window_range) == {DEFAULT_RANGE}:  # likewise
            del data["window_range"]
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelConfig:
        """The inverse of :meth:`to_dict`.

        Raises:
            ConfigError: an unknown key, a missing one, or a value out of range; the message names it.
        """
        values = dict(_known(cls, data, ""))
        for name, kind in (
            ("backbone", BackboneConfig),
            ("grid", Grid),
            ("normalisation", NormalisationConfig),
            ("adapter", AdapterConfig),
            ("router", RouterConfig),
            ("pooling", PoolingConfig),
        ):
            if name in values:
                values[name] = _section(kind, values[name], name)
        if "windows" in values:
            values["windows"] = tuple(_window(window) for window in _list(values["windows"], "windows"))
        if "window_range" in values:
            values["window_range"] = _ranges(values["window_range"])
        for name in ("findings", "thresholds"):
            if name in values:
                values[name] = tuple(_list(values[name], name))
        if not all(isinstance(name, str) for name in values.get("findings", ())):
            raise ConfigError("findings: expected a list of names")
        return cls(**values)


_T = TypeVar("_T")
_E = TypeVar("_E", bound=Enum)


def _section(kind: type[_T], data: Any, where: str) -> _T:
    values = dict(_known(kind, data, where))
    if "modules" in values:
        values["modules"] = tuple(_list(values["modules"], "adapter.modules"))
    for name in ("mean", "std"):
        if name in values:
            values[name] = tuple(_list(values[name], f"{where}.{name}"))
    for name, words in (("level", Routing), ("sharing", RouterSharing)):
        if name in values:
            values[name] = _word(f"router.{name}", words, values[name])
    return kind(**values)


def _word(name: str, words: type[_E], value: Any) -> _E:
    known = [word.value for word in words]
    if value not in known:
        raise ConfigError(f"{name}: expected one of {', '.join(known)}, got {shown(value)}")
    return words(value)


def _known(kind: type[Any], data: Any, where: str) -> Mapping[str, Any]:
    """The table `data`, if it has all that `kind` needs and nothing that it does not know."""
    where = where or "configuration"
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: expected a table of names and values, got {type(data).__name__}")
    names = sorted(f.name for f in fields(kind))
    for key in data:
        if key not in names:
            near = difflib.get_close_matches(key[:100], names, n=1) if isinstance(key, str) else []
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(f"{where}: unknown {shown(key)}{hint} (known: {', '.join(names)})")
    required = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    missing = [name for name in required if name not in data]
    if missing:
        raise ConfigError(f"{where}: {', '.join(missing)} missing; every {where} names {', '.join(required)}")
    return data


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{where}: expected a list, got {type(value).__name__}")
    return list(value)


def _window(value: Any) -> tuple[float, float]:
    """(centre, width) of a pair, or of a table with the lowest and the highest HU."""
    if isinstance(value, Mapping):
        if set(value) != {"low", "high"}:
            raise ConfigError(f'windows: expected {{"low": HU, "high": HU}} or (centre, width), got {shown(value)}')
        low, high = value["low"], value["high"]
        _check_float("windows: low", low, -8192.0, 8192.0)
        _check_float("windows: high", high, -8192.0, 8192.0)
        return (low + high) / 2, high - low
    return _pair(value, "windows", "(centre, width) in HU")


def _ranges(value: Any) -> tuple[tuple[float, float], ...]:
    """One range for all windows, or a list of one a window."""
    values = _list(value, "window_range")
    if not any(isinstance(each, list | tuple) for each in values):
        values = [values]
    return tuple(_pair(each, "window_range", "(low, high)") for each in values)


def _pair(value: Any, where: str, words: str) -> tuple[float, float]:
    numbers = _list(value, where)
    if len(numbers) != 2:
        raise ConfigError(f"{where}: expected {words}, got {shown(value)}")
    return numbers[0], numbers[1]


def _check_int(name: str, value: Any, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{name}: expected a whole number from {low} to {high}, got {shown(value)}")


def _check_float(name: str, value: Any, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ConfigError(f"{name}: expected a number from {low:g} to {high:g}, got {shown(value)}")


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
