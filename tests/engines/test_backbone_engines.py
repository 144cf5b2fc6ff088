"""Real TensorRT-RTX engines of the tiny form of every backbone, built without a GPU: their layers, as built.

Weights are random and nothing is run: this is about what the library makes of the graphs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import onnx
import pytest

from molre_edge.engines.tensorrt.api import BuildOptions
from molre_edge.engines.tensorrt.build import build_tensorrt as build_engine
from molre_edge.model.backbones.registry import backbone_entry, backbone_ids
from molre_edge.specs import Precision

if TYPE_CHECKING:
    from molre_edge.model.classifier import HeadCTClassifier

pytest.importorskip("tensorrt_rtx", reason="engines are built where TensorRT-RTX is installed: Linux on x86-64")

FINDINGS = ("intraparenchymal_hemorrhage", "midline_shift", "hydrocephalus")
TINY = [name for name in backbone_ids() if name.endswith("-tiny") or name.startswith("convnet")]
FUSED = {"davit-tiny": 4, "dinov3-tiny": 2, "headct-vit3d-tiny": 2, "pillar0-tiny": 4, "siglip-tiny": 2}
"""Attentions of a backbone: each becomes one kernel in float16. The others have none."""


def test_every_family_of_backbones_has_a_tiny_form_here() -> None:
    families, here = ({name.split("-")[0].rstrip("0123456789") for name in names} for names in (backbone_ids(), TINY))
    assert families == here
    assert set(FUSED) <= set(TINY)


@cache
def model_of(name: str) -> HeadCTClassifier:
    from molre_edge.model.classifier import HeadCTClassifier
    from molre_edge.model.defaults import default_config

    config = default_config(name, findings=FINDINGS, adapter="molre" if backbone_entry(name).adapted else "none")
    if name.startswith("convnet"):
        config = replace(config, grid=replace(config.grid, slices=8 if "3d" in name else 4, rows=32, cols=32))
    return HeadCTClassifier(config).eval()


@cache
def graphs_of(name: str) -> Mapping[Precision, onnx.ModelProto]:
    from molre_edge.export.graph import export_fp32
    from molre_edge.export.half import to_half

    graph = export_fp32(model_of(name))
    return {Precision.FP32: graph, Precision.FP16: to_half(graph)}


def build(name: str, precision: Precision, folder: Path) -> Any:
    """The facts of an engine; a bundle is stood in for, since an export's checks of parity are other tests' matter."""
    from molre_edge.export.graph import graph_facts

    graphs = graphs_of(name)
    bundle: Any = SimpleNamespace(
        folder=folder,
        manifest={"config": {"backbone": {"id": name}}},
        graph=lambda precision: graph_facts(graphs[precision], f"graphs/{precision}.onnx"),
        read=lambda file: graphs[Precision(Path(file).stem)].SerializeToString(),
    )
    return build_engine(bundle, precision, BuildOptions(compute_capabilities=("sm86",))).facts


@pytest.mark.nightly  # those of fp16 show the same of the parser, and more
@pytest.mark.parametrize("name", TINY)
def test_an_fp32_engine_of_it_is_float_throughout(name: str, tmp_path: Path) -> None:
    layers = build(name, Precision.FP32, tmp_path)["layers"]
    assert {kind for counts in layers["by_type"].values() for kind in counts} <= {"Float", "none"}
    assert set(layers["matrix_weights"]) == {"Float"}


@pytest.mark.parametrize("name", TINY)
def test_an_fp16_engine_of_it_is_half_but_for_routers_and_head_and_fuses_every_attention(
    name: str, tmp_path: Path
) -> None:
    layers = build(name, Precision.FP16, tmp_path)["layers"]
    weights = layers["matrix_weights"]
    small = {n: p.numel() for n, p in model_of(name).named_parameters() if n.startswith(("routers.", "head.weight"))}
    # the smallest form has so few weights that routers and head are more than a hundredth of them
    assert weights.get("Float", 0) < max(0.01 * sum(weights.values()), 1.1 * sum(small.values()))
    assert layers["by_type"]["correlation"].keys() == {"Half"}
    assert layers["fused_attention"] == FUSED.get(name, 0)
