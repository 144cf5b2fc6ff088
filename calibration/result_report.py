"""The report of a calibration: data for programs. The page for people is made from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from molre_edge import __version__
from molre_edge.calibration.confirm import Confirmed
from molre_edge.calibration.judgement import Comparison
from molre_edge.calibration.layers import Layer
from molre_edge.calibration.prepare import Prepared
from molre_edge.calibration.ranking import Item
from molre_edge.calibration.result_files import REPORT_VERSION
from molre_edge.calibration.speed import WORTHWHILE, Speed
from molre_edge.specs import DISCLAIMER, Precision

__all__ = ["FORMAT", "describe_calibration", "recommend"]

FORMAT = "molre-edge-calibration"


def describe_calibration(
    prepared: Prepared, confirmed: Confirmed, sizes: Mapping[str, int], speed: Speed
) -> dict[str, Any]:
    """The content of the report; docs/reference/calibration.md describes it.

    Args:
        prepared: by the first phase.
        confirmed: the result of the search.
        sizes: bytes of the ``fp16`` and the 8-bit graph.
        speed: of both graphs.
    """
    inputs, ranking = prepared.inputs, confirmed.candidate.ranking
    items = {layer.node: item for item in ranking.items for layer in item.layers}
    chosen = {layer.node for layer in confirmed.candidate.layers}
    clipping = prepared.clipping[ranking.method]
    settings = asdict(inputs.settings)
    data = _data(prepared)
    return {
        "format": FORMAT,
        "version": REPORT_VERSION,
        "precision": str(inputs.settings.precision),
        "key": inputs.key,
        "tool": __version__,
        "disclaimer": DISCLAIMER,
        "settings": {
            **settings,
            "precision": str(inputs.settings.precision),
            "method": None if inputs.settings.method is None else str(inputs.settings.method),
        },
        "limits": inputs.limits.to_dict(),
        "data": data,
        "summary": _summary(prepared, confirmed),
        "layers": [
            _layer(prepared, layer, layer.node in chosen, items.get(layer.node), clipping)
            for layer in prepared.all_layers
        ],
        "methods": {str(method): _finite(value) for method, value in ranking.methods.items()},
        "blocks": {block: _finite(value) for block, value in ranking.blocks.items()},
        "ranking": [
            {
                "name": item.name,
                "sensitivity": _finite(item.sensitivity),
                "layers": len(item.layers),
                "quantised": item in confirmed.candidate.items,
            }
            for item in ranking.items
        ],
        "trials": [{**asdict(trial), "sensitivity": _finite(trial.sensitivity)} for trial in confirmed.trials],
        "comparisons": [_comparison(each) for each in confirmed.judgement.comparisons],
        "bytes": dict(sizes),
        "speed": {**asdict(speed), "worthwhile": speed.worthwhile},
        "recommendation": recommend(speed, inputs.settings.precision),
        "notes": _notes(prepared, data),
    }


def _data(prepared: Prepared) -> dict[str, Any]:
    split = prepared.split
    return {
        "calibration_scans": len(split.calibration),
        "calibration_slices": len(split.calibration) * prepared.inputs.bundle.grid.slices,
        "validation_scans": len(split.validation),
        "labelled_scans": sum(sample.labels is not None for sample in split.validation),
        "unused_scans": len(split.unused),
        "refused": [{"code": scan.code, "reason": scan.reason} for scan in prepared.rejected],
    }


def _summary(prepared: Prepared, confirmed: Confirmed) -> dict[str, Any]:
    """The few numbers that the manifest repeats. ``coverage`` is the one wording of the number of layers."""
    quantised, layers = confirmed.candidate.layers, prepared.all_layers
    weights = sum(layer.weights for layer in quantised)
    share = weights / sum(layer.weights for layer in layers)
    work = prepared.multiply_adds
    in_8_bits = sum(work[layer.node] for layer in quantised) / sum(work.values())
    return {
        "method": str(confirmed.candidate.ranking.method),
        "layers": len(quantised),
        "candidates": len(prepared.layers),
        "products": len(layers),
        "weights": weights,
        "weights_share": share,
        "multiply_adds_share": in_8_bits,
        "coverage": f"{len(quantised)} of {len(layers)} layers in {prepared.word}, with {share:.1%} of the layers' "
        f"weights and {in_8_bits:.1%} of the model's multiply-adds",
        "attentions": len(prepared.evaluator.model.attentions),
    }


def _notes(prepared: Prepared, data: Mapping[str, Any]) -> list[str]:
    precision = prepared.inputs.settings.precision
    notes = [
        f"{precision} was judged {prepared.evaluator.mode}, on ONNX Runtime with graph optimisation off, and as "
        f"ONNX Runtime runs it"
    ]
    advised = prepared.inputs.settings.slices
    if data["calibration_slices"] < advised:
        notes.append(
            f"the {precision} activation ranges come from {data['calibration_slices']} slices of "
            f"{data['calibration_scans']} scans; {advised} are advised"
        )
    return notes


def _finite(sensitivity: float | None) -> float | None:
    """JSON has no infinity, which stands for answers that are not finite."""
    return sensitivity if sensitivity is not None and math.isfinite(sensitivity) else None


def _layer(
    prepared: Prepared, layer: Layer, quantised: bool, item: Item | None, clipping: Mapping[str, float]
) -> dict[str, Any]:
    reason = layer.excluded
    if not quantised and not reason:
        reason = f"with it, the {prepared.word} layers together exceed a limit"
    return {
        "node": layer.node,
        "name": layer.label,
        "block": layer.block,
        "op": layer.op,
        "weights": layer.weights,
        "multiply_adds": prepared.multiply_adds[layer.node],
        "quantised": quantised,
        "why_not": reason,
        "sensitivity": None if item is None else _finite(item.sensitivity),
        "measured_as": None if item is None else item.name,
        "clipping": clipping.get(layer.activation) if quantised else None,
    }


def _comparison(comparison: Comparison) -> dict[str, Any]:
    numbers = comparison.numbers
    return {
        "what": comparison.what,
        "reference": comparison.reference,
        "volumes": numbers.n,
        "verdict": comparison.verdict.to_dict(),
        "findings": [
            {
                "finding": each.finding,
                "max_abs_dp": each.dp.max_abs,
                "mean_abs_dp": each.dp.mean_abs,
                "flips": len(each.flips),
                "auc": None if each.auc is None else each.auc.to_dict(),
                "marks": list(each.marks),
            }
            for each in numbers.per_finding
        ],
    }


def recommend(speed: Speed, precision: Precision) -> str:
    """One sentence: whether to use the 8-bit graph on the runner that was timed."""
    measured = f"{speed.times_as_fast:.2f} times as fast as float16 ({speed.low:.2f} to {speed.high:.2f})"
    where = f"on {speed.runtime}, {speed.device}"
    if speed.worthwhile:
        return f"Use --engine {precision} {where}: it is {measured} and keeps its limits"
    return (
        f"Stay with --engine fp16 {where}: {precision} is {measured}, and at least {WORTHWHILE:.2f} times are required"
    )
