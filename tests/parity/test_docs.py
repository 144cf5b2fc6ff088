"""docs/concepts/parity.md states the limits, the checks and the schema version that the code has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from molre_edge.parity import DEFAULT_LIMITS, load_limits
from molre_edge.reports.charts import POINTS
from molre_edge.reports.parity_report import SCHEMA_VERSION
from molre_edge.specs import DISCLAIMER, Precision

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "concepts" / "parity.md").read_text(encoding="utf-8")
WORDS = " ".join(PAGE.split())
"""The page without its ends of lines."""


def example() -> str:
    (block,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    return str(block)


def test_the_table_of_limits_is_that_of_the_code() -> None:
    heads = re.findall(r"^\| limit \|(.*)\| passes when \|$", PAGE, re.MULTILINE)
    assert [[word.strip() for word in head.split("|")] for head in heads] == [[p.value for p in Precision]]
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|", PAGE, re.MULTILINE)
    documented = {name: [float(value) for value in values] for name, *values in rows}
    limits = [name for name in DEFAULT_LIMITS[Precision.FP32].to_dict() if name != "name"]
    assert documented == {name: [getattr(DEFAULT_LIMITS[p], name) for p in Precision] for name in limits}


def test_the_example_of_a_limits_file_loads_and_changes_what_it_names(tmp_path: Path) -> None:
    path = tmp_path / "limits.toml"
    path.write_text(example(), encoding="utf-8")
    got = load_limits(path)
    assert got[Precision.FP32] == DEFAULT_LIMITS[Precision.FP32]
    half = got[Precision.FP16]
    assert (half.name, half.max_abs_dp, half.flip_margin_logit) == ("fp16, two readers", 0.02, 0.08)
    assert half.max_finding_auc_drop is None
    assert got[Precision.INT8].max_mean_auc_drop == 0.001


def test_examples_of_numbers_follow_from_the_limits() -> None:
    int8, half = DEFAULT_LIMITS[Precision.INT8], DEFAULT_LIMITS[Precision.FP16]
    assert f"{int8.max_flips_fraction:.1%}".replace("%", " %") == "0.5 %"
    assert f"{int8.max_flips_fraction * 24 * 75:g} in 24 scans of 75 findings" in WORDS  # type: ignore[operator]
    assert f"at most {half.max_routing_l1 / 2:.1%}".replace("%", " %") in WORDS  # type: ignore[operator]
    assert f"{1 / (4 * 20):g}, more than any" in WORDS
    assert max(limits.max_finding_auc_drop or 0 for limits in DEFAULT_LIMITS.values()) < 1 / (4 * 20)


def test_the_page_tells_the_schema_version_the_disclaimer_and_how_much_is_drawn() -> None:
    assert f"`schema_version` is {SCHEMA_VERSION}." in WORDS
    assert DISCLAIMER.split(",")[1].strip() in WORDS
    assert f"at most {POINTS:,} points" in WORDS


@pytest.mark.parametrize("path", re.findall(r"`(molre_edge/[\w/.]+)`", PAGE))
def test_files_that_the_page_names_exist(path: str) -> None:
    assert (Path(__file__).resolve().parents[2] / path).is_file()
