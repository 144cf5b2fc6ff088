"""The path of the record of verified engines, under its former name."""

from __future__ import annotations

from molre_edge.verification.passed import record_path

__all__ = ["record_path"]
