"""The registry: ids, and what every entry promises."""

from __future__ import annotations

import pytest

from molre_edge.errors import ConfigError
from molre_edge.model.backbones import registry
from molre_edge.model.backbones.entry import register
from molre_edge.model.backbones.registry import backbone_entry, backbone_ids


def test_an_entry_is_found_by_its_id() -> None:
    assert backbone_ids() == tuple(sorted(backbone_ids()))
    assert {"dinov3-tiny", "dinov3-vits16", "dinov3-vitb16", "dinov3-vitl16"} <= set(backbone_ids())
    for name in backbone_ids():
        assert backbone_entry(name).id == name


def test_an_unknown_id_is_refused_with_the_nearest_and_all_known() -> None:
    with pytest.raises(
        ConfigError, match=r"backbone\.id: unknown 'dinov3-vitb14'; did you mean dinov3-vitb16\?"
    ) as error:
        backbone_entry("dinov3-vitb14")
    for name in backbone_ids():
        assert name in str(error.value)


def test_an_id_that_is_near_none_gets_no_guess() -> None:
    with pytest.raises(ConfigError, match=r"unknown '~~~~' \(known: "):
        backbone_entry("~~~~")


def test_two_entries_of_one_id_are_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "ENTRIES", dict(registry.ENTRIES))
    with pytest.raises(ValueError, match="dinov3-tiny is registered twice"):
        register(backbone_entry("dinov3-tiny"))


@pytest.mark.parametrize("name", backbone_ids())
def test_every_entry_says_where_it_comes_from_and_how_it_normalises(name: str) -> None:
    entry = backbone_entry(name)
    assert entry.dimensions in (2, 3)
    assert entry.source
    assert len(entry.mean) == len(entry.std)
    assert len(entry.mean) in (1, len(entry.windows))
    assert min(entry.std) > 0
