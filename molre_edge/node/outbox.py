"""Sends reports: one thread a destination, through the store's queue, again and again until they are there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeAlias

from molre_edge.node.configuration import Destination
from molre_edge.node.entries import Delivery
from molre_edge.node.journal import Journal, place_of
from molre_edge.node.sending import Refused, open_sender
from molre_edge.node.store import Store
from molre_edge.node.web import Unreachable

__all__ = ["Outbox"]

_POLL_SECONDS = 0.2
Open: TypeAlias = Callable[[Destination], AbstractContextManager[Callable[[Path], None]]]


class Outbox:
    """A context manager: sends while it is entered."""

    def __init__(
        self, destinations: Sequence[Destination], store: Store, journal: Journal, open_it: Open = open_sender
    ) -> None:
        """Send nothing yet."""
        self._destinations, self._store, self._journal, self._open = destinations, store, journal, open_it
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Outbox:
        """Begin to send."""
        for each in self._destinations:
            thread = threading.Thread(target=self._run, args=(each,), name=f"outbox {each.name}", daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, *_: object) -> None:
        """Let what is being sent be finished; the rest stays in the queue."""
        self._stop.set()
        for thread, each in zip(self._threads, self._destinations, strict=True):
            thread.join(each.timeout_seconds)

    def _run(self, destination: Destination) -> None:
        failures = 0
        while not self._stop.is_set():
            try:
                busy, failures = self.send_due(destination), 0
            except Exception as error:  # a bug of ours, or the disk: the queue stays as it is
                self._journal.warn("outbox", destination=destination.name, error=place_of(error))
                self._stop.wait(_pause(destination, failures))  # what was sent but could not be noted is sent again
                failures += 1
            else:
                if not busy:
                    self._stop.wait(_POLL_SECONDS)

    def send_due(self, destination: Destination) -> bool:
        """Send what is due, over one connection; False if there was nothing or the destination was not reached.

        Raises:
            sqlite3.Error: what became of an object can't be noted.
        """
        due = self._store.due_deliveries(destination.name, destination.longest_retry_seconds)
        if not due:
            return False
        left = list(due)
        try:
            with self._open(destination) as send:
                while left and not self._stop.is_set():
                    self._send(destination, left[0], send)
                    left.pop(0)
        except Unreachable as error:
            self._journal.count("deliveries", f'destination="{destination.name}",what="unreachable"')
            self._journal.warn("unreachable", destination=destination.name, waiting=len(left), reason=str(error))
            for each in left:
                self._store.not_delivered(each, "waiting", str(error), _pause(destination, each.attempts))
            return False
        return True

    def _send(self, destination: Destination, delivery: Delivery, send: Callable[[Path], None]) -> None:
        facts = {
            "study": delivery.number, "version": delivery.version, "object": delivery.object,
            "destination": destination.name, "attempt": delivery.attempts + 1,
        }  # fmt: skip
        try:
            send(delivery.path)
        except Unreachable:
            raise
        except Exception as error:  # refused, or a file that is damaged or gone: the other objects go on
            why = str(error) if isinstance(error, Refused) else place_of(error)
            self._journal.count("deliveries", f'destination="{destination.name}",what="refused"')
            self._journal.warn("not_taken", **facts, reason=why)
            self._store.not_delivered(delivery, "refused", why, _pause(destination, delivery.attempts))
            return
        self._store.delivered(delivery)
        self._journal.count("deliveries", f'destination="{destination.name}",what="sent"')
        self._journal.tell("sent", **facts)


def _pause(destination: Destination, attempts: int) -> float:
    """Seconds until the next attempt after so many others: twice as long each time."""
    return min(destination.longest_retry_seconds, destination.retry_seconds * 2.0 ** min(attempts, 30))
