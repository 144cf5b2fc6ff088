"""What the plug-in compiled is used again if it is as the last runner left it, and else removed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from molre_edge.engines.kernel_cache import KernelCache
from molre_edge.specs import Precision


def cache_of(bundle: Path) -> KernelCache:
    return KernelCache(bundle, Precision.FP16, "NVIDIA RTX A2000", "0.5.0")


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A file that a runner left."""
    cache = cache_of(tmp_path)
    folder = cache.open()
    assert folder is not None
    (folder / "kernels").write_bytes(b"compiled")
    cache.close()
    return folder / "kernels"


def test_what_a_runner_left_is_there_for_the_next(kept: Path, tmp_path: Path) -> None:
    assert cache_of(tmp_path).open() == kept.parent
    assert kept.read_bytes() == b"compiled"


@pytest.mark.parametrize("damage", ["altered", "added", "removed", "link", "no list"])
def test_a_folder_that_differs_from_its_list_is_emptied(kept: Path, damage: str, tmp_path: Path) -> None:
    other = kept.with_name("other")
    if damage == "altered":
        kept.write_bytes(b"Compiled")
    elif damage == "added":
        other.write_bytes(b"of a process that was killed")
    elif damage == "removed":
        kept.rename(other)
    elif damage == "link":
        other.symlink_to(tmp_path / "elsewhere")
    else:
        kept.parent.with_name(f"{kept.parent.name}.sha256").unlink()
    folder = cache_of(tmp_path).open()
    assert folder is not None and list(folder.iterdir()) == []


def test_another_gpu_version_or_precision_has_a_folder_of_its_own(tmp_path: Path) -> None:
    caches = [
        cache_of(tmp_path),
        KernelCache(tmp_path, Precision.FP32, "NVIDIA RTX A2000", "0.5.0"),
        KernelCache(tmp_path, Precision.FP16, "NVIDIA RTX 5090", "0.5.0"),
        KernelCache(tmp_path, Precision.FP16, "NVIDIA RTX A2000", "0.6.0"),
    ]
    assert len({cache.open() for cache in caches}) == 4


def test_nothing_is_written_through_a_link_or_into_a_bundle_that_can_t_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    linked, elsewhere = tmp_path / "linked", tmp_path / "elsewhere"
    linked.mkdir()
    elsewhere.mkdir()
    (linked / "engines").symlink_to(elsewhere)
    assert cache_of(linked).open() is None and list(elsewhere.iterdir()) == []
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert cache_of(tmp_path).open() is None and not (tmp_path / "engines").exists()
