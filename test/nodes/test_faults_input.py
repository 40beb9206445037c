# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Faults of the input, one by one in the middle of good images, against running nodes.

After each: the nodes live, the fault was named on ``/diagnostics``, one of the next two good
images has the planes that it had before, and every image is accounted for.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from array import array
from collections import Counter

import cv2
import numpy as np
import pytest
import rclpy
from builtin_interfaces.msg import Time
from rclpy.context import Context
from rclpy.qos import DurabilityPolicy
from rclpy.qos import QoSProfile
from rclpy.qos import ReliabilityPolicy
from rclpy.serialization import serialize_message
from ros_graph import Graph
from ros_graph import free_domain
from ros_graph import until
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vehicle import Listener
from vehicle import slack

from seg_uncertainty_ros.nodes import camera_watch
from seg_uncertainty_ros.nodes import diagnostics
from seg_uncertainty_ros.nodes import transport
from seg_uncertainty_ros.nodes.conversions import image_message
from seg_uncertainty_ros.nodes.processes import NodeProcess
from seg_uncertainty_ros.nodes.processes import yaml_scalar

HEIGHT, WIDTH = 96, 128
STEP_S = 0.1
PLANES = ('mask', 'confidence', 'anomaly')
PARTS = ('processed', 'dropped', 'rejected', 'in_flight')

# From the moment at which a fault can be seen until the diagnostics that name it have come, times
# `slack`.
NAMED_S = 1.0


class Camera:
    """Publishes good images with steady stamps, and anything else."""

    def __init__(self, graph, namespace, *, packed):
        self.kind = CompressedImage if packed else Image
        self.topic = f'{namespace}/image/compressed' if packed else f'{namespace}/image'
        self.publisher = graph.publisher(self.kind, self.topic)
        self.info_publisher = graph.publisher(CameraInfo, f'{namespace}/camera_info')
        self.stamp_ns = 1_600_000_000 * 10**9
        self.sent = 0
        rng = np.random.default_rng(0)
        small = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        self.pixels = cv2.resize(small, (WIDTH, HEIGHT))

    def header(self, *, step_s=STEP_S):
        self.stamp_ns += round(step_s * 1e9)
        stamp = Time(sec=self.stamp_ns // 10**9, nanosec=self.stamp_ns % 10**9)
        return Header(stamp=stamp, frame_id='front')

    def good(self, *, step_s=STEP_S):
        header = self.header(step_s=step_s)
        if self.kind is CompressedImage:
            return CompressedImage(header=header, format='png', data=packed(self.pixels, '.png'))
        return image_message(self.pixels, header)

    def send(self, message=None):
        message = message or self.good()
        self.publisher.publish(message)
        self.sent += 1
        return message

    def info(self, **changes):
        k = [100.0, 0.0, WIDTH / 2, 0.0, 100.0, HEIGHT / 2, 0.0, 0.0, 1.0]
        header = Header(frame_id='front')
        return CameraInfo(**{'header': header, 'height': HEIGHT, 'width': WIDTH, 'k': k} | changes)


def packed(pixels, suffix):
    return cv2.imencode(suffix, pixels)[1].tobytes()


class Rig:
    """Running nodes, a camera for them, and what they publish."""

    def __init__(self, graph, listener, processes, namespace='', *, packed=False):
        self.graph = graph
        self.listener = listener
        self.processes = processes
        self.node = f'{namespace}/segmentation'.lstrip('/')
        self.planes = {
            name: graph.subscribe(Image, f'/{self.node}/{name}', QoSProfile(depth=10))
            for name in PLANES
        }
        self.camera = Camera(graph, namespace, packed=packed)
        self.expected = None
        # Nodes and probe find each other one by one.
        until(lambda: self.send_good() is not None and self.judged(), 'the first planes')
        self.expected = self.send_good()
        assert self.expected is not None
        self.counts = self.settled_counts()
        self.camera.sent = 0

    def status(self, task):
        return self.listener.last(f'{self.node}: {task}')

    def send_good(self):
        """Send a good image; return its planes, None if they do not come."""
        header = self.camera.send().header
        end = time.monotonic() + 2.0
        while time.monotonic() < end:
            found = [self._plane(name, header) for name in PLANES]
            if all(plane is not None for plane in found):
                return found
            time.sleep(0.005)
        return None

    def _plane(self, name, header):
        return next((p.data for p in self.planes[name][::-1] if p.header == header), None)

    def check_recovery(self, *, burst=False):
        """Two good images at most, and planes are what they were; all is accounted for.

        Return what was counted since the check before. Of a ``burst`` best effort may lose some
        on the way to the node.
        """
        for inbox in self.planes.values():
            inbox.clear()
        assert self.expected in (self.send_good(), self.send_good())
        for process in self.processes:
            assert process.process.poll() is None, process.log.read_text()
        before, self.counts = self.counts, self.settled_counts()
        counted = {name: self.counts[name] - before[name] for name in self.counts}
        sent, self.camera.sent = self.camera.sent, 0
        assert counted['received'] == sum(counted[name] for name in PARTS), counted
        assert counted['received'] == sent or (burst and counted['received'] < sent), counted
        return counted

    def judged(self):
        """Return how many images the monitor has judged."""
        return int(self.listener.last('monitor: trust').values['judged'])

    def settled_counts(self):
        """Wait for the counts at a moment at which no image is in work."""
        said = self.listener.wait(
            f'{self.node}: frames',
            lambda said: said.values['in_flight'] == '0',
            'nothing in flight',
            since=time.monotonic(),
        )
        return {name: int(said.values[name]) for name in ('received', *PARTS)}

    def wait_until_unnamed(self, task, words):
        """Wait until a fault of the test before is no longer shown."""
        until(lambda: not says(self.status(task), words), f'no {words}')

    def check_named(self, task, level, words, since, node=''):
        """Wait for diagnostics that name a fault; check how long after ``since`` they came."""
        name = f'{node or self.node}: {task}'
        said = self.listener.wait(name, lambda said: says(said, words), words, since)
        assert said.level == level, said
        print(f'\n{name} | {said.message} | {said.moment - since:.2f} s')
        assert said.moment - since < NAMED_S * slack(), said.message


def has_judged(count):
    return lambda said: int(said.values['judged']) >= count


def says(said, words):
    return all(word in said.message for word in words)


@contextlib.contextmanager
def running(folder, domain, *commands):
    """Run nodes, each given by name, namespace and parameters, as processes of their own."""
    environment = {**transport.environment(), **os.environ, 'ROS_DOMAIN_ID': str(domain)}
    processes = []
    try:
        for index, (name, namespace, parameters) in enumerate(commands):
            command = [sys.executable, '-m', f'seg_uncertainty_ros.nodes.{name}', '--ros-args']
            command += ['-r', f'__ns:=/{namespace}']
            for key, value in parameters.items():
                command += ['-p', f'{key}:={yaml_scalar(value)}']
            log = folder / f'{index}_{name}.log'
            with log.open('wb') as file:
                process = subprocess.Popen(command, stdout=file, stderr=file, env=environment)
            processes.append(NodeProcess(name, process, log))
        yield processes
    finally:
        for node in processes:
            node.process.send_signal(signal.SIGINT)
        for node in processes:
            node.process.wait(30.0)


@pytest.fixture(scope='module')
def rigs(bundle_path, tmp_path_factory):
    """Yield two rigs, of raw and of compressed images; the first has a monitor."""
    plain = {'bundle': str(bundle_path), 'threads': 1}
    reliable = 'qos_overrides./packed/image/compressed.subscription.reliability'
    packed_only = {'image_transport': 'compressed', reliable: 'reliable'}
    commands = (
        ('segmentation', '', plain),
        ('monitor', '', {'bundle': str(bundle_path)}),
        ('segmentation', 'packed', plain | packed_only),
    )
    folder = tmp_path_factory.mktemp('logs')
    with free_domain() as domain, running(folder, domain, *commands) as processes:
        graph = Graph(domain)
        try:
            listener = Listener(graph)
            yield {
                'raw': Rig(graph, listener, processes),
                'packed': Rig(graph, listener, processes, '/packed', packed=True),
            }
        finally:
            graph.close()


@pytest.fixture
def rig(rigs):
    return rigs['raw']


@pytest.fixture
def packed_rig(rigs):
    return rigs['packed']


# Images that are none


def changed(**changes):
    def make(camera):
        message = camera.good()
        for name, value in changes.items():
            setattr(message, name, value)
        return message

    return make


def shortened(camera):
    message = camera.good()
    message.data = message.data[:-1]
    return message


def of_pixels(value, dtype):
    return lambda camera: image_message(np.full((HEIGHT, WIDTH), value, dtype), camera.header())


BAD_IMAGES = {
    'unknown encoding': (changed(encoding='martian9'), ("'martian9' is unknown",)),
    'no encoding': (changed(encoding=''), ("'' is unknown",)),
    'hostile encoding': (changed(encoding='x\n' * 10_000), (r"'x\nx\n",)),
    'data cut': (shortened, ('data: 36863 bytes', '96 x 384')),
    'no data': (changed(data=array('B')), ('data: 0 bytes',)),
    'zero height': (changed(height=0), ('height: 0',)),
    'zero width': (changed(width=0), ('width: 0',)),
    'absurd size': (
        changed(height=2**32 - 1, width=2**32 - 1, step=2**32 - 1),
        ('4294967295 x 4294967295',),
    ),
    'step too small': (changed(step=7), ('step: 7',)),
    'step too large': (changed(step=2**32 - 1), ('96 x 4294967295',)),
    'odd yuv422': (changed(encoding='yuv422', width=127), ('width: 127 is odd',)),
    'odd nv12': (changed(encoding='nv12', height=95), ('height: 95 is odd',)),
    'nv12 without chroma': (changed(encoding='nv12'), ('data: 36864 bytes', 'nv12')),
    'NaN': (of_pixels(np.nan, np.float32), ('NaN or infinite, the first (nan)',)),
    'infinity': (of_pixels(np.inf, np.float32), ('NaN or infinite, the first (inf)',)),
    'empty message': (lambda camera: Image(header=camera.header()), ("'' is unknown",)),
}


@pytest.mark.parametrize('name', BAD_IMAGES)
def test_bad_image(rig, name):
    make, words = BAD_IMAGES[name]
    check_rejection(rig, make, words)


def check_rejection(rig, make, words):
    words = (f'image on {rig.camera.topic} rejected', *words)
    rig.wait_until_unnamed('frames', words)
    rig.send_good()
    since = time.monotonic()
    rig.camera.send(make(rig.camera))
    rig.check_named('frames', diagnostics.ERROR, words, since)
    assert rig.check_recovery()['rejected'] == 1


GARBAGE = {
    'empty': lambda data: b'',
    'header only': lambda data: data[:4],
    'cut': lambda data: data[: len(data) // 2],
    'noise': lambda data: data[:4] + np.random.default_rng(0).bytes(2000),
    'length of 2 GiB': lambda data: data[:12] + b'\xff\xff\xff\x7f' + data[16:],
}


@pytest.mark.parametrize('name', GARBAGE)
def test_bytes_that_are_no_message(rig, name):
    """DDS hands over whatever a publisher sends; the middleware drops it and tells nobody."""
    for _ in range(diagnostics.Stamps.LEAST + 1):
        assert rig.send_good()

    def inject():
        rig.camera.publisher.publish(GARBAGE[name](serialize_message(rig.camera.good())))
        assert rig.send_good() == rig.expected

    words = ('images missing between two stamps: 1',)
    check_named_input(rig, inject, words)


def file_of(data):
    return lambda camera: CompressedImage(header=camera.header(), format='png', data=data)


def bomb(camera):
    """A PNG of a few bytes that says it has 65536 x 65536 pixels."""
    data = bytearray(packed(camera.pixels, '.png'))
    data[16:24] = b'\x00\x01\x00\x00' * 2
    return file_of(bytes(data))(camera)


def damaged(suffix, cut):
    return lambda camera: file_of(cut(packed(camera.pixels, suffix)))(camera)


BAD_FILES = {
    'empty': (file_of(b''), ('data: empty',)),
    'JPEG cut': (damaged('.jpg', lambda data: data[:-100]), ('JPEG', 'is cut')),
    'JPEG header cut': (damaged('.jpg', lambda data: data[:30]), ('cut or damaged',)),
    'PNG cut': (damaged('.png', lambda data: data[:-20]), ('PNG', 'is cut')),
    'PNG damaged': (
        damaged('.png', lambda data: data[:60] + bytes(200) + data[260:]),
        ('damaged image',),
    ),
    'bomb': (bomb, ('65536 x 65536',)),
    'TIFF': (file_of(b'II*\x00' + bytes(50)), ('neither JPEG nor PNG',)),
}


@pytest.mark.parametrize('name', BAD_FILES)
def test_bad_compressed_image(packed_rig, name):
    make, words = BAD_FILES[name]
    check_rejection(packed_rig, make, words)


# Stamps


STAMPS = {
    'back': (-5.0, 'the stamp went back by 5.000 s'),
    'still': (0.0, 'the stamp stands still'),
    'jump': (3600.0, 'the stamp jumped on by 3600.000 s'),
    'gap': (5 * STEP_S, 'images missing between two stamps: 4'),
    'zero': (STEP_S, 'the stamp is zero'),
}


@pytest.mark.parametrize('name', STAMPS)
def test_stamp(rig, name):
    step_s, words = STAMPS[name]
    for _ in range(diagnostics.Stamps.LEAST + 1):
        assert rig.send_good()

    def inject():
        message = rig.camera.good(step_s=step_s)
        if name == 'zero':
            message.header.stamp = Time()
        rig.camera.send(message)

    before = stamp_faults(rig)
    check_named_input(rig, inject, (words,))
    assert stamp_faults(rig) - before == Counter({name} & set(diagnostics.Stamps.FAULTS))


def stamp_faults(rig):
    values = rig.status('input').values
    return Counter({kind: int(values[f'stamps_{kind}']) for kind in diagnostics.Stamps.FAULTS})


def check_named_input(rig, inject, words, *, burst=False):
    rig.wait_until_unnamed('input', words)
    rig.send_good()
    judged = rig.judged()
    since = time.monotonic()
    inject()
    rig.check_named('input', diagnostics.WARN, words, since)
    rig.check_recovery(burst=burst)
    rig.listener.wait(
        'monitor: trust',
        has_judged(judged + 2),
        'the monitor goes on',
        since=since,
    )


# The camera


@pytest.fixture
def stranger(rig):
    """Yield a node of another process, as far as DDS can tell."""
    context = Context()
    rclpy.init(context=context, domain_id=rig.graph.domain)
    node = rclpy.create_node('stranger', context=context)
    # How long DDS takes to find a new process is not what is measured here.
    nodes = {'segmentation', 'monitor', 'probe'}
    until(lambda: nodes <= set(node.get_node_names()), 'the nodes')
    until(lambda: 'stranger' in rig.graph.probe.get_node_names(), 'the stranger')
    yield node
    node.destroy_node()  # once more, where the test failed before it did
    rclpy.shutdown(context=context)


@pytest.mark.parametrize(
    ('kind', 'words'),
    [
        (Image, ('2 publishers on /image: probe, stranger',)),
        (CompressedImage, ('stranger sends sensor_msgs/msg/CompressedImage on /image, expected',)),
    ],
    ids=['of the same', 'of another type'],
)
def test_second_publisher(rig, stranger, kind, words):
    def inject():
        stranger.create_publisher(kind, rig.camera.topic, 5)

    check_named_input(rig, inject, words)
    stranger.destroy_node()
    rig.wait_until_unnamed('input', words)


LOOKS = {
    'resolution': (lambda pixels: pixels[::2, ::2], 'front', 'to 64x48 bgr8'),
    'one pixel': (lambda pixels: pixels[:1, :1], 'front', 'to 1x1 bgr8'),
    'encoding': (lambda pixels: pixels[..., 0], 'front', 'to 128x96 mono8'),
    'frame': (lambda pixels: pixels, 'rear', "to 128x96 bgr8 of 'rear'"),
}


@pytest.mark.parametrize('name', LOOKS)
def test_camera_changes(rig, name):
    change, frame_id, word = LOOKS[name]

    def inject():
        header = rig.camera.header()
        header.frame_id = frame_id
        rig.camera.send(image_message(change(rig.camera.pixels), header))

    words = ('the images changed from 128x96 bgr8', word)
    check_named_input(rig, inject, words)


def test_format_of_several_lines(packed_rig):
    since = time.monotonic()
    message = packed_rig.camera.good()
    message.format = 'png\n[FATAL] a line of its own'
    packed_rig.camera.send(message)
    words = (r'to 128x96 png\n[FATAL] a line of',)
    packed_rig.check_named('input', diagnostics.WARN, words, since)
    packed_rig.check_recovery()


INFOS = {
    'size': ({'width': 640, 'height': 480}, ('640 x 480 pixels, the image has 128 x 96',)),
    'no size': ({'width': 0, 'height': 0}, ('0 x 0 pixels',)),
    'binning': ({'binning_x': 2, 'binning_y': 2}, ('64 x 48 pixels',)),
    'frame': ({'header': Header(frame_id='rear')}, ("frame_id 'rear'", "'front'")),
    'zero K': ({'k': [0.0] * 9}, ('k is zero, the camera is not calibrated',)),
    'NaN': ({'k': [np.nan] * 9}, ('k or p is not finite',)),
}


@pytest.mark.parametrize('name', INFOS)
def test_camera_info_contradicts_the_image(rig, name):
    changes, words = INFOS[name]
    rig.camera.info_publisher.publish(rig.camera.info())
    fits(rig)

    def inject():
        rig.camera.info_publisher.publish(rig.camera.info(**changes))
        # It is compared with each image; two topics have no order.
        for _ in range(3):
            assert rig.send_good() == rig.expected

    words = ('camera_info: ', 'it is not passed on', *words)
    check_named_input(rig, inject, words)
    passed_on = rig.graph.subscribe(CameraInfo, '/segmentation/camera_info', 10)
    until(lambda: 'camera_info' in rig.status('outputs').message, 'the subscriber is seen')
    rig.send_good()
    assert not passed_on
    rig.camera.info_publisher.publish(rig.camera.info())
    until(lambda: rig.send_good() and passed_on, 'camera_info is passed on again')


def fits(rig):
    """Send good images until the camera info fits them."""

    def sent():
        rig.send_good()
        return rig.status('input').values['camera_info'] == 'fits the images'

    until(sent, 'camera_info that fits')


def test_no_camera_info(rig):
    """Somebody subscribes to ``~/camera_info``, and the driver sends none."""
    graph = rig.graph
    assert graph.transition('segmentation', 'deactivate')
    assert graph.transition('segmentation', 'activate')  # what came before is forgotten
    passed_on = graph.subscribe(CameraInfo, '/segmentation/camera_info', 10)
    assert rig.send_good() or rig.send_good()
    since = time.monotonic()
    until(lambda: rig.send_good() and time.monotonic() > since + 1.0, 'a second of images')
    words = ('camera_info: none on /camera_info, though it is asked for',)
    rig.check_named('input', diagnostics.WARN, words, since)
    assert not passed_on
    rig.camera.info_publisher.publish(rig.camera.info())
    until(lambda: rig.send_good() and passed_on, 'camera_info is passed on')
    rig.check_recovery()
    rig.wait_until_unnamed('input', words)


# Rates


def test_silence(rig):
    words = ('no image on /image for',)
    for _ in range(10):
        rig.send_good()
    rig.wait_until_unnamed('input', words)
    # The monitor has its own limit, the parameter stale_input.enter.
    last = time.monotonic()
    rig.send_good()
    rig.check_named('input', diagnostics.WARN, words, last + camera_watch.SHORT_SILENCE_S)
    said = rig.listener.wait(
        'monitor: trust',
        lambda said: 'no image for' in said.message,
        'input is silent',
        since=last + 1.0,
    )
    assert said.moment - (last + 1.0) < NAMED_S * slack()
    rig.check_recovery()
    until(
        lambda: rig.send_good() and not says(rig.listener.last('monitor: trust'), ('no image',)),
        'the monitor takes the warning back',
    )


def test_slow_camera(rig):
    words = ('no image on /image for',)
    rig.send_good()
    rig.wait_until_unnamed('input', words)
    rig.send_good()
    last = time.monotonic()
    rig.check_named('input', diagnostics.WARN, words, last)
    time.sleep(max(0.0, last + 5.0 - time.monotonic()))
    again = time.monotonic()
    rig.send_good()
    said = rig.listener.wait(
        f'{rig.node}: input', lambda said: not says(said, words), 'no silence', since=again
    )
    assert float(said.values['rate_hz']) == pytest.approx(0.2, abs=0.02)
    rig.check_recovery()


def test_fast_camera(rig):
    """Images of 640 x 480 at 120 Hz: more than the network takes, in the middle of good ones."""
    pixels = cv2.resize(rig.camera.pixels, (640, 480))
    words = ('a second are dropped: the camera is faster than the network',)
    message = image_message(pixels, rig.camera.header())
    rig.send_good()
    since = time.monotonic()
    for index in range(120):
        time.sleep(max(0.0, since + index / 120 - time.monotonic()))
        message.header = rig.camera.header(step_s=1 / 120)
        rig.camera.send(message)
    rig.check_named('frames', diagnostics.OK, words, since)
    counted = rig.check_recovery(burst=True)
    assert counted['dropped'] > 0
    assert counted['rejected'] == 0


# The second time Fast DDS loses count itself.
@pytest.mark.parametrize('moment', ['once', 'again'])
def test_images_lost_in_transport(rig, moment):
    """More than shared memory holds, while the node stands still: the last ones are lost."""
    pid = rig.processes[0].process.pid
    message = image_message(cv2.resize(rig.camera.pixels, (640, 480)), rig.camera.header())

    def too_many():
        """Send them; tell whether the node stood still until the last: else none may be lost."""
        stand_still = f'kill -STOP {pid}; sleep {0.3 * slack()}; kill -CONT {pid}'
        with subprocess.Popen(['sh', '-c', stand_still]) as shell:
            os.waitid(os.P_PID, pid, os.WSTOPPED)
            for _ in range(2 * transport.SEGMENT_BYTES // len(message.data)):
                message.header = rig.camera.header(step_s=0.01)
                rig.camera.send(message)
            return shell.poll() is None

    def inject():
        until(too_many, 'more than shared memory holds')
        # DDS sees a loss when the next one arrives, which may be lost itself: until the node has
        # taken what shared memory holds, there is no room.
        for _ in range(5):
            time.sleep(0.05)
            rig.camera.send()

    words = ('images on /image lost in transport: ',)
    before = int(rig.status('input').values['lost'])
    check_named_input(rig, inject, words, burst=True)
    assert 0 < int(rig.status('input').values['lost']) - before < 1000


# Who does not fit, and who does not listen


def test_publisher_of_another_quality(packed_rig, stranger):
    best_effort = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    topic = packed_rig.camera.topic
    words = (f'nothing goes from stranger to segmentation on {topic}', 'best effort')
    since = time.monotonic()
    stranger.create_publisher(CompressedImage, topic, best_effort)
    packed_rig.check_named('input', diagnostics.ERROR, words, since)
    packed_rig.check_recovery()
    stranger.destroy_node()
    packed_rig.wait_until_unnamed('input', words)


def test_subscriber_of_another_quality(rig, stranger):
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    words = ('nothing goes from segmentation to stranger on /segmentation/mask', 'transient local')
    since = time.monotonic()
    stranger.create_subscription(Image, '/segmentation/mask', print, latched)
    rig.check_named('outputs', diagnostics.ERROR, words, since)
    rig.check_recovery()
    stranger.destroy_node()
    rig.wait_until_unnamed('outputs', words)


def test_planes_of_another_quality(rig, stranger):
    best_effort = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    topic = '/segmentation/mask'
    words = (f'nothing goes from stranger to monitor on {topic}', 'best effort')
    since = time.monotonic()
    stranger.create_publisher(Image, topic, best_effort)
    rig.check_named('trust', diagnostics.ERROR, words, since, 'monitor')
    rig.check_recovery()
    stranger.destroy_node()
    until(lambda: not says(rig.listener.last('monitor: trust'), words), f'no {words}')


SUBSCRIBER = """
import sys
from pathlib import Path

import rclpy
from sensor_msgs.msg import Image

rclpy.init()
node = rclpy.create_node('viewer')
node.create_subscription(
    Image, '/segmentation/mask', lambda message: Path(sys.argv[1]).touch(), 1
)
rclpy.spin(node)
"""


def test_subscriber_that_hangs(rig, tmp_path):
    """A process that is stopped takes nothing any more, and says nothing."""
    # Without our profile, as most viewers run: with it, DDS forgets who hangs after three seconds.
    plain = {'FASTRTPS_DEFAULT_PROFILES_FILE': '', 'FASTDDS_DEFAULT_PROFILES_FILE': ''}
    environment = {**os.environ, **plain, 'ROS_DOMAIN_ID': str(rig.graph.domain)}
    got_one = tmp_path / 'got_one'
    process = subprocess.Popen([sys.executable, '-c', SUBSCRIBER, got_one], env=environment)
    try:
        # In the graph it is before the node's publisher knows of it.
        until(lambda: rig.send_good() and got_one.exists(), 'the subscriber')
        words = ('a subscriber does not take ~/mask',)
        # Discovery itself is unacknowledged for a moment.
        until(lambda: rig.send_good() and not says(rig.status('outputs'), words), 'quiet')
        process.send_signal(signal.SIGSTOP)
        since = time.monotonic()
        for _ in range(10):
            begun = time.monotonic()
            assert rig.send_good()
            time.sleep(max(0.0, begun + STEP_S - time.monotonic()))
        rig.check_named('outputs', diagnostics.WARN, words, since)
        rig.check_recovery()
        process.send_signal(signal.SIGCONT)
        rig.wait_until_unnamed('outputs', words)
    finally:
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGINT)
        process.wait(20.0)


def subscribers(rig, topic):
    return [info.node_name for info in rig.graph.probe.get_subscriptions_info_by_topic(topic)]


def test_subscriber_that_never_reads(rig, stranger):
    """DDS takes what a node that does not spin does not fetch: nobody else is kept waiting."""
    stranger.create_subscription(Image, '/segmentation/mask', print, 1)
    until(lambda: 'stranger' in subscribers(rig, '/segmentation/mask'), 'the subscriber')
    for _ in range(20):
        assert rig.send_good() == rig.expected
    rig.check_recovery()
    assert rig.status('outputs').level == diagnostics.OK


# Time


def test_loop_of_a_bag_with_simulated_time(bundle_path, tmp_path):
    parameters = {'bundle': str(bundle_path), 'use_sim_time': True}
    commands = (('segmentation', '', parameters | {'threads': 1}), ('monitor', '', parameters))
    with free_domain() as domain, running(tmp_path, domain, *commands) as processes:
        graph = Graph(domain)
        try:
            play_in_a_loop(graph, processes)
        finally:
            graph.close()


def play_in_a_loop(graph, processes):
    clock = graph.publisher(Clock, '/clock')
    rig = Rig(graph, Listener(graph), processes)
    first_ns = rig.camera.stamp_ns

    def play(images):
        rig.camera.stamp_ns = first_ns
        for _ in range(images):
            stamp_ns = rig.camera.stamp_ns + round(STEP_S * 1e9)
            clock.publish(Clock(clock=Time(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)))
            begun = time.monotonic()
            assert rig.send_good() == rig.expected
            time.sleep(max(0.0, begun + STEP_S - time.monotonic()))

    for turn in range(3):
        judged = rig.judged()
        since = time.monotonic()
        play(10)
        if turn:
            words = ('the stamp went back by',)
            rig.check_named('input', diagnostics.WARN, words, since)
        rig.listener.wait('monitor: trust', has_judged(judged + 5), 'judged images', since)
    rig.check_recovery()
    # The clock stands still now; the diagnostics go on.
    for name in ('segmentation: frames', 'monitor: trust'):
        rig.listener.wait(name, lambda said: True, 'a beat', since=time.monotonic() + 1.0)
