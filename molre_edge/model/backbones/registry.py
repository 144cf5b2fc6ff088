"""The registry of backbones: what a checkpoint's ``backbone.id`` names."""

from __future__ import annotations

import difflib

from molre_edge.errors import ConfigError
from molre_edge.model.backbones.entry import ENTRIES, BackboneEntry

__all__ = ["backbone_entry", "backbone_ids"]


def backbone_entry(name: str) -> BackboneEntry:
    """The entry of an id.

    Raises:
        ConfigError: there is none; the message lists the known ids and the nearest one.
    """
    _register_all()

    if name not in ENTRIES:
        near = difflib.get_close_matches(name, ENTRIES, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"backbone.id: unknown {name!r}{hint} (known: {', '.join(sorted(ENTRIES))})")
    return ENTRIES[name]


def backbone_ids() -> tuple[str, ...]:
    """All known ids, sorted."""
    _register_all()

    return tuple(sorted(ENTRIES))


def _register_all() -> None:
    """Import the modules that register entries."""
    from molre_edge.model.backbones import (  # noqa: F401
        convnet,
        davit,
        deepcntd,
        dinov3,
        efficientnet_lite,
        headct_vit,
        i3resnet,
        pillar0,
        segresenc,
        siglip,
    )
