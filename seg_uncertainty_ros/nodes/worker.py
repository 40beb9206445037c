# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""One slot, one thread: the newest item wins, and every item is accounted for."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from threading import Condition
from threading import Thread
from typing import TYPE_CHECKING
from typing import Generic
from typing import TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

T = TypeVar('T')


@dataclass(frozen=True)
class Counts:
    """What became of the items: ``received`` is the sum of the others, at every moment."""

    received: int = 0
    processed: int = 0
    dropped: int = 0
    rejected: int = 0
    in_flight: int = 0


class NewestWins(Generic[T]):
    """Runs ``work`` on items in a thread of its own; an item that waits gives way to a newer one.

    ``work`` returns whether it processed the item (False: rejected). It holds ``turn`` meanwhile,
    and the item is taken when the turn has come: it is the newest then. The counts outlive
    ``stop`` and a new ``start``.
    """

    def __init__(
        self, work: Callable[[T], bool], turn: AbstractContextManager[None] | None = None
    ) -> None:
        self._work = work
        self._turn = turn or nullcontext()
        self._changed = Condition()
        self._waiting: list[T] = []
        self._working = False
        self._running = False
        self._thread: Thread | None = None
        self._received = self._processed = self._dropped = self._rejected = 0

    def start(self, name: str) -> None:
        """Start the thread."""
        self._running = True
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Wait for the item in work; what still waits is dropped."""
        with self._changed:
            self._running = False
            self._dropped += len(self._waiting)
            self._waiting.clear()
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def put(self, item: T) -> None:
        """Offer an item; never blocks for longer than it takes to say so."""
        with self._changed:
            self._received += 1
            self._dropped += len(self._waiting) if self._running else 1
            self._waiting[:] = [item] if self._running else []
            self._changed.notify()

    @property
    def counts(self) -> Counts:
        """What became of the items so far."""
        with self._changed:
            return Counts(
                self._received,
                self._processed,
                self._dropped,
                self._rejected,
                len(self._waiting) + self._working,
            )

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or not self._running)
                if not self._running:
                    return
            with self._turn:
                self._work_on_newest()

    def _work_on_newest(self) -> None:
        with self._changed:
            if not self._waiting:  # stopped meanwhile
                return
            item = self._waiting.pop()
            self._working = True
        processed = False
        try:
            processed = self._work(item)
        finally:
            with self._changed:
                self._working = False
                self._processed += processed
                self._rejected += not processed
