"""A bundle is read as it was exported or not at all, and is replaced whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from molre_edge.bundle.bundle import Bundle, check_free, hold_bundle, new_bundle, write_manifest
from molre_edge.errors import BundleError, InUseError
from molre_edge.specs import Precision


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A bundle of one's own, to be altered."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "edge-bundle"))


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def rewrite(bundle: Path, change: Callable[[dict[str, object]], object]) -> None:
    """Alter the manifest as somebody would who knows how it is made."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    change(manifest)
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def test_a_bundle_opens_with_its_facts(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    assert opened.grid.shape == (4, 32, 32)
    assert len(opened.findings) == len(opened.thresholds) == 75
    assert list(opened.graphs) == [Precision.FP32, Precision.FP16]
    assert opened.graph(Precision.FP16).inputs[0].dtype == "float16"
    assert opened.golden().volumes.shape == (3, 4, 32, 32)
    assert opened.golden().outputs.gates is not None


def test_the_digest_is_the_manifests_sha256_and_pins_the_bundle(bundle: Path) -> None:
    digest = hashlib.sha256((bundle / "manifest.json").read_bytes()).hexdigest()
    assert Bundle.open(bundle).digest == digest
    assert Bundle.open(bundle, expect_digest=digest.upper()).digest == digest
    with pytest.raises(BundleError, match=f"its digest is {digest}, expected {'0' * 64}. .*; do not use it"):
        Bundle.open(bundle, expect_digest="0" * 64)


def test_one_who_rewrites_graph_and_manifest_is_caught_by_the_digest_alone(bundle: Path) -> None:
    digest = Bundle.open(bundle).digest
    (bundle / "graphs" / "fp32.onnx").write_bytes(b"another model")
    sha256 = hashlib.sha256(b"another model").hexdigest()
    rewrite(bundle, lambda manifest: manifest["files"].update({"graphs/fp32.onnx": sha256}))  # type: ignore[attr-defined]
    assert Bundle.open(bundle).read("graphs/fp32.onnx") == b"another model"
    with pytest.raises(BundleError, match="its digest is"):
        Bundle.open(bundle, expect_digest=digest)


@pytest.mark.parametrize("name", ["graphs/fp32.onnx", "graphs/fp16.onnx", "golden/golden.npz"])
def test_an_altered_file_is_refused_by_name_when_it_is_read(name: str, bundle: Path) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name}: altered or damaged: its SHA-256 is not the one in the manifest"):
        Bundle.open(bundle).read(name)


def test_a_file_that_is_absent_or_not_covered_is_named(bundle: Path) -> None:
    (bundle / "graphs" / "fp16.onnx").unlink()
    (bundle / "graphs" / "int8.onnx").write_bytes(b"not covered")
    opened = Bundle.open(bundle)
    with pytest.raises(BundleError, match=r"fp16\.onnx: can't be read \(No such file or directory\)\. Copy the bundle"):
        opened.read("graphs/fp16.onnx")
    with pytest.raises(
        BundleError, match=r"does not cover graphs/int8\.onnx; it covers golden/golden\.npz, graphs/fp16"
    ):
        opened.read("graphs/int8.onnx")
    with pytest.raises(
        BundleError, match=r"has no int8 graph, only fp32, fp16. Expected one: 'molre-edge calibrate' makes it"
    ):
        opened.graph(Precision.INT8)


@pytest.mark.parametrize("link", ["manifest.json", "graphs/fp32.onnx", "graphs"])
def test_links_are_refused_even_to_the_same_content(link: str, bundle: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    (bundle / link).rename(moved)
    (bundle / link).symlink_to(moved)
    with pytest.raises(BundleError, match="symbolic link"):
        Bundle.open(bundle).read("graphs/fp32.onnx")


def put_instead(path: Path, kind: str) -> None:
    """Put something that is not a regular file in the place of a file."""
    path.unlink()
    if kind == "named pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        here = os.getcwd()
        os.chdir(path.parent)  # a socket's name holds at most 107 bytes
        try:
            with socket.socket(socket.AF_UNIX) as end:
                end.bind(path.name)
        finally:
            os.chdir(here)
    else:
        path.symlink_to("/dev/zero")


@pytest.mark.parametrize("kind", ["named pipe", "folder", "socket", "link to a device"])
@pytest.mark.parametrize("name", ["manifest.json", "graphs/fp32.onnx", "golden/golden.npz"])
def test_what_is_no_regular_file_is_refused_at_once(name: str, kind: str, bundle: Path) -> None:
    put_instead(bundle / name, kind)
    start = time.monotonic()
    with pytest.raises(BundleError, match="not a regular file"):
        Bundle.open(bundle).read(name)
    assert time.monotonic() - start < 30


def test_a_bundle_that_was_put_aside_is_found_again(bundle: Path) -> None:
    digest = Bundle.open(bundle).digest
    bundle.rename(bundle.parent / f".{bundle.name}.abcdefgh.old")
    assert Bundle.open(bundle).digest == digest
    assert bundle.is_dir()


def test_a_bundle_is_held_by_one_writer_and_must_be_the_one_that_was_opened(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    words = r"in use by process \d+ on .* \(molre-edge build, since"
    with (
        hold_bundle(opened, "molre-edge build"),
        pytest.raises(InUseError, match=words),
        hold_bundle(opened, "molre-edge calibrate"),
    ):
        pytest.fail("held twice")
    rewrite(bundle, lambda manifest: manifest.update(notes=["another"]))
    with pytest.raises(BundleError, match="another command has changed the bundle"), hold_bundle(opened, "build"):
        pytest.fail("held another bundle")


def test_a_bundle_of_the_longest_legal_name_is_written_and_a_longer_one_is_refused(tmp_path: Path) -> None:
    with new_bundle(tmp_path / ("b" * 255), force=False) as partial:
        (partial / "manifest.json").write_text("{}")
    with pytest.raises(BundleError, match="name is too long: 256 bytes"):
        check_free(tmp_path / ("b" * 256), force=False)


def test_a_file_too_large_for_a_bundle_is_not_read(bundle: Path) -> None:
    os.truncate(bundle / "graphs" / "fp32.onnx", 5 << 30)  # sparse: it takes no space
    with pytest.raises(
        BundleError, match=r"fp32\.onnx: can\'t be read \(5368709120 bytes long, and 4294967296 is the limit\)"
    ):
        Bundle.open(bundle).read("graphs/fp32.onnx")
    os.truncate(bundle / "manifest.json", 17 << 20)
    with pytest.raises(BundleError, match="17825792 bytes long, and 16777216 is the limit"):
        Bundle.open(bundle)


def test_a_folder_that_is_no_bundle_is_refused_with_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"none: not a bundle .* Make one with 'molre-edge export CHECKPOINT -o"):
        Bundle.open(tmp_path / "none")


def test_an_altered_manifest_is_refused_with_its_place(bundle: Path) -> None:
    rewrite(bundle, lambda manifest: manifest.update(thresholds=[0.5]))
    with pytest.raises(BundleError, match=r"manifest\.json: damaged \(thresholds: expected 75, one a finding\)"):
        Bundle.open(bundle)


def test_golden_answers_of_another_model_are_refused(bundle: Path) -> None:
    def one_finding_less(manifest: dict[str, object]) -> None:
        for key in ("findings", "thresholds"):
            manifest[key].pop()  # type: ignore[attr-defined]
        for graph in manifest["graphs"].values():  # type: ignore[attr-defined]
            graph["outputs"][0]["shape"] = [None, 74]

    rewrite(bundle, one_finding_less)
    with pytest.raises(BundleError, match=r"golden\.npz: damaged \(logits: expected float32 \[n, 74\], got .* 75\]\)"):
        Bundle.open(bundle).golden()


def test_the_manifest_covers_what_the_bundle_needs_and_not_what_users_put_there(tmp_path: Path) -> None:
    for name in ("graphs/a.onnx", "golden/golden.npz", "calibration/ranges.json", "engines/a.engine", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    digest = write_manifest(tmp_path, {"findings": []})
    raw = (tmp_path / "manifest.json").read_bytes()
    assert hashlib.sha256(raw).hexdigest() == digest
    manifest = json.loads(raw)
    assert list(manifest["files"]) == ["calibration/ranges.json", "golden/golden.npz", "graphs/a.onnx"]
    assert manifest["files"]["graphs/a.onnx"] == hashlib.sha256(b"graphs/a.onnx").hexdigest()
    assert (manifest["format"], manifest["version"], manifest["findings"]) == ("molre-edge-bundle", 1, [])


def test_force_replaces_a_bundle_with_all_that_is_in_it(bundle: Path) -> None:
    (bundle / "engines").mkdir()
    (bundle / "engines" / "fp16.engine").write_bytes(b"of the old graph")
    with pytest.raises(
        BundleError, match=r"a bundle exists there\. Replace it with --force, with its engines, adapters and 8-bit"
    ):
        check_free(bundle, force=False)
    with new_bundle(bundle, force=True) as partial:
        (partial / "manifest.json").write_text("{}")
        assert (bundle / "engines" / "fp16.engine").exists()  # the old one stays until the new one is whole
    assert names(bundle) == ["manifest.json"]
    assert names(bundle.parent) == ["edge-bundle", "edge-bundle/manifest.json"]


def test_an_interruption_leaves_the_old_bundle_and_nothing_beside_it(bundle: Path) -> None:
    before = names(bundle.parent)
    with pytest.raises(KeyboardInterrupt), new_bundle(bundle, force=True) as partial:
        (partial / "graphs").mkdir()
        (partial / "graphs" / "fp32.onnx").write_bytes(b"half a graph")
        raise KeyboardInterrupt
    assert names(bundle.parent) == before
    assert Bundle.open(bundle).golden()


def test_an_empty_folder_is_free_and_a_link_to_a_bundle_stays_a_link(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    check_free(tmp_path / "empty", force=False)
    check_free(tmp_path / "new" / "deep", force=False)
    (tmp_path / "link").symlink_to(bundle)
    with new_bundle(tmp_path / "link", force=True) as partial:
        (partial / "manifest.json").write_text("{}")
    assert (tmp_path / "link").is_symlink()
    assert names(bundle) == ["manifest.json"]


def test_a_place_below_a_file_or_one_that_is_read_only_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match=r"file/new: .*file is not a writable folder\. Choose another folder"):
        check_free(tmp_path / "file" / "new", force=False)
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(BundleError, match="is not a writable folder"):
        check_free(tmp_path / "new", force=False)


@pytest.mark.parametrize("content", ['{"name": "a web page\'s manifest"}', "[]", "no json", None])
def test_force_never_removes_what_is_no_bundle(content: str | None, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "one.jpg").write_text("dear")
    if content is not None:
        (folder / "manifest.json").write_text(content)
    for force in (False, True):
        with pytest.raises(BundleError, match=r"photos: exists and is not a bundle\. Choose another"):
            check_free(folder, force=force)
    with pytest.raises(BundleError, match="is not a bundle"):
        check_free(folder / "one.jpg", force=True)


def test_the_current_folder_and_those_above_it_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for folder in (Path("."), Path(".."), tmp_path, Path("/")):
        with pytest.raises(BundleError, match="is the current folder, a folder above it, or a mount point"):
            check_free(folder, force=True)
