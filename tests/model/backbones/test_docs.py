"""docs/reference/backbones.md says what the registry has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from molre_edge.model.backbones.registry import backbone_entry, backbone_ids
from molre_edge.model.classifier import HeadCTClassifier
from molre_edge.model.defaults import default_config
from molre_edge.model.placement import count_parameters

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "reference" / "backbones.md").read_text(encoding="utf-8")
FULL = [name for name in backbone_ids() if backbone_entry(name).parameters is not None]


def cells(heading: str, name: str) -> list[str]:
    """The cells of an id's row in the table under a heading."""
    table = PAGE.partition(f"{heading}\n")[2].partition("\n## ")[0]
    return [cell.strip() for cell in re.findall(rf"^\| `{re.escape(name)}` \|(.*)\|$", table, re.M)[0].split("|")]


@pytest.mark.parametrize("name", FULL)
def test_the_page_has_each_backbones_size_grid_and_feature(name: str) -> None:
    entry = backbone_entry(name)
    with torch.device("meta"):
        width = entry.build(entry.grid, len(entry.windows), {}).embed_dim
    _, reads, parameters, feature, _ = cells("# Backbones", name)
    axes = entry.grid.shape if entry.dimensions == 3 else entry.grid.shape[1:]
    kind = {2: "slices", 3: "volumes"}[entry.dimensions]
    assert reads == f"{kind}, {' x '.join(str(side) for side in axes)}"
    assert (parameters, feature) == (f"{entry.parameters:,}", str(width))


@pytest.mark.parametrize("name", FULL)
def test_the_page_has_what_the_default_placement_adds(name: str) -> None:
    adapter = "molre" if backbone_entry(name).adapted else "none"
    with torch.device("meta"):
        model = HeadCTClassifier(default_config(name, adapter=adapter))
    count = count_parameters(model)
    _, _, routers, added, share = cells("## What is adapted by default", name)
    assert (routers, added) == (str(len(model.routers)), f"{count.added:,}")
    assert share == (f"{count.fraction:.2%}".replace("%", " %") if count.added else "0")


@pytest.mark.parametrize("name", backbone_ids())
def test_the_page_names_every_backbone(name: str) -> None:
    assert f"`{name}`" in PAGE
