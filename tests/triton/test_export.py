"""A model repository as it is written: whole or not at all, with hashes, from a bundle that this machine may use."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_adapters import GRAPH

from molre_edge.bundle.bundle import Bundle
from molre_edge.bundle.engine_files import ENGINES, write_engine
from molre_edge.bundle.sign import make_signing_key, sign_release
from molre_edge.errors import BundleError, SigningError, UsageError
from molre_edge.specs import VOLUME, Precision
from molre_edge.triton.export import RECORD, export_triton
from molre_edge.triton.forms import BUNDLE, VERSION, onnx_model, plan_model, python_model
from molre_edge.triton.script import SCRIPT_FILE
from molre_edge.verification.golden_check import check_files

Config = Callable[[Path], dict[str, list[Any]]]


def give_engine(bundle: Bundle, target: str, smallest: int = 1) -> bytes:
    content = f"an engine for {target}".encode()
    graph, shape = bundle.graph(Precision.FP16).file, list(bundle.grid.shape)
    facts = {
        "graph": {"file": graph, "sha256": bundle.manifest["files"][graph]},
        "precision": "fp16",
        "target": {"name": target, "compute_capabilities": ["sm86"], "built_on": "Linux x86_64"},
        "runtime": {"name": "TensorRT", "version": "10.5.0"},
        "options": {},
        "profile": {VOLUME: {"min": [smallest, *shape], "opt": [4, *shape], "max": [4, *shape]}},
    }
    write_engine(bundle, f"{target}-fp16", content, facts)
    return content


def tensors(config: dict[str, list[Any]], field: str) -> dict[str, tuple[str, list[str]]]:
    return {each["name"][0]: (each["data_type"][0], each["dims"]) for each in config[field]}


def test_both_forms_without_a_gpu_say_what_they_take_and_carry_the_bundle(
    tiny_bundle: Path, tmp_path: Path, config_of: Config
) -> None:
    bundle, place = Bundle.open(tiny_bundle), tmp_path / "models"
    written = export_triton(place, tiny_bundle, forms=("onnx", "python"), max_batch=6, max_delay_ms=2.5, threads=3)
    assert [model.name for model in written.models] == ["molre-python", "molre-onnx"]
    own, graph = config_of(place / "molre-python"), config_of(place / "molre-onnx")
    for config, backend in ((own, "python"), (graph, "onnxruntime")):
        assert (config["backend"], config["max_batch_size"]) == ([backend], ["6"])
        assert tensors(config, "input") == {VOLUME: ("TYPE_FP16", ["4", "32", "32"])}
        assert config["dynamic_batching"] == [{"max_queue_delay_microseconds": ["2500"]}]
    count = str(len(bundle.findings))
    outputs = tensors(own, "output")
    assert outputs["logits"] == ("TYPE_FP32", [count]) and outputs["gates"] == ("TYPE_FP32", ["4", "2", "3"])
    assert outputs["probabilities"] == outputs["thresholds"] == ("TYPE_FP64", [count])
    assert outputs["findings"] == ("TYPE_STRING", [count]) and outputs["provenance"] == ("TYPE_STRING", ["1"])
    assert set(tensors(graph, "output")) == {"logits", "gates", "embedding", "attention"}
    given = {each["key"][0]: each["value"][0]["string_value"][0] for each in own["parameters"]}
    assert given["bundle"] == bundle.digest and (given["engine"], given["threads"]) == ("fp16", "3")
    assert (place / "molre-onnx" / VERSION / "model.onnx").read_bytes() == bundle.read("graphs/fp16.onnx")
    copied = Bundle.open(place / "molre-python" / VERSION / BUNDLE, expect_digest=bundle.digest)
    assert check_files(copied).problems == {}


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.FP32])
def test_what_the_configuration_says_of_a_graph_is_what_the_graph_has(tiny_bundle: Path, precision: Precision) -> None:
    """Triton compares both, and serves no model in which they differ."""
    import onnxruntime as ort

    model, content = onnx_model(Bundle.open(tiny_bundle), "m", precision, 4, 0)
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    for there, said in ((session.get_inputs(), model.inputs), (session.get_outputs(), model.outputs)):
        has = {value.name: (value.type, value.shape[1:]) for value in there}
        words = {"float16": "tensor(float16)", "float32": "tensor(float)"}
        assert {spec.name: (words[spec.dtype], list(spec.shape)) for spec in said} == has
        assert all(isinstance(value.shape[0], str) for value in there)  # the batch, which the configuration leaves out


def test_the_record_names_the_bundle_and_every_file_by_its_hash(tiny_bundle: Path, tmp_path: Path) -> None:
    written = export_triton(tmp_path / "models", tiny_bundle, engine="onnxruntime:fp32", name="head")
    record = json.loads((tmp_path / "models" / RECORD).read_text())
    assert record["bundle"]["digest"] == written.digest == Bundle.open(tiny_bundle).digest
    assert (record["bundle"]["graph"], record["bundle"]["signed"]) == ("graphs/fp32.onnx", None)
    hashes = {name: sha256 for model in record["models"] for name, sha256 in model["files"].items()}
    files = [path for path in (tmp_path / "models").rglob("*") if path.is_file()]
    others = {RECORD, SCRIPT_FILE}
    assert {path.relative_to(tmp_path / "models").as_posix() for path in files} == hashes.keys() | others
    for name, sha256 in hashes.items():
        assert hashlib.sha256((tmp_path / "models" / name).read_bytes()).hexdigest() == sha256
    assert written.to_dict()["models"] == record["models"]


def test_what_triton_reads_of_names_and_thresholds_is_among_the_parameters(tiny_bundle: Path, tmp_path: Path) -> None:
    model, _ = onnx_model(bundle := Bundle.open(tiny_bundle), "m", Precision.FP16, 4, 0)
    assert json.loads(model.parameters["findings"]) == list(bundle.findings)
    assert json.loads(model.parameters["thresholds"]) == bundle.thresholds.tolist()
    assert "dynamic_batching" not in replace(model, max_batch=1).text()


def test_a_plan_is_the_engine_of_tensorrt_and_takes_no_more_than_it_was_built_for(box: Path, config_of: Config) -> None:
    bundle, place = Bundle.open(box), box.parent / "models"
    content = give_engine(bundle, "here")
    [model] = export_triton(place, box, forms=("plan",), max_batch=16).models
    assert (place / model.name / VERSION / "model.plan").read_bytes() == content
    config = config_of(place / model.name)
    assert (config["backend"], config["max_batch_size"], model.max_batch) == (["tensorrt"], ["4"], 4)
    given = {each["key"][0]: each["value"][0]["string_value"][0] for each in config["parameters"]}
    assert given["tensorrt"] == "10.5.0" and given["engine_sha256"] == hashlib.sha256(content).hexdigest()


def test_the_python_form_takes_the_engines_of_its_graph_along(box: Path) -> None:
    give_engine(Bundle.open(box), "rtx")
    for precision, there in (("fp16", True), ("fp32", False)):
        place = box.parent / precision
        export_triton(place, box, engine=precision)
        assert (place / "molre-python" / VERSION / BUNDLE / ENGINES / "rtx-fp16.engine").is_file() is there


@pytest.mark.parametrize(
    ("target", "smallest", "words"),
    [
        (None, 1, "has no fp16 engine of TensorRT. Expected one"),
        ("rtx", 1, "those of --target rtx are for TensorRT-RTX"),
        ("here", 2, "built for 2 volumes or more"),
    ],
)
def test_an_engine_that_triton_can_not_use_is_refused(box: Path, target: str | None, smallest: int, words: str) -> None:
    bundle = Bundle.open(box)
    if target is not None:
        give_engine(bundle, target, smallest)
    with pytest.raises(BundleError, match=words):
        plan_model(bundle, "m", Precision.FP16, 4, 0)


def test_graphs_that_take_adapters_are_served_by_the_python_form_alone(tiny_bundle: Path) -> None:
    bundle = replace(Bundle.open(tiny_bundle), fit=GRAPH)
    for write in (onnx_model, plan_model):
        with pytest.raises(BundleError, match="Use the form python"):
            write(bundle, "m", Precision.FP16, 4, 0)
    shapes = {spec.name: spec.shape for spec in python_model(bundle, "m", "fp16", Precision.FP16, 4, 0, None).outputs}
    assert shapes["logits"] == shapes["findings"] == (None,) and shapes["gates"] == (None, 2, None)


def test_a_bundle_that_is_damaged_leaves_nothing(box: Path) -> None:
    (box / "golden" / "golden.npz").write_bytes(b"altered")
    with pytest.raises(BundleError, match="altered"):
        export_triton(box.parent / "models", box)
    assert sorted(path.name for path in box.parent.iterdir()) == [box.name]


def test_a_folder_that_holds_something_is_left_alone(box: Path) -> None:
    place = box.parent / "models"
    place.mkdir()
    (place / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match="exists already"):
        export_triton(place, box)
    assert [path.name for path in place.iterdir()] == ["notes.txt"]


def test_where_keys_are_trusted_only_their_release_is_written_with_its_signature(
    box: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cryptography")
    key = make_signing_key(box.parent / "release.key")
    monkeypatch.setenv("MOLRE_EDGE_TRUST", str(key.public))
    with pytest.raises(SigningError, match="not signed"):
        export_triton(box.parent / "models", box)
    assert not (box.parent / "models").exists()
    sign_release(box, key.secret, name="head-ct", version=3)
    export_triton(box.parent / "models", box)
    record = json.loads((box.parent / "models" / RECORD).read_text())
    assert (record["bundle"]["signed"]["name"], record["bundle"]["signed"]["version"]) == ("head-ct", 3)
    assert Bundle.open(box.parent / "models" / "molre-python" / VERSION / BUNDLE).signed is not None


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"forms": ()}, "expected one or more of python, onnx, plan"),
        ({"forms": ("wsgi",)}, "form wsgi"),
        ({"engine": "torch"}, "needs an engine"),
        ({"name": "a/b"}, "name 'a/b'"),
        ({"max_batch": 0}, "largest batch 0"),
        ({"max_delay_ms": -1.0}, "largest delay"),
        ({"threads": 0}, "threads 0"),
    ],
)
def test_wrong_words_are_refused_before_anything_is_read(tmp_path: Path, wrong: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        export_triton(tmp_path / "models", tmp_path / "no-bundle", **wrong)


def test_the_scripts_are_python(tiny_bundle: Path, tmp_path: Path) -> None:
    export_triton(tmp_path / "models", tiny_bundle)
    scripts = [*(tmp_path / "models").rglob("*.py")]
    assert sorted(path.name for path in scripts) == ["model.py", SCRIPT_FILE]
    for path in scripts:
        compile(path.read_text(), str(path), "exec")
