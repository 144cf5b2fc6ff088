"""Whatever is done to a file, its reader answers with an error that the user can mend, or reads it.

benchmarks/fuzz.py does the same for minutes, guided by coverage.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from molre_edge.errors import MolreEdgeError

NAMES = (
    "DICOM",
    "NIfTI",
    "NIfTI, not compressed",
    "manifest",
    "golden archive",
    "engine JSON",
    "adapter",
    "list of adapters",
    "run.json",
    "report.json",
    "scans.csv",
    "answers",
    "checkpoint, .pt",
    "checkpoint, .safetensors",
    "labels",
    "gates",
)
SLOW = {"DICOM": 25, "NIfTI": 20, "NIfTI, not compressed": 30, "checkpoint, .pt": 25, "checkpoint, .safetensors": 25}
"""Examples of those that take long; the others get 60."""


def load() -> ModuleType:
    """benchmarks/fuzz_targets.py: scripts are no package."""
    path = Path(__file__).parents[2] / "benchmarks" / "fuzz_targets.py"
    spec = importlib.util.spec_from_file_location("fuzz_targets", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


fuzz_targets = load()


@pytest.fixture(scope="module")
def targets(
    tiny_scans: Path, tiny_checkpoint: Path, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    made: dict[str, Any] = fuzz_targets.make_targets(
        tiny_scans, tiny_checkpoint, tiny_bundle, tmp_path_factory.mktemp("targets")
    )
    assert tuple(made) == NAMES
    return made


STEP = st.tuples(st.integers(0, 6), st.floats(0, 1), st.binary(max_size=8))


@pytest.mark.parametrize("name", NAMES)
def test_a_good_file_is_read(name: str, targets: dict[str, Any], tmp_path: Path) -> None:
    target = targets[name]
    path = tmp_path / target.name
    path.write_bytes(target.content)
    if name == "engine JSON":
        with pytest.raises(MolreEdgeError, match="altered or swapped"):  # its engine is none: it came to the hash
            target.read(path)
    else:
        target.read(path)


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_is_refused_or_read_and_nothing_else(name: str, targets: dict[str, Any]) -> None:
    target = targets[name]

    @settings(max_examples=SLOW.get(name, 60), derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(steps=st.lists(STEP, min_size=1, max_size=4), in_head=st.booleans())
    def try_it(steps: list[tuple[int, float, bytes]], in_head: bool) -> None:
        content = target.content
        if in_head and target.head is not None:
            content = fuzz_targets.damage(content[: target.head], steps) + content[target.head :]
        else:
            content = fuzz_targets.damage(content, steps)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / target.name
            path.write_bytes(content)
            try:
                target.read(path)
            except MolreEdgeError:
                return

    try_it()
