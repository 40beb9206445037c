# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The node segmentation: what it publishes, when, and what it does with bad input."""

from __future__ import annotations

import json
import shutil
import threading
import time

import cv2
import numpy as np
import pytest
from builtin_interfaces.msg import Time
from rcl_interfaces.srv import GetParameters
from rcl_interfaces.srv import ListParameters
from rclpy.qos import DurabilityPolicy
from rclpy.qos import QoSProfile
from rclpy.qos import ReliabilityPolicy
from ros_graph import until
from sensor_msgs.msg import CameraInfo
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from seg_uncertainty_ros.bundle import MANIFEST
from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.drawing import color_mask
from seg_uncertainty_ros.drawing import overlay
from seg_uncertainty_ros.drawing import palette_lut
from seg_uncertainty_ros.frames import Frame
from seg_uncertainty_ros.nodes import diagnostics
from seg_uncertainty_ros.nodes import segmentation
from seg_uncertainty_ros.nodes.conversions import embedding_from_image
from seg_uncertainty_ros.nodes.conversions import image_message
from seg_uncertainty_ros.nodes.conversions import image_statistics_from_image
from seg_uncertainty_ros.nodes.conversions import plane_from_image
from seg_uncertainty_ros.nodes.segmentation import SegmentationNode
from seg_uncertainty_ros.pipeline import Pipeline

HEIGHT, WIDTH = 96, 128
INPUT, FRAMES, OUTPUTS, RUNTIME = (
    f'segmentation: {task}' for task in ('input', 'frames', 'outputs', 'runtime')
)


@pytest.fixture(scope='module')
def pixels():
    rng = np.random.default_rng(0)
    return cv2.resize(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8), (WIDTH, HEIGHT))


@pytest.fixture
def message(pixels):
    return make_image(pixels)


def header(second=1_600_000_000):
    return Header(stamp=Time(sec=second, nanosec=7), frame_id='front_optical_frame')


def make_image(pixels, second=1_600_000_000):
    return image_message(pixels, header(second))


def publish_until(publisher, message, inbox, count):
    """Publish until ``inbox`` has ``count`` messages; best effort may lose one."""

    def enough():
        publisher.publish(message)
        return len(inbox) >= count

    return until(enough, f'{count} messages')


def test_planes_carry_header_and_reach_both_kinds_of_subscriber(
    graph, bundle_path, pixels, message
):
    graph.node(SegmentationNode, bundle=str(bundle_path))
    rviz = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    nav2 = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
    names = ('mask', 'confidence', 'anomaly')
    inboxes = {
        (name, kind): graph.subscribe(Image, f'/segmentation/{name}', qos)
        for name in names
        for kind, qos in (('rviz', rviz), ('nav2', nav2))
    }
    for name in names:
        graph.wait_for_subscribers(f'/segmentation/{name}', 2)
    graph.publisher(Image, '/image').publish(message)
    result = Pipeline(Bundle.load(bundle_path)).process(Frame(pixels, 0))
    for (name, _), inbox in inboxes.items():
        plane = inbox.wait()
        assert plane.header == message.header
        assert (plane.height, plane.width, plane.encoding) == (HEIGHT, WIDTH, 'mono8')
        np.testing.assert_array_equal(plane_from_image(plane), getattr(result, name))


def test_label_info_comes_late_too(graph, bundle_path):
    vision_msgs = pytest.importorskip('vision_msgs.msg', reason='vision_msgs is not installed')
    graph.node(SegmentationNode, bundle=str(bundle_path))
    late = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    labels = graph.subscribe(vision_msgs.LabelInfo, '/segmentation/label_info', late).wait()
    names = [info.name for info in Bundle.load(bundle_path).classes]
    assert [entry.class_name for entry in labels.class_map] == names


def test_computes_only_what_is_subscribed(graph, bundle_path, pixels, message, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        segmentation, 'overlay', lambda *planes: drawn.append(planes) or overlay(*planes)
    )
    graph.node(SegmentationNode, bundle=str(bundle_path))
    masks = graph.subscribe(Image, '/segmentation/mask')
    graph.wait_for_subscribers('/segmentation/mask')
    publisher = graph.publisher(Image, '/image')
    publish_until(publisher, message, masks, 3)
    _, values = graph.status(FRAMES, lambda v: int(v['processed']) >= 3)
    _, values = graph.status(OUTPUTS)
    assert int(values['published_mask']) >= 3
    idle = ('confidence', 'anomaly', 'embedding', 'image_statistics')
    idle += ('overlay', 'color_mask', 'camera_info')
    assert {name: values[f'published_{name}'] for name in idle} == dict.fromkeys(idle, '0')
    assert drawn == []

    overlays = graph.subscribe(Image, '/segmentation/overlay')
    colors = graph.subscribe(Image, '/segmentation/color_mask')
    publish_until(publisher, message, overlays, 1)
    publish_until(publisher, message, colors, 1)
    bundle = Bundle.load(bundle_path)
    result = Pipeline(bundle).process(Frame(pixels, 0))
    palette = palette_lut(bundle.classes)
    shown = np.frombuffer(overlays[-1].data, np.uint8).reshape(HEIGHT, WIDTH, 3)
    np.testing.assert_array_equal(shown, overlay(pixels, result.mask, result.anomaly, palette))
    shown = np.frombuffer(colors[-1].data, np.uint8).reshape(HEIGHT, WIDTH, 3)
    np.testing.assert_array_equal(shown, color_mask(result.mask, palette))
    assert overlays[-1].header == message.header


def test_network_size_float_anomaly_embedding_and_camera_info(graph, bundle_path):
    bundle = Bundle.load(bundle_path)
    pixels = np.full((90, 130, 3), 90, np.uint8)
    rows, columns = bundle.geometry.network_size(90, 130)
    assert (rows, columns) != (90, 130)
    graph.node(
        SegmentationNode,
        bundle=str(bundle_path),
        plane_size='network',
        anomaly_encoding='32FC1',
    )
    names = ('mask', 'anomaly', 'embedding', 'image_statistics')
    inboxes = {name: graph.subscribe(Image, f'/segmentation/{name}') for name in names}
    infos = graph.subscribe(CameraInfo, '/segmentation/camera_info')
    for name in (*names, 'camera_info'):
        graph.wait_for_subscribers(f'/segmentation/{name}')
    k = [100.0, 0.0, 64.5, 0.0, 100.0, 44.5, 0.0, 0.0, 1.0]
    info = CameraInfo(header=header(), height=90, width=130, k=k)
    graph.publisher(CameraInfo, '/camera_info').publish(info)
    publisher = graph.publisher(Image, '/image')
    publish_until(publisher, make_image(pixels), infos, 1)
    mask, anomaly, embedding, statistics = (inboxes[name].wait() for name in names)
    assert (mask.height, mask.width) == (rows, columns)
    assert anomaly.encoding == '32FC1'
    assert 0.0 <= plane_from_image(anomaly).min() <= plane_from_image(anomaly).max() <= 1.0
    pipeline = Pipeline(bundle, plane_size='network')
    expected = pipeline.process(Frame(pixels, 0), exact_anomaly=True)
    np.testing.assert_allclose(plane_from_image(anomaly), expected.exact_anomaly, atol=1e-5)
    np.testing.assert_allclose(embedding_from_image(embedding), expected.embedding, rtol=1e-5)
    sent = image_statistics_from_image(statistics)
    np.testing.assert_allclose(sent, expected.image_statistics, rtol=1e-5)
    assert embedding.header == statistics.header == mask.header
    scaled = infos[-1]
    assert (scaled.height, scaled.width) == (rows, columns)
    # The principal point was the middle of the image and must remain it.
    assert scaled.k[2] == pytest.approx((columns - 1) / 2)
    assert scaled.k[5] == pytest.approx((rows - 1) / 2)
    assert scaled.k[0] == pytest.approx(100.0 * columns / 130)
    assert scaled.header == mask.header


def test_score_changes_while_running(graph, bundle_path, pixels, message):
    node = graph.node(SegmentationNode, bundle=str(bundle_path))
    bundle = Bundle.load(bundle_path)
    other = next(name for name in bundle.score_names if name != bundle.default_score)
    anomalies = graph.subscribe(Image, '/segmentation/anomaly')
    graph.wait_for_subscribers('/segmentation/anomaly')
    assert graph.set('segmentation', 'anomaly_score', other).successful
    publish_until(graph.publisher(Image, '/image'), message, anomalies, 1)
    expected = Pipeline(bundle, score=other).process(Frame(pixels, 0)).anomaly
    np.testing.assert_array_equal(plane_from_image(anomalies[-1]), expected)
    assert graph.status(FRAMES)[1]['anomaly_score'] == other
    assert graph.set('segmentation', 'anomaly_score', '').successful
    until(lambda: node._pipeline.anomaly_score == bundle.default_score, 'the default score')


@pytest.mark.parametrize(
    ('name', 'value', 'reason'),
    [
        ('threads', 1000, '256'),
        ('threads', -1, '0'),
        ('threads', 'two', 'type'),
        ('plane_size', 'huge', 'camera, network'),
        ('anomaly_encoding', 'rgb8', 'mono8, 32FC1'),
        ('anomaly_score', 'guess', 'max_softmax'),
        ('bundle', '/elsewhere', 'clean up first'),
        ('autostart', False, 'read-only'),
        ('no_such_parameter', 1, 'declared'),
    ],
)
def test_refuses_parameters_with_the_reason(graph, bundle_path, name, value, reason):
    graph.node(SegmentationNode, bundle=str(bundle_path))
    answer = graph.set('segmentation', name, value)
    assert not answer.successful
    assert reason in answer.reason
    assert name in answer.reason
    assert graph.state('segmentation') == 'active'


def raw(message, **changes):
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def nan_image():
    return image_message(np.full((HEIGHT, WIDTH), np.nan, np.float32), header())


@pytest.mark.parametrize(
    ('bad', 'named'),
    [
        (lambda m: raw(m, encoding='martian9'), ("'martian9'",)),
        (lambda m: raw(m, data=m.data[:-1]), ('data', str(HEIGHT * WIDTH * 3 - 1))),
        (lambda m: raw(m, height=0), ('height', '0')),
        (lambda m: raw(m, height=2**31, width=2**31), ('height', str(2**31))),
        (lambda m: raw(m, step=7), ('step', '7')),
        (lambda _: nan_image(), ('NaN', '32FC1')),
        (lambda _: Image(header=header()), ("''",)),
    ],
    ids=['encoding', 'short', 'zero', 'absurd', 'step', 'nan', 'default'],
)
def test_bad_image_is_said_once_and_the_next_one_processed(
    graph, error_lines, bundle_path, pixels, bad, named
):
    graph.node(SegmentationNode, bundle=str(bundle_path))
    masks = graph.subscribe(Image, '/segmentation/mask')
    graph.wait_for_subscribers('/segmentation/mask')
    publisher = graph.publisher(Image, '/image')
    for count in (1, 2, 3):
        publisher.publish(bad(make_image(pixels)))
        until(lambda count=count: graph.nodes[0]._worker.counts.rejected == count, 'rejection')
    publish_until(publisher, make_image(pixels, 1_600_000_001), masks, 1)
    assert masks[-1].header.stamp.sec == 1_600_000_001
    _, values = graph.status(FRAMES, lambda v: v['rejected'] == '3')
    (line,) = error_lines.wait('segmentation')
    assert values['last_rejection'] in line
    for word in ('/image', *named):
        assert word in line
    assert '\n' not in line


def jpeg(pixels):
    return cv2.imencode('.jpg', pixels)[1].tobytes()


@pytest.mark.parametrize(
    ('damage', 'named'),
    [(lambda data: data[: len(data) // 2], 'cut'), (lambda _: b'', 'empty')],
    ids=['truncated', 'empty'],
)
def test_bad_compressed_image_is_said_once(graph, error_lines, bundle_path, pixels, damage, named):
    graph.node(SegmentationNode, bundle=str(bundle_path), image_transport='compressed')
    masks = graph.subscribe(Image, '/segmentation/mask')
    graph.wait_for_subscribers('/segmentation/mask')
    publisher = graph.publisher(CompressedImage, '/image/compressed')
    data = jpeg(pixels)
    publisher.publish(CompressedImage(header=header(), format='jpeg', data=damage(data)))
    until(lambda: graph.nodes[0]._worker.counts.rejected == 1, 'rejection')
    good = CompressedImage(header=header(), format='jpeg', data=data)
    publish_until(publisher, good, masks, 1)
    assert masks[-1].header == good.header
    (line,) = error_lines.wait('segmentation')
    assert named in line


def spoiled_bundle(bundle_path, folder):
    shutil.copytree(bundle_path, folder)
    graph_file = folder / 'graph.onnx'
    content = bytearray(graph_file.read_bytes())
    content[-1] ^= 1
    graph_file.write_bytes(content)
    return folder


@pytest.mark.parametrize('case', ['missing', 'hash', 'manifest', 'score'])
def test_bad_bundle_leaves_the_node_alive(
    graph, error_lines, bundle_path, message, tmp_path, case
):
    parameters = {'bundle': str(bundle_path)}
    named = ''
    if case == 'missing':
        parameters['bundle'] = named = str(tmp_path / 'nowhere')
    elif case == 'hash':
        parameters['bundle'] = str(spoiled_bundle(bundle_path, tmp_path / 'bundle'))
        named = 'sha256'
    elif case == 'manifest':
        folder = tmp_path / 'bundle'
        shutil.copytree(bundle_path, folder)
        manifest = json.loads((folder / MANIFEST).read_text())
        del manifest['classes']
        (folder / MANIFEST).write_text(json.dumps(manifest))
        parameters['bundle'], named = str(folder), 'classes'
    else:
        parameters['anomaly_score'] = named = 'guess'
    graph.node(SegmentationNode, **parameters)
    assert graph.state('segmentation') == 'unconfigured'
    status, _ = graph.status(FRAMES)
    assert status.level == b'\x02'
    assert named in status.message
    (line,) = error_lines.wait('segmentation')
    assert named in line
    assert '\n' not in line

    assert graph.set('segmentation', 'bundle', str(bundle_path)).successful
    assert graph.set('segmentation', 'anomaly_score', '').successful
    assert graph.transition('segmentation', 'configure')
    assert graph.transition('segmentation', 'activate')
    masks = graph.subscribe(Image, '/segmentation/mask')
    publish_until(graph.publisher(Image, '/image'), message, masks, 1)
    assert graph.status(FRAMES)[0].level != b'\x02'


def test_every_image_is_accounted_for(graph, bundle_path, pixels):
    node = graph.node(SegmentationNode, bundle=str(bundle_path))
    publisher = graph.publisher(Image, '/image', QoSProfile(depth=100))
    sums = []
    for index in range(60):
        bad = index % 7 == 3
        message = make_image(pixels, 1_600_000_000 + index)
        publisher.publish(raw(message, encoding='martian9') if bad else message)
        counts = node._worker.counts
        parts = (counts.processed, counts.dropped, counts.rejected, counts.in_flight)
        sums.append(counts.received == sum(parts))
        time.sleep(0.005)
    assert all(sums)
    _, values = graph.status(FRAMES, lambda v: v['in_flight'] == '0' and int(v['received']) > 20)
    done = sum(int(values[name]) for name in ('processed', 'dropped', 'rejected'))
    assert int(values['received']) == done
    assert int(values['processed']) > 0


def test_parameters_answer_while_an_image_is_in_work(graph, bundle_path, message):
    node = graph.node(SegmentationNode, bundle=str(bundle_path))
    working, go_on = threading.Event(), threading.Event()
    process = node._pipeline.process

    def slow(*arguments, **options):
        working.set()
        assert go_on.wait(20.0)
        return process(*arguments, **options)

    node._pipeline.process = slow
    publisher = graph.publisher(Image, '/image')
    publisher.publish(message)
    assert working.wait(20.0)
    try:
        answer = graph.call(ListParameters, '/segmentation/list_parameters')
        assert 'anomaly_score' in answer.result.names
        for _ in range(3):
            publisher.publish(message)
        until(lambda: node._worker.counts.dropped == 2, 'two drops: the newest waits')
        assert node._worker.counts.in_flight == 2
    finally:
        go_on.set()
    until(lambda: node._worker.counts.processed == 2, 'the newest image')


def test_qos_can_be_overridden(graph, bundle_path):
    overrides = {
        'qos_overrides./image.subscription.reliability': 'reliable',
        'qos_overrides./segmentation/mask.publisher.depth': 3,
    }
    graph.node(SegmentationNode, bundle=str(bundle_path), **overrides)
    for _ in range(2):
        (image,) = graph.probe.get_subscriptions_info_by_topic('/image')
        assert image.qos_profile.reliability == ReliabilityPolicy.RELIABLE
        assert graph.transition('segmentation', 'deactivate')
        until(lambda: not graph.probe.get_subscriptions_info_by_topic('/image'), 'silence')
        assert graph.transition('segmentation', 'activate')
        until(lambda: graph.probe.get_subscriptions_info_by_topic('/image'), 'the subscription')
    camera_info = graph.probe.get_subscriptions_info_by_topic('/camera_info')[0]
    assert camera_info.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
    answer = graph.call(
        GetParameters,
        '/segmentation/get_parameters',
        GetParameters.Request(names=['qos_overrides./segmentation/mask.publisher.depth']),
    )
    assert answer.values[0].integer_value == 3


def test_remembers_frames_missing_between_stamps(graph, bundle_path, pixels):
    graph.node(SegmentationNode, bundle=str(bundle_path))
    masks = graph.subscribe(Image, '/segmentation/mask')
    publisher = graph.publisher(Image, '/image')
    graph.wait_for_subscribers('/segmentation/mask')
    for count, second in enumerate((*range(10), 13, 14), start=1):
        publisher.publish(make_image(pixels, 1_600_000_000 + second))
        masks.wait(count)
    assert graph.status(INPUT)[1]['missing_by_stamps'] == '3'


def test_planes_come_while_an_engine_is_built_and_from_it_afterwards(
    standin_gpu, graph, bundle_path, pixels, message
):
    standin_gpu.go_on.clear()
    graph.node(SegmentationNode, bundle=str(bundle_path), precision='fp32')
    masks = graph.subscribe(Image, '/segmentation/mask')
    graph.wait_for_subscribers('/segmentation/mask')
    publisher = graph.publisher(Image, '/image')
    publish_until(publisher, message, masks, 1)
    status, values = graph.status(RUNTIME, lambda v: '50 % built' in v['engine'])
    rows, columns = Bundle.load(bundle_path).geometry.network_size(HEIGHT, WIDTH)
    building = f'engine for {columns}x{rows} in fp32: 50 % built'
    assert values['engine'] == building
    assert building in status.message
    assert values['backend'] == 'onnxruntime-cpu'
    assert values['why_not_tensorrt'].startswith(f'engine for {columns}x{rows} in fp32: ')
    assert 'onnxruntime-cuda' in str(values)
    assert graph.call(ListParameters, '/segmentation/list_parameters').result.names

    standin_gpu.go_on.set()

    def swapped():
        publisher.publish(message)
        values = [
            {item.key: item.value for item in status.values}
            for _, status in graph.statuses
            if status.name == RUNTIME
        ][-1]
        return values.get('backend') == 'tensorrt' and values

    values = until(swapped, 'the engine')
    assert 'why_not_tensorrt' not in values
    assert values['engine'] == 'none is being built'
    count = len(masks)
    publish_until(publisher, message, masks, count + 3)
    expected = Pipeline(Bundle.load(bundle_path)).process(Frame(pixels, 0))
    np.testing.assert_array_equal(plane_from_image(masks[-1]), expected.mask)


def test_why_a_backend_is_not_used_is_in_the_diagnostics(
    standin_gpu, graph, bundle_path, monkeypatch
):
    monkeypatch.setenv('STANDIN_INIT', '100')
    graph.node(SegmentationNode, bundle=str(bundle_path))
    _, values = graph.status(RUNTIME)
    assert values['backend'] == 'onnxruntime-cpu'
    assert 'cuInit: CUDA_ERROR_NO_DEVICE' in values['why_not_tensorrt']


def test_a_backend_that_is_asked_for_and_missing_stops_the_node(
    standin_gpu, graph, bundle_path, monkeypatch
):
    monkeypatch.setenv('STANDIN_INIT', '100')
    graph.node(SegmentationNode, bundle=str(bundle_path), backend='tensorrt')
    status, _ = graph.status(FRAMES)
    assert status.level == diagnostics.ERROR
    assert 'backend tensorrt: cuInit: CUDA_ERROR_NO_DEVICE' in status.message
    assert graph.state('segmentation') == 'unconfigured'
