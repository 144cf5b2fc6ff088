"""The chain that each backbone's tiny form goes through: drawn, stored, exported, proved, compared on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from torch import nn

from molre_edge.demo import draw_model
from molre_edge.export.exporter import ExportResult, export_bundle
from molre_edge.export.golden import synthetic_volumes
from molre_edge.model.backbones.registry import backbone_entry
from molre_edge.model.checkpoint import load_checkpoint, save_checkpoint
from molre_edge.model.config import AdapterConfig
from molre_edge.model.defaults import default_config
from molre_edge.specs import Grid, Precision

FINDINGS = ("intraparenchymal_hemorrhage", "midline_shift", "hydrocephalus")


@dataclass(frozen=True)
class Exported:
    """A drawn model's bundle."""

    result: ExportResult
    folder: Path

    def graph(self, precision: Precision) -> onnx.ModelProto:
        return onnx.load(self.folder / "graphs" / f"{precision}.onnx")

    def operators(self, precision: Precision = Precision.FP32) -> set[str]:
        return {node.op_type for node in self.graph(precision).graph.node}


@cache
def _volumes(grid: Grid) -> npt.NDArray[np.float16]:
    return synthetic_volumes(grid, 3)


@pytest.fixture
def export_drawn(tmp_path: Path) -> Callable[..., Exported]:
    """Draws a backbone's tiny form, takes it through a checkpoint and exports it.

    The export itself fails outside the parity gates of fp32 and fp16, without the proof that routing is dynamic, on
    control flow, and where more than the batch is dynamic; what the callers all rely on is asserted again here.
    """

    def run(name: str, *, modules: tuple[str, ...] = (), adapter: str = "molre", **options: Any) -> Exported:
        config = default_config(name, adapter=adapter, findings=FINDINGS)
        config = replace(config, backbone=replace(config.backbone, options=options))
        if modules:
            config = replace(config, adapter=AdapterConfig(modules=modules))
        golden = _volumes(config.grid)
        save_checkpoint(draw_model(config, golden), tmp_path / "ckpt.safetensors")
        loaded = load_checkpoint(tmp_path / "ckpt.safetensors")
        folder = tmp_path / "edge-bundle"
        result = export_bundle(loaded, folder, golden, golden_origin="synthetic, seed 0", adapters="constants")
        exported = Exported(result, folder)
        assert all(parity.verdict.passed for parity in result.parity.values())
        assert set(result.parity) == {Precision.FP32, Precision.FP16}
        for precision in result.parity:
            graph = exported.graph(precision)
            assert not {"If", "Loop", "Scan"} & exported.operators(precision)
            assert [entry.version for entry in graph.opset_import] == [20]
            shape = graph.graph.input[0].type.tensor_type.shape.dim
            assert [axis.dim_value for axis in shape] == [0, *config.grid.shape]
        return exported

    return run


@pytest.fixture
def tiny() -> Callable[..., nn.Module]:
    """Builds the backbone of a tiny form, seeded."""

    def build(name: str, *, seed: int = 0, **options: Any) -> nn.Module:
        entry = backbone_entry(name)
        torch.manual_seed(seed)
        return entry.build(entry.grid, len(entry.windows), options).eval()

    return build


@pytest.fixture
def images() -> Callable[[str], torch.Tensor]:
    """Two random inputs of a tiny form: [2, channels, rows, cols] or [2, channels, slices, rows, cols]."""

    def draw(name: str) -> torch.Tensor:
        entry = backbone_entry(name)
        shape = entry.grid.shape if entry.dimensions == 3 else entry.grid.shape[1:]
        return torch.randn(2, len(entry.windows), *shape, generator=torch.Generator().manual_seed(0))

    return draw
