# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Who of the nodes beside this one has fallen silent.

A process that is killed says nothing, and DDS misses it only after the lease of its participant,
by default 20 s. But each of our nodes speaks on ``/diagnostics`` once a second, and says when it
ends.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from diagnostic_msgs.msg import DiagnosticArray
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.clock import Clock
from rclpy.clock import ClockType
from rclpy.serialization import deserialize_message

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rclpy.node import Node

ENDED = 'ended'
# One beat of a second, and what a busy host may add to it.
SILENT_S = 1.5
CHECK_S = 0.1
# Those of the others that come while this process is busy must not drive out ours.
DEPTH = 100


@dataclass
class Peer:
    """What was last heard of a node: when (s, steady clock), whether it ended, what is wrong."""

    moment: float
    ended: bool = False
    trouble: str = ''
    silent_s: float = 0.0

    def describe(self, now: float) -> str:
        """Say how it is."""
        if self.ended:
            return ENDED
        if self.silent_s:
            return f'silent for {now - self.moment:.1f} s'
        return self.trouble or 'well'


class Peers:
    """Listens to the diagnostics of the nodes ``names`` in the namespace of ``node``.

    One that was never heard of is not missed: nobody may have meant to start it.
    """

    def __init__(self, node: Node, names: Iterable[str]) -> None:
        namespace = node.get_namespace().strip('/')
        self._heard: dict[str, Peer | None] = dict.fromkeys(names)
        self._prefixes = {
            name: f'{namespace}/{name}: ' if namespace else f'{name}: ' for name in self._heard
        }
        self._checked = time.monotonic()
        if not self._heard:
            return
        # Raw: a vehicle's diagnostics are many, and few of them are ours.
        node.create_subscription(DiagnosticArray, '/diagnostics', self._on_array, DEPTH, raw=True)
        node.create_timer(CHECK_S, self._check, clock=Clock(clock_type=ClockType.STEADY_TIME))

    @property
    def silent(self) -> tuple[str, ...]:
        """Names of the nodes that fell silent without saying that they end."""
        return tuple(
            name for name, peer in self._heard.items() if peer and peer.silent_s and not peer.ended
        )

    def describe(self) -> dict[str, str]:
        """Say of each node how it is."""
        now = time.monotonic()
        return {
            name: peer.describe(now) if peer else 'not heard of'
            for name, peer in self._heard.items()
        }

    def _on_array(self, data: bytes) -> None:
        if not any(prefix.encode() in data for prefix in self._prefixes.values()):
            return
        array = deserialize_message(data, DiagnosticArray)
        for name, prefix in self._prefixes.items():
            statuses = [status for status in array.status if status.name.startswith(prefix)]
            if statuses:
                worst = max(statuses, key=lambda status: status.level)
                self._heard[name] = Peer(
                    time.monotonic(),
                    ended=any(status.message == ENDED for status in statuses),
                    trouble='' if worst.level == DiagnosticStatus.OK else worst.message,
                )

    def _check(self) -> None:
        now = time.monotonic()
        late, self._checked = now - self._checked > 5 * CHECK_S, now
        if late:
            return  # this process itself stood still: what was said meanwhile is read first
        for peer in filter(None, self._heard.values()):
            silence = now - peer.moment
            peer.silent_s = silence if silence > SILENT_S else 0.0
