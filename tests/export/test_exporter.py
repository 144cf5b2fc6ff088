"""An export makes a whole bundle or none, checks everything on the way, and says what failed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from run_fixtures import with_wrong_slot

import molre_edge.bundle.golden
from molre_edge.bundle.bundle import Bundle
from molre_edge.engines.onnxruntime_runner import OnnxRuntimeRunner
from molre_edge.engines.torch_runner import TorchRunner
from molre_edge.errors import BundleError, ExportError, ParityFailedError
from molre_edge.export.exporter import ExportResult, export_bundle
from molre_edge.export.rounding import MODE
from molre_edge.model.adapters import MoLRELinear
from molre_edge.model.checkpoint import LoadedCheckpoint
from molre_edge.model.classifier import HeadCTClassifier
from molre_edge.parity import DEFAULT_LIMITS
from molre_edge.progress import Silent
from molre_edge.specs import Precision

Volumes = npt.NDArray[np.float16]


def loaded(model: HeadCTClassifier) -> LoadedCheckpoint:
    return LoadedCheckpoint(model, model.config, sha256="0" * 64)


def test_a_bundle_has_its_graphs_golden_answers_and_manifest_and_nothing_else(
    result: ExportResult, listing: Callable[[Path], list[str]]
) -> None:
    files = ["golden", "golden/golden.npz", "graphs", "graphs/fp16.onnx", "graphs/fp32.onnx", "manifest.json"]
    assert listing(result.folder) == files
    assert [path.name for path in result.folder.parent.iterdir()] == ["edge-bundle"]


def test_the_bundle_opens_and_says_what_was_exported(
    result: ExportResult, checkpoint: LoadedCheckpoint, volumes: Volumes
) -> None:
    bundle = Bundle.open(result.folder, expect_digest=result.digest)
    assert bundle.checkpoint_sha256 == checkpoint.sha256
    assert bundle.findings == checkpoint.config.findings
    assert bundle.thresholds.tolist() == list(checkpoint.config.thresholds)
    assert bundle.grid == checkpoint.config.grid
    assert bundle.manifest["config"] == checkpoint.config.to_dict()
    assert bundle.manifest["golden"] == {"origin": "blocks, seeds 0 to 5"}
    assert {"molre-edge", "python", "torch", "onnx", "onnxsim", "onnxruntime"} <= set(bundle.manifest["tool"])
    assert bundle.manifest["parameters"]["added_fraction"] == pytest.approx(result.added_fraction)
    golden = bundle.golden()
    assert np.array_equal(golden.volumes, volumes)
    with TorchRunner(checkpoint.model, device="cpu") as runner:
        assert np.array_equal(runner.run(volumes[3:4]).outputs.logits[0], golden.outputs.logits[3])


def test_both_graphs_passed_their_gates_and_the_manifest_has_the_numbers(result: ExportResult) -> None:
    assert {precision: parity.verdict.passed for precision, parity in result.parity.items()} == {
        Precision.FP32: True,
        Precision.FP16: True,
    }
    manifest = json.loads((result.folder / "manifest.json").read_text())
    for precision, largest in (("fp32", 1e-5), ("fp16", 0.01)):
        entry = manifest["parity"][precision]
        checks = {check["name"]: check for check in entry["verdict"]["checks"]}
        assert 0 < checks["max_abs_dp"]["measured"] < largest
        assert 0 < checks["routing_l1"]["measured"] <= checks["routing_l1"]["limit"]
        assert entry["limits"] == DEFAULT_LIMITS[Precision(precision)].to_dict()
        assert entry["volumes"] == 6 and entry["batches"] == {"size": 3, "answers": 9}
    assert MODE in manifest["notes"]


def test_the_manifest_has_the_proof_of_routing(result: ExportResult) -> None:
    routing = json.loads((result.folder / "manifest.json").read_text())["routing"]
    graph = onnx.load(result.folder / "graphs" / "fp32.onnx")
    kinds = {node.name: node.op_type for node in graph.graph.node}
    assert [kinds[router["softmax"]] for router in routing["routers"]] == ["Softmax"] * 4
    assert [kinds[layer] for router in routing["routers"] for layer in router["layers"]] == ["Mul"] * 4
    assert routing["adapted_layers"] == 4
    assert routing["gate_difference"] > 0.1 > 1e-5 > routing["gate_error"]
    assert routing["logit_effect"] == pytest.approx(routing["logit_effect_reference"], rel=1e-3)
    assert routing["unmoved"] == []


def test_every_step_is_told_and_timed(result: ExportResult) -> None:
    assert len(result.seconds) == 6
    assert all(seconds >= 0 for seconds in result.seconds.values())
    assert "proof that routing is dynamic" in result.seconds


@pytest.mark.usefixtures("traced_once")
@pytest.mark.parametrize(("experts", "note"), [(1, "the model has one expert"), (0, "the model has no experts")])
def test_a_model_without_routing_is_exported_with_nothing_to_prove(
    experts: int, note: str, draw: Callable[..., HeadCTClassifier], volumes: Volumes, tmp_path: Path
) -> None:
    model = draw(modules=("attention.o_proj",) if experts else (), experts=experts)
    result = export_bundle(
        loaded(model),
        tmp_path / "b",
        volumes[:3],
        golden_origin="blocks",
        adapters="constants",
        precisions=(Precision.FP32,),
    )
    assert result.proof is None
    assert f"no routing to prove: {note}" in result.notes
    bundle = Bundle.open(tmp_path / "b")
    assert bundle.manifest["routing"] is None
    assert list(bundle.graphs) == [Precision.FP32]
    gates = bundle.golden().outputs.gates
    assert gates is None if experts == 0 else (gates is not None and (gates == 1).all())
    with OnnxRuntimeRunner.from_bundle(bundle, Precision.FP32) as runner:
        names = [spec.name for spec in runner.output_specs]
    assert names == ["logits", *(["gates"] if experts else []), "embedding", "attention"]


@pytest.mark.usefixtures("traced_once")
def test_a_graph_outside_its_limits_leaves_no_bundle_and_touches_no_old_one(
    result: ExportResult,
    checkpoint: LoadedCheckpoint,
    volumes: Volumes,
    tmp_path: Path,
    listing: Callable[[Path], list[str]],
) -> None:
    old = shutil.copytree(result.folder, tmp_path / "edge-bundle")
    before = listing(tmp_path)
    limits = {**DEFAULT_LIMITS, Precision.FP16: replace(DEFAULT_LIMITS[Precision.FP16], max_abs_dp=1e-7)}
    with pytest.raises(
        ParityFailedError, match=r"the fp16 graph is outside its parity limits .*largest difference of a prob"
    ):
        export_bundle(
            checkpoint, old, volumes[:3], golden_origin="blocks", adapters="constants", limits=limits, force=True
        )
    assert listing(tmp_path) == before
    assert Bundle.open(old).digest == result.digest


@pytest.mark.usefixtures("traced_once")
def test_a_graph_that_is_wrong_in_one_slot_of_a_batch_is_refused(
    checkpoint: LoadedCheckpoint, volumes: Volumes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = OnnxRuntimeRunner.run
    monkeypatch.setattr(OnnxRuntimeRunner, "run", lambda self, volume: with_wrong_slot(run(self, volume), 3))
    with pytest.raises(ParityFailedError, match=r"one volume at a time, and wrongly in slot 3 of a batch of 3"):
        export_bundle(
            checkpoint,
            tmp_path / "b",
            volumes,
            golden_origin="blocks",
            adapters="constants",
            precisions=(Precision.FP32,),
        )
    assert list(tmp_path.iterdir()) == []


def test_a_merged_expert_is_refused_by_the_export_itself(
    draw: Callable[..., HeadCTClassifier], volumes: Volumes, tmp_path: Path
) -> None:
    """The last block's experts are merged at even gates, as LoRA is: the layer is no adapted one any more."""
    model = draw(modules=("attention.o_proj",))
    layer = [module for module in model.modules() if isinstance(module, MoLRELinear)][-1]
    merged = layer.base
    with torch.no_grad():
        merged.weight += layer.scale / 3 * layer.lora_B @ layer.lora_A
    layer.forward = lambda x: merged(x) + 0 * layer._stacked_gates(x).sum()  # the router still answers
    with pytest.raises(ExportError, match=r"router node_softmax_1 multiply no stacked experts \(3 x 4 wide\)"):
        export_bundle(loaded(model), tmp_path / "b", volumes[:2], golden_origin="blocks", adapters="constants")
    assert list(tmp_path.iterdir()) == []


def test_what_would_fail_after_minutes_is_refused_at_once(
    checkpoint: LoadedCheckpoint, volumes: Volumes, result: ExportResult, tmp_path: Path
) -> None:
    steps: list[str] = []

    class Recorder(Silent):
        def step(self, name: str) -> None:
            steps.append(name)

    def refused(match: str, folder: Path, golden: Volumes, *precisions: Precision) -> None:
        with pytest.raises((ExportError, BundleError), match=match):
            export_bundle(
                checkpoint,
                folder,
                golden,
                golden_origin="x",
                adapters="constants",
                precisions=precisions,
                progress=Recorder(),
            )

    refused("golden volumes: 1; expected at least 2", tmp_path / "b", volumes[:1], Precision.FP32)
    refused("int8; expected fp32, fp16 or both. 'molre-edge calibrate' makes", tmp_path / "b", volumes, Precision.INT8)
    refused("none; expected fp32, fp16 or both", tmp_path / "b", volumes)
    refused("a bundle exists there. Replace it with --force", result.folder, volumes, Precision.FP32)
    assert steps == []


@pytest.mark.usefixtures("traced_once")
def test_a_failure_while_the_bundle_is_written_leaves_nothing_of_it(
    draw: Callable[..., HeadCTClassifier], volumes: Volumes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(molre_edge.bundle.golden, "MAX_GOLDEN_BYTES", 1000)
    with pytest.raises(BundleError, match="Choose fewer"):
        export_bundle(
            loaded(draw(modules=(), experts=0)),
            tmp_path / "b",
            volumes[:2],
            golden_origin="blocks",
            adapters="constants",
            precisions=(Precision.FP32,),
        )
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_export_leaves_nothing(checkpoint: LoadedCheckpoint, volumes: Volumes, tmp_path: Path) -> None:
    class Interrupts(Silent):
        def step(self, name: str) -> None:
            if name.startswith("float32 graph"):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_bundle(
            checkpoint, tmp_path / "b", volumes, golden_origin="blocks", adapters="constants", progress=Interrupts()
        )
    assert list(tmp_path.iterdir()) == []
