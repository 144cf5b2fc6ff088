"""A signed release: what a machine with trusted keys accepts of a bundle, and what it runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from molre_edge.bundle.bundle import MANIFEST, Bundle, amend_manifest
from molre_edge.bundle.engine_files import read_engine, write_engine
from molre_edge.bundle.sign import make_signing_key, sign_release
from molre_edge.engines.onnxruntime_runner import OnnxRuntimeRunner
from molre_edge.errors import BundleError, SigningError
from molre_edge.files import sha256_of
from molre_edge.signing.memory import SigningMemory
from molre_edge.signing.trust import NO_TRUST, Trust, trust_of
from molre_edge.specs import Precision


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOLRE_EDGE_STATE", str(tmp_path / "state"))


@pytest.fixture
def trust(tmp_path: Path) -> Trust:
    return trust_of([make_signing_key(tmp_path / "release.key").public])


@pytest.fixture
def folder(tiny_bundle: Path, tmp_path: Path, trust: Trust) -> Path:
    """A signed bundle, version 2."""
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "edge-bundle"))
    sign_release(folder, tmp_path / "release.key", version=2)
    return folder


def change(folder: Path, how: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest as its owner could, hashes included."""
    manifest = json.loads((folder / MANIFEST).read_text())
    how(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def with_8_bits(folder: Path, precision: str) -> str:
    """Add a graph as a calibration does, and return its hash."""
    name, section = f"graphs/{precision}.onnx", {"int8": "calibration", "fp8": "calibration_fp8"}[precision]
    shutil.copy(folder / "graphs" / "fp32.onnx", folder / name)
    with (folder / name).open("ab") as file:
        file.write(b"\xba\x03\x00")  # another file, the same graph
    sha256 = sha256_of(folder / name)
    bundle = Bundle.open(folder, trust=NO_TRUST)
    plain = dict(bundle.manifest)
    graphs, parity = plain["graphs"], plain["parity"]
    plain["graphs"] = {**graphs, precision: {**graphs["fp32"], "file": name}}
    plain |= {"parity": {**parity, precision: {}}, section: {"key": "x"}, "notes": [*plain["notes"], "calibrated"]}
    amend_manifest(bundle, plain, {**plain["files"], name: sha256, "calibration/report.json": "0" * 64})
    return sha256


def test_a_signed_bundle_is_opened_and_says_by_whom_it_was_signed(folder: Path, trust: Trust) -> None:
    bundle = Bundle.open(folder, trust=trust)
    assert bundle.signed is not None
    assert (bundle.signed.key_id, bundle.signed.name, bundle.signed.version) == (trust.keys[0].id, "edge-bundle", 2)
    with OnnxRuntimeRunner.from_bundle(bundle, Precision.FP32) as runner:
        assert runner.name == "onnxruntime:fp32"


def test_without_trusted_keys_nothing_is_asked(folder: Path) -> None:
    (folder / "release.json.minisig").write_text("nothing")
    assert Bundle.open(folder).signed is None


def test_a_bundle_that_is_not_signed_or_by_another_key_is_refused(
    folder: Path, tiny_bundle: Path, trust: Trust, tmp_path: Path
) -> None:
    with pytest.raises(SigningError, match=r"not signed \(release.json is missing\), and --trust asks"):
        Bundle.open(tiny_bundle, trust=trust)
    other = make_signing_key(tmp_path / "other.key")
    sign_release(folder, other.secret, version=3)
    with pytest.raises(SigningError, match=f"signed by key {other.id}, which is not trusted here"):
        Bundle.open(folder, trust=trust)
    (folder / "release.json.minisig").unlink()
    with pytest.raises(SigningError, match="not signed"):
        Bundle.open(folder, trust=trust)


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "files differ in graphs/fp32.onnx": lambda m: m["files"].update({"graphs/fp32.onnx": "0" * 64}),
    "files differ in golden/golden.npz": lambda m: m["files"].update({"golden/golden.npz": "0" * 64}),
    "another thresholds": lambda m: m.update(thresholds=[0.9] * len(m["thresholds"])),
    "another findings": lambda m: m.update(findings=m["findings"][::-1]),
    "another config": lambda m: m["config"].update(windows=[[1, 2]]),
    "graphs differ in fp16": lambda m: m["graphs"].update(fp16=m["graphs"]["fp32"]),
    "parity differ in fp16": lambda m: m["parity"]["fp16"].update(volumes=99),
    "notes were removed": lambda m: m.update(notes=[]),
    "has surprise besides": lambda m: m.update(surprise=1),
    "has the files graphs/more.onnx besides": lambda m: m["files"].update({"graphs/more.onnx": "0" * 64}),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_manifest_that_was_changed_since_is_refused_by_what_changed(folder: Path, trust: Trust, what: str) -> None:
    change(folder, lambda m: m["notes"] or m["notes"].append("a note"))
    sign_release(folder, folder.parent / "release.key", version=3)
    Bundle.open(folder, trust=trust)
    change(folder, CHANGES[what])
    with pytest.raises(SigningError, match=f"not the release that was signed: .*{what}"):
        Bundle.open(folder, trust=trust)


def test_a_graph_in_another_folder_is_none(folder: Path, trust: Trust) -> None:
    (folder / "calibration").mkdir(exist_ok=True)
    shutil.copy(folder / "graphs" / "fp32.onnx", folder / "calibration" / "x.onnx")

    def hide(manifest: dict[str, Any]) -> None:
        manifest["files"]["calibration/x.onnx"] = sha256_of(folder / "calibration" / "x.onnx")
        manifest["graphs"]["int8"] = {**manifest["graphs"]["fp32"], "file": "calibration/x.onnx"}

    change(folder, hide)
    with pytest.raises(BundleError, match="is not among the files in graphs/"):
        Bundle.open(folder, trust=trust)


def test_what_is_only_looked_at_does_not_count_as_used(folder: Path, trust: Trust) -> None:
    sign_release(folder, folder.parent / "release.key", version=9)
    Bundle.open(folder, trust=trust, remember=False)
    sign_release(folder, folder.parent / "release.key", version=8)
    assert Bundle.open(folder, trust=trust).signed is not None


def test_an_altered_release_or_graph_is_refused(folder: Path, trust: Trust) -> None:
    with (folder / "graphs" / "fp32.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleError, match="altered or damaged"):
        Bundle.open(folder, trust=trust).read("graphs/fp32.onnx")
    path = folder / "release.json"
    path.write_bytes(path.read_bytes().replace(b'"fp32"', b'"fp33"', 1))
    with pytest.raises(SigningError, match="altered since it was signed"):
        Bundle.open(folder, trust=trust)


def test_an_altered_bundle_is_not_signed(folder: Path) -> None:
    with (folder / "graphs" / "fp16.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleError, match="altered or damaged"):
        sign_release(folder, folder.parent / "release.key")


def test_a_release_older_than_one_that_was_used_is_refused_until_it_is_accepted(folder: Path, trust: Trust) -> None:
    Bundle.open(folder, trust=trust)
    sign_release(folder, folder.parent / "release.key", version=1)
    with pytest.raises(SigningError, match="version 1 of edge-bundle, and this machine has used version 2"):
        Bundle.open(folder, trust=trust)
    Bundle.open(folder, trust=trust, accept_older=True)
    assert Bundle.open(folder, trust=trust).signed is not None


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_an_8_bit_graph_runs_only_where_it_was_made_from_the_release(
    folder: Path, trust: Trust, precision: str
) -> None:
    sha256, name = with_8_bits(folder, precision), f"graphs/{precision}.onnx"
    bundle = Bundle.open(folder, trust=trust)  # what a box adds does not break the signature
    with pytest.raises(SigningError, match="does not cover it, and this machine did not make it"):
        bundle.read(name)
    SigningMemory.here().made_here(sha256, "0" * 64)
    with pytest.raises(SigningError, match="did not make it from that release"):
        bundle.read(name)
    SigningMemory.here().made_here(sha256, bundle.manifest["files"]["graphs/fp32.onnx"])
    assert bundle.read(name)
    assert Bundle.open(folder).read(name)  # without trust nothing of this is asked


def test_an_engine_runs_only_where_it_was_built_from_the_release(
    folder: Path, trust: Trust, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, graph = Bundle.open(folder, trust=trust), "graphs/fp16.onnx"
    built_from = {"file": graph, "sha256": bundle.manifest["files"][graph]}
    engine = write_engine(bundle, "rtx-fp16", b"code", {"graph": built_from})
    assert read_engine(bundle, engine) == b"code"
    monkeypatch.setenv("MOLRE_EDGE_STATE", str(folder.parent / "another box"))
    assert read_engine(Bundle.open(folder), engine) == b"code"
    with pytest.raises(SigningError, match="this machine did not make it"):
        read_engine(bundle, engine)


def test_a_verb_that_is_given_keys_checks_an_open_bundle_too(folder: Path, tiny_bundle: Path, trust: Trust) -> None:
    assert Bundle.of(Bundle.open(folder), trust=trust).signed is not None
    with pytest.raises(SigningError, match="not signed"):
        Bundle.of(Bundle.open(tiny_bundle), trust=trust)
