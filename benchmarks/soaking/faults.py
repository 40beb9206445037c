# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What goes wrong on a vehicle, one function a kind; ``camera`` is the soak's."""

from __future__ import annotations

import signal
import time

import numpy as np

HOUR_NS = 3600 * 10**9
SET_PARAMETERS = {
    'segmentation': (
        ('anomaly_encoding', '32FC1'),
        ('anomaly_encoding', 'mono8'),
        ('anomaly_encoding', 'float'),
        ('anomaly_score', 'margin'),
        ('anomaly_score', ''),
        ('anomaly_score', 'none such'),
        ('plane_size', 'network'),
        ('threads', -1),
        ('bundle', '/nowhere'),
    ),
    'monitor': (
        ('ood_area.enter', 0.02),
        ('ood_area.enter', -1.0),
        ('ood_area.enter', 'much'),
        ('ood_area.hold_on', -1.0),
        ('domain_shift.enabled', False),
        ('domain_shift.enabled', True),
        ('stale_input.exit', 7.0),
        ('region.polygon', '0,0 1,0 1,1'),
        ('region.polygon', 'a,b'),
        ('region.polygon', ''),
    ),
}
# The last word of a storm, so that each starts from the same.
USUAL = {
    'segmentation': (('anomaly_encoding', 'mono8'), ('anomaly_score', '')),
    'monitor': (('ood_area.enter', -1.0), ('domain_shift.enabled', True), ('region.polygon', '')),
}


def bad_images(camera, rng):
    """One to five damaged images among good ones."""
    for _ in range(rng.integers(1, 6)):
        camera.settle()
        camera.publish(rng.choice(camera.bad))
        camera.rest(0.05)  # nothing answers it, and the next image might take its place
        camera.frames(1)


def stamps(camera, rng):
    """Stamps an hour back or ahead, zero, standing still, in no order."""
    kind = rng.integers(5)
    if kind == 3:
        still = time.time_ns()
        camera.frames(8, stamps=lambda: still)
    elif kind == 4:
        camera.frames(8, stamps=lambda: time.time_ns() + int(rng.integers(-HOUR_NS, HOUR_NS)))
    elif kind == 2:
        camera.frames(3, stamps=lambda: 0)
    else:
        away = (-HOUR_NS, HOUR_NS)[kind]
        camera.frames(8, stamps=lambda: time.time_ns() + away)


def silence(camera, rng):
    """No image for up to 2.5 s."""
    camera.rest(rng.uniform(0.5, 2.5))


def another_camera(camera, rng):
    """Another resolution and encoding for 20 images."""
    camera.frames(20, kind=str(rng.choice(camera.other_kinds)))


def burst(camera, rng):
    """Images as fast as they go out."""
    for _ in range(rng.integers(10, 40)):
        camera.publish_next()


def two_publishers(camera, rng):
    """A second camera on the topic, of another size."""
    with camera.second_publisher() as publisher:
        for _ in range(10):
            camera.frames(1)
            camera.publish_next(str(rng.choice(camera.other_kinds)), publisher=publisher)
    camera.frames(5)


def camera_info(camera, rng):
    """Infos that contradict the images, or have no size or a wild one."""
    for _ in range(10):
        width, height = (int(side) for side in rng.choice((0, 1, 96, 4000, 2**31), 2))
        camera.publish_info(width, height)
        camera.frames(1)


def parameter_storm(camera, rng):
    """Thirty parameters set at once, some to what is refused."""
    futures = []
    for _ in range(15):
        for node, choices in SET_PARAMETERS.items():
            futures.append(camera.set(node, *choices[rng.integers(len(choices))]))
            camera.frames(1)
    for node, choices in USUAL.items():
        futures += [camera.set(node, name, value) for name, value in choices]
    camera.wait_for(futures)


def lifecycle(camera, rng):
    """A node is paused and goes on, between transitions that are not possible."""
    node = str(rng.choice(('segmentation', 'monitor', 'recorder')))
    for label in ('configure', 'activate', 'cleanup', 'deactivate', 'deactivate', 'activate'):
        camera.wait_for([camera.transition(node, label)])
        for _ in range(2):
            camera.publish_next()
    camera.settle()


def never_reads(camera, rng):
    """A reliable subscriber of planes whose messages nobody fetches."""
    names = rng.choice(('mask', 'confidence', 'anomaly', 'overlay', 'color_mask'), 2, False)
    with camera.unread(names):
        camera.frames(30)


def stalled(camera, rng):
    """A subscriber of planes in a process that stands still for up to 2 s."""
    with camera.listener() as process:
        camera.frames(5)
        process.send_signal(signal.SIGSTOP)
        end = time.monotonic() + rng.uniform(0.5, 2.0)
        while time.monotonic() < end:
            camera.frames(1)
        process.send_signal(signal.SIGCONT)
        camera.frames(5)


KINDS = (
    bad_images,
    stamps,
    silence,
    another_camera,
    burst,
    two_publishers,
    camera_info,
    parameter_storm,
    lifecycle,
    never_reads,
    stalled,
)


def bad_messages(image):
    """Return images that no node may take, made from a good bgr8 message's class and pixels."""
    kind, pixels = type(image), np.frombuffer(image.data, np.uint8)
    height, width = image.height, image.width

    def message(**changes):
        fields = {
            'header': image.header,
            'height': height,
            'width': width,
            'encoding': 'bgr8',
            'step': 3 * width,
            'data': image.data,
        }
        return kind(**(fields | changes))

    def of(values):
        data = type(image.data)('B')
        data.frombytes(np.ascontiguousarray(values).tobytes())
        return data

    nan = np.full((height, width), np.nan, np.float32)
    return [
        message(encoding=''),
        message(encoding='bgr9'),
        message(encoding='x' * 2000),
        message(height=0),
        message(width=0, step=0, data=of(pixels[:0])),
        message(step=0),
        message(step=3 * width - 1),
        message(data=of(pixels[:-1])),
        message(data=of(pixels[:0])),
        message(height=2**32 - 1, width=2**32 - 1, step=2**32 - 1),
        message(height=60_000, width=60_000, step=180_000),
        message(encoding='32FC1', step=4 * width, data=of(nan)),
        message(encoding='nv12', height=height - 1, step=width),
        message(encoding='yuv422', width=width - 1),
        message(encoding='64FC4'),
    ]
