"""What was mistyped is answered with what is nearest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from molre_edge.cli.suggest import nearest, nearest_path


@pytest.fixture
def there() -> Path:
    """A current folder with some paths."""
    for name in ("scans/head-1", "edge-bundle/graphs", "edge-runs"):
        Path(name).mkdir(parents=True)
    Path("edge-bundle/graphs/fp16.onnx").touch()
    Path("ckpt.pt").touch()
    return Path.cwd()


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("sacns", "scans"),
        ("Scans", "scans"),
        ("scans/haed-1", "scans/head-1"),
        ("edge-bundel/graphs/fp16.onnx", "edge-bundle/graphs/fp16.onnx"),
        ("edge-bundle/graph/other.onnx", "edge-bundle/graphs"),
        ("../here/sacns", "../here/scans"),
        ("quite-another-thing", None),
        ("ckpt.pt/inner", None),
    ],
)
def test_the_nearest_path_is_that_of_the_first_wrong_part(typed: str, meant: str | None, there: Path) -> None:
    assert nearest_path(Path(typed)) == (None if meant is None else Path(meant))
    if meant is not None:
        assert nearest_path(there / typed) == there / meant


def test_a_path_that_is_there_needs_no_other(there: Path) -> None:
    assert nearest_path(Path("scans")) is None


def test_a_path_that_can_t_be_looked_at_has_no_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    assert nearest_path(Path("x" * 300)) is None

    def forbidden(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", forbidden)  # root, who may run the tests, may enter every folder
    assert nearest_path(Path("closed/scans")) is None


def test_the_nearest_word_is_found_whatever_its_case() -> None:
    assert nearest("FP6", ["fp16", "int8"]) == "fp16"
    assert nearest("xyz", ["fp16", "int8"]) is None


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("infer", "sacns"), "Did you mean 'scans'?"),
        (("export", "ckpt.tp"), "Did you mean 'ckpt.pt'?"),
        (("infer", "scans", "--bundle", "edge-bundel"), "Did you mean 'edge-bundle'?"),
        (("infer", "scans", "--labels", "lables.csv"), "does not exist"),
        (("infre", "scans"), "Did you mean 'infer'?"),
        (("infer", "scans", "--engin", "fp16"), "--engine"),
        (("build", "--engine", "fp61"), "'fp16'"),
        (("infer", "scans", "--engine", "fp61", "--bundle", "edge-bundle"), "Did you mean 'fp16'?"),
        (("build", "--engine", "fp16", "--bundle", "edge-bundel"), "Did you mean 'edge-bundle'?"),
        (("infer", "x" * 300), "does not exist"),
        (("infer", f"scans/{'x' * 300}/y"), "does not exist"),
        (("verify", "--bundle", "x" * 300), "no such bundle"),
        (("verify", "--engine", "onnxruntme:fp16"), "Did you mean 'onnxruntime:fp16'?"),
    ],
)
def test_a_wrong_word_is_a_wrong_use_with_a_suggestion(
    words: tuple[str, ...], told: str, there: Path, invoke: Any
) -> None:
    done = invoke(*words)
    assert done.exit_code == 2
    assert told in " ".join(done.stderr.replace("│", " ").split())
