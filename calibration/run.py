"""Calibrates a bundle: prepare, search, confirm, keep."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from molre_edge.adapters.fit import fit_adapter
from molre_edge.adapters.tensors import Tensors
from molre_edge.bundle.bundle import DEFAULT_BUNDLE, Bundle, hold_bundle
from molre_edge.calibration.confirm import confirm
from molre_edge.calibration.keep import keep
from molre_edge.calibration.prepare import Inputs, hash_inputs, prepare, warn_of_rejected
from molre_edge.calibration.result_files import FILES, cached_report, check_writable
from molre_edge.calibration.samples import LabelsOf
from molre_edge.calibration.scan_labels import labels_of
from molre_edge.calibration.search import search
from molre_edge.calibration.settings import CalibrationSettings
from molre_edge.errors import CalibrationError, ConfigError, MissingDependencyError
from molre_edge.files import StrPath
from molre_edge.parity import ParityLimits
from molre_edge.parity.limits import limits_by_precision
from molre_edge.progress import SILENT, Progress
from molre_edge.scans import FoundScans, RejectedScan
from molre_edge.scans.workers.finder import find_apart
from molre_edge.signing.trust import trust_of
from molre_edge.specs import DISCLAIMER, QUANTISED, Precision, RangeMethod

__all__ = ["CalibrationResult", "calibrate", "calibrate_bundle"]


@dataclass(frozen=True, eq=False)
class CalibrationResult:
    """The result of a calibration. A result always has layers in 8 bits: if none fits, there is an error instead.

    Attributes:
        bundle: its folder.
        digest: of the bundle as it is now.
        graph: path of the 8-bit graph.
        report_file: path of the report as data.
        page: path of the report for people.
        report: the report; docs/reference/calibration.md describes its fields.
        rejected: scans that can't be used.
        unchanged: the bundle had this result already, from the same inputs.
        unread: of an unchanged result, the number of scans that could not be used when it was made. They are not read
            again, so they are not among the rejected ones.
        seconds: wall time.
    """

    bundle: Path
    digest: str
    graph: Path
    report_file: Path
    page: Path
    report: Mapping[str, Any]
    rejected: tuple[RejectedScan, ...]
    unchanged: bool
    unread: int
    seconds: float

    @property
    def complete(self) -> bool:
        """Whether every scan could be used."""
        return not self.rejected and not self.unread

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, as the command prints it."""
        names = ("summary", "data", "limits", "recommendation", "speed", "bytes", "notes")
        return {
            "bundle": str(self.bundle),
            "digest": self.digest,
            "graph": str(self.graph),
            "report": str(self.report_file),
            "page": str(self.page),
            "unchanged": self.unchanged,
            "seconds": round(self.seconds, 3),
            **{name: self.report[name] for name in names},
            "comparisons": [
                {"what": each["what"], "passed": each["verdict"]["passed"], "summary": each["verdict"]["summary"]}
                for each in self.report["comparisons"]
            ],
            "rejected": [{"name": scan.path.name, "code": scan.code} for scan in self.rejected],
            "unread": self.unread,
            "disclaimer": DISCLAIMER,
        }


def calibrate_bundle(
    scans: str | os.PathLike[str],
    bundle: str | os.PathLike[str] = DEFAULT_BUNDLE,
    *,
    precision: Precision | str = Precision.INT8,
    adapter: str | None = None,
    labels: str | os.PathLike[str] | None = None,
    limits: str | os.PathLike[str] | Mapping[Precision, ParityLimits] | None = None,
    ranges: RangeMethod | str | None = None,
    slices: int = 500,
    validation_scans: int | None = None,
    conv3d: bool = False,
    threads: int | None = None,
    expect_digest: str | None = None,
    trust: Sequence[StrPath] | None = None,
    progress: Progress = SILENT,
) -> CalibrationResult:
    """Find the largest set of 8-bit layers within the parity limits, and write the graph into the bundle.

    If no layer fits, the bundle does not change.

    Args:
        scans: a folder of DICOM or NIfTI head CT, at any depth; at least two scans.
        bundle: its folder; it needs a float32 graph.
        precision: ``int8``, or ``fp8`` (E4M3) for GPUs of compute capability 8.9 and newer.
        adapter: name of the bundle's adapter by which the int8 graph is judged, and which is recorded with it; None for
            the default. It must have as many experts and findings as the graphs take.
        labels: a CSV with labels of the scans; AUC is judged too then.
        limits: a TOML file, or parity limits by precision; None takes the defaults.
        ranges: the method that derives ranges from activations; None takes the least harmful one.
        slices: slices used to collect activation ranges.
        validation_scans: scans kept for judging; None takes 32 slices' worth or, with labels, half of the scans.
        conv3d: 3D convolutions may be quantised too.
        threads: CPU threads; None takes the cores that this process may use.
        expect_digest: refuse a bundle with another digest.
        trust: public keys (``.pub`` files of minisign), one of which must have signed the bundle's release; None for
            those that are configured on this machine.
        progress: receives events.

    Raises:
        CalibrationError: too few scans, no layer to quantise, or the bundle was altered meanwhile.
        ParityFailedError: no set of layers keeps the limits. The message names the worst findings and layers.
        BundleError: the bundle has no float32 graph, is altered, or has another digest.
        InUseError: another process writes the bundle.
        ConfigError: a setting or the file of limits is invalid.
        RunError: the labels can't be read, or name none of the scans.
        ScanError: there are no scans.
        MissingDependencyError: the extra ``export`` is not installed.
    """
    started = time.perf_counter()
    for name in ("onnx", "onnxruntime"):
        if importlib.util.find_spec(name) is None:
            raise MissingDependencyError("Calibration", name, "export")
    settings = CalibrationSettings(
        precision=_precision(precision),
        method=None if ranges is None else _method(ranges),
        slices=slices,
        validation_scans=validation_scans,
        conv3d=conv3d,
    )
    by_precision = limits_by_precision(limits, progress=progress)
    opened = Bundle.open(Path(bundle), expect_digest=expect_digest, trust=trust_of(trust)).select(adapter)
    if FILES[settings.precision].graph in opened.released:
        raise CalibrationError(
            f"{opened.folder}: its {settings.precision} graph is part of the signed release, and another would not be. "
            f"Use it as it is, or calibrate a bundle that was signed without one"
        )
    tensors = _whole_adapter(opened)
    root = Path(scans)
    found = find_apart(root)
    return calibrate(
        opened,
        found,
        settings,
        by_precision[settings.precision],
        labels=labels_of(None if labels is None else Path(labels), opened, found, root, progress.info),
        threads=threads,
        adapter=tensors,
        progress=progress,
        started=started,
    )


def _whole_adapter(bundle: Bundle) -> Tensors | None:
    """The chosen adapter's tensors; None where the graphs hold what was trained."""
    if bundle.using is None:
        return None
    facts, fit = bundle.adapter_facts(), bundle.using.fit
    if (fit.experts, fit.findings) != (facts.experts, facts.findings):
        raise CalibrationError(
            f"adapter {bundle.using.words} has {fit.experts} experts and {fit.findings} findings, and calibration "
            f"needs one of the graphs' own size, {facts.experts} and {facts.findings}. Name another with --adapter"
        )
    return fit_adapter(bundle.using, facts, bundle.graph(Precision.FP32).adapter_inputs).tensors


def calibrate(
    bundle: Bundle,
    scans: FoundScans,
    settings: CalibrationSettings,
    limits: ParityLimits,
    *,
    labels: LabelsOf = lambda source: None,
    threads: int | None = None,
    adapter: Tensors | None = None,
    progress: Progress = SILENT,
    started: float | None = None,
) -> CalibrationResult:
    """Calibrate an open bundle on scans that were found; see :func:`calibrate_bundle`.

    Args:
        bundle: has a float32 graph.
        scans: at least two.
        settings: of the calibration.
        limits: the parity limits.
        labels: gives the labels of a scan.
        threads: CPU threads; None takes the cores that this process may use.
        adapter: the trained tensors by which the graphs answer, if they take them as inputs.
        progress: receives events.
        started: by ``time.perf_counter``; None for now.
    """
    started = time.perf_counter() if started is None else started
    check_writable(bundle, settings.precision)
    with hold_bundle(bundle, "molre-edge calibrate"):
        inputs = hash_inputs(
            bundle, scans, settings, limits, labels=labels, threads=threads, adapter=adapter, progress=progress
        )
        report = cached_report(bundle, settings.precision, inputs.key)
        if report is not None:
            return _unchanged(inputs, report, started)
        prepared = prepare(inputs)
        candidate, trials = search(prepared)
        confirmed = confirm(prepared, candidate, trials)
        digest, report = keep(prepared, confirmed)
    return _result(inputs, digest, report, prepared.rejected, started)


def _unchanged(inputs: Inputs, report: Mapping[str, Any], started: float) -> CalibrationResult:
    """The result that the bundle has already."""
    warn_of_rejected(inputs.rejected, inputs.progress)
    used = sum(report["data"][f"{part}_scans"] for part in ("calibration", "validation", "unused"))
    unread = len(set(inputs.contents)) - int(used)  # a scan that failed on its content is hashed and not used
    if unread:
        inputs.progress.warn(f"{unread} of these scans could not be used when the result was made")
    return _result(inputs, inputs.bundle.digest, report, inputs.rejected, started, unchanged=True, unread=unread)


def _result(
    inputs: Inputs,
    digest: str,
    report: Mapping[str, Any],
    rejected: tuple[RejectedScan, ...],
    started: float,
    *,
    unchanged: bool = False,
    unread: int = 0,
) -> CalibrationResult:
    folder, files = inputs.bundle.folder, FILES[inputs.settings.precision]
    return CalibrationResult(
        bundle=folder,
        digest=digest,
        graph=folder / files.graph,
        report_file=folder / files.report,
        page=folder / files.page,
        report=report,
        rejected=rejected,
        unchanged=unchanged,
        unread=unread,
        seconds=time.perf_counter() - started,
    )


def _precision(word: Precision | str) -> Precision:
    try:
        return Precision(word)
    except ValueError:
        raise ConfigError(
            f"precision: '{word}' is unknown; expected {' or '.join(QUANTISED)}. Correct it, or leave it out"
        ) from None


def _method(word: RangeMethod | str) -> RangeMethod:
    try:
        return RangeMethod(word)
    except ValueError:
        raise ConfigError(
            f"ranges: '{word}' is unknown; expected {', '.join(map(str, RangeMethod))}. Correct it, or leave it out"
        ) from None
