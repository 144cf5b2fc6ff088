"""The list of third-party licences is that of the base, complete, without GPL, and says what is not in it."""

from __future__ import annotations

import re
from pathlib import Path

from packaging.utils import canonicalize_name


def rows(root: Path) -> dict[str, tuple[str, str]]:
    text = (root / "THIRD_PARTY_LICENSES.md").read_text(encoding="utf-8")
    found = re.findall(r"^\| ([A-Za-z0-9._-]+) \| (\S+) \| (.*?) \| (https?://\S+) \|$", text, re.MULTILINE)
    return {canonicalize_name(name): (version, licence) for name, version, licence, _ in found if name != "package"}


def test_it_lists_what_an_edge_box_gets_in_the_pinned_versions(root: Path) -> None:
    lines = (root / "constraints" / "py310.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    expected = {canonicalize_name(name): version for name, version in pins.items()}
    assert {name: version for name, (version, _) in rows(root).items()} == expected, "make it anew: .ci/third_party.py"


def test_every_licence_is_told_and_none_is_gpl(root: Path) -> None:
    for name, (_, licence) in rows(root).items():
        assert licence.strip() and licence.upper() != "UNKNOWN", name
        assert not re.search(r"\bA?GPL|GNU (Affero )?General", licence), (name, licence)


def test_nvidias_libraries_are_named_as_not_included(root: Path) -> None:
    text = (root / "THIRD_PARTY_LICENSES.md").read_text(encoding="utf-8")
    assert "Not included" in text and all(word in text for word in ("CUDA", "TensorRT", "NVIDIA"))
