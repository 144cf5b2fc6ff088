"""The work of a calibration, counted before it starts, and the time that it is expected to take."""

from __future__ import annotations

from dataclasses import dataclass

from molre_edge.calibration.evidence import EvidenceSets

__all__ = ["Work", "count_work"]

_COLLECTING = 1.5  # collecting the ranges of a volume takes as long as this many float32 answers
_QDQ_EXACT, _QDQ_AS_USED = 1.5, 2.5  # an 8-bit answer per float16 one node by node and per float32 one, on small models
_USES = 4  # of each scan: for the ranges, for the reference and twice in the confirmation


@dataclass(frozen=True)
class Work:
    """How often a graph is loaded and a volume goes through one.

    Attributes:
        loads: graphs that are loaded.
        collected: volumes that the ranges are collected from.
        fp32: answers of the float32 graph.
        exact: answers of 8-bit graphs node by node.
        as_used: answers of 8-bit graphs as ONNX Runtime runs them.
        reads: scans read from disk.
    """

    loads: int
    collected: int
    fp32: int
    exact: int
    as_used: int
    reads: int

    def seconds(self, evidence: EvidenceSets, seconds_exact: float) -> float:
        """The expected time.

        Args:
            evidence: with the times of the float32 graph.
            seconds_exact: time of the float16 graph's answer to one volume, node by node.
        """
        return (
            self.loads * evidence.seconds_load
            + (self.fp32 + _COLLECTING * self.collected) * evidence.seconds_fp32
            + _QDQ_EXACT * self.exact * seconds_exact
            + _QDQ_AS_USED * self.as_used * evidence.seconds_fp32
            + self.reads * evidence.seconds_read
        )


def count_work(evidence: EvidenceSets, *, collected: int, measured: int, judged: int) -> Work:
    """The work of a search and of one confirmation after it, at most.

    Args:
        evidence: the volumes.
        collected: scans that give the ranges.
        measured: graphs whose sensitivity is measured.
        judged: graphs that are judged: in both modes and, with labels, on everything that gave no ranges.
    """
    golden, scans, others = len(evidence.golden.volumes), len(evidence.validation), len(evidence.others)
    few, everything = len(evidence.searched.reference), golden + scans + others
    held_out = golden + scans if evidence.labelled else 0
    return Work(
        loads=1 + measured + (3 if evidence.labelled else 2) * judged + 4,
        collected=collected,
        fp32=scans + others,
        exact=measured * len(evidence.measured.reference) + judged * (few + held_out) + everything,
        as_used=judged * few + everything,
        reads=evidence.reader.reads(scans + others, _USES + (judged if evidence.labelled else 0)),
    )
