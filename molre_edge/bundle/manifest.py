"""A bundle's manifest: its format, and the checks of one that anybody may have written.

A manifest that was altered on purpose passes every hash that it contains. So each value that is used later is checked
here: its type, its size, and that it fits the others.
"""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.adapters.fit_facts import FitFacts
from molre_edge.adapters.tensors import PREFIX
from molre_edge.bundle.golden_origin import OwnGolden
from molre_edge.errors import ConfigError
from molre_edge.findings import checked_names, checked_thresholds
from molre_edge.specs import Grid, Precision, TensorSpec

__all__ = [
    "CALIBRATION_SECTIONS",
    "FORMAT",
    "FORMAT_VERSION",
    "MAX_MANIFEST_BYTES",
    "GraphFacts",
    "Manifest",
    "is_covered",
    "parse_manifest",
]

FORMAT = "molre-edge-bundle"
FORMAT_VERSION = 1
MAX_MANIFEST_BYTES = 16 << 20

CALIBRATION_SECTIONS = {Precision.INT8: "calibration", Precision.FP8: "calibration_fp8"}
"""The section that says what calibration did, by the precision of its graph."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SAFE_NAME = re.compile(r"(graphs|golden|calibration|reports)/[A-Za-z0-9][A-Za-z0-9._-]*")
_DTYPES = ("float16", "float32")
_TRAINED_NAME = re.compile(re.escape(PREFIX) + r"[A-Za-z0-9_.]{1,300}")
_AXES = {"logits": 2, "gates": 4, "embedding": 2, "attention": 2}
"""Of the outputs, the batch included. Some graphs have no gates, some no attention."""
_MAX_AXES = 5
"""Those of a 3D convolution's kernel."""
_MAX_ELEMENTS = 1 << 28
"""Of all trained tensors together: a gigabyte in float32, hundreds of times what 0.5 % of a large model is."""


@dataclass(frozen=True)
class GraphFacts:
    """One graph of a bundle.

    Attributes:
        file: its name in the bundle.
        inputs: the volume's specification, then those of the trained tensors, if they are inputs.
        outputs: specifications of logits, gates (absent for K = 0), embedding, and attention (absent for 3D models, and
            in bundles of earlier versions).
        opset: of the default ONNX domain.
        ir_version: of the file.
    """

    file: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    opset: int
    ir_version: int

    @property
    def adapter_inputs(self) -> tuple[TensorSpec, ...]:
        """The trained tensors that an adapter gives; none where they are constants of the graph."""
        return self.inputs[1:]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the manifest."""
        return {
            "file": self.file,
            "inputs": [spec.to_dict() for spec in self.inputs],
            "outputs": [spec.to_dict() for spec in self.outputs],
            "opset": self.opset,
            "ir_version": self.ir_version,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> GraphFacts:
        """The inverse of :meth:`to_dict`."""
        return cls(
            data["file"],
            (*map(_tensor, data["inputs"][:1]), *map(_trained_tensor, data["inputs"][1:])),
            tuple(_tensor(spec) for spec in data["outputs"]),
            int(data["opset"]),
            int(data["ir_version"]),
        )


@dataclass(frozen=True, eq=False)
class Manifest:
    """A checked manifest.

    Attributes:
        data: the whole manifest.
        files: SHA-256 by name.
        grid, findings, thresholds: those of the model.
        graphs: the graphs' facts, by precision.
        checkpoint_sha256: SHA-256 of the exported checkpoint.
        own_golden: who gave the golden answers, if the user's own model did; else None.
        fit: what an adapter must be made for; None for graphs that hold what was trained.
        first_adapter: SHA-256 of the adapter that the export made; None for such graphs, and for bundles of earlier
            versions.
    """

    data: Mapping[str, Any]
    files: Mapping[str, str]
    grid: Grid
    findings: tuple[str, ...]
    thresholds: npt.NDArray[np.float64]
    graphs: Mapping[Precision, GraphFacts]
    checkpoint_sha256: str
    own_golden: OwnGolden | None = None
    fit: FitFacts | None = None
    first_adapter: str | None = None


def is_covered(name: str) -> bool:
    """Whether a manifest covers a file of this name. It does not cover engines and files that users add."""
    return _SAFE_NAME.fullmatch(name) is not None


def parse_manifest(raw: bytes) -> Manifest:
    """Read and check a manifest.

    Raises:
        ValueError: it has another format or version, or is damaged; the message says where.
    """
    try:
        data = json.loads(raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"damaged, not JSON ({error}); export the checkpoint again") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ValueError(f"not a manifest of molre-edge (expected 'format' to be {FORMAT!r})")
    if data.get("version") != FORMAT_VERSION:
        raise ValueError(
            f"format version {reprlib.repr(data.get('version'))}; this molre-edge reads version {FORMAT_VERSION}. "
            f"Export the checkpoint again, or install the version that wrote it"
        )
    try:
        return _checked(data)
    except KeyError as error:
        raise ValueError(f"damaged, has no {reprlib.repr(error.args[0])}; export the checkpoint again") from error
    except (TypeError, ValueError, AttributeError, OverflowError, ConfigError) as error:
        raise ValueError(f"damaged ({str(error)[:300]}); export the checkpoint again") from error


def _checked(data: Mapping[str, Any]) -> Manifest:
    files = data["files"]
    for name, sha256 in files.items():
        if not is_covered(name) or not _SHA256.fullmatch(sha256):
            raise ValueError(f"files: unexpected entry {name!r}")
    grid, findings = Grid(**data["grid"]), checked_names(data["findings"])
    graphs = {Precision(key): GraphFacts.from_dict(value) for key, value in data["graphs"].items()}
    if not graphs:
        raise ValueError("graphs: expected at least one")
    for facts in graphs.values():
        if facts.file not in files or not facts.file.startswith("graphs/"):
            raise ValueError(f"graphs: {reprlib.repr(facts.file)} is not among the files in graphs/")
        _check_tensors(facts, grid, findings)
    checkpoint = data["checkpoint"]["sha256"]
    if not _SHA256.fullmatch(checkpoint):
        raise ValueError("checkpoint: expected a SHA-256")
    if not all(isinstance(text, str) for text in (*data["tool"].values(), *data["notes"])):
        raise ValueError("tool, notes: expected texts")
    thresholds = np.array(checked_thresholds(data["thresholds"], len(findings)), dtype=np.float64)
    answers = data.get("golden", {}).get("answers")
    own = None if answers is None else OwnGolden.from_dict(answers)
    fit = FitFacts.from_dict(data["fit"]) if data.get("fit") is not None else None
    first = data.get("first_adapter")
    if first is not None and (fit is None or not isinstance(first, str) or not _SHA256.fullmatch(first)):
        raise ValueError("first_adapter: expected the SHA-256 of an adapter, of graphs that take adapters")
    return Manifest(data, files, grid, findings, thresholds, graphs, checkpoint, own, fit, first)


def _tensor(data: dict[str, Any]) -> TensorSpec:
    spec = TensorSpec.from_dict(data)
    axes = spec.shape[1:]
    if spec.dtype not in _DTYPES or spec.shape[:1] != (None,) or not all(type(a) is int and a > 0 for a in axes):
        raise ValueError(f"graphs: unexpected tensor {reprlib.repr(data)}")
    return spec


def _trained_tensor(data: dict[str, Any]) -> TensorSpec:
    spec = TensorSpec.from_dict(data)
    if spec.dtype not in _DTYPES or not _TRAINED_NAME.fullmatch(spec.name) or not 0 < len(spec.shape) <= _MAX_AXES:
        raise ValueError(f"graphs: unexpected tensor {reprlib.repr(data)}")
    if not all(type(axis) is int and axis > 0 for axis in spec.shape) or prod(spec.sides) > _MAX_ELEMENTS:
        raise ValueError(f"graphs: unexpected tensor {reprlib.repr(data)}")
    return spec


def _check_tensors(facts: GraphFacts, grid: Grid, findings: tuple[str, ...]) -> None:
    """Compare a graph's tensors with the grid and the findings: answers of another shape would be misread."""
    if [(spec.name, spec.shape[1:]) for spec in facts.inputs[:1]] != [("volume", grid.shape)]:
        raise ValueError(f"graphs: {facts.file}: expected the first input to be 'volume', on the grid")
    names = [spec.name for spec in facts.adapter_inputs]
    if names != sorted(set(names)) or sum(prod(spec.sides) for spec in facts.adapter_inputs) > _MAX_ELEMENTS:
        raise ValueError(f"graphs: {facts.file}: expected the trained tensors sorted, each once, and not so large")
    shapes = {spec.name: spec.shape for spec in facts.outputs}
    axes = {name: len(shape) for name, shape in shapes.items()}
    if len(shapes) != len(facts.outputs) or {**_AXES, **axes} != _AXES or not {"logits", "embedding"} <= axes.keys():
        raise ValueError(f"graphs: {facts.file}: expected the outputs logits, gates, embedding and attention")
    if shapes["logits"][1] != len(findings):
        raise ValueError(f"graphs: {facts.file}: expected a logit for each of the {len(findings)} findings")
    if shapes.get("attention", (None, grid.slices))[1] != grid.slices:
        raise ValueError(f"graphs: {facts.file}: expected a weight of attention for each of the {grid.slices} slices")


def _refuse_constant(word: str) -> float:
    raise ValueError(f"{word} is not valid JSON")
