"""A bundle's signed release: the manifest as its maker signed it, and the check that the bundle still is that release.

A box adds to a bundle what it makes itself: 8-bit graphs of its own calibrations, engines, adapters. The manifest then
changes, and a signature over it would no longer fit. So ``release.json`` holds the manifest of the release, and its
signature is checked; the bundle's manifest must have everything in it unchanged, and nothing more than such additions.
Graphs and engines among them run only if this machine made them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from molre_edge.bundle.manifest import CALIBRATION_SECTIONS, MAX_MANIFEST_BYTES
from molre_edge.errors import SigningError
from molre_edge.files import read_regular
from molre_edge.signing.trust import Signed, Trust

__all__ = ["RELEASE", "check_release", "release_content"]

RELEASE = "release.json"
_FORMAT, _VERSION = "molre-edge-release", 1
_MAX_BYTES = MAX_MANIFEST_BYTES + (1 << 20)
_MADE_BY_BOXES = {str(precision) for precision in CALIBRATION_SECTIONS}
"""Precisions whose graphs a box may add to a release."""


def release_content(manifest: Mapping[str, Any]) -> bytes:
    """The content of ``release.json`` for a manifest."""
    data = {"format": _FORMAT, "version": _VERSION, "manifest": manifest}
    return (json.dumps(data, indent=2, allow_nan=False) + "\n").encode()


def check_release(folder: Path, manifest: Mapping[str, Any], trust: Trust) -> tuple[Signed, frozenset[str]]:
    """Check that a bundle is a release signed by a trusted key.

    Args:
        folder: the bundle.
        manifest: its manifest, as it is used.
        trust: the trusted keys.

    Returns:
        The signature, and the names of the files that the release covers.

    Raises:
        SigningError: not signed, signed by another key, altered, or more was added than a box may add.
    """
    path = folder / RELEASE
    try:
        raw = read_regular(path, largest=_MAX_BYTES, links=False)
    except FileNotFoundError as error:
        raise SigningError(
            f"{folder}: not signed ({RELEASE} is missing), and {trust.source} asks for a signature. Get the signed "
            f"release, or sign it with 'molre-edge sign {folder}'"
        ) from error
    except OSError as error:
        raise SigningError(f"{path}: can't be read ({error.strerror}). Copy the bundle again") from error
    signed = trust.check(raw, path)
    try:
        data = json.loads(raw)
        if (data["format"], data["version"]) != (_FORMAT, _VERSION):
            raise ValueError(f"expected format {_FORMAT!r}, version {_VERSION}")
        released = data["manifest"]
        problem = _difference(released, manifest)
        covered = frozenset(released["files"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SigningError(f"{path}: signed, but not a release ({str(error)[:200]}). Sign the bundle again") from error
    if problem:
        raise SigningError(
            f"{folder}: not the release that was signed: {problem}. Do not use it; get the release again from its maker"
        )
    return signed, covered


def _difference(released: Mapping[str, Any], manifest: Mapping[str, Any]) -> str | None:
    """What was changed since the release, besides what boxes add; None if nothing was."""
    added = set(manifest) - set(released) - set(CALIBRATION_SECTIONS.values())
    if added:
        return f"its manifest has {', '.join(sorted(added))} besides"
    for name, value in released.items():
        if name in ("files", "graphs", "parity"):
            there = manifest.get(name)
            if not isinstance(there, dict):
                return f"its manifest's {name} are missing"
            changed = sorted(key for key in value if there.get(key) != value[key])
            if changed:
                return f"{name} differ in {', '.join(changed)}"
        elif name == "notes":
            if not set(value) <= set(manifest.get("notes", ())):
                return "notes were removed"
        elif manifest.get(name) != value:
            return f"its manifest has another {name}"
    return _more(released, manifest)


def _more(released: Mapping[str, Any], manifest: Mapping[str, Any]) -> str | None:
    """What was added that no box adds; None if nothing was."""
    graphs = set(manifest["graphs"]) - set(released["graphs"])
    if graphs - _MADE_BY_BOXES:
        return f"it has the graphs {', '.join(sorted(graphs - _MADE_BY_BOXES))} besides"
    own = {manifest["graphs"][name]["file"] for name in graphs}
    files = set(manifest["files"]) - set(released["files"])
    foreign = sorted(name for name in files - own if not name.startswith(("calibration/", "reports/")))
    return f"it has the files {', '.join(foreign)} besides" if foreign else None
