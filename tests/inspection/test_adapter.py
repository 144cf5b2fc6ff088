"""What is told of an adapter's file, and of the adapters of a bundle."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from molre_edge.adapters.file import read_adapter
from molre_edge.errors import AdapterError
from molre_edge.inspection.adapter import inspect_adapter
from molre_edge.inspection.look import inspect_path, kind_of


def test_an_adapter_is_described_by_its_file(other_adapter: Path) -> None:
    found = inspect_path(other_adapter)
    assert (kind_of(other_adapter), found.kind, found.problems) == ("adapter", "adapter", ())
    words = dict(found.words)
    assert words["findings"] == "bleed, infarct, shift, own-finding"
    assert words["experts and rank"] == "K = 2, r = 1; slice routing"
    assert json.loads(json.dumps(found.to_dict()))["sha256"] == read_adapter(other_adapter).digest


def test_preprocessing_that_is_not_molre_edge_s_own_is_told(
    other_adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "resampling" not in dict(inspect_adapter(other_adapter).words)
    adapter = read_adapter(other_adapter)
    fit = replace(adapter.fit, grid=replace(adapter.fit.grid, plane="whole", antialias=False))
    monkeypatch.setattr("molre_edge.inspection.adapter.read_adapter", lambda _: replace(adapter, fit=fit))
    assert dict(inspect_adapter(other_adapter).words)["resampling"] == "plane whole, antialias False"


def test_a_bundle_lists_its_adapters(adapter_bundle: Path) -> None:
    found = inspect_path(adapter_bundle)
    [table] = [table for table in found.tables if table.title == "Adapters"]
    [row] = table.rows
    assert (row[0], row[3], row[4]) == ("default (default)", "75", "K = 3, r = 2")
    assert found.to_dict()["adapters"]["default"] == "default"
    assert found.problems == ()


def test_a_damaged_file_is_no_adapter(tmp_path: Path) -> None:
    (tmp_path / "x.adapter").write_bytes(b"not one")
    with pytest.raises(AdapterError, match="not a whole adapter"):
        inspect_path(tmp_path / "x.adapter")
