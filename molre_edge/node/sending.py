"""Two ways to hand over a DICOM object: C-STORE and STOW-RS."""

from __future__ import annotations

import contextlib
import http.client
import json
import secrets
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from molre_edge.node.configuration import Destination
from molre_edge.node.library import need_pynetdicom
from molre_edge.node.web import Unreachable, client_context, opener, read_headers, reason

__all__ = ["Refused", "echo", "open_sender"]

Send = Callable[[Path], None]
_LARGEST_ANSWER = 1 << 20
_EXPLICIT, _IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
_CLASS = "1.2.840.10008.5.1.4.1.1."
_OBJECT_CLASSES = tuple(_CLASS + end for end in ("88.34", "88.33", "7"))
"""What is made: both SRs and the capture."""
_FAILED_SEQUENCE = "00081198"


class Refused(Exception):
    """The destination does not take this object. The text is a few words without identifiers."""


def open_sender(destination: Destination) -> AbstractContextManager[Send]:
    """A connection; it yields what sends one file.

    Raises:
        Unreachable: when it is entered, or by a file after which nothing more can be sent.
        Refused: by a file; the next may be taken.
    """
    return _dicom(destination) if destination.kind == "dicom" else _stow(destination)


@contextlib.contextmanager
def _dicom(destination: Destination) -> Iterator[Send]:
    from pydicom import dcmread

    with _association(destination, _OBJECT_CLASSES) as association:

        def send(path: Path) -> None:
            if not association.is_established:
                raise Unreachable("the connection ended")
            dataset = dcmread(path)
            accepted = {context.abstract_syntax for context in association.accepted_contexts}
            if dataset.SOPClassUID not in accepted:
                raise Refused(f"its class is not accepted: {dataset.SOPClassUID.name}")
            try:
                answer = association.send_c_store(dataset)
            except RuntimeError as error:  # it ended just now
                raise Unreachable("the connection ended") from error
            if "Status" not in answer:
                raise Unreachable("the connection ended")
            status = int(answer.Status)
            if status and status >> 12 != 0xB and status not in (0x0001, 0x0107, 0x0116):  # warnings: it is stored
                if status >> 8 == 0xA7:
                    raise Unreachable(f"no space there: status 0x{status:04X}")
                raise Refused(f"status 0x{status:04X}")

        yield send


@contextlib.contextmanager
def _association(destination: Destination, classes: tuple[str, ...]) -> Iterator[Any]:
    need_pynetdicom("Sending by DICOM")
    from pynetdicom import AE

    ae = AE(ae_title=destination.calling_ae_title)
    ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = destination.timeout_seconds
    for uid in classes:
        ae.add_requested_context(uid, [_EXPLICIT, _IMPLICIT])
    tls = None if destination.tls is None else (client_context(destination.tls), destination.address)
    association = ae.associate(
        destination.address, destination.port, ae_title=destination.ae_title, max_pdu=131072, tls_args=tls
    )
    if not association.is_established:
        raise Unreachable("it rejects us" if association.is_rejected else "no connection")
    connection: Any = association.dul.socket
    connection.socket.settimeout(destination.timeout_seconds)  # else one that stops reading keeps us for ever
    try:
        yield association
    finally:
        association.release() if association.is_established else association.abort()


def echo(destination: Destination) -> None:
    """Ask a destination whether it is there: C-ECHO, or a connection to the URL's host.

    Raises:
        Unreachable: it is not.
    """
    if destination.kind == "dicom":
        with _association(destination, ("1.2.840.10008.1.1",)) as association:
            if getattr(association.send_c_echo(), "Status", None) != 0:
                raise Unreachable("it does not answer C-ECHO")
        return
    with contextlib.suppress(urllib.error.HTTPError):  # any answer says that it is there
        try:
            opener(destination.tls).open(destination.url, timeout=destination.timeout_seconds).close()
        except urllib.error.HTTPError:
            raise
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(reason(error)) from error


@contextlib.contextmanager
def _stow(destination: Destination) -> Iterator[Send]:
    web = opener(destination.tls)
    headers = read_headers(destination.header_file)

    def send(path: Path) -> None:
        boundary = f"molre-edge-{secrets.token_hex(16)}"
        body = b"".join(
            (
                f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode(),
                path.read_bytes(),
                f"\r\n--{boundary}--\r\n".encode(),
            )
        )
        kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
        request = urllib.request.Request(
            f"{destination.url.rstrip('/')}/studies",
            data=body,
            headers={**headers, "Content-Type": kind, "Accept": "application/dicom+json"},
        )
        try:
            with web.open(request, timeout=destination.timeout_seconds) as answer:
                _check_stored(answer.status, answer.read(_LARGEST_ANSWER))
        except urllib.error.HTTPError as error:
            if error.code in (401, 403, 408, 429) or error.code >= 500:  # of the service, not of the object
                raise Unreachable(f"HTTP {error.code}") from error
            raise Refused(f"HTTP {error.code}") from error
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(reason(error)) from error

    yield send


def _check_stored(status: int, answer: bytes) -> None:
    """PS3.18 10.5.3: 200 or 202, and nothing in the Failed SOP Sequence (Orthanc sends an empty one)."""
    try:
        data = json.loads(answer) if answer.strip() else {}
        failed = (data[0] if isinstance(data, list) and data else data or {}).get(_FAILED_SEQUENCE, {}).get("Value")
    except (ValueError, AttributeError) as error:
        raise Refused(f"HTTP {status} with an answer that is no DICOM JSON") from error
    if failed:
        raise Refused(f"HTTP {status}, in the Failed SOP Sequence")
