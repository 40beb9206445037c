# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Snapshots: what is kept, when one is taken, and what disks and memory allow."""

from __future__ import annotations

import resource
import time
from queue import SimpleQueue
from threading import Event

import numpy as np
import pytest
from rosbags.highlevel import AnyReader

from seg_uncertainty_ros.recordings import open_source
from seg_uncertainty_ros.recordings import snapshots
from seg_uncertainty_ros.recordings.bag_writer import BagWriter
from seg_uncertainty_ros.recordings.bag_writer import header
from seg_uncertainty_ros.recordings.bag_writer import message_types
from seg_uncertainty_ros.recordings.messages import IMAGE
from seg_uncertainty_ros.recordings.messages import typestore
from seg_uncertainty_ros.recordings.snapshots import Message
from seg_uncertainty_ros.recordings.snapshots import RingBuffer
from seg_uncertainty_ros.recordings.snapshots import SnapshotConfig
from seg_uncertainty_ros.recordings.snapshots import Snapshots

SECOND = 1_000_000_000
STAMP = 1_700_000_000 * SECOND
SIDE = 32


def image(tenth, topic='/image', side=SIDE):
    """Return a message whose pixels say when it was taken."""
    pixels = np.full((side, side, 3), tenth % 256, np.uint8)
    content = message_types()[IMAGE](
        header=header(STAMP + tenth * SECOND // 10, 'front'),
        height=side,
        width=side,
        encoding='bgr8',
        is_bigendian=0,
        step=3 * side,
        data=pixels.reshape(-1),
    )
    data = bytes(typestore().serialize_cdr(content, IMAGE))
    return Message(topic, IMAGE, data, tenth * SECOND // 10, STAMP + tenth * SECOND // 10)


def test_ring_keeps_the_last_seconds():
    ring = RingBuffer(1.0, 10**9)
    for tenth in range(50):
        ring.add(image(tenth))
    kept = [message.steady_ns * 10 // SECOND for message in ring.messages(49 * SECOND // 10)]
    assert kept == list(range(39, 50))
    assert ring.seconds == 1.0
    assert ring.bytes == 11 * image(0).size
    assert not ring.is_short
    assert ring.messages(100 * SECOND) == ()
    assert ring.bytes == 0


def test_ring_keeps_what_fits_and_says_so():
    size = image(0).size
    ring = RingBuffer(1.0, 5 * size)
    for tenth in range(50):
        ring.add(image(tenth))
        assert ring.bytes <= 5 * size
    assert len(ring.messages(49 * SECOND // 10)) == 5
    assert ring.is_short
    large = Message('/image', IMAGE, bytes(6 * size), 50 * SECOND // 10, 0)
    ring.add(large)
    assert ring.messages(5 * SECOND) == (), 'what is larger than all memory is not kept'
    assert ring.is_short
    for tenth in range(100, 200, 5):
        ring.add(image(tenth))
    assert not ring.is_short


class Taker:
    """Snapshots of images, ten a second, in a folder."""

    def __init__(self, directory, **config):
        settings = {'before_s': 1.0, 'after_s': 0.5, 'interval_s': 10.0, **config}
        self.done = SimpleQueue()
        self.snapshots = Snapshots(directory, 'front.recorder', SnapshotConfig(**settings))
        self.tenth = 0

    def drive(self, tenths, topics=('/image',)):
        for _ in range(tenths):
            self.tenth += 1
            for topic in topics:
                self.snapshots.add(image(self.tenth, topic))

    def take(self, label='ood_area'):
        return self.snapshots.take(label, self.tenth * SECOND // 10, self.done.put)

    def result(self):
        found = self.done.get(timeout=20.0)
        end = time.monotonic() + 20.0
        while self.snapshots.busy:
            assert time.monotonic() < end
            time.sleep(0.001)
        return found


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_a_snapshot_holds_the_seconds_around(tmp_path, storage):
    taker = Taker(tmp_path / 'new', storage=storage)
    taker.drive(30, ('/image', '/mask'))
    assert taker.take() == ''
    taker.drive(20, ('/image', '/mask'))
    snapshot = taker.result()
    assert snapshot.problem == ''
    assert snapshot.path == tmp_path / 'new' / 'front.recorder.000001.ood_area'
    assert (snapshot.before_s, snapshot.after_s) == (1.0, 0.5)
    assert snapshot.messages == {'/image': 16, '/mask': 16}
    with AnyReader([snapshot.path]) as reader:
        read = [(each.topic, when, data) for each, when, data in reader.messages()]
    sent = [image(tenth, topic) for tenth in range(20, 36) for topic in ('/image', '/mask')]
    assert sorted(read) == sorted((each.topic, each.received_ns, each.data) for each in sent)
    frames = list(open_source(str(snapshot.path), topic='/image'))
    assert [frame.image[0, 0, 0] for frame in frames] == list(range(20, 36))
    assert taker.snapshots.close()


def test_at_most_one_in_an_interval(tmp_path):
    taker = Taker(tmp_path)
    taker.drive(30)
    assert taker.take() == ''
    taker.drive(3)
    assert taker.take() == 'that of ood_area is being taken'
    taker.drive(10)
    taker.result()
    assert taker.take() == '1 s after that of ood_area, one in 10 s at most'
    taker.drive(100)
    assert taker.take('latency') == ''
    taker.drive(10)
    assert taker.result().path.name == 'front.recorder.000002.latency'
    assert taker.snapshots.close()


def test_silence_ends_a_snapshot_too(tmp_path):
    taker = Taker(tmp_path)
    taker.drive(30)
    taker.take('stale_input')
    taker.snapshots.tick(40 * SECOND // 10)
    snapshot = taker.result()
    assert (snapshot.messages, snapshot.after_s) == ({'/image': 11}, 0.0)
    assert taker.snapshots.close()


def test_the_end_of_the_process_finishes_what_is_open(tmp_path):
    taker = Taker(tmp_path)
    taker.drive(30)
    taker.take()
    assert taker.snapshots.close()
    snapshot = taker.done.get(timeout=1.0)
    assert len(list(open_source(str(snapshot.path), topic='/image'))) == 11


def test_no_messages_are_no_snapshot(tmp_path):
    taker = Taker(tmp_path)
    taker.take()
    taker.snapshots.tick(SECOND)
    assert taker.result().problem == 'no messages came'
    assert list(tmp_path.iterdir()) == []
    assert taker.snapshots.close()


def test_the_oldest_make_room(tmp_path):
    (tmp_path / 'front.recorder.000001.mine').write_text('no folder')
    (tmp_path / 'other.recorder.000001.ood_area').mkdir()
    size = 16 * image(0).size
    taker = Taker(tmp_path, disk_bytes=3 * size, interval_s=0.0)
    deleted = []
    for _ in range(5):
        taker.drive(30)
        assert taker.take() == ''
        taker.drive(10)
        snapshot = taker.result()
        assert snapshot.problem == ''
        deleted += snapshot.deleted
    left = {path.name for path in tmp_path.iterdir()}
    assert {'front.recorder.000001.mine', 'other.recorder.000001.ood_area'} <= left
    assert 'front.recorder.000005.ood_area' in left
    assert deleted[0] == 'front.recorder.000001.ood_area'
    assert left.isdisjoint(deleted)
    assert taker.snapshots.close()


def test_a_snapshot_is_no_larger_than_the_disk_may_hold(tmp_path):
    taker = Taker(tmp_path, disk_bytes=5 * image(0).size)
    taker.drive(30)
    taker.take()
    taker.drive(10)
    snapshot = taker.result()
    assert (snapshot.problem, snapshot.dropped) == ('', 11)
    assert len(list(open_source(str(snapshot.path), topic='/image'))) == 5
    assert taker.snapshots.close()
    for limit in ('disk_bytes', 'memory_bytes'):
        taker = Taker(tmp_path / limit, **{limit: image(0).size - 1})
        taker.drive(1)
        taker.take()
        taker.drive(6)
        assert taker.result().problem == 'no message had room'


def test_memory_is_bounded_while_the_disk_is_slow(tmp_path, monkeypatch):
    answer = Event()

    class SlowDisk(BagWriter):
        def __enter__(self):
            assert answer.wait(20.0)
            return super().__enter__()

    monkeypatch.setattr(snapshots, 'BagWriter', SlowDisk)
    size = image(0).size
    taker = Taker(tmp_path, memory_bytes=40 * size, before_s=0.9)
    taker.drive(30)
    taker.take()
    taker.drive(5)
    assert taker.snapshots._backlog.bytes == 15 * size
    for _ in range(95):
        taker.snapshots.add(image(taker.tenth))
    assert taker.snapshots._backlog.bytes == 20 * size
    taker.drive(1)
    assert taker.take() == 'that of ood_area is being written'
    answer.set()
    snapshot = taker.result()
    assert (snapshot.messages, snapshot.dropped) == ({'/image': 20}, 90)
    assert taker.snapshots._backlog.bytes == 0


def test_two_recorders_of_one_name_leave_each_other_their_snapshots(tmp_path):
    both = [Taker(tmp_path / 'new', interval_s=0.0) for _ in range(2)]
    for _ in range(20):
        for step in (lambda one: one.drive(12), lambda one: one.take(), lambda one: one.drive(6)):
            for one in both:
                step(one)
        paths = {one.result().path for one in both}
        assert len(paths) == 2
        for path in paths:
            assert len(list(open_source(str(path), topic='/image'))) == 16


def test_what_comes_after_the_warning_is_not_before_it(tmp_path):
    taker = Taker(tmp_path, before_s=0.0)
    taker.drive(10)
    assert taker.snapshots.take('latency', SECOND + 1, taker.done.put) == ''
    taker.drive(10)
    snapshot = taker.result()
    assert snapshot.before_s == 0.0
    assert snapshot.after_s == pytest.approx(0.5)


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_a_full_disk_is_the_problem_of_one_snapshot(tmp_path, storage):
    taker = Taker(tmp_path, interval_s=0.0, storage=storage)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        taker.drive(30)
        taker.take()
        taker.drive(10)
        snapshot = taker.result()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert snapshot.problem
    assert list(tmp_path.iterdir()) == [], 'nothing that a full disk would have to hold'
    taker.drive(30)
    assert taker.take() == ''
    taker.drive(10)
    assert taker.result().problem == ''
    assert taker.snapshots.close()


def test_a_folder_that_cannot_be_is_the_problem_of_one_snapshot(tmp_path):
    (tmp_path / 'file').write_text('')
    taker = Taker(tmp_path / 'file')
    taker.drive(10)
    taker.take()
    taker.drive(10)
    assert 'File exists' in taker.result().problem
    assert taker.snapshots.close()
