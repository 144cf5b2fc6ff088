"""Calibrations of the tiny bundle, from scans to the files in the bundle."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from molre_edge.bundle.bundle import Bundle, amend_manifest
from molre_edge.calibration.evidence import answers
from molre_edge.calibration.number_format import FORMATS
from molre_edge.calibration.run import calibrate_bundle
from molre_edge.calibration.samples import VolumeReader, content_of, describe_scans, split_scans
from molre_edge.calibration.settings import CalibrationSettings
from molre_edge.errors import BundleError, CalibrationError, ConfigError, InUseError, ParityFailedError
from molre_edge.findings import finding_words
from molre_edge.locks import hold
from molre_edge.parity import ParityLimits, sigmoid
from molre_edge.scans import ScanSource, find_scans
from molre_edge.specs import Precision, RangeMethod

LOOSE = ParityLimits("loose", max_abs_dp=0.1, max_flips_fraction=0.1, min_cosine=0.97, max_routing_l1=0.15)
"""Those of the fixture ``calibrated``."""


def state(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_bundle_has_a_graph_that_keeps_its_limits_and_says_what_is_in_it(calibrated: Any) -> None:
    result, events = calibrated
    bundle = Bundle.open(result.bundle, expect_digest=result.digest)
    assert bundle.graph(Precision.INT8).file == "graphs/int8.onnx"
    graph = onnx.load_from_string(bundle.read("graphs/int8.onnx"))
    report = json.loads(bundle.read("calibration/report.json"))
    quantised = [layer for layer in report["layers"] if layer["quantised"]]
    pairs = sum(node.op_type == "QuantizeLinear" for node in graph.graph.node)
    assert pairs == sum(3 if "attention input" in layer["name"] else 1 for layer in quantised) > 0
    assert report["summary"]["layers"] == len(quantised) == bundle.manifest["calibration"]["layers"]
    assert all(layer["quantised"] != bool(layer["why_not"]) for layer in report["layers"])
    assert [each["verdict"]["passed"] for each in report["comparisons"]] == [True] * 6
    assert bundle.manifest["parity"]["int8"]["verdict"]["passed"]
    assert re.search(r"the best set on all 4 scans\. That takes about \d+ s\. ", events.texts[0])
    assert sum(unit == "graphs" for _, _, unit in events.counts) == len(report["trials"])


def test_the_share_in_8_bits_is_told_of_weights_and_of_multiply_adds(calibrated: Any) -> None:
    report = calibrated[0].report
    summary, layers = report["summary"], [layer for layer in report["layers"] if layer["quantised"]]
    everything = sum(layer["multiply_adds"] for layer in report["layers"])
    share = sum(layer["multiply_adds"] for layer in layers) / everything
    assert 0 < summary["multiply_adds_share"] < share, "inner products of attention are not among the layers"
    told = f"{summary['weights_share']:.1%} of the layers' weights and {summary['multiply_adds_share']:.1%} of the"
    assert told in summary["coverage"]


def test_an_fp8_graph_lies_beside_an_int8_one_and_is_found_again(
    run: Any, calibrated: Any, tiny_scans: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(calibrated[0].bundle, tmp_path / "edge-bundle"))
    before, wide = state(folder), ParityLimits("wide", max_abs_dp=0.5)
    settings = {"precision": Precision.FP8, "method": RangeMethod.MINMAX}
    result, events = run(folder, tiny_scans, wide, **settings)
    bundle = Bundle.open(folder, expect_digest=result.digest)
    assert {name for name, sha256 in state(folder).items() if before.get(name) != sha256} == {
        "calibration/report-fp8.html", "calibration/report-fp8.json", "graphs/fp8.onnx", "manifest.json",
    }  # fmt: skip
    assert set(bundle.graphs) == set(Precision)
    graph = onnx.load_from_string(bundle.read("graphs/fp8.onnx"))
    assert TensorProto.FLOAT8E4M3FN in {tensor.data_type for tensor in graph.graph.initializer}
    assert bundle.manifest["calibration_fp8"]["coverage"].endswith("% of the model's multiply-adds")
    assert "layers in FP8" in bundle.manifest["calibration_fp8"]["coverage"]
    assert bundle.manifest["calibration"] == Bundle.open(calibrated[0].bundle).manifest["calibration"]
    assert any("layers may be FP8" in text for text in events.texts)
    (conv,) = (layer for layer in result.report["layers"] if layer["op"] == "Conv")
    assert conv["why_not"] == "TensorRT-RTX computes convolutions with FP8 Q/DQ in float16"
    assert run(folder, tiny_scans, wide, **settings)[0].unchanged


def test_if_nothing_fits_in_fp8_that_is_said_and_the_bundle_stays(run: Any, bundle: Path, tiny_scans: Path) -> None:
    before = state(bundle)
    with pytest.raises(ParityFailedError, match=r"no layer can be FP8 within the limits 'tight'"):
        run(bundle, tiny_scans, ParityLimits("tight", max_abs_dp=1e-9), precision=Precision.FP8, method=None)
    assert state(bundle) == before


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"precision": "fp16"}, r"precision is fp16; expected int8 or fp8"),
        ({"precision": "fp4"}, r"precision: 'fp4' is unknown; expected int8 or fp8"),
        (
            {"precision": "fp8", "ranges": "entropy"},
            r"entropy ranges do not suit fp8; expected minmax, perc",
        ),
    ],
)
def test_formats_and_ranges_that_do_not_exist_are_refused(
    settings: dict[str, Any], reason: str, bundle: Path, tiny_scans: Path
) -> None:
    with pytest.raises(ConfigError, match=reason):
        calibrate_bundle(tiny_scans, bundle, **settings)


def test_what_was_exported_is_untouched(calibrated: Any, tiny_bundle: Path) -> None:
    result, _ = calibrated
    before, after = state(tiny_bundle), state(result.bundle)
    assert {name for name in after if before.get(name) != after[name]} == {
        "calibration/report.html", "calibration/report.json", "graphs/int8.onnx", "manifest.json",
    }  # fmt: skip


def test_few_slices_are_a_warning_with_their_number(calibrated: Any) -> None:
    result, events = calibrated
    assert "only 12 slices of 3 scans" in events.warnings[0]
    assert any("12 slices" in note for note in result.report["notes"])


def test_the_same_inputs_end_in_the_same_graph_byte_for_byte(
    calibrated: Any, run: Any, bundle: Path, tiny_scans: Path, tmp_path: Path
) -> None:
    moved = shutil.copytree(tiny_scans, tmp_path / "moved")
    (moved / "head-1").rename(moved / "zzz")  # neither names nor their order matter
    again, _ = run(bundle, moved)
    graphs = [(folder / "graphs/int8.onnx").read_bytes() for folder in (calibrated[0].bundle, again.bundle)]
    assert graphs[0] == graphs[1]
    assert again.report["key"] == calibrated[0].report["key"]


def test_a_second_time_costs_nothing_and_changes_nothing(calibrated: Any, run: Any, tiny_scans: Path) -> None:
    first, _ = calibrated
    before = state(first.bundle)
    second, events = run(first.bundle, tiny_scans)
    assert (second.unchanged, second.digest) == (True, first.digest)
    assert events.steps == ["hashing the scans"]
    assert state(first.bundle) == before


def test_the_verb_takes_plain_arguments_prints_nothing_and_returns_what_json_prints(
    calibrated: Any, tiny_scans: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first, _ = calibrated
    result = calibrate_bundle(
        str(tiny_scans), str(first.bundle), limits={Precision.INT8: LOOSE}, ranges="mse", threads=1
    )
    assert (result.unchanged, result.digest, result.complete) == (True, first.digest, True)
    assert capfd.readouterr() == ("", "")
    assert all(path.is_file() for path in (result.graph, result.report_file, result.page))
    data = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert data["summary"] == result.report["summary"]
    assert [each["passed"] for each in data["comparisons"]] == [True] * 6


def test_an_unknown_method_of_ranges_is_refused_with_the_known_ones(tiny_scans: Path, tiny_bundle: Path) -> None:
    with pytest.raises(ConfigError, match="'guess' is unknown; expected minmax, percentile, entropy, mse"):
        calibrate_bundle(tiny_scans, tiny_bundle, ranges="guess")


def test_the_screen_the_page_and_the_manifest_have_one_wording_of_the_layers(calibrated: Any) -> None:
    result, _ = calibrated
    summary = result.report["summary"]
    assert summary["coverage"].startswith(f"{summary['layers']} of {len(result.report['layers'])} layers in INT8, ")
    assert Bundle.open(result.bundle).manifest["calibration"]["coverage"] == summary["coverage"]
    chosen = [item for item in result.report["ranking"] if item["quantised"]]
    assert sum(item["layers"] for item in chosen) == summary["layers"]


def test_a_planted_outlier_is_found_and_left_out(run: Any, bundle: Path, tiny_scans: Path) -> None:
    graph = onnx.load(bundle / "graphs/fp32.onnx")
    norm = next(node for node in graph.graph.node if node.op_type == "LayerNormalization")
    [product] = [node for node in graph.graph.node if norm.output[0] in node.input]
    tensors = {tensor.name: numpy_helper.to_array(tensor).copy() for tensor in graph.graph.initializer}
    for place, name in enumerate(norm.input[1:], start=1):  # a gain of its own: equal ones are shared
        value = tensors[name]
        value[0] *= 300
        graph.graph.initializer.append(numpy_helper.from_array(value, f"outlier_{place}"))
        norm.input[place] = f"outlier_{place}"
    weight = next(tensor for tensor in graph.graph.initializer if tensor.name == product.input[1])
    value = tensors[weight.name]
    value[0] /= 300
    weight.CopyFrom(numpy_helper.from_array(value, weight.name))
    opened = Bundle.open(bundle)
    raw = graph.SerializeToString()
    (bundle / "graphs/fp32.onnx").write_bytes(raw)
    amend_manifest(
        opened, opened.manifest, {**opened.manifest["files"], "graphs/fp32.onnx": hashlib.sha256(raw).hexdigest()}
    )
    result, _ = run(bundle, tiny_scans, ParityLimits("wide", max_abs_dp=0.12, max_routing_l1=0.25))
    layers = {layer["node"]: layer for layer in result.report["layers"]}
    assert not layers[product.name]["quantised"]
    assert layers[product.name]["sensitivity"] == max(layer["sensitivity"] or 0 for layer in layers.values())
    assert result.report["summary"]["layers"] >= 2


def test_a_decision_that_flips_on_a_scan_of_the_ranges_costs_layers(run: Any, bundle: Path, tiny_scans: Path) -> None:
    limits = {"max_abs_dp": 0.1, "min_cosine": 0.97, "max_routing_l1": 0.15}
    free, _ = run(bundle, tiny_scans, ParityLimits("flips are free", **limits))
    opened = Bundle.open(bundle)
    scans = find_scans(tiny_scans).scans
    samples, _ = describe_scans(scans, [content_of(source) for source in scans], opened.grid)
    split = split_scans(samples, CalibrationSettings(), opened.grid.slices)
    seen = list(VolumeReader(opened.grid).read(split.calibration))
    before, after = (
        answers(opened.read(opened.graph(precision).file), seen, precision=precision, optimise=True).logits
        for precision in (Precision.FP32, Precision.INT8)
    )
    scan, finding = np.unravel_index(np.abs(before - after).argmax(), before.shape)
    thresholds = np.ones(len(opened.thresholds))  # all other findings are absent, whatever is INT8
    thresholds[finding] = (sigmoid(before) + sigmoid(after))[scan, finding] / 2
    amend_manifest(opened, {**opened.manifest, "thresholds": thresholds.tolist()}, opened.manifest["files"])
    result, events = run(bundle, tiny_scans, ParityLimits("no flips", max_flips_fraction=0.0, **limits))
    assert 0 < result.report["summary"]["layers"] < free.report["summary"]["layers"]
    assert any(each["what"].endswith("on all scans") and not each["fits"] for each in result.report["trials"])
    assert any("layers are too many: " in text and "on all 4 scans" in text for text in events.texts)
    assert result.report["comparisons"][-1]["what"].startswith("all 4 scans")


@pytest.mark.parametrize("earlier", [False, True], ids=["no int8 graph before", "one from before"])
def test_an_impossible_budget_leaves_the_bundle_as_it_was(
    run: Any, bundle: Path, calibrated: Any, tiny_scans: Path, tmp_path: Path, earlier: bool
) -> None:
    folder = Path(shutil.copytree(calibrated[0].bundle, tmp_path / "copy")) if earlier else bundle
    before = state(folder)
    with pytest.raises(ParityFailedError, match=r"no layer can be INT8 within the limits 'none'.*worst findings"):
        run(folder, tiny_scans, ParityLimits("none", max_abs_dp=1e-9))
    assert state(folder) == before


def test_other_settings_replace_the_graph_and_leave_one_set_of_notes(
    run: Any, calibrated: Any, tiny_scans: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(calibrated[0].bundle, tmp_path / "copy"))
    result, _ = run(folder, tiny_scans, ParityLimits("wider", max_abs_dp=0.3, max_routing_l1=0.5))
    bundle = Bundle.open(folder, expect_digest=result.digest)
    assert result.report["summary"]["layers"] > calibrated[0].report["summary"]["layers"]
    bundle.read("graphs/int8.onnx")
    assert sum("int8" in note for note in bundle.manifest["notes"]) == len(result.report["notes"]) == 2


def test_the_bundle_is_held_from_the_first_moment_to_the_last(
    bundle: Path, tiny_scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from molre_edge.calibration import run as module

    refused = list[str]()

    def second(*_: Any, **__: Any) -> Any:
        with pytest.raises(InUseError, match=r"in use by process \d+ .*molre-edge calibrate") as error:
            calibrate_bundle(tiny_scans, bundle)
        refused.append(str(error.value))
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "prepare", second)
    with pytest.raises(KeyboardInterrupt):
        calibrate_bundle(tiny_scans, bundle)
    assert len(refused) == 1
    with hold(bundle, "molre-edge build"):
        pass


def test_a_bundle_that_changes_meanwhile_is_left_alone(
    run: Any, bundle: Path, tiny_scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from molre_edge.calibration import keep as module

    def meddle(*args: Any, **more: Any) -> Any:
        (bundle / "manifest.json").write_text((bundle / "manifest.json").read_text() + "\n")
        return timed(*args, **more)

    timed = module.compare_speed
    monkeypatch.setattr(module, "compare_speed", meddle)
    with pytest.raises(CalibrationError, match="altered this bundle while it was calibrated"):
        run(bundle, tiny_scans)
    assert not (bundle / "graphs/int8.onnx").exists()


def test_the_page_is_self_contained_and_has_every_layer_and_finding(calibrated: Any) -> None:
    result, _ = calibrated
    page = (result.bundle / "calibration/report.html").read_text(encoding="utf-8")
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")
    assert "not a cleared medical device" in page
    for layer in result.report["layers"]:
        assert layer["node"] in page
    assert all(finding_words(each["finding"]) in page for each in result.report["comparisons"][0]["findings"])
    assert np.isfinite(result.report["speed"]["times_as_fast"])


def test_a_damaged_manifest_or_graph_is_an_error_that_says_so(run: Any, bundle: Path, tiny_scans: Path) -> None:
    opened = Bundle.open(bundle)
    amend_manifest(opened, {**opened.manifest, "routing": {"routers": 3}}, opened.manifest["files"])
    with pytest.raises(BundleError, match="of its manifest is damaged"):
        run(bundle, tiny_scans)
    (bundle / "graphs/fp32.onnx").write_bytes(b"no graph")
    digest = hashlib.sha256(b"no graph").hexdigest()
    amend_manifest(opened, opened.manifest, {**opened.manifest["files"], "graphs/fp32.onnx": digest})
    with pytest.raises(BundleError, match="is not an ONNX model"):
        run(bundle, tiny_scans)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (ParityLimits("AUC alone", max_mean_auc_drop=0.1), r"mean_auc_drop not judged: no labels.*give --labels"),
        (ParityLimits("AUC alone", max_finding_auc_drop=0.1), r"finding_auc_drop not judged: no labels"),
    ],
)
def test_limits_by_which_nothing_can_be_judged_are_refused_before_the_search(
    run: Any, bundle: Path, tiny_scans: Path, limits: ParityLimits, words: str
) -> None:
    with pytest.raises(CalibrationError, match=words):
        run(bundle, tiny_scans, limits)


def test_labels_are_judged_and_too_few_of_them_are_a_warning(run: Any, bundle: Path, tiny_scans: Path) -> None:
    findings = len(Bundle.open(bundle).findings)
    numbers = {source: float(n % 2) for n, source in enumerate(find_scans(tiny_scans).scans)}

    def labelled(source: ScanSource) -> npt.NDArray[np.float64]:
        return np.full(findings, numbers[source])

    limits = ParityLimits("AUC too", max_abs_dp=0.1, max_mean_auc_drop=1.0)
    result, events = run(bundle, tiny_scans, limits, labels=labelled)
    assert result.report["data"]["labelled_scans"] == 2
    last = result.report["comparisons"][-1]
    assert last["what"].startswith("all 4 scans")
    assert all(each["auc"] is not None for each in last["findings"])
    assert any("the labels can't be used: mean_auc_drop not judged" in text for text in events.warnings)  # of 2 of 4


def test_the_second_time_a_scan_that_can_t_be_used_is_named_too(
    run: Any, bundle: Path, tiny_scans: Path, tmp_path: Path
) -> None:
    scans = shutil.copytree(tiny_scans, tmp_path / "scans")
    (scans / "no-scan.nii.gz").write_text("hello")
    for _ in range(2):
        result, events = run(bundle, scans)
        assert any("no-scan.nii.gz can't be used" in text for text in events.warnings)
    assert result.unchanged


@pytest.mark.parametrize("what", ["a file", "a link"])
def test_a_bundle_without_a_place_for_the_result_is_refused_before_the_work(
    run: Any, bundle: Path, tiny_scans: Path, tmp_path: Path, what: str
) -> None:
    if what == "a file":
        (bundle / "calibration").touch()
    else:
        (tmp_path / "elsewhere").mkdir()
        (bundle / "calibration").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match=r"calibration: expected a folder, found a link or a file"):
        run(bundle, tiny_scans)


def test_answers_that_are_not_finite_are_no_number_in_the_report(
    run: Any, bundle: Path, tiny_scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sensitivity(numbers: Any, limits: ParityLimits) -> float:
        measured.append(0)
        return float("inf") if len(measured) == 2 else 0.1

    measured: list[int] = []
    monkeypatch.setattr("molre_edge.calibration.evaluator.sensitivity", sensitivity)
    result, _ = run(bundle, tiny_scans, ParityLimits("wide", max_abs_dp=0.5))
    report = json.loads((result.bundle / "calibration/report.json").read_text())
    assert None in report["blocks"].values()
    assert "None" not in (result.bundle / "calibration/report.html").read_text()


def test_thresholds_keep_scales_normal_in_float16() -> None:
    from molre_edge.calibration.prepare import normal_clipping

    clipping = normal_clipping({"small": 1e-4, "large": 3.0}, FORMATS[Precision.INT8])
    scales = np.array(list(clipping.values()), np.float32) / 127
    assert (scales.astype(np.float16) >= np.finfo(np.float16).smallest_normal).all()
    assert scales[1] == np.float32(3.0) / 127
