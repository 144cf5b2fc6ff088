"""What a backbone's options may be."""

from __future__ import annotations

from typing import Any

import pytest

from molre_edge.errors import ConfigError
from molre_edge.model.backbones.options import Choice, Range, check_options

KNOWN = {
    "depth": Range(1, 12),
    "theta": Range(1.0, 1e6),
    "act": Choice(("gelu", "silu")),
    "bias": Choice((True, False)),
}


def test_good_options_pass_and_whole_numbers_become_floats_where_floats_are_meant() -> None:
    checked = check_options({"depth": 12, "theta": 100, "act": "silu", "bias": False}, KNOWN)
    assert checked == {"depth": 12, "theta": 100.0, "act": "silu", "bias": False}
    assert isinstance(checked["theta"], float)
    assert isinstance(checked["depth"], int)
    assert checked["bias"] is False


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("depth", 13, r"backbone\.options\.depth: expected a whole number from 1 to 12, got 13"),
        ("depth", 1.0, r"depth: expected a whole number from 1 to 12, got 1\.0"),
        ("depth", True, r"depth: expected a whole number from 1 to 12, got True"),
        ("theta", 0, r"theta: expected a number from 1 to 1e\+06, got 0"),
        ("theta", float("nan"), r"theta: expected a number .* got nan"),
        ("theta", "100", r"theta: expected a number .* got '100'"),
        ("act", "relu", r"act: expected one of gelu, silu, got 'relu'"),
        ("act", ["gelu"], r"act: expected one of gelu, silu, got \['gelu'\]"),
        ("bias", 1, r"bias: expected one of True, False, got 1"),
        ("dept", 3, r"backbone\.options: unknown 'dept'; did you mean depth\? \(known: act, bias, depth, theta\)"),
        ("x" * 10_000_000, 3, r"backbone\.options: unknown 'xxx"),
    ],
)
def test_others_are_refused_by_name_with_what_is_expected(name: str, value: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        check_options({name: value}, KNOWN)
    assert len(str(error.value)) < 300
