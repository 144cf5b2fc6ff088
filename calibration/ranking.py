"""The search: which layers INT8 harms, by block and then by layer, and the largest set of them within the budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from molre_edge.calibration.layers import Layer
from molre_edge.calibration.settings import RangeMethod

__all__ = [
    "MOST_LAYER_RUNS",
    "Found",
    "Item",
    "Trial",
    "most_confirmed",
    "most_judged",
    "most_runs",
    "search",
    "shorten",
]

MOST_LAYER_RUNS = 24
"""Layers that are measured one by one, at most; those of the most sensitive blocks."""

Measure = Callable[[Sequence[Layer], RangeMethod], float]
"""How much of the gate a set of layers uses; see :func:`molre_edge.calibration.judge.strain`."""
Fits = Callable[[Sequence[Layer], RangeMethod], bool]
"""Whether a graph with these layers in INT8 keeps the gate, judged on some scans or on everything."""


@dataclass(frozen=True)
class Trial:
    """One graph that was run.

    Attributes:
        what: in words, such as ``block 3`` or ``the first 12 of 20``.
        layers: how many were in INT8.
        strain: share of the gate used, where it was measured.
        fits: whether it kept the gate, where it was judged.
    """

    what: str
    layers: int
    strain: float | None = None
    fits: bool | None = None


@dataclass(frozen=True)
class Item:
    """What is taken or left as one: a block that INT8 hardly harms, or a layer of one that it does."""

    name: str
    layers: tuple[Layer, ...]
    strain: float


@dataclass(frozen=True)
class Found:
    """What the search found.

    Attributes:
        method: of the ranges.
        methods: strain of every method with all layers in INT8.
        blocks: strain of each block alone, in the model's order.
        ranked: items, the least harmful first.
        taken: how many of them, from the first on, are in INT8.
        trials: every graph that was run.
    """

    method: RangeMethod
    methods: Mapping[RangeMethod, float]
    blocks: Mapping[str, float]
    ranked: tuple[Item, ...]
    taken: int
    trials: tuple[Trial, ...]

    @property
    def chosen(self) -> tuple[Layer, ...]:
        """The layers in INT8."""
        return tuple(layer for item in self.ranked[: self.taken] for layer in item.layers)


def most_runs(layers: Sequence[Layer], methods: int) -> int:
    """How many graphs the search runs at most, those that are judged in full among them."""
    return methods + _most_items(layers) + most_judged(layers)


def most_judged(layers: Sequence[Layer]) -> int:
    """How many graphs the search judges at most: all layers, and the bisection."""
    return math.ceil(math.log2(_most_items(layers) + 1)) + 1


def _most_items(layers: Sequence[Layer]) -> int:
    return len({layer.block for layer in layers}) + min(len(layers), MOST_LAYER_RUNS)


def search(
    layers: Sequence[Layer],
    methods: Sequence[RangeMethod],
    measure: Measure,
    fits: Fits,
    holds: Fits,
    on_trial: Callable[[Trial], None] = lambda trial: None,
) -> Found:
    """Find the largest set: measure blocks, then the layers of sensitive blocks, bisect the ranking, and confirm.

    Deterministic: of equals, the first in the model's order comes first. A set is judged only in the bisection, where
    each judgement halves what is left; a prefix of the ranking is taken to fit when a longer one does. What is found
    is judged on everything then, and shortened if it does not hold.

    Args:
        layers: that may be quantised, in the model's order; at least one.
        methods: of the ranges, to choose from.
        measure: strain of a set.
        fits: the judgement of a set while the search goes on.
        holds: the judgement on everything; of the sets that hold, the last that was asked for is the one found.
        on_trial: is told of each graph that was run.
    """
    log = _Log(on_trial)
    by_method = {}
    for method in methods:
        by_method[method] = log.measured(f"all layers, {method} ranges", measure(layers, method), len(layers))
    best = min(by_method, key=lambda method: by_method[method])
    blocks: dict[str, tuple[Layer, ...]] = {}
    for layer in layers:
        blocks[layer.block] = (*blocks.get(layer.block, ()), layer)
    strains = {
        block: log.measured(block, measure(members, best), len(members)) if len(blocks) > 1 else by_method[best]
        for block, members in blocks.items()
    }
    if log.judged("all layers", fits(layers, best), len(layers)) and log.judged(
        "all layers, on everything", holds(layers, best), len(layers)
    ):
        items = tuple(Item(block, members, strains[block]) for block, members in blocks.items())
        return Found(best, by_method, strains, _ranked(items), len(items), tuple(log.trials))
    items = tuple(
        item for block in blocks for item in _items(block, blocks[block], strains, blocks, measure, best, log)
    )
    ranked = _ranked(items)

    def first(count: int) -> list[Layer]:
        return [layer for item in ranked[:count] for layer in item.layers]

    def said(count: int, where: str, judged: Fits) -> bool:
        what = f"the {count} least sensitive of {len(ranked)}{where}"
        return log.judged(what, judged(first(count), best), len(first(count)))

    taken, too_many = 0, len(ranked)
    while too_many - taken > 1:
        middle = (taken + too_many) // 2
        if said(middle, "", fits):
            taken = middle
        else:
            too_many = middle
    taken = shorten(taken, lambda count: said(count, ", on everything", holds))
    return Found(best, by_method, strains, ranked, taken, tuple(log.trials))


def shorten(most: int, holds: Callable[[int], bool]) -> int:
    """The number of items to keep when `most` of them may be too many; 0 when not even one holds.

    Looks from `most` downwards in steps that double, since a set that was found by the search is hardly ever far too
    large, and bisects the last step.

    Args:
        most: items that were found.
        holds: whether the first so many items keep the gate on everything; asked once a number.
    """
    kept, too_many, count, step = 0, most + 1, most, 1
    while count > 0:
        if holds(count):
            kept = count
            break
        too_many, count, step = count, count - step, 2 * step
    while too_many - kept > 1:
        middle = (kept + too_many) // 2
        if holds(middle):
            kept = middle
        else:
            too_many = middle
    return kept


def most_confirmed(layers: Sequence[Layer]) -> int:
    """How many sets are judged on everything at most: all layers, and what :func:`shorten` asks."""
    return 1 + 2 * math.ceil(math.log2(_most_items(layers) + 1))


@dataclass
class _Log:
    tell: Callable[[Trial], None]
    trials: list[Trial] = field(default_factory=list)

    def measured(self, what: str, strain: float, layers: int) -> float:
        self._add(Trial(what, layers, strain=strain))
        return strain

    def judged(self, what: str, fits: bool, layers: int) -> bool:
        self._add(Trial(what, layers, fits=fits))
        return fits

    def _add(self, trial: Trial) -> None:
        self.trials.append(trial)
        self.tell(trial)


def _items(
    block: str,
    members: tuple[Layer, ...],
    strains: Mapping[str, float],
    blocks: Mapping[str, tuple[Layer, ...]],
    measure: Measure,
    method: RangeMethod,
    log: _Log,
) -> list[Item]:
    if block not in _sensitive(strains, blocks) or len(members) == 1:
        return [Item(block, members, strains[block])]
    return [Item(layer.label, (layer,), log.measured(layer.label, measure([layer], method), 1)) for layer in members]


def _sensitive(strains: Mapping[str, float], blocks: Mapping[str, tuple[Layer, ...]]) -> set[str]:
    """The blocks that harm more than the median one, the worst first, as far as the runs reach."""
    middle = sorted(strains.values())[(len(strains) - 1) // 2]
    left, chosen = MOST_LAYER_RUNS, set[str]()
    for block in sorted(strains, key=lambda name: -strains[name]):
        if (strains[block] <= middle and len(strains) > 1) or len(blocks[block]) > left:
            continue
        chosen.add(block)
        left -= len(blocks[block])
    return chosen


def _ranked(items: Sequence[Item]) -> tuple[Item, ...]:
    return tuple(sorted(items, key=lambda item: item.strain))
