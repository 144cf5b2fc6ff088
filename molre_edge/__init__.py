"""molre-edge: put a trained Mixture of Low-Rank Experts head-CT model on an edge device, and prove it unchanged.

The names in ``__all__`` are the library; docs/reference/python.md shows each of them. A name is imported when it is
first used, so ``import molre_edge`` loads nothing heavy.

Research and engineering tool, not a cleared medical device; its output is not a diagnosis.
"""

from typing import TYPE_CHECKING, Any

from molre_edge.offline import disable_telemetry

if TYPE_CHECKING:
    from molre_edge.benchmarking.bench import bench_runners
    from molre_edge.bundle.bundle import Bundle
    from molre_edge.bundle.sign import make_signing_key, sign_release
    from molre_edge.calibration.run import calibrate_bundle
    from molre_edge.doctor import diagnose
    from molre_edge.engines.build import build_engine
    from molre_edge.errors import (
        AdapterError,
        BundleError,
        CalibrationError,
        CheckpointError,
        ConfigError,
        EngineError,
        ExportError,
        InUseError,
        MissingDependencyError,
        MolreEdgeError,
        OwnModelError,
        ParityFailedError,
        RunError,
        ScanError,
        SigningError,
        UsageError,
    )
    from molre_edge.export.exporter import export_checkpoint
    from molre_edge.export.pack import pack_adapter
    from molre_edge.inspection.look import inspect_path
    from molre_edge.node.run import run_node
    from molre_edge.own_model.parting.explain import explain_reference
    from molre_edge.own_model.write_inputs import write_reference_inputs
    from molre_edge.parity.limits import ParityLimits
    from molre_edge.parity.outputs import ParityError
    from molre_edge.progress import Progress
    from molre_edge.runs.infer import infer_scans
    from molre_edge.runs.loaded import load_model
    from molre_edge.runs.remake import report_runs
    from molre_edge.specs import Precision
    from molre_edge.training.evaluate import evaluate_checkpoint
    from molre_edge.training.verbs import import_peft, synthesize_scans, train_model
    from molre_edge.triton.export import export_triton
    from molre_edge.verification.adapter_verbs import (
        add_adapter,
        default_adapter,
        list_adapters,
        remove_adapter,
        rollback_adapter,
    )
    from molre_edge.verification.verify import verify_bundle

disable_telemetry()  # before any module can load a library that sends data

__version__ = "0.1.0"

__all__ = [
    "AdapterError",
    "Bundle",
    "BundleError",
    "CalibrationError",
    "CheckpointError",
    "ConfigError",
    "EngineError",
    "ExportError",
    "InUseError",
    "MissingDependencyError",
    "MolreEdgeError",
    "OwnModelError",
    "ParityError",
    "ParityFailedError",
    "ParityLimits",
    "Precision",
    "Progress",
    "RunError",
    "ScanError",
    "SigningError",
    "UsageError",
    "__version__",
    "add_adapter",
    "bench_runners",
    "build_engine",
    "calibrate_bundle",
    "default_adapter",
    "diagnose",
    "evaluate_checkpoint",
    "explain_reference",
    "export_checkpoint",
    "export_triton",
    "import_peft",
    "infer_scans",
    "inspect_path",
    "list_adapters",
    "load_model",
    "make_signing_key",
    "pack_adapter",
    "remove_adapter",
    "report_runs",
    "rollback_adapter",
    "run_node",
    "sign_release",
    "synthesize_scans",
    "train_model",
    "verify_bundle",
    "write_reference_inputs",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module 'molre_edge' has no attribute {name!r}")
    from molre_edge.api import find

    value = globals()[name] = find(name)
    return value


def __dir__() -> list[str]:
    """The public names, imported or not."""
    return sorted({*globals(), *__all__})
