# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Who would talk to a node and cannot, since the qualities of service do not fit."""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import TYPE_CHECKING
from typing import Any

from rclpy.event_handler import PublisherEventCallbacks
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.qos import QoSCompatibility
from rclpy.qos import qos_check_compatible

if TYPE_CHECKING:
    from collections.abc import Callable

    from rclpy.node import Node


class QosMismatches:
    """Told by the middleware of a mismatch on a topic, it asks the graph who it is from then on.

    ``say`` gets a line for each mismatch, when it begins.
    """

    def __init__(self, node: Node, say: Callable[[str], Any]) -> None:
        self._node = node
        self._say = say
        self._lines: dict[str, list[str]] = {}

    def subscription_events(self, topic: str, **others: Any) -> SubscriptionEventCallbacks:
        """Return the callbacks of a subscription; ``others`` are for other events."""
        return SubscriptionEventCallbacks(
            incompatible_qos=partial(self._on_mismatch, topic), **others
        )

    def publisher_events(self, topic: str) -> PublisherEventCallbacks:
        """Return the callbacks of a publisher."""
        return PublisherEventCallbacks(incompatible_qos=partial(self._on_mismatch, topic))

    def lines(self, topics: set[str] | None = None) -> list[str]:
        """Return the mismatches that there are now, on ``topics`` or on any, one line each."""
        found = []
        for topic in sorted(self._lines if topics is None else self._lines.keys() & topics):
            before, self._lines[topic] = self._lines[topic], self._ask(topic)
            for line in self._lines[topic]:
                if line not in before:
                    self._say(line)
            found += self._lines[topic]
        return found

    def _on_mismatch(self, topic: str, _info: Any) -> None:
        # Its name comes a moment later: `lines` asks.
        self._lines.setdefault(self._node.resolve_topic_name(topic), [])

    def _ask(self, topic: str) -> list[str]:
        publishers = self._node.get_publishers_info_by_topic(topic)
        subscriptions = self._node.get_subscriptions_info_by_topic(topic)
        lines = []
        for publisher, subscription in product(publishers, subscriptions):
            if not (self._is_ours(publisher) or self._is_ours(subscription)):
                continue
            fit, reason = qos_check_compatible(publisher.qos_profile, subscription.qos_profile)
            if fit == QoSCompatibility.ERROR:
                reason = reason.replace('ERROR: ', '').strip(' ;').replace(';', ', ').lower()
                lines.append(
                    f'nothing goes from {publisher.node_name} to {subscription.node_name} on '
                    f'{topic}: {reason}'
                )
        return lines

    def _is_ours(self, endpoint: Any) -> bool:
        node = self._node
        return (endpoint.node_name, endpoint.node_namespace) == (
            node.get_name(),
            node.get_namespace(),
        )
