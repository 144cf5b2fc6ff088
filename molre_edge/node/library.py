"""pynetdicom, the library under the node: whether it is installed, and the sockets that it leaves open."""

from __future__ import annotations

from typing import Any

from molre_edge.errors import MissingDependencyError

__all__ = ["need_pynetdicom"]


def need_pynetdicom(feature: str) -> None:
    """Load pynetdicom, and let it close each socket.

    Args:
        feature: what needs it, for the message.

    Raises:
        MissingDependencyError: pynetdicom is not installed.
    """
    try:
        from pynetdicom.transport import AssociationSocket
    except ImportError as error:
        raise MissingDependencyError(feature, "pynetdicom", "dicom") from error
    AssociationSocket._shutdown_socket = _shutdown_and_close  # type: ignore[method-assign]


def _shutdown_and_close(self: Any) -> None:
    """What pynetdicom 3.0.4 does, but for one fault.

    It calls `shutdown` and `close` in one `try`, so that nothing is closed where `shutdown` fails: after each refused
    connection, and wherever the other side ended first. While a PACS is away, sockets would wait for the garbage
    collector, one more with every try.
    """
    if self.socket is None:
        return
    try:
        self.socket.shutdown(2)
    except OSError:  # it is not connected, or no longer
        pass
    finally:
        self.socket.close()
