# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Joins messages that carry the same stamp."""

from __future__ import annotations

from typing import Any


class ExactStamps:
    """Collects one message of each name a stamp; keeps the few newest stamps that lack some."""

    def __init__(self, names: tuple[str, ...], slots: int = 4) -> None:
        self._names = frozenset(names)
        self._slots = slots
        self._partial: dict[int, dict[str, Any]] = {}
        self.incomplete = 0

    def add(self, name: str, stamp_ns: int, message: Any) -> dict[str, Any] | None:
        """Take a message; return the messages of its stamp by name once none is missing.

        What is older than a complete set, or does not fit any more, counts as ``incomplete``.
        """
        partial = self._partial.setdefault(stamp_ns, {})
        partial[name] = message
        if partial.keys() == self._names:
            del self._partial[stamp_ns]
            self._forget([stamp for stamp in self._partial if stamp < stamp_ns])
            return partial
        self._forget(list(self._partial)[: -self._slots])
        return None

    def clear(self) -> None:
        """Forget what waits, uncounted: time jumped or the node paused."""
        self._partial.clear()

    def _forget(self, stamps: list[int]) -> None:
        for stamp in stamps:
            del self._partial[stamp]
        self.incomplete += len(stamps)
