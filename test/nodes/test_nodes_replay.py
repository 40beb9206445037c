# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The node replay, and the processes that the console scripts start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest
from ros_graph import until
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image

from seg_uncertainty_ros.nodes.conversions import frame_from_compressed
from seg_uncertainty_ros.nodes.conversions import frame_from_image
from seg_uncertainty_ros.nodes.conversions import stamp_ns
from seg_uncertainty_ros.nodes.replay import Pace
from seg_uncertainty_ros.nodes.replay import ReplayNode
from seg_uncertainty_ros.recordings import SourceError
from seg_uncertainty_ros.recordings import open_source

COUNT = 6
RECORDING = 'replay: recording'


@pytest.fixture
def folder(tmp_path):
    """Return a recording: a folder of images, 10 a second."""
    path = tmp_path / 'recording'
    path.mkdir()
    for index in range(COUNT):
        cv2.imwrite(str(path / f'{index:03}.png'), np.full((24, 32, 3), 40 * index, np.uint8))
    return path


def test_publishes_every_frame_with_its_stamp_then_ends(graph, folder):
    images = graph.subscribe(Image, '/image', 10)
    node = graph.node(ReplayNode, source=str(folder), rate=4.0)
    images.wait(COUNT)
    status, values = graph.status(RECORDING, lambda v: v['published'] == str(COUNT))
    until(lambda: node.exit_status is not None, 'the end')
    assert node.exit_status == 0
    assert (status.level, values['skipped']) == (b'\x00', '0')
    frames = list(open_source(folder))
    assert [stamp_ns(message.header.stamp) for message in images] == [f.stamp_ns for f in frames]
    for message, frame in zip(images, frames, strict=True):
        assert message.header.frame_id == frame.frame_id
        np.testing.assert_array_equal(frame_from_image(message).image, frame.image)


def test_loop_goes_on_in_time(graph, folder):
    images = graph.subscribe(Image, '/image', 10)
    node = graph.node(ReplayNode, source=str(folder), rate=20.0, loop=True)
    images.wait(3 * COUNT)
    assert node.exit_status is None
    stamps = [stamp_ns(message.header.stamp) for message in images]
    assert set(np.diff(stamps)) == {100_000_000}


def test_clock_runs_ahead_of_every_image_and_between_them(graph, folder):
    times = graph.subscribe(Clock, '/clock', 200)
    images = graph.subscribe(Image, '/image', 10)
    graph.node(ReplayNode, source=str(folder), clock=True)
    images.wait(COUNT)
    clock = [stamp_ns(message.clock) for message in times]
    assert clock == sorted(clock)
    assert {stamp_ns(message.header.stamp) for message in images} <= set(clock)
    assert len(clock) > 3 * COUNT


def test_compressed_goes_where_image_transport_puts_it(graph, folder):
    images = graph.subscribe(CompressedImage, '/image/compressed', 10)
    graph.node(ReplayNode, source=str(folder), rate=4.0, image_transport='compressed')
    images.wait(COUNT)
    for message, frame in zip(images, open_source(folder), strict=True):
        decoded = frame_from_compressed(message)
        assert decoded.stamp_ns == frame.stamp_ns
        np.testing.assert_allclose(decoded.image, frame.image, atol=3)


def test_a_damaged_frame_is_skipped_and_counted(graph, error_lines, folder):
    (folder / '002.png').write_bytes(b'no image')
    images = graph.subscribe(Image, '/image', 10)
    node = graph.node(ReplayNode, source=str(folder), rate=4.0)
    until(lambda: node.exit_status is not None, 'the end')
    assert len(images.wait(COUNT - 1).data)
    assert graph.nodes[0]._skipped.count == 1
    assert '002.png' in error_lines.wait('replay')[0]


@pytest.mark.parametrize('source', ['', 'nowhere.mcap', 'broken'])
def test_an_unreadable_source_is_refused(graph, tmp_path, source):
    bag = tmp_path / 'broken'
    bag.mkdir()
    (bag / 'metadata.yaml').write_text('rosbag2_bagfile_information: 7\n')
    with pytest.raises(Exception, match=r'source|nowhere|broken') as caught:
        graph.node(ReplayNode, source=str(tmp_path / source) if source else '')
    assert '\n' not in str(caught.value)
    if source:
        assert isinstance(caught.value, SourceError)


def test_pace_follows_stamps_and_starts_anew_when_late():
    pace = Pace()
    assert pace.due(5_000_000_000, 2.0, 100.0) == 100.0
    assert pace.due(6_000_000_000, 2.0, 100.1) == pytest.approx(100.5)
    assert pace.due(7_000_000_000, 2.0, 100.9) == pytest.approx(101.0)
    assert pace.restarts == 0
    assert pace.due(8_000_000_000, 2.0, 103.0) == 103.0
    assert pace.restarts == 1
    assert pace.due(9_000_000_000, 2.0, 103.0) == pytest.approx(103.5)


def start(name, domain, *parameters, **environment):
    arguments = [part for parameter in parameters for part in ('-p', parameter)]
    return subprocess.Popen(
        [sys.executable, '-m', f'seg_uncertainty_ros.nodes.{name}', '--ros-args', *arguments],
        env={**os.environ, 'ROS_DOMAIN_ID': str(domain), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_process_ends_with_1_and_one_line_for_a_source_it_cannot_read(domain, tmp_path):
    process = start('replay', domain, f'source:={tmp_path / "nowhere.mcap"}')
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    (line,) = output.splitlines()
    assert 'nowhere.mcap' in line


def test_process_ends_with_1_for_a_parameter_out_of_range(domain, folder):
    process = start('replay', domain, f'source:={folder}', 'rate:=1000.0')
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    (line,) = output.splitlines()
    assert 'rate' in line
    assert '1000' in line


def test_process_ends_with_0_after_the_last_frame(domain, folder):
    process = start('replay', domain, f'source:={folder}', 'rate:=10', 'wait_for_subscribers:=0')
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert f'published {COUNT}, skipped 0' in output


@pytest.mark.parametrize('name', ['segmentation', 'monitor', 'replay'])
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_process_ends_quietly_on_a_signal(domain, bundle_path, folder, name, number):
    parameter = f'source:={folder}' if name == 'replay' else f'bundle:={bundle_path}'
    process = start(name, domain, parameter, 'wait_timeout:=100.0')
    ready = 'waiting for' if name == 'replay' else 'listening'
    while ready not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert 'Traceback' not in output


def test_process_without_our_transport_says_so_once(domain, bundle_path):
    none = {'FASTRTPS_DEFAULT_PROFILES_FILE': '', 'FASTDDS_DEFAULT_PROFILES_FILE': ''}
    process = start('monitor', domain, f'bundle:={bundle_path}', **none)
    said = ''
    while 'listening' not in said:
        said += process.stdout.readline()
    process.send_signal(signal.SIGINT)
    said += process.communicate(timeout=60)[0]
    assert said.count('config/fastdds.xml') == 1
