"""Phase 4, keep: the 8-bit graph is timed, described, and written into its bundle with its report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from molre_edge.bundle.bundle import Bundle
from molre_edge.bundle.golden_origin import golden_words
from molre_edge.calibration.confirm import Confirmed
from molre_edge.calibration.prepare import Prepared
from molre_edge.calibration.result_files import FILES, write_result
from molre_edge.calibration.result_report import describe_calibration
from molre_edge.calibration.speed import compare_speed
from molre_edge.errors import CalibrationError
from molre_edge.export.graph import graph_facts
from molre_edge.parity import judge
from molre_edge.reports.calibration_page import render

__all__ = ["keep"]


def keep(prepared: Prepared, confirmed: Confirmed) -> tuple[str, Mapping[str, Any]]:
    """Run the phase.

    Returns:
        The digest of the bundle as it is now, and the report.

    Raises:
        CalibrationError: the bundle was altered while the calibration ran.
    """
    inputs, evaluator, bundle = prepared.inputs, prepared.evaluator, prepared.inputs.bundle
    prepared.progress.step("time compared with float16")
    precision = inputs.settings.precision
    quantised, fp16 = confirmed.model.serialize(), evaluator.float16_graph()
    volume = evaluator.evidence.first_scans[0][None]
    speed = compare_speed(fp16, quantised, precision, volume, threads=inputs.threads, adapter=inputs.adapter)
    sizes = {"fp16": len(fp16), str(precision): len(quantised)}
    report = describe_calibration(prepared, confirmed, sizes, speed)
    if Bundle.open(bundle.folder, trust=bundle.trust).digest != bundle.digest:
        raise CalibrationError(
            f"{bundle.folder}: another process altered this bundle while it was calibrated, so the result does not "
            f"belong to it. Calibrate again"
        )
    digest = write_result(
        bundle,
        precision,
        quantised,
        graph_facts(confirmed.model.model, FILES[precision].graph),
        report,
        render(report),
        section=report["summary"] | {"key": inputs.key} | _judged_with(bundle),
        parity=_parity_on_golden(prepared, confirmed),
        notes=report["notes"],
    )
    return digest, report


def _judged_with(bundle: Bundle) -> dict[str, Any]:
    """The adapter with which the graph was judged, for the manifest; nothing where it holds what was trained."""
    using = bundle.using
    return {} if using is None else {"adapter": {"name": using.name, "sha256": using.digest}}


def _parity_on_golden(prepared: Prepared, confirmed: Confirmed) -> dict[str, Any]:
    """The manifest's section on parity: on the golden volumes and by the user's limits, as for the other graphs."""
    golden, limits = confirmed.judgement.comparisons[0], prepared.inputs.limits
    bundle = prepared.inputs.bundle
    return {
        "limits": limits.to_dict(),
        "verdict": judge(golden.numbers, limits, golden_words(bundle.own_golden, golden.numbers.n)).to_dict(),
        "volumes": golden.numbers.n,
    }
