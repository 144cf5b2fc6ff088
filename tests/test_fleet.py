"""The guide for fleets is true: its commands run one after the other, and its sizes are those of real files."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from markdown_it import MarkdownIt
from ports import free_port

from molre_edge.adapters.file import read_adapter
from molre_edge.bundle.bundle import Bundle
from molre_edge.model.checkpoint import load_checkpoint
from molre_edge.model.defaults import default_config

PROGRAMS = ("docker-registry", "skopeo", "umoci")
pytestmark = pytest.mark.nightly


@pytest.fixture
def page(root: Path) -> str:
    return (root / "docs" / "guides" / "fleet.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def sizes(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("fleet_sizes", root / "benchmarks" / "fleet_sizes.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules["fleet_sizes"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(text: str) -> list[tuple[str, str]]:
    """(comment before it, content) of every block."""
    tokens = MarkdownIt("commonmark").parse(text)
    return [
        (tokens[i - 1].content.strip() if tokens[i - 1].type == "html_block" else "", token.content)
        for i, token in enumerate(tokens)
        if token.type == "fence"
    ]


def test_the_sizes_are_those_of_an_export(sizes: ModuleType, adapter_bundle: Path, tiny_checkpoint: Path) -> None:
    bundle = Bundle.open(adapter_bundle)
    counted = sizes.sizes_of(load_checkpoint(tiny_checkpoint).config, len(bundle.golden().volumes))
    graph = adapter_bundle / bundle.graphs["fp16"].file
    assert 0 < graph.stat().st_size - counted.half_graph < 1_000_000
    (path,) = (adapter_bundle / "adapters").glob("*.adapter")
    adapter = read_adapter(path)
    assert counted.adapter == sum(value.nbytes for value in adapter.tensors.values())
    assert counted.golden == sum(4 * value.size for value in adapter.golden.arrays.values())
    assert 0 < path.stat().st_size - counted.adapter - counted.golden < 20_000


@pytest.mark.parametrize("backbone", ["dinov3-vits16", "headct-vit3d"])
def test_the_table_is_what_the_script_prints(page: str, sizes: ModuleType, backbone: str) -> None:
    assert sizes.sizes_of(default_config(backbone)).row(backbone) in page


@pytest.fixture
def registry(page: str, tmp_path: Path) -> Iterator[str]:
    """The guide's, on a port of its own."""
    port = str(free_port())
    (config,) = [text for comment, text in blocks(page) if comment == "<!-- file registry.yml -->"]
    (tmp_path / "registry.yml").write_text(config.replace("5000", port))
    with (tmp_path / "registry.log").open("wb") as log:
        (command,) = [text for comment, text in blocks(page) if comment == "<!-- run registry -->"]
        words = command.split(" > ")[0].split()
        process = subprocess.Popen(words, cwd=tmp_path, stdout=log, stderr=log)
    end = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", int(port))).close()
            break
        except OSError:
            assert process.poll() is None and time.monotonic() < end, (tmp_path / "registry.log").read_text()
            time.sleep(0.05)
    yield port
    process.kill()
    process.wait()


@pytest.mark.skipif(not all(map(shutil.which, PROGRAMS)), reason="needs apt-get install docker-registry skopeo umoci")
def test_its_commands_bring_a_bundle_and_two_versions_of_an_adapter_to_a_box(
    page: str, registry: str, adapter_bundle: Path, tiny_checkpoint: Path, other_checkpoint: Path, tiny_scans: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    workshop, box = tmp_path / "workshop", tmp_path / "box"
    workshop.mkdir()
    box.mkdir()
    shutil.copytree(adapter_bundle, workshop / "head-ct")  # what the block before would export
    shutil.copy(other_checkpoint, workshop / "hospital-a.pt")
    shutil.copy(tiny_checkpoint, workshop / "retrained.pt")
    (box / "scans").symlink_to(tiny_scans / "head-2")
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    def run(place: Path, commands: str) -> str:
        home = {"PATH": tools, "HOME": str(place), "MOLRE_EDGE_STATE": str(place / "state")}
        done = subprocess.run(
            ["bash", "-euc", commands.replace("5000", registry)], cwd=place, env={**os.environ, **home},
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    said = ""
    for comment, text in blocks(page):
        if comment == "<!-- run workshop -->":
            run(workshop, text)
            for path in (*workshop.glob("*.digest"), workshop / "release.pub"):
                shutil.copy(path, box)
        elif comment == "<!-- run box -->":
            said = run(box, text)
            if "arrived-2" in text:
                older = "molre-edge adapter add arrived-1/hospital-a.adapter --bundle head-ct --trust release.pub"
                with pytest.raises(AssertionError, match="older"):
                    run(box, older)
    runs = [json.loads((box / name / "run.json").read_text()) for name in ("run-1", "run-2")]
    first, second = (read_adapter(box / f"arrived-{number}" / "hospital-a.adapter") for number in (1, 2))
    assert [first.digest in json.dumps(runs[0]), second.digest in json.dumps(runs[1])] == [True, True]
    assert first.digest != second.digest and first.digest[:12] in said  # after the rollback
