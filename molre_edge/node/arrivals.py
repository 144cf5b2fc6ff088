"""Which images are just being written."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

__all__ = ["Arrivals"]


class Arrivals:
    """Keeps threads apart that write the same image, and those that remove a study from those that write one."""

    def __init__(self) -> None:
        """Nothing arrives yet."""
        self._arriving: set[tuple[str, str]] = set()
        self._arrived = threading.Condition()

    @contextlib.contextmanager
    def alone(self, study: str, image: str) -> Iterator[None]:
        """One thread at a time for one image."""
        key = study, image
        with self._arrived:
            self._arrived.wait_for(lambda: key not in self._arriving)
            self._arriving.add(key)
        try:
            yield
        finally:
            with self._arrived:
                self._arriving.discard(key)
                self._arrived.notify_all()

    @contextlib.contextmanager
    def none(self, study: str) -> Iterator[bool]:
        """Whether no image of a study is just being written; none begins while the block runs."""
        with self._arrived:
            yield all(study != arriving for arriving, _ in self._arriving)
