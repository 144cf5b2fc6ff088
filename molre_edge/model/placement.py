"""Which modules are adapted and which routers they share."""

from __future__ import annotations

import difflib
import fnmatch
from dataclasses import dataclass

from torch import nn

from molre_edge.errors import ConfigError
from molre_edge.model.adapters import AdaptedLayer, MoLRELinear, adapt_layer
from molre_edge.model.config import ModelConfig, RouterSharing, Routing
from molre_edge.model.routing import Router, Site

__all__ = ["ParameterCount", "count_parameters", "match_modules", "place_adapters"]


@dataclass(frozen=True)
class ParameterCount:
    """Parameters added by adapters and routers, and all the others."""

    added: int
    rest: int

    @property
    def fraction(self) -> float:
        """Added over rest: the paper's "less than 0.5 %"."""
        return self.added / self.rest


def match_modules(model: nn.Module, patterns: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the modules that match `patterns`, in the model's order.

    A pattern is a full name or its end at a dot, as in PEFT's ``target_modules``; ``*`` stands for any characters.
    Regular expressions are not supported: a checkpoint is untrusted, and some expressions never finish.

    Raises:
        ConfigError: a pattern matches nothing; the message lists similar names.
    """
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d)]
    chosen: set[str] = set()
    for pattern in patterns:
        if "[" in pattern or "?" in pattern:
            raise ConfigError(f"adapter.modules: {pattern!r}: only '*' is a wildcard")
        found = [n for n in names if fnmatch.fnmatchcase(n, pattern) or fnmatch.fnmatchcase(n, f"*.{pattern}")]
        if not found:
            near = difflib.get_close_matches(pattern, names, n=3, cutoff=0.3) or names[:3]
            raise ConfigError(
                f"adapter.modules: {pattern!r} matches no layer; layers here are, for example, {', '.join(near)}"
            )
        chosen.update(found)
    return tuple(name for name in names if name in chosen)


def place_adapters(model: nn.Module, config: ModelConfig, *, volumetric: bool) -> nn.ModuleList:
    """Replace the matched modules with their adapted form, in place.

    Args:
        model: has the children ``backbone``, ``pooling`` and ``head``.
        config: adapter and router settings.
        volumetric: whether the backbone is 3D.

    Returns:
        The routers, one a group, in the order of the groups' first modules; empty ones for K = 1.

    Raises:
        ConfigError: a pattern without a match, a layer that can't be adapted, a convolution with token routing, or
            layers of different input width that should share a router.
    """
    adapter, groups = config.adapter, dict[str, int]()
    widths: list[int] = []
    routers = nn.ModuleList()
    for name in match_modules(model, adapter.modules):
        parent_name, _, child = name.rpartition(".")
        parent = model.get_submodule(parent_name)
        site = _site_of(name, volumetric)
        key = _group_of(model, name, config.router.sharing)
        group = groups.setdefault(key, len(groups))
        try:
            layer = adapt_layer(
                getattr(parent, child),
                experts=adapter.experts,
                rank=adapter.rank,
                alpha=adapter.alpha,
                site=site,
                group=group,
            )
        except TypeError as error:
            raise ConfigError(f"adapter.modules: {name}: {error}") from error
        if config.router.level is Routing.TOKEN and adapter.experts > 1 and not isinstance(layer, MoLRELinear):
            raise ConfigError(
                f"router.level: 'token' needs linear layers, but {name} is a convolution, whose output grid differs "
                f"from its input grid; set router.level to 'slice' or 'volume', or adapt linear layers only"
            )
        setattr(parent, child, layer)
        if group == len(widths):
            widths.append(layer.in_width)
            one = adapter.experts == 1
            router = config.router
            routers.append(
                nn.Identity()
                if one
                else Router(layer.in_width, router.hidden, adapter.experts, router.temperature, router.standardise)
            )
        elif layer.in_width != widths[group] and adapter.experts > 1:
            raise ConfigError(
                f"router.sharing: {name} has inputs of width {layer.in_width}, but others in its group {key!r} have "
                f"{widths[group]}, so they can't share a router; set router.sharing to 'module', or adapt "
                f"modules of one width"
            )
    return routers


def count_parameters(model: nn.Module) -> ParameterCount:
    """Count a classifier's parameters: experts and routers against the rest. Works on ``meta`` too."""
    total = sum(p.numel() for p in model.parameters())
    added = sum(
        m.lora_A.numel() + m.lora_B.numel() if isinstance(m, AdaptedLayer) else sum(p.numel() for p in m.parameters())
        for m in model.modules()
        if isinstance(m, AdaptedLayer | Router)
    )
    return ParameterCount(added=added, rest=total - added)


def _site_of(name: str, volumetric: bool) -> Site:
    top = name.partition(".")[0]
    if top == "head" or volumetric:
        return Site.VOLUME
    return Site.POOLING if top == "pooling" else Site.SLICES


def _group_of(model: nn.Module, name: str, sharing: RouterSharing) -> str:
    """The group's key. A block is the entry of the first ModuleList on the way to the module, lists within included."""
    if sharing is RouterSharing.MODEL:  # the pooling and the head have units of their own, so they share nothing
        return name.partition(".")[0]
    if sharing is RouterSharing.MODULE:
        return name
    parts = name.split(".")
    for i in range(1, len(parts)):
        if isinstance(model.get_submodule(".".join(parts[:i])), nn.ModuleList):
            end = i + 1
            while end < len(parts) and isinstance(model.get_submodule(".".join(parts[:end])), nn.ModuleList):
                end += 1
            return ".".join(parts[:end])
    return name
