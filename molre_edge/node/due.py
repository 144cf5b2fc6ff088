"""Which study is answered next: in the order of attempts, then of their last image."""

from __future__ import annotations

import sqlite3

__all__ = ["first", "pause_after", "set_clock"]

_PAUSES_SECONDS = (0.0, 0.0, 10.0, 60.0, 300.0, 1800.0, 3600.0)
"""Before an attempt at a study, by the number of attempts that ended without an answer; then always the last."""


def pause_after(attempts: int) -> float:
    """Seconds until the next attempt, after so many."""
    return _PAUSES_SECONDS[min(attempts, len(_PAUSES_SECONDS) - 1)]


def set_clock(database: sqlite3.Connection, now: float) -> None:
    """Bring times of studies that lie ahead back to now: a clock that was set back would keep them waiting."""
    database.execute(
        "UPDATE studies SET last = min(last, ?1), new_since = min(new_since, ?1) "
        "WHERE new_since IS NOT NULL AND (last > ?1 OR new_since > ?1)",
        (now,),
    )


def first(
    database: sqlite3.Connection, now: float, quiet_seconds: float, longest_seconds: float, besides: str = ""
) -> sqlite3.Row | None:
    """The row of the study whose turn it is; None if none is due.

    Args:
        database: of the node; the caller holds the store's lock.
        now: seconds since 1970.
        quiet_seconds: nothing came for so long,
        longest_seconds: or the first new image came before so long.
        besides: id of a study that is not looked at.
    """
    row: sqlite3.Row | None = database.execute(
        "SELECT * FROM studies AS s WHERE new_since IS NOT NULL AND (last <= ? OR new_since <= ?) AND "
        "(not_before <= ? OR not_before > ?) AND id != ? AND "
        "NOT EXISTS (SELECT 1 FROM images WHERE study = s.id AND present = 0) ORDER BY attempts, last, number LIMIT 1",
        (now - quiet_seconds, now - longest_seconds, now, now + max(_PAUSES_SECONDS), besides),
    ).fetchone()
    return row
