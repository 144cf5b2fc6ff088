"""The ranking: how much 8 bits harm each block and, in the sensitive blocks, each layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from molre_edge.calibration.layers import Layer
from molre_edge.specs import RangeMethod

__all__ = [
    "MAX_LAYER_RUNS",
    "Item",
    "Judge",
    "Measure",
    "Ranking",
    "Trial",
    "Trials",
    "layers_of",
    "most_items",
    "rank_blocks",
    "rank_layers",
]

MAX_LAYER_RUNS = 24
"""Layers that are measured one by one, at most; those of the most sensitive blocks."""

Measure = Callable[[Sequence[Layer], RangeMethod], float]
"""The sensitivity to 8 bits in a set of layers; see :func:`molre_edge.calibration.search_limits.sensitivity`."""
Judge = Callable[[Sequence[Layer], RangeMethod], str]
"""Judges a graph with a set of layers in 8 bits: why it exceeds the limits, or an empty text if it keeps them."""


@dataclass(frozen=True)
class Trial:
    """One graph that was run.

    Attributes:
        what: in words, such as ``block 3`` or ``the 12 least sensitive of 20``.
        layers: the number of layers in 8 bits.
        sensitivity: share of the limits used, if it was measured.
        fits: whether it kept the limits, if it was judged.
        failure: why it did not.
    """

    what: str
    layers: int
    sensitivity: float | None = None
    fits: bool | None = None
    failure: str = ""


@dataclass
class Trials:
    """The graphs that were run so far.

    Attributes:
        on_trial: called after each.
        done: all of them, in order.
    """

    on_trial: Callable[[Trial], None] = lambda trial: None
    done: list[Trial] = field(default_factory=list)

    def measured(self, what: str, layers: int, sensitivity: float) -> float:
        """Note a measurement and return it."""
        self._add(Trial(what, layers, sensitivity=sensitivity))
        return sensitivity

    def judged(self, what: str, layers: int, failure: str) -> bool:
        """Note a judgement and return whether the graph kept the limits."""
        self._add(Trial(what, layers, fits=not failure, failure=failure))
        return not failure

    def _add(self, trial: Trial) -> None:
        self.done.append(trial)
        self.on_trial(trial)


@dataclass(frozen=True)
class Item:
    """The unit of the search: a block that 8 bits hardly harm, or one layer of a sensitive block.

    Attributes:
        name: of the block or layer.
        layers: that go into 8 bits together.
        sensitivity: to 8 bits in these layers alone.
    """

    name: str
    layers: tuple[Layer, ...]
    sensitivity: float


@dataclass(frozen=True)
class Ranking:
    """What 8 bits harm.

    Attributes:
        method: of the ranges, the least harmful one.
        methods: sensitivity of every method with all layers in 8 bits.
        blocks: sensitivity of each block alone, in the model's order.
        items: blocks and layers, the least sensitive first.
    """

    method: RangeMethod
    methods: Mapping[RangeMethod, float]
    blocks: Mapping[str, float]
    items: tuple[Item, ...]


def layers_of(items: Iterable[Item]) -> list[Layer]:
    """The layers of some items."""
    return [layer for item in items for layer in item.layers]


def most_items(layers: Sequence[Layer]) -> int:
    """The number of blocks and layers that are measured alone, at most."""
    return len({layer.block for layer in layers}) + min(len(layers), MAX_LAYER_RUNS)


def rank_blocks(layers: Sequence[Layer], methods: Sequence[RangeMethod], measure: Measure, trials: Trials) -> Ranking:
    """Choose the least harmful method of ranges, and measure each block alone.

    Deterministic: of equally sensitive blocks, the first in the model's order comes first.

    Args:
        layers: that may be quantised, in the model's order; at least one.
        methods: of the ranges, to choose from.
        measure: gives the sensitivity of a set.
        trials: notes each graph that is run.
    """
    by_method = {
        method: trials.measured(f"all layers, {method} ranges", len(layers), measure(layers, method))
        for method in methods
    }
    best = min(by_method, key=lambda method: by_method[method])
    blocks: dict[str, tuple[Layer, ...]] = {}
    for layer in layers:
        blocks[layer.block] = (*blocks.get(layer.block, ()), layer)
    items = [
        Item(
            block,
            members,
            trials.measured(block, len(members), measure(members, best)) if len(blocks) > 1 else by_method[best],
        )
        for block, members in blocks.items()
    ]
    return Ranking(best, by_method, {item.name: item.sensitivity for item in items}, _sorted(items))


def rank_layers(ranking: Ranking, measure: Measure, trials: Trials) -> Ranking:
    """Measure the layers of the sensitive blocks one by one, so that each can be left out alone.

    Args:
        ranking: of blocks, from :func:`rank_blocks`.
        measure: gives the sensitivity of a set.
        trials: notes each graph that is run.
    """
    blocks = {item.name: item for item in ranking.items}
    sensitive = _sensitive(ranking, blocks)
    items: list[Item] = []
    for name in ranking.blocks:
        block = blocks[name]
        if name not in sensitive or len(block.layers) == 1:
            items.append(block)
            continue
        for layer in block.layers:
            sensitivity = trials.measured(layer.label, 1, measure([layer], ranking.method))
            items.append(Item(layer.label, (layer,), sensitivity))
    return replace(ranking, items=_sorted(items))


def _sensitive(ranking: Ranking, blocks: Mapping[str, Item]) -> set[str]:
    """The blocks more sensitive than the median one, the worst first, until :data:`MAX_LAYER_RUNS` are used."""
    sensitivities = ranking.blocks
    middle = sorted(sensitivities.values())[(len(sensitivities) - 1) // 2]
    left, chosen = MAX_LAYER_RUNS, set[str]()
    for block in sorted(sensitivities, key=lambda name: -sensitivities[name]):
        members = len(blocks[block].layers)
        if (sensitivities[block] <= middle and len(sensitivities) > 1) or members > left:
            continue
        chosen.add(block)
        left -= members
    return chosen


def _sorted(items: Sequence[Item]) -> tuple[Item, ...]:
    return tuple(sorted(items, key=lambda item: item.sensitivity))
