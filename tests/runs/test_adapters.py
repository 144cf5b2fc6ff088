"""One bundle, several adapters: each run names the one that answered, and its findings are that adapter's own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from molre_edge import AdapterError, EngineError, ParityFailedError, RunError, add_adapter, infer_scans, load_model
from molre_edge.bundle.bundle import Bundle
from molre_edge.runs import loaded as module
from molre_edge.runs.loaded import LoadedModel

ENGINE = "onnxruntime:fp32"


@pytest.fixture(scope="module")
def box(adapter_bundle: Path, other_adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle with two adapters, ``default`` and ``other``."""
    folder = Path(shutil.copytree(adapter_bundle, tmp_path_factory.mktemp("box") / "edge-bundle"))
    add_adapter(other_adapter, bundle=folder)
    return folder


@pytest.fixture
def model(box: Path) -> Iterator[LoadedModel]:
    with load_model(box, ENGINE, readers=0) as loaded:
        yield loaded


def test_a_run_names_its_adapter_everywhere_and_has_its_findings(box: Path, tiny_scans: Path, tmp_path: Path) -> None:
    result = infer_scans(
        tiny_scans / "head-2", ENGINE, bundle=box, adapter="other", out=tmp_path / "run", reference="golden"
    )
    using = Bundle.open(box).select("other").using
    assert using is not None
    assert (result.adapter, result.adapter_sha256) == ("other", using.digest)
    assert result.verdict is not None and result.verdict.passed  # the golden answers are the adapter's own
    [scan] = result.scans
    assert tuple(scan.findings) == using.findings
    assert [finding.threshold for finding in scan.findings.values()] == [0.3, 0.4, 0.5, 0.6]
    assert scan.gates is not None and {len(router) for router in scan.gates} == {2}
    [line] = map(json.loads, (tmp_path / "run" / "findings.jsonl").read_text().splitlines())
    assert (line["adapter"], line["adapter_sha256"]) == ("other", using.digest)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert (report["bundle"]["adapter"], report["bundle"]["adapter_sha256"]) == ("other", using.digest)
    assert (
        f'adapter other, SHA-256</dt><dd class="mono">{using.digest}' in (tmp_path / "run" / "report.html").read_text()
    )
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["task"]["adapter"] == f"other {using.digest}"


def test_a_run_is_continued_with_its_own_adapter_only(box: Path, tiny_scans: Path, tmp_path: Path) -> None:
    options = {"bundle": box, "out": tmp_path / "run", "reference": "none"}
    infer_scans(tiny_scans / "head-2", ENGINE, adapter="other", **options)
    with pytest.raises(RunError, match="that run had adapter 'other "):
        infer_scans(tiny_scans / "head-2", ENGINE, resume=True, **options)


def test_a_loaded_model_switches_from_study_to_study(model: LoadedModel, box: Path) -> None:
    golden = {name: Bundle.open(box).select(name).golden() for name in ("default", "other")}
    for name in ("other", "default", "other", "default"):
        model.use_adapter(name)
        answered = model.run(golden[name].volumes)
        assert model.adapter == name
        assert answered.logits.shape[1] == len(model.findings) == len(model.thresholds)
        assert np.allclose(answered.logits, golden[name].outputs.logits, atol=1e-4)
        assert np.allclose(answered.gates, golden[name].outputs.gates, atol=1e-5)


def test_an_answer_says_which_adapter_gave_it(model: LoadedModel, tiny_scans: Path) -> None:
    model.use_adapter("other")
    answer = model.predict(tiny_scans / "head-2").to_dict()
    assert (answer["adapter"], answer["adapter_sha256"]) == ("other", model.adapter_sha256)
    assert list(answer["findings"]) == list(model.findings)


def test_switching_loads_nothing_and_asks_no_golden_volume_again(
    model: LoadedModel, box: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.use_adapter("other")

    def never(*_: object) -> None:
        raise AssertionError("loaded, or asked again")

    monkeypatch.setattr(module, "fitted_for", never)
    monkeypatch.setattr(model, "_check", never)
    for name in ("default", "other"):
        model.use_adapter(name)


def test_an_adapter_that_does_not_answer_here_leaves_the_one_before(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = np.zeros((1, *model.grid.shape))
    before = model.run(volume).logits

    def fail(bundle: Bundle) -> None:
        raise ParityFailedError("outside its limits")

    monkeypatch.setattr(model, "_check", fail)
    with pytest.raises(ParityFailedError):
        model.use_adapter("other")
    assert model.adapter == "default"
    assert np.array_equal(model.run(volume).logits, before)


def test_an_adapter_that_is_not_there_is_answered_with_those_that_are(box: Path, tiny_bundle: Path) -> None:
    with pytest.raises(AdapterError, match="no adapter 'third'; it has default, other"):
        load_model(box, ENGINE, adapter="third")
    with load_model(tiny_bundle, ENGINE, readers=0) as constants, pytest.raises(AdapterError, match="take no adapter"):
        constants.use_adapter("other")


def test_the_pytorch_model_is_that_of_the_adapter_s_own_checkpoint(box: Path, other_checkpoint: Path) -> None:
    with load_model(box, "torch", adapter="other", checkpoint=other_checkpoint, readers=0) as model:
        assert model.findings == ("bleed", "infarct", "shift", "own-finding")
        golden = Bundle.open(box).select("other").golden()
        assert np.allclose(model.run(golden.volumes).logits, golden.outputs.logits, atol=1e-5)
        with pytest.raises(EngineError, match="the PyTorch model is that of one checkpoint"):
            model.use_adapter("default")
