"""An int8 or fp8 engine is refused unless it is one: by its layers, and real ones of a calibrated tiny bundle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from molre_edge.bundle.bundle import MANIFEST, Bundle
from molre_edge.calibration.run import calibrate
from molre_edge.calibration.settings import CalibrationSettings
from molre_edge.engines.cuda.driver import DriverProbe, Gpu
from molre_edge.engines.tensorrt.api import BuildOptions, Target
from molre_edge.engines.tensorrt.build import build_tensorrt as build_engine
from molre_edge.engines.tensorrt.fit import BuiltFor
from molre_edge.engines.tensorrt.layers import BuiltLayer, layer_of
from molre_edge.engines.tensorrt.quantised import FP8_CAPABILITIES, Quantised, check_quantised, fp8_options
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
    with pytest.raises(EngineError, match="25% of the graph's 8-bit layers"):
        check_quantised([*rows[1:], FUSED, FUSED], EXPECTED)


def test_weights_of_one_layer_alone_are_not_held_against_the_graph_s() -> None:
    # as the inspector tells: weights of the convolution alone
    conv, float_conv = (BuiltLayer("conv", "correlation", kind, 100) for kind in ("Int8", "Half"))
    gemms = [BuiltLayer(str(place), "gemm", "Int8", 0) for place in range(3)]
    check_quantised([conv, *gemms, FUSED, FUSED], EXPECTED)
    with pytest.raises(EngineError, match="25% of the graph's 8-bit layers"):
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


@pytest.fixture(scope="module")
def fp8(calibrated: Path, tiny_scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle in which all layers that may be are FP8."""
    folder = tmp_path_factory.mktemp("fp8") / "edge-bundle"
    shutil.copytree(calibrated, folder, ignore=shutil.ignore_patterns("engines"))
    calibrate(
        Bundle.open(folder),
        find_scans(tiny_scans),
        CalibrationSettings(precision=Precision.FP8, method=RangeMethod.MINMAX),
        ParityLimits("anything", max_abs_dp=1.0),
        threads=1,
    )
    return folder


def test_an_fp8_engine_is_fp8_inside_and_states_the_gpus_that_have_it(fp8: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="engines are built where TensorRT-RTX is installed: Linux on x86-64")
    bundle = Bundle.open(fp8)
    expected = Quantised.of(bundle, Precision.FP8)
    assert (expected.layers, expected.attentions) == (8, 2)
    built = build_engine(bundle, Precision.FP8, BuildOptions())
    layers, target = built.facts["layers"], built.facts["target"]
    assert target["compute_capabilities"] == ["sm89", "sm120", "sm121"] and built.facts["warnings"] == []
    assert layers["fused_attention"] == 2
    assert layers["matrix_weights"]["FP8"] >= expected.weights
    assert BuiltFor.of(built).capabilities == {(8, 9), (12, 0), (12, 1)}
    for old in ("sm86", "SM75"):
        with pytest.raises(EngineError, match=f"--compute-capability {old}: these GPUs have no FP8; expected 8.9 or"):
            build_engine(bundle, Precision.FP8, BuildOptions(compute_capabilities=("sm89", old)))


def test_what_the_library_drops_from_its_list_is_recorded(fp8: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its default list TensorRT-RTX says so in a line of its log alone."""
    pytest.importorskip("tensorrt_rtx", reason="engines are built where TensorRT-RTX is installed: Linux on x86-64")
    monkeypatch.setattr("molre_edge.engines.tensorrt.build.fp8_options", lambda options, probe: options)
    built = build_engine(Bundle.open(fp8), Precision.FP8, BuildOptions())
    assert built.facts["target"]["compute_capabilities"] == ["sm89", "sm120", "sm121"]
    assert built.facts["warnings"] == [
        "the library dropped sm80, sm86, which lack a datatype of the graph; built for sm89, sm120, sm121"
    ]


def test_a_gpu_without_fp8_is_refused_before_anything_is_built() -> None:
    here = BuildOptions(target=Target.HERE)
    orin, ada = (DriverProbe("13.0", (Gpu(name, sm, 0),)) for name, sm in (("Orin", (8, 7)), ("L4", (8, 9))))
    with pytest.raises(EngineError, match=r"--engine fp8: the Orin \(sm87\) of this machine has no FP8; .* Build int8"):
        fp8_options(here, orin)
    assert fp8_options(here, ada) is here
    assert fp8_options(BuildOptions(), orin).compute_capabilities == FP8_CAPABILITIES


def test_fp8_weights_beside_float16_inputs_are_no_fp8_product() -> None:
    expected = Quantised(layers=4, weights=1000, attentions=2, precision=Precision.FP8)
    check_quantised([BuiltLayer("a", "gemm", "FP8", 1000), FUSED, FUSED], expected)
    with pytest.raises(EngineError, match=r"named fp8 and is not fp8 inside: 0% .* multiplied in FP8, .* 1 Int8"):
        check_quantised([BuiltLayer("a", "gemm", "Int8", 1000), FUSED, FUSED], expected)
    assert layer_of("a", "gemm", [(9, "Half")], [(1000, "FP8")], [(9, "Half")]).datatype == "Half"
    assert layer_of("a", "gemm", [(9, "FP8")], [(1000, "FP8")], [(9, "Half")]).datatype == "FP8"


@pytest.mark.parametrize("section", [None, {"layers": 4}, {"layers": "4", "weights": 1, "attentions": 1}, []])
def test_a_manifest_that_does_not_say_it_is_refused(calibrated: Path, tmp_path: Path, section: object) -> None:
    folder = Path(shutil.copytree(calibrated, tmp_path / "edge-bundle"))
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["calibration"] = section
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="calibrate"):
        Quantised.of(Bundle.open(folder), Precision.INT8)
