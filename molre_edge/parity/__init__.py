"""Parity: how far an engine is from the reference, and whether that is near enough.

Numbers (:func:`compare`), limits (:class:`ParityLimits`) and verdict (:func:`judge`) are three things. Arrays go in and
values come out: nothing here runs a model.
"""

from molre_edge.parity.attention import AttentionNumbers
from molre_edge.parity.auc import AucComparison, auc, compare_auc
from molre_edge.parity.comparison import compare
from molre_edge.parity.limits import DEFAULT_LIMITS, ParityLimits, limits_from, load_limits
from molre_edge.parity.numbers import (
    Differences,
    FindingNumbers,
    Flip,
    GateNumbers,
    LogitDifference,
    NonFinite,
    PairNumbers,
    ParityNumbers,
    WorstScan,
)
from molre_edge.parity.outputs import Outputs, ParityError, sigmoid
from molre_edge.parity.verdict import Check, Verdict, judge

__all__ = [
    "DEFAULT_LIMITS",
    "AttentionNumbers",
    "AucComparison",
    "Check",
    "Differences",
    "FindingNumbers",
    "Flip",
    "GateNumbers",
    "LogitDifference",
    "NonFinite",
    "Outputs",
    "PairNumbers",
    "ParityError",
    "ParityLimits",
    "ParityNumbers",
    "Verdict",
    "WorstScan",
    "auc",
    "compare",
    "compare_auc",
    "judge",
    "limits_from",
    "load_limits",
    "sigmoid",
]
