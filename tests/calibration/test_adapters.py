"""The int8 graph of a bundle with adapters: judged with one that is named in the manifest, and with others anew."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from molre_edge.bundle.bundle import Bundle
from molre_edge.calibration.run import calibrate_bundle
from molre_edge.errors import CalibrationError
from molre_edge.parity import ParityLimits
from molre_edge.specs import Precision
from molre_edge.verification.adapter_verbs import add_adapter

LOOSE = ParityLimits(
    "loose", max_abs_dp=0.1, max_abs_dlogit=0.5, max_flips_fraction=0.1, min_cosine=0.97, max_routing_l1=0.15
)


@pytest.fixture
def box(adapter_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(adapter_bundle, tmp_path / "edge-bundle"))


def test_calibration_needs_an_adapter_of_the_graphs_own_size(box: Path, other_adapter: Path, tiny_scans: Path) -> None:
    add_adapter(other_adapter, bundle=box)
    with pytest.raises(CalibrationError, match=r"has 2 experts and 4 findings, .* 3 and 75\. Name another"):
        calibrate_bundle(tiny_scans, box, adapter="other")


@pytest.mark.nightly
def test_the_manifest_names_the_adapter_and_another_is_judged_anew(
    box: Path, other_adapter: Path, tiny_scans: Path
) -> None:
    calibrate_bundle(tiny_scans, box, limits={Precision.INT8: LOOSE}, validation_scans=2)
    bundle = Bundle.open(box)
    using = bundle.adapter()
    assert bundle.manifest["calibration"]["adapter"] == {"name": "default", "sha256": using.digest}
    assert bundle.graph(Precision.INT8).adapter_inputs
    checks = {each.engine: each for each in add_adapter(other_adapter, bundle=box).checks}
    assert checks["onnxruntime:fp16"].passed
    int8 = checks["onnxruntime:int8"]
    assert int8.passed or int8.summary.startswith("int8 does not hold for this adapter")
