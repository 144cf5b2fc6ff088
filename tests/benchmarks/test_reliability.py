"""Small versions of what benchmarks/reliability.py does at length: kills at random moments, and scans with bad ones."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def reliability(root: Path) -> ModuleType:
    """The script, as a module."""
    spec = importlib.util.spec_from_file_location("reliability", root / "benchmarks" / "reliability.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def test_a_run_killed_at_random_moments_loses_nothing_and_asks_nothing_twice(
    reliability: ModuleType, tiny_checkpoint: Path, tiny_bundle: Path, tiny_scans: Path, tmp_path: Path
) -> None:
    assets = reliability.Assets(tiny_checkpoint, tiny_bundle, tiny_scans)
    found = reliability.kill_often("infer", assets, tmp_path / "kills", kills=2, seed=1)
    assert found["problems"] == []
    assert sum(found["found"].values()) == 2


def test_of_many_scans_with_bad_ones_every_one_is_accounted_for(
    reliability: ModuleType, tiny_bundle: Path, tmp_path: Path
) -> None:
    found = reliability.many(tmp_path / "many", tiny_bundle, 40, 0.2, seed=2, words=("--readers", "2"))
    assert found["problems"] == []
    assert found["spoilt"] == 8 and found["codes"]["good"] == {"done": 32}
    assert set(found["codes"]) == {"good", *reliability.BAD}


def test_the_harness_sees_what_is_half_written_lost_or_done_twice(
    reliability: ModuleType, tiny_bundle: Path, tmp_path: Path
) -> None:
    outputs = tmp_path / "run" / "outputs"
    outputs.mkdir(parents=True)
    (outputs / "scan-aaaaaaaaaaaaaaaa.npz").write_bytes(b"PK")
    with pytest.raises(Exception, match="damaged"):
        reliability.COMMANDS["infer"].state(tmp_path)
    (tmp_path / "run" / ".scans.csv.x.partial.csv").touch()
    assert reliability.leftovers(tmp_path) == ["run/.scans.csv.x.partial.csv"]
    with pytest.raises(AssertionError, match="lost"):
        reliability.COMMANDS["export over a bundle"].state(tmp_path)
    (tmp_path / "run" / "scans.csv").write_text("scan,path,status,code,reason\nscan-aaaaaaaaaaaaaaaa,a/x,pending,,\n")
    (tmp_path / "run" / "findings.csv").write_text("scan\nscan-bbbbbbbbbbbbbbbb\n")
    _, problems = reliability.account(tmp_path / "run", {"a": "", "b": "cut file"})
    assert len(problems) == 3
