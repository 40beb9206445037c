# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Valid inputs of the parsers in fuzz_targets.py, each kind as a list of bytes.

They are small: what changes a byte of them changes something that counts.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import sqlite3
import struct
import zipfile
from contextlib import suppress
from dataclasses import asdict
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from mcap.writer import CompressionType
from mcap.writer import Writer
from statistics_of_drives import random_drive
from statistics_of_drives import with_test

import seg_uncertainty_ros
from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.bundle import default_bundle_path
from seg_uncertainty_ros.encodings import LAYOUTS
from seg_uncertainty_ros.monitor.events import Event
from seg_uncertainty_ros.monitor.events import FrameId
from seg_uncertainty_ros.monitor.events import Judgement
from seg_uncertainty_ros.monitor.events import Model
from seg_uncertainty_ros.monitor.events import Moment
from seg_uncertainty_ros.monitor.events import Origin
from seg_uncertainty_ros.monitor.events import Reaction
from seg_uncertainty_ros.monitor.events import to_line
from seg_uncertainty_ros.monitor.ood_area import Box
from seg_uncertainty_ros.monitor.ood_area import Region
from seg_uncertainty_ros.recordings.bag_writer import BagWriter
from seg_uncertainty_ros.recordings.bag_writer import header
from seg_uncertainty_ros.recordings.bag_writer import message_types
from seg_uncertainty_ros.recordings.messages import IMAGE
from seg_uncertainty_ros.recordings.messages import IMAGE_TYPES
from seg_uncertainty_ros.recordings.messages import typestore
from seg_uncertainty_ros.recordings.salvage import zstd
from seg_uncertainty_ros.resources import config_file
from seg_uncertainty_ros.runtime.engines import EngineKey
from seg_uncertainty_ros.shift.fitting import fit_shift_reference

SIZE = (6, 8)
RAW = struct.Struct('<IIIBB')
"""Height, width, step, is_bigendian and the number of an encoding; the pixels follow."""
REPAIR = 0x80
"""In the first byte of a compressed image: its checksums are put right."""
CAMERA = struct.Struct('<8I21d')
"""Height, width, roi (x, y, height, width), rows and columns of the planes, k, p; then d."""
MEMBER = struct.Struct('<BI')
"""Lengths of the name and of the body of an archive's member, which follow."""
VIDEOS = (('.avi', 'MJPG'), ('.mp4', 'mp4v'), ('.mkv', 'MJPG'))
START_NS = 1_700_000_000_000_000_000
ENGINE = EngineKey('ab' * 32, 384, 640, 'fp16', 'GPU', '8.9', '10.0')


@cache
def _scratch():
    memory = '/dev/shm'  # a disk takes longer than a parser
    return TemporaryDirectory(prefix='fuzz_', dir=memory if Path(memory).is_dir() else None)


def folder(name):
    """Return a folder that goes with the process."""
    path = Path(_scratch().name, name)
    path.mkdir(exist_ok=True)
    return path


def files(*paths):
    return [path.read_bytes() for path in paths]


def as_json(*values):
    return [json.dumps(value).encode() for value in values]


# Images


def picture(seed=0, channels=3):
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, channels), np.uint8)


def encoded(suffix, pixels, *options):
    return cv2.imencode(suffix, pixels, options)[1].tobytes()


def images():
    """Return one of each encoding."""
    height, width = SIZE
    found = []
    for index, (name, layout) in enumerate(LAYOUTS.items()):
        step = width * layout.pixel_bytes
        rows = height * 3 // 2 if name.startswith('nv') else height
        found.append(RAW.pack(height, width, step, 0, index) + bytes(rows * step))
    return found


def planes():
    floats = np.linspace(-1, 2, 8, dtype='<f4').tobytes()
    return [
        RAW.pack(*SIZE, SIZE[1], 0, 0) + bytes(SIZE[0] * SIZE[1]),
        RAW.pack(2, 4, 16, 0, 2) + floats,
        RAW.pack(1, 8, 32, 0, 2) + floats,
        RAW.pack(1, 2, 24, 1, 3) + floats,
        RAW.pack(*SIZE, 24, 0, 4) + bytes(SIZE[0] * 24),
    ]


def compressed():
    gray = picture(1, 1)
    kinds = (
        ('.jpg', picture()),
        ('.jpg', picture(), cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        ('.jpg', picture(), cv2.IMWRITE_JPEG_RST_INTERVAL, 1),
        ('.jpg', gray),
        ('.png', picture()),
        ('.png', picture(2, 4)),
        ('.png', gray.astype(np.uint16) * 257),
        ('.png', gray, cv2.IMWRITE_PNG_BILEVEL, 1),
        ('.bmp', picture()),
        ('.bmp', gray),
    )
    return [bytes([REPAIR]) + encoded(*kind) for kind in kinds]


def camera_infos():
    k = (500.0, 0, 320, 0, 500, 180, 0, 0, 1)
    p = (500.0, 0, 320, 0, 0, 500, 180, 0, 0, 0, 1, 0)
    return [CAMERA.pack(360, 640, *roi, 180, 320, *k, *p) for roi in ((0,) * 4, (8, 4, 180, 320))]


# Bundles


@cache
def bundle():
    """Return the folder of one whose graph nobody opens and whose reference is small."""
    path = folder('bundle')
    shutil.copytree(default_bundle_path(), path, dirs_exist_ok=True)
    full = Bundle.load(path)
    (path / 'graph.onnx').write_bytes(b'graph')
    drives = [random_drive(seed, seconds=40.0, size=4, classes=11) for seed in range(4)]
    reference = with_test(fit_shift_reference({'town': drives}), 0.1)
    replace(full, reference=reference).write()
    return path


def manifests():
    return files(bundle() / 'bundle.json')


def references():
    return files(bundle() / 'reference.npz')


def members():
    """Return what is in the archive of a reference, each member with ``MEMBER`` before it."""
    with zipfile.ZipFile(bundle() / 'reference.npz') as archive:
        entries = [(name.encode(), archive.read(name)) for name in archive.namelist()]
    return [b''.join(MEMBER.pack(len(name), len(body)) + name + body for name, body in entries)]


def abouts():
    """Return the settings in it."""
    with np.load(bundle() / 'reference.npz') as archive:
        return [str(archive['about']).encode()]


# Recordings


@cache
def messages():
    """Return a serialized message of each of ``IMAGE_TYPES``."""
    stamped = header(START_NS, 'camera')
    jpeg = np.frombuffer(encoded('.jpg', picture()), np.uint8)
    raw = (stamped, *SIZE, 'bgr8', 0, SIZE[1] * 3, picture().reshape(-1))
    return [
        bytes(typestore().serialize_cdr(message_types()[kind](*values), kind))
        for kind, values in zip(IMAGE_TYPES, (raw, (stamped, 'jpeg', jpeg)), strict=True)
    ]


def cdrs():
    raw, small = messages()
    return [b'\0' + raw, b'\1' + small, b'\0' + zstd.compress(raw)]


@cache
def mcap(compression=CompressionType.NONE, **options):
    """Return a small file with three messages."""
    out = io.BytesIO()
    writer = Writer(out, 300, compression, **{'enable_crcs': False, **options})
    writer.start(profile='ros2')
    schema = writer.register_schema(IMAGE, 'ros2msg', b'uint8 x')
    channel = writer.register_channel('/camera/image', 'cdr', schema)
    for stamp_ns in range(START_NS, START_NS + 3 * 10**8, 10**8):
        writer.add_message(channel, stamp_ns, messages()[0], stamp_ns)
    writer.finish()
    return out.getvalue()


def mcaps():
    compressions = (mcap(kind) for kind in CompressionType)
    return [*compressions, mcap(use_chunking=False), mcap(enable_crcs=True)]


def packed():
    return [zstd.compress(mcap())]


def schemas():
    """Return the SQL that makes a bag."""
    return [
        f"CREATE TABLE topics(id, name, type); INSERT INTO topics VALUES(1, '/x', '{IMAGE}');"
        ' CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id, timestamp, data);'
        f" INSERT INTO messages VALUES(1, 1, 5, x'{messages()[0].hex()}');".encode()
    ]


def database(sql):
    """Return the file of a database that SQL makes, limited to what takes no time."""
    path = folder('inputs') / 'x.db3'
    path.unlink(missing_ok=True)
    connection = sqlite3.connect(path)
    connection.execute('PRAGMA page_size=512')
    connection.set_progress_handler(lambda: 1, 20_000)
    refused = {sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_PRAGMA}
    connection.set_authorizer(lambda action, *_: action in refused)
    with suppress(sqlite3.Error, sqlite3.Warning, ValueError):
        connection.executescript(sql)
    connection.close()
    return path


def databases():
    more = ' INSERT INTO messages SELECT id + 1, 1, timestamp + 9, data FROM messages;'
    return files(database(schemas()[0].decode() + more))


@cache
def metadata():
    path = folder('seed') / 'x'
    shutil.rmtree(path, ignore_errors=True)  # of a process before this one
    with BagWriter(path) as bag:
        bag.write_raw('/camera/image', IMAGE, messages()[0], START_NS)
    return files(path / 'metadata.yaml')


def videos():
    """Return one of each of ``VIDEOS``, its number before it."""
    found = []
    for index, (suffix, fourcc) in enumerate(VIDEOS):
        path = folder('seed') / f'x{suffix}'
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*fourcc), 25, (32, 32))
        for frame in range(3):
            rng = np.random.default_rng(frame)
            writer.write(rng.integers(0, 256, (32, 32, 3), np.uint8))
        writer.release()
        found.append(bytes([index]) + path.read_bytes())
    return found


def log(*events):
    """Return the event log of one run."""
    origin, moment = Origin('/monitor', 'run'), Moment(START_NS, 5, START_NS)
    return b''.join(to_line(event, origin, moment, n) for n, event in enumerate(events, 1))


@cache
def events():
    """Return a log in which every field is."""
    box = Box(3, 4, 5, 6)
    judged = Judgement('ood_area', 'ERROR', 0.1, 0.02, 0.01, 'why', 5, 0.5, 0.2, 'ahead', box)
    begin = Event(
        'begin',
        'raised',
        Model('x 1.0', 'ab' * 32, 'cd' * 32, None),
        FrameId(START_NS, 'camera'),
        judged,
        {'ood_area': 0.1, 'latency': None},
        (Region(box, 0.1, 0.9, 'road', 'ahead', 0.8, None, 1, 0.5, 1.0),),
        Reaction('OK', 'ERROR', {'/monitor/state': 2}),
    )
    return [log(Event('started', 'begins', details={'a': 1}), begin)]


# Texts


def recipes():
    path = Path(seg_uncertainty_ros.__file__).parent / 'training' / 'recipes'
    return files(*sorted(path.glob('*.yaml')))


def parameter_files():
    return files(*map(config_file, ('monitor.yaml', 'segmentation.yaml')))


CLASSES = [b'road 128 64 128\nsky\n# comment\ntree, 0, 255, 0\n']
DRIVES = [
    b'procedural:seed=3,width=64,height=48,rate=10,duration=0.5',
    b'procedural:duration=1,width=64,height=48,effect=fog:0.5,unknown=cargo_box:0-1',
]
ENGINES = as_json(
    {'of': asdict(ENGINE), 'sha256': hashlib.sha256(b'engine').hexdigest(), 'bytes': 6}
)
_ROWS = [[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]] * 2
NOVELTIES = as_json([_ROWS, _ROWS], [0.25] * 4)
PARAMETERS = as_json(
    {'region.polygon': '0,1 0.5,0 1,1', 'region.classes': ['road'], 'jump': 5.0},
    {'ood_area.enter': 0.02, 'ood_area.exit': 0.01, 'latency.level': 'ERROR'},
    {'anomaly.threshold': 0.5, 'anomaly.max_regions': 3, 'confidence_in': 'region'},
)
_WARNING = {'name': 'ood_area', 'message': 'unknown object'}
STATES = as_json({'stamp_ns': 5, 'state': 'WARN', 'bundle': 'x 1.0', 'warnings': [_WARNING]})
