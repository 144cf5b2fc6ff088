"""What a calibration says of itself: data for programs, from which the page for people is made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from molre_edge import __version__
from molre_edge.bundle.bundle import Bundle
from molre_edge.calibration.data import Problem, Split
from molre_edge.calibration.evaluator import Judged, Judgement
from molre_edge.calibration.layers import Layer
from molre_edge.calibration.ranking import Found
from molre_edge.calibration.settings import CalibrationSettings
from molre_edge.calibration.speed import WORTHWHILE, Speed
from molre_edge.parity import ParityLimits
from molre_edge.specs import DISCLAIMER

__all__ = ["FORMAT", "describe_calibration", "explain", "recommend"]

FORMAT = "molre-edge-calibration"
FORMAT_VERSION = 1
_WORST = 3  # findings in a sentence


def describe_calibration(
    *,
    key: str,
    bundle: Bundle,
    settings: CalibrationSettings,
    gate: ParityLimits,
    split: Split,
    problems: Sequence[Problem],
    layers: Sequence[Layer],
    outcome: Found,
    limits: Mapping[str, float],
    judgement: Judgement,
    attentions: int,
    sizes: Mapping[str, int],
    speed: Speed,
    mode: str,
) -> dict[str, Any]:
    """All of ``calibration/report.json``; docs/calibration.md describes it."""
    chosen = {layer.node for layer in outcome.chosen}
    quantised = [layer for layer in layers if layer.node in chosen]
    strains = {layer.node: item for item in outcome.ranked for layer in item.layers}
    slices = len(split.calibration) * bundle.grid.slices
    notes = [f"int8 judged {mode}, on ONNX Runtime with graph optimisation off, and as ONNX Runtime runs it"]
    if slices < settings.slices:
        notes.append(f"int8: ranges from {slices} slices of {len(split.calibration)} scans, {settings.slices} advised")
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "key": key,
        "tool": __version__,
        "disclaimer": DISCLAIMER,
        "settings": {**asdict(settings), "method": None if settings.method is None else str(settings.method)},
        "gate": gate.to_dict(),
        "data": {
            "calibration_scans": len(split.calibration),
            "calibration_slices": slices,
            "validation_scans": len(split.validation),
            "labelled_scans": sum(sample.labels is not None for sample in split.validation),
            "unused_scans": len(split.unused),
            "refused": [{"code": problem.code, "reason": problem.reason} for problem in problems],
        },
        "summary": {
            "method": str(outcome.method),
            "layers": len(quantised),
            "candidates": sum(not layer.barred for layer in layers),
            "products": len(layers),
            "weights": sum(layer.weights for layer in quantised),
            "weights_share": sum(layer.weights for layer in quantised) / sum(layer.weights for layer in layers),
            "attentions": attentions,
        },
        "layers": [_layer(layer, chosen, strains, limits) for layer in layers],
        "methods": {str(method): _finite(strain) for method, strain in outcome.methods.items()},
        "blocks": {block: _finite(strain) for block, strain in outcome.blocks.items()},
        "ranked": [
            {"name": item.name, "strain": _finite(item.strain), "layers": len(item.layers)} for item in outcome.ranked
        ],
        "taken": outcome.taken,
        "trials": [{**asdict(trial), "strain": _finite(trial.strain)} for trial in outcome.trials],
        "judged": [_judged(part) for part in judgement.parts],
        "bytes": dict(sizes),
        "speed": {**asdict(speed), "worthwhile": speed.worthwhile},
        "recommendation": recommend(speed),
        "notes": notes,
    }


def _finite(strain: float | None) -> float | None:
    """JSON has no infinity: a graph whose answers are not finite used more of the gate than can be said."""
    return strain if strain is not None and math.isfinite(strain) else None


def _layer(layer: Layer, chosen: set[str], items: Mapping[str, Any], limits: Mapping[str, float]) -> dict[str, Any]:
    item = items.get(layer.node)
    taken = layer.node in chosen
    why = layer.barred
    if not taken and not why:
        why = "outside the budget together with what harms less"
    return {
        "node": layer.node,
        "name": layer.label,
        "block": layer.block,
        "op": layer.op,
        "weights": layer.weights,
        "int8": taken,
        "why_not": why,
        "strain": None if item is None else _finite(item.strain),
        "measured_as": None if item is None else item.name,
        "limit": limits.get(layer.activation) if taken else None,
    }


def _judged(part: Judged) -> dict[str, Any]:
    numbers = part.numbers
    return {
        "what": part.what,
        "reference": part.reference,
        "volumes": numbers.n,
        "verdict": part.verdict.to_dict(),
        "findings": [
            {
                "finding": each.finding,
                "max_abs_dp": each.dp.max_abs,
                "mean_abs_dp": each.dp.mean_abs,
                "flips": len(each.flips),
                "auc": None if each.auc is None else asdict(each.auc),
            }
            for each in numbers.per_finding
        ],
    }


def recommend(speed: Speed) -> str:
    """One sentence: whether to use the int8 graph on the runner that was timed."""
    beside = f"{speed.times_as_fast:.2f} times as fast as float16 ({speed.low:.2f} to {speed.high:.2f})"
    where = f"on {speed.runtime}, {speed.device}"
    if speed.worthwhile:
        return f"Use --engine int8 {where}: {beside} and within its gate"
    return f"Stay with --engine fp16 {where}: int8 is {beside}, and {WORTHWHILE:.2f} times are asked for"


def explain(judgement: Judgement | None) -> str:
    """Why a graph failed, with its worst findings."""
    failed = [part for part in judgement.parts if part.failed] if judgement is not None else []
    if not failed:
        return "no limit of the gate could be judged"
    part = failed[0]
    reasons = "; ".join(check.text for check in part.verdict.failed)
    ranked = sorted(part.numbers.per_finding, key=lambda each: -(each.dp.max_abs or 0.0))[:_WORST]
    worst = ", ".join(f"{each.finding} ({each.dp.max_abs or 0.0:.3f})" for each in ranked)
    return f"{reasons} on {part.what}, beside {part.reference}; worst findings {worst}"
