"""An int8 engine is refused unless it is one: by its layers, and real ones of a calibrated tiny bundle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from molre_edge.bundle.bundle import MANIFEST, Bundle
from molre_edge.calibration.run import calibrate
from molre_edge.calibration.settings import CalibrationSettings
from molre_edge.engines.tensorrt.api import BuildOptions
from molre_edge.engines.tensorrt.build import build_tensorrt as build_engine
from molre_edge.engines.tensorrt.layers import BuiltLayer
from molre_edge.engines.tensorrt.quantised import Quantised, check_quantised
from molre_edge.errors import BundleError, EngineError
from molre_edge.parity import ParityLimits
from molre_edge.scans import find_scans
from molre_edge.specs import Precision, RangeMethod

EXPECTED = Quantised(layers=4, weights=1000, attentions=2)
FUSED = BuiltLayer("_gemm_mha_v2_myl0_1", "kgen", "Half", 0)


def engine(int8: int, half: int = 500, fused: int = 2) -> list[BuiltLayer]:
    return [BuiltLayer("a", "gemm", "Int8", int8), BuiltLayer("b", "gemm", "Half", half), *[FUSED] * fused]


def test_all_of_the_quantised_weights_must_be_int8() -> None:
    check_quantised(engine(1000), EXPECTED)
    with pytest.raises(EngineError, match=r"not int8 inside: 90% .* expected at least 98%; .* 1 Int8, 1 Half"):
        check_quantised(engine(900), EXPECTED)


def test_a_log_without_weights_is_judged_by_its_layers() -> None:
    rows = [BuiltLayer(str(i), "gemm", "Int8" if i < 2 else "Half", 0) for i in range(6)]
    check_quantised([*rows, FUSED, FUSED], EXPECTED)
    with pytest.raises(EngineError, match="25% of the graph's INT8 layers"):
        check_quantised([*rows[1:], FUSED, FUSED], EXPECTED)


def test_weights_of_one_layer_alone_are_not_held_against_the_graph_s() -> None:
    # as the inspector tells: weights of the convolution alone
    conv, float_conv = (BuiltLayer("conv", "correlation", kind, 100) for kind in ("Int8", "Half"))
    gemms = [BuiltLayer(str(place), "gemm", "Int8", 0) for place in range(3)]
    check_quantised([conv, *gemms, FUSED, FUSED], EXPECTED)
    with pytest.raises(EngineError, match="25% of the graph's INT8 layers"):
        check_quantised([float_conv, gemms[0], FUSED, FUSED], EXPECTED)


def test_attentions_must_be_fused_as_far_as_they_are_in_float16() -> None:
    with pytest.raises(EngineError, match="fuses 1 attentions, expected 2"):
        check_quantised(engine(1000, fused=1), EXPECTED)
    with pytest.raises(EngineError, match="fuses 1 attentions, expected 2"):
        check_quantised(engine(1000, fused=1), EXPECTED, lambda: 2)
    check_quantised(engine(1000, fused=1), EXPECTED, lambda: 1)


@pytest.fixture(scope="module")
def calibrated(tiny_bundle: Path, tiny_scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle in which all layers that may be are INT8."""
    folder = tmp_path_factory.mktemp("int8") / "edge-bundle"
    shutil.copytree(tiny_bundle, folder)
    calibrate(
        Bundle.open(folder),
        find_scans(tiny_scans),
        CalibrationSettings(method=RangeMethod.MSE),
        ParityLimits("anything", max_abs_dp=1.0),
        threads=1,
    )
    return folder


def test_the_engine_is_int8_where_the_graph_is_and_keeps_its_fused_attentions(calibrated: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="engines are built where TensorRT-RTX is installed: Linux on x86-64")
    bundle = Bundle.open(calibrated)
    expected = Quantised.of(bundle, Precision.INT8)
    assert (expected.layers, expected.attentions) == (9, 2)
    built = build_engine(bundle, Precision.INT8, BuildOptions(compute_capabilities=("sm86",)))
    layers = built.facts["layers"]
    assert layers["fused_attention"] == 2
    assert layers["matrix_weights"]["Int8"] >= expected.weights
    assert layers["by_type"]["correlation"] == {"Int8": 1}


def test_a_graph_that_is_not_int8_inside_makes_no_engine(calibrated: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="engines are built where TensorRT-RTX is installed: Linux on x86-64")
    folder = Path(shutil.copytree(calibrated, tmp_path / "edge-bundle", ignore=shutil.ignore_patterns("engines")))
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["graphs"]["int8"] = manifest["graphs"]["fp16"]  # a float16 graph under the name
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(EngineError, match="is named int8 and is not int8 inside: 0%"):
        build_engine(Bundle.open(folder), Precision.INT8, BuildOptions(compute_capabilities=("sm86",)))
    assert not list(folder.glob("engines/*int8*"))


@pytest.mark.parametrize("section", [None, {"layers": 4}, {"layers": "4", "weights": 1, "attentions": 1}, []])
def test_a_manifest_that_does_not_say_it_is_refused(calibrated: Path, tmp_path: Path, section: object) -> None:
    folder = Path(shutil.copytree(calibrated, tmp_path / "edge-bundle"))
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["calibration"] = section
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="calibrate"):
        Quantised.of(Bundle.open(folder), Precision.INT8)
