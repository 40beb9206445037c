# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Recordings in and out: whole, cut, damaged."""

from __future__ import annotations

import shutil
import sqlite3

import cv2
import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import CompressionFormat
from rosbags.rosbag2 import CompressionMode
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer

from seg_uncertainty_ros.recordings import SinkError
from seg_uncertainty_ros.recordings import SourceError
from seg_uncertainty_ros.recordings import open_source
from seg_uncertainty_ros.recordings.bag_writer import BagWriter
from seg_uncertainty_ros.recordings.bag_writer import Status
from seg_uncertainty_ros.recordings.bag_writer import header
from seg_uncertainty_ros.recordings.bag_writer import message_types
from seg_uncertainty_ros.recordings.errors import one_line
from seg_uncertainty_ros.recordings.messages import IMAGE
from seg_uncertainty_ros.recordings.messages import typestore
from seg_uncertainty_ros.recordings.video_writer import VideoWriter

TOPIC = '/camera/image_raw'
START = 1_700_000_000_000_000_000
PERIOD = 100_000_000
COUNT = 30


def picture(index, height=48, width=64):
    """Return noise of its own for each index: it compresses badly, so that chunks fill."""
    return np.random.default_rng(index).integers(0, 256, (height, width, 3), np.uint8)


def stamp(index):
    return START + index * PERIOD


def jpeg(image):
    return cv2.imencode('.jpg', image)[1].tobytes()


def write_bag(path, count=COUNT, *, size=(48, 64), topic=TOPIC, **options):
    with BagWriter(path, **options) as bag:
        for index in range(count):
            bag.write_image(topic, picture(index, *size), 'bgr8', stamp(index), 'camera')
    return path


def read_damaged(path):
    """Return the frames before the error and its message."""
    source = open_source(path)
    frames = []

    def collect():
        for frame in source:
            frames.append(frame)

    with pytest.raises(SourceError) as caught:
        collect()
    assert '\n' not in str(caught.value)
    return frames, str(caught.value)


def assert_frames(frames, indices, *, size=(48, 64)):
    assert [x.stamp_ns for x in frames] == [stamp(x) for x in indices]
    for frame, index in zip(frames, indices, strict=True):
        np.testing.assert_array_equal(frame.image, picture(index, *size))
        assert frame.frame_id == 'camera'


# Whole bags


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_bag_round_trip(tmp_path, storage):
    source = open_source(write_bag(tmp_path / 'drive', storage=storage))
    assert (source.name, source.topic, source.frame_count) == ('drive', TOPIC, COUNT)
    assert source.rate_hz == pytest.approx(10.0)
    assert_frames(list(source), range(COUNT))
    assert source.stem(7) == '000007'
    assert source.skipped == []


def test_each_iteration_starts_over(tmp_path):
    source = open_source(write_bag(tmp_path / 'drive', 4))
    first = iter(source)
    next(first)
    assert_frames(list(source), range(4))
    assert_frames(list(first), range(1, 4))


@pytest.mark.parametrize(
    ('storage', 'mode'),
    [
        *((StoragePlugin.MCAP, x) for x in CompressionMode),
        # sqlite3 has no compression of its own.
        *((StoragePlugin.SQLITE3, x) for x in CompressionMode if x != CompressionMode.STORAGE),
    ],
)
def test_compressed_bags(tmp_path, mode, storage):
    path = tmp_path / 'drive'
    rosbags_bag(path, COUNT, storage, mode)
    assert_frames(list(open_source(path)), range(COUNT))


def rosbags_bag(path, count, storage, mode, *, size=(48, 64)):
    writer = Writer(path, version=9, storage_plugin=storage)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection(TOPIC, IMAGE, typestore=typestore())
        for index in range(count):
            data = image_message(picture(index, *size), stamp(index))
            writer.write(connection, stamp(index), data)


def image_message(image, stamp_ns, *, encoding='bgr8', padding=0, length=None):
    rows = image.reshape(len(image), -1)
    rows = np.hstack((rows, np.full((len(rows), padding), 0xA5, np.uint8)))
    message = message_types()[IMAGE](
        header=header(stamp_ns, 'camera'),
        height=image.shape[0],
        width=image.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=rows.shape[1],
        data=rows.reshape(-1)[:length],
    )
    return bytes(typestore().serialize_cdr(message, IMAGE))


@pytest.mark.parametrize('suffix', ['.mcap', '.db3'])
def test_one_storage_file(tmp_path, suffix):
    path = tmp_path / 'drive'
    write_bag(path, 5, storage='mcap' if suffix == '.mcap' else 'sqlite3')
    (path / 'metadata.yaml').unlink()
    assert_frames(list(open_source(path / f'drive{suffix}')), range(5))


def test_padding_and_rgb(tmp_path):
    with BagWriter(tmp_path / 'drive') as bag:
        bag.write_raw(TOPIC, IMAGE, image_message(picture(0), stamp(0), padding=16), 0)
        swapped = picture(1)[:, :, ::-1].copy()
        bag.write_raw(TOPIC, IMAGE, image_message(swapped, stamp(1), encoding='rgb8'), 1)
    assert_frames(list(open_source(tmp_path / 'drive')), range(2))


def test_compressed_images(tmp_path):
    with BagWriter(tmp_path / 'drive') as bag:
        for index in range(3):
            bag.write_compressed(TOPIC, jpeg(picture(index)), stamp(index), 'camera')
    frames = list(open_source(tmp_path / 'drive'))
    for index, frame in enumerate(frames):
        np.testing.assert_array_equal(
            frame.image,
            cv2.imdecode(np.frombuffer(jpeg(picture(index)), np.uint8), cv2.IMREAD_COLOR),
        )
    assert [x.stamp_ns for x in frames] == [stamp(x) for x in range(3)]


def test_zero_stamp_falls_back_to_the_time_of_reception(tmp_path):
    with BagWriter(tmp_path / 'drive') as bag:
        bag.write_raw(TOPIC, IMAGE, image_message(picture(0), 0), stamp(5))
    assert next(iter(open_source(tmp_path / 'drive'))).stamp_ns == stamp(5)


# Topics


@pytest.fixture
def two_cameras(tmp_path):
    with BagWriter(tmp_path / 'drive') as bag:
        for index in range(4):
            bag.write_image('/left/image', picture(index), 'bgr8', stamp(index), 'camera')
            bag.write_compressed('/right/image', jpeg(picture(9)), stamp(index), 'right')
            bag.write_float('/speed', 3.0, stamp(index))
    return tmp_path / 'drive'


def test_a_topic_is_chosen(two_cameras):
    source = open_source(two_cameras, topic='/left/image')
    assert source.frame_count == 4
    assert_frames(list(source), range(4))
    assert {x.frame_id for x in open_source(two_cameras, topic='/right/image')} == {'right'}


def test_several_image_topics_need_a_choice(two_cameras):
    with pytest.raises(SourceError, match='2 image topics, choose one of /left/image, /right/im'):
        open_source(two_cameras)


@pytest.mark.parametrize('topic', ['/rear/image', '/speed'])
def test_absent_topic_lists_those_present(two_cameras, topic):
    with pytest.raises(SourceError) as caught:
        open_source(two_cameras, topic=topic)
    message = str(caught.value)
    assert f"topic '{topic}' is not an image topic" in message
    assert '/left/image [sensor_msgs/msg/Image]' in message
    assert '/speed [std_msgs/msg/Float32]' in message


def test_bag_without_images(tmp_path):
    with BagWriter(tmp_path / 'drive') as bag:
        bag.write_float('/speed', 3.0, START)
    with pytest.raises(SourceError, match=r'no image topic; topics present: /speed \[std_msgs'):
        open_source(tmp_path / 'drive')


# Single bad frames


def test_one_bad_message_does_not_end_the_bag(tmp_path):
    with BagWriter(tmp_path / 'drive') as bag:
        for index in range(6):
            bag.write_raw(TOPIC, IMAGE, image_message(picture(index), stamp(index)), stamp(index))
            if index == 2:
                short = image_message(picture(0), stamp(0), length=100)
                bag.write_raw(TOPIC, IMAGE, short, stamp(index))
            if index == 3:
                bag.write_raw(TOPIC, IMAGE, b'\x00\x01\x00\x00garbage', stamp(index))
    source = open_source(tmp_path / 'drive')
    for _ in range(2):
        assert_frames(list(source), range(6))
        assert len(source.skipped) == 2
    assert source.skipped[0] == (
        'message 3 at 1700000000.200 s: '
        'data: 100 bytes, fewer than height x step = 48 x 192 = 9216'
    )
    assert source.skipped[1].startswith('message 5 at 1700000000.300 s: ')
    assert source.frame_count == 8


def test_a_bag_of_only_bad_messages(tmp_path):
    with BagWriter(tmp_path / 'drive') as bag:
        bag.write_compressed(TOPIC, b'', START, 'camera')
    frames, error = read_damaged(tmp_path / 'drive')
    assert frames == []
    assert f'none of 1 messages on {TOPIC} could be decoded, the first: message 0' in error
    assert 'data: empty' in error


# Damaged bags


def big_bag(tmp_path, mode=CompressionMode.NONE, storage=StoragePlugin.MCAP):
    """Return the storage file of a bag of several chunks (of 1 MiB)."""
    rosbags_bag(tmp_path / 'drive', COUNT, storage, mode, size=(240, 320))
    suffix = 'mcap' if storage == StoragePlugin.MCAP else 'db3'
    return tmp_path / 'drive' / f'drive.{suffix}'


BIG = {'size': (240, 320)}


def overwrite(file, start, data):
    with file.open('r+b') as stream:
        stream.seek(start)
        stream.write(data)


def cut(file, fraction):
    with file.open('r+b') as stream:
        stream.truncate(int(file.stat().st_size * fraction))


@pytest.mark.parametrize('mode', [CompressionMode.NONE, CompressionMode.STORAGE])
@pytest.mark.parametrize('with_metadata', [True, False])
def test_cut_mcap_yields_what_is_readable(tmp_path, mode, with_metadata):
    file = big_bag(tmp_path, mode)
    cut(file, 0.6)
    if not with_metadata:
        (tmp_path / 'drive' / 'metadata.yaml').unlink()
    source = open_source(tmp_path / 'drive')
    frames, error = read_damaged(tmp_path / 'drive')
    assert source.frame_count == len(frames)
    assert source.rate_hz == pytest.approx(10.0)
    # At most the one message under the cut is lost of those before it.
    assert len(frames) >= int(COUNT * 0.6) - 1
    assert_frames(frames, range(len(frames)), **BIG)
    assert f'damaged, {len(frames)} frames were readable: drive.mcap at byte' in error
    assert open_source(file).frame_count == len(frames)


def test_mcap_without_footer(tmp_path):
    file = big_bag(tmp_path)
    with file.open('r+b') as stream:
        stream.truncate(file.stat().st_size - 8)
    frames, error = read_damaged(file)
    assert_frames(frames, range(COUNT), **BIG)
    assert 'File end magic is invalid' in error


def test_killed_recorder_leaves_readable_chunks(tmp_path):
    writer = Writer(tmp_path / 'drive', version=9, storage_plugin=StoragePlugin.MCAP)
    writer.open()
    connection = writer.add_connection(TOPIC, IMAGE, typestore=typestore())
    for index in range(COUNT):
        data = image_message(picture(index, 240, 320), stamp(index))
        writer.write(connection, stamp(index), data)
    writer.abort()
    frames, error = read_damaged(tmp_path / 'drive')
    assert 25 <= len(frames) <= COUNT
    assert_frames(frames, range(len(frames)), **BIG)
    assert error.endswith('the file ends without its index and footer')


def test_damaged_chunk_in_the_middle(tmp_path):
    file = big_bag(tmp_path, CompressionMode.STORAGE)
    # More than one block of zstd, so that a block's header is among it.
    overwrite(file, file.stat().st_size // 2, bytes(200_000))
    source = open_source(tmp_path / 'drive')
    assert source.frame_count == COUNT
    frames, error = read_damaged(tmp_path / 'drive')
    found = [(x.stamp_ns - START) // PERIOD for x in frames]
    assert_frames(frames, found, **BIG)
    assert found[0] == 0
    assert found[-1] == COUNT - 1
    assert COUNT - 6 <= len(frames) < COUNT
    assert f'{len(frames)} frames were readable: drive.mcap at byte' in error
    assert 'chunk' in error


def test_checksum_of_a_chunk_is_checked(tmp_path):
    mcap = pytest.importorskip(
        'mcap.writer', reason='mcap is no Debian package: a vehicle lacks it'
    )
    file = tmp_path / 'drive.mcap'
    with file.open('wb') as stream:
        writer = mcap.Writer(stream, chunk_size=20_000, compression=mcap.CompressionType.NONE)
        writer.start(profile='ros2')
        definition, _ = typestore().generate_msgdef(IMAGE, ros_version=2)
        schema = writer.register_schema(IMAGE, 'ros2msg', definition.encode())
        channel = writer.register_channel(TOPIC, 'cdr', schema)
        for index in range(COUNT):
            data = image_message(picture(index), stamp(index))
            writer.add_message(channel, stamp(index), data, stamp(index))
        writer.finish()
    assert_frames(list(open_source(file)), range(COUNT))
    overwrite(file, file.stat().st_size // 2, b'\x00\xff' * 8)
    frames, error = read_damaged(file)
    assert COUNT - 4 <= len(frames) < COUNT
    assert 'chunk: size or checksum mismatch' in error


@pytest.mark.parametrize('mode', [CompressionMode.FILE, CompressionMode.MESSAGE])
@pytest.mark.parametrize('storage', list(StoragePlugin))
def test_cut_compressed_bags(tmp_path, mode, storage):
    file = big_bag(tmp_path, mode, storage)
    if mode == CompressionMode.FILE:
        file = file.with_name(f'{file.name}.zstd')
    cut(file, 0.7)
    frames, error = read_damaged(tmp_path / 'drive')
    assert len(frames) >= int(COUNT * 0.7) - 2
    assert_frames(frames, range(len(frames)), **BIG)
    assert 'drive' in error


@pytest.mark.parametrize('fraction', [0.2, 0.5, 0.61, 0.8, 0.93, 0.997])
def test_cut_sqlite(tmp_path, fraction):
    file = big_bag(tmp_path, storage=StoragePlugin.SQLITE3)
    cut(file, fraction)
    frames, error = read_damaged(tmp_path / 'drive')
    assert len(frames) >= int(COUNT * fraction) - 2
    assert_frames(frames, range(len(frames)), **BIG)
    assert 'drive.db3 behind row' in error


def test_damaged_page_of_sqlite(tmp_path):
    file = big_bag(tmp_path, storage=StoragePlugin.SQLITE3)
    with sqlite3.connect(file) as connection:
        (page,) = connection.execute('PRAGMA page_size').fetchone()
    connection.close()
    # Every page of the second quarter: rows, and what links their parts.
    pages = file.stat().st_size // page
    overwrite(file, pages // 4 * page, b'\xff' * (pages // 4 * page))
    frames, error = read_damaged(tmp_path / 'drive')
    found = [(x.stamp_ns - START) // PERIOD for x in frames]
    assert found == sorted(set(found))
    assert {0, COUNT - 1} <= set(found)
    assert COUNT // 2 <= len(found) < COUNT
    assert 'drive.db3 behind row' in error


def test_missing_metadata(tmp_path):
    (write_bag(tmp_path / 'drive', 5) / 'metadata.yaml').unlink()
    frames, error = read_damaged(tmp_path / 'drive')
    assert_frames(frames, range(5))
    assert error.endswith('damaged, 5 frames were readable: metadata.yaml is missing')


def test_a_file_that_the_metadata_do_not_name_is_not_read(tmp_path):
    path = write_bag(tmp_path / 'drive', 5)
    shutil.copyfile(path / 'drive.mcap', path / 'another.mcap')
    assert_frames(list(open_source(path)), range(5))


def test_names_of_metadata_stay_inside_the_bag(tmp_path):
    path = write_bag(tmp_path / 'drive', 5)
    metadata = path / 'metadata.yaml'
    text = metadata.read_text().replace('- drive.mcap', '- ../elsewhere/drive.mcap')
    metadata.write_text(text)
    assert_frames(list(open_source(path)), range(5))
    metadata.write_text(text.replace('drive.mcap', 'passwd'))
    assert 'metadata.yaml: ' in read_damaged(path)[1]


def test_broken_metadata(tmp_path):
    (write_bag(tmp_path / 'drive', 5) / 'metadata.yaml').write_text(
        'rosbag2_bagfile_information: {'
    )
    frames, error = read_damaged(tmp_path / 'drive')
    assert_frames(frames, range(5))
    assert 'YAML' in error


def test_lost_part_of_a_split_bag(tmp_path):
    path = write_bag(tmp_path / 'drive', 5)
    metadata = path / 'metadata.yaml'
    metadata.write_text(
        metadata.read_text().replace('- drive.mcap', '- drive.mcap\n  - lost.mcap')
    )
    frames, error = read_damaged(path)
    assert_frames(frames, range(5))
    assert 'lost.mcap' in error


def test_fewer_messages_than_the_bag_counts(tmp_path):
    path = write_bag(tmp_path / 'drive', 5)
    metadata = path / 'metadata.yaml'
    metadata.write_text(metadata.read_text().replace('message_count: 5', 'message_count: 7'))
    frames, error = read_damaged(path)
    assert_frames(frames, range(5))
    assert error.endswith('damaged, 5 frames were readable: 5 of 7 messages were found')


def test_files_of_a_split_bag_are_read_in_the_order_of_their_numbers(tmp_path):
    path = tmp_path / 'drive'
    path.mkdir()
    for number in (0, 2, 10):
        with BagWriter(path / f'drive_{number}.mcap') as bag:
            bag.write_image(TOPIC, picture(number), 'bgr8', stamp(number), 'camera')
    frames, _ = read_damaged(path)
    assert_frames(frames, [0, 2, 10])


@pytest.mark.parametrize('suffix', ['.mcap', '.db3'])
@pytest.mark.parametrize('content', [b'', b'nothing of a bag' * 100, b'\x89MCAP0\r\n', None])
def test_files_that_are_no_bags(tmp_path, suffix, content):
    file = tmp_path / f'x{suffix}'
    file.write_bytes(content if content is not None else b'SQLite format 3\x00' + bytes(84))
    with pytest.raises(SourceError) as caught:
        open_source(file)
    message = str(caught.value)
    assert message.startswith(f'{file}: no image topic (')
    assert message.endswith('; topics present: none')
    assert '\n' not in message


def test_any_byte_of_a_bag_may_be_wrong(tmp_path):
    """Frames or SourceError, whatever is damaged; never another exception."""
    original = write_bag(tmp_path / 'drive', 4) / 'drive.mcap'
    random = np.random.default_rng(3)
    size = original.stat().st_size
    refused = 0
    structure = [*range(0, 1000, 23), *range(size - 3000, size, 61)]
    for position in [*structure, *random.integers(0, size, 30)]:
        file = tmp_path / 'damaged.mcap'
        shutil.copyfile(original, file)
        overwrite(file, int(position), random.bytes(4))
        try:
            frames = list(open_source(file))
        except SourceError:
            refused += 1
        else:
            assert len(frames) <= 4
    assert refused > 0


# Other sources


def write_images(folder, names, suffix='.png'):
    folder.mkdir()
    for index, name in enumerate(names):
        cv2.imwrite(str(folder / f'{name}{suffix}'), picture(index))
    return folder


def test_folder_in_natural_order(tmp_path):
    source = open_source(write_images(tmp_path / 'images', ['a1', 'a2', 'a10', 'b0']))
    frames = list(source)
    assert (source.name, source.topic, source.frame_count, source.rate_hz) == (
        'images',
        '',
        4,
        10.0,
    )
    assert [source.stem(x) for x in range(4)] == ['a1', 'a2', 'a10', 'b0']
    assert np.diff([x.stamp_ns for x in frames]).tolist() == [100_000_000] * 3
    assert frames[0].stamp_ns > 0
    for index, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.image, picture(index))


def test_folder_skips_what_it_cannot_decode(tmp_path):
    folder = write_images(tmp_path / 'images', ['0', '1', '2'])
    (folder / '1.png').write_bytes(b'')
    (folder / 'notes.txt').write_text('not an image')
    source = open_source(folder, rate_hz=5)
    frames = list(source)
    assert [source.stem(x) for x in range(2)] == ['0', '2']
    assert frames[1].stamp_ns - frames[0].stamp_ns == 400_000_000
    assert source.skipped == ["1.png: data: empty, expected a JPEG or PNG file (format 'png')"]


def test_images_of_one_stem_keep_names_of_their_own(tmp_path):
    folder = write_images(tmp_path / 'images', ['0', '1'])
    shutil.copy(folder / '1.png', folder / '1.bmp.png')
    shutil.copy(folder / '1.png', folder / '1.jpeg')
    source = open_source(folder)
    assert len(list(source)) == 4
    assert [source.stem(x) for x in range(4)] == ['0', '1.bmp', '1.jpeg', '1.png']


def test_folder_without_one_good_image(tmp_path):
    (tmp_path / 'a.jpg').write_bytes(b'\xff\xd8')
    frames, error = read_damaged(tmp_path)
    assert frames == []
    assert 'none of 1 images could be decoded, the first: a.jpg: data: JPEG of 2 bytes' in error


def test_empty_folder(tmp_path):
    with pytest.raises(SourceError, match=r'neither a bag \(metadata.yaml, .mcap, .db3\) nor ima'):
        open_source(tmp_path)


def write_video(path, count=20, fourcc='MJPG'):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*fourcc), 25, (64, 48))
    for index in range(count):
        writer.write(picture(index))
    writer.release()
    return path


@pytest.mark.parametrize(('suffix', 'fourcc'), [('.avi', 'MJPG'), ('.mp4', 'mp4v')])
def test_video(tmp_path, suffix, fourcc):
    source = open_source(write_video(tmp_path / f'drive{suffix}', fourcc=fourcc))
    frames = list(source)
    assert (source.frame_count, source.rate_hz, source.topic) == (20, 25.0, '')
    assert len(frames) == 20
    assert frames[3].image.shape == (48, 64, 3)
    assert frames[3].stamp_ns - frames[0].stamp_ns == 120_000_000
    assert source.stem(3) == '000003'


def test_cut_video_yields_what_is_readable(tmp_path, capfd):
    path = write_video(tmp_path / 'drive.avi')
    cut(path, 0.6)
    frames, error = read_damaged(path)
    assert 8 <= len(frames) <= 13
    assert error == f'{path}: ends after {len(frames)} of 20 frames, cut or damaged'
    assert len(capfd.readouterr().err) < 200


def test_video_cut_before_its_index(tmp_path):
    path = write_video(tmp_path / 'drive.mp4', fourcc='mp4v')
    cut(path, 0.6)
    with pytest.raises(SourceError, match='bytes that do not open as a video'):
        open_source(path)


def test_procedural_drive():
    spec = 'procedural:seed=3,width=128,height=96,duration=0.5'
    source = open_source(spec)
    frames = list(source)
    assert (source.name, source.topic) == (spec, '')
    assert (source.frame_count, source.rate_hz, source.stem(4)) == (5, 10.0, '000004')
    assert len(frames) == 5
    assert {x.image.shape for x in frames} == {(96, 128, 3)}
    assert np.diff([x.stamp_ns for x in frames]).tolist() == [100_000_000] * 4
    np.testing.assert_array_equal(next(iter(source)).image, frames[0].image)


def test_what_does_not_exist_or_is_unknown(tmp_path):
    with pytest.raises(SourceError, match='nowhere: does not exist, expected a bag, a video'):
        open_source(tmp_path / 'nowhere')
    (tmp_path / 'x.txt').write_text('text')
    with pytest.raises(
        SourceError, match=r"suffix '.txt' is unknown, expected one of .mcap, .db3"
    ):
        open_source(str(tmp_path / 'x.txt'))


def test_path_that_the_system_refuses(tmp_path):
    with pytest.raises(SourceError, match='x: cannot be read: File name too long'):
        open_source(tmp_path / ('x' * 300))


def test_topic_of_a_source_without_topics(tmp_path):
    folder = write_images(tmp_path / 'images', ['0'])
    with pytest.raises(SourceError, match="has no topics, but topic '/x' was asked for"):
        open_source(folder, topic='/x')


# Writers


def write_everything(path, **options):
    with BagWriter(path, **options) as bag:
        bag.write_image('/mask', picture(0)[:, :, 0], 'mono8', stamp(0), 'camera')
        score = np.linspace(0, 1, 48 * 64, dtype=np.float32).reshape(48, 64)
        bag.write_image('/anomaly', score, '32FC1', stamp(0), 'camera')
        bag.write_float('/ood_area', 0.25, stamp(1))
        bag.write_string('/state', 'WARN', stamp(2))
        status = Status(1, 'monitor', 'fog', 'front', {'shift': 1.5})
        bag.write_diagnostics('/diagnostics', [status], stamp(3))
        assert bag.message_count == 5
    return score


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_written_bag_opens_elsewhere(tmp_path, storage):
    score = write_everything(tmp_path / 'out', storage=storage)
    check_with_rosbags(tmp_path / 'out', score)
    assert sorted(x.suffix for x in (tmp_path / 'out').iterdir()) == sorted(
        ['.yaml', '.mcap' if storage == 'mcap' else '.db3']
    )


def test_single_file_opens_elsewhere(tmp_path):
    path = tmp_path / 'demo_out' / 'outputs.mcap'
    score = write_everything(path)
    assert [x.name for x in path.parent.iterdir()] == ['outputs.mcap']
    check_with_rosbags(path, score)
    assert open_source(path, topic='/mask').frame_count == 1


def check_with_rosbags(path, score):
    messages = {}
    with AnyReader([path]) as reader:
        for connection, time_ns, data in reader.messages():
            message = reader.deserialize(data, connection.msgtype)
            messages[connection.topic] = time_ns, message
            (qos,) = connection.ext.offered_qos_profiles
            assert (qos.reliability.name, qos.depth) == ('RELIABLE', 1)
    assert {x: y[0] for x, y in messages.items()} == {
        '/mask': stamp(0),
        '/anomaly': stamp(0),
        '/ood_area': stamp(1),
        '/state': stamp(2),
        '/diagnostics': stamp(3),
    }
    mask = messages['/mask'][1]
    assert (mask.encoding, mask.step, mask.header.frame_id) == ('mono8', 64, 'camera')
    assert mask.header.stamp.sec * 10**9 + mask.header.stamp.nanosec == stamp(0)
    np.testing.assert_array_equal(mask.data.reshape(48, 64), picture(0)[:, :, 0])
    anomaly = messages['/anomaly'][1]
    assert anomaly.step == 256
    np.testing.assert_array_equal(anomaly.data.view('<f4').reshape(48, 64), score)
    assert messages['/ood_area'][1].data == 0.25
    assert messages['/state'][1].data == 'WARN'
    (status,) = messages['/diagnostics'][1].status
    assert (status.level, status.message, status.hardware_id) == (1, 'fog', 'front')
    assert [(x.key, x.value) for x in status.values] == [('shift', '1.5')]


def test_single_file_opens_with_the_mcap_package(tmp_path):
    ros2 = pytest.importorskip(
        'mcap_ros2.reader', reason='mcap-ros2-support is no Debian package: a vehicle lacks it'
    )
    write_everything(tmp_path / 'outputs.mcap')
    messages = {
        x.channel.topic: x.ros_msg for x in ros2.read_ros2_messages(tmp_path / 'outputs.mcap')
    }
    assert messages['/state'].data == 'WARN'
    assert messages['/mask'].width == 64
    assert messages['/diagnostics'].status[0].values[0].value == '1.5'


def test_writers_refuse_what_exists(tmp_path):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out.mcap').touch()
    for path in ('out', 'out.mcap'):
        with pytest.raises(SinkError, match='exists already, not overwriting'):
            BagWriter(tmp_path / path)


@pytest.mark.parametrize('name', ['out', 'out.mcap'])
def test_writer_where_nothing_can_be_written(tmp_path, name):
    (tmp_path / 'file').touch()
    with (
        pytest.raises(SinkError, match='cannot be written: '),
        BagWriter(tmp_path / 'file' / name),
    ):
        pass


def test_writer_options(tmp_path):
    with pytest.raises(SinkError, match="storage 'rosbag1' is unknown, expected one of mcap, sq"):
        BagWriter(tmp_path / 'out', storage='rosbag1')
    with pytest.raises(SinkError, match=r'a single .mcap file was asked for'):
        BagWriter(tmp_path / 'out.mcap', storage='sqlite3')
    with pytest.raises(SinkError, match='not open for writing'):
        BagWriter(tmp_path / 'out').write_float('/x', 1.0, START)


def test_unknown_type_and_wrong_array(tmp_path):
    with BagWriter(tmp_path / 'out') as bag:
        with pytest.raises(SinkError, match="type 'my_msgs/msg/Mine' of topic /x is not known"):
            bag.write_raw('/x', 'my_msgs/msg/Mine', b'', START)
        with pytest.raises(ValueError, match=r'mono8 is u1 x 1, got float32 x 1'):
            bag.write_image('/x', np.zeros((2, 2), np.float32), 'mono8', START, 'camera')
        bag.write_float('/speed', 1.0, START)
    with AnyReader([tmp_path / 'out']) as reader:
        assert [x.topic for x in reader.connections] == ['/speed']


class _StoppedError(Exception):
    pass


@pytest.mark.parametrize('name', ['out', 'out.mcap'])
def test_what_was_written_before_an_error_can_be_read(tmp_path, name):
    def record():
        with BagWriter(tmp_path / name) as bag:
            for index in range(3):
                bag.write_image(TOPIC, picture(index), 'bgr8', stamp(index), 'camera')
            raise _StoppedError

    with pytest.raises(_StoppedError):
        record()
    assert_frames(list(open_source(tmp_path / name)), range(3))


def test_video_writer(tmp_path):
    path = tmp_path / 'overlay.mp4'
    flat = np.full((48, 64, 3), (20, 120, 220), np.uint8)
    with VideoWriter(path, 10.0) as video:
        for _ in range(12):
            video.write(flat)
        with pytest.raises(SinkError, match=r'image \(50, 64, 3\) in a video of \(48, 64, 3\)'):
            video.write(np.zeros((50, 64, 3), np.uint8))
    source = open_source(path)
    frames = list(source)
    assert (len(frames), source.rate_hz, video.frame_count) == (12, 10.0, 12)
    assert np.abs(frames[5].image.astype(int) - flat).max() < 12


def test_video_writer_where_nothing_can_be_written(tmp_path):
    with (
        VideoWriter(tmp_path / 'nowhere' / 'x.mp4', 10.0) as video,
        pytest.raises(SinkError, match=r'OpenCV cannot write this video \(mp4v, 64 x 48, 10.0 Hz'),
    ):
        video.write(picture(0))


# Real recordings


@pytest.mark.parametrize(
    ('name', 'count', 'rate_hz', 'shape'),
    [
        ('recordings/dashcam_us_suburb', 300, 10.0, (360, 640, 3)),
        ('recordings/camvid_val_15hz', 101, 15.0, (360, 480, 3)),
        ('recordings/highway_us', 221, 25.0, (540, 960, 3)),
        ('video/highway_us_test.mp4', 38, 25.0, (720, 1280, 3)),
    ],
)
def test_real_recordings(data_dir, name, count, rate_hz, shape):
    source = open_source(data_dir / name)
    frames = 0
    last_ns = 0
    for frame in source:
        assert frame.image.shape == shape
        assert frame.stamp_ns > last_ns
        last_ns = frame.stamp_ns
        frames += 1
    assert frames == source.frame_count == count
    assert source.rate_hz == pytest.approx(rate_hz, rel=1e-3)
    assert source.skipped == []


def test_cut_real_recording(data_dir, tmp_path):
    whole = data_dir / 'recordings/dashcam_us_suburb/dashcam_us_suburb.mcap'
    file = tmp_path / 'cut.mcap'
    data = whole.read_bytes()
    file.write_bytes(data[: len(data) * 2 // 3])
    frames, error = read_damaged(file)
    assert 180 <= len(frames) <= 220
    assert f'damaged, {len(frames)} frames were readable' in error
    np.testing.assert_array_equal(frames[0].image, next(iter(open_source(whole))).image)


@pytest.mark.parametrize(
    ('error', 'line'),
    [
        (ValueError('two\nlines.'), 'two lines'),
        (ValueError('bell \x07 of a file'), r'bell \x07 of a file'),
        (EOFError(), 'EOFError'),
    ],
)
def test_an_error_is_one_printable_line(error, line):
    assert one_line(error) == line
