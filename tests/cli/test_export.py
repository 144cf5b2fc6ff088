"""``molre-edge export`` as a user types it; what the graphs are worth is tested with the exporter."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from molre_edge.bundle.bundle import MANIFEST, Bundle
from molre_edge.specs import Precision


def words_of(text: str) -> str:
    return " ".join(text.replace("│", " ").split())


@pytest.fixture
def export(invoke: Callable[..., Any], tiny_checkpoint: Path) -> Callable[..., Any]:
    return lambda *words: invoke("export", tiny_checkpoint, *words)


def test_it_makes_a_bundle_and_prints_its_digest_and_the_proof(
    spawn: Any, tiny_checkpoint: Path, tiny_scans: Path
) -> None:
    words = ("export", tiny_checkpoint, "--precision", "fp32", "--golden", tiny_scans, "--golden-volumes", "2")
    done = spawn(*words, "-o", "a bundle", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)  # and nothing else is on stdout
    assert result["bundle"] == "a bundle"
    assert result["digest"] == hashlib.sha256(Path("a bundle", MANIFEST).read_bytes()).hexdigest()
    assert result["parity"]["fp32"]["passed"] is True
    assert len(result["routing"]["routers"]) == 2
    assert "Routing is dynamic: 2 routers" in done.stderr
    assert "The golden volumes are images of patients" in done.stderr
    bundle = Bundle.open(Path("a bundle"), expect_digest=result["digest"])
    assert set(bundle.graphs) == {Precision.FP32}
    assert len(bundle.golden().volumes) == 2
    assert {path.name for path in Path().iterdir()} == {"a bundle"}


@pytest.mark.usefixtures("traced_once")
def test_a_graph_outside_its_limits_ends_with_3_and_leaves_nothing(export: Any) -> None:
    Path("strict.toml").write_text("[fp32]\nmax_abs_dp = 0\n")
    done = export("--golden-volumes", "2", "--gates", "strict.toml")
    assert done.exit_code == 3
    assert "largest difference of a probability" in done.stderr and done.stdout == ""
    assert {path.name for path in Path().iterdir()} == {"strict.toml"}


def test_a_bundle_that_is_there_needs_force(export: Any, tiny_bundle: Path) -> None:
    shutil.copytree(tiny_bundle, "edge-bundle")
    before = Path("edge-bundle", MANIFEST).read_bytes()
    done = export()
    assert done.exit_code == 1
    assert "edge-bundle: a bundle exists there. Replace it with --force" in words_of(done.stderr)
    assert Path("edge-bundle", MANIFEST).read_bytes() == before


def test_something_else_than_a_bundle_is_never_replaced(export: Any) -> None:
    Path("thesis").mkdir()
    Path("thesis/chapter.tex").touch()
    done = export("-o", "thesis", "--force")
    assert done.exit_code == 1
    assert "thesis: exists and is not a bundle" in words_of(done.stderr)
    assert Path("thesis/chapter.tex").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--golden-volumes", "1"], "Invalid value for '--golden-volumes'"),
        (["--golden", "nowhere"], "'nowhere' does not exist"),
        (["--precision", "int8"], "Invalid value for '--precision'"),
        (["--backbone-weights", "nowhere"], "'nowhere' does not exist"),
    ],
)
def test_a_wrong_use_ends_with_2(words: list[str], message: str, export: Any) -> None:
    done = export(*words)
    assert done.exit_code == 2
    assert message in words_of(done.stderr)


def test_what_is_no_checkpoint_ends_with_1_or_2(invoke: Any) -> None:
    Path("notes.pt").write_text("nothing")
    assert invoke("export", "nowhere.pt").exit_code == 2
    done = invoke("export", "notes.pt")
    assert done.exit_code == 1 and "notes.pt" in done.stderr
    assert not Path("edge-bundle").exists()


def test_one_golden_scan_is_too_few_and_the_reason_of_a_bad_one_is_told(export: Any, tiny_scans: Path) -> None:
    scans = Path("scans")
    shutil.copytree(tiny_scans / "head-1", scans / "good")
    (scans / "bad.nii").write_bytes(b"\x5c\x01\x00\x00" + bytes(400))
    done = export("--golden", scans)
    assert done.exit_code == 1
    assert "1 usable scans; expected at least 2" in words_of(done.stderr)
    assert "warning: Not used as a golden volume: " in done.stderr


def test_without_pytorch_it_says_what_to_install(spawn: Any, tiny_checkpoint: Path) -> None:
    done = spawn("export", tiny_checkpoint, driver=("without", 0))
    assert done.returncode == 1
    assert "pip install 'molre-edge[export]'" in done.stderr
    assert not Path("edge-bundle").exists()


def test_two_exports_into_one_folder_the_second_is_told_who_holds_it(tiny_checkpoint: Path) -> None:
    command = [sys.executable, "-m", "molre_edge", "export", str(tiny_checkpoint), "--golden-volumes", "2"]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not Path(".edge-bundle.lock").exists():
        assert first.poll() is None, first.communicate()
        time.sleep(0.05)
    second = subprocess.run([*command, "--force"], capture_output=True, text=True)
    assert second.returncode == 1, second.stderr
    assert f"edge-bundle: in use by process {first.pid} on " in words_of(second.stderr)
    assert "(molre-edge export, since " in words_of(second.stderr)
    out, problems = first.communicate(timeout=300)
    assert first.returncode == 3 or "Bundle: edge-bundle" in out, problems
    assert not Path(".edge-bundle.lock").exists()


@pytest.mark.usefixtures("traced_once")
def test_a_bundle_with_the_longest_legal_name_is_made_and_replaced(export: Any) -> None:
    name = "b" * 255
    for more in ((), ("--force",)):
        done = export("-o", name, "--golden-volumes", "2", "--precision", "fp32", "-q", *more)
        assert done.exit_code == 0, done.stderr
    assert [path.name for path in Path().iterdir()] == [name]
    done = export("-o", "b" * 256)
    assert done.exit_code == 1 and "the name is too long: 256 bytes" in words_of(done.stderr)
