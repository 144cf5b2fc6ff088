"""Phase 3, confirm: the set that the search found is judged on all volumes, and made smaller until it holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from molre_edge.calibration.indexed_model import IndexedModel
from molre_edge.calibration.judgement import Judgement
from molre_edge.calibration.layers import Layer
from molre_edge.calibration.prepare import Prepared
from molre_edge.calibration.ranking import (
    Item,
    Judge,
    Measure,
    Trial,
    Trials,
    layers_of,
    most_items,
    rank_layers,
)
from molre_edge.calibration.search import HOPELESS, Candidate, add_later_items
from molre_edge.errors import ParityFailedError
from molre_edge.specs import RangeMethod

__all__ = ["Confirmed", "confirm", "find_confirmed", "most_confirmed", "shorten"]


@dataclass(frozen=True, eq=False)
class Confirmed:
    """A set of layers that keeps the limits on all volumes.

    Attributes:
        candidate: the set, which is not empty.
        model: its graph.
        judgement: of that graph.
        trials: every graph that was run.
    """

    candidate: Candidate
    model: IndexedModel
    judgement: Judgement
    trials: tuple[Trial, ...]


def confirm(prepared: Prepared, candidate: Candidate, trials: Trials) -> Confirmed:
    """Run the phase.

    Args:
        prepared: by the first phase.
        candidate: from the search.
        trials: the graphs that were run so far.

    Raises:
        ParityFailedError: no set of layers keeps the limits. The message names the worst findings and layers.
    """
    progress = prepared.progress
    progress.step("confirmation on all scans")
    held: list[tuple[IndexedModel, Judgement]] = []

    def judge(layers: Sequence[Layer], method: RangeMethod) -> str:
        model, judgement = prepared.evaluator.confirm(layers, prepared.clipping[method])
        if judgement.passed:
            held[:] = [(model, judgement)]
        else:
            progress.info(f"{len(layers)} layers are too many: {judgement.failure}")
        return judgement.failure

    trials.on_trial = lambda trial: progress.count(len(trials.done), None, "graphs")
    confirmed = find_confirmed(candidate, prepared.measure, judge, trials)
    if not confirmed.items:
        raise ParityFailedError(_nothing_fits(prepared, confirmed, trials))
    [(model, judgement)] = held
    return Confirmed(confirmed, model, judgement, tuple(trials.done))


def find_confirmed(candidate: Candidate, measure: Measure, judge: Judge, trials: Trials) -> Candidate:
    """The largest set that holds: the candidate itself, or a part of it.

    If all layers passed the search and fail here, the layers of the sensitive blocks are measured first, so that no
    whole block is left out for one of its layers.

    Args:
        candidate: from the search.
        measure: gives the sensitivity of a set.
        judge: judges a set on all volumes. The last set that it accepts is the result.
        trials: notes each graph that is run.
    """
    ranking, items, most = candidate.ranking, candidate.items, len(candidate.items)

    def holds(chosen: Sequence[Item], what: str) -> bool:
        layers = layers_of(chosen)
        return trials.judged(f"{what}, on all scans", len(layers), judge(layers, ranking.method))

    if candidate.complete:
        if holds(items, "all layers"):
            return candidate
        ranking = rank_layers(ranking, measure, trials)
        items = ranking.items
        most = len(items) - 1
    kept = shorten(most, lambda count: holds(items[:count], f"the {count} least sensitive of {len(items)}"))
    return Candidate(ranking, add_later_items(items, kept, holds) if kept < len(items) else items)


def shorten(most: int, holds: Callable[[int], bool]) -> int:
    """The number of items to keep if `most` of them may be too many; 0 if not even one holds.

    Goes down from `most` in steps that double, because a set that the search found is hardly ever far too large, and
    bisects the last step.

    Args:
        most: the number of items that the search found.
        holds: whether the first items, this many, keep the limits on all volumes; asked once per number.
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
    """The number of sets that are judged on all volumes, at most."""
    items = most_items(layers)
    return 1 + 2 * math.ceil(math.log2(items + 1)) + items - 1


def _nothing_fits(prepared: Prepared, candidate: Candidate, trials: Trials) -> str:
    items = candidate.ranking.items
    failed = [trial for trial in trials.done if trial.fits is False]
    alone = next((trial for trial in failed if trial.layers == len(items[0].layers)), failed[-1])
    hopeless = sum(item.sensitivity >= HOPELESS for item in items)
    return (
        f"no layer can be {prepared.word} within the limits '{prepared.evaluator.limits.name}', so the bundle has not "
        f"changed. {len(items)} blocks and layers were measured alone: {hopeless} of them use up a limit by "
        f"themselves. {len(failed)} sets were judged, and all of them exceed the limits. The least sensitive is "
        f"{items[0].name}: {alone.failure}. The most sensitive is {items[-1].name}. Keep --engine fp16, or set "
        f"limits that suit your use with --limits"
    )
