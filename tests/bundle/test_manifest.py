"""A manifest says what it must, in the types and sizes that later code relies on, or is refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from molre_edge.bundle.manifest import is_covered, parse_manifest
from molre_edge.specs import Grid, Precision

Change = Callable[[dict[str, Any]], object]


def tensor(name: str, *shape: int | None, dtype: str = "float32") -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "shape": list(shape)}


GOOD: dict[str, Any] = {
    "format": "molre-edge-bundle",
    "version": 1,
    "tool": {"molre-edge": "0.1.0"},
    "checkpoint": {"sha256": "a" * 64},
    "grid": {"slices": 4, "rows": 32, "cols": 48, "field_mm": 256.0, "height_mm": 180.0},
    "findings": ["bleed", "midline_shift"],
    "thresholds": [0.5, 0.25],
    "graphs": {
        "fp32": {
            "file": "graphs/fp32.onnx",
            "inputs": [tensor("volume", None, 4, 32, 48)],
            "outputs": [tensor("logits", None, 2), tensor("gates", None, 4, 2, 3), tensor("embedding", None, 64)],
            "opset": 20,
            "ir_version": 10,
        }
    },
    "files": {"graphs/fp32.onnx": "b" * 64, "golden/golden.npz": "c" * 64},
    "notes": [],
}


def written(*changes: Change) -> bytes:
    data = copy.deepcopy(GOOD)
    for change in changes:
        change(data)
    return json.dumps(data).encode()


def test_the_grid_of_a_manifest_says_how_scans_come_onto_it() -> None:
    settings = {"plane": "whole", "interpolation": "cubic", "stack": "every", "slice_step": 2, "axes": "SAR"}
    grid = parse_manifest(written(into("grid", value={**GOOD["grid"], **settings}))).grid
    assert grid == Grid(slices=4, rows=32, cols=48, **settings)
    assert grid.to_dict() == {**GOOD["grid"], **settings}


def test_a_manifest_is_read() -> None:
    manifest = parse_manifest(written())
    assert manifest.grid == Grid(slices=4, rows=32, cols=48)
    assert manifest.findings == ("bleed", "midline_shift")
    assert manifest.thresholds.tolist() == [0.5, 0.25]
    assert manifest.checkpoint_sha256 == "a" * 64
    facts = manifest.graphs[Precision.FP32]
    assert facts.to_dict() == GOOD["graphs"]["fp32"]
    assert str(facts.inputs[0]) == "volume: float32 [batch, 4, 32, 48]"


def trained(*tensors: dict[str, Any]) -> Change:
    """A change: the graphs take trained tensors as inputs."""
    return lambda data: data["graphs"]["fp32"]["inputs"].extend(tensors)


def test_graphs_may_take_trained_tensors_as_inputs() -> None:
    tensors = tensor("adapter.backbone.layer.A", 6, 64), tensor("adapter.head.bias", 2)
    facts = parse_manifest(written(trained(*tensors))).graphs[Precision.FP32]
    assert [spec.to_dict() for spec in facts.adapter_inputs] == list(tensors)
    assert parse_manifest(written()).graphs[Precision.FP32].adapter_inputs == ()


def outputs(*tensors: dict[str, Any]) -> Change:
    """A change: the graphs have further outputs."""
    return lambda data: data["graphs"]["fp32"]["outputs"].extend(tensors)


def test_graphs_may_have_attention_over_the_slices_of_the_grid() -> None:
    facts = parse_manifest(written(outputs(tensor("attention", None, 4)))).graphs[Precision.FP32]
    assert [spec.name for spec in facts.outputs] == ["logits", "gates", "embedding", "attention"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (tensor("attention", None, 5), "expected a weight of attention for each of the 4 slices"),
        (tensor("attention", None, 4, 1), "expected the outputs logits, gates, embedding and attention"),
        (tensor("gates", None, 4, 2, 3), "expected the outputs logits, gates, embedding and attention"),
        (tensor("heat", None, 4), "expected the outputs logits, gates, embedding and attention"),
    ],
)
def test_other_outputs_are_refused(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_manifest(written(outputs(more)))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ([tensor("adapter.b", 2), tensor("adapter.a", 2)], "sorted, each once"),
        ([tensor("adapter.a", 2), tensor("adapter.a", 2)], "sorted, each once"),
        ([tensor("other.a", 2)], "unexpected tensor"),
        ([tensor("adapter.a/../b", 2)], "unexpected tensor"),
        ([tensor("adapter.a", None, 2)], "unexpected tensor"),
        ([tensor("adapter.a", 0)], "unexpected tensor"),
        ([tensor("adapter.a")], "unexpected tensor"),
        ([tensor("adapter.a", 1 << 20, 1 << 20)], "unexpected tensor"),
        ([tensor("adapter.a", 1 << 27), tensor("adapter.b", 1 << 27), tensor("adapter.c", 1)], "not so large"),
    ],
)
def test_other_inputs_are_refused(tensors: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_manifest(written(trained(*tensors)))


def test_what_a_later_version_adds_is_let_be() -> None:
    manifest = parse_manifest(written(lambda m: m.update(calibration={"volumes": 3})))
    assert manifest.data["calibration"] == {"volumes": 3}


def into(*path: str | int, value: Any) -> Change:
    """A change of one value deep within."""

    def change(data: Any) -> None:
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = value

    return change


def without(key: str) -> Change:
    return lambda data: data.pop(key)


@pytest.mark.parametrize("key", ["files", "grid", "findings", "thresholds", "graphs", "checkpoint", "tool", "notes"])
def test_a_missing_part_is_named(key: str) -> None:
    with pytest.raises(ValueError, match=f"damaged, has no '{key}'; export the checkpoint again"):
        parse_manifest(written(without(key)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (into("format", value="something"), "not a manifest of molre-edge"),
        (into("version", value=2), "format version 2; this molre-edge reads version 1"),
        (into("version", value="9" * 10_000), r"format version '9+\.\.\.9+'; this"),
        (into("files", value=["graphs/fp32.onnx"]), "damaged"),
        (into("files", "../../etc/passwd", value="d" * 64), r"files: unexpected entry '\.\./\.\./etc/passwd'"),
        (into("files", "/etc/passwd", value="d" * 64), "files: unexpected entry"),
        (into("files", "graphs/../../x", value="d" * 64), "files: unexpected entry"),
        (into("files", "graphs/.hidden", value="d" * 64), "files: unexpected entry"),
        (into("files", "graphs\\x", value="d" * 64), "files: unexpected entry"),
        (into("files", "graphs/a\n", value="d" * 64), "files: unexpected entry"),
        (into("files", "graphs/a", value="D" * 64), "files: unexpected entry"),
        (into("files", "graphs/a", value=7), "damaged"),
        (into("grid", "slices", value=10**9), "grid.slices: expected a whole number from 1 to 512"),
        (into("grid", "rows", value="32"), "grid.rows"),
        (into("grid", "depth", value=3), "damaged"),
        (into("grid", value=None), "damaged"),
        (into("grid", "plane", value="tumour"), "grid.plane: expected one of head, centre, whole"),
        (into("findings", value="bleed"), "findings: expected a list of names"),
        (into("findings", value=[]), "findings: expected a list of names"),
        (into("findings", 0, value="<script>"), "findings: expected words of letters"),
        (into("findings", 0, value="x" * 101), "findings: expected words of letters"),
        (into("findings", 0, value="positive"), "findings: 'positive' is the name of another column"),
        (into("findings", 0, value=1), "findings: expected words of letters"),
        (into("findings", 0, value="midline_shift"), "findings: expected each name once"),
        (into("thresholds", value=[0.5]), "thresholds: expected 2, one a finding"),
        (into("thresholds", 0, value=1.5), "thresholds: expected probabilities, got 1.5"),
        (into("thresholds", 0, value="0.5"), "thresholds: expected probabilities"),
        (into("thresholds", 0, value=True), "thresholds: expected probabilities"),
        (into("thresholds", 0, value=[0.5]), "thresholds: expected probabilities"),
        (into("thresholds", 0, value=float("nan")), "not JSON .NaN is not valid JSON"),
        (into("thresholds", 0, value=float("inf")), "not JSON .Infinity is not valid JSON"),
        (into("graphs", value={}), "graphs: expected at least one"),
        (into("graphs", "fp8", value={}), "'fp8' is not a valid Precision|damaged"),
        (into("graphs", "fp32", "file", value="graphs/other.onnx"), "'graphs/other.onnx' is not among the files"),
        (into("graphs", "fp32", "file", value=["graphs"]), "damaged"),
        (into("graphs", "fp32", "opset", value="twenty"), "damaged"),
        (into("graphs", "fp32", "opset", value=1e999), "not JSON"),
        (into("graphs", "fp32", "inputs", 0, "shape", value=[None, 4, 32, 64]), "first input to be 'volume'"),
        (into("graphs", "fp32", "inputs", value=[]), "first input to be 'volume'"),
        (into("graphs", "fp32", "inputs", 0, "shape", value=[2, 4, 32, 48]), "graphs: unexpected tensor"),
        (into("graphs", "fp32", "inputs", 0, "dtype", value="object"), "graphs: unexpected tensor"),
        (into("graphs", "fp32", "outputs", 2, "shape", value=[None, -1]), "graphs: unexpected tensor"),
        (into("graphs", "fp32", "outputs", 2, "shape", value=[None, 64.0]), "graphs: unexpected tensor"),
        (into("graphs", "fp32", "outputs", 2, "shape", value=None), "damaged"),
        (into("graphs", "fp32", "outputs", 2, "name", value="more"), "expected the outputs logits, gates, embedding"),
        (into("graphs", "fp32", "outputs", 1, "shape", value=[None, 4]), "expected the outputs logits, gates"),
        (into("graphs", "fp32", "outputs", 0, "shape", value=[None, 3]), "a logit for each of the 2 findings"),
        (into("checkpoint", "sha256", value="latest"), "checkpoint: expected a SHA-256"),
        (into("checkpoint", "sha256", value=None), "damaged"),
        (into("tool", value=["0.1.0"]), "damaged"),
        (into("tool", "torch", value=2.1), "tool, notes: expected texts"),
        (into("notes", value=[{"a": 1}]), "tool, notes: expected texts"),
        (into("notes", value=5), "damaged"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_with_its_place(change: Change, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse_manifest(written(change))
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"format": 1' + b"9" * 10_000 + b"}"],
    ids=["empty", "half", "no text", "deeply nested", "a number of 10,000 digits"],
)
def test_what_is_no_json_is_damaged(raw: bytes) -> None:
    with pytest.raises(ValueError, match="damaged, not JSON"):
        parse_manifest(raw)


@pytest.mark.parametrize("raw", [b"[]", b"null", b"{}", b'"molre-edge-bundle"'])
def test_json_of_another_kind_is_no_manifest(raw: bytes) -> None:
    with pytest.raises(ValueError, match="not a manifest of molre-edge"):
        parse_manifest(raw)


def test_graphs_golden_answers_and_calibration_are_covered_and_engines_are_not() -> None:
    assert all(map(is_covered, ("graphs/fp32.onnx", "golden/golden.npz", "calibration/ranges.json")))
    assert not any(map(is_covered, ("manifest.json", "engines/fp16.engine", "graphs/a/b", "notes.txt", "graphs/")))
