"""Limits have sensible defaults, and a TOML file changes only what it names."""

from __future__ import annotations

import math
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molre_edge.errors import ConfigError
from molre_edge.parity import DEFAULT_LIMITS, ParityLimits, limits_from, load_limits
from molre_edge.progress import Silent
from molre_edge.specs import Precision

LIMITS = [field.name for field in fields(ParityLimits) if field.name != "name"]
LOW = {name: -1.0 if name == "min_cosine" else 0.0 for name in LIMITS}
HIGH = {name: 2.0 if name.endswith("_l1") else 1000.0 if name.endswith("logit") else 1.0 for name in LIMITS}


def toml(folder: Path, text: str | bytes) -> Path:
    path = folder / "limits.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_every_precision_has_limits_of_its_name_that_judge_everything() -> None:
    assert {precision: limits.name for precision, limits in DEFAULT_LIMITS.items()} == {p: p.value for p in Precision}
    assert all(value is not None for limits in DEFAULT_LIMITS.values() for value in limits.to_dict().values())


def test_a_lower_precision_is_never_held_to_a_stricter_limit() -> None:
    fp32, fp16, int8 = (DEFAULT_LIMITS[p] for p in (Precision.FP32, Precision.FP16, Precision.INT8))
    for name in LIMITS:
        if name in ("min_cosine", "max_flips_fraction"):  # int8's flips may be farther off, so fewer are allowed
            continue
        assert getattr(fp32, name) <= getattr(fp16, name) <= getattr(int8, name)
    assert fp32.min_cosine > fp16.min_cosine > int8.min_cosine  # type: ignore[operator]


@given(st.sampled_from(LIMITS), st.floats(0, 1))
def test_a_limit_within_its_range_is_taken(name: str, share: float) -> None:
    value = LOW[name] + share * (HIGH[name] - LOW[name])
    assert getattr(replace(DEFAULT_LIMITS[Precision.FP16], **{name: value}), name) == value


@given(
    st.sampled_from(LIMITS),
    st.floats(max_value=-1.0, exclude_max=True)
    | st.floats(min_value=1000.0, exclude_min=True)
    | st.sampled_from([math.nan, True, False, "0.1", [0.1], 10**400]),
)
def test_a_limit_out_of_its_range_or_of_another_type_is_refused(name: str, value: Any) -> None:
    with pytest.raises(
        ConfigError, match=rf"limits 'fp16', {name}: expected a number from {LOW[name]:g} to {HIGH[name]:g}"
    ):
        replace(DEFAULT_LIMITS[Precision.FP16], **{name: value})


@pytest.mark.parametrize("name", ["", 3, None])
def test_a_gate_needs_a_name(name: Any) -> None:
    with pytest.raises(ConfigError, match="name of the limits: expected a text"):
        ParityLimits(name, max_abs_dp=0.1)


def test_a_gate_that_judges_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="every limit is off"):
        ParityLimits("mine", flip_margin_logit=0.1)


def test_an_empty_file_leaves_the_defaults(tmp_path: Path) -> None:
    assert load_limits(toml(tmp_path, "")) == DEFAULT_LIMITS


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte order mark"])
def test_a_file_changes_only_what_it_names(tmp_path: Path, mark: bytes) -> None:
    text = '[fp16]\nname = "clinic"\nmax_abs_dp = 0.02\nmax_flips_fraction = 1\nmin_cosine = "off"\n'
    got = load_limits(str(toml(tmp_path, mark + text.encode())))
    assert got[Precision.FP16] == replace(
        DEFAULT_LIMITS[Precision.FP16], name="clinic", max_abs_dp=0.02, max_flips_fraction=1, min_cosine=None
    )
    assert {**got, Precision.FP16: DEFAULT_LIMITS[Precision.FP16]} == DEFAULT_LIMITS


def test_the_defaults_are_not_changed_by_a_file(tmp_path: Path) -> None:
    before = dict(DEFAULT_LIMITS)
    load_limits(toml(tmp_path, "[int8]\nmax_abs_dp = 0.5\n"))
    assert before == DEFAULT_LIMITS


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[fp4]\nmax_abs_dp = 0.1\n", r"limits.toml: unknown table \[fp4\], expected fp32, fp16, int8, fp8"),
        ("[fp16]\nmax_dp = 0.1\n", r"limits.toml: \[fp16\] has an unknown key 'max_dp', expected name, max_abs_dp, "),
        ("fp16 = 0.1\n", r"limits.toml: fp16: expected a table \[fp16\], got 0.1"),
        ("[[fp16]]\nmax_abs_dp = 0.1\n", r"limits.toml: fp16: expected a table \[fp16\]"),
        (
            "[fp16]\nmax_abs_dp = 1.5\n",
            r"limits.toml: \[fp16\]: limits 'fp16', max_abs_dp: expected a number from 0 to 1, got 1.5",
        ),
        ("[fp16]\nmax_abs_dp = nan\n", r"limits.toml: \[fp16\]: limits 'fp16', max_abs_dp: .* got nan"),
        ('[fp16]\nmax_abs_dp = "none"\n', r"limits.toml: \[fp16\]: limits 'fp16', max_abs_dp: .* got 'none'"),
        (
            '[fp16]\nflip_margin_logit = "off"\n',
            r"limits.toml: \[fp16\]: limits 'fp16', flip_margin_logit: expected a number",
        ),
        ('[fp16]\nname = "off"\n', r"limits.toml: \[fp16\]: name of the limits: expected a text"),
        ("[fp16\n", "limits.toml: not a TOML file"),
        (b"[fp16]\nname = '\xff'\n", "limits.toml: not a TOML file"),
        (
            "[int8]\n" + "".join(f'{name} = "off"\n' for name in LIMITS if name != "flip_margin_logit"),
            r"limits.toml: \[int8\]: limits 'int8': every limit is off",
        ),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_its_name(tmp_path: Path, text: str | bytes, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_limits(toml(tmp_path, text))


def test_a_file_that_is_not_there_or_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"limits\.toml: can't be read: No such file"):
        load_limits(tmp_path / "limits.toml")
    with pytest.raises(ConfigError, match="can't be read"):
        load_limits(tmp_path)


class Warned(Silent):
    """Keeps the warnings."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def warn(self, text: str) -> None:
        self.texts.append(text)


def test_a_file_with_old_names_is_read_with_a_warning(tmp_path: Path) -> None:
    warned = Warned()
    got = load_limits(toml(tmp_path, "[fp16]\nmax_gate_l1 = 0.2\n"), progress=warned)
    assert got[Precision.FP16] == replace(DEFAULT_LIMITS[Precision.FP16], max_routing_l1=0.2)
    assert warned.texts == [
        "limits.toml: [fp16]: 'max_gate_l1' is the old name of 'max_routing_l1'; rename it, the next version will not "
        "read it"
    ]


def test_a_file_with_new_names_gives_no_warning(tmp_path: Path) -> None:
    warned = Warned()
    load_limits(toml(tmp_path, "[fp16]\nmax_routing_l1 = 0.2\n"), progress=warned)
    assert warned.texts == []


def test_an_old_name_beside_its_new_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[int8\]: 'max_gate_l1' is the old name of 'max_routing_l1', and both"):
        load_limits(toml(tmp_path, "[int8]\nmax_gate_l1 = 0.2\nmax_routing_l1 = 0.2\n"))


@pytest.mark.parametrize("precision", Precision)
def test_stored_limits_come_back(precision: Precision) -> None:
    limits = DEFAULT_LIMITS[precision]
    assert limits_from(limits.to_dict()) == (limits, ())


def test_stored_limits_with_old_names_come_back_with_a_note() -> None:
    data = DEFAULT_LIMITS[Precision.INT8].to_dict()
    data["max_gate_l1"] = data.pop("max_routing_l1")
    limits, notes = limits_from(data)
    assert limits == DEFAULT_LIMITS[Precision.INT8]
    assert len(notes) == 1 and notes[0].startswith("'max_gate_l1' is the old name")


def test_an_unknown_stored_limit_is_refused_or_dropped_with_a_note() -> None:
    data = {**DEFAULT_LIMITS[Precision.FP32].to_dict(), "max_later": 1.0}
    with pytest.raises(ConfigError, match="unknown key 'max_later'"):
        limits_from(data)
    limits, notes = limits_from(data, strict=False)
    assert limits == DEFAULT_LIMITS[Precision.FP32]
    assert notes == ("'max_later' is a limit that this version does not know, so it is not judged",)


def test_stored_limits_without_a_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="'name' is missing"):
        limits_from({"max_abs_dp": 0.1})


@pytest.mark.parametrize(
    ("table", "changes", "said"),
    [
        ("flip_margin = 0.02\n", {"flip_margin_logit": 0.08}, "read as flip_margin_logit = 0.08"),
        (
            "flip_margin = 0.02\nmax_flips_fraction = 0.1\n",
            {"flip_margin_logit": 0.08, "max_far_flips_fraction": 0.1},
            "read as flip_margin_logit = 0.08",
        ),
        ("flip_margin = 0\nmax_flips_fraction = 0.1\n", {"max_flips_fraction": 0.1}, "is not needed"),
        ("flip_margin = 0\n", {"flip_margin_logit": 0.0}, "read as flip_margin_logit = 0"),
    ],
)
def test_the_old_margin_in_probabilities_is_read_with_a_warning(
    tmp_path: Path, table: str, changes: dict[str, float], said: str
) -> None:
    warned = Warned()
    got = load_limits(toml(tmp_path, f"[fp16]\n{table}"), progress=warned)
    assert got[Precision.FP16] == replace(DEFAULT_LIMITS[Precision.FP16], **changes)
    assert len(warned.texts) == 1 and said in warned.texts[0] and "next version" in warned.texts[0]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("flip_margin = 0.1\nflip_margin_logit = 0.4\n", "'flip_margin' was replaced by 'flip_margin_logit', and both"),
        ("flip_margin = 1.5\n", "flip_margin: expected a number from 0 to 1, got 1.5"),
        ("flip_margin = true\n", "flip_margin: expected a number from 0 to 1, got True"),
        ('flip_margin = "off"\n', "flip_margin: expected a number from 0 to 1, got 'off'"),
    ],
)
def test_an_old_margin_that_is_wrong_is_refused(tmp_path: Path, table: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"limits.toml: [int8]: {said}")):
        load_limits(toml(tmp_path, f"[int8]\n{table}"))


_THEN = (Precision.FP32, Precision.FP16, Precision.INT8)
"""The precisions of that version."""


def of_version_1(precision: Precision) -> dict[str, Any]:
    """The default limits as the version before stored them."""
    dp, margin, flips = {Precision.FP32: (1e-4, 1e-4, 0.0), Precision.FP16: (0.01, 0.01, 0.0)}.get(
        precision, (0.05, 0.0, 0.005)
    )
    data = DEFAULT_LIMITS[precision].to_dict()
    routing = data.pop("max_routing_l1")
    for new in ("max_abs_dlogit", "flip_margin_logit", "max_far_flips_fraction", "max_attention_l1"):
        del data[new]
    old = {"max_abs_dp": dp, "flip_margin": margin, "max_flips_fraction": flips}
    return {**data, **old, "max_gate_l1": routing}


@pytest.mark.parametrize("precision", _THEN)
def test_limits_of_an_old_bundle_get_the_limits_on_logits_that_they_lack(precision: Precision) -> None:
    default = DEFAULT_LIMITS[precision]
    limits, _ = limits_from(of_version_1(precision), missing=default)
    assert limits == default


@pytest.mark.parametrize("precision", _THEN)
def test_limits_of_an_old_report_stay_those_that_it_was_judged_by(precision: Precision) -> None:
    limits, notes = limits_from(of_version_1(precision))
    assert limits.max_abs_dlogit is None and limits.max_abs_dp == DEFAULT_LIMITS[precision].max_abs_dp
    if precision is Precision.INT8:
        assert (limits.max_flips_fraction, limits.max_far_flips_fraction) == (0.005, None)
    else:
        assert (limits.max_flips_fraction, limits.max_far_flips_fraction) == (None, 0.0)
    assert len(notes) == 2
