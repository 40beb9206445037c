# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Joins messages that carry the same stamp."""

from __future__ import annotations

from typing import Any


class ExactStamps:
    """Collects one message of each name a stamp; keeps the few newest stamps that lack some.

    A set waits for messages of ``optional`` names only where they have come of late, and no
    longer than until the first message of a later stamp.
    """

    def __init__(
        self, names: tuple[str, ...], slots: int = 4, optional: tuple[str, ...] = ()
    ) -> None:
        self._names = frozenset(names)
        self._optional = frozenset(optional)
        self._expected: frozenset[str] = frozenset()
        self._slots = slots
        self._partial: dict[int, dict[str, Any]] = {}
        self.incomplete = 0

    def add(self, name: str, stamp_ns: int, message: Any) -> tuple[int, dict[str, Any]] | None:
        """Take a message; return a stamp and its messages by name once none is missing.

        What is older than a complete set, or does not fit any more, counts as ``incomplete``.
        """
        partial = self._partial.setdefault(stamp_ns, {})
        partial[name] = message
        self._expected |= {name} & self._optional
        if self._names | self._expected <= partial.keys():
            return stamp_ns, self._take(stamp_ns)
        for earlier, waiting in self._partial.items():
            if earlier < stamp_ns and self._names <= waiting.keys():
                self._expected &= waiting.keys()
                return earlier, self._take(earlier)
        self._forget(list(self._partial)[: -self._slots])
        return None

    def clear(self) -> None:
        """Forget what waits, uncounted: time jumped or the node paused."""
        self._partial.clear()

    def _take(self, stamp_ns: int) -> dict[str, Any]:
        complete = self._partial.pop(stamp_ns)
        self._forget([stamp for stamp in self._partial if stamp < stamp_ns])
        return complete

    def _forget(self, stamps: list[int]) -> None:
        for stamp in stamps:
            # What is optional and late lacks nothing that would have been judged.
            self.incomplete += bool(self._partial.pop(stamp).keys() & self._names)
