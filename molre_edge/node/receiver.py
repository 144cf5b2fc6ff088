"""The DICOM port: C-ECHO, and C-STORE of CT images. An image is on the disk before its sender is told of success."""

from __future__ import annotations

import contextlib
import io
import logging
import select
import shutil
import socket
import sqlite3
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from molre_edge.dicom_results.objects import is_own_result
from molre_edge.errors import RunError, ScanError
from molre_edge.node.configuration import NodeConfig, Tls
from molre_edge.node.door import Door, Peer
from molre_edge.node.header import IMAGE_CLASSES, identity
from molre_edge.node.journal import Journal, place_of
from molre_edge.node.library import need_pynetdicom
from molre_edge.node.store import Store

if TYPE_CHECKING:
    from pynetdicom.events import Event

__all__ = ["SYNTAXES", "Receiver", "server_context"]

_CLASS = "1.2.840.10008.5.1.4.1.1."
RESULT_CLASSES = tuple(_CLASS + end for end in ("88.33", "88.34", "7"))
"""What we make ourselves and a PACS may send back: Comprehensive and Comprehensive 3D SR, Secondary Capture."""
_SYNTAX = "1.2.840.10008.1.2"
SYNTAXES = (
    f"{_SYNTAX}.1", _SYNTAX, f"{_SYNTAX}.2", f"{_SYNTAX}.1.99", f"{_SYNTAX}.4.70", f"{_SYNTAX}.4.57", f"{_SYNTAX}.4.80",
    f"{_SYNTAX}.4.81", f"{_SYNTAX}.4.90", f"{_SYNTAX}.4.91", f"{_SYNTAX}.4.201", f"{_SYNTAX}.4.202", f"{_SYNTAX}.4.203",
    f"{_SYNTAX}.5",
)  # fmt: skip
"""Transfer syntaxes that are read (docs/concepts/scans.md), the ones to prefer first."""

SUCCESS, NO_SPACE, NOT_AUTHORISED, NOT_SUPPORTED = 0x0000, 0xA700, 0x0124, 0x0122
MISMATCH, NOT_UNDERSTOOD, FAILED = 0xA900, 0xC000, 0xC001
"""Statuses of C-STORE (PS3.4 B.2.3, PS3.7 C)."""
_HANDSHAKE_SECONDS = 5.0
_PDU_SECONDS, _SLOWEST_BYTES = 60.0, 10_000
"""A PDU that was begun is there after this time, and a second more for so many bytes. Answers are taken as soon."""
_LARGEST_REQUEST, _LARGEST_PDU = 1 << 20, 1 << 24
"""Bytes of a PDU: always taken, since requests of associations are long; never exceeded, whatever a caller states."""
_LOOK_SECONDS = 0.5
_REQUEST_SECONDS = 30.0
"""Who has not asked for an association after this time is closed, and counts no more among those connected."""
_UNKNOWN_CALLER, _BUSY = (1, 1, 3), (2, 3, 2)
"""Of an A-ASSOCIATE-RJ (PS3.8 9.3.4): rejected permanently, by the service user, calling AE title not recognised; and
transiently, by the service provider (presentation), local limit exceeded."""
_NO_LIMIT = 10_000
"""Of pynetdicom, which would count connections without an association too: the door counts."""


class Receiver:
    """A context manager: listens while it is entered."""

    def __init__(
        self, config: NodeConfig, store: Store, journal: Journal, free_bytes: Callable[[], int] | None = None
    ) -> None:
        """Listen to nobody yet.

        Args:
            config: of the node.
            store: where images go.
            journal: told of each association, not of each image.
            free_bytes: free space of the disk; by default the system is asked.
        """
        self._config, self._store, self._journal = config, store, journal
        self._free = free_bytes or (lambda: shutil.disk_usage(store.folder).free)
        self._door = Door(config.receive.associations, config.receive.associations_per_address)
        self._tallies: dict[int, Counter[str]] = {}
        self._lock, self._ending = threading.Lock(), threading.Event()
        self._ae: Any = None
        self._server: Any = None

    def __enter__(self) -> Receiver:
        """Begin to listen.

        Raises:
            RunError: the port is taken, or the certificates can't be used.
        """
        need_pynetdicom("The node")
        from pynetdicom import AE, evt
        from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

        logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)  # its lines quote requests
        wanted = self._config.receive
        self._ae = ae = AE(ae_title=wanted.ae_title)
        ae.maximum_pdu_size = wanted.largest_pdu
        ae.maximum_associations = _NO_LIMIT
        ae.acse_timeout = _REQUEST_SECONDS
        ae.require_called_aet = True
        ae.add_supported_context(Verification)
        for uid in (*IMAGE_CLASSES, *RESULT_CLASSES):
            ae.add_supported_context(uid, list(SYNTAXES))
        handlers: list[Any] = [
            (evt.EVT_CONN_OPEN, self._opened),
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_C_STORE, self._stored),
            (evt.EVT_CONN_CLOSE, self._closed),
        ]
        context = None if wanted.tls is None else server_context(wanted.tls)
        try:
            self._server = ae.start_server(
                (wanted.address, wanted.port), block=False, evt_handlers=handlers, ssl_context=context
            )
        except OSError as error:
            raise RunError(
                f"receive: can't listen on {wanted.address} port {wanted.port} ({error.strerror or error}): another "
                "program may have it; name another port or address"
            ) from error
        server = self._server
        server.get_request = lambda: self._take(server.socket, context)
        return self

    def __exit__(self, *_: object) -> None:
        """End at once: open associations are aborted."""
        self._ending.set()
        if self._ae is not None:
            self._ae.shutdown()

    def drain(self, seconds: float) -> None:
        """Accept nobody any more, and let senders that are at it finish, for so many seconds."""
        if self._server is None:
            return
        self._server.shutdown()
        self._server = None
        until = time.monotonic() + seconds
        while self.open_associations and time.monotonic() < until:
            time.sleep(0.05)

    @property
    def open_associations(self) -> int:
        """How many senders are connected."""
        return len(self._ae.active_associations) if self._ae is not None else 0

    @property
    def below_floor(self) -> bool:
        """Whether the disk has so little space that images are refused."""
        return self._free() < self._config.disk.floor_mb * 1_000_000

    def _take(self, listening: socket.socket, context: ssl.SSLContext | None) -> tuple[socket.socket, Any]:
        """The next connection.

        Raises:
            OSError: it was closed at once, or its handshake failed; the server goes on.
        """
        connection, caller = listening.accept()
        peer = _plain(caller[0]), int(caller[1])
        if not self._door.opens(peer):
            self._journal.count("connections_closed")
            connection.close()
            raise ConnectionAbortedError("too many from one address")
        if context is None:
            return connection, caller
        try:
            return context.wrap_socket(connection, server_side=True), caller
        except OSError:
            self._door.turn_away(peer)
            connection.close()
            raise

    def _opened(self, event: Event) -> None:
        """Bound what pynetdicom reads: it waits without end for as many bytes as anyone who connects announces."""
        peer = _peer(event)
        self._door.entered(peer, event.assoc)
        link: Any = event.assoc.dul.socket
        link.socket.settimeout(_PDU_SECONDS)

        def read(count: int) -> bytearray:
            try:
                return self._read(link.socket, count)
            except OSError:
                self._door.turn_away(peer)
                raise

        link.recv = read

    def _read(self, connection: socket.socket, count: int) -> bytearray:
        """So many bytes; fewer if the other side ends.

        Raises:
            OSError: too many, or they do not come.
        """
        if count > max(self._config.receive.largest_pdu or _LARGEST_PDU, _LARGEST_REQUEST):
            raise OSError("a PDU that is too long")
        until = time.monotonic() + _PDU_SECONDS + count / _SLOWEST_BYTES
        read = bytearray()
        while len(read) < count:
            if self._ending.is_set() or time.monotonic() > until:
                raise TimeoutError("a PDU that does not come to its end")
            buffered = isinstance(connection, ssl.SSLSocket) and connection.pending()
            if buffered or select.select([connection], [], [], _LOOK_SECONDS)[0]:
                more = connection.recv(min(count - len(read), 1 << 16))
                if not more:
                    break
                read += more
        return read

    def _requested(self, event: Event) -> None:
        """Reject who is not on the list, and whom there is no room for."""
        allowed = room = False
        try:
            peer = _peer(event)
            title = str(event.assoc.requestor.primitive.calling_ae_title or "").strip()  # type: ignore[union-attr]
            allowed = any(each.allows(title, peer[0]) for each in self._config.senders)
            room = allowed and self._door.accept(peer, event.assoc)
        finally:  # first of all: pynetdicom goes on where this method fails, and would accept
            if not room:
                event.assoc.acse.send_reject(*(_BUSY if allowed else _UNKNOWN_CALLER))
                event.assoc.is_rejected = True
        if room:
            self._tallies[id(event.assoc)] = Counter()
            return
        known = title in {each.ae_title for each in self._config.senders}
        reason = "busy" if allowed else "address" if known else "ae_title"
        if not allowed:
            self._door.turn_away(peer)
        self._journal.count("associations_rejected")
        self._journal.warn("rejected", reason=reason, sender=title if known else None)
        event.assoc.kill()

    def _stored(self, event: Event) -> int:
        """Keep an image, and say whether it is kept."""
        status, word = self._keep(event)
        self._journal.count("images", f'what="{word}"')
        with self._lock:
            self._tallies.setdefault(id(event.assoc), Counter())[word] += 1
        return status

    def _keep(self, event: Event) -> tuple[int, str]:
        request: Any = event.request
        syntax = str(event.context.transfer_syntax)
        try:
            if request.DataSet is None:
                return NOT_UNDERSTOOD, "not_understood"
            if request.AffectedSOPClassUID not in IMAGE_CLASSES:
                return (SUCCESS, "own_results") if self._is_own(event) else (NOT_SUPPORTED, "not_ct")
            study, sop = identity(request.DataSet.getvalue(), syntax)
            if sop != str(request.AffectedSOPInstanceUID):
                return MISMATCH, "mismatch"
            if not self.below_floor:
                with contextlib.suppress(OSError, sqlite3.Error):
                    return SUCCESS, self._store.receive(study, sop, event.encoded_dataset())[1]
            with contextlib.suppress(sqlite3.Error):  # where nothing can be noted, nothing is answered either
                self._store.refuse(study, sop)
            return NO_SPACE, "no_space"
        except ScanError:
            return NOT_UNDERSTOOD, "not_understood"
        except Exception as error:  # a bug of ours costs this image, and its sender is told
            self._journal.warn("bug", error=place_of(error))
            return FAILED, "failed"

    @staticmethod
    def _is_own(event: Event) -> bool:
        """Whether a report or capture is one that we made."""
        from pydicom import dcmread

        try:
            return is_own_result(dcmread(io.BytesIO(event.encoded_dataset()), stop_before_pixels=True))
        except Exception:  # what can't be read is not ours
            return False

    def _closed(self, event: Event) -> None:
        """Tell what an association brought."""
        if self._door.left(_peer(event)):  # pynetdicom's thread would wait for its request, acse_timeout long
            event.assoc.dul.to_user_queue.put(None)
        with self._lock:
            tally = self._tallies.pop(id(event.assoc), None)
        if tally:
            title = str(event.assoc.requestor.ae_title).strip()
            self._journal.tell("received", sender=title, **dict(sorted(tally.items())))


def _plain(address: str) -> str:
    """An address of IPv4 as such, also where it is written as one of IPv6."""
    return address.removeprefix("::ffff:")


def _peer(event: Event) -> Peer:
    requestor = event.assoc.requestor
    return _plain(str(requestor.address)), int(requestor.port or 0)


class _ServerContext(ssl.SSLContext):
    """Gives up a handshake: pynetdicom makes it where it accepts, so a silent caller would keep all others waiting."""

    def wrap_socket(self, sock: socket.socket, *words: Any, **values: Any) -> ssl.SSLSocket:
        """Make the handshake within some seconds."""
        sock.settimeout(_HANDSHAKE_SECONDS)
        wrapped = super().wrap_socket(sock, *words, **values)
        wrapped.settimeout(None)
        return wrapped


def server_context(tls: Tls) -> ssl.SSLContext:
    """Both sides show certificates (PS3.15 B.9, the BCP 195 profile: TLS 1.2 at least).

    Raises:
        RunError: a file can't be used.
    """
    try:
        context = _ServerContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_verify_locations(tls.authority)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        assert tls.certificate is not None  # the configuration checks it
        context.load_cert_chain(tls.certificate, tls.key)
    except (OSError, ssl.SSLError) as error:
        raise RunError(f"receive.tls: the certificates can't be used ({error}): expected PEM files") from error
    return context
