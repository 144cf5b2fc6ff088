"""What the node says and counts: one line an event, without names, UIDs, dates of birth or paths."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from datetime import datetime, timezone

from molre_edge.progress import Progress

__all__ = ["Journal", "place_of"]


class Journal:
    """Writes lines to a progress and counts. May be used from any thread.

    A line is ``TIME EVENT key=value ...``. Values are numbers, words of ours, and names of the configuration. A line
    that can't be written (the log's disk is full, its reader is gone) is left out, and the node goes on.

    Attributes:
        begun: when it was made, seconds since 1970.
    """

    def __init__(self, progress: Progress) -> None:
        """Begin to count."""
        self._progress, self._lock = progress, threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._troubles: dict[str, str] = {}
        self.begun = time.time()

    def tell(self, event: str, **values: object) -> None:
        """Something happened as it should."""
        with contextlib.suppress(OSError, ValueError):  # ValueError: the stream is closed
            self._progress.info(_line(event, values))

    def warn(self, event: str, **values: object) -> None:
        """Something that somebody should look at."""
        with contextlib.suppress(OSError, ValueError):
            self._progress.warn(_line(event, values))

    def count(self, name: str, label: str = "", by: float = 1) -> None:
        """Count something, for Prometheus.

        Args:
            name: of the counter, without prefix and unit's ``_total``.
            label: what sets it apart, such as ``outcome="answered"``.
            by: how much.
        """
        with self._lock:
            self._counts[name, label] += by  # type: ignore[assignment]  # seconds are counted too

    def trouble(self, what: str, text: str = "") -> None:
        """Note what lasts, for health.

        Args:
            what: has it, such as ``orthanc``.
            text: a few words without identifiers; empty where it is over.
        """
        with self._lock:
            self._troubles.pop(what, None)
            if text:
                self._troubles[what] = text

    def troubles(self) -> list[str]:
        """What lasts now, each as ``what: text``."""
        with self._lock:
            return [f"{what}: {text}" for what, text in self._troubles.items()]

    def counts(self) -> dict[tuple[str, str], float]:
        """What was counted since the start, by name and label."""
        with self._lock:
            return dict(self._counts)


def place_of(error: BaseException) -> str:
    """Type of an error and where in our code it came from; not its words, which may quote a header."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        name = trace.tb_frame.f_globals.get("__name__", "")
        if name.startswith("molre_edge"):
            place = f"@{name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(error).__name__}{place}"


def _line(event: str, values: dict[str, object]) -> str:
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return " ".join([now, event, *(f"{key}={_word(value)}" for key, value in values.items() if value is not None)])


def _word(value: object) -> str:
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    return f'"{text}"' if " " in text or not text else text
