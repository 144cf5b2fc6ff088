"""The engine is not kept waiting: neither by the disk, nor, where it streams, by its own last answer."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from molre_edge.engines.runner import RunResult
from molre_edge.runs.store import RunStore, Task

Run = Callable[..., Any]


def test_the_next_volume_is_with_the_engine_before_the_last_answers_are_stored(
    run: Run, tiny_scans: Path, altered: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    second, in_time = threading.Event(), list[bool]()

    def note(outputs: Any) -> Any:
        if noting.asked == 3:  # the warm-up, the first scan, and this one
            second.set()
        return outputs

    def late(self: RunStore, *values: Any) -> None:
        in_time.append(second.wait(20))
        add(self, *values)

    noting, add = altered(note), RunStore.add
    monkeypatch.setattr(RunStore, "add", late)
    assert len(run(tiny_scans, runner=noting).scans) == 4
    assert in_time == [True] * 4


class Streaming:
    """A real runner with two slots: it takes a volume before it answers the one before."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.events: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def run_stream(self, volumes: Iterable[np.ndarray]) -> Iterator[RunResult]:
        held: list[np.ndarray] = []
        for volume in volumes:
            self.events.append("taken")
            held.append(volume)
            if len(held) == 2:
                yield self._answer(held)
        while held:
            yield self._answer(held)

    def _answer(self, held: list[np.ndarray]) -> RunResult:
        self.events.append("answered")
        return self._inner.run(held.pop(0))  # type: ignore[no-any-return]


def test_a_runner_that_streams_gets_a_volume_before_it_has_answered_the_last_and_all_is_the_same(
    run: Run, tiny_scans: Path, runner: Any, tmp_path: Path, task: Task
) -> None:
    from molre_edge.runs.scan_ids import IdSecret

    secret, streaming = IdSecret.new(), Streaming(runner)
    plain = run(tiny_scans, RunStore.create(tmp_path / "plain", task, secret))
    stream = run(tiny_scans, RunStore.create(tmp_path / "stream", task, secret), runner=streaming)
    assert streaming.events == ["taken", "taken", "answered", "taken", "answered", "taken", "answered", "answered"]
    assert (plain.folder / "findings.csv").read_bytes() == (stream.folder / "findings.csv").read_bytes()


def test_the_report_says_who_waited_for_whom(run: Run, tiny_scans: Path) -> None:
    result = run(tiny_scans, readers=1)
    rows = {row["phase"]: row for row in json.loads((result.folder / "report.json").read_text())["timing"]}
    waited, idle = rows["engine_waited"]["total_s"], rows["reader_waited"]["total_s"]
    assert waited > 0 and idle >= 0
    sentence = f"The engine waited {waited:.1f} s for readers; readers were idle for {idle:.1f} s in all."
    assert sentence in (result.folder / "report.html").read_text()
