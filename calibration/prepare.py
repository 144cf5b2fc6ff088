"""Phase 1, prepare: scans, layers, the evaluator and the activation ranges."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from molre_edge.adapters.tensors import Tensors
from molre_edge.bundle.bundle import Bundle
from molre_edge.calibration.activation_ranges import ActivationRange, clipping_values, collect_ranges
from molre_edge.calibration.evaluator import Evaluator
from molre_edge.calibration.layers import Layer, find_layers
from molre_edge.calibration.multiply_adds import count_multiply_adds
from molre_edge.calibration.number_format import NumberFormat
from molre_edge.calibration.quantised_graph import MIN_SCALE
from molre_edge.calibration.result_files import result_key
from molre_edge.calibration.samples import (
    MAX_SCANS,
    LabelsOf,
    Split,
    content_of,
    describe_scans,
    select_scans,
    split_scans,
)
from molre_edge.calibration.settings import CalibrationSettings
from molre_edge.errors import CalibrationError, ScanError
from molre_edge.parity import ParityLimits
from molre_edge.progress import Progress
from molre_edge.scans import FoundScans, RejectedScan, ScanSource
from molre_edge.specs import RangeMethod

__all__ = ["Inputs", "Prepared", "hash_inputs", "normal_clipping", "prepare", "warn_of_rejected"]

_AUC = {"mean_auc_drop", "finding_auc_drop"}


@dataclass(frozen=True, eq=False)
class Inputs:
    """The inputs of a calibration, hashed.

    Attributes:
        bundle: has a float32 graph.
        settings: of the calibration.
        limits: the parity limits.
        sources: scans, in an order that depends only on their content.
        contents: SHA-256 of each.
        labels: gives the labels of a scan.
        rejected: scans that can't be used.
        key: SHA-256 of everything that the result depends on.
        threads: CPU threads; None takes the cores that this process may use.
        progress: receives events.
        adapter: the trained tensors by which the graphs answer, if they take them as inputs.
    """

    bundle: Bundle
    settings: CalibrationSettings
    limits: ParityLimits
    sources: tuple[ScanSource, ...]
    contents: tuple[str, ...]
    labels: LabelsOf
    rejected: tuple[RejectedScan, ...]
    key: str
    threads: int | None
    progress: Progress
    adapter: Tensors | None = None


@dataclass(frozen=True, eq=False)
class Prepared:
    """What the search and the confirmation need.

    Attributes:
        inputs: of the calibration.
        rejected: scans that can't be used, those included that failed on their content.
        split: the scans for the ranges, for judging, and the unused ones.
        evaluator: measures and judges graphs.
        all_layers: every product with a constant weight.
        layers: those that may be quantised.
        clipping: by method of ranges: the absolute value that becomes the format's largest number, by activation.
        seconds_exact: time of the float16 graph's answer to one volume, node by node.
        multiply_adds: of one volume, by product.
    """

    inputs: Inputs
    rejected: tuple[RejectedScan, ...]
    split: Split
    evaluator: Evaluator
    all_layers: tuple[Layer, ...]
    layers: tuple[Layer, ...]
    clipping: Mapping[RangeMethod, Mapping[str, float]]
    seconds_exact: float
    multiply_adds: Mapping[str, int]

    @property
    def word(self) -> str:
        """The 8-bit format in texts, such as ``INT8``."""
        return self.inputs.settings.number_format.word

    @property
    def progress(self) -> Progress:
        """Receives events."""
        return self.inputs.progress

    def measure(self, layers: Sequence[Layer], method: RangeMethod) -> float:
        """The sensitivity to 8 bits in some layers alone."""
        return self.evaluator.measure(layers, self.clipping[method])


def hash_inputs(
    bundle: Bundle,
    scans: FoundScans,
    settings: CalibrationSettings,
    limits: ParityLimits,
    *,
    labels: LabelsOf = lambda source: None,
    threads: int | None = None,
    adapter: Tensors | None = None,
    progress: Progress,
) -> Inputs:
    """Choose the scans to use, hash them, and compute the key of the result.

    Args:
        bundle: has a float32 graph.
        scans: all scans of the folder.
        settings: of the calibration.
        limits: the parity limits.
        labels: gives the labels of a scan.
        threads: CPU threads; None takes the cores that this process may use.
        adapter: the trained tensors by which the graphs answer, if they take them as inputs.
        progress: receives events.
    """
    if len(scans.scans) > MAX_SCANS:
        progress.warn(f"the folder has {len(scans.scans)} scans; {MAX_SCANS} are used, those with labels first")
    rejected = list(scans.rejected)
    sources = select_scans(scans, labels)
    progress.step("hashing the scans")
    hashed: list[tuple[str, ScanSource]] = []
    for done, source in enumerate(sources, start=1):
        try:
            hashed.append((content_of(source), source))
        except ScanError as error:
            rejected.append(RejectedScan(source.path, error.code, str(error)))
        progress.count(done, len(sources), "scans")
    hashed.sort(key=lambda pair: pair[0])
    contents = tuple(content for content, _ in hashed)
    sources = tuple(source for _, source in hashed)
    key = result_key(bundle, contents, [labels(source) for source in sources], settings, limits, adapter)
    return Inputs(bundle, settings, limits, sources, contents, labels, tuple(rejected), key, threads, progress, adapter)


def prepare(inputs: Inputs) -> Prepared:
    """Run the phase.

    Raises:
        CalibrationError: too few scans, no layer to quantise, or limits that can't be judged on these scans.
        BundleError: the bundle has no float32 graph, or was altered.
    """
    bundle, settings, progress = inputs.bundle, inputs.settings, inputs.progress
    progress.step("reading the scans")
    samples, unreadable = describe_scans(
        inputs.sources,
        inputs.contents,
        bundle.grid,
        labels=inputs.labels,
        on_scan=_counter(progress, len(inputs.sources)),
    )
    rejected = (*inputs.rejected, *unreadable)
    warn_of_rejected(rejected, progress)
    split = split_scans(samples, settings, bundle.grid.slices)
    _warn_of_few_scans(split, settings, bundle.grid.slices, progress)
    progress.step("answers of the float32 graph")
    evaluator = Evaluator(bundle, split, inputs.limits, settings, threads=inputs.threads, adapter=inputs.adapter)
    _check_limits(evaluator, split, progress)
    number_format = settings.number_format
    all_layers = find_layers(evaluator.model, evaluator.traces, conv3d=settings.conv3d, number_format=number_format)
    layers = _quantisable(all_layers, bundle, number_format)
    progress.step("activation ranges")
    ranges = collect_ranges(
        evaluator.model,
        sorted({layer.activation for layer in layers}),
        evaluator.evidence.reader.read(split.calibration),
        slices=bundle.grid.slices,
        threads=inputs.threads,
        adapter=inputs.adapter,
        on_scan=_counter(progress, len(split.calibration)),
    )
    all_layers = tuple(_exclude_small(layer, ranges, number_format) for layer in all_layers)
    methods = number_format.methods if settings.method is None else (settings.method,)
    return Prepared(
        inputs=inputs,
        rejected=rejected,
        split=split,
        evaluator=evaluator,
        all_layers=all_layers,
        layers=_quantisable(all_layers, bundle, number_format),
        clipping={
            method: normal_clipping(clipping_values(ranges, method, number_format), number_format) for method in methods
        },
        seconds_exact=evaluator.time_exact(),
        multiply_adds=count_multiply_adds(
            evaluator.model, evaluator.evidence.first_scans[:1], threads=inputs.threads, adapter=inputs.adapter
        ),
    )


def warn_of_rejected(rejected: Sequence[RejectedScan], progress: Progress) -> None:
    """Warn of each scan that can't be used, by the last part of its path."""
    for scan in rejected:
        progress.warn(f"{scan.path.name} can't be used: {scan.reason}")


def normal_clipping(clipping: Mapping[str, float], number_format: NumberFormat) -> dict[str, float]:
    """Clipping values whose scale is a normal float16 number; no value of these layers is clipped by that."""
    return {name: max(value, MIN_SCALE * number_format.largest) for name, value in clipping.items()}


def _counter(progress: Progress, total: int) -> Callable[[], None]:
    """A function that reports one more scan at each call."""
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        progress.count(done, total, "scans")

    return count


def _warn_of_few_scans(split: Split, settings: CalibrationSettings, slices: int, progress: Progress) -> None:
    available = len(split.calibration) * slices
    if available < settings.slices:
        progress.warn(
            f"the activation ranges come from only {available} slices of {len(split.calibration)} scans; "
            f"{settings.slices} are advised. Values beyond these ranges are clipped"
        )
    if settings.validation_scans is not None and len(split.validation) < settings.validation_scans:
        progress.warn(
            f"{len(split.validation)} scans are kept for judging instead of {settings.validation_scans}: at most half "
            f"of all scans are"
        )


def _check_limits(evaluator: Evaluator, split: Split, progress: Progress) -> None:
    """Refuse limits by which nothing could fail on these scans, and warn of labels that can't be used."""
    verdict = evaluator.judge_reference()
    missing = {check.name: f"{check.name} {check.text}" for check in verdict.not_judged if check.limit is not None}
    if not verdict.passed:
        raise CalibrationError(
            f"none of the limits '{evaluator.limits.name}' can be judged on these scans "
            f"({'; '.join(missing.values())}). Set other limits with --limits, or give --labels"
        )
    if any(sample.labels is not None for sample in split.validation) and missing.keys() & _AUC:
        unused = "; ".join(missing[name] for name in sorted(missing.keys() & _AUC))
        progress.warn(f"the labels can't be used: {unused}")


def _quantisable(layers: Sequence[Layer], bundle: Bundle, number_format: NumberFormat) -> tuple[Layer, ...]:
    chosen = tuple(layer for layer in layers if not layer.excluded)
    if not chosen:
        reasons = "; ".join(sorted({layer.excluded for layer in layers}))
        raise CalibrationError(
            f"{bundle.folder}: no layer of its float32 graph can be {number_format.word} ({reasons}). Keep "
            f"--engine fp16"
        )
    return chosen


def _exclude_small(layer: Layer, ranges: Mapping[str, ActivationRange], number_format: NumberFormat) -> Layer:
    """Exclude a layer whose values are too small for a float16 scale."""
    if layer.excluded or ranges[layer.activation].largest / number_format.largest >= MIN_SCALE:
        return layer
    least = MIN_SCALE * number_format.largest
    return replace(layer, excluded=f"its values stay below {least:.2g}: the scale would be subnormal in float16")
