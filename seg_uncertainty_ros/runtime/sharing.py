# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Several users of one engine: opened once, used in turns."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Condition
from threading import Lock
from typing import TYPE_CHECKING
from typing import Any

from seg_uncertainty_ros.runtime.selection import open_runtime

if TYPE_CHECKING:
    from collections.abc import Hashable

    from seg_uncertainty_ros.bundle import Bundle
    from seg_uncertainty_ros.runtime.selection import Backend
    from seg_uncertainty_ros.runtime.selection import Selection


class Turns:
    """A lock that its waiters get in the order in which they asked, so that nobody starves.

    ``threading.Lock`` makes no such promise: a thread that lets go and asks again may get it
    before those that have waited.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._asked = 0
        self._served = 0

    def __enter__(self) -> None:
        """Wait for one's turn."""
        with self._changed:
            mine = self._asked
            self._asked += 1
            self._changed.wait_for(lambda: self._served == mine)

    def __exit__(self, *_: object) -> None:
        """Give the next one its turn."""
        with self._changed:
            self._served += 1
            self._changed.notify_all()


@dataclass(eq=False)
class _Shared:
    runtime: Selection
    users: int = 1


class Runtimes:
    """Opens what runs a graph once for all users that ask for the same, who take turns."""

    def __init__(self) -> None:
        self.turns = Turns()
        self._lock = Lock()
        self._shared: dict[Hashable, _Shared] = {}

    def open(self, bundle: Bundle, backend: Backend = 'auto', **options: Any) -> Selection:
        """Open as ``open_runtime`` does, or return what another user has opened.

        Raises:
            GraphError: as ``open_runtime``.

        """
        asked = sorted((name, value) for name, value in options.items() if name != 'say')
        key = (bundle.digest, backend, *asked)
        with self._lock:
            if key in self._shared:
                self._shared[key].users += 1
            else:
                self._shared[key] = _Shared(open_runtime(bundle, backend, **options))
            return self._shared[key].runtime

    def release(self, runtime: Selection) -> None:
        """Close a runtime that nobody else uses."""
        with self._lock:
            for key, shared in self._shared.items():
                if shared.runtime is runtime:
                    shared.users -= 1
                    if not shared.users:
                        del self._shared[key]
                        runtime.close()
                    return
