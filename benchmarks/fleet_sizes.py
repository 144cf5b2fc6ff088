"""What a fleet carries to its boxes, by full-size backbone: a bundle's graphs once, an adapter for each training.

    python benchmarks/fleet_sizes.py                # the table of docs/guides/fleet.md
    python benchmarks/fleet_sizes.py dinov3-vitb16  # one of them

Nothing is exported or downloaded: each model is built by its default configuration (K = 6, r = 8, 75 findings) on
PyTorch's "meta" device, where tensors have shapes and no values, and its numbers are counted. Of a graph these are the
backbone's frozen weights and tables of positions, 2 bytes each in float16; its nodes come on top, below 2 MB. Of an
adapter these are the tensors that were trained, 4 bytes each, or with --half-experts 2 bytes for the experts' matrices;
its description comes on top (names, configuration: some 10 kB), and so do the golden answers, which are given for the
8 golden volumes of an export. MB are 10^6 bytes.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

import torch

from molre_edge.export.exporter import DEFAULT_GOLDEN
from molre_edge.model.backbones.registry import backbone_entry, backbone_ids
from molre_edge.model.classifier import HeadCTClassifier
from molre_edge.model.config import ModelConfig
from molre_edge.model.defaults import default_config
from molre_edge.model.trained import trained_specs
from molre_edge.specs import TensorSpec

_HEAD = (
    "| backbone | float16 graph | float32 graph | adapter | with `--half-experts` | adapter / float16 graph | "
    "golden answers |\n| --- | --- | --- | --- | --- | --- | --- |"
)


@dataclass(frozen=True)
class Sizes:
    """Bytes.

    Attributes:
        half_graph: the frozen weights, 2 bytes each.
        adapter: what was trained, 4 bytes each.
        half_adapter: the same with experts of 2 bytes.
        golden: an adapter's golden answers.
    """

    half_graph: int
    adapter: int
    half_adapter: int
    golden: int

    def row(self, name: str) -> str:
        """A line of the table."""
        return (
            f"| `{name}` | {_mb(self.half_graph)} | {_mb(2 * self.half_graph)} | {_mb(self.adapter, 2)} | "
            f"{_mb(self.half_adapter, 2)} | {100 * self.adapter / self.half_graph:.2f} % | {_mb(self.golden, 2)} |"
        )


def sizes_of(config: ModelConfig, golden_volumes: int = DEFAULT_GOLDEN) -> Sizes:
    """Count a model's numbers, without one."""
    with torch.device("meta"):
        model = HeadCTClassifier(config)
        trained = trained_specs(model)
    values = [*model.backbone.named_parameters(), *model.backbone.named_buffers()]
    frozen = sum(value.numel() for name, value in values if _is_frozen(name, value))
    experts = sum(_count(spec) for spec in trained if spec.name.endswith((".A", ".B")))
    routers = sum(spec.name.endswith(".fc2.bias") for spec in trained)
    units = 1 if model.volumetric else config.grid.slices
    answers = len(config.findings) + int(model.backbone.embed_dim) + units * routers * config.adapter.experts
    answers += 0 if model.volumetric else config.grid.slices  # the pooling's attention
    adapter = 4 * sum(map(_count, trained))
    return Sizes(2 * frozen, adapter, adapter - 2 * experts, 4 * golden_volumes * answers)


def _is_frozen(name: str, value: torch.Tensor) -> bool:
    return value.is_floating_point() and not name.endswith((".lora_A", ".lora_B"))


def _count(spec: TensorSpec) -> int:
    return math.prod(int(side) for side in spec.shape)


def _mb(size: int, digits: int = 1) -> str:
    return f"{size / 1e6:.{digits}f} MB"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backbone", nargs="*", help="ids; all of full size that are adapted by default")
    entries = [backbone_entry(name) for name in parser.parse_args().backbone or backbone_ids()]
    print(_HEAD)
    for entry in entries:
        if entry.parameters is not None and entry.adapted:
            print(sizes_of(default_config(entry.id)).row(entry.id), flush=True)


if __name__ == "__main__":
    main()
