"""Seeded outputs and reports that look like those of a real run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from molre_edge.findings import default_findings
from molre_edge.parity import (
    GATES,
    BundleFacts,
    EngineFacts,
    FailedScan,
    Outputs,
    ReferenceFacts,
    Report,
    TimingRow,
    compare,
    judge,
)
from molre_edge.specs import Precision

NAMES = tuple(finding.name for finding in default_findings())


_NOTHING: dict[str, Any] = {
    "numbers": None,
    "gate": None,
    "verdict": None,
    "scans": (),
    "reference": ReferenceFacts(kind="none"),
    "reference_outputs": None,
    "engine_outputs": None,
}


def outputs(
    seed: int = 0, n: int = 6, findings: int = 75, d: int = 32, gates: tuple[int, int, int] | None = (4, 3, 6)
) -> Outputs:
    """Plausible outputs: logits around -2, gates (slices, routers, experts) from a Dirichlet distribution."""
    rng = np.random.default_rng(seed)
    return Outputs(
        logits=rng.normal(-2.0, 1.6, size=(n, findings)),
        embedding=rng.normal(size=(n, d)),
        gates=None if gates is None else rng.dirichlet(np.full(gates[2], 1.5), size=(n, *gates[:2])),
    )


def disturbed(reference: Outputs, size: float, seed: int = 1) -> Outputs:
    """The same answers with noise of a relative size, as rounding would add."""
    rng = np.random.default_rng(seed)
    gates = reference.gates
    if gates is not None:
        gates = gates * np.exp(rng.normal(0, size, size=gates.shape))
        gates = gates / gates.sum(axis=-1, keepdims=True)
    return Outputs(
        logits=reference.logits + rng.normal(0, size, size=reference.logits.shape),
        embedding=reference.embedding + rng.normal(0, size, size=reference.embedding.shape),
        gates=gates,
    )


def make_report(
    size: float = 0.001,
    n: int = 24,
    precision: Precision = Precision.FP16,
    gates: tuple[int, int, int] | None = (8, 5, 6),
    broken: bool = False,
    compared: bool = True,
    **changes: Any,
) -> Report:
    """A full report of 75 findings with labels, timing, failed scans, warnings and notes; or one without a reference.

    The default size passes the float16 gate; 0.2 fails five of its seven checks.
    """
    reference = outputs(seed=3, n=n, gates=gates)
    engine = disturbed(reference, size)
    if broken:
        engine.logits[min(2, n - 1), 4:9] = np.nan
        engine.embedding[0, 0] = np.inf
        if engine.gates is not None:
            engine.gates[n - 1, 0, 0, 0] = np.nan
    thresholds = np.median(reference.probabilities, axis=0) + 0.013
    rng = np.random.default_rng(5)
    labels = (rng.random((n, 75)) < 0.15 + 0.6 * reference.probabilities).astype(float)
    labels[rng.random((n, 75)) < 0.05] = np.nan
    labels[:, 70:] = 0.0  # findings nobody has: no AUC
    numbers = compare(reference, engine, findings=NAMES, thresholds=thresholds, labels=labels)
    gate = GATES[precision]
    report = Report(
        title="head-ct-75, DINOv3-B with MoLRE",
        created="2026-11-02T10:15:04Z",
        engine=EngineFacts(
            name="onnxruntime",
            precision=precision.value,
            runtime="ONNX Runtime 1.23.2",
            device="CPU, 8 cores, aarch64",
            threads=8,
            details={"graph optimisation": "all", "execution provider": "CPUExecutionProvider"},
        ),
        reference=ReferenceFacts(
            kind="pytorch checkpoint", volumes=f"the {n} scans of this run", details={"PyTorch": "2.13.0, CPU, float32"}
        ),
        bundle=BundleFacts(digest="3f9a" * 16, checkpoint_sha256="b07c" * 16, graph_sha256="19de" * 16),
        findings=NAMES,
        thresholds=tuple(float(value) for value in thresholds),
        scans=tuple(f"scan-{i + 1:04d}" for i in range(n)),
        numbers=numbers,
        gate=gate,
        verdict=judge(numbers, gate),
        reference_outputs=reference,
        engine_outputs=engine,
        failed=(
            FailedScan(scan="scan-0025", code="not_ct", reason="Modality is MR, expected CT"),
            FailedScan(
                scan="scan-0026", code="slices_missing", reason="Gap of 15 mm between slices 12 and 13, expected 5 mm"
            ),
        ),
        warnings={"scan-0003": ("Gantry tilt of 12.5 degrees was corrected",), "scan-0009": ("Two slices overlap",)},
        timing=(
            TimingRow(
                who="engine",
                phase="read",
                median_ms=142.4,
                p90_ms=201.7,
                p95_ms=230.1,
                p99_ms=412.9,
                n=24,
                includes="files from disk, DICOM decoding",
            ),
            TimingRow(
                who="engine",
                phase="geometry",
                median_ms=88.1,
                p90_ms=96.0,
                p95_ms=99.4,
                p99_ms=120.3,
                n=24,
                includes="resampling to the model's grid",
            ),
            TimingRow(
                who="engine",
                phase="compute",
                median_ms=1204.6,
                p90_ms=1290.2,
                p95_ms=1312.0,
                p99_ms=1401.8,
                n=24,
                scans_per_second=0.83,
                includes="the graph, one volume a batch",
            ),
            TimingRow(
                who="engine",
                phase="end_to_end",
                median_ms=1442.8,
                p90_ms=1570.2,
                p95_ms=1622.7,
                p99_ms=1890.5,
                n=24,
                scans_per_second=0.69,
                includes="all of the above and post-processing",
            ),
            TimingRow(
                who="reference",
                phase="compute",
                median_ms=3120.9,
                p90_ms=3300.5,
                p95_ms=3342.0,
                p99_ms=3519.1,
                n=24,
                scans_per_second=0.32,
                includes="PyTorch, float32, same volumes",
            ),
        ),
        command="molre-edge infer scans/ --engine fp16 --labels labels.csv -o edge-runs/20261102T101504Z",
        versions={"molre-edge": "0.1.0", "Python": "3.11.9", "numpy": "2.2.6", "onnxruntime": "1.23.2"},
        notes=("ONNX Runtime on a CPU computes float16 nodes in float32 and rounds their results.",),
    )
    if not compared:
        changes = {**_NOTHING, **changes}
    return replace(report, **changes)


@pytest.fixture(scope="session")
def full_report() -> Callable[..., Report]:
    """:func:`make_report`."""
    return make_report


@pytest.fixture(scope="session")
def make_outputs() -> Callable[..., Outputs]:
    """:func:`outputs`."""
    return outputs


@pytest.fixture(scope="session")
def disturb() -> Callable[..., Outputs]:
    """:func:`disturbed`."""
    return disturbed


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """The figures that a chart of a module paints, before they become SVG: painted(module, draw)."""
    from matplotlib.figure import Figure

    def go(module: Any, draw: Callable[[], Any]) -> list[Any]:
        figures = []

        def take(paint: Callable[[Figure], None], **_: Any) -> str:
            figure = Figure()
            paint(figure)
            figures.append(figure)
            return "<svg></svg>"

        monkeypatch.setattr(module, "picture", take)
        draw()
        return figures

    return go
