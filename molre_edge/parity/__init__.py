"""Parity: how far an engine is from the reference, and whether that is near enough.

Numbers (:func:`compare`), gate (:class:`Gate`) and verdict (:func:`judge`) are three things. Arrays in, values out:
nothing here runs a model.
"""

from molre_edge.parity.auc import AucComparison, auc, compare_auc
from molre_edge.parity.comparison import compare
from molre_edge.parity.limits import GATES, Gate, load_gates
from molre_edge.parity.numbers import (
    Differences,
    FindingNumbers,
    Flip,
    GateNumbers,
    NonFinite,
    PairNumbers,
    ParityNumbers,
    WorstScan,
)
from molre_edge.parity.outputs import Outputs, ParityError, sigmoid
from molre_edge.parity.verdict import Check, Verdict, judge

__all__ = [
    "GATES",
    "AucComparison",
    "Check",
    "Differences",
    "FindingNumbers",
    "Flip",
    "Gate",
    "GateNumbers",
    "NonFinite",
    "Outputs",
    "PairNumbers",
    "ParityError",
    "ParityNumbers",
    "Verdict",
    "WorstScan",
    "auc",
    "compare",
    "compare_auc",
    "judge",
    "load_gates",
    "sigmoid",
]
