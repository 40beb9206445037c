# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The node monitor on planes that a test makes up."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from rclpy.qos import DurabilityPolicy
from rclpy.qos import QoSProfile
from ros_graph import until
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from statistics_of_drives import USUAL
from std_msgs.msg import Float32
from std_msgs.msg import Header
from std_msgs.msg import String
from std_srvs.srv import Trigger

from seg_uncertainty_ros.nodes.conversions import embedding_message
from seg_uncertainty_ros.nodes.conversions import image_message
from seg_uncertainty_ros.nodes.conversions import image_statistics_message
from seg_uncertainty_ros.nodes.monitor import DISPERSION
from seg_uncertainty_ros.nodes.monitor import IMAGE_STATISTICS
from seg_uncertainty_ros.nodes.monitor import PLANES
from seg_uncertainty_ros.nodes.monitor import MonitorNode
from seg_uncertainty_ros.nodes.monitor import parse_polygon
from seg_uncertainty_ros.nodes.segmentation import SegmentationNode
from seg_uncertainty_ros.pipeline import network_input
from seg_uncertainty_ros.segments.meta import LinearModel
from seg_uncertainty_ros.segments.meta import MetaModel
from seg_uncertainty_ros.shift.image_statistics import image_statistics

HEIGHT, WIDTH = 90, 160
TRUST = 'monitor: trust'
START_S = 1_300_000_000.0
# Only the unknown object is judged: nothing else can raise a warning.
QUIET = {
    'ood_area__enter': 0.05,
    'ood_area__exit': 0.02,
    'ood_area__hold_on': 0.0,
    'ood_area__hold_off': 0.0,
    'low_confidence__enabled': False,
    'domain_shift__enabled': False,
    'stale_input__enabled': False,
    'latency__enabled': False,
}


def time_of(second):
    return Time(sec=int(second), nanosec=round(second % 1 * 1e9))


class Camera:
    """Publishes made-up planes, 10 a second by their stamps."""

    def __init__(self, graph, bundle):
        self._publishers = {
            name: graph.publisher(Image, f'/segmentation/{name}') for name in PLANES
        }
        self._bundle = bundle
        self._road = [info.name for info in bundle.classes].index('road')
        self.second = START_S

    def add(self, name, graph):
        self._publishers[name] = graph.publisher(Image, f'/segmentation/{name}')

    def planes(self, *, unknown):
        header = Header(stamp=time_of(self.second), frame_id='front')
        mask = np.full((HEIGHT, WIDTH), self._road, np.uint8)
        anomaly = np.zeros((HEIGHT, WIDTH), np.uint8)
        if unknown:
            anomaly[50:80, 60:120] = 255
        return {
            'mask': image_message(mask, header),
            'confidence': image_message(np.full((HEIGHT, WIDTH), 230, np.uint8), header),
            'anomaly': image_message(anomaly, header),
            'embedding': embedding_message(np.zeros(self._bundle.reference.size), header),
        }

    def send(self, planes):
        for name, message in planes.items():
            self._publishers[name].publish(message)

    def show(self, *, unknown=False):
        self.second += 0.1
        self.send(self.planes(unknown=unknown))


@pytest.fixture
def states(graph):
    qos = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    return graph.subscribe(String, '/monitor/state', qos)


def wait_state(states, accept, act=lambda: None):
    """Wait for a state that is accepted; ``act`` before each look."""
    seen = len(states)

    def find():
        act()
        for message in states[seen:]:
            content = json.loads(message.data)
            if accept(content):
                return content
        return None

    return until(find, 'the state')


def settle(count):
    """Wait until ``count()`` has stood still for a moment."""
    last, since = count(), time.monotonic()
    while time.monotonic() - since < 0.3:
        if (now := count()) != last:
            last, since = now, time.monotonic()
        time.sleep(0.02)


def names(content):
    return [warning['name'] for warning in content['warnings']]


def test_unknown_object_raises_and_clears(graph, bundle_path, bundle, states):
    graph.node(MonitorNode, bundle=str(bundle_path), **QUIET)
    areas = graph.subscribe(Float32, '/monitor/ood_area')
    graph.wait_for_subscribers('/monitor/ood_area')
    camera = Camera(graph, bundle)
    assert names(wait_state(states, lambda c: c['ood_area'] == 0.0, camera.show)) == []
    content = wait_state(
        states, lambda c: 'ood_area' in names(c), lambda: camera.show(unknown=True)
    )
    assert content['state'] == 'ERROR'
    (warning,) = content['warnings']
    assert warning['threshold'] == 0.05
    assert warning['value'] == pytest.approx(30 * 60 / (HEIGHT * WIDTH), rel=0.1)
    box = warning['box']
    assert abs(box['x'] - 60) <= 4
    assert abs(box['y'] - 50) <= 4
    assert content['regions'][0]['predicted'] == 'road'
    # Messages of two topics come in any order.
    area = until(lambda: max((message.data for message in areas), default=0.0), 'the area')
    assert area == pytest.approx(warning['value'])
    status, values = graph.status(TRUST, lambda v: 'warning.ood_area' in v)
    assert status.level == b'\x02'
    assert values['warning.ood_area'] == status.message
    cleared = wait_state(states, lambda c: c['state'] == 'OK', camera.show)
    assert names(cleared) == []


def entropy_model():
    """Return a model that takes for an object whose entropy is above 0.5."""
    line = LinearModel((20.0,), 0.0)
    return MetaModel(
        scores=('entropy', 'margin', 'pgn_onehot'),
        features=('entropy_mean',),
        mean=(0.5,),
        scale=(1.0,),
        classification=line,
        regression=line,
        threshold=0.5,
        reason='test',
        provenance={},
    )


def test_objects_have_probability_and_identity_where_there_is_dispersion(
    graph, bundle_path, bundle, states, tmp_path
):
    path = shutil.copytree(bundle_path, tmp_path / 'bundle')
    replace(bundle, path=path, segments=entropy_model()).write()
    graph.node(MonitorNode, bundle=str(path), **QUIET)
    camera = Camera(graph, bundle)
    # Planes alone, as of an older recording: every region is an object.
    first = wait_state(states, lambda c: c['regions'], lambda: camera.show(unknown=True))
    assert first['regions'][0]['probability'] is None
    assert 'objects have no probability: no dispersion' in first['notes']
    camera.add(DISPERSION, graph)

    def show(entropy):
        camera.second += 0.1
        planes = camera.planes(unknown=True)
        scores = np.full((HEIGHT // 4, WIDTH // 4, 3), entropy, np.float32)
        camera.send({**planes, DISPERSION: image_message(scores, planes['mask'].header)})

    def judged(content):
        return content['regions'] and content['regions'][0]['probability'] is not None

    (region,) = wait_state(states, judged, lambda: show(0.6))['regions']
    assert region['probability'] == pytest.approx(1 / (1 + np.exp(-2.0)))
    assert region['track'] == first['regions'][0]['track']
    assert region['age_s'] > 0
    assert 0 < region['persistence'] <= 1
    dismissed = wait_state(states, lambda c: c['dismissed'], lambda: show(0.3))
    assert (dismissed['regions'], dismissed['ood_area'], dismissed['state']) == ([], 0.0, 'OK')
    _, values = graph.status(TRUST, lambda v: v['dismissed'] == '1')
    assert int(values['judged_with_dispersion']) > 0
    assert values['rejected'] == '0'
    assert graph.set('monitor', 'anomaly.meta', value=False).successful
    everything = wait_state(states, lambda c: c['regions'], lambda: show(0.3))
    assert everything['regions'][0]['probability'] < 0.5


def test_domain_shift_says_what_moved_with_and_without_image_statistics(
    graph, bundle_path, bundle, states, tmp_path, shift_reference
):
    path = shutil.copytree(bundle_path, tmp_path / 'bundle')
    written = replace(bundle, path=path, reference=shift_reference).write()
    values = {**QUIET, 'domain_shift__enabled': True, 'ood_area__enabled': False}
    graph.node(MonitorNode, bundle=str(path), **values)
    camera = Camera(graph, bundle)
    first = wait_state(states, lambda c: c['domain_shift'] is not None, camera.show)
    assert 'brightness' not in first['indicators']
    assert first['indicators']['embedding']['ratio'] > 1, 'far from the reference'
    assert first['bundle'] == written.label
    assert first['overridden'] == [
        *('ood_area.enter 0.05', 'ood_area.exit 0.02', 'ood_area disabled'),
        *('low_confidence disabled', 'stale_input disabled', 'latency disabled'),
    ]
    camera.add(IMAGE_STATISTICS, graph)

    def show():
        camera.second += 0.1
        planes = camera.planes(unknown=False)
        night = USUAL._replace(brightness=0.1)
        camera.send(
            {**planes, IMAGE_STATISTICS: image_statistics_message(night, planes['mask'].header)}
        )

    def dark(content):
        return names(content) == ['domain_shift'] and 'darker' in content['moved']

    content = wait_state(states, dark, show)
    assert content['indicators']['brightness']['value'] == pytest.approx(0.1)
    (warning,) = content['warnings']
    assert warning['message'].startswith('unfamiliar surroundings: ')
    assert 'darker' in warning['message']
    _, values = graph.status(TRUST, lambda v: 'warning.domain_shift' in v)
    assert int(values['judged_with_image_statistics']) > 0
    assert values['bundle'] == written.label != bundle.label
    assert 'a false alarm every 0.1 h' in values['reference']
    assert 'ood_area.enter 0.05' in values['thresholds_overridden']
    assert values['rejected'] == '0'


def test_image_statistics_come_from_the_segmentation_node(
    graph, bundle_path, bundle, states, tmp_path, shift_reference
):
    path = shutil.copytree(bundle_path, tmp_path / 'bundle')
    replace(bundle, path=path, reference=shift_reference).write()
    graph.node(SegmentationNode, bundle=str(path))
    graph.node(MonitorNode, bundle=str(path), **{**QUIET, 'domain_shift__enabled': True})
    graph.wait_for_subscribers('/segmentation/image_statistics')
    camera = graph.publisher(Image, '/image')
    pixels = np.random.default_rng(0).integers(0, 256, (96, 160, 3), dtype=np.uint8)
    second = START_S

    def show():
        nonlocal second
        second += 0.5
        header = Header(stamp=time_of(second), frame_id='front')
        camera.publish(image_message(pixels, header))
        time.sleep(0.05)

    content = wait_state(states, lambda c: 'brightness' in c['indicators'], show)
    expected = image_statistics(network_input(pixels, bundle.geometry))
    for name in ('brightness', 'sharpness', 'noise'):
        value = content['indicators'][name]['value']
        assert value == pytest.approx(getattr(expected, name), rel=1e-3)


def test_regions_come_as_detections(graph, bundle_path, bundle, states):
    vision_msgs = pytest.importorskip('vision_msgs.msg', reason='vision_msgs is not installed')
    graph.node(MonitorNode, bundle=str(bundle_path), **QUIET)
    regions = graph.subscribe(vision_msgs.Detection2DArray, '/monitor/regions')
    graph.wait_for_subscribers('/monitor/regions')
    camera = Camera(graph, bundle)
    wait_state(states, lambda c: c['regions'], lambda: camera.show(unknown=True))
    detections = until(
        lambda: next((message for message in regions if message.detections), None), 'detections'
    )
    assert detections.header.frame_id == 'front'
    (detection,) = detections.detections
    assert detection.header == detections.header
    assert detection.bbox.center.position.x == pytest.approx(89.5, abs=2)
    assert detection.bbox.center.position.y == pytest.approx(64.5, abs=2)
    assert detection.bbox.size_x == pytest.approx(60, abs=4)
    assert detection.bbox.size_y == pytest.approx(30, abs=4)
    (result,) = detection.results
    assert detection.id.isdigit()
    assert result.hypothesis.class_id == 'unknown'
    assert result.hypothesis.score > 0.5


def test_latched_warning_waits_for_reset(graph, bundle_path, bundle, states):
    graph.node(MonitorNode, bundle=str(bundle_path), ood_area__latch=True, **QUIET)
    camera = Camera(graph, bundle)
    wait_state(states, lambda c: 'ood_area' in names(c), lambda: camera.show(unknown=True))
    latched = wait_state(states, lambda c: c['ood_area'] == 0.0, camera.show)
    assert names(latched) == ['ood_area']
    answer = graph.call(Trigger, '/monitor/reset')
    assert answer.success
    assert answer.message == 'cleared: ood_area'
    content = wait_state(states, lambda c: c['ood_area'] == 0.0, camera.show)
    assert names(content) == []
    assert graph.call(Trigger, '/monitor/reset').message == 'cleared: nothing was raised'


def test_silence_is_a_warning(graph, bundle_path, bundle, states):
    quiet = {**QUIET, 'stale_input__enabled': True}
    graph.node(MonitorNode, bundle=str(bundle_path), **quiet)
    camera = Camera(graph, bundle)
    wait_state(states, lambda c: c['state'] == 'OK', camera.show)
    stale = wait_state(states, lambda c: c['state'] == 'STALE')
    assert names(stale) == ['stale_input']
    status, _ = graph.status(TRUST)
    assert status.level == b'\x03'
    wait_state(states, lambda c: c['state'] == 'OK', camera.show)


def test_stamps_that_go_back_start_anew(graph, bundle_path, bundle, states):
    graph.node(MonitorNode, bundle=str(bundle_path), ood_area__latch=True, **QUIET)
    camera = Camera(graph, bundle)
    wait_state(states, lambda c: 'ood_area' in names(c), lambda: camera.show(unknown=True))
    camera.second = START_S - 100.0
    content = wait_state(states, lambda c: c['stamp_ns'] < START_S * 1e9, camera.show)
    assert names(content) == []
    assert content['state'] == 'OK'


def test_clock_that_goes_back_starts_anew(graph, bundle_path, bundle, states):
    node = graph.node(
        MonitorNode, bundle=str(bundle_path), ood_area__latch=True, use_sim_time=True, **QUIET
    )
    camera = Camera(graph, bundle)
    clock = graph.publisher(Clock, '/clock')

    def show(*, unknown):
        clock.publish(Clock(clock=time_of(camera.second + 0.1)))
        camera.show(unknown=unknown)

    wait_state(states, lambda c: 'ood_area' in names(c), lambda: show(unknown=True))
    settle(lambda: node._judged)
    clock.publish(Clock(clock=time_of(START_S - 100.0)))
    content = wait_state(states, lambda c: not c['warnings'])
    (transition,) = content['transitions']
    assert transition['message'] == 'ood_area cleared: time jumped'


@pytest.mark.parametrize(
    ('name', 'value', 'reason'),
    [
        ('ood_area.enter', 0.01, 'ood_area.exit: 0.02, expected below enter 0.01'),
        ('ood_area.hold_on', -1.0, 'ood_area.hold_on'),
        ('ood_area.level', 'PANIC', 'expected one of: WARN, ERROR'),
        ('ood_area.enter', float('nan'), 'ood_area.enter'),
        ('anomaly.threshold', 1.5, 'anomaly.threshold'),
        ('region.polygon', '0.1,0.2 nowhere', "'nowhere'"),
        ('region.polygon', '0.1,0.2 0.3,0.4', 'at least 3'),
        ('region.classes', ['lava'], 'lava'),
        ('stale_input.enter', -1.0, 'stale_input.enter'),
    ],
)
def test_refuses_thresholds_with_the_reason(graph, bundle_path, name, value, reason):
    graph.node(MonitorNode, bundle=str(bundle_path), **QUIET)
    answer = graph.set('monitor', name, value)
    assert not answer.successful
    assert reason in answer.reason


def test_takes_thresholds_while_running(graph, bundle_path, bundle, states):
    graph.node(MonitorNode, bundle=str(bundle_path), **QUIET)
    camera = Camera(graph, bundle)
    wait_state(states, lambda c: 'ood_area' in names(c), lambda: camera.show(unknown=True))
    # An integer is good enough for a float.
    assert graph.set('monitor', 'ood_area.enter', 1).successful
    assert graph.set('monitor', 'ood_area.exit', 0.9).successful
    content = wait_state(states, lambda c: c['state'] == 'OK', lambda: camera.show(unknown=True))
    assert content['ood_area'] > 0.05


@pytest.mark.parametrize(
    ('pixels', 'named'),
    [
        (np.zeros((5, 7), np.uint8), 'anomaly: shape (5, 7)'),
        (
            np.full((HEIGHT, WIDTH), np.nan, np.float32),
            '/segmentation/anomaly: data: 14400 of 14400 values of 32FC1 are NaN',
        ),
        (
            np.zeros((HEIGHT, WIDTH, 3), np.uint8),
            "/segmentation/anomaly: encoding: 'bgr8' is no plane",
        ),
    ],
    ids=['shape', 'NaN', 'encoding'],
)
def test_bad_planes_are_said_once(graph, error_lines, bundle_path, bundle, states, pixels, named):
    node = graph.node(MonitorNode, bundle=str(bundle_path), **QUIET)
    camera = Camera(graph, bundle)
    for count in (1, 2):
        camera.second += 0.1
        planes = camera.planes(unknown=False)
        planes['anomaly'] = image_message(pixels, planes['mask'].header)
        camera.send(planes)
        until(lambda count=count: node._complaints.count == count, 'rejection')
    wait_state(states, lambda c: c['state'] == 'OK' and c['ood_area'] == 0.0, camera.show)
    (line,) = error_lines.wait('monitor')
    assert named in line
    assert graph.status(TRUST)[1]['rejected'] == '2'


def test_incomplete_sets_are_counted(graph, bundle_path, bundle, states):
    node = graph.node(MonitorNode, bundle=str(bundle_path), **QUIET)
    camera = Camera(graph, bundle)
    camera.second += 0.1
    planes = camera.planes(unknown=True)
    del planes['anomaly']
    camera.send(planes)
    until(lambda: node._stamps._partial, 'the incomplete set')
    wait_state(states, lambda c: c['ood_area'] == 0.0, camera.show)
    assert graph.status(TRUST)[1]['incomplete'] == '1'


def test_reset_of_a_node_that_is_not_configured_says_so(graph, bundle_path):
    graph.node(MonitorNode, bundle=str(bundle_path), autostart=False)
    answer = graph.call(Trigger, '/monitor/reset')
    assert not answer.success
    assert 'unconfigured' in answer.message


def test_polygon_is_parsed():
    assert parse_polygon('') == ()
    assert parse_polygon(' 0,1  0.5,.25 1,1') == ((0.0, 1.0), (0.5, 0.25), (1.0, 1.0))
