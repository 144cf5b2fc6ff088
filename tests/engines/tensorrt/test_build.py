"""Real engines of the tiny bundle, built by TensorRT-RTX without a GPU; nothing here runs an engine."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from molre_edge.bundle.bundle import MANIFEST, Bundle, amend_manifest
from molre_edge.bundle.engine_files import list_engines, read_engine
from molre_edge.engines.cuda.driver import DriverProbe, Gpu, probe_driver
from molre_edge.engines.tensorrt.api import BuildOptions, Target
from molre_edge.engines.tensorrt.build import build_tensorrt as build_engine
from molre_edge.engines.tensorrt.known_problems import known_problem
from molre_edge.engines.tensorrt.layers import BuiltLayer
from molre_edge.errors import BundleError, EngineError, MissingDependencyError
from molre_edge.export.attention import unfuse_attention
from molre_edge.export.half import to_half
from molre_edge.progress import SILENT, Silent
from molre_edge.specs import Precision

pytest.importorskip("tensorrt_rtx", reason="engines are built where TensorRT-RTX is installed: Linux on x86-64")

OPTIONS = BuildOptions(compute_capabilities=("sm86",))
BOTH = [Precision.FP32, Precision.FP16]


@pytest.fixture(scope="module")
def built(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle with both engines."""
    folder = tmp_path_factory.mktemp("built") / "edge-bundle"
    shutil.copytree(tiny_bundle, folder)
    bundle = Bundle.open(folder)
    for precision in BOTH:
        build_engine(bundle, precision, OPTIONS)
    return bundle


@pytest.fixture
def fresh(tiny_bundle: Path, tmp_path: Path) -> Bundle:
    """A bundle without engines."""
    shutil.copytree(tiny_bundle, tmp_path / "edge-bundle")
    return Bundle.open(tmp_path / "edge-bundle")


@pytest.fixture
def spoilt(built: Bundle, tmp_path: Path) -> Bundle:
    """A copy of the built bundle, to be altered."""
    shutil.copytree(built.folder, tmp_path / "edge-bundle")
    return Bundle.open(tmp_path / "edge-bundle")


def put_graph(bundle: Bundle, name: str, content: bytes) -> Bundle:
    """The bundle with another graph, and a manifest that agrees to it."""
    (bundle.folder / name).write_bytes(content)
    manifest = json.loads((bundle.folder / MANIFEST).read_text())
    manifest["files"][name] = hashlib.sha256(content).hexdigest()
    (bundle.folder / MANIFEST).write_text(json.dumps(manifest))
    return Bundle.open(bundle.folder)


def test_an_fp32_engine_has_float_layers_alone(built: Bundle) -> None:
    layers = json.loads((built.folder / "engines/rtx-fp32.json").read_text())["layers"]
    datatypes = {datatype for counts in layers["by_type"].values() for datatype in counts}
    assert datatypes == {"Float", "none"}
    assert layers["by_type"]["gemm"]["Float"] > 4
    assert set(layers["matrix_weights"]) == {"Float"}


def test_an_fp16_engine_has_half_layers_but_for_routers_and_head_and_fuses_each_attention(built: Bundle) -> None:
    layers = json.loads((built.folder / "engines/rtx-fp16.json").read_text())["layers"]
    weights = layers["matrix_weights"]
    assert layers["by_type"]["correlation"] == {"Half": 1}
    assert set(layers["by_type"]["gemm"]) == {"Half"}
    # two routers of 96 x 4, and the head of 96 x 75, padded to 76
    assert weights["Float"] == 2 * 96 * 4 + 96 * 76
    assert weights["Half"] > 20 * weights["Float"]
    assert layers["fused_attention"] == 2


def test_an_unfused_graph_gives_an_engine_without_fused_attention(fresh: Bundle) -> None:
    import onnx

    graph = onnx.load_from_string(fresh.read(fresh.graph(Precision.FP32).file))
    assert unfuse_attention(graph) == 2
    bundle = put_graph(fresh, "graphs/fp16.onnx", to_half(graph).SerializeToString())
    amend_manifest(bundle, {**bundle.manifest, "attention": "unfused"}, bundle.manifest["files"])
    bundle = Bundle.open(bundle.folder)
    facts = build_engine(bundle, Precision.FP16, OPTIONS).facts
    assert facts["layers"]["fused_attention"] == 0 and facts["warnings"] == []
    assert facts["layers"]["matrix_weights"]["Half"] > 0
    assert known_problem(bundle, Precision.FP16, "TensorRT", "10.16.1", ["sm120"]) is None


def test_the_json_tells_what_it_was_built_from_and_how(built: Bundle) -> None:
    import tensorrt_rtx

    facts = json.loads((built.folder / "engines/rtx-fp16.json").read_text())
    content = (built.folder / "engines/rtx-fp16.engine").read_bytes()
    assert facts["graph"]["sha256"] == built.manifest["files"]["graphs/fp16.onnx"]
    assert (facts["sha256"], facts["bytes"]) == (hashlib.sha256(content).hexdigest(), len(content))
    assert facts["runtime"] == {"name": "TensorRT-RTX", "version": tensorrt_rtx.__version__}
    assert facts["target"]["compute_capabilities"] == ["sm86"]
    shape = list(built.grid.shape)
    assert facts["profile"]["volume"] == {"min": [1, *shape], "opt": [1, *shape], "max": [4, *shape]}
    assert facts["build_seconds"] > 0


def test_engines_are_listed_and_read_by_hash(built: Bundle) -> None:
    engines = list_engines(built)
    assert [engine.path.name for engine in engines] == ["rtx-fp16.engine", "rtx-fp32.engine"]
    for engine in engines:
        assert hashlib.sha256(read_engine(built, engine)).hexdigest() == engine.sha256


def test_swapped_engines_are_refused(spoilt: Bundle) -> None:
    half, single = list_engines(spoilt)
    shutil.copy(single.path, half.path)
    with pytest.raises(BundleError, match=r"rtx-fp16\.engine: altered or swapped"):
        read_engine(spoilt, half)
    assert read_engine(spoilt, single)


def test_an_engine_of_an_older_graph_is_refused(spoilt: Bundle) -> None:
    graph = (spoilt.folder / "graphs/fp16.onnx").read_bytes()
    newer = put_graph(spoilt, "graphs/fp16.onnx", graph + b"\0")
    with pytest.raises(BundleError, match=r"built from another graphs/fp16\.onnx than this bundle's"):
        read_engine(newer, list_engines(newer)[0])


def test_a_link_in_the_place_of_an_engine_is_refused(spoilt: Bundle, tmp_path: Path) -> None:
    engine = list_engines(spoilt)[0]
    engine.path.rename(tmp_path / "elsewhere")
    engine.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="symbolic link"):
        read_engine(spoilt, engine)


@pytest.mark.parametrize(
    "change",
    [{"format": "other"}, {"file": "../x.engine"}, {"file": "rtx-fp32.engine"}, {"sha256": "0"}, {"graph": []}],
)
def test_a_damaged_json_is_refused(change: dict[str, object], spoilt: Bundle) -> None:
    path = spoilt.folder / "engines/rtx-fp16.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(BundleError, match=r"rtx-fp16\.json: not the JSON of an engine"):
        list_engines(spoilt)


def test_an_altered_graph_is_refused_before_it_is_parsed(fresh: Bundle) -> None:
    path = fresh.folder / "graphs/fp16.onnx"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(BundleError, match=r"fp16\.onnx: altered or damaged"):
        build_engine(fresh, Precision.FP16, OPTIONS)


def test_a_graph_that_can_not_be_parsed_is_told_with_the_parser_s_reasons(fresh: Bundle) -> None:
    import onnx

    model = onnx.load(fresh.folder / "graphs/fp16.onnx")
    for node in [node for node in model.graph.node if node.op_type == "Softmax"][:1]:
        node.op_type = "NoSuchOperator"
    bad = put_graph(fresh, "graphs/fp16.onnx", model.SerializeToString())
    with pytest.raises(EngineError, match=r"can't read the graph:\n- NoSuchOperator "):
        build_engine(bad, Precision.FP16, OPTIONS)
    assert not (bad.folder / "engines").exists()


def test_an_engine_that_is_fp32_inside_is_not_an_fp16_engine(fresh: Bundle) -> None:
    lying = put_graph(fresh, "graphs/fp16.onnx", (fresh.folder / "graphs/fp32.onnx").read_bytes())
    with pytest.raises(EngineError, match="is named fp16 and is not fp16 inside: 0% in Half"):
        build_engine(lying, Precision.FP16, OPTIONS)
    assert not (lying.folder / "engines").exists()


def test_an_error_of_who_watches_the_progress_stops_the_build_and_leaves_nothing(fresh: Bundle) -> None:
    seen: list[int] = []

    class Interrupts(Silent):
        def count(self, done: int, total: int | None, unit: str) -> None:
            seen.append(done)
            if len(seen) == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_engine(fresh, Precision.FP16, OPTIONS, progress=Interrupts())
    assert len(seen) == 3
    assert not (fresh.folder / "engines").exists()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_stops_the_build_and_leaves_an_older_engine_alone(name: str, spoilt: Bundle) -> None:
    before = {path.name: path.read_bytes() for path in (spoilt.folder / "engines").iterdir()}
    number = getattr(signal, name)

    class Signals(Silent):
        def count(self, done: int, total: int | None, unit: str) -> None:
            os.kill(os.getpid(), number)

    earlier = signal.signal(number, signal.default_int_handler)  # as the program does for all three
    try:
        with pytest.raises(KeyboardInterrupt):
            build_engine(spoilt, Precision.FP16, OPTIONS, progress=Signals())
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, earlier)
    assert {path.name: path.read_bytes() for path in (spoilt.folder / "engines").iterdir()} == before


TWO_SIGNALS = """
import os, signal
from molre_edge.engines.tensorrt.progress import watching

signal.signal(signal.SIGTERM, signal.default_int_handler)  # as the program does

class Library:
    ILogger = type("ILogger", (), {"INTERNAL_ERROR": 0, "ERROR": 1, "WARNING": 2})
    IProgressMonitor = object

with watching(Library):
    os.kill(os.getpid(), signal.SIGTERM)
    print("goes on to where it can stop", flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    print("still there")
"""


def test_a_second_signal_ends_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", TWO_SIGNALS], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "goes on to where it can stop\n"), done.stderr


def test_progress_grows_to_the_whole(fresh: Bundle) -> None:
    steps, percents = list[str](), list[int]()

    class Recorder(Silent):
        def step(self, name: str) -> None:
            steps.append(name)

        def count(self, done: int, total: int | None, unit: str) -> None:
            assert (total, unit) == (100, "percent")
            percents.append(done)

    build_engine(fresh, Precision.FP32, OPTIONS, progress=Recorder())
    assert steps == ["building the fp32 engine"]
    assert percents == sorted(set(percents))
    assert 0 <= percents[0] < 50 and percents[-1] == 100


def test_a_full_disk_is_told_and_leaves_an_older_engine_alone(spoilt: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in (spoilt.folder / "engines").iterdir()}

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EngineError, match=r"rtx-fp16\.engine: can't be written \(No space left on device\)"):
        build_engine(spoilt, Precision.FP16, replace(OPTIONS, batch=(1, 2, 2)))
    assert {path.name: path.read_bytes() for path in (spoilt.folder / "engines").iterdir()} == before


def test_a_compute_capability_that_the_library_does_not_know_is_refused_with_those_it_knows(fresh: Bundle) -> None:
    with pytest.raises(EngineError, match=r"--compute-capability sm87: TensorRT-RTX .* builds for .*sm86, sm89"):
        build_engine(fresh, Precision.FP16, BuildOptions(compute_capabilities=("sm87",)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": (2, 1, 4)}, "--batch 2 1 4: expected 1 <= smallest"),
        ({"batch": (0, 1, 4)}, "--batch 0 1 4"),
        ({"workspace_mib": 0}, "--workspace 0: expected at least 16 MiB"),
        ({"optimization_level": 6}, "--optimization-level 6: expected 0 to 5"),
        (
            {"target": Target.HERE, "compute_capabilities": ("sm86",)},
            "--compute-capability: TensorRT builds for the GPU",
        ),
        ({"timing_cache": True}, "--timing-cache: TensorRT-RTX measures nothing when it builds, so it has none; leave"),
        ({"version_compatible": True}, "--version-compatible: TensorRT-RTX has no such engines without a GPU; leave"),
    ],
)
def test_a_wrong_option_is_refused_by_name(options: dict[str, object], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        BuildOptions(**options)  # type: ignore[arg-type]


def test_int8_is_refused_where_there_is_no_int8_graph(fresh: Bundle) -> None:
    with pytest.raises(BundleError, match="'molre-edge calibrate' makes it"):
        build_engine(fresh, Precision.INT8, OPTIONS)


@pytest.mark.parametrize(("target", "module"), [(Target.RTX, "tensorrt_rtx"), (Target.HERE, "tensorrt")])
def test_a_library_that_is_not_installed_is_named_with_its_extra(
    target: Target, module: str, fresh: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    extra = {Target.RTX: "rtx", Target.HERE: "tensorrt"}[target]
    with pytest.raises(MissingDependencyError, match=rf"{module}, which is not installed: .*molre-edge\[{extra}\]"):
        build_engine(fresh, Precision.FP16, BuildOptions(target=target))


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT-RTX in full TensorRT's place and an Ampere GPU: the steps of '--target here', not its library."""
    import tensorrt_rtx

    from molre_edge.engines.tensorrt import build as tensorrt_build
    from molre_edge.engines.tensorrt.api import TensorRT

    monkeypatch.setattr(tensorrt_build, "load_tensorrt", lambda target: TensorRT(tensorrt_rtx, "TensorRT", "10.4.0"))
    probe = DriverProbe("13.0", (Gpu("A2000", (8, 6), 1 << 33),))
    monkeypatch.setattr(tensorrt_build, "probe_driver", lambda: probe)


# TensorRT-RTX warns that a timing cache is of no use to it.
without_warning = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@without_warning
@pytest.mark.usefixtures("full")
def test_an_engine_for_the_gpu_here_names_it_and_warns_of_versions_that_answer_wrongly(fresh: Bundle) -> None:
    built = build_engine(fresh, Precision.FP16, BuildOptions(target=Target.HERE))
    assert built.path.name == "here-fp16.engine"
    assert built.facts["target"]["gpu"] == "A2000" and built.facts["target"]["compute_capabilities"] == ["sm86"]
    assert built.facts["layers"]["read_from"] == "the builder's layer log"  # an inspector needs a GPU
    (warning,) = built.facts["warnings"]
    assert "TensorRT 10.4.0 was reported to be one that answers wrongly for DINOv3, in float32 too" in warning


@without_warning
@pytest.mark.usefixtures("full")
def test_measurements_are_kept_for_the_next_build_unless_that_is_declined(
    fresh: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    from molre_edge.engines.tensorrt.api import TensorRT

    given: list[bytes] = []

    def begin_with(self: TensorRT, config: object, measured: bytes) -> bool:
        given.append(measured)
        return bool(measured) and takes

    takes = True
    monkeypatch.setattr(TensorRT, "set_timing_cache", begin_with)
    path = fresh.folder / "engines/timing-sm86-10.4.0.cache"
    real = build_engine.__globals__["_build"]
    monkeypatch.setitem(build_engine.__globals__, "_build", lambda *words: _with_measurements(*real(*words)))
    for reused in (False, True):
        built = build_engine(fresh, Precision.FP16, BuildOptions(target=Target.HERE))
        assert built.facts["options"]["timing_cache"] == {"file": path.name, "reused": reused}
    assert given == [b"", b"measured"]
    takes = False  # of another GPU, say
    built = build_engine(fresh, Precision.FP16, BuildOptions(target=Target.HERE))
    assert built.facts["options"]["timing_cache"] == {"file": path.name, "reused": False}
    path.write_bytes(path.read_bytes()[:-1])  # damaged: begun anew
    build_engine(fresh, Precision.FP16, BuildOptions(target=Target.HERE))
    assert given[-1] == b""
    assert [engine.path.name for engine in list_engines(fresh)] == ["here-fp16.engine"]
    build_engine(fresh, Precision.FP16, BuildOptions(target=Target.HERE, timing_cache=False))
    assert len(given) == 4


def _with_measurements(plan: object, _: bytes, reused: bool) -> tuple[object, bytes, bool]:
    return plan, b"measured", reused


@pytest.mark.parametrize(
    ("takes", "measured", "reused", "given"),
    [
        ({b"old", b""}, b"old", True, [b"old"]),
        ({b""}, b"old", False, [b""]),  # refused by the configuration
        (set(), b"old", False, []),
        ({b""}, b"", False, [b""]),
    ],
)
@pytest.mark.parametrize("readable", [True, False])
def test_a_timing_cache_counts_as_reused_only_where_the_library_took_it(
    takes: set[bytes], measured: bytes, reused: bool, given: list[bytes], readable: bool
) -> None:
    from molre_edge.engines.tensorrt.api import TensorRT

    class Config:
        def create_timing_cache(self, content: bytes) -> bytes | None:
            return content if readable or content in takes else None

        def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
            assert cache is not None and not ignore_mismatch
            if cache in takes:
                taken.append(cache)
            return cache in takes

    taken: list[bytes] = []
    library: Any = TensorRT(None, "TensorRT", "11.4.0")
    assert library.set_timing_cache(Config(), measured) is reused
    assert taken == given


@pytest.mark.parametrize(
    ("version", "precision", "warns"),
    [
        ("10.3.0", Precision.FP16, True),
        ("10.3.0", Precision.INT8, True),
        ("10.3.0", Precision.FP32, False),
        ("10.4.0", Precision.INT8, True),
        ("10.3.0", Precision.FP8, True),
        ("11.4.0", Precision.INT8, False),
    ],
)
def test_what_is_known_of_float16_is_told_of_8_bit_graphs_which_are_float16_elsewhere(
    version: str, precision: Precision, warns: bool, fresh: Bundle
) -> None:
    assert (known_problem(fresh, precision, "TensorRT", version, ["sm86"]) is not None) is warns


@pytest.mark.parametrize(
    ("version", "precision", "sm", "warns"),
    [
        ("10.16.1", Precision.FP16, "sm120", True),
        ("10.9.0", Precision.INT8, "sm120", True),
        ("10.16.1", Precision.FP16, "sm89", False),
        ("10.16.1", Precision.FP32, "sm120", False),
        ("11.4.0", Precision.FP16, "sm120", False),
    ],
)
def test_what_was_seen_on_one_kind_of_gpu_is_told_there_alone(
    version: str, precision: Precision, sm: str, warns: bool, fresh: Bundle
) -> None:
    found = known_problem(fresh, precision, "TensorRT", version, [sm])
    assert (found is not None and "issues/4837" in found) is warns
    assert known_problem(fresh, precision, "TensorRT-RTX", version, [sm]) is None


@pytest.mark.usefixtures("full")
@without_warning
def test_ctrl_c_while_the_finished_engine_is_inspected_is_not_lost(
    fresh: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    from molre_edge.engines.tensorrt import build as tensorrt_build

    allowed: list[bool] = []

    def inspect(*_: object, host_code: bool) -> tuple[()]:
        allowed.append(host_code)
        os.kill(os.getpid(), signal.SIGINT)
        return ()

    monkeypatch.setattr(tensorrt_build, "_build", lambda *_: (b"plan", b"", False))
    monkeypatch.setattr(tensorrt_build, "inspect_layers", inspect)
    with pytest.raises(KeyboardInterrupt):
        build_engine(fresh, Precision.FP16, BuildOptions(target=Target.HERE, version_compatible=True))
    assert allowed == [True]
    assert not (fresh.folder / "engines").exists()


def test_an_engine_whose_layers_can_not_be_read_is_kept_and_says_so(
    fresh: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    from molre_edge.engines.tensorrt import build as tensorrt_build
    from molre_edge.engines.tensorrt.layers import read_layers

    monkeypatch.setattr(
        tensorrt_build, "read_layers", lambda text: read_layers(text.replace("Datatype", "ElementKind"))
    )
    facts = build_engine(fresh, Precision.FP16, OPTIONS).facts
    (warning,) = facts["warnings"]
    assert "layers can't be read from what this version of the library tells" in warning and "verify" in warning
    assert facts["layers"]["by_type"]["unread"]["unread"] > 20
    assert list_engines(fresh)[0].path.name == "rtx-fp16.engine"


HALF, ODD = BuiltLayer("a", "gemm", "Half", 0), BuiltLayer("b", "unread", "unread", 0)


@pytest.mark.parametrize(
    ("inspected", "logged", "by_inspector"),
    [
        ((HALF,), (HALF, HALF), True),
        ((HALF,), (), True),
        ((), (HALF,), False),
        ((ODD, HALF), (HALF, HALF), False),
        ((ODD, HALF), (ODD, ODD, HALF), True),
        ((ODD,), (ODD, ODD, HALF), False),
        ((ODD,), (), True),
        ((), (), True),
    ],
)
def test_layers_are_taken_from_the_inspector_unless_the_log_tells_more(
    inspected: tuple[BuiltLayer, ...],
    logged: tuple[BuiltLayer, ...],
    by_inspector: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from molre_edge.engines.tensorrt import build as tensorrt_build

    monkeypatch.setattr(tensorrt_build, "inspect_layers", lambda *_, host_code: inspected)
    monkeypatch.setattr(tensorrt_build, "read_layers", lambda text: logged)
    here, watch = BuildOptions(target=Target.HERE), SimpleNamespace(layers=["Layers:\n"])
    told = tensorrt_build._layers(None, b"plan", here, watch, None)  # type: ignore[arg-type]
    assert told == ((inspected, "the engine inspector") if by_inspector else (logged, "the builder's layer log"))
    told = tensorrt_build._layers(None, b"plan", OPTIONS, watch, None)  # type: ignore[arg-type]
    assert told == (logged, "the builder's layer log")


@pytest.mark.usefixtures("full")
@without_warning
def test_attentions_of_float16_are_counted_by_the_inspector_too(fresh: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    from molre_edge.engines.tensorrt import build as tensorrt_build
    from molre_edge.engines.tensorrt.api import TensorRT

    fused = BuiltLayer("_gemm_mha_v2_1", "kgen", "Half", 0)
    monkeypatch.setattr(tensorrt_build, "inspect_layers", lambda *_, host_code: (HALF, fused, fused))
    monkeypatch.setattr(tensorrt_build, "_build", lambda *_: (b"plan", b"", False))
    import tensorrt_rtx

    library = TensorRT(tensorrt_rtx, "TensorRT", "11.4.0")
    assert tensorrt_build._fused_in_fp16(fresh, library, BuildOptions(target=Target.HERE), SILENT) == 2
    monkeypatch.setattr(tensorrt_build, "inspect_layers", lambda *_, host_code: ())
    assert tensorrt_build._fused_in_fp16(fresh, library, BuildOptions(target=Target.HERE), SILENT) is None  # not known


@without_warning
def test_the_library_takes_the_calls_of_a_timing_cache_and_of_flags() -> None:
    import tensorrt_rtx

    from molre_edge.engines.tensorrt.api import TensorRT
    from molre_edge.engines.tensorrt.progress import watching

    library = TensorRT(tensorrt_rtx, "TensorRT", "11.4.0")
    with watching(tensorrt_rtx, None) as (_, logger, _):
        config = tensorrt_rtx.Builder(logger).create_builder_config()
        library.set_timing_cache(config, b"")
        options = BuildOptions(target=Target.HERE, version_compatible=True)
        library.set_options(config, options)
    flags = tensorrt_rtx.BuilderFlag
    assert config.get_flag(flags.VERSION_COMPATIBLE)
    assert not config.get_flag(flags.TF32)


def test_on_a_jetson_tensorrt_comes_from_jetpack(monkeypatch: pytest.MonkeyPatch) -> None:
    import platform

    from molre_edge.engines.tensorrt.api import load_tensorrt

    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(EngineError, match=r"needs tensorrt, which comes with JetPack .* sudo apt install python3"):
        load_tensorrt(Target.HERE)


@pytest.mark.skipif(probe_driver().problem is None, reason="there is a GPU")
def test_without_a_driver_the_library_itself_refuses_an_engine_and_is_quoted(built: Bundle) -> None:
    from molre_edge.engines.tensorrt.api import load_tensorrt
    from molre_edge.engines.tensorrt.network import TensorRTNetwork

    plan = read_engine(built, list_engines(built)[0])
    with pytest.raises(EngineError, match=r"TensorRT-RTX 1\.\S+ can't load the engine:\n- "):
        TensorRTNetwork(load_tensorrt(Target.RTX), plan)
