# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Several cameras on one engine: who gets how much of it, and what stays apart."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from ros_graph import until
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from std_msgs.msg import String

from seg_uncertainty_ros.nodes.conversions import image_message
from seg_uncertainty_ros.nodes.segmentation import SegmentationNode
from seg_uncertainty_ros.nodes.worker import NewestWins
from seg_uncertainty_ros.runtime.sharing import Runtimes
from seg_uncertainty_ros.runtime.sharing import Turns

SIZE = (360, 640)


def image(index, size=SIZE):
    rng = np.random.default_rng(index % 7)
    pixels = np.repeat(rng.integers(0, 256, (size[0], 1, 3), dtype=np.uint8), size[1], axis=1)
    stamp = Time(sec=1_600_000_000 + index // 100, nanosec=(index % 100) * 10_000_000)
    return image_message(pixels, Header(stamp=stamp, frame_id='camera'))


def test_turns_come_in_the_order_in_which_they_were_asked_for():
    turns, order = Turns(), []
    with turns:
        threads = []
        for index in range(5):

            def ask(index=index):
                with turns:
                    order.append(index)

            threads.append(threading.Thread(target=ask))
            threads[-1].start()
            until(lambda index=index: turns._asked == index + 2, 'a waiter')
    for thread in threads:
        thread.join(10.0)
    assert order == [0, 1, 2, 3, 4]


def test_a_turn_is_given_back_by_one_who_fails():
    turns = Turns()
    with pytest.raises(ZeroDivisionError), turns:
        1 / 0  # noqa: B018
    with turns:
        pass


def test_what_is_newest_when_the_turn_comes_is_worked_on():
    turns, done = Turns(), []
    worker = NewestWins(lambda item: done.append(item) or True, turns)
    with turns:
        worker.start('test')
        worker.put('first')
        until(lambda: turns._asked == 2, 'the worker waits')
        for item in ('second', 'third'):
            worker.put(item)
        assert worker.counts.in_flight == 1
    until(lambda: worker.counts.processed, 'a turn')
    worker.stop()
    assert done == ['third']
    assert (worker.counts.received, worker.counts.dropped) == (3, 2)


def test_four_cameras_share_one_engine_fairly_whatever_their_rates(graph, bundle_path):
    rates = {'front': 60.0, 'rear': 12.0, 'left': 12.0, 'right': 12.0}
    runtimes = Runtimes()
    nodes = {
        name: graph.node(
            partial(SegmentationNode, namespace=name, runtimes=runtimes), bundle=str(bundle_path)
        )
        for name in rates
    }
    assert len({id(node._runtime) for node in nodes.values()}) == 1
    for name in rates:
        graph.subscribe(Image, f'/{name}/segmentation/mask', 5)
    publishers = {name: graph.publisher(Image, f'/{name}/image') for name in rates}
    messages = [image(index) for index in range(40)]
    begun = time.monotonic()
    sent = dict.fromkeys(rates, 0)
    # As many as it takes to see a difference of a tenth.
    while min(node._worker.counts.processed for node in nodes.values()) < 20:
        now = time.monotonic() - begun
        assert now < 60.0
        for name, rate in rates.items():
            if now >= sent[name] / rate:
                publishers[name].publish(messages[sent[name] % len(messages)])
                sent[name] += 1
        time.sleep(0.002)
    processed = [node._worker.counts.processed for node in nodes.values()]
    assert max(processed) - min(processed) <= 0.1 * max(processed) + 1, processed
    assert sent['front'] > 2 * sent['rear']
    counts = nodes['front']._worker.counts
    assert counts.dropped > 0
    for node in nodes.values():
        kept = node._worker.counts
        done = kept.processed + kept.dropped + kept.rejected + kept.in_flight
        assert kept.received == done
    # The last one to go closes the engine.
    for node in nodes.values():
        assert runtimes._shared
        node.trigger_deactivate()
        node.trigger_cleanup()
    assert not runtimes._shared


def test_bad_images_of_one_camera_do_not_hold_up_another(graph, bundle_path, error_lines):
    runtimes = Runtimes()
    bad, good = (
        graph.node(
            partial(SegmentationNode, namespace=name, runtimes=runtimes), bundle=str(bundle_path)
        )
        for name in ('bad', 'good')
    )
    masks = graph.subscribe(Image, '/good/segmentation/mask', 5)
    graph.wait_for_subscribers('/good/segmentation/mask')
    damaged = graph.publisher(Image, '/bad/image')
    fine = graph.publisher(Image, '/good/image')
    message = image(0, (96, 128))
    broken = image(0, (96, 128))
    broken.encoding = 'nonsense'

    def enough():
        damaged.publish(broken)
        fine.publish(message)
        time.sleep(0.02)
        return len(masks) >= 5

    until(enough, 'five masks')
    assert bad._worker.counts.processed == 0
    assert bad._worker.counts.rejected > 0
    assert good._worker.counts.rejected == 0
    (line,) = error_lines.wait('bad.segmentation')
    assert "image on /bad/image rejected: encoding: 'nonsense'" in line


def test_the_process_has_nodes_for_each_camera(graph, bundle_path, domain):
    environment = {**os.environ, 'ROS_DOMAIN_ID': str(domain)}
    command = [sys.executable, '-m', 'seg_uncertainty_ros.nodes.cameras', 'front', 'rear']
    parameters = ['--ros-args', '-p', f'bundle:={bundle_path}']
    process = subprocess.Popen([*command, *parameters], env=environment)
    try:
        masks, states = (
            {name: graph.subscribe(kind, f'/{name}/{topic}', 5) for name in ('front', 'rear')}
            for kind, topic in ((Image, 'segmentation/mask'), (String, 'monitor/state'))
        )
        publishers = [graph.publisher(Image, f'/{name}/image') for name in ('front', 'rear')]
        index = 0

        def enough():
            nonlocal index
            index += 1
            for publisher in publishers:
                publisher.publish(image(index, (96, 128)))
            time.sleep(0.05)
            return all(len(inbox) > 2 for inbox in (*masks.values(), *states.values()))

        until(enough, 'masks and states of both')
        process.send_signal(signal.SIGINT)
        assert process.wait(20.0) == 0
    finally:
        process.kill()
    refused = subprocess.run([*command, 'front'], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert 'front: given twice' in refused.stderr
