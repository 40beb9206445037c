# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A process that subscribes to planes now and then: after each + on stdin, no longer after a -."""

from __future__ import annotations

import os
import select
import subprocess
import sys

import rclpy
from sensor_msgs.msg import Image


class Listener:
    """The running process."""

    def __init__(self, environment):
        command = [sys.executable, __file__]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment)

    def say(self, word):
        """Tell it what to do."""
        self.process.stdin.write(word)
        self.process.stdin.flush()

    def close(self):
        """End it."""
        try:
            self.process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def main():
    """Do as stdin says, and end with it."""
    rclpy.init(args=[])
    node = rclpy.create_node('listener')
    subscriptions = []
    while True:
        rclpy.spin_once(node, timeout_sec=0.02 if subscriptions else 0.2)
        if not select.select([sys.stdin], [], [], 0)[0]:
            continue
        word = os.read(sys.stdin.fileno(), 1)
        if word == b'+':
            subscriptions = [
                node.create_subscription(Image, f'segmentation/{name}', id, 1)
                for name in ('mask', 'anomaly', 'overlay')
            ]
            continue
        for subscription in subscriptions:
            node.destroy_subscription(subscription)
        subscriptions = []
        if not word:
            break
    node.destroy_node()
    rclpy.shutdown()


if __name__ == '__main__':
    main()
