"""Who may come in: so that one caller that connects again and again keeps none of the others out."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol, TypeAlias, TypeVar

__all__ = ["Door", "Peer"]

_T = TypeVar("_T")

_WAITING_PER_ADDRESS, _WAITING = 4, 64
"""Connections that no association was accepted on yet, of one address and of all: at least so many may be open."""
_SILENT_SECONDS = 10.0
"""A caller that went without an association after this time is counted as turned away."""
_TURNED_AWAY, _SHUT_SECONDS = 3, 60.0
"""An address where so many callers were turned away within this time is closed at once, until that is over."""
_MOST_ADDRESSES = 1000
"""That are remembered."""
_BEGIN_SECONDS = 60.0
"""A connection whose thread did not begin in this time never gets one."""

Peer: TypeAlias = tuple[str, int]
"""Address and port of a connection's other side."""


class Caller(Protocol):
    """A thread that serves a connection."""

    @property
    def ident(self) -> int | None:
        """None before it starts."""

    def is_alive(self) -> bool:
        """Whether it runs."""


class Door:
    """Counts connections by address. All methods may be called from any thread."""

    def __init__(self, associations: int, per_address: int, now: Callable[[], float] = time.monotonic) -> None:
        """Nobody is connected.

        Args:
            associations: how many may be open at once.
            per_address: how many of them may come from one address.
            now: a clock, seconds.
        """
        self._most, self._most_of_one, self._now = associations, per_address, now
        # a sender may open all of its associations at once
        self._waiting_of_one = max(_WAITING_PER_ADDRESS, per_address)
        self._waiting_of_all = max(_WAITING, associations)
        self._lock = threading.Lock()
        self._waiting: dict[Peer, tuple[float, Caller | None]] = {}
        self._accepted: dict[Caller, str] = {}
        self._turned_away: OrderedDict[str, list[float]] = OrderedDict()
        self._good: OrderedDict[str, None] = OrderedDict()

    def opens(self, peer: Peer) -> bool:
        """Whether a connection is taken; if so it waits for its association."""
        address, _ = peer
        with self._lock:
            self._forget_gone()
            waiting = [each for each, _ in self._waiting]
            if len(waiting) >= self._waiting_of_all or waiting.count(address) >= self._waiting_of_one:
                return False
            if address not in self._good and len(self._recent(address)) >= _TURNED_AWAY:
                return False
            self._waiting[peer] = self._now(), None
            return True

    def entered(self, peer: Peer, caller: Caller) -> None:
        """Which thread serves a connection that was taken."""
        with self._lock:
            self._waiting[peer] = self._now(), caller

    def left(self, peer: Peer) -> bool:
        """A connection was closed; whether it had no association. Its thread would notice much later."""
        with self._lock:
            if (waiting := self._waiting.pop(peer, None)) is None:
                return False
            if self._now() - waiting[0] >= _SILENT_SECONDS:
                self._note(peer[0])
            return True

    def accept(self, peer: Peer, caller: Caller) -> bool:
        """Whether there is room for the association of a caller on the list; if so it has it until its thread ends."""
        address, _ = peer
        with self._lock:
            self._forget_gone()
            self._waiting.pop(peer, None)
            _remember(self._good, address, None)
            accepted = list(self._accepted.values())
            if len(accepted) >= self._most or accepted.count(address) >= self._most_of_one:
                return False
            self._accepted[caller] = address
            return True

    def turn_away(self, peer: Peer) -> None:
        """A caller was rejected, or ended because of what it sent."""
        with self._lock:
            self._waiting.pop(peer, None)
            self._note(peer[0])

    def _note(self, address: str) -> None:
        _remember(self._turned_away, address, [*self._recent(address), self._now()][-_TURNED_AWAY:])

    def _recent(self, address: str) -> list[float]:
        since = self._now() - _SHUT_SECONDS
        return [each for each in self._turned_away.get(address, ()) if each > since]

    def _forget_gone(self) -> None:
        now = self._now()
        for peer, (since, caller) in list(self._waiting.items()):
            if _gone(caller) or (now - since >= _BEGIN_SECONDS and (caller is None or caller.ident is None)):
                del self._waiting[peer]
                if now - since >= _SILENT_SECONDS:
                    self._note(peer[0])
        self._accepted = {caller: address for caller, address in self._accepted.items() if not _gone(caller)}


def _gone(caller: Caller | None) -> bool:
    return caller is not None and caller.ident is not None and not caller.is_alive()


def _remember(kept: OrderedDict[str, _T], address: str, value: _T) -> None:
    kept[address] = value
    kept.move_to_end(address)
    while len(kept) > _MOST_ADDRESSES:
        kept.popitem(last=False)
