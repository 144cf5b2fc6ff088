"""A model in a process of one's own answers as a run does, and says what it read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from molre_edge import (
    BundleError,
    EngineError,
    ParityFailedError,
    RunError,
    ScanError,
    UsageError,
    infer_scans,
    load_model,
)
from molre_edge.bundle.bundle import Bundle
from molre_edge.engines.onnxruntime_runner import OnnxRuntimeRunner
from molre_edge.runs.loaded import LoadedModel
from molre_edge.scans import find_scans, read_scan, to_grid


@pytest.fixture(scope="module")
def model(tiny_bundle: Path) -> Iterator[LoadedModel]:
    with load_model(tiny_bundle, "fp32", readers=0) as loaded:
        yield loaded


def test_it_answers_a_study_as_a_run_does(
    model: LoadedModel, tiny_bundle: Path, tiny_scans: Path, tmp_path: Path
) -> None:
    run = infer_scans(tiny_scans / "head-2", "fp32", bundle=tiny_bundle, out=tmp_path / "run", reference="none")
    [scan] = run.scans
    answer = model.predict(tiny_scans / "head-2")
    assert {each.slice for each in answer.slices} == set(range(1, model.grid.slices + 1))
    source = answer.slices[0].source
    assert (source.path.parent, bool(source.sop_uid), source.frame) == (tiny_scans / "head-2", True, 1)
    assert answer.findings == scan.findings and answer.positive == scan.positive
    assert (answer.gates, answer.facts, answer.attended) == (scan.gates, scan.facts, scan.attended)
    assert (answer.engine, answer.bundle) == (run.engine, run.bundle) == ("onnxruntime:fp32", model.bundle)
    assert (answer.path.name, answer.kind, answer.files) == ("head-2", "dicom", 12)
    assert {"read", "geometry", "compute"} <= answer.milliseconds.keys()


def test_it_names_the_slice_and_the_image_of_most_attention_and_its_json_no_image(
    model: LoadedModel, tiny_scans: Path
) -> None:
    answer = model.predict(tiny_scans / "head-2")
    weights = answer.outputs.attention
    assert weights is not None and weights.shape == (1, model.grid.slices)
    assert weights.sum() == pytest.approx(1, abs=1e-6)
    assert answer.attended is not None and answer.attended_image is not None
    assert (answer.attended.slice, answer.attended.weight) == (weights.argmax() + 1, float(weights.max()))
    assert answer.attended.source_slice is not None and 1 <= answer.attended.source_slice <= answer.facts["slices"]
    named = [each for each in answer.slices if each.source == answer.attended_image]
    assert {each.number for each in named} == {answer.attended.source_slice}
    assert answer.to_dict()["attention"] == answer.attended.to_dict()
    assert answer.attended_image.sop_uid and answer.attended_image.sop_uid not in json.dumps(answer.to_dict())


def test_its_json_has_the_words_of_a_run_and_no_path(model: LoadedModel, tiny_scans: Path) -> None:
    data = json.loads(json.dumps(model.predict(tiny_scans / "head-4.nii.gz").to_dict(), allow_nan=False))
    assert data["read"] == {"kind": "nifti", "files": 1}
    assert set(data["findings"][model.findings[0]]) == {"probability", "threshold", "positive"}
    assert "head-4" not in json.dumps(data)


def test_arrays_get_the_answers_of_the_runner(
    model: LoadedModel, tiny_scans: Path, bundle: Bundle, runner: OnnxRuntimeRunner
) -> None:
    volumes = np.stack([to_grid(read_scan(source), bundle.grid) for source in find_scans(tiny_scans).scans[:2]])
    expected = [runner.run(volume[None]).outputs.logits[0] for volume in volumes]
    for dtype in (np.float16, np.float32, np.float64):
        assert np.allclose(model.run(volumes.astype(dtype)).logits, expected, atol=1e-5)


def test_values_of_a_volume_are_limited_as_those_of_a_scan_are(model: LoadedModel) -> None:
    air = np.full((1, *model.grid.shape), -1024, dtype=np.int16)
    assert np.array_equal(model.run(air).logits, model.run(air - 2000).logits)


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        (np.zeros((4, 32, 32)), r"expected float16 HU of that shape, got float16 \[4, 32, 32\]"),
        (np.zeros((1, 4, 32, 31)), r"got float16 \[1, 4, 32, 31\]"),
        (np.full((1, 4, 32, 32), np.nan), "contains NaN or infinity"),
        (np.zeros((1, 4, 32, 32), dtype=bool), "expected Hounsfield units as real numbers, got dtype bool"),
    ],
)
def test_arrays_that_are_no_volumes_are_refused(volume: np.ndarray, message: str, model: LoadedModel) -> None:
    with pytest.raises(EngineError, match=message):
        model.run(volume)


def test_several_studies_none_and_an_unusable_one_are_told(
    model: LoadedModel, tiny_scans: Path, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match="contains 4 studies, expected one"):
        model.predict(tiny_scans)
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="contains no head CT"):
        model.predict(tmp_path / "empty")
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(ScanError) as error:
        model.predict(tmp_path / "notes.txt")
    assert error.value.code == "not_a_scan"
    cut = Path(shutil.copytree(tiny_scans / "head-1", tmp_path / "cut"))
    for path in sorted(cut.iterdir())[2:10]:
        path.unlink()
    with pytest.raises(ScanError):
        model.predict(cut)


def test_a_reader_process_gives_the_same_and_is_gone_afterwards(
    model: LoadedModel, tiny_bundle: Path, tiny_scans: Path
) -> None:
    with load_model(tiny_bundle, "fp32") as apart:
        processes: list[Any] = [reader._process for reader in apart._reader._readers._all]
        for name in ("head-1", "head-3"):
            assert apart.predict(tiny_scans / name).findings == model.predict(tiny_scans / name).findings
        assert [process.poll() for process in processes] == [None]
    assert all(process.poll() is not None for process in processes)


def test_an_engine_that_does_not_answer_as_pytorch_did_is_not_loaded(tiny_bundle: Path) -> None:
    with (
        pytest.raises(ParityFailedError, match="so it is not used"),
        load_model(tiny_bundle, "fp32", limits={"fp32": {"max_abs_dp": 0.0}}, threads=1),
    ):
        raise AssertionError("it was loaded")


def test_what_is_wrong_is_told_before_anything_is_loaded(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="not a bundle"):
        load_model(tmp_path / "nothing")
    with pytest.raises(BundleError, match="expected 0000"):
        load_model(tiny_bundle, expect_digest="0" * 64)
    with (
        pytest.raises(UsageError, match=r"--engine onnxruntme:fp16: expected .* Did you mean 'onnxruntime:fp16'"),
        load_model(tiny_bundle, "onnxruntme:fp16"),
    ):
        raise AssertionError("it was loaded")
