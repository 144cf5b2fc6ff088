from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from molre_edge.bundle.bundle import Bundle
from molre_edge.calibration import data
from molre_edge.calibration import evaluator as module
from molre_edge.calibration.data import content_of, look
from molre_edge.calibration.evaluator import Bench
from molre_edge.calibration.layers import Layer
from molre_edge.parity import ParityLimits
from molre_edge.scans import find_scans, read_scan
from molre_edge.specs import Precision


@pytest.mark.parametrize("labelled", [False, True])
def test_what_is_said_of_the_volumes_to_run_is_what_runs(
    tiny_bundle: Path, tiny_scans: Path, layers: tuple[Layer, ...], monkeypatch: pytest.MonkeyPatch, labelled: bool
) -> None:
    bundle = Bundle.open(tiny_bundle)
    sources = find_scans(tiny_scans).scans
    row = np.zeros(len(bundle.findings)) if labelled else None
    samples, _ = look(sources, [content_of(source) for source in sources], bundle.grid, labels=lambda source: row)
    bench = Bench(bundle, samples[:3], ParityLimits("any", max_abs_dp=1.0), 1.0, others=samples[3:], threads=1)
    ran = Counter[str]()

    def counted(*args: Any, **more: Any) -> Any:
        made = answers(*args, **more)
        kind = "fp32" if more.get("precision") is Precision.FP32 else "as_used" if more.get("optimise") else "exact"
        ran[kind] += len(made)
        return made

    answers = module.answers
    monkeypatch.setattr(module, "answers", counted)
    monkeypatch.setattr(data, "read_scan", lambda source: [ran.update(["read"]), read_scan(source)][1])
    chosen = [layer for layer in layers if not layer.barred][:1]
    limits = {layer.activation: 4.0 for layer in chosen}
    bench.strain(chosen, limits)
    assert bench.judge(chosen, limits).passed
    bench.confirm(chosen, limits)
    expected = bench.most_passes(measured=1, judged=1)
    assert ran["read"] == 4 - len(bench.volumes) and expected.read == 4  # all were kept; some were read before
    del ran["read"]
    assert ran == {"fp32": expected.fp32, "exact": expected.exact, "as_used": expected.as_used}
    assert bench.expected_seconds(1, 5, 5) > bench.expected_seconds(1, 5, 4) > bench.expected_seconds(1, 4, 4)


def test_a_part_in_which_nothing_can_be_judged_is_no_failure_but_alone_no_pass(
    tiny_bundle: Path, tiny_scans: Path, layers: tuple[Layer, ...]
) -> None:
    bundle = Bundle.open(tiny_bundle)
    sources = find_scans(tiny_scans).scans
    contents = [content_of(source) for source in sources]
    truth = {source: np.full(len(bundle.findings), float(place % 2)) for place, source in enumerate(sources)}
    chosen = [layer for layer in layers if not layer.barred][:1]
    for labels, passes in ((truth, True), ({}, False)):
        samples, _ = look(sources, contents, bundle.grid, labels=labels.get)
        bench = Bench(bundle, samples, ParityLimits("AUC alone", max_mean_auc_drop=1.0), 1.0, threads=1)
        assert bench.perfect().passed is passes
        limits = {layer.activation: 4.0 for layer in chosen}
        judgement = bench.judge(chosen, limits)
        assert (judgement.passed, any(part.failed for part in judgement.parts)) == (passes, False)
        assert bench.confirm(chosen, limits)[1].passed is passes


def test_a_scan_counts_as_often_as_it_is_there(
    tiny_bundle: Path, tiny_scans: Path, layers: tuple[Layer, ...], tmp_path: Path
) -> None:
    for number in range(3):
        shutil.copy(tiny_scans / "head-4.nii.gz", tmp_path / f"{number}.nii.gz")
    shutil.copytree(tiny_scans / "head-1", tmp_path / "other")
    bundle = Bundle.open(tiny_bundle)
    sources = find_scans(tmp_path).scans
    samples, _ = look(sources, [content_of(source) for source in sources], bundle.grid)
    bench = Bench(bundle, samples[:1], ParityLimits("any", max_abs_dp=1.0), 1.0, others=samples[1:], threads=1)
    chosen = [layer for layer in layers if not layer.barred][:1]
    _, judgement = bench.confirm(chosen, {layer.activation: 4.0 for layer in chosen})
    assert len(samples) == 2
    assert [(part.what.split(",")[0], part.numbers.n) for part in judgement.parts][2] == ("all 4 scans", 4)
