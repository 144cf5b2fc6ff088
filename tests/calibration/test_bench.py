from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from molre_edge.bundle import Bundle
from molre_edge.calibration import bench as module
from molre_edge.calibration.bench import Bench
from molre_edge.calibration.data import content_of, look
from molre_edge.calibration.layers import Layer
from molre_edge.parity import Gate
from molre_edge.scans import find_scans
from molre_edge.specs import Precision


@pytest.mark.parametrize("labelled", [False, True])
def test_what_is_said_of_the_volumes_to_run_is_what_runs(
    tiny_bundle: Path, tiny_scans: Path, layers: tuple[Layer, ...], monkeypatch: pytest.MonkeyPatch, labelled: bool
) -> None:
    bundle = Bundle.open(tiny_bundle)
    sources = find_scans(tiny_scans).scans
    row = np.zeros(len(bundle.findings)) if labelled else None
    samples, _ = look(sources, [content_of(source) for source in sources], bundle.grid, labels=lambda source: row)
    bench = Bench(bundle, samples[:3], Gate("any", max_abs_dp=1.0), 1.0, others=samples[3:], threads=1)
    ran = Counter[str]()

    def counted(*args: Any, **more: Any) -> Any:
        made = answers(*args, **more)
        kind = "fp32" if more.get("precision") is Precision.FP32 else "as_used" if more.get("optimise") else "exact"
        ran[kind] += len(made)
        return made

    answers = module.answers
    monkeypatch.setattr(module, "answers", counted)
    chosen = [layer for layer in layers if not layer.barred][:1]
    limits = {layer.activation: 4.0 for layer in chosen}
    bench.strain(chosen, limits)
    assert bench.judge(chosen, limits).passed
    bench.confirm(chosen, limits)
    expected = bench.most_passes(measured=1, judged=1)
    assert ran == {"fp32": expected.fp32, "exact": expected.exact, "as_used": expected.as_used}
    assert bench.expected_seconds(1, 5, 5) > bench.expected_seconds(1, 5, 4) > bench.expected_seconds(1, 4, 4)
