"""Removes what was delivered and is older than the configuration keeps it."""

from __future__ import annotations

import sqlite3
import time

from molre_edge.node.configuration import Keep
from molre_edge.node.journal import Journal, place_of
from molre_edge.node.store import Store

__all__ = ["Keeper"]

_EVERY_SECONDS = 60.0


class Keeper:
    """Looks once a minute."""

    def __init__(self, keep: Keep, store: Store, journal: Journal) -> None:
        """Look at the first :meth:`step`."""
        self._keep, self._store, self._journal = keep, store, journal
        self._next = 0.0

    def step(self) -> None:
        """Remove what is old, if it is time to look."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _EVERY_SECONDS
        now = time.time()
        try:
            images = self._store.remove_images(now - self._keep.images_hours * 3600)
            studies = self._store.forget(now - self._keep.reports_days * 86400)
        except (OSError, sqlite3.Error) as error:
            self._journal.warn("keeping", error=place_of(error))
            return
        if images or studies:
            self._journal.tell("removed", images=images or None, studies=studies or None)
