"""Follows the changes of an Orthanc: new CT instances become images of the node, as if they had been sent to it."""

from __future__ import annotations

import http.client
import json
import struct
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from typing import Any

from molre_edge.errors import ScanError
from molre_edge.node.configuration import Orthanc
from molre_edge.node.header import IMAGE_CLASSES, identity
from molre_edge.node.journal import Journal, place_of
from molre_edge.node.store import Store
from molre_edge.node.web import Unreachable, opener, read_headers, reason

__all__ = ["Follower", "probe"]

_POLL_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 30.0
_CHANGES = 100
"""So many are asked for at once; the place in the feed is noted after each."""
_TRIES = 12
"""Of an instance that Orthanc has and does not give: over some four minutes, by the pauses between them."""
_LARGEST_BYTES = 1 << 30
"""Of an instance: the readers take no larger DICOM file."""
_PREAMBLE, _GROUP_LENGTH = 132, struct.Struct("<HH2sHI")


class _Failed(Unreachable):
    """An HTTP status that may be of what was asked for alone."""


class Follower:
    """A context manager: follows while it is entered. Its place in the feed is kept in the store."""

    def __init__(self, orthanc: Orthanc, store: Store, journal: Journal, below_floor: Callable[[], bool]) -> None:
        """Follow nothing yet.

        Args:
            orthanc: where it is.
            store: where images go.
            journal: told of what came.
            below_floor: whether the disk takes no more; then it waits.
        """
        self._orthanc, self._store, self._journal, self._below_floor = orthanc, store, journal, below_floor
        self._url = orthanc.url.rstrip("/")
        self._web: urllib.request.OpenerDirector | None = None
        self._failing, self._failures = "", 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="orthanc", daemon=True)

    def __enter__(self) -> Follower:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End after the instance in hand."""
        self._stop.set()
        self._thread.join(self._orthanc.timeout_seconds)

    def _run(self) -> None:
        pause, away = _POLL_SECONDS, False
        while not self._stop.wait(pause):
            try:
                while self.step() and not self._stop.is_set():
                    pass
                pause, away = _POLL_SECONDS, False
                self._journal.trouble("orthanc")
            except Unreachable as error:
                self._journal.trouble("orthanc", str(error))
                if not away:
                    self._journal.warn("orthanc_unreachable", reason=str(error))
                pause, away = min(_LONGEST_PAUSE_SECONDS, 2 * pause), True
            except Exception as error:  # the disk, or a bug: the same change is tried again
                self._journal.warn("orthanc", error=place_of(error))
                self._journal.trouble("orthanc", place_of(error))
                pause = min(_LONGEST_PAUSE_SECONDS, 2 * pause)

    def step(self) -> bool:
        """Take the next changes; False if there were none, or the disk takes no more.

        Raises:
            Unreachable: Orthanc is away, or answers with something else.
            OSError, sqlite3.Error: an image can't be written.
        """
        since = self._store.followed(self._url)
        if since is None:  # what was there before is not the node's
            self._store.follow(self._url, self._number(self._json("/changes?last"), "Last"))
            return True
        feed = self._json(f"/changes?since={since}&limit={_CHANGES}")
        if self._number(feed, "Last") < since:
            self._journal.warn("orthanc_begins_anew")
            self._store.follow(self._url, 0)
            return True
        changes, tally = feed.get("Changes", []), Counter[str]()
        try:
            for change in changes:
                if self._stop.is_set() or self._below_floor():
                    return False
                if change.get("ChangeType") == "NewInstance":
                    tally[self._take(str(change.get("ID")))] += 1
                self._store.follow(self._url, self._number(change, "Seq"))
        finally:
            for what, count in tally.items():
                self._journal.count("images", f'what="{what}"', count)
            tally.pop("no_ct", None)
            if tally:
                self._journal.tell("received", sender="orthanc", **dict(sorted(tally.items())))
        return bool(changes)

    def _take(self, instance: str) -> str:
        """Keep an instance, if it is CT; what became of it. One that is never given does not stop the feed for good.

        Raises:
            Unreachable: it is not given now.
        """
        try:
            return self._keep(instance)
        except _Failed as error:
            self._failures = self._failures + 1 if instance == self._failing else 1
            self._failing = instance
            if self._failures < _TRIES:
                raise
            self._journal.warn("orthanc_gives_not", attempts=self._failures, reason=str(error))
            self._journal.trouble("orthanc's instances", f"at least one was not given and is left out ({error})")
            return "not_given"

    def _keep(self, instance: str) -> str:
        if not instance.replace("-", "").isalnum():
            raise Unreachable("an answer that is not Orthanc's")
        place = f"/instances/{instance}"
        kind = self._get(f"{place}/metadata/SopClassUid")
        syntax = self._get(f"{place}/metadata/TransferSyntax")
        if kind is None or kind.decode("ascii", "replace").strip() not in IMAGE_CLASSES or syntax is None:
            return "no_ct"
        content = self._get(f"{place}/file")
        if content is None:
            return "gone"
        try:
            study, sop = identity(_dataset(content), syntax.decode("ascii", "replace").strip())
        except ScanError:
            return "not_understood"
        return self._store.receive(study, sop, content)[1]

    def _json(self, path: str) -> dict[str, Any]:
        answer = self._get(path)
        try:
            data = json.loads(answer or b"")
        except ValueError as error:
            raise Unreachable("an answer that is not Orthanc's") from error
        if not isinstance(data, dict):
            raise Unreachable("an answer that is not Orthanc's")
        return data

    @staticmethod
    def _number(data: dict[str, Any], key: str) -> int:
        value = data.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
            raise Unreachable("an answer that is not Orthanc's")
        return value

    def _get(self, path: str) -> bytes | None:
        """The answer; None if there is no such thing (any more)."""
        request = urllib.request.Request(self._url + path, headers=read_headers(self._orthanc.header_file))
        if self._web is None:  # the system's certificates take a while to be read
            self._web = opener(self._orthanc.tls)
        try:
            with self._web.open(request, timeout=self._orthanc.timeout_seconds) as answer:
                content: bytes = answer.read(_LARGEST_BYTES + 1)
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 404:
                    return None
            kind = Unreachable if error.code in (401, 403) else _Failed
            raise kind(f"HTTP {error.code}") from error
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(reason(error)) from error
        return content if len(content) <= _LARGEST_BYTES else None


def probe(orthanc: Orthanc) -> None:
    """Ask an Orthanc whether it is there.

    Raises:
        Unreachable: it is not, or does not let us in.
    """
    request = urllib.request.Request(f"{orthanc.url.rstrip('/')}/system", headers=read_headers(orthanc.header_file))
    try:
        opener(orthanc.tls).open(request, timeout=orthanc.timeout_seconds).close()
    except urllib.error.HTTPError as error:
        with error:
            raise Unreachable(f"HTTP {error.code}") from error
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(reason(error)) from error


def _dataset(file: bytes) -> bytes:
    """What follows the file meta information (PS3.10 7.1), by the length that its first element states."""
    try:
        group, element, kind, _, length = _GROUP_LENGTH.unpack_from(file, _PREAMBLE)
    except struct.error:
        length = group = element = 0
        kind = b""
    if file[128:_PREAMBLE] != b"DICM" or (group, element, kind) != (2, 0, b"UL"):
        raise ScanError("corrupt_header", "no file meta information: export it again")
    return file[_PREAMBLE + _GROUP_LENGTH.size + length :]
