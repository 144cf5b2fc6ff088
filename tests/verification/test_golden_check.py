"""Verifying: every hash, the golden answers by limits, and an engine that is let through or not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_fixtures import with_wrong_slot

from molre_edge.bundle.bundle import MANIFEST, Bundle
from molre_edge.bundle.engine_files import write_engine
from molre_edge.engines.onnxruntime_runner import OnnxRuntimeRunner
from molre_edge.errors import BundleError, EngineError, ParityFailedError
from molre_edge.parity import DEFAULT_LIMITS, Outputs
from molre_edge.progress import Silent
from molre_edge.specs import Precision
from molre_edge.verification.golden_check import (
    LimitsChoice,
    check_files,
    check_golden,
    choose_limits,
    require_verified,
)
from molre_edge.verification.passed import VerifiedRecord, subject_of
from molre_edge.verification.verify import verify_bundle

LIMITS = LimitsChoice(DEFAULT_LIMITS[Precision.FP32], "default")
CALLS = 3 + 2
"""Of a verification: three golden volumes alone, and two batches of two."""


@pytest.fixture
def record(tmp_path: Path) -> VerifiedRecord:
    return VerifiedRecord(tmp_path / "state" / "verified.json")


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Bundle:
    return Bundle.open(Path(shutil.copytree(tiny_bundle, tmp_path / "edge-bundle")))


def far(outputs: Outputs) -> Outputs:
    return replace(outputs, logits=outputs.logits + 0.1)


def add_engine(bundle: Bundle) -> Path:
    facts = {"graph": {"file": "graphs/fp16.onnx", "sha256": bundle.manifest["files"]["graphs/fp16.onnx"]}}
    return write_engine(bundle, "rtx-fp16", b"an engine", facts).path


def test_the_hash_of_every_covered_file_and_engine_is_compared(copy: Bundle) -> None:
    engine = add_engine(copy)
    files = check_files(copy)
    assert set(files.checked) == {*copy.manifest["files"], "engines/rtx-fp16.engine"}
    assert files.problems == {}
    engine.write_bytes(b"another engine")
    (copy.folder / "golden" / "golden.npz").unlink()
    problems = check_files(copy).problems
    assert set(problems) == {"engines/rtx-fp16.engine", "golden/golden.npz"}
    assert "swapped" in problems["engines/rtx-fp16.engine"]


def test_a_damaged_json_of_an_engine_is_a_problem(copy: Bundle) -> None:
    add_engine(copy).with_suffix(".json").write_text("{")
    assert list(check_files(copy).problems) == ["engines"]


def test_the_engine_s_answers_are_judged_by_the_limits(bundle: Bundle, runner: Any, altered: Any) -> None:
    good, bad = (check_golden(bundle, each, LIMITS.limits) for each in (runner, altered(far)))
    assert good.verdict.passed and good.numbers.n == len(good.compute_ms) == 3
    assert {check.name for check in bad.verdict.failed} >= {"max_abs_dp"}


def test_the_limits_are_the_user_s_or_the_bundle_s_or_the_default(bundle: Bundle, tmp_path: Path) -> None:
    assert choose_limits(bundle, Precision.FP32, None) == LIMITS
    own = choose_limits(bundle, Precision.FP16, None)
    assert own.limits.max_abs_dp == 0.1 and "the bundle's own" in own.source
    mine = tmp_path / "mine.toml"
    mine.write_text("[fp16]\nmax_abs_dp = 0.3\n")
    assert choose_limits(bundle, Precision.FP16, mine).limits.max_abs_dp == 0.3


def test_limits_of_a_manifest_of_version_0_1_are_read(copy: Bundle) -> None:
    manifest = json.loads((copy.folder / MANIFEST).read_text())
    manifest["parity"]["fp16"]["gate"] = manifest["parity"]["fp16"].pop("limits")
    (copy.folder / MANIFEST).write_text(json.dumps(manifest))
    assert choose_limits(Bundle.open(copy.folder), Precision.FP16, None).limits.max_abs_dp == 0.1


def test_limits_given_as_values_apply(bundle: Bundle) -> None:
    mine = {Precision.FP16: replace(DEFAULT_LIMITS[Precision.FP16], max_abs_dp=0.3)}
    assert choose_limits(bundle, Precision.FP16, mine).limits.max_abs_dp == 0.3
    assert choose_limits(bundle, Precision.FP32, mine).limits == DEFAULT_LIMITS[Precision.FP32]


def test_invalid_limits_of_the_manifest_are_refused(copy: Bundle) -> None:
    manifest = json.loads((copy.folder / MANIFEST).read_text())
    manifest["parity"]["fp16"]["limits"]["max_abs_dp"] = "no limit"
    (copy.folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="parity limits of fp16 are invalid"):
        choose_limits(Bundle.open(copy.folder), Precision.FP16, None)


def test_an_engine_is_verified_once(bundle: Bundle, altered: Any, record: VerifiedRecord) -> None:
    runner = altered(lambda outputs: outputs)
    assert "verified now" in require_verified(bundle, runner, LIMITS, record)
    assert runner.asked == CALLS
    assert "verified on this machine" in require_verified(bundle, runner, LIMITS, record)
    assert runner.asked == CALLS


def test_without_a_place_to_note_it_an_engine_is_verified_each_time(bundle: Bundle, altered: Any) -> None:
    runner = altered(lambda outputs: outputs)
    for _ in range(2):
        assert "every start verifies again" in require_verified(bundle, runner, LIMITS, VerifiedRecord(None))
    assert runner.asked == 2 * CALLS


def test_an_engine_that_answers_otherwise_is_refused_each_time(
    bundle: Bundle, altered: Any, record: VerifiedRecord
) -> None:
    runner = altered(far)
    for _ in range(2):
        with pytest.raises(ParityFailedError, match="is not used: max_abs_dp"):
            require_verified(bundle, runner, LIMITS, record)
    assert runner.asked == 2 * CALLS


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another file": lambda subject: subject.update(file="0" * 64),
    "another runtime": lambda subject: subject["facts"].update(version="0.1"),
    "another device": lambda subject: subject["facts"].update(device="CUDA"),
    "another bundle": lambda subject: subject.update(bundle="0" * 64),
    "other limits": lambda subject: subject["limits"].update(max_abs_dp=0.5),
    "another machine": lambda subject: subject["machine"].update(cpu="another"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_pass_holds_for_nothing_else(change: str, bundle: Bundle, runner: Any, record: VerifiedRecord) -> None:
    subject = subject_of(bundle, runner, LIMITS.limits)
    assert record.add(subject, "passed")
    CHANGES[change](subject)
    assert record.when(subject) is None


def test_a_verification_tells_each_step(copy: Bundle, record: VerifiedRecord) -> None:
    steps: list[str] = []

    class Recorder(Silent):
        def step(self, name: str) -> None:
            steps.append(name)

    result = verify_bundle(copy, "fp32", record=record, threads=1, progress=Recorder())
    assert (result.exit_code, result.remembered, result.problem) == (0, True, None)
    assert steps == ["hashes", "loading the engine", "golden answers"]
    assert set(result.seconds) == {"hashes", "load", "golden", "in_all"}
    data = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert data["passed"] is True and data["volumes"] == 3 and data["engine"]["name"] == "onnxruntime:fp32"
    assert data["batches"] == {"size": 2, "answers": 4, "wrong_slots": [], "right_alone": True}


def test_a_bundle_with_an_altered_file_is_not_loaded(
    copy: Bundle, record: VerifiedRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (copy.folder / "graphs" / "fp16.onnx").open("ab") as file:
        file.write(b"x")
    monkeypatch.setattr(OnnxRuntimeRunner, "__enter__", lambda self: pytest.fail("loaded"))
    result = verify_bundle(copy, "fp32", record=record)
    assert result.exit_code == 1 and "altered" in str(result.problem) and result.golden is None


def test_an_engine_that_fails_takes_its_pass_back(
    copy: Bundle, record: VerifiedRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert verify_bundle(copy, "fp32", record=record).remembered
    with OnnxRuntimeRunner.from_bundle(copy, Precision.FP32) as runner:
        subject = subject_of(copy, runner, LIMITS.limits)
    assert record.when(subject)
    run = OnnxRuntimeRunner.run
    monkeypatch.setattr(
        OnnxRuntimeRunner, "run", lambda self, volume: replace(r := run(self, volume), outputs=far(r.outputs))
    )
    result = verify_bundle(copy, "fp32", record=record)
    assert (result.exit_code, record.when(subject)) == (3, None)


def test_an_engine_that_cannot_run_here_is_a_problem(
    copy: Bundle, record: VerifiedRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    def enter(self: OnnxRuntimeRunner) -> OnnxRuntimeRunner:
        raise EngineError("no memory left")

    monkeypatch.setattr(OnnxRuntimeRunner, "__enter__", enter)
    result = verify_bundle(copy, "fp32", record=record)
    assert (result.exit_code, result.problem) == (1, "no memory left")


@pytest.mark.parametrize("slot", [1, 2, 3, 4])
def test_an_engine_with_one_wrong_slot_in_its_largest_batch_is_refused(
    slot: int, bundle: Bundle, wrong_slot: Any, record: VerifiedRecord
) -> None:
    words = rf"rightly one volume at a time, and wrongly in slot {slot} of a batch of 4; .*--batch 1 1 1"
    with pytest.raises(ParityFailedError, match=words):
        require_verified(bundle, wrong_slot(slot), LIMITS, record)
    assert check_golden(bundle, wrong_slot(slot, batch=(1, 1, 1)), LIMITS.limits).verdict.passed


def test_a_runner_of_batches_of_any_size_is_judged_in_pairs(bundle: Bundle, wrong_slot: Any) -> None:
    check = check_golden(bundle, wrong_slot(2, batch=None), LIMITS.limits)
    assert (check.judgement.size, check.judgement.wrong_slots, check.judgement.more) == (2, (2,), 4)
    assert np.array_equal(
        check.outputs.logits, check_golden(bundle, wrong_slot(1, batch=None), LIMITS.limits).outputs.logits
    )


def test_where_a_fused_attention_may_be_at_fault_the_remedy_is_named(
    bundle: Bundle, altered: Any, record: VerifiedRecord
) -> None:
    class Fusing(type(altered(far))):  # type: ignore[misc]
        @property
        def facts(self) -> dict[str, Any]:
            return {**self._inner.facts, "batch": [1, 1, 4], "fused_attention": 12}

    inner = altered(far)
    with pytest.raises(ParityFailedError, match=r"It fuses 12 attentions, .* 'molre-edge export --attention unfused'"):
        require_verified(bundle, Fusing(inner._inner, far), LIMITS, record)


def test_verify_names_the_slot_that_is_wrong(
    copy: Bundle, record: VerifiedRecord, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = OnnxRuntimeRunner.run
    monkeypatch.setattr(OnnxRuntimeRunner, "run", lambda self, volume: with_wrong_slot(run(self, volume), 2))
    result = verify_bundle(copy, "fp32", record=record, out=tmp_path / "verify.xml")
    assert result.exit_code == 3 and "in slot 2 of a batch of 2" in str(result.problem)
    assert result.to_dict()["batches"]["wrong_slots"] == [2]
    assert 'failure type="parity" message="it answers rightly' in (tmp_path / "verify.xml").read_text()


OWN = "as your model answered (answers.npz, 3 scans, from scan files)"
REBUILD = "as molre-edge's rebuild of the checkpoint answered 3 golden volumes at export"


def test_a_verification_says_by_whose_answers(
    bundle: Bundle, own_bundle: Bundle, record: VerifiedRecord, tmp_path: Path
) -> None:
    for each, words in ((bundle, REBUILD), (own_bundle, OWN)):
        result = verify_bundle(each, "onnxruntime:fp32", record=record, out=tmp_path / "verify.xml")
        assert result.golden is not None and result.golden.verdict.headline.startswith(f"Parity passed: {words}")
        data = result.to_dict()
        assert data["reference"].startswith(words) and next(iter(data["parity"])) == "headline"
        assert words in (tmp_path / "verify.xml").read_text().replace("&apos;", "'")


def test_an_engine_is_refused_in_the_name_of_the_user_s_own_model(
    own_bundle: Bundle, altered: Any, record: VerifiedRecord
) -> None:
    with pytest.raises(
        ParityFailedError, match=r"does not answer the golden volumes as your model \(answers.npz\) did"
    ):
        require_verified(own_bundle, altered(far), LIMITS, record)
