# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Every parser of outside data as a function of bytes, and what it must never do.

``TARGETS`` at the end has a row for each. A parser returns or raises a SegUncertaintyError of one
line, within a second of processor time and within memory that does not depend on a number in the
input. ``check`` says so of one input; the tests feed it what hypothesis draws, benchmarks/fuzz.py
what a coverage-guided fuzzer finds.

What needs ROS is imported where it is used, for without it the others are still tested; and so is
the command line, which imports nearly everything.
"""

from __future__ import annotations

import io
import resource
import struct
import time
import zipfile
import zlib
from array import array
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from math import inf
from types import SimpleNamespace
from typing import TYPE_CHECKING

import cv2
import fuzz_seeds as seeds
import numpy as np
from fuzz_seeds import folder
from fuzz_strategies import TOKENS

from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.classes import CAMVID
from seg_uncertainty_ros.encodings import LAYOUTS
from seg_uncertainty_ros.encodings import PNG
from seg_uncertainty_ros.encodings import _png_chunks
from seg_uncertainty_ros.encodings import decode_compressed
from seg_uncertainty_ros.encodings import decode_message
from seg_uncertainty_ros.errors import SegUncertaintyError
from seg_uncertainty_ros.frames import Frame
from seg_uncertainty_ros.monitor.events import Event
from seg_uncertainty_ros.monitor.events import FrameId
from seg_uncertainty_ros.monitor.region_of_interest import RegionOfInterest
from seg_uncertainty_ros.novelty.measure import parse_embedding
from seg_uncertainty_ros.novelty.measure import parse_held_out
from seg_uncertainty_ros.procedural.drive import check_drive
from seg_uncertainty_ros.procedural.spec import drive_arguments
from seg_uncertainty_ros.recordings import SourceError
from seg_uncertainty_ros.recordings import open_source
from seg_uncertainty_ros.recordings.event_log import read_events
from seg_uncertainty_ros.recordings.messages import IMAGE_TYPES
from seg_uncertainty_ros.recordings.messages import decode_frame
from seg_uncertainty_ros.recordings.salvage import uncompressed
from seg_uncertainty_ros.runtime.engines import EngineCache
from seg_uncertainty_ros.shift.reference import ShiftReference
from seg_uncertainty_ros.structured_text import TextError
from seg_uncertainty_ros.structured_text import parse_json
from seg_uncertainty_ros.training.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

TIME_LIMIT_S = 1.0
"""Of processor time: a busy machine is not the parser's fault."""
MEMORY_LIMIT_BYTES = 2**29
"""Twice what the largest image that is accepted takes with its planes of coefficients."""
MESSAGE_LIMIT = 4000
FRAMES = 32


class FindingError(AssertionError):
    """A parser did what none may do."""


def check(name, data):
    """Run a target on one input; return what it was refused with, '' where it was taken.

    Raises:
        FindingError: another exception, a second of processor time, or too much memory.

    """
    refusal = ''
    before = _reset_peak()
    start = time.process_time()
    try:
        TARGETS[name].run(data)
    except SegUncertaintyError as error:
        refusal = str(error)
    except Exception as error:
        raise FindingError(f'{type(error).__name__}: {str(error)[:300]}') from error
    seconds = time.process_time() - start
    grown = _peak() - before
    if grown > MEMORY_LIMIT_BYTES:
        raise FindingError(f'{grown / 2**20:.0f} MiB of memory, {refusal[:200]!r}')
    if seconds > TIME_LIMIT_S:
        raise FindingError(f'{seconds:.2f} s of processor time, {refusal[:200]!r}')
    check_line(refusal)
    return refusal


def prepare(name):
    """Import what a target needs and see that it takes every seed."""
    cv2.setNumThreads(1)
    for seed in TARGETS[name].seeds:
        TARGETS[name].run(seed)


def check_line(text, longest=MESSAGE_LIMIT):
    """See that a message is one line that can be printed, and no page."""
    problem = ''
    if len(text) > longest:
        problem = f'{len(text)} characters'
    elif len(text.splitlines()) > 1:
        problem = 'several lines'
    elif not text.isprintable():
        problem = 'characters that cannot be printed'
    if problem:
        raise FindingError(f'a message of {problem}: {text[:300]!r}')


def any_of(value, *parsers):
    """Give a value to every parser; raise the last refusal where none takes it."""
    refusals = []
    for parse in parsers:
        try:
            parse(value)
        except SegUncertaintyError as error:
            check_line(str(error))
            refusals.append(error)
    if len(refusals) == len(parsers):
        raise refusals[-1]


def _peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _reset_peak():
    """Let the kernel forget the peak of resident memory; return it."""
    try:
        with open('/proc/self/clear_refs', 'wb', buffering=0) as file:  # noqa: PTH123  hot
            file.write(b'5')
    except OSError:
        pass  # without it the peak of the whole process stays: fewer findings, no false ones
    return _peak()


def fields(layout, data):
    """Return the numbers that an input begins with, 0 where it is too short, and the rest."""
    return layout.unpack(data[: layout.size].ljust(layout.size, b'\0')), data[layout.size :]


def choice(data, options):
    """Return the option that the first byte chooses, and the rest."""
    return options[(data[:1] or b'\0')[0] % len(options)], data[1:]


def kept(name, data):
    """Write an input to a file and return its path."""
    path = folder('inputs') / name
    path.write_bytes(data)
    return path


def text(data):
    return data.decode('utf-8', 'replace')


# Images


NAMES = (*LAYOUTS, '', 'rgb16', 'bayer_rggb16', '\ud800', 'x' * 5000)
PLANES = ('mono8', '8UC1', '32FC1', '32FC3', 'bgr8', '16UC1', '64FC1')


def raw(data, encodings, kind=SimpleNamespace):
    """Return an image message with such fields."""
    (height, width, step, big, index), body = fields(seeds.RAW, data)
    encoding, pixels = encodings[index % len(encodings)], array('B', body)
    return kind(
        height=height, width=width, encoding=encoding, is_bigendian=big, step=step, data=pixels
    )


def image(data):
    """sensor_msgs/Image of a camera."""
    message = raw(data, NAMES)
    pixels = decode_message(message)
    assert pixels.shape == (message.height, message.width, 3)
    assert pixels.dtype == np.uint8


def plane(data):
    """Image messages of other nodes, as the monitor and the observer take them."""
    from sensor_msgs.msg import Image

    from seg_uncertainty_ros.nodes import conversions

    any_of(
        raw(data, PLANES, Image),
        conversions.frame_from_image,
        conversions.plane_from_image,
        conversions.unit_plane_from_image,
        conversions.dispersion_from_image,
        conversions.embedding_from_image,
        conversions.image_statistics_from_image,
    )


FORMATS = ('jpeg', 'png', 'rgb8; jpeg compressed rgb8', '\ud800' * 50)


def compressed(data):
    """JPEG, PNG, BMP; the first byte chooses the format field and whether checksums are right."""
    kind, body = choice(data, FORMATS)
    if data[:1] >= bytes([seeds.REPAIR]) and body.startswith(PNG):
        body = with_checksums(body)
    decode_compressed(body, kind)


def with_checksums(png):
    """Return a PNG file whose chunks have the checksum of what they hold."""
    file = bytearray(png)
    for _, start, end in _png_chunks(png):
        file[end - 4 : end] = struct.pack('>I', zlib.crc32(png[start + 4 : end - 4]))
    return bytes(file)


def image_folder(data):
    """A folder with one good image and one that is anything."""
    path = folder('images')
    (path / 'good.png').write_bytes(seeds.encoded('.png', seeds.picture()))
    (path / 'other.jpg').write_bytes(data[1:])
    read(path)


def camera_info(data):
    """sensor_msgs/CameraInfo scaled to the planes."""
    from sensor_msgs.msg import CameraInfo
    from sensor_msgs.msg import RegionOfInterest as Roi
    from std_msgs.msg import Header

    from seg_uncertainty_ros.nodes.conversions import camera_info_problem
    from seg_uncertainty_ros.nodes.conversions import scaled_camera_info

    values, rest = fields(seeds.CAMERA, data)
    height, width, x, y, roi_height, roi_width, rows, columns = values[:8]
    info = CameraInfo(
        height=height,
        width=width,
        roi=Roi(x_offset=x, y_offset=y, height=roi_height, width=roi_width),
        k=values[8:17],
        p=values[17:29],
        d=[float(x) for x in rest[:8]],
    )
    # The planes' size is ours, never 0 and never above that of an image.
    scaled = scaled_camera_info(info, Header(), 1 + rows % 8192, 1 + columns % 8192)
    sides = [min(1024, side) or 1 for side in (roi_height or height, roi_width or width)]
    if not camera_info_problem(info, Frame(np.zeros((*sides, 3), np.uint8), 0, '')):
        assert np.isfinite([*scaled.k, *scaled.p]).all()


# Bundles


def manifest(data):
    path = seeds.bundle()
    (path / 'bundle.json').write_bytes(data)
    bundle = Bundle.load(path)
    check_line(bundle.label)
    bundle.geometry.network_size(360, 640)


def reference_members(data):
    """The arrays inside reference.npz, in a whole archive: checksums are right."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, 'w') as archive:
        while len(data) >= seeds.MEMBER.size:
            (length, size), data = fields(seeds.MEMBER, data)
            title = data[:length].decode('latin-1').replace('/', '_')
            body, data = data[length : length + size], data[length + size :]
            if title and title not in archive.namelist():
                archive.writestr(zipfile.ZipInfo(title), body)
    TARGETS['reference'].run(out.getvalue())


def reference_about(data):
    """The settings inside reference.npz."""
    out = io.BytesIO()
    with np.load(seeds.bundle() / 'reference.npz') as arrays:
        np.savez(out, **{**arrays, 'about': np.array(text(data))})
    TARGETS['reference'].run(out.getvalue())


def novelty(data):
    """Metadata of novelty.onnx: known drives, and the embedding of a pattern."""
    any_of(
        text(data),
        lambda known: parse_held_out(known, 'novelty.onnx'),
        lambda embedding: parse_embedding(embedding, 4, 'novelty.onnx'),
    )


def engine(data):
    """The JSON file beside a kept engine."""
    cache = EngineCache(folder('engines'))
    path = cache.path(seeds.ENGINE)
    path.write_bytes(b'engine')
    path.with_suffix('.json').write_bytes(data)
    cache.load(seeds.ENGINE)


# Recordings


def read(path):
    """Read the first frames of a source."""
    source = open_source(path)
    assert source.frame_count is None or source.frame_count >= 0
    assert source.rate_hz is None or 0 < source.rate_hz <= 10_000
    for frame in islice(source, FRAMES):
        assert frame.image.ndim == 3
        assert abs(frame.stamp_ns) <= 2**31 * 10**9
    for line in source.skipped:
        check_line(line)


def cdr(data):
    """A serialized message; the first byte chooses its type."""
    kind, body = choice(data, IMAGE_TYPES)
    decode_frame(uncompressed(body), kind, seeds.START_NS)


def sqlite_schema(data):
    """A .db3 file with tables of any form."""
    read(seeds.database(text(data).replace('\0', '')))


def bag(file, content, metadata):
    path = folder(f'bag of {file}')
    (path / file).write_bytes(content)
    (path / 'metadata.yaml').write_bytes(metadata)
    read(path)


def metadata(data):
    """metadata.yaml of a bag."""
    bag('x.mcap', seeds.mcap(), data)


def zstd_bag(data):
    """A bag whose file is compressed as a whole."""
    (about,) = seeds.metadata()
    bag('x.mcap.zstd', data, about.replace(b'x.mcap', b'x.mcap.zstd'))


def video(data):
    """A video file; the first byte chooses its suffix."""
    (suffix, _), body = choice(data, seeds.VIDEOS)
    read(kept(f'x{suffix}', body))


def events(data):
    """The event log of one node beside that of another, as the command `events` prints them."""
    if faults := faults_of(data):
        raise SourceError(faults[0])


def faults_of(log):
    from seg_uncertainty_ros.cli.events import row

    path = folder('logs')
    for name, content in (('monitor', log), ('recorder', *seeds.events())):
        (path / f'{name}.000001.jsonl').write_bytes(content)
    found = read_events(path)
    faults = [*found.torn, *found.faults]
    for line in faults:
        check_line(line)
    for event in found.events:
        check_line(row(event), longest=inf)
    return faults


# Texts


def classes(data):
    """--classes of import-onnx."""
    from seg_uncertainty_ros.cli.import_onnx import read_classes

    read_classes(kept('x.txt', data))


def drive(data):
    """procedural:... as a source; only its arguments: drawing the street takes half a second."""
    check_drive(**drive_arguments(data.decode('utf-8', 'surrogateescape')))


def parameters(data):
    """Parameters of the monitor, of the types that ROS lets through, and the region they give."""
    from seg_uncertainty_ros.nodes.monitor import PARAMETERS
    from seg_uncertainty_ros.nodes.monitor import config_from

    try:
        given = parse_json(data)
    except TextError:
        given = {'region.polygon': text(data)}
    given = given if isinstance(given, dict) else {}
    values = {known.name: known.default for known in PARAMETERS}
    for name, default in values.items():
        value = given.get(name)
        items = value if isinstance(value, list) else ()
        if type(value) is type(default) and all(isinstance(item, str) for item in items):
            values[name] = value
    region = RegionOfInterest(config_from(values).region, CAMVID)
    region.find(np.full((36, 64), 3, np.uint8))


def parameter_file(path):
    """--params-file of a node, as far as ROS reads it."""
    from rclpy.context import Context

    from seg_uncertainty_ros.nodes.running import initialise

    context = Context()
    initialise(['node', '--ros-args', '--params-file', str(path)], context)
    context.try_shutdown()


def state(data):
    """~/state of a monitor, as the demo reads it, and as the recorder of snapshots logs it."""
    from seg_uncertainty_ros.monitor.assessment import parse_state
    from seg_uncertainty_ros.nodes.recorder import Alarm

    def record(text):
        alarm = Alarm.of(text)
        details = {'warnings': [*alarm.warnings], 'bundle': alarm.bundle}
        event = Event('snapshot', 'taken', frame=FrameId(alarm.stamp_ns), details=details)
        assert not faults_of(seeds.log(event))

    any_of(text(data), parse_state, record)


# The table


@dataclass(frozen=True)
class Target:
    """A parser of inputs of one kind.

    ``parse`` takes the bytes or, where a ``file`` is named, the path of a file of them. ``make``
    is a list of valid inputs, or returns it. ``kind`` is 'bytes', 'text', 'json', 'yaml' or
    'lines' (of JSON); ``tokens`` are what a mutation may put in beyond those of the kind;
    ``examples`` what a run of the tests draws.
    """

    parse: Callable[[Any], object]
    make: list[bytes] | Callable[[], list[bytes]]
    kind: str = 'bytes'
    tokens: tuple[bytes, ...] = ()
    examples: int = 300
    file: str = ''

    @cached_property
    def seeds(self):
        return self.make() if callable(self.make) else self.make

    def run(self, data):
        self.parse(kept(self.file, data) if self.file else data)


IMAGES = (b'\xff\xd9', b'\xff\xda', b'\xff\xc2', b'\xff\xc0', b'IEND', b'IDAT', b'acTL')
NUMBERS = tuple(struct.pack('<d', number) for number in (np.nan, np.inf, 1e308, -0.0))
ARCHIVE = (b'PK\x01\x02', b'PK\x05\x06', b'\x93NUMPY', b'O8', b'.npy')
ARRAYS = (b"'O'", b"'<U9999'", b'(4294967296,)', b"'|V9'", *TOKENS['json'])
MCAP = (b'\x89MCAP0\r\n', *(bytes([opcode]) + bytes(8) for opcode in range(1, 16)))
SQL_NAMES = (b'VIEW', b'TEXT', b'messages', b'topics', b'WITHOUT ROWID', b'id', b'CHECK(0)')
SQL = (
    b'NULL', b"'text'", b'9223372036854775807', b'-1', b'1e999', b"x''", b'zeroblob(99)',
    b'CREATE VIEW messages AS ', b'WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c) '
    b'SELECT x AS id, 1 AS topic_id, 5 AS timestamp, NULL AS data FROM c;', b'WITHOUT ROWID',
    b'PRIMARY KEY', b';', b'DROP TABLE messages;',
)  # fmt: skip
VIDEO = (b'moov', b'trak', b'stsz', b'#EXTM3U\n', b'ffconcat')
CLASSES = (b'9' * 5000, b'a\n' * 2000, b' 256 0 0', b'\xd9\xa3', b'#')
DRIVE = (
    b'nan', b'inf', b'1e308', b'-1', b'effect=', b'unknown=', b'rain:', b'9' * 5000, b'_',
    b'\xd9\xa3', b'effect=fog:1,' * 500,
)  # fmt: skip
POLYGON = (b'nan,0 ', b'1e400,0 ', b'0,0 ' * 3000, b'-0.0')

TARGETS = {
    'image': Target(image, seeds.images, examples=500),
    'plane': Target(plane, seeds.planes),
    'compressed': Target(compressed, seeds.compressed, tokens=IMAGES),
    'folder': Target(image_folder, seeds.compressed),
    'camera_info': Target(camera_info, seeds.camera_infos, tokens=NUMBERS),
    'manifest': Target(manifest, seeds.manifests, 'json'),
    'reference': Target(ShiftReference.load, seeds.references, tokens=ARCHIVE, file='x.npz'),
    'reference_members': Target(reference_members, seeds.members, tokens=ARRAYS),
    'reference_about': Target(reference_about, seeds.abouts, 'json'),
    'novelty': Target(novelty, seeds.NOVELTIES, 'json'),
    'engine': Target(engine, seeds.ENGINES, 'json'),
    'cdr': Target(cdr, seeds.cdrs, examples=500),
    'mcap': Target(read, seeds.mcaps, tokens=MCAP, examples=400, file='x.mcap'),
    'sqlite': Target(read, seeds.databases, tokens=SQL_NAMES, examples=400, file='x.db3'),
    'sqlite_schema': Target(sqlite_schema, seeds.schemas, 'text', SQL, examples=150),
    'metadata': Target(metadata, seeds.metadata, 'yaml'),
    'zstd_bag': Target(zstd_bag, seeds.packed, examples=200),
    'video': Target(video, seeds.videos, tokens=VIDEO, examples=100),
    'recipe': Target(Recipe.load, seeds.recipes, 'yaml', file='x.yaml'),
    'classes': Target(classes, seeds.CLASSES, 'text', CLASSES),
    'drive': Target(drive, seeds.DRIVES, 'text', DRIVE),
    'parameters': Target(parameters, seeds.PARAMETERS, 'json', POLYGON),
    'parameter_file': Target(parameter_file, seeds.parameter_files, 'yaml', file='x.yaml'),
    'state': Target(state, seeds.STATES, 'json'),
    'events': Target(events, seeds.events, 'lines', examples=500),
}
