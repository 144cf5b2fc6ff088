"""A bundle of a version whose graphs had no attention is read, judged and answers as before."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import onnx
import pytest

from molre_edge.bundle.bundle import GOLDEN_FILE, MANIFEST, Bundle
from molre_edge.bundle.golden import GoldenSet, write_golden
from molre_edge.engines.onnxruntime_runner import OnnxRuntimeRunner
from molre_edge.parity import DEFAULT_LIMITS, Outputs
from molre_edge.runs.loaded import load_model
from molre_edge.specs import Precision
from molre_edge.verification.golden_check import check_golden


@pytest.fixture(scope="module")
def before(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle as an earlier version wrote it."""
    folder = Path(shutil.copytree(tiny_bundle, tmp_path_factory.mktemp("before") / "edge-bundle"))
    golden = Bundle.open(folder).golden()
    answers = {name: array for name, array in golden.outputs.arrays.items() if name != "attention"}
    write_golden(folder / GOLDEN_FILE, GoldenSet(golden.volumes, Outputs.of(answers)))
    manifest = json.loads((folder / MANIFEST).read_text())
    for facts in manifest["graphs"].values():
        facts["outputs"] = [spec for spec in facts["outputs"] if spec["name"] != "attention"]
        graph = onnx.load(folder / facts["file"])
        kept = [value for value in graph.graph.output if value.name != "attention"]
        del graph.graph.output[:]
        graph.graph.output.extend(kept)
        onnx.save(graph, folder / facts["file"])
    for name in manifest["files"]:
        manifest["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    for entry in manifest["parity"].values():
        del entry["limits"]["max_attention_l1"]
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return folder


def test_it_is_judged_by_all_but_attention(before: Path) -> None:
    bundle = Bundle.open(before)
    with OnnxRuntimeRunner.from_bundle(bundle, Precision.FP32) as runner:
        verdict = check_golden(bundle, runner, DEFAULT_LIMITS[Precision.FP32]).verdict
    assert verdict.passed
    [check] = [each for each in verdict.not_judged if each.name == "attention_l1"]
    assert "graphs of earlier versions do not return it" in check.text


def test_it_answers_as_the_bundle_of_now_but_for_attention(before: Path, tiny_bundle: Path, tiny_scans: Path) -> None:
    answers = []
    for folder in (before, tiny_bundle):
        with load_model(folder, "fp32", readers=0) as model:
            answers.append(model.predict(tiny_scans / "head-2"))
    then, now = answers
    assert (then.findings, then.gates) == (now.findings, now.gates)
    assert then.attended is then.attended_image is then.to_dict()["attention"] is None and now.attended is not None
