# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Event log and snapshots of real nodes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from itertools import cycle
from itertools import islice

import cv2
import numpy as np
import pytest
from rclpy.qos import DurabilityPolicy
from rclpy.qos import QoSProfile
from ros_graph import until
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from std_msgs.msg import String
from test_nodes_lifecycle import WALK
from test_nodes_monitor import QUIET
from test_nodes_monitor import Camera
from test_nodes_monitor import time_of
from vehicle import slack

from seg_uncertainty_ros.nodes.conversions import image_message
from seg_uncertainty_ros.nodes.monitor import PLANES
from seg_uncertainty_ros.nodes.monitor import MonitorNode
from seg_uncertainty_ros.nodes.recorder import PLANES as RECORDED
from seg_uncertainty_ros.nodes.recorder import Alarm
from seg_uncertainty_ros.nodes.recorder import RecorderNode
from seg_uncertainty_ros.nodes.recorder import StateError
from seg_uncertainty_ros.nodes.segmentation import SegmentationNode
from seg_uncertainty_ros.pipeline import Pipeline
from seg_uncertainty_ros.recordings import open_source
from seg_uncertainty_ros.recordings.event_log import read_events

LOG = 'monitor: event log'


def show_until(camera, condition, *, unknown, what):
    def find():
        camera.show(unknown=unknown)
        time.sleep(0.02)
        return condition()

    return until(find, what)


def raised(node):
    return [warning.name for warning in node._assessment.warnings]


def test_events_of_a_drive(graph, bundle_path, bundle, tmp_path):
    node = graph.node(
        MonitorNode,
        bundle=str(bundle_path),
        event_log__directory=str(tmp_path),
        **QUIET,
    )
    camera = Camera(graph, bundle)
    show_until(camera, lambda: node._judged, unknown=False, what='planes')
    show_until(camera, lambda: raised(node), unknown=True, what='warning')
    show_until(camera, lambda: not raised(node), unknown=False, what='its end')
    assert graph.set('monitor', 'ood_area.enter', 0.9).successful
    camera.second += 0.1
    planes = camera.planes(unknown=False)
    planes['anomaly'] = image_message(np.zeros((5, 7), np.uint8), planes['mask'].header)
    camera.send(planes)
    until(lambda: node._complaints.count, 'rejection')
    camera.second -= 100.0
    camera.show()
    earlier_ns = (camera.second + 1) * 1e9
    until(lambda: (node._last_stamp_ns or earlier_ns) < earlier_ns, 'older planes')
    status, values = graph.status(LOG, lambda v: int(v.get('written', 0)) >= 5)
    assert status.level == b'\x00'
    assert values['lost'] == '0'
    assert graph.transition('monitor', 'deactivate')
    assert graph.transition('monitor', 'cleanup')
    read = read_events(tmp_path)
    assert (read.torn, read.faults) == ([], [])
    events = {event['kind']: event for event in read.events}
    kinds = [event['kind'] for event in read.events]
    assert kinds[0] == 'started'
    assert kinds[-1] == 'stopped'
    assert kinds.index('begin') < kinds.index('end') < kinds.index('thresholds')
    assert {'planes_rejected', 'time_jumped'} <= events.keys()
    assert events['started']['details']['parameters']['event_log.directory'] == str(tmp_path)
    begin = events['begin']
    assert begin['origin']['node'] == '/monitor'
    assert begin['frame']['frame_id'] == 'front'
    assert begin['model']['sha256'] == bundle.digest
    assert begin['reaction']['published'].keys() == {'/monitor/state', '/diagnostics'}
    assert begin['reaction']['published']['/diagnostics'] >= 1, 'the probe listens'
    assert abs(begin['time']['wall_ns'] - time.time_ns()) < 120e9
    assert events['thresholds']['details']['changed'] == {'ood_area.enter': 0.9}
    assert 'anomaly: shape (5, 7)' in events['planes_rejected']['message']
    assert 'stamps went back by 99.' in events['time_jumped']['message']


def test_a_disk_that_refuses_is_said_and_the_monitor_goes_on(
    graph, error_lines, bundle_path, bundle, tmp_path
):
    folder = tmp_path / 'log'
    folder.write_text('a file where a folder should be')
    node = graph.node(
        MonitorNode, bundle=str(bundle_path), event_log__directory=str(folder), **QUIET
    )
    camera = Camera(graph, bundle)
    show_until(camera, lambda: node._judged, unknown=False, what='planes')
    show_until(camera, lambda: raised(node), unknown=True, what='warning')
    status, values = graph.status(LOG, lambda v: v.get('waiting') == '2')
    assert status.level == b'\x01'
    assert status.message.startswith(f'{folder}: File exists; trying again every 5 s, 2 lines')
    assert error_lines.wait('monitor') == [f'event log in {folder}: File exists']
    folder.unlink()
    status, values = graph.status(LOG, lambda v: v.get('waiting') == '0')
    assert (status.level, values['lost']) == (b'\x00', '0')
    assert [event['kind'] for event in read_events(folder).events] == ['started', 'begin']


def test_contradicting_limits_are_refused(graph, error_lines, bundle_path):
    graph.node(
        MonitorNode,
        bundle=str(bundle_path),
        event_log__directory='/nowhere',
        event_log__file_mib=8,
        event_log__total_mib=9,
    )
    (line,) = error_lines.wait('monitor')
    assert 'expected two files of 8388608' in line
    assert graph.state('monitor') == 'unconfigured'


DRIVE = 'procedural:seed=109,duration=6,rate=10,width=320,height=192,unknown=cargo_box:0.5-5'
# Frames in which the box comes close.
CLOSE = (27, 40)
SNAPSHOTS = 'recorder: snapshots'


def encoded(frame, transport):
    """Return the message of a frame as a camera driver would send it now."""
    header = Header(stamp=time_of(time.time()), frame_id='front')
    if transport == 'raw':
        return image_message(frame.image, header)
    _, data = cv2.imencode('.jpg', frame.image)
    message = CompressedImage(header=header, format='jpeg')
    message.data.frombytes(data.data)
    return message


def read_bag(path):
    """Return messages by topic, each with its stamp."""
    with AnyReader([path]) as reader:
        found = {}
        for connection, _, data in reader.messages():
            message = reader.deserialize(data, connection.msgtype)
            if (header := getattr(message, 'header', None)) is not None:
                stamp = header.stamp.sec * 10**9 + header.stamp.nanosec
                found.setdefault(connection.topic, {})[stamp] = message
            else:
                found.setdefault(connection.topic, []).append(message)
        return found


@pytest.mark.parametrize('transport', ['raw', 'compressed'])
def test_a_snapshot_replays_to_the_same_planes(graph, bundle_path, bundle, tmp_path, transport):
    limits = {
        **QUIET,
        'ood_area__enter': 0.015,
        'ood_area__exit': 0.005,
        'ood_area__hold_off': 3600.0,
    }
    graph.node(SegmentationNode, bundle=str(bundle_path), image_transport=transport)
    monitor = graph.node(
        MonitorNode, bundle=str(bundle_path), event_log__directory=str(tmp_path), **limits
    )
    graph.node(
        RecorderNode,
        directory=str(tmp_path),
        before=10.0,
        after=0.5,
        image_transport=transport,
    )
    topic = {'raw': '/image', 'compressed': '/image/compressed'}[transport]
    camera = graph.publisher(CompressedImage if transport == 'compressed' else Image, topic)
    until(lambda: camera.get_subscription_count() == 2, 'both listeners')
    for name in PLANES:
        graph.wait_for_subscribers(f'/segmentation/{name}', 2 if name in RECORDED else 1)
    frames = cycle(islice(open_source(DRIVE), *CLOSE))

    def drive():
        judged = monitor._judged
        camera.publish(encoded(next(frames), transport))
        until(lambda: monitor._judged > judged, 'its judgement')
        return [e for e in read_events(tmp_path).events if e['kind'] == 'snapshot']

    until(lambda: list(tmp_path.glob('*.jsonl')), 'the logs')
    (event,) = until(drive, 'a snapshot', timeout_s=50.0)
    status, values = graph.status(SNAPSHOTS)
    assert (status.level, values['taken'], values['failed']) == (b'\x00', '1', '0')
    # The log names the bag, the warning and the frame.
    begin = next(e for e in read_events(tmp_path).events if e['kind'] == 'begin')
    assert begin['warning']['name'] == 'ood_area'
    assert event['details']['warnings'] == ['ood_area']
    assert event['frame']['stamp_ns'] == begin['frame']['stamp_ns']
    assert event['details']['bundle'] == bundle.label
    path = tmp_path / event['details']['bag']
    assert path.name.endswith('.ood_area')
    # The bag has the frame of the warning, and replays to the same planes.
    bag = read_bag(path)
    assert begin['frame']['stamp_ns'] in bag['/segmentation/mask']
    assert {topic, '/segmentation/mask', '/segmentation/anomaly', '/monitor/state'} == bag.keys()
    pipeline = Pipeline(bundle)
    compared = 0
    for frame in open_source(str(path), topic=topic):
        mask = bag['/segmentation/mask'].get(frame.stamp_ns)
        anomaly = bag['/segmentation/anomaly'].get(frame.stamp_ns)
        if mask is None or anomaly is None:
            continue
        result = pipeline.process(frame)
        assert np.array_equal(mask.data, result.mask.reshape(-1))
        assert np.array_equal(anomaly.data, result.anomaly.reshape(-1))
        assert mask.header.frame_id == frame.frame_id == 'front'
        compared += 1
    assert compared >= 3


def test_a_publisher_that_a_recorder_cannot_hear_is_named(graph, tmp_path):
    graph.node(RecorderNode, directory=str(tmp_path))
    graph.probe.create_publisher(String, '/monitor/state', 1)  # volatile
    status = until(
        lambda: next((s for _, s in graph.statuses if 'nothing goes' in s.message), None), 'words'
    )
    assert status.name == SNAPSHOTS
    assert 'nothing goes from probe to recorder on /monitor/state: ' in status.message


@pytest.mark.parametrize(
    ('create', 'others'),
    [(RecorderNode, ('segmentation', 'monitor')), (MonitorNode, ('recorder',))],
)
def test_a_neighbour_that_is_killed_is_named(graph, create, others):
    task = f'{graph.node(create, autostart=False).get_name()}: node'
    environment = {**os.environ, 'ROS_DOMAIN_ID': str(graph.domain)}
    arguments = ['--ros-args', '-p', 'autostart:=false']

    def said(words):
        found = (each for each in list(graph.statuses) if each[1].name == task)
        return next((each for each in found if words in each[1].message), None)

    def heard(name):
        return graph.status(task)[1][name] != 'not heard of'

    with contextlib.ExitStack() as stack:
        neighbours = {}
        for name in others:
            command = [sys.executable, '-m', f'seg_uncertainty_ros.nodes.{name}', *arguments]
            neighbours[name] = stack.enter_context(subprocess.Popen(command, env=environment))
            stack.callback(neighbours[name].kill)
        until(lambda: all(map(heard, others)), 'the others', 60.0)
        for name, process in neighbours.items():
            process.kill()
            killed = time.time()
            words = f'{name} says nothing'
            moment, status = until(lambda words=words: said(words), words)
            assert status.level == b'\x02'
            assert 0.0 < moment - killed < 2.0 * slack()


def test_a_recorder_without_a_directory_says_so(graph, error_lines):
    graph.node(RecorderNode)
    (line,) = error_lines.wait('recorder')
    assert 'parameter directory is empty' in line
    assert graph.status(SNAPSHOTS)[0].level == b'\x02'


class Warner:
    """Says what a monitor says, and shows images beside it."""

    def __init__(self, graph):
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.states = graph.probe.create_publisher(String, '/monitor/state', latched)
        self._camera = graph.probe.create_publisher(Image, '/image', 5)
        for publisher in (self.states, self._camera):
            until(publisher.get_subscription_count, 'the recorder', timeout_s=60.0)

    def say(self, *names):
        warnings = [{'name': name, 'message': f'{name} is bad'} for name in names]
        content = {'warnings': warnings, 'stamp_ns': 5, 'bundle': 'x 1 abc'}
        self.states.publish(String(data=json.dumps(content)))

    def show(self):
        header = Header(stamp=time_of(1.0))
        self._camera.publish(image_message(np.zeros((9, 9, 3), np.uint8), header))


def test_a_recorder_takes_one_snapshot_a_while_and_no_nonsense(graph, error_lines, tmp_path):
    node = graph.node(RecorderNode, directory=str(tmp_path), before=60.0, after=0.0)
    status, _ = graph.status(SNAPSHOTS)
    assert status.level == b'\x01'
    assert status.message.startswith(
        'nobody publishes /image; nobody publishes /segmentation/mask'
    )
    monitor = Warner(graph)
    monitor.say('latency')  # raised before the recorder knew: not its beginning
    until(lambda: node._known == {'latency'}, 'the first state')
    monitor.states.publish(String(data='{"warnings": 3}'))
    until(lambda: node._complaints.count == 1, 'the complaint')
    monitor.states.publish(b'no message')
    until(lambda: node._complaints.count == 2, 'the second complaint')
    status = until(
        lambda: next((s for _, s in list(graph.statuses) if 'deserialize' in s.message), None),
        'its status',
    )
    assert (status.name, status.level) == (SNAPSHOTS, b'\x02')
    held = node._snapshots.ring.bytes
    monitor.show()
    until(lambda: node._snapshots.ring.bytes > held, 'the image')
    monitor.say('latency', 'ood_area')
    until(lambda: node._counts['taken'] == 1, 'the snapshot')
    monitor.say()
    monitor.say('domain_shift')
    until(lambda: node._counts['refused'] == 1, 'the refusal')
    assert graph.transition('recorder', 'deactivate')
    assert graph.transition('recorder', 'cleanup')
    started, taken, refused, stopped = read_events(tmp_path).events
    assert started['details']['parameters']['before'] == 60.0
    (frame,) = open_source(str(tmp_path / taken['details']['bag']), topic='/image')
    assert frame.image.shape == (9, 9, 3)
    assert stopped['details'] == {'taken': 1, 'refused': 1, 'failed': 0, 'dropped': 0}
    assert taken['details']['warnings'] == ['ood_area']
    assert refused['details'] == {
        'warnings': ['domain_shift'],
        'bundle': 'x 1 abc',
        'bag': None,
    }
    assert 'one in 60 s at most' in refused['message']
    first, second = error_lines.wait('recorder')
    assert first.startswith('monitor/state: no state of a monitor')
    assert 'deserialize' in second


def test_a_recorder_whose_disk_refuses_says_so_before_and_after_a_warning(graph, tmp_path):
    folder = tmp_path / 'file'
    folder.write_text('a file where a folder should be')
    node = graph.node(RecorderNode, directory=str(folder), before=1.0, after=0.0, min_interval=0.0)
    status, _ = graph.status('recorder: event log', lambda v: v.get('waiting') == '1')
    assert status.level == b'\x01'
    assert status.message.startswith(f'{folder}: File exists')
    monitor = Warner(graph)
    monitor.say()
    until(lambda: node._known == set(), 'the first state')
    monitor.say('latency')
    status, _ = graph.status(SNAPSHOTS, lambda v: v.get('failed') == '1')
    assert status.level == b'\x01'
    assert 'the last one failed: ' in status.message
    folder.unlink()
    monitor.say('ood_area')
    status, _ = graph.status(SNAPSHOTS, lambda v: v.get('taken') == '1')
    assert 'failed' not in status.message
    graph.status('recorder: event log', lambda v: v.get('waiting') == '0')
    _, failed, taken = read_events(folder).events
    assert failed['message'].startswith('no snapshot of latency: ')
    assert (failed['details']['warnings'], failed['details']['bag']) == (['latency'], None)
    assert taken['details']['warnings'] == ['ood_area']
    assert (folder / taken['details']['bag'] / 'metadata.yaml').exists()


def test_a_recorder_walks_every_transition_and_leaves_nothing(graph, tmp_path):
    node = graph.node(RecorderNode, directory=str(tmp_path), autostart=False)
    threads, topics = threading.active_count(), len(list(node.subscriptions))
    for label, state in WALK:
        assert graph.transition('recorder', label)
        assert graph.state('recorder') == state
    assert (threading.active_count(), len(list(node.subscriptions))) == (threads, topics)
    read = read_events(tmp_path)
    assert ([event['kind'] for event in read.events], read.faults) == (
        ['started', 'stopped'] * 3,
        [],
    )


@pytest.mark.parametrize('text', ['', '[]', '{}', '{"warnings": [3]}', '[' * 100_000])
def test_a_state_that_is_none(text):
    with pytest.raises(StateError, match='no state of a monitor'):
        Alarm.of(text)


def test_a_signal_finishes_the_snapshot_and_the_log(graph, tmp_path):
    values = ['-p', f'directory:={tmp_path}', '-p', 'after:=60.0']
    with subprocess.Popen(
        [sys.executable, '-m', 'seg_uncertainty_ros.nodes.recorder', '--ros-args', *values],
        env={**os.environ, 'ROS_DOMAIN_ID': str(graph.domain)},
        stderr=subprocess.PIPE,
        text=True,
    ) as recorder:
        monitor = Warner(graph)
        monitor.say()
        graph.status(SNAPSHOTS, lambda v: v.get('raised') == 'nothing')
        monitor.say('ood_area')
        until(lambda: monitor.show() or list(tmp_path.glob('*.ood_area')), 'the snapshot')
        recorder.send_signal(signal.SIGTERM)
        said = recorder.communicate(timeout=60.0)[1]
    assert recorder.returncode == 0
    assert 'Traceback' not in said
    started, event, stopped = read_events(tmp_path).events
    assert (started['kind'], stopped['kind']) == ('started', 'stopped')
    assert '/monitor/state' in read_bag(tmp_path / event['details']['bag'])
