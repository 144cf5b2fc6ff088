"""What a node has: images, studies, reports, deliveries. Every change is one synced transaction.

An image counts once its row is there. Its file is written and synced first, so a row without a file can't come from a
crash; files without a row are removed when the store is opened: their senders were never told of success.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from molre_edge.node import due
from molre_edge.node.arrivals import Arrivals
from molre_edge.node.durable import PARTIAL, check_links, place_folder, sync_folder, write_durable
from molre_edge.node.entries import Ahead, Conclusion, Delivery, Job, Received
from molre_edge.node.holding import Held
from molre_edge.node.ids import Ids, set_digest
from molre_edge.node.recovery import recover
from molre_edge.node.schema import open_database

__all__ = ["Store"]


class Store:
    """A node's folder; the caller holds its lock. All methods may be called from any thread."""

    def __init__(self, folder: Path) -> None:
        """Open or make it, and put in order what a crash left.

        Raises:
            RunError: the database or the secret can't be used, or the folder's file system makes no hard links.
            OSError: the folder can't be written to.
        """
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder = folder
        for partial in folder.glob(f".*{PARTIAL}"):
            partial.unlink()
        check_links(folder)
        self.ids = Ids(folder)
        self._images, self._jobs, self._reports = (folder / name for name in ("images", "jobs", "reports"))
        self._lock = threading.RLock()
        self._arrivals = Arrivals()
        self._held = Held()
        self._database = open_database(folder / "node.sqlite3")
        sync_folder(folder)
        self.lost = recover(self._rows, self._change, self._images, self._jobs, self._reports)

    def close(self) -> None:
        """Close the database. What is committed is on the disk already."""
        with self._lock:
            self._database.close()

    # Images

    def receive(self, study_uid: str, sop_uid: str, content: bytes) -> tuple[str, Received]:
        """Keep an image; once this returns it survives a loss of power.

        Args:
            study_uid: Study Instance UID.
            sop_uid: SOP Instance UID.
            content: a DICOM file.

        Returns:
            The study's id, and what the image was.

        Raises:
            OSError, sqlite3.Error: it can't be written. Nothing of it is left.
        """
        study, image = self.ids.study(study_uid), self.ids.instance(sop_uid)
        digest = hashlib.sha256(content).hexdigest()
        with self._arrivals.alone(study, image):
            known = self._row("SELECT digest, present FROM images WHERE study = ? AND id = ?", study, image)
            if known is not None and known["present"]:
                with self._change() as database:
                    database.execute("UPDATE studies SET last = ? WHERE id = ?", (time.time(), study))
                    self._held.arrived(database, study, image)
                return study, "again" if known["digest"] == digest else "differs"
            path = self._image(study, image)
            if not path.parent.is_dir():
                path.parent.mkdir(exist_ok=True, mode=0o700)
                sync_folder(self._images)
            write_durable(path, content)
            try:
                self._note_image(study, image, digest, len(content), new=known is None)
            except sqlite3.Error:
                path.unlink(missing_ok=True)
                raise
            return study, "new" if known is None else "again"

    def _note_image(self, study: str, image: str, digest: str, size: int, *, new: bool) -> None:
        now = time.time()
        with self._change() as database:
            since = "ifnull(new_since, ?1)" if new else "new_since"
            change = f"UPDATE studies SET last = ?1, new_since = {since} WHERE id = ?2"
            if not database.execute(change, (now, study)).rowcount:  # an upsert would use up numbers
                insert = "INSERT INTO studies (id, first, last, new_since) VALUES (?, ?, ?, ?)"
                database.execute(insert, (study, now, now, now))
            database.execute(
                "INSERT INTO images VALUES (?, ?, ?, ?, ?, 1) "
                "ON CONFLICT (study, id) DO UPDATE SET digest = excluded.digest, bytes = excluded.bytes, present = 1",
                (study, image, digest, size, now),
            )
            self._held.arrived(database, study, image)

    def refuse(self, study_uid: str, sop_uid: str) -> None:
        """Note that an image was refused for want of space: its study waits for it, but not for longer than some time.

        Args:
            study_uid: Study Instance UID.
            sop_uid: SOP Instance UID.

        Raises:
            sqlite3.Error: it can't be noted for a study that is there already.
        """
        with self._change() as database:
            self._held.refuse(database, self.ids.study(study_uid), self.ids.instance(sop_uid))

    # Answering

    def next_job(self, quiet_seconds: float, longest_seconds: float, ahead: Ahead | None = None) -> Job | None:
        """The next study to answer, if one is due. The attempt is noted, so a study that ends the node waits longer.

        Args:
            quiet_seconds: nothing came for so long,
            longest_seconds: or the first new image came before so long.
            ahead: the study that was read ahead; if it is the one and has the same images, the job keeps its folder.

        Raises:
            OSError: the job's folder can't be made.
        """
        now = time.time()
        with self._change() as database:
            due.set_clock(database, now)
            row = due.first(database, now, quiet_seconds, longest_seconds)
            if row is None:
                return None
            attempts = row["attempts"] + 1
            database.execute(
                "UPDATE studies SET attempts = ?, not_before = ? WHERE id = ?",
                (attempts, now + due.pause_after(attempts), row["id"]),
            )
            images = tuple(self._image_ids(row["id"]))
            (version,) = database.execute(
                "SELECT ifnull(max(version), 0) + 1 FROM reports WHERE study = ?", (row["id"],)
            ).fetchone()
        try:
            read = ahead is not None and (ahead.study, ahead.images) == (row["id"], images)
            folder = self._jobs / row["id"] if read else self._linked(row["id"], images)
        except OSError:
            self._note_problem(row["id"], "no_job")
            raise
        return Job(
            study=row["id"], number=row["number"], version=version, attempts=attempts, images=images, folder=folder,
            last=row["last"],
        )  # fmt: skip

    def look_ahead(self, quiet_seconds: float, longest_seconds: float, job: Job, kept: Ahead | None) -> Ahead | None:
        """The study that is due after a job, if there is one: to be read meanwhile. No attempt is noted.

        Args:
            quiet_seconds: as of :meth:`next_job`.
            longest_seconds: as of :meth:`next_job`.
            job: in hand.
            kept: what was looked ahead before and is not in hand. It is returned as it is if it still holds; else its
                folder is removed.

        Raises:
            OSError: the folder can't be made.
        """
        with self._lock:
            row = due.first(self._database, time.time(), quiet_seconds, longest_seconds, besides=job.study)
            images = () if row is None else tuple(self._image_ids(row["id"]))
        if kept is not None:
            if row is not None and (kept.study, kept.images) == (row["id"], images):
                return kept
            self.drop(kept)
        return None if row is None else Ahead(study=row["id"], images=images, folder=self._linked(row["id"], images))

    def drop(self, ahead: Ahead) -> None:
        """Remove the folder of a study that was looked ahead and is not in hand."""
        shutil.rmtree(ahead.folder, ignore_errors=True)

    def _linked(self, study: str, images: Sequence[str]) -> Path:
        """A new folder of links to images: what arrives meanwhile is not among them."""
        folder = self._jobs / study
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        for image in images:
            path = self._image(study, image)
            (folder / path.name).hardlink_to(path)
        return folder

    def answered_before(self, job: Job) -> tuple[str, Path] | None:
        """What the last answered report of a job's study read (its digest), and its folder; None if there is none."""
        row = self._row(
            "SELECT version, answered FROM reports WHERE study = ? AND outcome = 'answered' ORDER BY version DESC "
            "LIMIT 1",
            job.study,
        )
        return None if row is None else (row["answered"], self._report(job.study, row["version"]))

    def report_partial(self, job: Job) -> Path:
        """A new folder for a job's report, not under its final name."""
        folder = self._report(job.study, job.version)
        partial = folder.with_name(f"{folder.name}{PARTIAL}")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True, mode=0o700)
        return partial

    def conclude(self, job: Job, end: Conclusion, destinations: Sequence[str], objects: Sequence[str]) -> None:
        """Note what became of a job, and what is to be delivered, in one step.

        Raises:
            OSError, sqlite3.Error: it can't be written; the study stays due.
        """
        now = time.time()
        if end.report is not None:
            place_folder(end.report, self._report(job.study, job.version))
            sync_folder(self._reports)
        with self._change() as database:
            database.execute(
                "INSERT INTO reports VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    job.study, job.version, set_digest(job.images), len(job.images), end.outcome, end.code,
                    end.answered, now,
                ),
            )  # fmt: skip
            if end.outcome == "answered":
                database.executemany(
                    "INSERT INTO deliveries (study, version, destination, object, state, next_try) "
                    "VALUES (?, ?, ?, ?, 'waiting', ?)",
                    [(job.study, job.version, name, kind, now) for name in destinations for kind in objects],
                )
            known = set(job.images)
            rows = database.execute("SELECT id, received FROM images WHERE study = ?", (job.study,))
            late = [row["received"] for row in rows if row["id"] not in known]
            database.execute(
                "UPDATE studies SET new_since = ?, attempts = 0, not_before = 0, problem = '' WHERE id = ?",
                (min(late, default=None), job.study),
            )
            self._held.arrived(database, job.study)
        shutil.rmtree(job.folder, ignore_errors=True)

    def put_off(self, job: Job, problem: str) -> None:
        """Note that an attempt failed for a reason that is not the study's; it is tried again later."""
        shutil.rmtree(job.folder, ignore_errors=True)
        self._note_problem(job.study, problem)

    def _note_problem(self, study: str, problem: str) -> None:
        with self._change() as database:
            database.execute("UPDATE studies SET problem = ? WHERE id = ?", (problem, study))

    # Deliveries

    def due_deliveries(self, destination: str, longest_pause: float = 86400.0, most: int = 100) -> list[Delivery]:
        """What waits for a destination. A version waits until those before it were sent or refused there.

        Args:
            destination: its name.
            longest_pause: seconds between two attempts; one that lies further ahead was set by another clock.
            most: of them.
        """
        now = time.time()
        rows = self._rows(
            "SELECT d.*, s.number FROM deliveries AS d JOIN studies AS s ON s.id = d.study "
            "WHERE d.destination = ?1 AND d.state != 'sent' AND (d.next_try <= ?2 OR d.next_try > ?3) AND NOT EXISTS "
            "(SELECT 1 FROM deliveries AS e WHERE e.study = d.study AND e.destination = d.destination AND "
            "e.object = d.object AND e.id < d.id AND e.state = 'waiting' AND e.next_try > ?2 AND e.next_try <= ?3) "
            "ORDER BY d.id LIMIT ?4",
            destination, now, now + longest_pause, most,
        )  # fmt: skip
        return [
            Delivery(
                id=row["id"], number=row["number"], version=row["version"], object=row["object"],
                path=self._report(row["study"], row["version"]) / f"report.{row['object']}.dcm",
                attempts=row["attempts"],
            )
            for row in rows
        ]  # fmt: skip

    def delivered(self, delivery: Delivery) -> None:
        """Note that a destination has it."""
        with self._change() as database:
            database.execute(
                "UPDATE deliveries SET state = 'sent', attempts = attempts + 1, problem = '', sent = ? WHERE id = ?",
                (time.time(), delivery.id),
            )

    def not_delivered(
        self, delivery: Delivery, state: Literal["waiting", "refused"], problem: str, pause: float
    ) -> None:
        """Note a failed attempt.

        Args:
            delivery: which.
            state: ``waiting`` where the destination was not reached, ``refused`` where it refused the object.
            problem: a few words, without identifiers.
            pause: seconds until the next attempt.
        """
        with self._change() as database:
            database.execute(
                "UPDATE deliveries SET state = ?, attempts = attempts + 1, problem = ?, next_try = ? WHERE id = ?",
                (state, problem, time.time() + pause, delivery.id),
            )

    # An Orthanc's feed

    def followed(self, url: str) -> int | None:
        """The last change that was taken; None if none was."""
        row = self._row("SELECT last FROM followed WHERE url = ?", url)
        return None if row is None else int(row["last"])

    def follow(self, url: str, last: int) -> None:
        """Note that all changes up to one were taken."""
        with self._change() as database:
            database.execute("INSERT OR REPLACE INTO followed VALUES (?, ?)", (url, last))

    # Looking

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """The rows of a query that changes nothing."""
        return [dict(row) for row in self._rows(query, *values)]

    # Removing

    def remove_images(self, before: float) -> int:
        """Remove images of studies that are concluded and delivered, and whose last image came before a time.

        Returns:
            How many files.
        """
        removed = 0
        for row in self._rows(f"SELECT id FROM studies AS s WHERE {_DONE} AND last < ? AND {_HAS_IMAGES}", before):
            with self._arrivals.none(row["id"]) as none:
                if not none or not self._is_done(row["id"]):
                    continue
                with self._change() as database:  # rows first: a file without its row goes at the next start
                    images = self._image_ids(row["id"], "AND present = 1")
                    database.execute("UPDATE images SET present = 0 WHERE study = ?", (row["id"],))
                for image in images:
                    self._image(row["id"], image).unlink(missing_ok=True)
            removed += len(images)
        return removed

    def forget(self, before: float) -> int:
        """Remove all of studies that are concluded and delivered, whose images are gone and came before a time.

        Returns:
            How many studies.
        """
        gone = 0
        for row in self._rows(f"SELECT id FROM studies AS s WHERE {_DONE} AND last < ? AND NOT {_HAS_IMAGES}", before):
            with self._arrivals.none(row["id"]) as none:
                if not none or not self._is_done(row["id"]):
                    continue
                with self._change() as database:
                    database.execute("DELETE FROM studies WHERE id = ?", (row["id"],))
                    for table in ("images", "reports", "deliveries"):
                        database.execute(f"DELETE FROM {table} WHERE study = ?", (row["id"],))
                shutil.rmtree(self._images / row["id"], ignore_errors=True)
                shutil.rmtree(self._reports / row["id"], ignore_errors=True)
            gone += 1
        return gone

    # Inside

    @contextlib.contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """One transaction."""
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._database.execute("ROLLBACK")
                raise

    def _is_done(self, study: str) -> bool:
        return self._row(f"SELECT id FROM studies AS s WHERE id = ? AND {_DONE}", study) is not None

    def _rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        with self._lock:
            return self._database.execute(query, values).fetchall()

    def _row(self, query: str, *values: Any) -> sqlite3.Row | None:
        return next(iter(self._rows(query, *values)), None)

    def _image_ids(self, study: str, which: str = "") -> list[str]:
        return [row["id"] for row in self._rows(f"SELECT id FROM images WHERE study = ? {which} ORDER BY id", study)]

    def _image(self, study: str, image: str) -> Path:
        return self._images / study / f"{image}.dcm"

    def _report(self, study: str, version: int) -> Path:
        return self._reports / study / f"{version:04d}"


_DONE = "s.new_since IS NULL AND NOT EXISTS (SELECT 1 FROM deliveries AS d WHERE d.study = s.id AND d.state != 'sent')"
_HAS_IMAGES = "EXISTS (SELECT 1 FROM images AS i WHERE i.study = s.id AND i.present = 1)"
