"""Phase 2, search: the largest set of layers that keeps the limits on a few scans."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from molre_edge.calibration.layers import Layer
from molre_edge.calibration.prepare import Prepared
from molre_edge.calibration.ranking import (
    Item,
    Judge,
    Measure,
    Ranking,
    Trial,
    Trials,
    layers_of,
    most_items,
    rank_blocks,
    rank_layers,
)
from molre_edge.calibration.work import count_work
from molre_edge.specs import RangeMethod

__all__ = [
    "HOPELESS",
    "Candidate",
    "add_later_items",
    "find_candidate",
    "most_judged",
    "most_later",
    "most_runs",
    "search",
]

HOPELESS = 1.0
"""An item that alone uses this share of a limit, on volumes that every judgement includes, is not tried later on."""


@dataclass(frozen=True)
class Candidate:
    """A set of layers for 8 bits.

    Attributes:
        ranking: the blocks and layers that were measured.
        items: those of the ranking that go into 8 bits, the least sensitive first.
    """

    ranking: Ranking
    items: tuple[Item, ...]

    @property
    def layers(self) -> list[Layer]:
        """The layers in 8 bits."""
        return layers_of(self.items)

    @property
    def complete(self) -> bool:
        """Whether every item is in 8 bits."""
        return len(self.items) == len(self.ranking.items)


def search(prepared: Prepared) -> tuple[Candidate, Trials]:
    """Run the phase: measure and rank, then find the largest set that keeps the limits.

    Returns:
        The set, which may be empty, and the graphs that were run.
    """
    evaluator, clipping, progress = prepared.evaluator, prepared.clipping, prepared.progress
    runs, judged = most_runs(prepared.layers, len(clipping)), most_judged(prepared.layers)
    collected = len(prepared.split.calibration)
    work = count_work(evaluator.evidence, collected=collected, measured=runs - judged, judged=judged)
    scans = collected + len(prepared.split.validation) + len(prepared.split.unused)
    progress.info(
        f"{len(prepared.layers)} layers may be {prepared.word}. The search runs at most {runs} graphs, judges {judged} "
        f"of them, and then judges the best set on all {scans} scans. That takes about "
        f"{_duration(work.seconds(evaluator.evidence, prepared.seconds_exact))}. If items of the ranking do not fit, "
        f"it tries the later ones one by one, in at most {most_later(prepared.layers)} more judgements"
    )
    progress.step("search")

    def count(_: Trial) -> None:
        done = len(trials.done)
        progress.count(done, runs if done <= runs else None, "graphs")

    trials = Trials(count)
    candidate = find_candidate(
        prepared.layers,
        tuple(clipping),
        prepared.measure,
        lambda layers, method: evaluator.judge(layers, clipping[method]).failure,
        trials,
    )
    return candidate, trials


def find_candidate(
    layers: Sequence[Layer], methods: Sequence[RangeMethod], measure: Measure, judge: Judge, trials: Trials
) -> Candidate:
    """Find a large set that keeps the limits.

    If not all layers fit together, the layers of the sensitive blocks are measured. Bisection then finds the longest
    prefix of the ranking that fits: each judgement halves what is left, and a prefix is taken to fit if a longer one
    does. Items behind the first one that does not fit are tried one by one after that.

    Args:
        layers: that may be quantised, in the model's order; at least one.
        methods: of the ranges, to choose from.
        measure: gives the sensitivity of a set.
        judge: judges a set on a few scans.
        trials: notes each graph that is run.
    """
    blocks = rank_blocks(layers, methods, measure, trials)
    if trials.judged("all layers", len(layers), judge(layers, blocks.method)):
        return Candidate(blocks, blocks.items)
    ranking = rank_layers(blocks, measure, trials)
    items = ranking.items

    def fits(chosen: Sequence[Item], what: str) -> bool:
        members = layers_of(chosen)
        return trials.judged(what, len(members), judge(members, ranking.method))

    prefix, too_many = 0, len(items)
    while too_many - prefix > 1:
        middle = (prefix + too_many) // 2
        if fits(items[:middle], f"the {middle} least sensitive of {len(items)}"):
            prefix = middle
        else:
            too_many = middle
    return Candidate(ranking, add_later_items(items, prefix, fits, lambda item: item.sensitivity < HOPELESS))


def add_later_items(
    items: Sequence[Item],
    prefix: int,
    fits: Callable[[Sequence[Item], str], bool],
    worthwhile: Callable[[Item], bool] = lambda item: True,
) -> tuple[Item, ...]:
    """The first `prefix` items, and each item behind the next one that still fits beside those chosen before it.

    Args:
        items: the least sensitive first. The first `prefix` of them fit, and with the next one they do not.
        prefix: number of items.
        fits: judges a set; its second argument names the set.
        worthwhile: whether to try an item at all.
    """
    chosen = tuple(items[:prefix])
    for item in items[prefix + 1 :]:
        what = f"{item.name} beside {len(chosen)} others" if chosen else f"{item.name} alone"
        if worthwhile(item) and fits((*chosen, item), what):
            chosen = (*chosen, item)
    return chosen


def most_runs(layers: Sequence[Layer], methods: int) -> int:
    """The number of graphs that the search runs, at most, before it tries later items one by one."""
    return methods + most_items(layers) + most_judged(layers)


def most_judged(layers: Sequence[Layer]) -> int:
    """The number of those that it judges: all layers, and the bisection."""
    return math.ceil(math.log2(most_items(layers) + 1)) + 1


def most_later(layers: Sequence[Layer]) -> int:
    """The number of later items that are tried one by one, at most."""
    return most_items(layers) - 1


def _duration(seconds: float) -> str:
    return f"{max(seconds, 1):.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
