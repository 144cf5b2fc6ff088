"""Adapters on machines that trust keys: each has a signature of its own, and an older version is no way back."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from molre_edge.adapters.store import AdapterStore
from molre_edge.bundle.bundle import Bundle
from molre_edge.bundle.sign import make_signing_key, sign_release
from molre_edge.errors import SigningError
from molre_edge.export.exporter import FIRST_ADAPTER
from molre_edge.signing.trust import Trust, trust_of
from molre_edge.verification.adapter_verbs import add_adapter, remove_adapter, rollback_adapter
from molre_edge.verification.golden_check import check_files


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOLRE_EDGE_STATE", str(tmp_path / "state"))


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = make_signing_key(tmp_path / "release.key")
    monkeypatch.setenv("MOLRE_EDGE_TRUST", str(made.public))
    return made.secret


@pytest.fixture
def box(adapter_bundle: Path, tmp_path: Path, key: Path) -> Path:
    folder = Path(shutil.copytree(adapter_bundle, tmp_path / "edge-bundle"))
    sign_release(folder, key, version=1)
    return folder


@pytest.fixture
def file(other_adapter: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(other_adapter, tmp_path / "other.adapter"))


def test_the_adapters_of_a_signed_bundle_are_signed_with_it(box: Path) -> None:
    assert Bundle.open(box).adapter().name == FIRST_ADAPTER
    assert not check_files(Bundle.open(box)).problems
    [signature] = (box / "adapters").glob("*.minisig")
    signature.unlink()
    with pytest.raises(SigningError, match="not signed"):
        Bundle.open(box).adapter()
    assert "not signed" in "".join(check_files(Bundle.open(box)).problems.values())


def test_an_adapter_is_added_with_its_signature_only(box: Path, file: Path, key: Path, tmp_path: Path) -> None:
    with pytest.raises(SigningError, match=r"not signed \(other.adapter.minisig is missing\)"):
        add_adapter(file, bundle=box)
    foreign = make_signing_key(tmp_path / "foreign.key")
    sign_release(file, foreign.secret)
    with pytest.raises(SigningError, match="is not trusted here"):
        add_adapter(file, bundle=box)
    assert set(AdapterStore(box).index().adapters) == {FIRST_ADAPTER}
    sign_release(file, key, version=2)
    add_adapter(file, bundle=box)
    assert Bundle.open(box).adapter("other").digest
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(SigningError, match="altered since it was signed"):
        add_adapter(file, bundle=box)
    remove_adapter("other", bundle=box)
    assert len(list((box / "adapters").iterdir())) == 3  # the index, and the first adapter with its signature


def test_an_older_version_is_refused_but_for_a_rollback_by_hand(
    box: Path, file: Path, another_version: Path, key: Path
) -> None:
    sign_release(file, key, version=2)
    first = add_adapter(file, bundle=box).digest
    sign_release(another_version, key, version=3)
    assert add_adapter(another_version, bundle=box).previous == first
    with pytest.raises(SigningError, match=r"version 2 of adapter other of edge-bundle, and .* used version 3"):
        add_adapter(file, bundle=box)
    rollback_adapter("other", bundle=box)
    assert Bundle.open(box).adapter("other").digest == first


@pytest.fixture
def another_version(file: Path, tmp_path: Path) -> Path:
    """The same adapter with other words about its training."""
    from dataclasses import replace

    from molre_edge.adapters.file import read_adapter, write_adapter

    adapter = read_adapter(file)
    folder = tmp_path / "newer"
    folder.mkdir()
    write_adapter(replace(adapter, training={**adapter.training, "note": "again"}), folder / "other.adapter")
    return folder / "other.adapter"


def test_keys_given_to_an_open_bundle_count_for_its_adapters(
    adapter_bundle: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MOLRE_EDGE_TRUST")
    folder = Path(shutil.copytree(adapter_bundle, tmp_path / "unsigned"))
    trust: Trust = trust_of([key.with_suffix(".pub")])
    sign_release(folder, key)
    assert Bundle.open(folder, trust=trust).adapter().name == FIRST_ADAPTER
    next((folder / "adapters").glob("*.minisig")).write_text("nothing")
    assert Bundle.open(folder).adapter().name == FIRST_ADAPTER
    with pytest.raises(SigningError, match="not a signature of minisign"):
        Bundle.open(folder, trust=trust).adapter()
