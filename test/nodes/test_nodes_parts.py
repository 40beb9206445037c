# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What the nodes are made of, without a graph."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from builtin_interfaces.msg import Time
from ros_graph import free_domain
from sensor_msgs.msg import CameraInfo
from sensor_msgs.msg import Image
from sensor_msgs.msg import RegionOfInterest
from std_msgs.msg import Header

from seg_uncertainty_ros.encodings import ENCODINGS
from seg_uncertainty_ros.encodings import FrameError
from seg_uncertainty_ros.nodes import conversions
from seg_uncertainty_ros.nodes import monitor
from seg_uncertainty_ros.nodes import recorder
from seg_uncertainty_ros.nodes import replay
from seg_uncertainty_ros.nodes import segmentation
from seg_uncertainty_ros.nodes import transport
from seg_uncertainty_ros.nodes.diagnostics import Complaints
from seg_uncertainty_ros.nodes.diagnostics import Rate
from seg_uncertainty_ros.nodes.diagnostics import Recent
from seg_uncertainty_ros.nodes.diagnostics import Stamps
from seg_uncertainty_ros.nodes.diagnostics import Window
from seg_uncertainty_ros.nodes.exact_stamps import ExactStamps
from seg_uncertainty_ros.nodes.processes import NodeProcess
from seg_uncertainty_ros.nodes.processes import NodeProcesses
from seg_uncertainty_ros.nodes.processes import ProcessError
from seg_uncertainty_ros.nodes.worker import NewestWins
from seg_uncertainty_ros.resources import config_file
from seg_uncertainty_ros.resources import resource_file
from seg_uncertainty_ros.shift.image_statistics import ImageStatistics

HEADER = Header(stamp=Time(sec=3, nanosec=4), frame_id='front')


# Conversions


@pytest.mark.parametrize('shape', [(4, 5), (4, 5, 3)])
def test_image_message_and_back(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    message = conversions.image_message(pixels[:, ::-1], HEADER)
    assert message.header == HEADER
    frame = conversions.frame_from_image(message)
    expected = pixels[:, ::-1]
    if expected.ndim == 2:
        expected = np.repeat(expected[..., None], 3, axis=2)
    np.testing.assert_array_equal(frame.image, expected)
    assert (frame.stamp_ns, frame.frame_id) == (3_000_000_004, 'front')


def test_image_message_filled_again_has_nothing_of_the_former():
    rng = np.random.default_rng(0)
    message = conversions.image_message(rng.random((6, 9, 3), np.float32), Header())
    for pixels in (rng.integers(0, 256, (4, 5), np.uint8), rng.random((1, 7), np.float32)):
        filled = conversions.image_message(pixels, HEADER, message)
        assert filled is message
        assert filled == conversions.image_message(pixels, HEADER)


def test_image_of_one_row_of_a_larger_one():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    for cut in (pixels[:1, :1], pixels[:1], pixels[:, :1]):
        message = conversions.image_message(cut, HEADER)
        assert message.step == cut.shape[1] * 3
        np.testing.assert_array_equal(conversions.frame_from_image(message).image, cut)


def test_plane_honours_padding_and_byte_order():
    values = np.array([[0.0, 0.25], [0.5, 7.0]], '>f4')
    rows = b''.join(row.tobytes() + b'pad' for row in values)
    message = Image(height=2, width=2, encoding='32FC1', step=11, is_bigendian=1)
    message.data.frombytes(rows)
    np.testing.assert_array_equal(conversions.plane_from_image(message), values)
    unit = conversions.unit_plane_from_image(message)
    np.testing.assert_array_equal(unit, [[0, 64], [128, 255]])


def test_plane_of_no_numbers_is_refused():
    values = np.array([[0.5, np.nan, np.nan]], np.float32)
    with pytest.raises(FrameError, match='2 of 3 values of 32FC1 are NaN'):
        conversions.unit_plane_from_image(conversions.image_message(values, HEADER))


@pytest.mark.parametrize(
    ('change', 'named'),
    [
        ({'encoding': 'bgr8'}, "'bgr8'"),
        ({'step': 3}, 'step: 3'),
        ({'height': 9}, 'height x step'),
        ({'width': 0}, 'width: 0'),
    ],
)
def test_bad_plane_is_refused(change, named):
    message = conversions.image_message(np.zeros((4, 5), np.uint8), HEADER)
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(FrameError, match=named):
        conversions.plane_from_image(message)


def test_embedding_message_and_back():
    embedding = np.linspace(-1.0, 1.0, 7, dtype=np.float32)
    message = conversions.embedding_message(embedding, HEADER)
    assert (message.height, message.width, message.encoding) == (1, 7, '32FC1')
    np.testing.assert_array_equal(conversions.embedding_from_image(message), embedding)
    with pytest.raises(FrameError, match='4 row'):
        conversions.embedding_from_image(
            conversions.image_message(np.zeros((4, 5), np.float32), HEADER)
        )


def test_image_statistics_message_and_back():
    statistics = ImageStatistics(0.5, 0.25, -1.5, 0.125, 0.75, 0.0, 1.0, 0.0)
    message = conversions.image_statistics_message(statistics, HEADER)
    assert (message.height, message.width, message.encoding) == (1, 8, '32FC1')
    assert message.header == HEADER
    assert conversions.image_statistics_from_image(message) == statistics
    with pytest.raises(FrameError, match="image_statistics: 1 x 7 of '32FC1', expected 1 x 8"):
        conversions.image_statistics_from_image(conversions.embedding_message(range(7), HEADER))


def test_camera_info_of_a_crop_projects_points_where_the_resized_crop_shows_them():
    k = [800.0, 0.0, 310.0, 0.0, 810.0, 250.0, 0.0, 0.0, 1.0]
    p = [800.0, 0.0, 310.0, -96.0, 0.0, 810.0, 250.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    roi = RegionOfInterest(x_offset=100, y_offset=40, width=400, height=300)
    info = CameraInfo(height=480, width=640, k=k, p=p, roi=roi, d=[0.1], distortion_model='x')
    scaled = conversions.scaled_camera_info(info, HEADER, 150, 100)
    assert (scaled.height, scaled.width, scaled.header) == (150, 100, HEADER)
    assert (list(scaled.d), scaled.distortion_model) == ([0.1], 'x')
    point = np.array([0.3, -0.2, 4.0, 1.0])

    def project(matrix, vector):
        u, v, w = np.reshape(matrix, (3, -1)) @ vector
        return np.array([u / w, v / w])

    for matrix, scaled_matrix, vector in ((k, scaled.k, point[:3]), (p, scaled.p, point)):
        x, y = project(matrix, vector)
        # cv2.resize: pixel centre x of the crop lands at (x + 0.5) * scale - 0.5.
        expected = [(x - 100 + 0.5) * 100 / 400 - 0.5, (y - 40 + 0.5) * 150 / 300 - 0.5]
        np.testing.assert_allclose(project(scaled_matrix, vector), expected)


def test_camera_info_without_a_size_is_refused():
    with pytest.raises(FrameError, match='0 x 0'):
        conversions.scaled_camera_info(CameraInfo(), HEADER, 10, 10)


BRIDGED = (
    *('bgr8', 'rgb8', 'bgra8', 'rgba8', 'mono8', 'mono16', 'yuv422', 'yuv422_yuy2'),
    *('bayer_rggb8', 'bayer_bggr8', 'bayer_gbrg8', 'bayer_grbg8'),
)


# What cv_bridge learnt with ROS 2; a build for ROS 1 does not know it.
NEWER = ('yuv422_yuy2',)


@pytest.mark.parametrize('encoding', BRIDGED)
def test_parity_with_cv_bridge(encoding):
    if conversions.CvBridge is None:
        pytest.skip('cv_bridge is not installed')
    assert encoding in ENCODINGS
    samples = {'bgra8': 4, 'rgba8': 4, 'mono16': 2, 'yuv422': 2, 'yuv422_yuy2': 2}
    # Padding of whole pixels: cv_bridge skews rows with any other.
    step = (16 + 2) * samples.get(encoding, 3 if encoding in ('bgr8', 'rgb8') else 1)
    message = Image(header=HEADER, height=8, width=16, encoding=encoding, step=step)
    data = np.random.default_rng(0).integers(0, 256, 8 * step, dtype=np.uint8)
    message.data.frombytes(data.tobytes())
    for is_bigendian in (0, 1):
        message.is_bigendian = is_bigendian
        try:
            expected = conversions.CvBridge().imgmsg_to_cv2(message, 'bgr8')
        except Exception as error:
            if encoding not in NEWER:
                raise
            pytest.skip(f'this cv_bridge is too old for {encoding}: {error}')
        ours = conversions.frame_from_image(message).image
        assert ours.shape == expected.shape
        assert np.abs(ours.astype(int) - expected).max() <= 1


@pytest.mark.parametrize('order', ['<', '>'])
@pytest.mark.parametrize('padding', [0, 2])
def test_cv_bridge_takes_what_we_do_not(order, padding):
    values = np.arange(18).reshape(2, 3, 3) * 3000
    message = Image(header=HEADER, height=2, width=3, encoding='bgr16', step=18 + padding)
    message.is_bigendian = int(order == '>')
    for row in values:
        message.data.frombytes(row.astype(f'{order}u2').tobytes() + bytes(padding))
    if conversions.CvBridge is None:
        with pytest.raises(FrameError, match='bgr16'):
            conversions.frame_from_image(message)
        return
    image = conversions.frame_from_image(message).image
    assert np.abs(image - values / 257.0).max() <= 1


@pytest.mark.parametrize(
    ('change', 'named'),
    [
        ({'encoding': 'martian9'}, "'martian9'"),
        ({'encoding': '64FC1', 'step': 24}, "'64FC1'"),
        ({'step': 12}, 'step: 12'),
        ({'step': 25}, 'height x step'),
        ({'height': 0}, 'height: 0'),
    ],
)
def test_cv_bridge_is_given_nothing_bad(change, named):
    if conversions.CvBridge is None:
        pytest.skip('cv_bridge is not installed')
    message = Image(header=HEADER, height=2, width=3, encoding='bgr16', step=18)
    message.data.frombytes(bytes(48))
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(FrameError, match=named):
        conversions.frame_from_image(message)


# Diagnostics


def test_percentiles_of_a_window():
    window = Window(size=100)
    assert window.percentiles('x') == {'x_p50': None, 'x_p95': None, 'x_p99': None}
    for sample in (9.0, *range(101)):
        window.add(sample)
    assert window.percentiles('x', unit=1.0) == pytest.approx(
        {'x_p50': 50.5, 'x_p95': 95.05, 'x_p99': 99.01}
    )


def test_rate_falls_to_nothing_in_silence():
    rate = Rate()
    assert rate.value(0.0) == 0.0
    for moment in np.arange(20) * 0.1:
        rate.add(moment)
    assert rate.value(2.0) == pytest.approx(10.0)
    assert rate.value(4.0) == 0.0


def test_rate_forgets_what_was_long_ago():
    rate = Rate()
    for moment in (0.0, 100.0, 105.0):
        rate.add(moment)
    assert rate.value(106.0) == pytest.approx(0.2)
    for moment in 110.0 + np.arange(20) * 0.1:
        rate.add(moment)
    assert rate.value(112.0) == pytest.approx(10.0)


@pytest.mark.parametrize(
    ('stamps', 'missing'),
    [
        (range(20), 0),
        ((*range(10), 12, 13), 2),
        ((*range(10), 10.4, 11, 12), 0),
        ((*range(10), *range(10)), 0),
        ((0, 5, 6, 7), 0),
        ((*range(10), 1000, 1001), 0),
    ],
)
def test_missing_frames_by_their_stamps(stamps, missing):
    gaps = Stamps()
    for stamp in stamps:
        gaps.add(round(stamp * 1e8))
    assert gaps.missing == missing


@pytest.mark.parametrize(
    ('second', 'kind', 'said'),
    [
        (10.0, 'still', 'stands still at 10.000 s'),
        (9.5, 'back', 'went back by 0.500 s'),
        (3610.0, 'jump', 'jumped on by 3600.000 s'),
        (0.0, 'zero', 'is zero'),
        (10.1, None, ''),
    ],
)
def test_says_what_is_wrong_with_a_stamp(second, kind, said):
    stamps = Stamps()
    for earlier in range(7):
        assert stamps.add(10**9 * (4 + earlier)) == ''
    fault = stamps.add(round(second * 1e9))
    assert said in fault
    assert bool(fault) == bool(kind)
    assert dict(stamps.faults) == ({kind: 1} if kind else {})


def test_a_fault_is_shown_for_a_while_in_its_newest_words():
    recent = Recent()
    recent.add('step: 7', 0.0)
    recent.add('height: 0', 0.5)
    recent.add('step: 8', 1.0)
    assert recent.texts(1.5) == ['step: 8', 'height: 0']
    assert recent.texts(2.9) == ['step: 8']
    assert recent.texts(3.1) == []


def test_few_kinds_of_faults_are_shown():
    recent = Recent()
    for index in range(30):
        recent.add('x' * index, 0.1 * index)
    assert recent.texts(3.0) == ['x' * index for index in range(29, 29 - recent.MOST_KINDS, -1)]


def test_a_pause_is_no_gap_between_stamps():
    gaps = Stamps()
    for stamp in range(10):
        gaps.add(stamp)
    gaps.pause()
    for stamp in (30, 31, 33):
        gaps.add(stamp)
    assert gaps.missing == 1


def test_a_kind_of_complaint_is_said_once():
    said = []
    complaints = Complaints(said.append)
    for message in ('step: 7', 'step: 8', 'height: 0', 'step: 9'):
        complaints.add(message)
    assert [line.split(' (')[0] for line in said] == ['step: 7', 'height: 0']
    assert (complaints.count, complaints.last) == (4, 'step: 9')


# Joining and working


def test_exact_stamps_join_and_forget():
    stamps = ExactStamps(('a', 'b'), slots=2)
    assert stamps.add('a', 1, 'a1') is None
    assert stamps.add('a', 2, 'a2') is None
    assert stamps.add('b', 2, 'b2') == (2, {'a': 'a2', 'b': 'b2'})
    assert stamps.incomplete == 1
    for stamp in (3, 4, 5, 6):
        stamps.add('a', stamp, 'x')
    assert stamps.incomplete == 3
    assert stamps.add('b', 6, 'y') == (6, {'a': 'x', 'b': 'y'})
    stamps.clear()
    assert stamps.incomplete == 4


def test_exact_stamps_wait_for_what_is_optional_only_where_it_comes():
    stamps = ExactStamps(('a',), optional=('x',))
    assert stamps.add('a', 1, 'a1') == (1, {'a': 'a1'})
    assert stamps.add('x', 1, 'late') is None
    assert stamps.add('a', 2, 'a2') is None, 'it has come once'
    assert stamps.add('x', 2, 'x2') == (2, {'a': 'a2', 'x': 'x2'})
    assert stamps.add('a', 3, 'a3') is None
    assert stamps.add('a', 4, 'a4') == (3, {'a': 'a3'}), 'no longer than to the next stamp'
    assert stamps.incomplete == 0


def test_exact_stamps_of_which_optional_ones_stop():
    stamps = ExactStamps(('a', 'b'), optional=('x',))
    stamps.add('x', 1, 'x1')
    stamps.add('a', 1, 'a1')
    assert stamps.add('b', 1, 'b1') == (1, {'a': 'a1', 'b': 'b1', 'x': 'x1'})
    stamps.add('a', 2, 'a2')
    assert stamps.add('b', 2, 'b2') is None
    assert stamps.add('a', 3, 'a3') == (2, {'a': 'a2', 'b': 'b2'})
    assert stamps.add('b', 3, 'b3') == (3, {'a': 'a3', 'b': 'b3'}), 'nobody waits any more'
    assert stamps.incomplete == 0


def test_dispersion_there_and_back():
    values = np.random.default_rng(0).random((3, 4, 3)).astype(np.float32)
    message = conversions.image_message(values, HEADER)
    assert (message.encoding, message.step, message.header) == ('32FC3', 48, HEADER)
    np.testing.assert_array_equal(conversions.dispersion_from_image(message), values)
    with pytest.raises(FrameError, match="dispersion: 'mono8', expected 32FC3"):
        conversions.dispersion_from_image(
            conversions.image_message(np.zeros((2, 2), 'u1'), HEADER)
        )


def test_newest_wins_and_all_are_counted():
    begun, go_on = threading.Event(), threading.Event()
    done = []

    def work(item):
        begun.set()
        go_on.wait(10.0)
        done.append(item)
        return item != 'bad'

    worker = NewestWins(work)
    worker.put('before the start')
    worker.start('test')
    worker.put('first')
    assert begun.wait(10.0)
    for item in ('second', 'third', 'bad'):
        worker.put(item)
    counts = worker.counts
    assert (counts.received, counts.dropped, counts.in_flight) == (5, 3, 2)
    go_on.set()
    while worker.counts.in_flight:
        pass
    worker.stop()
    worker.put('after the stop')
    counts = worker.counts
    assert done == ['first', 'bad']
    assert (counts.received, counts.processed, counts.rejected, counts.dropped) == (6, 1, 1, 4)


# Transport and files


def test_profile_gives_shared_memory_room_for_images():
    root = ElementTree.parse(config_file('fastdds.xml')).getroot()
    space = {'x': root.tag[1 : root.tag.index('}')]}
    sizes = [int(item.text) for item in root.findall('.//x:segment_size', space)]
    assert sizes == [transport.SEGMENT_BYTES]
    kinds = [item.text for item in root.findall('.//x:transport_descriptor/x:type', space)]
    assert kinds == ['SHM', 'UDPv4']
    assert root.find('.//x:useBuiltinTransports', space).text == 'false'


def test_environment_names_the_profile():
    environment = transport.environment()
    profiles = {environment[name] for name in transport.PROFILE_VARIABLES}
    assert profiles == {str(config_file('fastdds.xml'))}
    assert transport.shortcomings(environment, Path('/nowhere')) == []


def test_processes_keep_the_profile_that_the_user_named(tmp_path, monkeypatch):
    monkeypatch.setenv('FASTRTPS_DEFAULT_PROFILES_FILE', '/mine.xml')
    variables = NodeProcesses(tmp_path, {'ROS_DOMAIN_ID': '7'})._environment
    assert variables['FASTRTPS_DEFAULT_PROFILES_FILE'] == '/mine.xml'
    assert variables['ROS_DOMAIN_ID'] == '7'
    assert variables['MALLOC_TRIM_THRESHOLD_'] == transport.environment()['MALLOC_TRIM_THRESHOLD_']


@pytest.mark.parametrize(
    ('name', 'status', 'wrong'),
    [('monitor', 0, True), ('monitor', 3, True), ('replay', 0, False), ('replay', 3, True)],
)
def test_a_process_that_should_go_on_must_not_end(tmp_path, name, status, wrong):
    process = subprocess.Popen([sys.executable, '-c', f'raise SystemExit({status})'])
    process.wait()
    log = tmp_path / 'log'
    log.write_text('one\ntwo\n')
    with (
        pytest.raises(ProcessError, match=f'{name} ended with {status}, .* one | two')
        if wrong
        else nullcontext()
    ):
        NodeProcess(name, process, log).check()


@pytest.mark.parametrize(
    ('environ', 'free', 'named'),
    [
        ({}, 2**30, 'config/fastdds.xml'),
        ({'FASTRTPS_DEFAULT_PROFILES_FILE': ''}, 2**30, 'config/fastdds.xml'),
        ({'FASTRTPS_DEFAULT_PROFILES_FILE': '/nowhere.xml'}, 2**30, '/nowhere.xml'),
        ({'FASTRTPS_DEFAULT_PROFILES_FILE': __file__}, 2**20, '1 MiB free'),
    ],
)
def test_says_what_transport_lacks(tmp_path, environ, free, named):
    (line,) = transport.shortcomings(
        environ, tmp_path, free_bytes=lambda _: free, got_room=lambda: False
    )
    assert named in line


def test_a_process_that_has_its_shared_memory_lacks_nothing_when_others_fill_the_rest(tmp_path):
    environ = {'FASTRTPS_DEFAULT_PROFILES_FILE': __file__}
    options = {'free_bytes': lambda _: 0, 'got_room': lambda: True}
    assert transport.shortcomings(environ, tmp_path, **options) == []


def leftover(folder, name, seconds=60.0):
    """Make the two files of a segment as a process makes them, some time ago."""
    lock = folder / f'{name}_el'
    (folder / name).write_bytes(bytes(1000))
    lock.touch()
    os.utime(lock, (time.time() - seconds,) * 2)
    return lock


def test_shared_memory_of_the_dead_is_removed_and_of_the_living_kept(tmp_path):
    dead = [leftover(tmp_path, f'{prefix}_{7:016x}') for prefix in ('fastrtps', 'fastdds')]
    young = leftover(tmp_path, f'fastrtps_{8:016x}', seconds=0.0)
    alive = leftover(tmp_path, f'fastrtps_{9:016x}')
    port = leftover(tmp_path, 'fastrtps_port7412')
    strange = leftover(tmp_path, 'fastrtps_of_mine')
    with alive.open('rb') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert transport.remove_leftovers(tmp_path) == 2000
        assert transport.remove_leftovers(tmp_path) == 0
    left = {path.name for path in tmp_path.iterdir()}
    kept = {lock.name for lock in (young, alive, port, strange)}
    assert left == kept | {name.removesuffix('_el') for name in kept}
    assert not {lock.name for lock in dead} & left
    assert transport.remove_leftovers(tmp_path / 'nowhere') == 0


def test_other_middleware_needs_no_profile(tmp_path):
    environ = {'RMW_IMPLEMENTATION': 'rmw_cyclonedds_cpp'}
    assert transport.shortcomings(environ, tmp_path, free_bytes=lambda _: 0) == []


@pytest.mark.parametrize('module', [segmentation, monitor, recorder, replay])
def test_every_parameter_is_described(module):
    for row in module.PARAMETERS:
        descriptor = row.descriptor()
        assert descriptor.description.endswith('.') or ':' in descriptor.description
        numeric = isinstance(row.default, (int, float)) and not isinstance(row.default, bool)
        assert numeric == bool(descriptor.floating_point_range or descriptor.integer_range)


def test_rviz_shows_planes_on_a_fixed_range():
    content = yaml.safe_load(resource_file('rviz', 'seg_uncertainty.rviz').read_text())
    displays = content['Visualization Manager']['Displays']
    topics = {display['Topic']['Value'] for display in displays}
    names = ('overlay', 'color_mask', 'mask', 'confidence', 'anomaly')
    assert topics == {'image', *(f'segmentation/{name}' for name in names)}
    for display in displays:
        assert display['Normalize Range'] is False
        assert display['Topic']['Reliability Policy'] == 'Best Effort'


def test_a_process_that_cannot_end_is_ended():
    code = """
import atexit, time
from seg_uncertainty_ros.errors import SegUncertaintyError
from seg_uncertainty_ros.nodes import running

def create():
    raise SegUncertaintyError('no node')

running.EXIT_S = 0.5
atexit.register(time.sleep, 60)
running.exit_with(create)
"""
    command = [sys.executable, '-c', code]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert 'no node' in ended.stderr
    assert 'Timeout' in ended.stderr


def test_objects_of_the_start_are_out_of_the_way_of_the_garbage_collector():
    code = """
import gc
from rclpy.node import Node
from seg_uncertainty_ros.nodes import running

class Brief(Node):
    exit_status = 0
    start = fail = say_goodbye = lambda self, *_: None
    stop = lambda self: print(gc.get_freeze_count(), len(gc.get_objects()))

running.exit_with(lambda: Brief('brief'))
"""
    with free_domain() as domain:
        command, environment = (
            [sys.executable, '-c', code],
            {**os.environ, 'ROS_DOMAIN_ID': str(domain)},
        )
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=30, check=True, env=environment
        )
    frozen, others = map(int, ended.stdout.split())
    assert frozen > 10_000 > 10 * others
