"""Studies that wait for images refused for want of space: half a study is not answered as if it were whole."""

from __future__ import annotations

import sqlite3
import time

__all__ = ["NO_SPACE", "Held"]

_SECONDS = 900.0
"""A study waits so long after the last refusal, and is answered without the image then."""
NO_SPACE = "no_space"
"""Its problem meanwhile."""


class Held:
    """Which images each study waits for. The caller holds the store's lock, in a transaction."""

    def __init__(self) -> None:
        """Nothing was refused."""
        self._refused: dict[str, tuple[float, set[str]]] = {}

    def refuse(self, database: sqlite3.Connection, study: str, image: str) -> None:
        """Note that an image was refused. Its study may not be there yet."""
        now = time.time()
        kept = {name: each for name, each in self._refused.items() if now < each[0] <= now + _SECONDS}
        _, images = kept.get(study, (0.0, set()))
        self._refused = {**kept, study: (now + _SECONDS, images | {image})}
        self.arrived(database, study)

    def arrived(self, database: sqlite3.Connection, study: str, image: str = "") -> None:
        """Let a study go once all its refused images are there, or the time is over; else hold it back."""
        until, images = self._refused.get(study, (0.0, set()))
        images.discard(image)
        if images and until > time.time():
            hold = "UPDATE studies SET not_before = ?, problem = ? WHERE id = ? AND new_since IS NOT NULL"
            database.execute(hold, (until, NO_SPACE, study))
        elif until:
            del self._refused[study]
            release = "UPDATE studies SET not_before = 0, problem = '' WHERE id = ? AND problem = ?"
            database.execute(release, (study, NO_SPACE))
