"""Shared by all tests: a tiny chain from scans to bundle, the wheel, the real CT data when they are there."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings
from made_once import made_once

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # some tests load ONNX Runtime before the package
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the program does, before torch is loaded

settings.register_profile("any machine", deadline=None)  # a busy or small machine is no failure
settings.load_profile("any machine")


pytest_plugins = ["dicom_fixtures", "report_fixtures", "run_fixtures", "traced"]
"""Fixtures that several areas share, in tests/fixtures."""

_COSTLY = {
    "adapter_bundle",
    "other_adapter",
    "tiny_bundle",
    "tiny_checkpoint",
    "tiny_data",
    "wheel_path",
    "stand_in",
    "spawn",
}
_LONG = (
    "benchmarks", "calibration", "cli/test_synthesize.py", "edge", "engines", "export", "model",
    "reports/test_browser.py",
    "reports/test_plots.py", "reports/test_charts.py", "repository/test_lean_imports.py", "scans", "synthetic",
    "test_demo.py", "test_guides.py", "test_locks.py",
    "test_offline.py", "test_readme.py", "training", "runs/test_folder_lock.py",
)  # fmt: skip
_FIRST = (
    "test_readme.py", "export/test_graph.py", "test_demo.py", "engines/test_backbone_engines.py", "cli/test_infer.py",
    "test_python_page.py", "test_guides.py", "cli/test_train.py", "cli/test_export.py", "security/test_offline.py",
)  # fmt: skip
"""Files that take minutes in one piece: last, they would keep one process waiting for the other."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need an exported model, the wheel or a process a command; `make test-fast` skips them."""
    tests = Path(__file__).parent
    items.sort(key=lambda item: _turn(item.path.relative_to(tests).as_posix()))  # stable
    for item in items:
        place = item.path.relative_to(tests).as_posix()
        if place.startswith(_LONG) or _COSTLY & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.chain)


def _turn(place: str) -> int:
    """When a file's tests run: long files as listed, then those that export, read or train, then quick ones."""
    for turn, name in enumerate(_FIRST):
        if place == name:
            return turn
    return len(_FIRST) + (not place.startswith(_LONG))


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session", autouse=True)
def _state_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What passes in tests is not noted for the user who runs them, and that user's trusted keys are not asked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        patch.delenv("MOLRE_EDGE_TRUST", raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def _scans_are_read_here() -> Iterator[None]:
    """Commands that run in this process start no readers unless asked to: each costs a second, to load its libraries.

    Those in processes of their own have them by default, as users have; tests/scans/workers and tests/runs ask too.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("molre_edge.runs.infer.default_readers", lambda: 0)
        yield


@pytest.fixture(autouse=True)
def _as_many_threads_as_before() -> Iterator[None]:
    """A test that leaves PyTorch with fewer threads makes later ones slow, and their last digits others."""
    torch = sys.modules.get("torch")
    before = None if torch is None else torch.get_num_threads()
    yield
    assert before is None or sys.modules["torch"].get_num_threads() == before, "the number of threads was not set back"


@pytest.fixture(scope="session")
def sources(root: Path) -> dict[str, Path]:
    """Every file that is to be installed: its path in the installed package -> where it lies in the repository."""
    stages = [folder for name in ("export", "calibration", "engines") if (folder := root / name).is_dir()]
    found = {}
    for folder in (root / "molre_edge", *stages):
        prefix = "" if folder.name == "molre_edge" else "molre_edge/"
        for path in folder.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                found[prefix + path.relative_to(root).as_posix()] = path
    return found


@pytest.fixture(scope="session")
def wheel_path(root: Path, sources: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without a network from a copy: setuptools also packs what an earlier build left beside it."""

    def build(out: Path) -> None:
        copy = tmp_path_factory.mktemp("copy")
        for path in [
            *sources.values(),
            *(root / name for name in ("pyproject.toml", "README.md", "LICENSE", "THIRD_PARTY_LICENSES.md")),
        ]:
            target = copy / path.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(copy)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=out)
        assert done.returncode == 0, done.stdout + done.stderr

    folder = tmp_path_factory.mktemp("wheel")
    made_once(tmp_path_factory, "wheel", build, folder)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def tiny_scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three synthetic heads as DICOM series (``head-1`` to ``head-3``) and one as ``head-4.nii.gz``."""

    def make(folder: Path) -> None:
        from molre_edge.synthetic import make_head, write_dicom_series, write_nifti

        for number, findings in enumerate([(), ("intraparenchymal_hemorrhage",), ("hydrocephalus",)], start=1):
            write_dicom_series(make_head(number, findings, shape=(12, 96, 96)), folder / "scans" / f"head-{number}")
        write_nifti(make_head(4, shape=(12, 96, 96)), folder / "scans" / "head-4.nii.gz")

    folder = tmp_path_factory.mktemp("tiny")
    made_once(tmp_path_factory, "scans", make, folder)
    return folder / "scans"


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 synthetic heads with a manifest: 12 to train on, 4 to validate, 4 to test. Tests must not change it."""

    def make(folder: Path) -> None:
        from molre_edge.training.dataset import make_dataset

        findings = ("intraparenchymal_hemorrhage", "craniotomy_or_craniectomy")
        make_dataset(folder / "data", scans=20, shape=(8, 48, 48), findings=findings, prevalence=0.5)

    folder = tmp_path_factory.mktemp("training")
    made_once(tmp_path_factory, "training", make, folder)
    return folder / "data"


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real, very small DINOv3 classifier with two routers of three experts, its thresholds amid the tiny scans."""
    made_once(
        tmp_path_factory,
        "checkpoint",
        lambda folder: _draw_checkpoint(tiny_scans, folder / "ckpt.pt"),
        tiny_scans.parent,
    )
    return tiny_scans.parent / "ckpt.pt"


def _draw_checkpoint(scans: Path, path: Path) -> None:
    import numpy as np

    from molre_edge.demo import draw_model
    from molre_edge.model.checkpoint import save_checkpoint
    from molre_edge.model.config import AdapterConfig, BackboneConfig, ModelConfig, RouterConfig
    from molre_edge.scans import find_scans, read_scan, to_grid
    from molre_edge.specs import Grid

    size = {"num_hidden_layers": 2, "hidden_size": 96, "num_attention_heads": 3, "intermediate_size": 192}
    config = ModelConfig(
        backbone=BackboneConfig(id="dinov3-vits16", options=size),
        grid=Grid(slices=4, rows=32, cols=32),
        adapter=AdapterConfig(modules=("attention.o_proj",), experts=3, rank=2),
        router=RouterConfig(hidden=4),
        budget=1.0,  # so small a backbone has no room for adapters below the usual 0.5 %
    )
    volumes = np.stack([to_grid(read_scan(source), config.grid) for source in find_scans(scans).scans])
    save_checkpoint(draw_model(config, volumes), path)


_WIDE = (
    "[fp16]\nmax_abs_dp = 0.1\nmax_abs_dlogit = 0.4\nflip_margin_logit = 0.4\nmax_flips_fraction = 0.1\n"
    "max_routing_l1 = 0.2\n"
)
"""Limits for the tiny checkpoint: a narrow model rounds more."""


@pytest.fixture(scope="session")
def tiny_bundle(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of the tiny checkpoint, its trained tensors as constants: fp32, fp16, three golden volumes."""

    def make(folder: Path) -> None:
        from traced import traced

        from molre_edge.export.exporter import export_checkpoint

        (folder / "limits.toml").write_text(_WIDE)
        with pytest.MonkeyPatch.context() as patch:  # other tests take the same model's graph too
            patch.setattr("molre_edge.export.exporter.export_fp32", traced)
            export_checkpoint(
                tiny_checkpoint,
                folder / "edge-bundle",
                golden_volumes=3,
                limits=folder / "limits.toml",
                adapters="constants",
            )

    made_once(tmp_path_factory, "bundle", make, tiny_checkpoint.parent)
    return tiny_checkpoint.parent / "edge-bundle"


@pytest.fixture(scope="session")
def adapter_bundle(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint's bundle as the command exports it, its trained tensors as inputs; two golden volumes."""

    def make(folder: Path) -> None:
        from traced import traced

        from molre_edge.export.exporter import export_checkpoint

        (folder / "wide.toml").write_text(_WIDE)
        with pytest.MonkeyPatch.context() as patch:  # other tests take the same model's graph too
            patch.setattr("molre_edge.export.exporter.export_fp32", traced)
            export_checkpoint(tiny_checkpoint, folder / "adapter-bundle", golden_volumes=2, limits=folder / "wide.toml")

    made_once(tmp_path_factory, "adapter-bundle", make, tiny_checkpoint.parent)
    return tiny_checkpoint.parent / "adapter-bundle"


@pytest.fixture(scope="session")
def other_checkpoint(tiny_checkpoint: Path) -> Path:
    """Another training of the tiny checkpoint's backbone: two experts of rank 1, and four findings of its own."""
    import torch

    from molre_edge.model.checkpoint import load_checkpoint, save_checkpoint
    from molre_edge.model.classifier import HeadCTClassifier

    first = load_checkpoint(tiny_checkpoint)
    config = replace(
        first.config,
        adapter=replace(first.config.adapter, experts=2, rank=1, alpha=3.0),
        router=replace(first.config.router, temperature=0.5),
        findings=("bleed", "infarct", "shift", "own-finding"),
        thresholds=(0.3, 0.4, 0.5, 0.6),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = HeadCTClassifier(config).eval()
        with torch.no_grad():
            for name, value in model.named_parameters():
                if name.endswith("lora_B"):
                    value.normal_(std=0.2)
                elif not name.startswith("backbone."):
                    value.normal_(std=0.5)
    frozen = {name: value for name, value in first.model.state_dict().items() if name.startswith("backbone.")}
    model.load_state_dict({name: value for name, value in frozen.items() if "lora_" not in name}, strict=False)
    path = tiny_checkpoint.parent / "other.pt"
    save_checkpoint(model, path)
    return path


@pytest.fixture(scope="session")
def other_adapter(other_checkpoint: Path, adapter_bundle: Path) -> Path:
    """That training as an adapter of the bundle, under the name ``other``."""
    from molre_edge.export.pack import pack_adapter

    return pack_adapter(other_checkpoint, other_checkpoint.parent / "other.adapter", bundle=adapter_bundle).path


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real CT test data: MOLRE_EDGE_TEST_DATA, else ../shared/data beside the repository."""
    given = os.environ.get("MOLRE_EDGE_TEST_DATA")
    folder = Path(given) if given else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not (folder / "SHA256SUMS").is_file():
        pytest.skip("the real CT test data are not here: set MOLRE_EDGE_TEST_DATA to their folder")
    return folder


LACKS = """#include <stdio.h>
static int lacks(const char *name) { fprintf(stderr, "the stand-in has no %s\\n", name); return 801; }
"""


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a stand-in for the driver's library, compiled from stand_in_driver.c."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("the stand-in for the driver needs gcc")
    folder = tmp_path_factory.mktemp("driver")
    source = Path(__file__).with_name("engines") / "stand_in_driver.c"
    lacking = (f'int {name}(void) {{ return lacks("{name}"); }}\n' for name in names_that_lack(source))
    (folder / "rest.c").write_text(LACKS + "".join(lacking))
    flags = ["-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", str(folder / "libcuda.so.1")]
    subprocess.run([compiler, *flags, str(source), str(folder / "rest.c"), "-ldl"], check=True)
    return folder


def names_that_lack(source: Path) -> list[str]:
    """Names of the driver that pycuda's binary wants to find, used or not, and the stand-in has not."""
    pycuda = importlib.util.find_spec("pycuda")
    if pycuda is None or pycuda.origin is None:
        return []
    (binary,) = Path(pycuda.origin).parent.glob("_driver*.so")
    wanted = {name.decode() for name in re.findall(rb"\0(cu[A-Z]\w+)(?=\0)", binary.read_bytes())}
    return sorted(wanted - set(re.findall(r"\b(cu[A-Z]\w+)\(", source.read_text())))
