"""The node's database: SQLite, write-ahead log, synced at every commit. It holds ids, times and states, no names."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from molre_edge.errors import RunError

__all__ = ["VERSION", "open_database"]

VERSION = 1
"""Of the tables, in SQLite's ``user_version``."""

_TABLES = """
CREATE TABLE studies (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    first REAL NOT NULL,         -- time of the first image, seconds since 1970
    last REAL NOT NULL,          -- time of the last one, of those that came again too
    new_since REAL,              -- time of the first image that no report knows of; NULL: none
    attempts INTEGER NOT NULL DEFAULT 0,
    not_before REAL NOT NULL DEFAULT 0,
    problem TEXT NOT NULL DEFAULT ''
);
CREATE TABLE images (
    study TEXT NOT NULL,
    id TEXT NOT NULL,
    digest TEXT NOT NULL,        -- SHA-256 of the file
    bytes INTEGER NOT NULL,
    received REAL NOT NULL,
    present INTEGER NOT NULL,    -- 0: its file was removed, or lost
    PRIMARY KEY (study, id)
) WITHOUT ROWID;
CREATE TABLE reports (
    study TEXT NOT NULL,
    version INTEGER NOT NULL,
    images TEXT NOT NULL,        -- digest of the set of all images of the study that it knows of
    count INTEGER NOT NULL,
    outcome TEXT NOT NULL,       -- answered, unchanged, refused
    code TEXT NOT NULL,          -- why it was refused
    answered TEXT NOT NULL,      -- digest of the images that were read, and of what read them
    made REAL NOT NULL,
    PRIMARY KEY (study, version)
) WITHOUT ROWID;
CREATE TABLE deliveries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    study TEXT NOT NULL,
    version INTEGER NOT NULL,
    destination TEXT NOT NULL,
    object TEXT NOT NULL,        -- sr or capture
    state TEXT NOT NULL,         -- waiting, refused (and tried again), sent
    attempts INTEGER NOT NULL DEFAULT 0,
    next_try REAL NOT NULL,
    problem TEXT NOT NULL DEFAULT '',
    sent REAL
);
CREATE TABLE followed (url TEXT PRIMARY KEY, last INTEGER NOT NULL);  -- place in an Orthanc's feed of changes
CREATE INDEX deliveries_to_send ON deliveries (destination, next_try) WHERE state != 'sent';
CREATE INDEX deliveries_of_study ON deliveries (study);
CREATE INDEX studies_with_news ON studies (last) WHERE new_since IS NOT NULL;
CREATE INDEX studies_by_last ON studies (last);
CREATE INDEX images_gone ON images (study) WHERE present = 0;
"""


def open_database(path: Path) -> sqlite3.Connection:
    """Open the database, or make it.

    Raises:
        RunError: damaged, of another version, or not writable.
    """
    try:
        path.touch(mode=0o600)  # before SQLite makes it; the files beside it get the same mode
        database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30.0)
        database.row_factory = sqlite3.Row
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA secure_delete = ON")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version == 0:
            database.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {VERSION}; COMMIT;")
        elif version != VERSION:
            raise RunError(
                f"{path}: a database of version {version}, this molre-edge reads version {VERSION}. Use the release "
                "that wrote it until all its reports are delivered, then name an empty folder"
            )
        (state,) = database.execute("PRAGMA quick_check(1)").fetchone()
    except (OSError, sqlite3.Error) as error:
        raise RunError(f"{path}: the node's database can't be opened ({error})") from error
    if state != "ok":
        raise RunError(
            f"{path}: the node's database is damaged. Keep the folder for a look at it, name an empty one, and have "
            "the studies sent again"
        )
    return database
