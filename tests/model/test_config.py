"""The configuration: what is refused, in which words, and that plain data come back equal."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molre_edge.errors import ConfigError
from molre_edge.findings import reserved_word
from molre_edge.model.config import (
    AdapterConfig,
    BackboneConfig,
    ModelConfig,
    NormalisationConfig,
    PoolingConfig,
    RouterConfig,
    RouterSharing,
    Routing,
)
from molre_edge.specs import Grid

SMALLEST: dict[str, Any] = {"backbone": {"id": "dinov3-tiny"}, "grid": {"slices": 4, "rows": 64, "cols": 64}}


def changed(path: str, value: Any) -> dict[str, Any]:
    """The smallest configuration with one value set; the path has dots."""
    data: dict[str, Any] = json.loads(json.dumps(SMALLEST))
    *tables, name = path.split(".")
    table = data
    for each in tables:
        table = table.setdefault(each, {})
    table[name] = value
    return data


names = st.text("abcdefghijklmnopqrstuvwxyz_0123456789", min_size=1, max_size=20).filter(
    lambda s: s.strip("_") and not reserved_word(s)
)
probabilities = st.floats(0, 1)


def normalisation(mean: float, std: float) -> NormalisationConfig:
    return NormalisationConfig(mean=(mean,), std=(std,))


@st.composite
def configurations(draw: st.DrawFn) -> ModelConfig:
    findings = draw(st.lists(names, min_size=1, max_size=5, unique=True))
    windows = draw(st.lists(st.tuples(st.floats(-1024, 3071), st.floats(1, 8192)), min_size=1, max_size=4))
    return ModelConfig(
        backbone=BackboneConfig(id=draw(names), options=draw(st.dictionaries(names, st.integers(), max_size=2))),
        grid=Grid(draw(st.integers(1, 512)), draw(st.integers(16, 2048)), draw(st.integers(16, 2048))),
        windows=tuple(windows),
        normalisation=draw(st.none() | st.builds(normalisation, st.floats(-1e4, 1e4), st.floats(1e-4, 1e4))),
        adapter=AdapterConfig(
            modules=tuple(draw(st.lists(names, min_size=1, max_size=3))),
            experts=draw(st.integers(0, 64)),
            rank=draw(st.integers(1, 512)),
            alpha=draw(st.floats(1e-6, 1e6)),
        ),
        router=RouterConfig(
            level=draw(st.sampled_from(Routing)),
            sharing=draw(st.sampled_from(RouterSharing)),
            hidden=draw(st.integers(1, 4096)),
            temperature=draw(st.floats(1e-3, 1e3)),
        ),
        pooling=PoolingConfig(hidden=draw(st.integers(1, 4096))),
        findings=tuple(findings),
        thresholds=tuple(draw(st.lists(probabilities, min_size=len(findings), max_size=len(findings)))),
        budget=draw(st.floats(0, 1e3)),
    )


@settings(max_examples=50)
@given(configurations())
def test_a_configuration_comes_back_equal_from_plain_data_and_json(config: ModelConfig) -> None:
    data = config.to_dict()
    assert ModelConfig.from_dict(data) == config
    assert ModelConfig.from_dict(json.loads(json.dumps(data))) == config


def test_what_is_not_said_is_the_published_method() -> None:
    config = ModelConfig.from_dict(SMALLEST)
    assert config.windows == ((40.0, 80.0), (80.0, 200.0), (600.0, 2800.0))
    assert len(config.findings) == 75
    assert config.thresholds == (0.5,) * 75
    assert config.budget == 0.005
    assert (config.router.level, config.router.sharing) == (Routing.SLICE, RouterSharing.BLOCK)
    assert (config.router.hidden, config.router.temperature) == (8, 1.0)
    assert config.adapter.experts == 0
    adapter = AdapterConfig(modules=("head",))
    assert (adapter.experts, adapter.rank, adapter.alpha) == (6, 8, 16.0)


def test_windows_are_pairs_or_lowest_and_highest_hu() -> None:
    other = {**SMALLEST, "windows": [[40, 80], {"low": -1024, "high": 1024}]}
    assert ModelConfig.from_dict(other).windows == ((40, 80), (0, 2048))


def test_preprocessing_that_is_molre_edge_s_own_is_not_written_and_other_comes_back() -> None:
    """So that checkpoints and bundles of the default keep their bytes, and earlier versions read them."""
    assert set(ModelConfig.from_dict(SMALLEST).to_dict()["grid"]) == {"slices", "rows", "cols", "field_mm", "height_mm"}
    assert "window_range" not in ModelConfig.from_dict({**SMALLEST, "window_range": [0, 1]}).to_dict()
    grid = {**SMALLEST["grid"], "plane": "whole", "interpolation": "cubic", "stack": "every", "slice_step": 3}
    normalised = {"normalisation": {"mean": [0], "std": [1]}, "window_range": [[-1, 1], [0, 255], [0, 1]]}
    data = ModelConfig.from_dict({**SMALLEST, **normalised, "grid": grid}).to_dict()
    assert data["grid"].items() >= grid.items() and data["window_range"] == [[-1, 1], [0, 255], [0, 1]]
    assert ModelConfig.from_dict(json.loads(json.dumps(data))).to_dict() == data


def test_a_configuration_can_not_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ModelConfig.from_dict(SMALLEST).budget = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("router.hiden", 8, r"router: unknown 'hiden'; did you mean hidden\? \(known: hidden, level, sharing, stand"),
        ("adaptor", {}, r"configuration: unknown 'adaptor'; did you mean adapter\?"),
        ("grid.slises", 8, r"grid: unknown 'slises'; did you mean slices\?"),
        ("adapter", [], r"adapter: expected a table of names and values, got list"),
        ("backbone", "dinov3-tiny", r"backbone: expected a table of names and values, got str"),
        (
            "backbone.id",
            ["dinov3-tiny"],
            r"backbone.id: expected a name of up to 100 characters, got \['dinov3-tiny'\]",
        ),
        ("backbone.id", "", r"backbone.id: expected a name"),
        ("backbone.options", [1], r"backbone.options: expected a table of names and values, got \[1\]"),
        ("grid.rows", 8, r"grid.rows: expected a whole number from 16 to 2048, got 8"),
        ("grid.slices", 4.0, r"grid.slices: expected a whole number from 1 to 512, got 4.0"),
        ("grid.field_mm", "wide", r"grid.field_mm: expected 50 to 1000 millimetres, got 'wide'"),
        ("adapter.experts", 65, r"adapter.experts: expected a whole number from 0 to 64, got 65"),
        ("adapter.experts", True, r"adapter.experts: expected a whole number from 0 to 64, got True"),
        ("adapter.experts", 6, r"adapter.modules: expected at least one module .*set experts to 0 for a frozen"),
        ("adapter", {"modules": ["head"], "rank": 0}, r"adapter.rank: expected a whole number from 1 to 512, got 0"),
        ("adapter", {"modules": ["head"], "alpha": 0}, r"adapter.alpha: expected a number from 1e-06 to 1e\+06, got 0"),
        ("adapter.modules", "head", r"adapter.modules: expected a list, got str"),
        ("adapter.modules", [1], r"adapter.modules: expected up to 1024 names or patterns"),
        ("adapter.modules", ["a" * 257], r"adapter.modules: expected up to 1024 names or patterns of up to 256"),
        ("adapter.modules", ["head"] * 1025, r"adapter.modules: expected up to 1024 names"),
        ("router.level", "lobe", r"router.level: expected one of slice, volume, token, got 'lobe'"),
        ("router.sharing", None, r"router.sharing: expected one of block, module, model, got None"),
        ("router.hidden", 0, r"router.hidden: expected a whole number from 1 to 4096, got 0"),
        ("router.standardise", 1, r"router.standardise: expected true or false, got 1"),
        ("router.temperature", float("nan"), r"router.temperature: expected a number from 0.001 to 1000, got nan"),
        ("pooling.hidden", 5000, r"pooling.hidden: expected a whole number from 1 to 4096, got 5000"),
        ("windows", [], r"windows: expected 1 to 16 \(centre, width\) pairs, got 0"),
        ("windows", [[40, 80, 1]], r"windows: expected \(centre, width\) in HU, got \[40, 80, 1\]"),
        ("windows", [[40, 0]], r"windows: width: expected a number from 1 to 8192, got 0"),
        ("windows", [["40", 80]], r"windows: centre: expected a number from -1024 to 3071, got '40'"),
        ("windows", [[10**400, 80]], r"windows: centre: expected a number from -1024 to 3071, got 1000"),
        ("windows", 40, r"windows: expected a list, got int"),
        (
            "windows",
            [{"low": 0}],
            r'windows: expected \{"low": HU, "high": HU\} or \(centre, width\), got \{\'low\': 0\}',
        ),
        ("windows", [{"low": 80, "high": 0}], r"windows: width: expected a number from 1 to 8192, got -80"),
        ("windows", [{"low": "0", "high": 80}], r"windows: low: expected a number from -8192 to 8192, got '0'"),
        ("window_range", [1, 0], r"window_range: expected low below high, got \(1, 0\)"),
        ("window_range", [[0, 1], [0, 1]], r"window_range: expected one \(low, high\), or one .*3 windows, got 2"),
        ("window_range", [0, 255, 1], r"window_range: expected \(low, high\), got \[0, 255, 1\]"),
        ("window_range", [0, "255"], r"window_range: high: expected a number"),
        (
            "window_range",
            [0, 255],
            r"normalisation: missing; the backbone's own is for windows that lead to 0 \.\.\. 1",
        ),
        ("grid.interpolation", "bspline", r"grid.interpolation: expected one of nearest, .*'bspline'; nothing else is"),
        ("grid.gamma", 2, r"grid: unknown 'gamma' \(known: antialias, axes, between"),
        ("normalisation", {"mean": [0.5]}, r"normalisation: std missing; every normalisation names mean, std"),
        ("normalisation", {"mean": 0.5, "std": [1]}, r"normalisation.mean: expected a list, got float"),
        (
            "normalisation",
            {"mean": [0.5], "std": [0]},
            r"normalisation.std: expected a number from 0.0001 to 10000",
        ),
        (
            "normalisation",
            {"mean": [0.5, 0.4], "std": [1]},
            r"normalisation.mean: expected one number, or one for each of the 3 windows, got 2",
        ),
        ("findings", [], r"findings: expected at least one name, and each name once"),
        ("findings", ["a", "a"], r"findings: expected at least one name, and each name once"),
        ("findings", ["a", 1], r"findings: expected a list of names"),
        (
            "findings",
            ["<script>"],
            r"findings: expected words of up to 100 letters, digits, '_' and '-', got '<script>'",
        ),
        ("findings", [""], r"findings: expected words"),
        ("findings", ["a", "scan"], r"findings: 'scan' is the name of another column .* give the finding another name"),
        ("findings", ["Positive"], r"findings: 'Positive' is the name of another column"),
        ("findings", ["a" * 101], r"findings: expected words of up to 100 letters"),
        ("thresholds", [0.5], r"thresholds: expected one for each of the 75 findings, got 1"),
        ("thresholds", [1.5] + [0.5] * 74, r"thresholds\[intracranial_hemorrhage_any\]: expected a number from 0 to 1"),
        ("thresholds", ["0.5"] * 75, r"thresholds\[intracranial_hemorrhage_any\]: expected a number .* got '0.5'"),
        ("budget", -1, r"budget: expected a number from 0 to 1000, got -1"),
        ("budget", float("inf"), r"budget: expected a number from 0 to 1000, got inf"),
    ],
)
def test_a_wrong_value_is_refused_by_name_with_what_was_expected(path: str, value: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ModelConfig.from_dict(changed(path, value))


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({}, r"configuration: backbone, grid missing; every configuration names backbone, grid"),
        ({"backbone": {}, "grid": SMALLEST["grid"]}, r"backbone: id missing; every backbone names id"),
        ({"backbone": SMALLEST["backbone"], "grid": {"rows": 64}}, r"grid: slices, cols missing"),
    ],
)
def test_a_missing_value_is_named(table: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ModelConfig.from_dict(table)


def many_lists(depth: int = 12) -> list[Any]:
    """A list of ten, ten times in a list, ten times in a list ...: a short pickle, but 10 ** 13 words as text."""
    value: list[Any] = ["lol"] * 10
    for _ in range(depth):
        value = [value] * 10
    return value


@pytest.mark.parametrize(
    "path", ["backbone.id", "backbone.options", "grid.rows", "adapter.rank", "router.level", "budget", "windows"]
)
@pytest.mark.parametrize("make", [many_lists, lambda: "a" * 10_000_000], ids=["lists of lists", "long text"])
def test_a_message_stays_short_whatever_the_value(path: str, make: Callable[[], Any]) -> None:
    start = time.process_time()
    with pytest.raises(ConfigError) as caught:
        ModelConfig.from_dict(changed_in_place(path, make()))
    assert len(str(caught.value)) < 1000
    assert time.process_time() - start < 2


def changed_in_place(path: str, value: Any) -> dict[str, Any]:
    data = changed(path, None)
    *tables, name = path.split(".")
    table = data
    for each in tables:
        table = table[each]
    table[name] = value
    return data


def test_a_configuration_can_be_read_without_torch() -> None:
    import subprocess
    import sys

    code = "import sys, molre_edge.model.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
