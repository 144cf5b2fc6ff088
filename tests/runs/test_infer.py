"""The verb ``infer_scans``: plain arguments in, one frozen result out, nothing printed."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, fields
from inspect import signature
from pathlib import Path
from typing import Any

import pytest

from molre_edge import ConfigError, ParityLimits, UsageError, infer_scans
from molre_edge.parity import DEFAULT_LIMITS
from molre_edge.runs.context import InferOptions
from molre_edge.runs.judging import read_limits
from molre_edge.specs import Precision


def test_the_result_has_everything_and_nothing_is_printed(
    tiny_bundle: Path, tiny_scans: Path, tmp_path: Path, told: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    result = infer_scans(
        str(tiny_scans), "fp32", bundle=str(tiny_bundle), out=str(tmp_path / "run"), reference="golden", progress=told
    )
    assert capfd.readouterr() == ("", "")
    assert (result.exit_code, result.meaning, result.parity_failed, result.rejected) == (0, "done", False, ())
    assert result.folder == tmp_path / "run" and result.report.is_file() and result.seconds > 0
    assert result.verdict is not None and result.verdict.passed
    lines = [json.loads(line) for line in (tmp_path / "run" / "findings.jsonl").read_text().splitlines()]
    data = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    for told_line, written in zip(data["findings"], lines, strict=True):
        assert told_line == {key: written[key] for key in told_line}
    assert data["scans"] == 4
    assert told.steps[-1] == "results" and "Scans: 4 to do" in told.infos
    with pytest.raises(FrozenInstanceError):
        result.folder = tmp_path  # type: ignore[misc]


def test_every_option_of_the_verb_is_one_of_its_options_value() -> None:
    assert set(signature(infer_scans).parameters) - {"progress"} == {field.name for field in fields(InferOptions)}
    defaults = {name: each.default for name, each in signature(infer_scans).parameters.items() if name != "scans"}
    own = {field.name: field.default for field in fields(InferOptions) if field.name != "scans"}
    assert {name: value for name, value in defaults.items() if name != "progress"} == own


def test_the_command_in_the_report_has_every_option_and_no_path() -> None:
    options = InferOptions(
        scans=Path("Muster^Erika"),
        engine="torch",
        bundle=Path("Muster"),
        out=Path("Muster"),
        resume=True,
        reference="Muster/ckpt.pt",
        reference_scans=3,
        backbone_weights=Path("Muster"),
        labels=Path("Muster.csv"),
        limits=Path("Muster.toml"),
        all_series=True,
        expect_digest="00ff",
        threads=2,
        readers=0,
        images=True,
    )
    assert options.as_typed() == (
        "molre-edge infer SCANS --engine torch --reference CKPT --reference-scans 3 --backbone-weights DIR "
        "--labels CSV --limits TOML --all-series --expect-digest 00ff --threads 2 --readers 0 --images"
    )
    assert InferOptions(scans=Path("s")).as_typed() == "molre-edge infer SCANS --engine fp16"
    assert InferOptions(scans=Path("s"), reference="golden").as_typed().endswith("--engine fp16 --reference golden")


@pytest.mark.parametrize(
    ("option", "value"), [("reference_scans", 0), ("threads", 0), ("readers", -1), ("readers", 65)]
)
def test_numbers_out_of_range_are_refused_before_anything_is_opened(option: str, value: int) -> None:
    with pytest.raises(UsageError, match=rf"--{option.replace('_', '-')} {value}: expected a number from"):
        infer_scans("nowhere", bundle="nowhere", **{option: value})  # type: ignore[arg-type]


def test_limits_are_a_file_or_values(tmp_path: Path) -> None:
    assert read_limits(None) is None
    (tmp_path / "mine.toml").write_text("[fp16]\nmax_abs_dp = 0.5\n")
    own = ParityLimits("own", max_abs_dp=0.5)
    for limits, source in (
        (tmp_path / "mine.toml", "--limits mine.toml"),
        ({"fp16": {"max_abs_dp": 0.5}}, "given as values"),
        ({Precision.FP16: own}, "given as values"),
    ):
        read = read_limits(limits)  # type: ignore[arg-type]
        assert read is not None and read.source == source
        assert read[Precision.FP16].max_abs_dp == 0.5
        assert read[Precision.FP32] == DEFAULT_LIMITS[Precision.FP32]


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"fp4": {}}, "unknown precision 'fp4', expected fp32, fp16, int8, fp8"),
        ({"fp16": {"max_dp": 1}}, "limits of fp16: expected ParityLimits or limits by name"),
        ({"fp16": {"max_abs_dp": 2}}, "max_abs_dp: expected a number from 0 to 1"),
        ({"fp16": 3}, "limits of fp16: expected ParityLimits"),
    ],
)
def test_limits_that_are_none_are_refused(limits: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_limits(limits)
