# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Every parser of outside data as a function of bytes, and what it must never do.

A parser returns or raises a SegUncertaintyError of one line, within a second of processor time and
within memory that does not depend on a number in the input. ``check`` says so of one input; the
tests feed it what hypothesis draws, benchmarks/fuzz.py what a coverage-guided fuzzer finds.
"""

from __future__ import annotations

import atexit
import hashlib
import io
import json
import os
import resource
import shutil
import sqlite3
import struct
import tempfile
import time
import zipfile
import zlib
from contextlib import suppress
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from seg_uncertainty_ros.errors import SegUncertaintyError

if TYPE_CHECKING:
    from collections.abc import Callable

TIME_LIMIT_S = 1.0
"""Of processor time: a busy machine is not the parser's fault."""
MEMORY_LIMIT_BYTES = 2**29
"""Twice what the largest image that is accepted takes with its planes of coefficients."""
MESSAGE_LIMIT = 4000
FRAMES = 32
SIZE = (6, 8)


class FindingError(AssertionError):
    """A parser did what none may do."""


@dataclass(frozen=True)
class Target:
    """A parser of inputs of one kind.

    ``seeds`` are valid inputs, ``tokens`` what a mutation may put in; ``kind`` is 'bytes', 'text',
    'document' (JSON or YAML) or 'lines' (of JSON); ``examples`` what a run of the tests draws.
    """

    name: str
    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    tokens: tuple[bytes, ...] = ()
    kind: str = 'bytes'
    examples: int = 300


TARGETS: dict[str, Target] = {}


def target(
    seeds: Callable[[], list[bytes]], **options: object
) -> Callable[[Callable[[bytes], None]], Callable[[bytes], None]]:
    """Enter a function of bytes into ``TARGETS`` under its name."""

    def enter(run: Callable[[bytes], None]) -> Callable[[bytes], None]:
        TARGETS[run.__name__] = Target(run.__name__, run, cache(seeds), **options)
        return run

    return enter


def check(name: str, data: bytes) -> str:
    """Run a target on one input; return what it was refused with, '' where it was taken.

    Raises:
        FindingError: another exception, a second of processor time, or too much memory.

    """
    run = TARGETS[name].run
    refusal = ''
    before = _reset_peak()
    start = time.process_time()
    try:
        run(data)
    except SegUncertaintyError as error:
        refusal = str(error)
    except Exception as error:
        msg = f'{name}: {type(error).__name__}: {str(error)[:300]}'
        raise FindingError(msg) from error
    seconds = time.process_time() - start
    grown = _peak() - before
    if grown > MEMORY_LIMIT_BYTES:
        msg = f'{name}: {grown / 2**20:.0f} MiB of memory, {refusal[:200]!r}'
        raise FindingError(msg)
    if seconds > TIME_LIMIT_S:
        msg = f'{name}: {seconds:.2f} s of processor time, {refusal[:200]!r}'
        raise FindingError(msg)
    _check_message(name, refusal)
    return refusal


def prepare(name: str) -> None:
    """Import what a target needs and see that it takes every seed."""
    cv2.setNumThreads(1)
    for seed in TARGETS[name].seeds():
        TARGETS[name].run(seed)


def _check_message(name: str, message: str) -> None:
    problem = None
    if len(message) > MESSAGE_LIMIT:
        problem = f'a message of {len(message)} characters: {message[:200]!r}'
    elif len(message.splitlines()) > 1:
        problem = f'a message of several lines: {message[:300]!r}'
    elif not message.isprintable():
        try:
            message.encode()
        except UnicodeEncodeError:
            problem = f'a message that cannot be printed: {message[:300]!r}'
    if problem:
        msg = f'{name}: {problem}'
        raise FindingError(msg)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _reset_peak() -> int:
    """Let the kernel forget the peak of resident memory; return it."""
    try:
        with open('/proc/self/clear_refs', 'wb', buffering=0) as file:  # noqa: PTH123  hot
            file.write(b'5')
    except OSError:
        pass  # without it the peak of the whole process stays: fewer findings, no false ones
    return _peak()


@cache
def scratch() -> Path:
    """Return a folder that goes with the process."""
    memory = Path('/dev/shm')  # a disk takes longer than a parser
    folder = Path(tempfile.mkdtemp(prefix='fuzz_', dir=memory if memory.is_dir() else None))
    owner = os.getpid()
    atexit.register(lambda: owner == os.getpid() and shutil.rmtree(folder, ignore_errors=True))
    return folder


def emptied(name: str) -> Path:
    """Return an empty folder of that name."""
    folder = scratch() / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def picture(seed: int = 0, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, channels), np.uint8)


# Images


RAW = struct.Struct('<IIIBB')


def raw_seeds() -> list[bytes]:
    from seg_uncertainty_ros.encodings import LAYOUTS

    seeds = []
    for index, (name, layout) in enumerate(LAYOUTS.items()):
        height, width = SIZE
        step = width * layout.pixel_bytes
        rows = height * 3 // 2 if name.startswith('nv') else height
        seeds.append(RAW.pack(height, width, step, 0, index) + bytes(rows * step))
    return seeds


@target(raw_seeds, examples=500)
def image(data: bytes) -> None:
    """Fields of a sensor_msgs/Image."""
    from seg_uncertainty_ros.encodings import LAYOUTS
    from seg_uncertainty_ros.encodings import decode_image

    fields = RAW.unpack(data[: RAW.size].ljust(RAW.size, b'\0'))
    height, width, step, big, index = fields
    names = [*LAYOUTS, '', 'rgb16', 'bayer_rggb16', '\ud800', 'x' * 5000]
    body = data[RAW.size :]
    pixels = decode_image(
        body,
        height=height,
        width=width,
        encoding=names[index % len(names)],
        step=step,
        is_bigendian=big,
    )
    assert pixels.shape == (height, width, 3)
    assert pixels.dtype == np.uint8


PLANES = ('mono8', '8UC1', '32FC1', '32FC3', 'bgr8', '16UC1', '64FC1')


def plane_seeds() -> list[bytes]:
    floats = np.linspace(-1, 2, 8, dtype='<f4').tobytes()
    return [
        RAW.pack(*SIZE, SIZE[1], 0, 0) + bytes(SIZE[0] * SIZE[1]),
        RAW.pack(2, 4, 16, 0, 2) + floats,
        RAW.pack(1, 8, 32, 0, 2) + floats,
        RAW.pack(1, 2, 24, 1, 3) + floats,
        RAW.pack(*SIZE, 24, 0, 4) + bytes(SIZE[0] * 24),
    ]


@target(plane_seeds)
def plane(data: bytes) -> None:
    """Image messages of other nodes, as the monitor and the observer take them."""
    from array import array

    from sensor_msgs.msg import Image

    from seg_uncertainty_ros.nodes import conversions

    fields = RAW.unpack(data[: RAW.size].ljust(RAW.size, b'\0'))
    height, width, step, big, index = fields
    message = Image(
        height=height,
        width=width,
        step=step,
        is_bigendian=big,
        encoding=PLANES[index % len(PLANES)],
        data=array('B', data[RAW.size :]),
    )
    taken = 0
    for convert in (
        conversions.frame_from_image,
        conversions.plane_from_image,
        conversions.unit_plane_from_image,
        conversions.dispersion_from_image,
        conversions.embedding_from_image,
        conversions.image_statistics_from_image,
    ):
        try:
            convert(message)
        except SegUncertaintyError as error:
            last = error
        else:
            taken += 1
    if not taken:
        raise last


FORMATS = ('jpeg', 'png', 'rgb8; jpeg compressed rgb8', '\ud800' * 50)
PNG = b'\x89PNG\r\n\x1a\n'
REPAIR = 0x80


def encoded(suffix: str, pixels: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(suffix, pixels, options)[1].tobytes()


def compressed_files() -> list[bytes]:
    gray, alpha = picture(1, 1), picture(2, 4)
    return [
        encoded('.jpg', picture()),
        encoded('.jpg', picture(), cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        encoded('.jpg', picture(), cv2.IMWRITE_JPEG_RST_INTERVAL, 1),
        encoded('.jpg', gray),
        encoded('.png', picture()),
        encoded('.png', alpha),
        encoded('.png', gray.astype(np.uint16) * 257),
        encoded('.png', gray, cv2.IMWRITE_PNG_BILEVEL, 1),
        encoded('.bmp', picture()),
        encoded('.bmp', gray),
    ]


def compressed_seeds() -> list[bytes]:
    return [bytes([REPAIR]) + file for file in compressed_files()]


IMAGE_TOKENS = (b'\xff\xd9', b'\xff\xda', b'\xff\xc2', b'\xff\xc0', b'IEND', b'IDAT', b'acTL')


@target(compressed_seeds, tokens=IMAGE_TOKENS)
def compressed(data: bytes) -> None:
    """JPEG, PNG, BMP; the first byte chooses the format field and whether checksums are right."""
    from seg_uncertainty_ros.encodings import decode_compressed

    first, body = data[:1] or b'\0', data[1:]
    if first[0] & REPAIR and body.startswith(PNG):
        body = with_checksums(body)
    decode_compressed(body, FORMATS[first[0] % len(FORMATS)])


def with_checksums(png: bytes) -> bytes:
    """Return a PNG file whose chunks have the checksum of what they hold."""
    parts, position = [png[:8]], 8
    while position + 12 <= len(png):
        (length,) = struct.unpack_from('>I', png, position)
        end = position + 8 + length
        if end + 4 > len(png):
            break
        crc = zlib.crc32(png[position + 4 : end])
        parts.append(png[position:end] + struct.pack('>I', crc))
        position = end + 4
    return b''.join(parts) + png[position:]


CAMERA = struct.Struct('<8I21d')


def camera_seeds() -> list[bytes]:
    k = (500.0, 0, 320, 0, 500, 180, 0, 0, 1)
    p = (500.0, 0, 320, 0, 0, 500, 180, 0, 0, 0, 1, 0)
    return [CAMERA.pack(360, 640, *roi, 180, 320, *k, *p) for roi in ((0,) * 4, (8, 4, 180, 320))]


@target(camera_seeds, tokens=tuple(struct.pack('<d', x) for x in (np.nan, np.inf, 1e308, -0.0)))
def camera_info(data: bytes) -> None:
    """sensor_msgs/CameraInfo scaled to the planes."""
    from sensor_msgs.msg import CameraInfo
    from sensor_msgs.msg import RegionOfInterest
    from std_msgs.msg import Header

    from seg_uncertainty_ros.frames import Frame
    from seg_uncertainty_ros.nodes.conversions import camera_info_problem
    from seg_uncertainty_ros.nodes.conversions import scaled_camera_info

    values = CAMERA.unpack(data[: CAMERA.size].ljust(CAMERA.size, b'\0'))
    height, width, x, y, roi_height, roi_width, rows, columns = values[:8]
    info = CameraInfo(
        height=height,
        width=width,
        roi=RegionOfInterest(x_offset=x, y_offset=y, height=roi_height, width=roi_width),
        k=values[8:17],
        p=values[17:29],
        d=[float(x) for x in data[CAMERA.size :][:8]],
    )
    # The planes' size is ours, never 0 and never above that of an image.
    scaled = scaled_camera_info(info, Header(), 1 + rows % 8192, 1 + columns % 8192)
    sides = [min(1024, side) or 1 for side in (roi_height or height, roi_width or width)]
    image = np.zeros((*sides, 3), np.uint8)
    if not camera_info_problem(info, Frame(image, 0, '')):
        assert np.isfinite([*scaled.k, *scaled.p]).all()


# Bundles


@cache
def bundle_folder() -> Path:
    """Return a bundle whose graph nobody opens and whose reference is small."""
    from statistics_of_drives import random_drive
    from statistics_of_drives import with_test

    from seg_uncertainty_ros.bundle import Bundle
    from seg_uncertainty_ros.bundle import default_bundle_path
    from seg_uncertainty_ros.shift.fitting import fit_shift_reference

    folder = scratch() / 'bundle'
    shutil.copytree(default_bundle_path(), folder)
    bundle = Bundle.load(folder)
    (folder / 'graph.onnx').write_bytes(b'graph')
    drives = [random_drive(seed, seconds=40.0, size=4, classes=11) for seed in range(4)]
    reference = with_test(fit_shift_reference({'town': drives}), 0.1)
    replace(bundle, reference=reference).write()
    return folder


def manifest_seeds() -> list[bytes]:
    return [(bundle_folder() / 'bundle.json').read_bytes()]


JSON_TOKENS = (
    b'NaN', b'-Infinity', b'1e999', b'9' * 400, b'9' * 5000, b'null', b'true', b'[]', b'{}', b'""',
    b'"\\ud800"', b'[' * 3000, b'0.5', b'-1', b'"a\\nb"', b'\\u0000', b'\xff\xfe',
)  # fmt: skip


@target(manifest_seeds, tokens=JSON_TOKENS, kind='document')
def manifest(data: bytes) -> None:
    """bundle.json of a bundle."""
    from seg_uncertainty_ros.bundle import Bundle

    folder = bundle_folder()
    seed = TARGETS['manifest'].seeds()[0]
    try:
        (folder / 'bundle.json').write_bytes(data)
        bundle = Bundle.load(folder)
        bundle.label.encode()
        bundle.geometry.network_size(360, 640)
    finally:
        (folder / 'bundle.json').write_bytes(seed)


def reference_seeds() -> list[bytes]:
    return [(bundle_folder() / 'reference.npz').read_bytes()]


@target(reference_seeds, tokens=(b'PK\x01\x02', b'PK\x05\x06', b'\x93NUMPY', b'O8', b'.npy'))
def reference(data: bytes) -> None:
    """reference.npz as a file."""
    from seg_uncertainty_ros.shift.reference import ShiftReference

    path = scratch() / 'fuzzed.npz'
    path.write_bytes(data)
    ShiftReference.load(path)


MEMBER = struct.Struct('<BI')


def members_seeds() -> list[bytes]:
    with zipfile.ZipFile(io.BytesIO(reference_seeds()[0])) as archive:
        entries = [(name.encode(), archive.read(name)) for name in archive.namelist()]
    return [b''.join(MEMBER.pack(len(n), len(body)) + n + body for n, body in entries)]


@target(members_seeds, tokens=(b"'O'", b"'<U9999'", b'(4294967296,)', b"'|V9'", *JSON_TOKENS))
def reference_members(data: bytes) -> None:
    """The arrays inside reference.npz, in a whole archive: checksums are right."""
    out = io.BytesIO()
    position = 0
    with zipfile.ZipFile(out, 'w') as archive:
        while position + MEMBER.size <= len(data):
            name, size = MEMBER.unpack_from(data, position)
            position += MEMBER.size
            title = data[position : position + name].decode('latin-1').replace('/', '_')
            body = data[position + name : position + name + size]
            position += name + size
            if title and title not in archive.namelist():
                archive.writestr(zipfile.ZipInfo(title), body)
    reference(out.getvalue())


def about_seeds() -> list[bytes]:
    with np.load(io.BytesIO(reference_seeds()[0])) as archive:
        return [str(archive['about']).encode()]


@target(about_seeds, tokens=JSON_TOKENS, kind='document')
def reference_about(data: bytes) -> None:
    """The settings inside reference.npz."""
    with np.load(io.BytesIO(reference_seeds()[0])) as archive:
        arrays = {key: archive[key] for key in archive.files}
    arrays['about'] = np.array(data.decode('utf-8', 'replace'))
    out = io.BytesIO()
    np.savez(out, **arrays)
    reference(out.getvalue())


def novelty_seeds() -> list[bytes]:
    rows = [[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]] * 2
    return [json.dumps([rows, rows]).encode(), json.dumps([0.25] * 4).encode()]


@target(novelty_seeds, tokens=JSON_TOKENS, kind='document')
def novelty(data: bytes) -> None:
    """Metadata of novelty.onnx: known drives, and the embedding of a pattern."""
    from seg_uncertainty_ros.novelty.measure import NoveltyError
    from seg_uncertainty_ros.novelty.measure import parse_embedding
    from seg_uncertainty_ros.novelty.measure import parse_held_out

    text = data.decode('utf-8', 'replace')
    try:
        parse_held_out(text, 'novelty.onnx')
    except NoveltyError:
        parse_embedding(text, 4, 'novelty.onnx')


@cache
def engine_key() -> object:
    from seg_uncertainty_ros.runtime.engines import EngineKey

    return EngineKey('ab' * 32, 384, 640, 'fp16', 'GPU', '8.9', '10.0')


def engine_seeds() -> list[bytes]:
    digest = hashlib.sha256(b'engine').hexdigest()
    return [json.dumps({'of': asdict(engine_key()), 'sha256': digest, 'bytes': 6}).encode()]


@target(engine_seeds, tokens=JSON_TOKENS, kind='document')
def engine(data: bytes) -> None:
    """The JSON file beside a kept engine."""
    from seg_uncertainty_ros.runtime.engines import EngineCache

    kept = EngineCache(scratch() / 'engines')
    kept.folder.mkdir(exist_ok=True)
    path = kept.path(engine_key())
    path.write_bytes(b'engine')
    path.with_suffix('.json').write_bytes(data)
    kept.load(engine_key())


# Recordings


TOPIC, IMAGE = '/camera/image', 'sensor_msgs/msg/Image'
COMPRESSED = 'sensor_msgs/msg/CompressedImage'
START_NS = 1_700_000_000_000_000_000


@cache
def cdr_messages() -> tuple[tuple[str, bytes], ...]:
    """Return serialized messages of both types of images."""
    from seg_uncertainty_ros.recordings.bag_writer import header
    from seg_uncertainty_ros.recordings.bag_writer import message_types
    from seg_uncertainty_ros.recordings.messages import typestore

    types = message_types()
    pixels = picture()
    raw = types[IMAGE](
        header=header(START_NS, 'camera'),
        height=SIZE[0],
        width=SIZE[1],
        encoding='bgr8',
        is_bigendian=0,
        step=SIZE[1] * 3,
        data=pixels.reshape(-1),
    )
    jpeg = np.frombuffer(encoded('.jpg', pixels), np.uint8)
    small = types[COMPRESSED](header=header(START_NS, 'camera'), format='jpeg', data=jpeg)
    return tuple(
        (kind, bytes(typestore().serialize_cdr(message, kind)))
        for kind, message in ((IMAGE, raw), (COMPRESSED, small))
    )


def cdr_seeds() -> list[bytes]:
    from rosbags.rosbag2.reader import zstd

    plain = [bytes([index]) + data for index, (_, data) in enumerate(cdr_messages())]
    return [*plain, b'\0' + zstd.compress(cdr_messages()[0][1])]


@target(cdr_seeds, examples=500)
def cdr(data: bytes) -> None:
    """A serialized message; the first byte chooses its type."""
    from seg_uncertainty_ros.recordings.messages import decode_frame
    from seg_uncertainty_ros.recordings.salvage import uncompressed

    kind = (IMAGE, COMPRESSED)[(data[:1] or b'\0')[0] % 2]
    decode_frame(uncompressed(data[1:]), kind, START_NS)


def mcap_file(compression: str = '', *, chunks: bool = True, checksums: bool = False) -> bytes:
    """Return a small MCAP file with two messages of each kind."""
    from mcap.writer import CompressionType
    from mcap.writer import Writer

    out = io.BytesIO()
    kinds = {'': CompressionType.NONE, 'zstd': CompressionType.ZSTD, 'lz4': CompressionType.LZ4}
    writer = Writer(
        out,
        chunk_size=300,
        compression=kinds[compression],
        use_chunking=chunks,
        enable_crcs=checksums,
    )
    writer.start(profile='ros2')
    kind, message = cdr_messages()[0]
    schema = writer.register_schema(kind, 'ros2msg', b'uint8 x')
    channel = writer.register_channel(TOPIC, 'cdr', schema)
    for index in range(3):
        stamp = START_NS + index * 10**8
        writer.add_message(channel, stamp, message, stamp)
    writer.finish()
    return out.getvalue()


def mcap_seeds() -> list[bytes]:
    return [
        mcap_file(),
        mcap_file('zstd'),
        mcap_file('lz4'),
        mcap_file(chunks=False),
        mcap_file(checksums=True),
    ]


def read(path: Path) -> None:
    """Read the first frames of a source; without any, raise why they were skipped."""
    from seg_uncertainty_ros.recordings import open_source

    source = open_source(path)
    assert source.frame_count is None or source.frame_count >= 0
    assert source.rate_hz is None or 0 < source.rate_hz <= 10_000
    for frame in islice(source, FRAMES):
        assert frame.image.ndim == 3
        assert abs(frame.stamp_ns) <= 2**31 * 10**9
    for line in source.skipped:
        _check_message(path.name, line)


MCAP_TOKENS = (b'\x89MCAP0\r\n', *(bytes([x]) + bytes(8) for x in range(1, 16)))


@target(mcap_seeds, tokens=MCAP_TOKENS, examples=400)
def mcap(data: bytes) -> None:
    """A .mcap file."""
    path = scratch() / 'fuzzed.mcap'
    path.write_bytes(data)
    read(path)


def sqlite_seeds() -> list[bytes]:
    path = emptied('seed') / 'x.db3'
    connection = sqlite3.connect(path)
    connection.executescript(
        'PRAGMA page_size=512;'
        'CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL,'
        ' serialization_format TEXT NOT NULL, offered_qos_profiles TEXT NOT NULL);'
        'CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL,'
        ' timestamp INTEGER NOT NULL, data BLOB NOT NULL);'
    )
    connection.execute("INSERT INTO topics VALUES(1, ?, ?, 'cdr', '')", (TOPIC, IMAGE))
    for index in range(3):
        row = (START_NS + index * 10**8, cdr_messages()[0][1])
        connection.execute('INSERT INTO messages(topic_id, timestamp, data) VALUES(1, ?, ?)', row)
    connection.commit()
    connection.close()
    return [path.read_bytes()]


SQL_TOKENS = (b'VIEW', b'TEXT', b'messages', b'topics', b'WITHOUT ROWID', b'id', b'CHECK(0)')


@target(sqlite_seeds, tokens=SQL_TOKENS, examples=400)
def sqlite(data: bytes) -> None:
    """A .db3 file."""
    path = scratch() / 'fuzzed.db3'
    path.write_bytes(data)
    read(path)


def schema_seeds() -> list[bytes]:
    return [
        b"CREATE TABLE topics(id, name, type); INSERT INTO topics VALUES(1, '/x', '"
        + IMAGE.encode()
        + b"'); CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id, timestamp, data);"
        b" INSERT INTO messages VALUES(1, 1, 5, x'" + cdr_messages()[0][1].hex().encode() + b"');"
    ]


@target(
    schema_seeds,
    tokens=(b'NULL', b"'text'", b'9223372036854775807', b'-1', b'1e999', b"x''", b'zeroblob(99)',
            b'CREATE VIEW messages AS ', b'WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 '
            b'FROM c) SELECT x AS id, 1 AS topic_id, 5 AS timestamp, NULL AS data FROM c;',
            b'WITHOUT ROWID', b'PRIMARY KEY', b';', b'DROP TABLE messages;'),
    kind='text', examples=150,
)  # fmt: skip
def sqlite_schema(data: bytes) -> None:
    """A .db3 file with tables of any form: SQL makes it, limited to what takes no time."""
    path = emptied('schema') / 'x.db3'
    connection = sqlite3.connect(path)
    connection.set_progress_handler(lambda: 1, 20_000)
    refused = {sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_PRAGMA}
    connection.set_authorizer(lambda action, *_: action in refused)
    with suppress(sqlite3.Error, sqlite3.Warning, ValueError):
        connection.executescript(data.decode('utf-8', 'replace').replace('\0', ''))
    connection.close()
    read(path)


def metadata_seeds() -> list[bytes]:
    from seg_uncertainty_ros.recordings.bag_writer import BagWriter

    folder = emptied('seed')
    with BagWriter(folder / 'drive') as bag:
        bag.write_raw(TOPIC, IMAGE, cdr_messages()[0][1], START_NS)
    return [(folder / 'drive' / 'metadata.yaml').read_bytes()]


YAML_TOKENS = (
    b'&a ', b'*a', b'<<: *a', b'!!python/object/apply:os.system', b'!!timestamp 2001-99-99',
    b'!!binary ', b'? [a]\n: b\n', b'.nan', b'-.inf', b'0x', b'1:99:99', b'~', b'[' * 2000,
    b'{' * 2000, b'|\n', b'---\n', b'%YAML 9.9\n', b'!!set {a}', b'\t', b'9' * 5000,
    b'\xef\xbb\xbf', b'2001-12-14', b'!!int x', b'!!float x', b'0b', b'0o9', b'- - - - ',
    b'!!omap', b'\x85',
)  # fmt: skip


@target(metadata_seeds, tokens=YAML_TOKENS, kind='document')
def metadata(data: bytes) -> None:
    """metadata.yaml of a bag."""
    folder = scratch() / 'drive'
    if not folder.exists():
        folder.mkdir()
        (folder / 'drive.mcap').write_bytes(mcap_file())
    (folder / 'metadata.yaml').write_bytes(data)
    read(folder)


def zstd_seeds() -> list[bytes]:
    from rosbags.rosbag2.reader import zstd

    return [zstd.compress(mcap_file())]


@target(zstd_seeds, examples=200)
def zstd_bag(data: bytes) -> None:
    """A bag whose file is compressed as a whole."""
    folder = scratch() / 'packed'
    if not folder.exists():
        folder.mkdir()
        text = metadata_seeds()[0].replace(b'drive.mcap', b'x.mcap.zstd')
        (folder / 'metadata.yaml').write_bytes(text)
    (folder / 'x.mcap.zstd').write_bytes(data)
    read(folder)


VIDEOS = (('.avi', 'MJPG'), ('.mp4', 'mp4v'), ('.mkv', 'MJPG'))


def video_seeds() -> list[bytes]:
    seeds = []
    folder = emptied('seed')
    for index, (suffix, fourcc) in enumerate(VIDEOS):
        path = folder / f'x{suffix}'
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*fourcc), 25, (32, 32))
        for frame in range(3):
            rng = np.random.default_rng(frame)
            writer.write(rng.integers(0, 256, (32, 32, 3), np.uint8))
        writer.release()
        seeds.append(bytes([index]) + path.read_bytes())
    return seeds


@target(video_seeds, tokens=(b'moov', b'trak', b'stsz', b'#EXTM3U\n', b'ffconcat'), examples=100)
def video(data: bytes) -> None:
    """A video file; the first byte chooses its suffix."""
    suffix = VIDEOS[(data[:1] or b'\0')[0] % len(VIDEOS)][0]
    path = scratch() / f'fuzzed{suffix}'
    path.write_bytes(data[1:])
    read(path)


@target(compressed_seeds)
def folder(data: bytes) -> None:
    """A folder with one good image and one that is anything."""
    path = scratch() / 'images'
    path.mkdir(exist_ok=True)
    (path / 'good.png').write_bytes(compressed_files()[4])
    (path / 'other.jpg').write_bytes(data[1:])
    read(path)


# Text


def recipe_seeds() -> list[bytes]:
    import seg_uncertainty_ros.training as training

    recipes = Path(training.__file__).parent / 'recipes'
    return [path.read_bytes() for path in sorted(recipes.glob('*.yaml'))]


@target(recipe_seeds, tokens=YAML_TOKENS, kind='document')
def recipe(data: bytes) -> None:
    """A recipe of a training run."""
    from seg_uncertainty_ros.training.recipe import Recipe

    path = scratch() / 'recipe.yaml'
    path.write_bytes(data)
    Recipe.load(path)


def classes_seeds() -> list[bytes]:
    return [b'road 128 64 128\nsky\n# comment\ntree, 0, 255, 0\n']


@target(
    classes_seeds, tokens=(b'9' * 5000, b'a\n' * 2000, b' 256 0 0', b'\xd9\xa3', b'#'), kind='text'
)
def classes(data: bytes) -> None:
    """--classes of import-onnx."""
    from seg_uncertainty_ros.cli.import_onnx import read_classes

    path = scratch() / 'classes.txt'
    path.write_bytes(data)
    read_classes(path)


def drive_seeds() -> list[bytes]:
    return [
        b'procedural:seed=3,width=64,height=48,rate=10,duration=0.5',
        b'procedural:duration=1,width=64,height=48,effect=fog:0.5,unknown=cargo_box:0-1',
    ]


@target(
    drive_seeds, kind='text',
    tokens=(b'nan', b'inf', b'1e308', b'-1', b'effect=', b'unknown=', b'rain:', b'9' * 5000, b'_',
            b'\xd9\xa3', b'effect=fog:1,' * 500),
)  # fmt: skip
def drive(data: bytes) -> None:
    """procedural:... as a source; only its arguments: drawing the street takes half a second."""
    from seg_uncertainty_ros.procedural.drive import check_drive
    from seg_uncertainty_ros.procedural.spec import drive_arguments

    check_drive(**drive_arguments(data.decode('utf-8', 'surrogateescape')))


def parameter_seeds() -> list[bytes]:
    return [
        json.dumps(values).encode()
        for values in (
            {'region.polygon': '0,1 0.5,0 1,1', 'region.classes': ['road'], 'jump': 5.0},
            {'ood_area.enter': 0.02, 'ood_area.exit': 0.01, 'latency.level': 'ERROR'},
            {'anomaly.threshold': 0.5, 'anomaly.max_regions': 3, 'confidence_in': 'region'},
        )
    ]


NUMBER_TOKENS = (b'nan,0 ', b'1e400,0 ', b'0,0 ' * 3000, b'-0.0')


@target(parameter_seeds, tokens=(*JSON_TOKENS, *NUMBER_TOKENS), kind='document')
def parameters(data: bytes) -> None:
    """Parameters of the monitor, of the types that ROS lets through, and the region they give."""
    from seg_uncertainty_ros.classes import CAMVID
    from seg_uncertainty_ros.monitor.region_of_interest import RegionOfInterest
    from seg_uncertainty_ros.nodes.monitor import PARAMETERS
    from seg_uncertainty_ros.nodes.monitor import config_from

    try:
        given = json.loads(data)
    except (ValueError, RecursionError):
        given = {'region.polygon': data.decode('utf-8', 'replace')}
    given = given if isinstance(given, dict) else {}
    values = {row.name: row.default for row in PARAMETERS}
    for name, value in given.items():
        if name in values and _is_of_type(value, values[name]):
            values[name] = value
    config = config_from(values)
    region = RegionOfInterest(config.region, CAMVID)
    region.find(np.full((36, 64), 3, np.uint8))


def _is_of_type(value: object, default: object) -> bool:
    """Tell whether ROS gives such a value for such a parameter: 64 bits, text without zeros."""
    if isinstance(default, list):
        return isinstance(value, list) and all(_is_of_type(item, '') for item in value)
    if type(value) is not type(default):
        return False
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return '\0' not in value if isinstance(value, str) else True


def parameter_file_seeds() -> list[bytes]:
    from seg_uncertainty_ros.resources import config_file

    return [config_file(name).read_bytes() for name in ('monitor.yaml', 'segmentation.yaml')]


@target(parameter_file_seeds, tokens=YAML_TOKENS, kind='document')
def parameter_file(data: bytes) -> None:
    """--params-file of a node, as far as ROS reads it."""
    from rclpy.context import Context

    from seg_uncertainty_ros.nodes.running import initialise

    path = scratch() / 'parameters.yaml'
    path.write_bytes(data)
    context = Context()
    initialise(['node', '--ros-args', '--params-file', str(path)], context)
    context.try_shutdown()


def state_seeds() -> list[bytes]:
    warning = {'name': 'ood_area', 'message': 'unknown object'}
    content = {'stamp_ns': 5, 'state': 'WARN', 'bundle': 'x 1.0.0', 'warnings': [warning]}
    return [json.dumps(content).encode()]


@target(state_seeds, tokens=JSON_TOKENS, kind='document')
def state(data: bytes) -> None:
    """~/state of a monitor, as the demo and the recorder of snapshots read it."""
    from seg_uncertainty_ros.nodes.observer import parse_state
    from seg_uncertainty_ros.nodes.recorder import Alarm

    text = data.decode('utf-8', 'replace')
    with suppress(SegUncertaintyError):
        parse_state(text)
    Alarm.of(text)


def events_seeds() -> list[bytes]:
    from seg_uncertainty_ros.monitor.events import Event
    from seg_uncertainty_ros.monitor.events import FrameId
    from seg_uncertainty_ros.monitor.events import Judgement
    from seg_uncertainty_ros.monitor.events import Moment
    from seg_uncertainty_ros.monitor.events import Origin
    from seg_uncertainty_ros.monitor.events import to_line

    judged = Judgement('ood_area', 'ERROR', 0.1, 0.02, 0.01, 'why', 5, 0.5, 0.2, 'ahead')
    events = (
        Event('started', 'begins', details={'a': 1}),
        Event('begin', 'raised', warning=judged, frame=FrameId(START_NS, 'camera')),
    )
    origin, moment = Origin('/monitor', 'run'), Moment(START_NS, 5, START_NS)
    return [b''.join(to_line(event, origin, moment, n) for n, event in enumerate(events))]


@target(events_seeds, tokens=(b'\n', *JSON_TOKENS), kind='lines')
def events(data: bytes) -> None:
    """An event log, as the command `events` prints it."""
    from seg_uncertainty_ros.cli.events import row
    from seg_uncertainty_ros.recordings.event_log import read_events

    path = scratch() / 'x.jsonl'
    path.write_bytes(data)
    found = read_events(path)
    for event in found.events:
        _check_message('events', row(event))
    for line in found.faults:
        _check_message('events', line)
