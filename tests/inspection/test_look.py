"""Inspecting real things of every kind, damaged ones, and things that are none of ours."""

from __future__ import annotations

import json
import os
import shutil
import struct
from pathlib import Path
from typing import Any

import pydicom
import pytest

from molre_edge.bundle.bundle import MANIFEST, Bundle
from molre_edge.bundle.engine_files import write_engine
from molre_edge.errors import BundleError, CheckpointError, ExportError, MolreEdgeError
from molre_edge.inspection import Inspection, inspect_path
from molre_edge.inspection.findings import plain
from molre_edge.inspection.look import kind_of
from molre_edge.inspection.model import model_words


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "edge-bundle"))


@pytest.fixture
def engine(copy: Path) -> Path:
    bundle = Bundle.open(copy)
    facts = {
        "graph": {"file": "graphs/fp16.onnx", "sha256": bundle.manifest["files"]["graphs/fp16.onnx"]},
        "runtime": {"name": "TensorRT-RTX", "version": "1.7.1"},
        "target": {"name": "rtx", "compute_capabilities": ["sm86", "sm89"]},
        "precision": "fp16",
        "profile": {"volume": {name: [n, 4, 32, 32] for name, n in (("min", 1), ("opt", 1), ("max", 4))}},
        "layers": {"by_type": {"gemm": {"Half": 7, "Float": 2}}, "fused_attention": 2},
        "build_seconds": 3.5,
    }
    return write_engine(bundle, "rtx-fp16", b"an engine", facts).path


def words(found: Inspection) -> dict[str, str]:
    return dict(found.words)


def check(found: Inspection, kind: str) -> None:
    assert found.kind == kind and found.summary
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["kind"] == kind
    for table in found.tables:
        assert table.rows and all(len(row) == len(table.columns) for row in table.rows)
        assert all(isinstance(cell, str) for row in table.rows for cell in row)


# ------------------------------------------------------------------------------------------------- checkpoint, graph


def test_preprocessing_that_is_not_molre_edge_s_own_is_told() -> None:
    config = {
        "grid": {"slices": 4, "rows": 32, "cols": 32, "plane": "whole", "antialias": False},
        "windows": [[40, 80], {"low": -1024, "high": 1024}, {"low": 0}],
        "window_range": [0, 255],
    }
    words = dict(model_words(config))
    assert words["resampling"] == "plane whole, antialias False"
    assert words["windows"] == "40/80, 0/2048 HU (centre/width)"
    assert words["windows lead to"] == "[0, 255]"
    assert not {"resampling", "windows lead to"} & set(dict(model_words({"grid": {"slices": 4}, "windows": []})))


def test_a_checkpoint_tells_its_model_and_what_the_adapters_add(tiny_checkpoint: Path) -> None:
    from molre_edge.model.checkpoint import load_checkpoint
    from molre_edge.model.placement import count_parameters

    found = inspect_path(tiny_checkpoint)
    check(found, "checkpoint")
    assert "K = 3 experts of rank 2" in words(found)["adaptation"]
    count = count_parameters(load_checkpoint(tiny_checkpoint).model)
    assert found.facts["parameters"]["added"] == count.added
    assert found.facts["parameters"]["rest"] == count.rest
    assert (found.facts["adapted_layers"], found.facts["routers"]) == (2, 2)
    assert found.problems == ()


def test_safetensors_are_told_from_their_header_alone(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from molre_edge.model.checkpoint import load_checkpoint, save_checkpoint

    path = tmp_path / "ckpt.safetensors"
    save_checkpoint(load_checkpoint(tiny_checkpoint).model, path)
    length = struct.unpack("<Q", path.read_bytes()[:8])[0]
    whole = inspect_path(path)
    check(whole, "checkpoint")
    assert whole.facts["parameters"] == inspect_path(tiny_checkpoint).facts["parameters"]
    path.write_bytes(path.read_bytes()[: 8 + length])  # the weights are not read
    assert inspect_path(path).facts["parameters"] == whole.facts["parameters"]


@pytest.mark.parametrize("content", [b"", b"\xff" * 9, struct.pack("<Q", 2) + b"{}", struct.pack("<Q", 4) + b"[[]]"])
def test_safetensors_that_are_no_checkpoint_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"not a checkpoint of molre-edge"):
        inspect_path(path)


def test_a_checkpoint_above_its_budget_has_a_problem(tiny_checkpoint: Path, tmp_path: Path) -> None:
    import torch

    data = torch.load(tiny_checkpoint, weights_only=True)
    data["config"]["budget"] = 0.001
    torch.save(data, tmp_path / "ckpt.pt")
    [problem] = inspect_path(tmp_path / "ckpt.pt").problems
    assert "more than its budget of 0.10%" in problem


def test_a_graph_tells_its_tensors_operators_precision_and_routers(tiny_bundle: Path) -> None:
    found = inspect_path(tiny_bundle / "graphs" / "fp16.onnx")
    check(found, "graph")
    assert words(found)["input"] == "volume: float16 [batch, 4, 32, 32]"
    assert len(found.facts["routers"]) == 2
    weights = found.facts["weights"]
    assert weights["float16"] > weights["float"] > 0
    assert found.facts["ir_version"] <= 10 and found.facts["opset"] == {"ai.onnx": 20}
    assert "float 100.0%" not in found.facts["precision"]
    assert "100.0% float" in inspect_path(tiny_bundle / "graphs" / "fp32.onnx").facts["precision"]


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x00" * 100])
def test_an_onnx_file_that_is_none_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(content)
    with pytest.raises(ExportError, match="not an ONNX file"):
        inspect_path(path)


# ---------------------------------------------------------------------------------------------------- engine, bundle


def test_an_engine_tells_its_layers_and_runtime_by_file_or_json(engine: Path) -> None:
    for path in (engine, engine.with_suffix(".json")):
        found = inspect_path(path)
        check(found, "engine")
        assert found.tables[0].rows == (("gemm", "2", "7"),)
        assert found.tables[0].columns == ("type", "Float", "Half")
        assert words(found)["runtime"] == "TensorRT-RTX 1.7.1" and words(found)["batch"] == "1 / 1 / 4"
        assert found.problems == ()


def test_a_swapped_engine_and_one_of_another_graph_have_a_problem(engine: Path, copy: Path) -> None:
    content = engine.read_bytes()
    engine.write_bytes(b"another")
    assert "swapped" in inspect_path(engine).problems[0]
    engine.write_bytes(content)
    with pytest.raises(BundleError, match="not the JSON of an engine"):
        inspect_path(engine.rename(engine.with_name("alone.engine")))
    lonely = copy.parent / "elsewhere"
    lonely.mkdir()
    shutil.copy(engine.with_name("alone.engine"), lonely / "rtx-fp16.engine")
    shutil.copy(engine.with_suffix(".json"), lonely)
    assert inspect_path(lonely / "rtx-fp16.engine").problems == ()
    (lonely / "rtx-fp16.engine").write_bytes(b"another")
    assert "swapped" in inspect_path(lonely / "rtx-fp16.engine").problems[0]


def test_a_bundle_tells_all_of_it(engine: Path, copy: Path) -> None:
    found = inspect_path(copy)
    check(found, "bundle")
    assert [table.title for table in found.tables] == ["Graphs", "Engines", "Layers of rtx-fp16.engine, as built"]
    assert words(found)["digest"] == Bundle.open(copy).digest
    assert words(found)["routing"] == "proved for 2 routers"
    assert words(found)["hashes"] == "4 compared, none wrong"
    assert inspect_path(copy / MANIFEST).facts["digest"] == found.facts["digest"]


def test_a_bundle_with_altered_files_has_a_problem_for_each(engine: Path, copy: Path) -> None:
    engine.write_bytes(b"another")
    (copy / "graphs" / "fp32.onnx").unlink()
    problems = inspect_path(copy).problems
    assert len(problems) == 2


def test_a_bundle_whose_maker_wrote_nonsense_is_told_as_far_as_it_goes(copy: Path) -> None:
    manifest: dict[str, Any] = json.loads((copy / MANIFEST).read_text())
    manifest |= {"config": {"adapter": 3, "windows": [1, ["a"]], "findings": "x"}, "routing": 7, "parameters": []}
    manifest["calibration"] = {"key": "k", "notes": [], "layers": [3, 9], "method": "minmax"}
    manifest["calibration_fp8"] = {"coverage": "8 of 20 layers in FP8", "method": "minmax"}
    manifest["golden"] = {"origin": "\x1b[31mred\nline"}
    (copy / MANIFEST).write_text(json.dumps(manifest))
    found = inspect_path(copy)
    check(found, "bundle")
    assert words(found)["golden answers"] == r"\x1b[31mred\nline"
    assert words(found)["calibration"] == "layers: [3, 9], method: minmax"  # of a version that we don't know
    assert words(found)["calibration, fp8"] == "8 of 20 layers in FP8; minmax ranges"


# -------------------------------------------------------------------------------------------------------- run, scans


def test_a_run_tells_how_far_it_came_and_no_paths(tiny_bundle: Path, tiny_scans: Path, tmp_path: Path) -> None:
    from molre_edge import infer_scans

    infer_scans(tiny_scans / "head-1", "fp32", bundle=tiny_bundle, out=tmp_path / "run", reference="golden")
    found = inspect_path(tmp_path / "run")
    check(found, "run")
    assert words(found)["scans"] == "1 done, 0 pending, 0 rejected, 0 ignored"
    assert words(found)["parity"].startswith("passed") and words(found)["state"] == "finished"
    assert "head-1" not in json.dumps(found.to_dict())
    (tmp_path / "run" / "report.json").write_text("{")
    (tmp_path / "run" / "timing.json").unlink()
    assert words(inspect_path(tmp_path / "run"))["parity"] == "not judged"


def test_scans_are_told_with_geometry_and_reasons_but_not_by_name(tiny_scans: Path, tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    shutil.copytree(tiny_scans / "head-2", folder / "NAME^OF^PATIENT")
    (folder / "broken.nii.gz").write_bytes(b"\x1f\x8b" + b"0" * 50)
    (folder / "notes.txt").write_text("nothing")
    found = inspect_path(folder)
    check(found, "scans")
    assert found.summary == "1 head CT series: 1 usable, 0 refused; 1 other series or file refused"
    assert not found.problems
    [scan] = found.facts["scans"]
    assert (scan["slices"], scan["rows"], scan["cols"]) == (12, 96, 96)
    assert {(fact["status"], bool(fact["code"])) for fact in found.facts["left_out"]} == {
        ("refused", True),
        ("ignored", True),
    }
    assert "PATIENT" not in json.dumps({**found.to_dict(), "path": ""})
    assert inspect_path(folder, with_paths=True).facts["scans"][0]["path"] == "NAME^OF^PATIENT"


def test_the_volumes_of_a_study_are_listed_with_the_reason_for_the_choice(tiny_scans: Path, tmp_path: Path) -> None:
    for name, number, kernel in (("a", 1, "H70h"), ("b", 2, "H31s")):
        shutil.copytree(tiny_scans / "head-1", tmp_path / name)
        for path in (tmp_path / name).iterdir():
            dataset = pydicom.dcmread(path)
            dataset.ConvolutionKernel, dataset.SeriesInstanceUID = kernel, f"1.2.{ord(name)}"
            dataset.SeriesNumber = number
            dataset.save_as(path)
    found = inspect_path(tmp_path)
    [table] = [table for table in found.tables if table.title.startswith("Volumes")]
    assert [row[1:] for row in table.rows] == [
        ("series 2", "12", "chosen", "it has a smooth kernel, not a sharp one"),
        ("series 1", "12", "not_chosen", "the chosen one has a smooth kernel, not a sharp one"),
    ]
    [scan] = found.facts["scans"]
    assert [volume["name"] for volume in scan["volumes"]] == [row[1] for row in table.rows]


def test_rows_are_those_of_infer(tiny_scans: Path) -> None:
    found = inspect_path(tiny_scans, most=2)
    assert [fact["row"] for fact in found.facts["scans"]] == [1, 2, 3, 4]
    assert [fact["status"] for fact in found.facts["scans"]] == ["usable", "usable", "not read", "not read"]
    assert "2 not read" in found.summary


def test_files_that_are_no_images_are_counted_and_not_listed(tiny_scans: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_scans / "head-1", tmp_path / "scans" / "head")
    for number in range(30):
        (tmp_path / "scans" / f"{number}.txt").write_text("no image")
    found = inspect_path(tmp_path / "scans")
    assert found.summary == "1 head CT series: 1 usable, 0 refused"
    assert words(found)["neither DICOM nor NIfTI"] == "30 files"
    assert [table.title for table in found.tables] == ["Scans that can be used"]
    assert sum(fact["files"] for fact in found.facts["left_out"]) == 30


def test_of_many_that_are_left_out_the_first_are_listed_and_all_are_in_the_facts(
    tiny_scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("molre_edge.inspection.scans._MOST_ROWS", 2)
    for number, file in enumerate(sorted((tiny_scans / "head-1").iterdir())[:3]):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}" / "cut.nii.gz").write_bytes(file.read_bytes()[:50])
    found = inspect_path(tmp_path)
    [table] = [table for table in found.tables if table.title.startswith("Left out")]
    assert (table.title, len(table.rows)) == ("Left out, the first 2 of 3", 2)
    assert len(found.facts["left_out"]) == 3


def test_a_single_file_of_a_series_is_refused_with_its_reason(tiny_scans: Path) -> None:
    file = next((tiny_scans / "head-1").iterdir())
    found = inspect_path(file)
    assert "0 usable" in found.summary and found.tables[0].title == "Left out"
    [problem] = found.problems
    assert found.facts["left_out"][0]["reason"] in problem


def test_a_single_file_whose_pixels_are_refused_has_that_problem_and_a_good_one_none(
    tiny_scans: Path, tmp_path: Path
) -> None:
    good = tiny_scans / "head-4.nii.gz"
    assert not inspect_path(good).problems
    (tmp_path / "cut.nii.gz").write_bytes(good.read_bytes()[:3000])
    assert len(inspect_path(tmp_path / "cut.nii.gz").problems) == 1


# ------------------------------------------------------------------------------------------------------ none of ours


@pytest.mark.parametrize("name", ["x.bin", "x.json", "x.txt", "x.csv"])
def test_an_unknown_file_gets_a_friendly_error(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b'{"format": "another"}')
    with pytest.raises(MolreEdgeError, match=r"not DICOM or NIfTI\. Expected scans, a checkpoint"):
        inspect_path(path)


def test_an_empty_folder_and_nothing_at_all_get_one_too(tmp_path: Path) -> None:
    with pytest.raises(MolreEdgeError, match="no file in it is DICOM"):
        inspect_path(tmp_path)
    with pytest.raises(MolreEdgeError, match="no such file"):
        inspect_path(tmp_path / "nowhere")


def test_a_folder_of_scans_with_another_program_s_manifest_is_one_of_scans(tiny_scans: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_scans / "head-1", tmp_path / "scan"))
    (folder / MANIFEST).write_text('{"name": "a web page"}')
    assert kind_of(folder) == "scans"
    (folder / MANIFEST).write_text("{")
    assert kind_of(folder) == "bundle"  # a damaged one is said to be damaged


def test_a_text_is_one_line_whatever_it_holds() -> None:
    assert plain("a\x1b[2Jb\n\udce9") == r"a\x1b[2Jb\n\udce9"
    assert len(plain("x" * 1000)) == 300


@pytest.mark.parametrize("name", ["x.onnx", "x.json", "x.engine"])
def test_a_pipe_is_refused_and_never_waited_for(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    if name == "x.engine":
        os.mkfifo(tmp_path / "x.json")
    with pytest.raises(MolreEdgeError):
        inspect_path(tmp_path / name)


def test_a_bundle_says_whose_its_golden_answers_are(own_bundle: Bundle) -> None:
    words = dict(inspect_path(own_bundle.folder).words)
    assert words["they are"] == "as your model answered (answers.npz, 3 scans, from scan files)"
    assert words["note on them"] == "the model of the study"
    assert words["the rebuild differs by"] == "4e-06 logits, 1e-06 in p, at most; embedding and gates of the rebuild"
