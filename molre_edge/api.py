"""The front door: which public name is in which module. ``molre_edge`` looks a name up here when it is used.

Nothing is imported before that, so ``import molre_edge`` stays light. A verb takes plain arguments, prints nothing,
never exits, reports to one protocol (:mod:`molre_edge.progress`) and returns one frozen result.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

__all__ = ["ERRORS", "PLACES", "TYPES", "VERBS", "find"]

VERBS: Mapping[str, str] = {
    "write_reference_inputs": "molre_edge.own_model.write_inputs",
    "explain_reference": "molre_edge.own_model.parting.explain",
    "export_checkpoint": "molre_edge.export.exporter",
    "calibrate_bundle": "molre_edge.calibration.run",
    "pack_adapter": "molre_edge.export.pack",
    "add_adapter": "molre_edge.verification.adapter_verbs",
    "list_adapters": "molre_edge.verification.adapter_verbs",
    "default_adapter": "molre_edge.verification.adapter_verbs",
    "rollback_adapter": "molre_edge.verification.adapter_verbs",
    "remove_adapter": "molre_edge.verification.adapter_verbs",
    "build_engine": "molre_edge.engines.build",
    "infer_scans": "molre_edge.runs.infer",
    "verify_bundle": "molre_edge.verification.verify",
    "report_runs": "molre_edge.runs.remake",
    "bench_runners": "molre_edge.benchmarking.bench",
    "train_model": "molre_edge.training.verbs",
    "evaluate_checkpoint": "molre_edge.training.evaluate",
    "import_peft": "molre_edge.training.verbs",
    "synthesize_scans": "molre_edge.training.verbs",
    "make_signing_key": "molre_edge.bundle.sign",
    "sign_release": "molre_edge.bundle.sign",
    "inspect_path": "molre_edge.inspection.look",
    "diagnose": "molre_edge.doctor",
    "load_model": "molre_edge.runs.loaded",
    "run_node": "molre_edge.node.run",
    "export_triton": "molre_edge.triton.export",
}
"""The verbs, in the order in which they are used."""

TYPES: Mapping[str, str] = {
    "Bundle": "molre_edge.bundle.bundle",
    "Precision": "molre_edge.specs",
    "ParityLimits": "molre_edge.parity.limits",
    "Progress": "molre_edge.progress",
}
"""What the verbs take and return, besides plain values."""

ERRORS: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "MolreEdgeError",
            "AdapterError",
            "BundleError",
            "CalibrationError",
            "CheckpointError",
            "ConfigError",
            "EngineError",
            "ExportError",
            "InUseError",
            "MissingDependencyError",
            "OwnModelError",
            "ParityFailedError",
            "RunError",
            "ScanError",
            "SigningError",
            "UsageError",
        ),
        "molre_edge.errors",
    ),
    "ParityError": "molre_edge.parity.outputs",
}
"""All of them are children of MolreEdgeError: errors that the user can fix."""

PLACES: Mapping[str, str] = {**VERBS, **TYPES, **ERRORS}


def find(name: str) -> Any:
    """The verb, type or error of that name; its module is imported now.

    Raises:
        AttributeError: no public name.
    """
    if name not in PLACES:
        raise AttributeError(f"module 'molre_edge' has no attribute {name!r}")
    return getattr(importlib.import_module(PLACES[name]), name)
