# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A ROS graph in this process: nodes, and a probe that publishes, listens and calls."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import socket
import threading
import time

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import ChangeState
from lifecycle_msgs.srv import GetState
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter

TIMEOUT_S = 20.0
_CALLS = itertools.count()


def until(condition, what, timeout_s=TIMEOUT_S):
    """Wait until ``condition()`` is true and return its value."""
    end = time.monotonic() + timeout_s
    while True:
        if value := condition():
            return value
        assert time.monotonic() < end, f'{what}: not within {timeout_s:.0f} s'
        time.sleep(0.01)


@contextlib.contextmanager
def free_domain():
    """Reserve a domain in the way of ROS's domain_coordinator: by a port for each.

    Each call begins at another number: a node of the test before may take a while to vanish from
    the domain in which it was.
    """
    first = os.getpid() + 7 * next(_CALLS)
    for offset in range(100):
        number = (first + offset) % 100 + 1
        with socket.socket() as reserved:
            try:
                reserved.bind(('', 32768 + number))
            except OSError:
                continue
            yield number
            return
    raise AssertionError('no free domain')


class Inbox(list):
    """Messages that came on a topic."""

    def wait(self, count=1, timeout_s=TIMEOUT_S):
        """Wait until ``count`` have come and return the last."""
        until(lambda: len(self) >= count, f'{count} messages ({len(self)} came)', timeout_s)
        return self[-1]


class Graph:
    """Nodes of one domain in one executor thread, and a probe node beside them."""

    def __init__(self, domain):
        self.domain = domain
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.nodes = []
        self.probe = rclpy.create_node('probe', context=self.context)
        self.executor.add_node(self.probe)
        self.statuses = []
        self.probe.create_subscription(DiagnosticArray, '/diagnostics', self._on_status, 50)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self):
        while not self._closing.is_set():
            self.executor.spin_once(timeout_sec=0.1)

    def _on_status(self, message):
        stamp = message.header.stamp
        moment = stamp.sec + stamp.nanosec * 1e-9
        self.statuses.extend((moment, status) for status in message.status)

    def close(self):
        # First the executor: what a node destroys must not be in another thread's wait set, and
        # a callback that is under way needs the context.
        self._closing.set()
        self._thread.join()
        rclpy.shutdown(context=self.context)
        for node in self.nodes:
            node.stop()
        for node in (*self.nodes, self.probe):
            node.destroy_node()

    def node(self, create, *, start=True, **parameters):
        """Create a node, start it and let it spin."""
        overrides = [Parameter(name.replace('__', '.'), value=v) for name, v in parameters.items()]
        node = create(context=self.context, parameter_overrides=overrides)
        if start:
            node.start()
        self.nodes.append(node)
        self.executor.add_node(node)
        return node

    def subscribe(self, kind, topic, qos=1):
        inbox = Inbox()
        self.probe.create_subscription(kind, topic, inbox.append, qos)
        return inbox

    def publisher(self, kind, topic, qos=5):
        """Return a publisher that has found its subscriber."""
        publisher = self.probe.create_publisher(kind, topic, qos)
        until(publisher.get_subscription_count, f'a subscriber on {topic}')
        return publisher

    def wait_for_subscribers(self, topic, count=1):
        """Wait until publishers on a topic see their subscribers."""
        for node in self.nodes:
            for publisher in node.publishers:
                if publisher.topic_name == topic:
                    until(
                        lambda publisher=publisher: publisher.get_subscription_count() >= count,
                        f'{count} subscribers on {topic}',
                    )

    def call(self, kind, name, request=None):
        client = self.probe.create_client(kind, name)
        assert client.wait_for_service(TIMEOUT_S), name
        future = client.call_async(request or kind.Request())
        until(future.done, f'answer of {name}')
        return future.result()

    def transition(self, node, label):
        request = ChangeState.Request()
        request.transition.label = label
        return self.call(ChangeState, f'/{node}/change_state', request).success

    def state(self, node):
        return self.call(GetState, f'/{node}/get_state').current_state.label

    def set(self, node, name, value):
        request = SetParameters.Request(
            parameters=[Parameter(name, value=value).to_parameter_msg()]
        )
        return self.call(SetParameters, f'/{node}/set_parameters', request).results[0]

    def status(self, name, accept=lambda values: True):
        """Wait for a status of this name, made from now on, whose values are accepted."""
        seen, now = len(self.statuses), time.time()

        def find():
            for moment, status in self.statuses[seen:]:
                values = {item.key: item.value for item in status.values}
                if status.name == name and moment >= now and accept(values):
                    return status, values
            return None

        return until(find, f'diagnostics of {name}')


class ErrorLines:
    """The errors that nodes of this process have logged to the terminal."""

    def __init__(self, capfd):
        self._capfd = capfd
        self._text = ''

    def wait(self, node):
        """Wait for the first error of a node and return all so far; a traceback stays one."""
        return until(lambda: self._read(node), f'an error of {node}')

    def _read(self, node):
        self._text += self._capfd.readouterr().err
        # Each entry is '[LEVEL] [time] [node]: text'.
        entries = re.split(r'^(?=\[[A-Z]+\] \[)', self._text, flags=re.MULTILINE)
        matches = (
            re.fullmatch(rf'\[ERROR\] \[[\d.]+\] \[{node}\]: (.*?)\n', entry, flags=re.DOTALL)
            for entry in entries
        )
        return [match[1] for match in matches if match]
