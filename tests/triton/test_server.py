"""A real tritonserver serves the Python form, and answers the golden volumes within the bundle's limits."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ports import free_port

from molre_edge.bundle.bundle import Bundle
from molre_edge.errors import EngineError
from molre_edge.triton.client import TritonClient
from molre_edge.triton.export import export_triton
from molre_edge.triton.replay import replay_golden
from molre_edge.triton.script import SCRIPT_FILE
from molre_edge.verification.adapter_verbs import add_adapter

pytestmark = pytest.mark.nightly

VARIABLE = "MOLRE_EDGE_TEST_TRITON"
MODEL = "molre-python"


@pytest.fixture(scope="module")
def environment() -> Path:
    """The environment of .ci/triton."""
    folder = Path(os.environ.get(VARIABLE, ""))
    if not list(folder.glob("lib/python3.*/site-packages/pytriton/tritonserver/bin/tritonserver")):
        pytest.skip(f"{VARIABLE} names no environment with a tritonserver: .ci/triton FOLDER makes one")
    return folder.resolve()


@contextmanager
def server(environment: Path, repository: Path, log: Path, **variables: str) -> Iterator[tuple[str, Any]]:
    """A running server on a free port: its address, once it is ready or has ended, and its process."""
    (packages,) = environment.glob("lib/python3.*/site-packages")
    triton = packages / "pytriton" / "tritonserver"
    asked = [environment / "bin" / "python", "-c", "import sysconfig; print(sysconfig.get_config_var('LIBDIR'))"]
    libraries = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    port = free_port()
    command = [triton / "bin" / "tritonserver", "--model-repository", repository]
    command += ["--backend-directory", triton / "backends", "--http-address", "127.0.0.1", "--http-port", str(port)]
    command += ["--allow-grpc", "false", "--allow-metrics", "false"]
    found = {
        "LD_LIBRARY_PATH": f"{packages / 'nvidia_pytriton.libs'}:{libraries}",
        "PATH": f"{environment / 'bin'}:{os.environ['PATH']}",
        "XDG_STATE_HOME": str(log.parent / "state"),
    }
    with log.open("wb") as file:
        variables = {**os.environ, **found, **variables}
        # elsewhere: Python within Triton also imports from the current folder, where the sources are
        process = subprocess.Popen(command, stdout=file, stderr=file, env=variables, cwd=log.parent)
        try:
            url = f"127.0.0.1:{port}"
            end = time.monotonic() + 300
            while process.poll() is None and time.monotonic() < end and not ready(url):
                time.sleep(0.2)
            yield url, process
        finally:
            process.terminate()
            process.wait(60)


def ready(url: str) -> bool:
    try:
        TritonClient(url, MODEL).calls()
    except EngineError:
        return False
    return True


@pytest.fixture(scope="module")
def box(adapter_bundle: Path, other_adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with two adapters, which its engines have answered."""
    folder = Path(shutil.copytree(adapter_bundle, tmp_path_factory.mktemp("box") / "edge-bundle"))
    add_adapter(other_adapter, bundle=folder)
    return folder


@pytest.fixture(scope="module")
def served(environment: Path, box: Path) -> Iterator[tuple[Path, str]]:
    """The repository of that bundle, and the address of the server that serves it."""
    place = box.parent / "models"
    export_triton(place, box, max_batch=4, max_delay_ms=200, threads=1)
    log = box.parent / "server.log"
    with server(environment, place, log) as (url, process):
        assert process.poll() is None, log.read_text()
        yield place, url


@pytest.mark.parametrize("adapter", ["default", "other"])
def test_the_golden_volumes_are_answered_alone_in_a_batch_and_at_once(served: Any, adapter: str) -> None:
    place, url = served
    command = [sys.executable, place / SCRIPT_FILE, "--url", url, "--adapter", adapter]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["passed"] and told["adapter"] == adapter and told["verdict"].startswith("passed")
    assert told["verdict_at_once"].startswith("passed")
    assert 0 < told["max_abs_dp"] < 0.01
    assert {"1", "4"} <= told["calls"].keys()  # alone, and in the largest request


def test_requests_of_two_adapters_share_a_batch_and_each_gets_its_own_answer(served: Any) -> None:
    place, url = served
    client, bundle = TritonClient(url, MODEL), Bundle.open(place / MODEL / "1" / "bundle")
    golden = bundle.golden().volumes[:1]
    alone = {name: client.infer(golden, name) for name in (None, "default", "other")}
    asked = ["default", "other", "nobody", None]

    def ask(name: str | None) -> Any:
        try:
            return client.infer(golden, name)
        except EngineError as error:
            return error

    with ThreadPoolExecutor(len(asked)) as pool:
        answers = dict(zip(asked, pool.map(ask, asked), strict=True))
    assert "the bundle has no adapter 'nobody'; it has default, other" in str(answers.pop("nobody"))
    for name, answer in answers.items():
        assert np.allclose(answer["logits"], alone[name]["logits"], atol=0.05)
        assert answer["findings"].tolist() == alone[name]["findings"].tolist()
        told = json.loads(answer["provenance"][0, 0])
        assert told["adapter"] == (name or "default") and told["bundle"] == bundle.digest
    assert alone["other"]["logits"].shape == (1, 4) and alone["default"]["logits"].shape == (1, 75)


def test_an_adapter_is_added_while_the_server_runs(served: Any, other_checkpoint: Path, tmp_path: Path) -> None:
    from molre_edge.export.pack import pack_adapter

    place, url = served
    bundle = place / MODEL / "1" / "bundle"
    packed = pack_adapter(other_checkpoint, tmp_path / "late.adapter", bundle=bundle, name="late")
    add_adapter(packed.path, bundle=bundle)
    assert replay_golden(place, url, adapter="late").passed


def test_a_replay_of_another_bundle_than_the_served_one_is_refused(served: Any, box: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(box, tmp_path / "edge-bundle"))
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps({**manifest, "created": "another day"}))
    export_triton(tmp_path / "models", other)
    with pytest.raises(EngineError, match="the server serves the bundle"):
        replay_golden(tmp_path / "models", served[1])


@pytest.mark.parametrize("what", ["altered", "not trusted"])
def test_a_bundle_that_must_not_be_used_is_not_served(environment: Path, box: Path, tmp_path: Path, what: str) -> None:
    place, words, variables = tmp_path / "models", "altered or damaged", {}
    export_triton(place, box)
    graph = place / MODEL / "1" / "bundle" / "graphs" / "fp16.onnx"
    if what == "altered":
        content = bytearray(graph.read_bytes())
        content[len(content) // 2] ^= 1
        graph.write_bytes(content)
    else:
        words, variables = "not signed", {"MOLRE_EDGE_TRUST": str(public_key(tmp_path))}
    with server(environment, place, tmp_path / "server.log", **variables) as (_, process):
        assert process.wait(60) != 0
    assert words in (tmp_path / "server.log").read_text()


def public_key(folder: Path) -> Path:
    from molre_edge.bundle.sign import make_signing_key

    return make_signing_key(folder / "release.key").public
