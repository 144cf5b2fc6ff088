"""Every name of TensorRT that the code uses is in the bindings of each version of docs/reference/tensorrt.md."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest

from molre_edge.engines.tensorrt import types as tensorrt_types

RECORDED = sorted(Path(__file__).with_name("names").glob("*.json"))
RTX = "Rtx"


def names_used(rtx: bool) -> set[tuple[str, str]]:
    """(class, name) of everything in the protocols; a class "" is the module."""
    used = set()
    for name, protocol in inspect.getmembers(tensorrt_types, inspect.isclass):
        if name.startswith("_") or protocol.__module__ != tensorrt_types.__name__ or (name.startswith(RTX) and not rtx):
            continue
        theirs = name.removeprefix(RTX)
        own = set(vars(protocol).get("__annotations__", {})) | set(vars(protocol))
        own = {each for each in own if not each.startswith("_")}
        if theirs == "Library":
            used |= {("", each) for each in own}
        else:
            used |= {("", theirs)} | {(theirs, each) for each in own}
    return used


def lacking(recorded: dict[str, list[str]], rtx: bool) -> list[tuple[str, str]]:
    return sorted((kind, name) for kind, name in names_used(rtx) if name not in recorded.get(kind, []))


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_every_name_that_is_used_is_in_the_bindings(path: Path) -> None:
    told = json.loads(path.read_text())
    assert lacking(told["names"], rtx="rtx" in path.stem) == []


def test_the_versions_are_those_that_the_documentation_lists() -> None:
    found = [path.stem for path in RECORDED]
    assert [name.rsplit(".", 1)[0] if name.count(".") > 2 else name for name in found] == [
        "tensorrt-10.13.3", "tensorrt-10.16.1", "tensorrt-10.3.0", "tensorrt-11.4.0", "tensorrt_rtx-1.7.1",
    ]  # fmt: skip


def test_a_name_that_was_removed_is_found_to_be_lacking() -> None:
    told = json.loads(next(path for path in RECORDED if "11.4" in path.stem).read_text())["names"]
    assert "FP16" not in told["BuilderFlag"]  # as TensorRT 10 has it
    told["IBuilderConfig"].remove("set_flag")
    assert lacking(told, rtx=False) == [("IBuilderConfig", "set_flag")]
    assert ("", "ComputeCapability") in lacking(told, rtx=True)


def test_the_installed_library_is_the_recorded_one_or_has_its_names() -> None:
    rtx = pytest.importorskip("tensorrt_rtx")
    for kind, name in names_used(rtx=True):
        assert hasattr(getattr(rtx, kind) if kind else rtx, name), f"{kind}.{name}"
