"""Findings per scan, for people (CSV) and programs (JSON lines)."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from molre_edge.files import write_whole
from molre_edge.findings import POSITIVE_COLUMN, SCAN_COLUMN
from molre_edge.runs.scan_findings import ScanFindings
from molre_edge.runs.scan_table import csv_line
from molre_edge.specs import DISCLAIMER

__all__ = ["FindingsWriter"]


class FindingsWriter:
    """A context manager that writes ``findings.csv`` and ``findings.jsonl`` scan by scan, each whole or not at all.

    The CSV has a row a scan and a probability a finding. An answer that is not a number is empty in the CSV and
    ``null`` in the JSON: neither yes nor no.
    """

    def __init__(self, folder: Path, names: Sequence[str], *, facts: Mapping[str, str]) -> None:
        """Write nothing yet.

        Args:
            folder: of the run.
            names: of the findings, in the model's order.
            facts: what each line says of its origin: the runner's name, the bundle's digest, the adapter.
        """
        self._folder, self._names, self._facts = folder, names, dict(facts)
        self._stack = contextlib.ExitStack()
        self._table: IO[str]
        self._lines: IO[str]

    def __enter__(self) -> FindingsWriter:
        """Open both files under temporary names."""
        with contextlib.ExitStack() as stack:
            self._table, self._lines = (
                stack.enter_context(
                    stack.enter_context(write_whole(self._folder / name)).open("w", encoding="utf-8", newline="")
                )
                for name in ("findings.csv", "findings.jsonl")
            )
            self._table.write(csv_line([SCAN_COLUMN, POSITIVE_COLUMN, *self._names]))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put both files into their places; after an error, remove them."""
        self._stack.__exit__(kind, error, trace)

    def add(self, scan: ScanFindings) -> None:
        """Write the next scan."""
        probabilities = [scan.findings[name].probability for name in self._names]
        cells = [scan.scan, " ".join(scan.positive), *("" if p is None else f"{p:.6f}" for p in probabilities)]
        self._table.write(csv_line(cells))
        content = scan.to_dict()
        line = {"scan": content.pop("scan"), **self._facts, **content}
        self._lines.write(f"{json.dumps({**line, 'disclaimer': DISCLAIMER}, allow_nan=False)}\n")
