"""Calibrations of the tiny bundle, from scans to the files in the bundle."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from molre_edge.bundle import Bundle, amend_manifest
from molre_edge.calibration.data import VolumeReader, choose, content_of, look
from molre_edge.calibration.judge import answers
from molre_edge.calibration.settings import CalibrationSettings
from molre_edge.errors import BundleError, CalibrationError, ParityFailedError
from molre_edge.parity import Gate, sigmoid
from molre_edge.scans import find_scans
from molre_edge.specs import Precision


def state(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_bundle_has_a_graph_that_keeps_its_gate_and_says_what_is_in_it(calibrated: Any) -> None:
    result, told = calibrated
    bundle = Bundle.open(result.folder, expect_digest=result.digest)
    assert bundle.graph(Precision.INT8).file == "graphs/int8.onnx"
    graph = onnx.load_from_string(bundle.read("graphs/int8.onnx"))
    report = json.loads(bundle.read("calibration/report.json"))
    quantised = [layer for layer in report["layers"] if layer["int8"]]
    pairs = sum(node.op_type == "QuantizeLinear" for node in graph.graph.node)
    assert pairs == sum(3 if "attention input" in layer["name"] else 1 for layer in quantised) > 0
    assert report["summary"]["layers"] == len(quantised) == bundle.manifest["calibration"]["layers"]
    assert all(layer["int8"] != bool(layer["why_not"]) for layer in report["layers"])
    assert [part["verdict"]["passed"] for part in report["judged"]] == [True] * 6
    assert bundle.manifest["parity"]["int8"]["verdict"]["passed"]
    assert " s or so; a set that fails on all 4 scans is made smaller" in told.texts[0]
    assert told.parts >= len(report["trials"])


def test_what_was_exported_is_untouched(calibrated: Any, tiny_bundle: Path) -> None:
    result, _ = calibrated
    before, after = state(tiny_bundle), state(result.folder)
    assert {name for name in after if before.get(name) != after[name]} == {
        "calibration/report.html", "calibration/report.json", "graphs/int8.onnx", "manifest.json",
    }  # fmt: skip


def test_few_slices_are_a_warning_with_their_number(calibrated: Any) -> None:
    result, told = calibrated
    assert "only 12 slices of 3 scans" in told.warnings[0]
    assert any("12 slices" in note for note in result.report["notes"])


def test_the_same_inputs_end_in_the_same_graph_byte_for_byte(
    calibrated: Any, run: Any, bundle: Path, tiny_scans: Path, tmp_path: Path
) -> None:
    moved = shutil.copytree(tiny_scans, tmp_path / "moved")
    (moved / "head-1").rename(moved / "zzz")  # neither names nor their order matter
    again, _ = run(bundle, moved)
    graphs = [(folder / "graphs/int8.onnx").read_bytes() for folder in (calibrated[0].folder, again.folder)]
    assert graphs[0] == graphs[1]
    assert again.report["key"] == calibrated[0].report["key"]


def test_a_second_time_costs_nothing_and_changes_nothing(calibrated: Any, run: Any, tiny_scans: Path) -> None:
    first, _ = calibrated
    before = state(first.folder)
    second, told = run(first.folder, tiny_scans)
    assert (second.unchanged, second.digest) == (True, first.digest)
    assert told.steps == ["hashing the scans"]
    assert state(first.folder) == before


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
    result, _ = run(bundle, tiny_scans, Gate("wide", max_abs_dp=0.12, max_gate_l1=0.25))
    layers = {layer["node"]: layer for layer in result.report["layers"]}
    assert not layers[product.name]["int8"]
    assert layers[product.name]["strain"] == max(layer["strain"] or 0 for layer in layers.values())
    assert result.report["summary"]["layers"] >= 2


def test_a_decision_that_flips_on_a_scan_of_the_ranges_costs_layers(
    run: Any, bundle: Path, calibrated: Any, tiny_scans: Path
) -> None:
    everything = Bundle.open(calibrated[0].folder)
    scans = find_scans(tiny_scans).scans
    contents = [content_of(source) for source in scans]
    split = choose(look(scans, contents, everything.grid)[0], CalibrationSettings(), everything.grid.slices)
    seen = list(VolumeReader(everything.grid).read(split.calibration))
    before, after = (
        answers(everything.read(everything.graph(precision).file), seen, precision=precision, optimise=True).logits
        for precision in (Precision.FP32, Precision.INT8)
    )
    between = (sigmoid(before) + sigmoid(after)) / 2
    scan, finding = np.unravel_index(np.abs(before - after).argmax(), before.shape)
    opened = Bundle.open(bundle)
    thresholds = np.ones(len(opened.thresholds))  # all other findings are absent, whatever is INT8
    thresholds[finding] = between[scan, finding]
    amend_manifest(opened, {**opened.manifest, "thresholds": thresholds.tolist()}, opened.manifest["files"])
    no_flips = Gate("no flips", max_abs_dp=0.1, max_flips_fraction=0.0, min_cosine=0.97, max_gate_l1=0.15)
    result, told = run(bundle, tiny_scans, no_flips)
    assert 0 < result.report["summary"]["layers"] < calibrated[0].report["summary"]["layers"]
    lost = [trial for trial in result.report["trials"] if trial["what"].endswith("on all scans") and not trial["fits"]]
    assert lost and any("layers are too many: " in text and "all 4 scans" in text for text in told.texts)
    assert result.report["judged"][-1]["what"].startswith("all 4 scans")


@pytest.mark.parametrize("earlier", [False, True], ids=["no int8 graph before", "one from before"])
def test_an_impossible_budget_leaves_the_bundle_as_it_was(
    run: Any, bundle: Path, calibrated: Any, tiny_scans: Path, tmp_path: Path, earlier: bool
) -> None:
    folder = Path(shutil.copytree(calibrated[0].folder, tmp_path / "copy")) if earlier else bundle
    before = state(folder)
    with pytest.raises(ParityFailedError, match=r"no layer can be INT8 within the gate 'none'.*worst findings"):
        run(folder, tiny_scans, Gate("none", max_abs_dp=1e-9))
    assert state(folder) == before


def test_other_settings_replace_the_graph_and_leave_one_set_of_notes(
    run: Any, calibrated: Any, tiny_scans: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(calibrated[0].folder, tmp_path / "copy"))
    result, _ = run(folder, tiny_scans, Gate("wider", max_abs_dp=0.3, max_gate_l1=0.5))
    bundle = Bundle.open(folder, expect_digest=result.digest)
    assert result.report["summary"]["layers"] > calibrated[0].report["summary"]["layers"]
    bundle.read("graphs/int8.onnx")
    assert sum("int8" in note for note in bundle.manifest["notes"]) == len(result.report["notes"]) == 2


def test_a_bundle_that_changes_meanwhile_is_left_alone(
    run: Any, bundle: Path, tiny_scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from molre_edge.calibration import run as module

    def meddle(*args: Any, **more: Any) -> Any:
        (bundle / "manifest.json").write_text((bundle / "manifest.json").read_text() + "\n")
        return timed(*args, **more)

    timed = module.compare_speed
    monkeypatch.setattr(module, "compare_speed", meddle)
    with pytest.raises(CalibrationError, match="altered while it was calibrated"):
        run(bundle, tiny_scans)
    assert not (bundle / "graphs/int8.onnx").exists()


def test_the_page_is_self_contained_and_has_every_layer_and_finding(calibrated: Any) -> None:
    result, _ = calibrated
    page = (result.folder / "calibration/report.html").read_text(encoding="utf-8")
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")
    assert "not a cleared medical device" in page
    for layer in result.report["layers"]:
        assert layer["node"] in page
    assert all(each["finding"] in page for each in result.report["judged"][0]["findings"])
    assert np.isfinite(result.report["speed"]["times_as_fast"])


def test_a_damaged_manifest_or_graph_is_an_error_that_says_so(run: Any, bundle: Path, tiny_scans: Path) -> None:
    opened = Bundle.open(bundle)
    amend_manifest(opened, {**opened.manifest, "routing": {"routers": 3}}, opened.manifest["files"])
    with pytest.raises(BundleError, match="manifest is damaged"):
        run(bundle, tiny_scans)
    (bundle / "graphs/fp32.onnx").write_bytes(b"no graph")
    digest = hashlib.sha256(b"no graph").hexdigest()
    amend_manifest(opened, opened.manifest, {**opened.manifest["files"], "graphs/fp32.onnx": digest})
    with pytest.raises(BundleError, match="no ONNX model"):
        run(bundle, tiny_scans)
