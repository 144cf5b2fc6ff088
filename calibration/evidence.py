"""The volumes on which graphs are compared, and the reference's answers to them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
import numpy.typing as npt

from molre_edge.adapters.tensors import Tensors
from molre_edge.bundle.bundle import Bundle
from molre_edge.calibration.samples import VALIDATION_SLICES, Sample, VolumeReader
from molre_edge.engines.onnxruntime_runner import OnnxRuntimeRunner
from molre_edge.parity import Outputs
from molre_edge.specs import Precision

__all__ = ["BOTH", "GOLDEN", "STAND_IN", "Evidence", "EvidenceSets", "answers"]

GOLDEN = "the bundle's golden answers"
STAND_IN = "the float32 graph"
BOTH = f"{GOLDEN} and, for the scans, {STAND_IN}"
_MEASURED_GOLDEN_SLICES = 8  # slices' worth of golden volumes that a measurement of sensitivity uses beside the scans


def answers(
    raw: bytes,
    volumes: Iterable[npt.NDArray[np.float16]],
    *,
    precision: Precision,
    optimise: bool = False,
    threads: int | None = None,
    adapter: Tensors | None = None,
) -> Outputs:
    """A graph's answers on the CPU, one volume at a time.

    Args:
        raw: the graph's file, of any precision.
        volumes: float16 HU [1, slices, rows, cols] each.
        precision: of the graph.
        optimise: False runs the graph node by node as it is written, so that Q/DQ round as they say; True runs it as
            users do.
        threads: CPU threads of ONNX Runtime.
        adapter: the trained tensors, for a graph that takes them as inputs.
    """
    with OnnxRuntimeRunner(
        raw, precision, optimise=optimise, cpu_only=True, threads=threads, adapter=adapter
    ) as runner:
        return Outputs.stack([runner.run(volume).outputs for volume in volumes])


@dataclass(frozen=True, eq=False)
class Evidence:
    """Volumes, read as often as needed, with the reference's answers and labels.

    Attributes:
        volumes: yields float16 HU [1, slices, rows, cols].
        reference: the answers to compare with.
        labels: float64 [n, findings], NaN if unknown; None without any label.
    """

    volumes: Callable[[], Iterable[npt.NDArray[np.float16]]]
    reference: Outputs
    labels: npt.NDArray[np.float64] | None = None

    def run(
        self,
        raw: bytes,
        *,
        precision: Precision,
        optimise: bool,
        threads: int | None,
        adapter: Tensors | None = None,
    ) -> Outputs:
        """A graph's answers to these volumes; see :func:`answers`."""
        return answers(raw, self.volumes(), precision=precision, optimise=optimise, threads=threads, adapter=adapter)


class EvidenceSets:
    """The sets of volumes of a calibration, from a few for each measurement to all scans.

    Attributes:
        reader: reads the scans.
        first_scans: the first scans kept for judging, float16 HU [n, slices, rows, cols].
        validation: scans kept for judging.
        others: the other scans: those that gave the ranges, and unused ones.
        measured: for a measurement of sensitivity.
        searched: for a judgement in the search.
        seconds_read: time to read one scan.
        seconds_load: time to load the float32 graph.
        seconds_fp32: time of the float32 graph's answer to one volume.
    """

    def __init__(
        self,
        bundle: Bundle,
        fp32: bytes,
        validation: Sequence[Sample],
        others: Sequence[Sample],
        *,
        threads: int | None = None,
        adapter: Tensors | None = None,
    ) -> None:
        """Read the golden volumes and the first scans, and run the float32 graph on those scans.

        Args:
            bundle: gives golden volumes and answers.
            fp32: the file of its float32 graph.
            validation: scans kept for judging; at least one.
            others: all other scans.
            threads: CPU threads of ONNX Runtime.
            adapter: the trained tensors, for a graph that takes them as inputs.
        """
        self._adapter = adapter
        self.validation, self.others = tuple(validation), tuple(others)
        self._fp32, self._threads, self._findings = fp32, threads, len(bundle.findings)
        self.golden = bundle.golden()
        self.reader = VolumeReader(bundle.grid)
        slices = bundle.grid.slices
        few = self.validation[: max(1, VALIDATION_SLICES // slices)]
        start = time.perf_counter()
        self.first_scans: npt.NDArray[np.float16] = np.concatenate(list(self.reader.read(few)))
        self.seconds_read = (time.perf_counter() - start) / len(few)
        reference = self._time_fp32()
        self.measured = self._first(max(1, _MEASURED_GOLDEN_SLICES // slices), reference)
        self.searched = self._first(max(2, VALIDATION_SLICES // slices), reference)

    @property
    def labelled(self) -> bool:
        """Whether a scan kept for judging has labels."""
        return any(sample.labels is not None for sample in self.validation)

    @cached_property
    def held_out(self) -> Evidence:
        """All golden volumes, then all scans kept for judging: everything that gave no ranges."""
        golden = self.golden
        reference = Outputs.stack([golden.outputs, self._answers_of_fp32(self.validation)])
        labels = self._labels(self.validation)
        if labels is not None:
            labels = np.concatenate([np.full(golden.outputs.logits.shape, np.nan), labels])
        return Evidence(
            lambda: chain(_one_by_one(golden.volumes), self.reader.read(self.validation)), reference, labels
        )

    @cached_property
    def rest(self) -> Evidence:
        """The other scans. The search does not judge on them; the confirmation does."""
        return Evidence(lambda: self.reader.read(self.others), self._answers_of_fp32(self.others))

    def every_scan(self, held_out: Outputs, rest: Outputs | None) -> tuple[Evidence, Outputs]:
        """All scans of the folder, each as often as the folder has it, and a graph's answers to them.

        Args:
            held_out: the graph's answers to :attr:`held_out`.
            rest: its answers to :attr:`rest`; None if there are no other scans.
        """
        scans = range(len(self.golden.volumes), len(held_out))
        made, reference = held_out.take(scans), self.held_out.reference.take(scans)
        if rest is not None:
            made, reference = Outputs.stack([made, rest]), Outputs.stack([reference, self.rest.reference])
        samples = (*self.validation, *self.others)
        every = [place for place, sample in enumerate(samples) for _ in range(sample.copies)]
        labels = self._labels(samples)
        evidence = Evidence(
            lambda: chain(self.held_out.volumes(), self.rest.volumes()),
            reference.take(every),
            None if labels is None else labels[every],
        )
        return evidence, made.take(every)

    def _first(self, golden_volumes: int, scans: Outputs) -> Evidence:
        """The first golden volumes, then the first scans."""
        golden = self.golden
        first = range(min(golden_volumes, len(golden.outputs)))
        reference = Outputs.stack([golden.outputs.take(first), scans]) if first else scans
        return Evidence(
            lambda: chain(_one_by_one(golden.volumes[: len(first)]), _one_by_one(self.first_scans)), reference
        )

    def _time_fp32(self) -> Outputs:
        """The float32 graph's answers to the first scans; keeps the times of loading and of one volume."""
        start = time.perf_counter()
        with OnnxRuntimeRunner(
            self._fp32, Precision.FP32, cpu_only=True, threads=self._threads, adapter=self._adapter
        ) as runner:
            self.seconds_load = time.perf_counter() - start
            results = [runner.run(volume) for volume in _one_by_one(self.first_scans)]
        self.seconds_fp32 = min(result.milliseconds["compute"] for result in results) / 1e3  # the first is cold
        return Outputs.stack([result.outputs for result in results])

    def _answers_of_fp32(self, scans: Sequence[Sample]) -> Outputs:
        volumes = self.reader.read(scans)
        return answers(
            self._fp32,
            volumes,
            precision=Precision.FP32,
            optimise=True,
            threads=self._threads,
            adapter=self._adapter,
        )

    def _labels(self, samples: Sequence[Sample]) -> npt.NDArray[np.float64] | None:
        if all(sample.labels is None for sample in samples):
            return None
        unknown = np.full(self._findings, np.nan)
        return np.stack([unknown if sample.labels is None else sample.labels for sample in samples])


def _one_by_one(batch: npt.NDArray[np.float16]) -> Iterable[npt.NDArray[np.float16]]:
    return (batch[i : i + 1] for i in range(len(batch)))
