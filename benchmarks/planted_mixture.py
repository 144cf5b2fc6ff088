"""Whether routers learn to route without being told: a planted mixture that MoLRE can express and LoRA can't.

A frozen layer gets a target that differs from its output by one of three low-rank corrections. Which one holds is a
context that the input shows and that no arm is told. The three read the same directions and write them turned by 120
degrees, so that they cancel on average: a single correction for all inputs gains little. MoLRE (the model's own layer
and router) and a LoRA of as many parameters are trained on the target alone, each at its best learning rate.

    python benchmarks/planted_mixture.py --json planted.json

uses what the trained EfficientNet-Lite0 (extra ``weights``) sees in slices of synthetic heads; contexts are the base,
the middle and the top of the head.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from molre_edge.model.adapters import adapt_layer
from molre_edge.model.config import RouterConfig, Routing
from molre_edge.model.defaults import default_alpha
from molre_edge.model.routing import Router, RoutingState, Site
from molre_edge.model.standardisation import standardise_routers

CONTEXTS = 3
RANK = 2
"""Of each correction, and of each expert."""
EXPERTS = 6
RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
BACKBONE, LAYER = "efficientnet-lite0", "blocks.5.project_conv"
SHAPE = (16, 128, 128)
LEVELS = ((1, 5), (6, 10), (11, 15))
"""Slices of a head, from the first to before the last, of each context."""
TOKENS = 4
"""The layer's positions are averaged to so many rows and columns."""


@dataclass(frozen=True)
class Mixture:
    """A frozen layer with planted corrections, and inputs in three parts: to train, to choose the rate, to judge.

    Attributes:
        base: the frozen layer.
        inputs: float32 [units, tokens, d_in] of each part.
        contexts: int64 [units] of each part, 0 up to below CONTEXTS; no arm sees them.
        targets: float32 [units, tokens, d_out] of each part.
    """

    base: nn.Linear
    inputs: tuple[Tensor, Tensor, Tensor]
    contexts: tuple[Tensor, Tensor, Tensor]
    targets: tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Result:
    """An arm at its best rate.

    Attributes:
        parameters: that it adds.
        rate: chosen on the second part.
        error: mean square of what is left of the corrections over their mean square, on the third part; 1 is what the
            frozen layer leaves.
        gate_distance: half the sum of absolute differences between the mean gates of two contexts (0 to 1), of the pair
            of contexts that differs least; None without a router.
    """

    parameters: int
    rate: float
    error: float
    gate_distance: float | None


def plant(base: nn.Linear, inputs: Sequence[Tensor], contexts: Sequence[Tensor], seed: int) -> Mixture:
    """Give each input the target of its context."""
    draw = torch.Generator().manual_seed(seed)
    reads = torch.linalg.qr(torch.randn(base.in_features, RANK, generator=draw))[0].T
    writes = torch.linalg.qr(torch.randn(base.out_features, RANK, generator=draw))[0]
    size = float((inputs[0] @ reads.T).square().mean().sqrt())
    targets = []
    with torch.no_grad():
        for x, context in zip(inputs, contexts, strict=True):
            angle = context * (2 * math.pi / CONTEXTS)
            turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], -1).unflatten(-1, (2, 2))
            corrections = torch.einsum("or,nrs,nts->nto", writes, turn, x @ reads.T) / size
            targets.append(base(x) + corrections)
    return Mixture(base, tuple(inputs), tuple(contexts), tuple(targets))  # type: ignore[arg-type]


def drawn_mixture(units: int, seed: int, *, width: int = 24, tokens: int = 4) -> Mixture:
    """Random inputs whose mean shows the context; `units` to train on, half as many in each of the other parts."""
    draw = torch.Generator().manual_seed(seed)
    means = 2 * torch.linalg.qr(torch.randn(width, CONTEXTS, generator=draw))[0].T
    base = nn.Linear(width, width)
    base.weight.data = torch.randn(width, width, generator=draw) / width**0.5
    base.bias.data.zero_()
    inputs, contexts = [], []
    for count in (units, units // 2, units // 2):
        contexts.append(torch.randint(CONTEXTS, (count,), generator=draw))
        noise = torch.randn(count, tokens, width, generator=draw)
        inputs.append(means[contexts[-1]].unsqueeze(1) + noise)
    return plant(base, inputs, contexts, seed)


class Adapted(nn.Module):
    """The frozen layer in its adapted form, with a router if it has several experts."""

    def __init__(self, base: nn.Linear, experts: int, rank: int, seed: int) -> None:
        """Draw the weights from the seed; the caller's random state stays as it was."""
        super().__init__()
        settings = RouterConfig(standardise=True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.layer = adapt_layer(
                base, experts=experts, rank=rank, alpha=default_alpha(rank), site=Site.SLICES, group=0
            )
            self.routers = nn.ModuleList()
            if experts > 1:
                self.routers.append(Router(base.in_features, settings.hidden, experts, standardise=True))
        self.state = RoutingState(Routing.SLICE, self.routers)
        self.layer.listen_to(self.state)

    def forward(self, x: Tensor) -> Tensor:
        """[units, tokens, d_in] -> [units, tokens, d_out]."""
        self.state.start(1)
        output: Tensor = self.layer(x)
        return output

    def learning(self) -> list[nn.Parameter]:
        """What is added to the frozen layer."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]


def count(experts: int, rank: int, base: nn.Linear) -> int:
    """Parameters that an arm adds."""
    return sum(parameter.numel() for parameter in Adapted(base, experts, rank, 0).learning())


def train(mixture: Mixture, experts: int, rank: int, rate: float, *, steps: int, batch: int, seed: int) -> Adapted:
    """Train an arm on the targets of the first part alone."""
    arm = Adapted(mixture.base, experts, rank, seed)
    inputs, targets = mixture.inputs[0], mixture.targets[0]
    standardise_routers(arm, lambda: arm(inputs))
    optimizer = torch.optim.AdamW(arm.learning(), lr=rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    order = np.random.default_rng(seed)
    for _ in range(steps):
        chosen = torch.from_numpy(order.integers(0, len(inputs), batch))
        loss = F.mse_loss(arm(inputs[chosen]), targets[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return arm


def error(arm: Adapted, mixture: Mixture, part: int) -> float:
    """What is left of the corrections, as a share of their mean square."""
    x, target = mixture.inputs[part], mixture.targets[part]
    with torch.no_grad():
        return float((arm(x) - target).square().mean() / (mixture.base(x) - target).square().mean())


def gate_distance(arm: Adapted, mixture: Mixture) -> float:
    """Between the contexts that routing tells apart least; see :class:`Result`."""
    with torch.no_grad():
        arm(mixture.inputs[2])
    gates = arm.state.report()[:, 0, 0]  # [units, K]
    means = [gates[mixture.contexts[2] == context].mean(0) for context in range(CONTEXTS)]
    return min(float((one - other).abs().sum() / 2) for one, other in combinations(means, 2))


def best(
    mixture: Mixture, experts: int, rank: int, rates: Sequence[float], *, steps: int, batch: int, seed: int
) -> Result:
    """The arm at the rate with the least error on the second part."""
    arms = {rate: train(mixture, experts, rank, rate, steps=steps, batch=batch, seed=seed) for rate in rates}
    rate = min(rates, key=lambda rate: error(arms[rate], mixture, 1))
    distance = gate_distance(arms[rate], mixture) if experts > 1 else None
    return Result(count(experts, rank, mixture.base), rate, error(arms[rate], mixture, 2), distance)


def compare(
    mixture: Mixture, rates: Sequence[float] = RATES, *, steps: int, batch: int, seed: int
) -> dict[str, Result]:
    """MoLRE, and the LoRA whose rank adds at least as many parameters."""
    rank = math.ceil(count(EXPERTS, RANK, mixture.base) / count(1, 1, mixture.base))
    return {
        name: best(mixture, experts, each, rates, steps=steps, batch=batch, seed=seed)
        for name, experts, each in (("molre", EXPERTS, RANK), ("lora", 1, rank))
    }


def seen_mixture(heads: int, seed: int) -> Mixture:
    """What the trained backbone's layer reads in slices of synthetic heads; half of the heads are to train on."""
    from molre_edge.model.backbones.registry import backbone_entry
    from molre_edge.model.intensity import WindowChannels
    from molre_edge.specs import Grid
    from molre_edge.synthetic import make_head

    entry = backbone_entry(BACKBONE)
    grid = Grid(slices=SHAPE[0], rows=SHAPE[1], cols=SHAPE[2])
    backbone = entry.build(grid, len(entry.windows), {})
    entry.load_weights(backbone, None)
    window = WindowChannels(entry.windows, entry.mean, entry.std, ((0.0, 1.0),))
    layer = backbone.eval().get_submodule(LAYER)
    read: list[Tensor] = []
    layer.register_forward_pre_hook(lambda _, inputs: read.append(F.adaptive_avg_pool2d(inputs[0], TOKENS)))
    context = torch.arange(CONTEXTS).repeat_interleave(LEVELS[0][1] - LEVELS[0][0])
    levels = [index for first, end in LEVELS for index in range(first, end)]
    with torch.no_grad():
        for number in range(heads):
            hu = torch.from_numpy(make_head(seed * 1_000_000 + number, shape=SHAPE).hu[levels])
            backbone(window(hu))
    seen = torch.stack(read).flatten(3).transpose(2, 3)  # [heads, slices, tokens, channels]
    parts = (seen[: heads // 2], seen[heads // 2 : heads * 3 // 4], seen[heads * 3 // 4 :])
    base = nn.Linear(int(seen.shape[-1]), int(layer.weight.shape[0]), bias=False)  # type: ignore[arg-type,union-attr]
    base.weight.data = layer.weight.detach().flatten(1)  # type: ignore[union-attr,operator]
    return plant(base, [part.flatten(0, 1) for part in parts], [context.repeat(len(part)) for part in parts], seed)


def main() -> None:
    """Print and write the comparison on real activations, once a seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", type=int, default=120)
    parser.add_argument("--seeds", type=int, default=3, help="of corrections, weights and order")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    seen = seen_mixture(options.heads, 0)
    rows = []
    for seed in range(options.seeds):
        mixture = plant(seen.base, seen.inputs, seen.contexts, seed)
        results = compare(mixture, steps=options.steps, batch=64, seed=seed)
        rows.append({"seed": seed, **{name: asdict(result) for name, result in results.items()}})
        print(json.dumps(rows[-1]), flush=True)
    if options.json is not None:
        settings = {name: getattr(options, name) for name in ("heads", "seeds", "steps")}
        options.json.write_text(json.dumps({"settings": settings, "rates": RATES, "runs": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
