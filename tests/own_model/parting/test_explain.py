"""Where do we part? Each mistake is planted in a model in plain PyTorch, and found by name."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pytest
import torch
from own_chain import FINDINGS, MEAN, STD, WINDOWS, Own, normalised, windowed

from molre_edge.own_model.answers import ANSWERS, write_answers
from molre_edge.own_model.inputs_folder import HuVolume, InputsFolder, open_inputs
from molre_edge.own_model.parting.explain import explain_reference
from molre_edge.own_model.parting.explanation import Explanation
from molre_edge.own_model.parting.steps import Step
from molre_edge.own_model.write_inputs import write_reference_inputs
from molre_edge.parity import sigmoid
from molre_edge.scans.grid import sample
from molre_edge.specs import Grid

Explain = Callable[..., Explanation]
GRID = Grid(slices=4, rows=32, cols=32)
ALL = ("grid", "windowed", "normalised", "gates", "features", "embedding")


def on(scan: HuVolume, grid: Grid = GRID) -> Any:
    half, _ = sample(scan.hu, scan.positions_mm, scan.thickness_mm, scan.pixel_mm, grid, scan.range_mm, scan.centre_mm)
    return half.astype(np.float32)


def altered(net: Own, change: Callable[[Own], None]) -> Own:
    other = copy.deepcopy(net)
    with torch.no_grad():
        change(other)
    return other


def found(explanation: Explanation, step: Step, *words: str) -> None:
    """The step is named, and the answers differ."""
    assert explanation.step is step, explanation.text
    assert explanation.exit_code == 3
    assert [word for word in words if word not in explanation.text] == [], explanation.text


# ---------- only answers are known


def test_a_good_checkpoint_agrees_from_the_hu_volume_to_the_answers(explain: Explain) -> None:
    explanation = explain(given="hu", grid=on, saved=ALL, steps={"hu": lambda scan: scan.hu})
    assert explanation.exit_code == 0 and explanation.step is None
    assert [row.end for row in explanation.rows] == ["hu", *ALL, "logits"]
    assert not any(row.differs for row in explanation.rows)
    assert explanation.rows[-1].size < 1e-4
    assert explanation.text.startswith("No step differs")


@pytest.mark.nightly
def test_a_window_that_no_list_knows(explain: Explain) -> None:
    others = [(33.0, 91.0), WINDOWS[1], WINDOWS[2]]
    found(explain(windows=lambda hu: windowed(hu, others)), Step.WINDOWS, "window 1 is (33, 91)")


@pytest.mark.nightly
def test_channels_in_another_order(explain: Explain) -> None:
    found(explain(windows=lambda hu: windowed(hu, WINDOWS[::-1])), Step.WINDOWS, "channels are in another order")


@pytest.mark.nightly
def test_windows_from_minus_one_to_one(explain: Explain) -> None:
    found(explain(windows=lambda hu: windowed(hu) * 2 - 1), Step.WINDOWS, "windows to -1 ... 1")


def test_another_mean_and_deviation_and_the_checkpoint_that_is_mended_as_it_says(
    explain: Explain, inputs: InputsFolder, own_checkpoint: Path, tmp_path: Path
) -> None:
    explanation = explain(normalise=lambda x: normalised(x, (0.5,) * 3, (0.5,) * 3))
    found(explanation, Step.NORMALISATION, "mean (0.5) and deviation (0.5)", "SigLIP")
    setting = '"normalisation": {"mean": [0.5], "std": [0.5]}'
    assert setting in explanation.text
    checkpoint = torch.load(own_checkpoint, weights_only=True)
    checkpoint["config"] |= json.loads("{" + setting + "}")
    torch.save(checkpoint, tmp_path / "mended.pt")
    assert explain_reference(inputs.folder, tmp_path / "mended.pt", out=tmp_path / "again").exit_code == 0


def test_left_and_right_exchanged(explain: Explain) -> None:
    found(explain(grid=lambda volume: volume[:, :, ::-1].copy()), Step.AXES, "left and right exchanged")


def test_ct_numbers_without_the_rescale_intercept(explain: Explain) -> None:
    explanation = explain(given="hu", grid=lambda scan: on(replace(scan, hu=scan.hu + 1024)))
    found(explanation, Step.HU, "rescale intercept")


@pytest.mark.nightly
def test_nearest_neighbours(explain: Explain) -> None:
    def nearest(scan: HuVolume) -> Any:
        middles = scan.range_mm[0] + (np.arange(4) + 0.5) / 4 * (scan.range_mm[1] - scan.range_mm[0])
        slices = [int(np.abs(scan.positions_mm - at).argmin()) for at in middles]
        lines = []
        for axis, count in ((0, 32), (1, 32)):
            at = scan.centre_mm[axis] + (np.arange(count) - 15.5) * 8.0
            lines.append(np.floor(at / scan.pixel_mm[axis] + 0.5).astype(int))
        inside = [(line >= 0) & (line < size) for line, size in zip(lines, scan.hu.shape[1:], strict=True)]
        picked = scan.hu[np.ix_(slices, lines[0].clip(0, scan.hu.shape[1] - 1), lines[1].clip(0, scan.hu.shape[2] - 1))]
        return np.where(inside[0][:, None] & inside[1], picked, -1024).astype(np.float16).astype(np.float32)

    found(explain(given="path", grid=nearest), Step.GRID, "interpolates nearest", "nearest slices")


def test_another_field_of_view(explain: Explain) -> None:
    explanation = explain(given="hu", grid=lambda scan: on(scan, replace(GRID, field_mm=230.0)))
    found(explanation, Step.GRID, "a field of view of 230 mm, not 256", '"field_mm": 230')


def test_findings_in_reverse(explain: Explain) -> None:
    explanation = explain(findings=FINDINGS[::-1])
    found(explanation, Step.ORDER, "in the reverse order", '"findings": ["edema"')


def test_probabilities_that_are_called_logits(explain: Explain) -> None:
    explanation = explain(answer=lambda logits: sigmoid(logits))
    found(explanation, Step.PROBABILITIES, "gave probabilities where logits were said")


@pytest.mark.nightly
def test_a_sigmoid_applied_twice(explain: Explain) -> None:
    explanation = explain(answer=lambda logits: sigmoid(sigmoid(logits)), kind="probabilities")
    found(explanation, Step.PROBABILITIES, "applies the sigmoid twice")


def test_routers_of_another_temperature(explain: Explain, net: Own) -> None:
    def hotter(other: Own) -> None:
        for layer in other.adapted:
            layer.temperature = 1.0

    found(explain(model=altered(net, hotter)), Step.GATES, "temperature 1, the checkpoint's is 2", '"temperature": 1')


@pytest.mark.nightly
def test_experts_of_another_scale(explain: Explain, net: Own) -> None:
    def stronger(other: Own) -> None:
        for layer in other.adapted:
            layer.scale = 4.0 / 2**0.5

    found(explain(model=altered(net, stronger)), Step.EXPERTS, "alpha / sqrt(rank)")


def test_the_mean_of_the_slices(explain: Explain) -> None:
    found(explain(pool="mean"), Step.POOLING, "takes the mean of the slices")


def test_another_head_of_one_finding(explain: Explain, net: Own) -> None:
    explanation = explain(model=altered(net, lambda other: other.head.weight[3].mul_(1.5)))
    found(explanation, Step.HEAD, "Only mass differ", "4 other findings agree")


@pytest.mark.nightly
def test_another_bias_of_the_head(explain: Explain, net: Own) -> None:
    explanation = explain(model=altered(net, lambda other: other.head.bias[1].add_(0.25)))
    found(explanation, Step.HEAD, "another bias in the head: infarct by +0.25")


# ---------- with steps that were saved


def test_slices_from_superior_to_inferior_by_the_files(explain: Explain) -> None:
    names = {"files": lambda scan: np.array([PurePath(file).name for file in scan.files[::-1]])}
    explanation = explain(given="path", grid=lambda scan: on(scan), steps=names, scans=1)
    assert explanation.step is Step.SLICES and "from superior to inferior" in explanation.text


def test_a_file_that_was_not_read(explain: Explain) -> None:
    names = {"files": lambda scan: np.array([PurePath(file).name for file in scan.files[1:]])}
    explanation = explain(given="path", grid=lambda scan: on(scan), steps=names, scans=1)
    assert (
        explanation.step is Step.FILES and "reads 11 files of scan-0001 where molre-edge reads 12" in explanation.text
    )


@pytest.mark.parametrize(
    ("change", "step", "words"),
    [
        (lambda hu: hu[::-1], Step.SLICES, "from superior to inferior"),
        (lambda hu: hu + 1024, Step.HU, "has +1024 on HU"),
        (lambda hu: hu[:, :, ::-1], Step.AXES, "left and right exchanged"),
        (lambda hu: hu[1:], Step.FILES, "molre-edge reads [12, 96, 96]"),
    ],
)
def test_what_the_saved_hu_volume_is(explain: Explain, change: Callable[[Any], Any], step: Step, words: str) -> None:
    def read(scan: HuVolume) -> Any:
        return on(replace(scan, hu=np.resize(change(scan.hu), scan.hu.shape)))

    explanation = explain(given="path", grid=read, steps={"hu": lambda scan: change(scan.hu)})
    assert explanation.step is step and words in explanation.text, explanation.text
    assert explanation.rows[0].end == "hu" and explanation.rows[0].differs


@pytest.mark.nightly
def test_windows_and_normalisation_are_read_off_the_saved_channels(explain: Explain) -> None:
    others = [WINDOWS[0], (61.0, 173.0), WINDOWS[2]]
    explanation = explain(windows=lambda hu: windowed(hu, others), saved=("windowed", "normalised"))
    found(explanation, Step.WINDOWS, "window 2 is (61, 173)")
    assert [row.differs for row in explanation.rows] == [True, False, False]
    explanation = explain(normalise=lambda x: normalised(x, (0.3, 0.4, 0.5), STD), saved=("windowed", "normalised"))
    found(explanation, Step.NORMALISATION, "mean (0.3, 0.4, 0.5) and deviation (0.229, 0.224, 0.225)")
    explanation = explain(normalise=lambda x: normalised(x, MEAN, (0.1, 0.2, 0.3)), saved=("normalised",))
    found(explanation, Step.NORMALISATION, "deviation (0.1, 0.2, 0.3)")


def test_another_router_is_told_from_another_backbone_by_its_gates(explain: Explain, net: Own) -> None:
    router = altered(net, lambda other: other.adapted[0].fc2.weight.add_(0.5 * torch.eye(3, 4)))
    found(explain(model=router, saved=("normalised", "gates")), Step.GATES, "with your gates put in, everything behind")

    def weight(other: Own) -> None:
        other.layers[0].mlp.up_proj.weight[0].mul_(3.0)

    backbone = altered(net, weight)
    found(explain(model=backbone, saved=("normalised", "gates")), Step.BACKBONE, "weights of the backbone")


def test_an_altered_weight_of_the_backbone(explain: Explain, net: Own) -> None:
    backbone = altered(net, lambda other: other.layers[1].mlp.up_proj.weight[0].mul_(3.0))
    explanation = explain(model=backbone, saved=ALL)
    found(explanation, Step.BACKBONE, "weights of the backbone")
    assert [row.end for row in explanation.rows if row.differs] == ["features"]


@pytest.mark.nightly
def test_an_altered_weight_of_pooling_or_head(explain: Explain, net: Own) -> None:
    pooling = altered(net, lambda other: other.project.weight.mul_(2.0))
    found(explain(model=pooling, saved=("features", "embedding")), Step.POOLING, "weights of the pooling")
    head = altered(net, lambda other: other.head.weight.mul_(torch.linspace(0.5, 1.4, 5)[:, None]))
    found(explain(model=head, saved=("embedding",)), Step.HEAD, "weights of the head")


def test_slices_in_reverse_that_no_answer_depends_on_are_told_and_not_failed(explain: Explain) -> None:
    explanation = explain(grid=lambda volume: volume[::-1].copy(), saved=("grid",))
    assert explanation.exit_code == 0 and explanation.step is Step.SLICES
    assert "The answers agree, though a step differs" in explanation.text


def test_answers_that_differ_in_another_scan_than_those_saved_never_agree(explain: Explain) -> None:
    def last(logits: np.ndarray) -> np.ndarray:
        return logits + np.array([0.0, 0.0, 0.0, 1.0])[:, None]

    explanation = explain(saved=("grid",), scans=1, answer=last)
    assert explanation.exit_code == 3 and explanation.step is None
    assert "No step differs in the scans that were compared (scan-0001)" in explanation.text


def test_thresholds(explain: Explain) -> None:
    explanation = explain(more={"thresholds": np.array([0.5, 0.5, 0.3, 0.5, 0.5])})
    found(explanation, Step.THRESHOLDS, "of shift yours is 0.3, the checkpoint's 0.5")


@pytest.mark.nightly
def test_what_no_change_explains_is_not_named_but_narrowed(explain: Explain, net: Own) -> None:
    backbone = altered(net, lambda other: other.layers[1].mlp.up_proj.weight[0].mul_(3.0))
    explanation = explain(model=backbone)
    assert explanation.step is None and explanation.exit_code == 3 and explanation.tried > 100
    assert "between the volume on the grid and logits" in explanation.text and "save_steps()" in explanation.text


# ---------- the page


def test_page_and_json_say_what_was_found_with_both_sides_in_pictures(explain: Explain, inputs: InputsFolder) -> None:
    explanation = explain(windows=lambda hu: windowed(hu, [WINDOWS[0], (50.0, 130.0), WINDOWS[2]]))
    found(explanation, Step.WINDOWS, "window 2 is (50, 130), the checkpoint's is (80, 200)")
    assert "[[40, 80], [50, 130], [600, 2800]]" in explanation.text
    data = json.loads((explanation.folder / "explanation.json").read_text())
    assert data == explanation.to_dict() and data["step"] == "windows" and data["causes"][0]["difference_left"] < 4e-4
    page = (explanation.folder / "explanation.html").read_text()
    assert "window 2 is (50, 130)" in page and page.count("<img ") == 3 and page.count("<svg") == 1
    assert str(inputs.folder) not in page


@pytest.mark.nightly
def test_slices_in_reverse_of_a_3d_model(tiny_scans: Path, tmp_path: Path) -> None:
    from molre_edge.model.checkpoint import save_checkpoint
    from molre_edge.model.classifier import HeadCTClassifier
    from molre_edge.model.config import AdapterConfig, BackboneConfig, ModelConfig

    config = ModelConfig(
        backbone=BackboneConfig(id="convnet3d-small"),
        grid=GRID,
        adapter=AdapterConfig(modules=("head",), experts=3, rank=2),
        findings=FINDINGS,
        budget=10.0,
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = HeadCTClassifier(config).eval()
        model.head.lora_B.normal_()
    save_checkpoint(model, tmp_path / "ckpt.pt")
    write_reference_inputs(tiny_scans, tmp_path / "asked", checkpoint=tmp_path / "ckpt.pt")
    inputs = open_inputs(tmp_path / "asked")
    volumes = np.stack([inputs.grid_volume(scan) for scan in inputs.scans]).astype(np.float32)
    with torch.inference_mode():
        logits = model(torch.from_numpy(volumes[:, ::-1].copy())).logits.numpy()
    write_answers(
        inputs.folder / ANSWERS,
        given="grid",
        scans=tuple(scan.scan for scan in inputs.scans),
        findings=FINDINGS,
        arrays={"logits": logits},
    )
    found(explain_reference(inputs.folder, tmp_path / "ckpt.pt"), Step.SLICES, "from superior to inferior")
