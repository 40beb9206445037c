# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Sizes and numbers from outside are bounded before anything is made of their size.

The limits, and the tests of those that are not here, are in docs/safety.md. ``check`` allows a
second of processor time and half a gigabyte, ``little_memory`` less.
"""

from __future__ import annotations

import json
import re
import sqlite3
import struct
import time
import tracemalloc
import zipfile
import zlib
from contextlib import contextmanager

import cv2
import numpy as np
import pytest
from fuzz_seeds import REPAIR
from fuzz_seeds import encoded
from fuzz_seeds import picture
from fuzz_targets import TARGETS
from fuzz_targets import check
from fuzz_targets import prepare

from seg_uncertainty_ros.cli import import_onnx
from seg_uncertainty_ros.cli.options import CommandError
from seg_uncertainty_ros.encodings import MAX_SCANS
from seg_uncertainty_ros.procedural import drive
from seg_uncertainty_ros.procedural import spec
from seg_uncertainty_ros.recordings import SourceError
from seg_uncertainty_ros.recordings import open_source
from seg_uncertainty_ros.recordings import salvage
from seg_uncertainty_ros.recordings import videos
from seg_uncertainty_ros.recordings.folders import MAX_FILE_BYTES
from seg_uncertainty_ros.recordings.index import MAX_SUMMARY_BYTES
from seg_uncertainty_ros.recordings.index import NoIndexError
from seg_uncertainty_ros.runtime import engines
from seg_uncertainty_ros.runtime.engines import EngineCache
from seg_uncertainty_ros.runtime.engines import EngineKey
from seg_uncertainty_ros.runtime.engines import NoEngineError
from seg_uncertainty_ros.runtime.tensorrt_build import Built
from seg_uncertainty_ros.shift import reference
from seg_uncertainty_ros.shift.reference import ShiftReference
from seg_uncertainty_ros.shift.reference import ShiftReferenceError
from seg_uncertainty_ros.structured_text import MAX_CHARACTERS
from seg_uncertainty_ros.structured_text import MAX_DEPTH
from seg_uncertainty_ros.structured_text import MAX_INTEGER
from seg_uncertainty_ros.structured_text import MAX_VALUES
from seg_uncertainty_ros.structured_text import TextError
from seg_uncertainty_ros.structured_text import parse_json
from seg_uncertainty_ros.structured_text import parse_yaml

MIB = 2**20
KEY = EngineKey('0f' * 32, 384, 640, 'fp16', 'GPU', '8.7', '10.7.0')


@contextmanager
def little_memory(mib=8):
    """Fail where what runs inside takes more than ``mib`` at once."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < mib * MIB, f'{peak / MIB:.1f} MiB'


def sparse(path, size, head=b'', tail=b''):
    """Make a file of this size that takes no room on the disk."""
    with path.open('wb') as file:
        file.write(head)
        file.truncate(size)
        file.seek(-len(tail) or 0, 2)
        file.write(tail)
    return path


def test_scans_of_a_jpeg():
    """Of one that states 8K: it is refused before its pixels are walked over."""
    small = encoded('.jpg', picture(), cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    size = small.index(b'\xff\xc2') + 5
    large = small[:size] + struct.pack('>HH', 4320, 7680) + small[size + 4 : -2]
    scan = large[large.rindex(b'\xff\xda') :]
    more = (MAX_SCANS + 1 - large.count(b'\xff\xda')) * scan
    assert f'{MAX_SCANS + 1} scans' in check('compressed', b'\0' + large + more + b'\xff\xd9')


def test_bytes_of_an_image_file(tmp_path):
    cv2.imwrite(str(tmp_path / 'good.png'), np.zeros((8, 8, 3), np.uint8))
    sparse(tmp_path / 'large.png', MAX_FILE_BYTES + 1, head=b'\x89PNG\r\n\x1a\n')
    source = open_source(tmp_path)
    assert len(list(source)) == 1
    assert (
        f'{MAX_FILE_BYTES + 1} bytes, more than the {MAX_FILE_BYTES} accepted' in source.skipped[0]
    )


def test_frames_a_second_of_a_video(tmp_path, monkeypatch):
    path = tmp_path / 'drive.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 20.0, (64, 48))
    for _ in range(3):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    assert len(list(open_source(path))) == 3
    monkeypatch.setattr(videos, 'RATES_HZ', (30.0, 10_000.0))
    with pytest.raises(SourceError, match=r'frame rate 20\.0, expected 30\.0'):
        open_source(path)


@pytest.mark.parametrize(
    ('parse', 'text', 'words'),
    [
        (parse_json, ' ' * (MAX_CHARACTERS + 1), 'characters, more than'),
        (parse_yaml, ' ' * (MAX_CHARACTERS + 1), 'characters, more than'),
        (parse_json, '[' * (MAX_DEPTH + 1) + ']' * (MAX_DEPTH + 1), 'in each other'),
        (parse_yaml, '[' * (MAX_DEPTH + 1) + ']' * (MAX_DEPTH + 1), 'in each other'),
        (parse_json, '[' + '1,' * (MAX_VALUES + 1) + '1]', 'values'),
        (parse_yaml, '- 1\n' * (MAX_VALUES + 1), 'values'),
        (parse_yaml, '[' + '1,' * (2 * MAX_VALUES + 1) + '1]', 'values'),
        (parse_json, str(MAX_INTEGER), 'a whole number of 64 bits'),
        (parse_yaml, str(MAX_INTEGER), 'a whole number of 64 bits'),
    ],
    ids=lambda value: getattr(value, '__name__', None) or str(value)[:12],
)
def test_texts(parse, text, words):
    with pytest.raises(TextError, match=words):
        parse(text)


def test_aliases_of_yaml_do_not_multiply():
    text = 'a: &a [1,1,1,1,1,1,1,1,1]\n'
    for letter, previous in zip('bcdefghi', 'abcdefgh', strict=True):
        text += f'{letter}: &{letter} [{",".join([f"*{previous}"] * 9)}]\n'
    with little_memory(), pytest.raises(TextError, match='anchor, alias or tag'):
        parse_yaml(text)


def test_an_archive_that_unpacks_to_more(tmp_path):
    path = tmp_path / 'reference.npz'
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('about.npy', bytes(MIB))
    stated = struct.pack('<I', reference.MAX_BYTES + 1)
    path.write_bytes(path.read_bytes().replace(struct.pack('<I', MIB), stated))
    with little_memory(), pytest.raises(ShiftReferenceError, match='accepted are'):
        ShiftReference.load(path)


def test_arrays_in_an_archive(tmp_path):
    path = tmp_path / 'reference.npz'
    with zipfile.ZipFile(path, 'w') as archive:
        for number in range(reference.MAX_ARRAYS + 1):
            archive.writestr(f'{number}.npy', b'')
    with pytest.raises(ShiftReferenceError, match=f'{reference.MAX_ARRAYS + 1} arrays'):
        ShiftReference.load(path)


def test_an_array_that_states_more_than_it_has(tmp_path):
    path = tmp_path / 'reference.npz'
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776,)}\n"
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr(
            'about.npy', b'\x93NUMPY\x01\x00' + struct.pack('<H', len(header)) + header
        )
    with little_memory(), pytest.raises(ShiftReferenceError, match='of shape'):
        ShiftReference.load(path)


def test_an_engine_and_its_record(tmp_path):
    cache = EngineCache(tmp_path)
    engine = cache.path(KEY)
    record = engine.with_suffix('.json')
    sparse(record, engines.MAX_RECORD_BYTES + 1)
    with pytest.raises(NoEngineError, match=f'{engines.MAX_RECORD_BYTES} are accepted'):
        cache.load(KEY)
    of = {name: getattr(KEY, name) for name in KEY.__dataclass_fields__}
    record.write_text(json.dumps({'of': of, 'sha256': '0' * 64}))
    sparse(engine, engines.MAX_ENGINE_BYTES + 1)
    with little_memory(), pytest.raises(NoEngineError, match='bytes, 4294967296 are accepted'):
        cache.load(KEY)


def test_a_cache_of_timings(tmp_path):
    """One that is too large is not read, and the build goes on without."""
    cache = EngineCache(tmp_path)
    timings = tmp_path / f'timings-{KEY.gpu_label}-{KEY.tensorrt}.cache'
    sparse(timings, engines.MAX_TIMINGS_BYTES + 1)
    given = []

    def build(known):
        given.append(known)
        return Built(b'engine', b'new')

    with little_memory():
        assert cache.load_or_build(KEY, build, print) == b'engine'
    assert given == [b'']
    assert timings.read_bytes() == b'new'


def mcap(*records):
    """Return an MCAP file of (opcode, stated size, body) without an end."""
    return salvage.MAGIC + b''.join(
        struct.pack('<BQ', opcode, size) + body for opcode, size, body in records
    )


def salvaged(path):
    damages = []
    return list(salvage.salvage([path], damages)), damages


def test_a_record_of_a_bag(tmp_path):
    size = salvage.MAX_CHUNK_BYTES + 1
    head = mcap((salvage.MESSAGE, size, b''))
    path = sparse(tmp_path / 'large.mcap', len(head) + size, head=head)
    with little_memory():
        records, damages = salvaged(path)
    assert records == []
    assert f'{salvage.MAX_CHUNK_BYTES} are accepted' in damages[0]


def packed_zeros(size):
    """Return so many zeros in zstd, made without as much memory."""
    compressor, block = salvage.zstd.ZstdCompressor(), bytes(MIB)
    parts = [compressor.compress(block[: size - start]) for start in range(0, size, MIB)]
    return b''.join(parts) + compressor.flush()


def chunk_of_zeros(stated, size):
    packed = packed_zeros(size)
    body = struct.pack('<QQQII', 0, 0, stated, 0, 4) + b'zstd' + struct.pack('<Q', len(packed))
    return mcap((salvage.CHUNK, len(body) + len(packed), body + packed))


@pytest.mark.parametrize('stated', [2**20, 2**40])
def test_a_chunk_that_unpacks_to_more_than_its_header_says(stated, tmp_path):
    path = tmp_path / 'bomb.mcap'
    path.write_bytes(chunk_of_zeros(stated, 64 * MIB))
    with little_memory(mib=8 if stated < 2**30 else 260):
        records, damages = salvaged(path)
    assert records == []
    assert 'size or checksum mismatch' in damages[0]


def test_a_message_that_unpacks_to_more():
    refusal = check('cdr', b'\0' + packed_zeros(salvage.MAX_MESSAGE_BYTES + 1))
    assert f'more than the {salvage.MAX_MESSAGE_BYTES} bytes' in refusal


def test_damages_of_a_bag(tmp_path):
    path = tmp_path / 'damaged.mcap'
    path.write_bytes(mcap(*[(salvage.MESSAGE, 1, b'x')] * (salvage.MAX_DAMAGES + 100)))
    _, damages = salvaged(path)
    assert len(damages) <= salvage.MAX_DAMAGES + 102


def test_room_on_the_disk(tmp_path, monkeypatch):
    path = tmp_path / 'bag.mcap.zstd'
    path.write_bytes(salvage.zstd.compress(salvage.MAGIC + bytes(MIB)))
    monkeypatch.setattr(salvage, 'MIN_FREE_BYTES', 2**62)
    _, damages = salvaged(path)
    assert re.search('has less than .* GiB left', damages[0])


def database(path, topics=1, size=0):
    """Write a bag of one small message, and one of ``size`` bytes."""
    connection = sqlite3.connect(path)
    connection.execute('CREATE TABLE topics (id INTEGER, name TEXT, type TEXT)')
    rows = [(number, f'/{number}', 'sensor_msgs/msg/Image') for number in range(topics)]
    connection.executemany('INSERT INTO topics VALUES (?, ?, ?)', rows)
    connection.execute(
        'CREATE TABLE messages (id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER, '
        'data BLOB)'
    )
    rows = [(1, bytes(10)), *([(2, bytes(size))] if size else [])]
    connection.executemany('INSERT INTO messages VALUES (?1, 0, ?1, ?2)', rows)
    connection.commit()
    connection.close()
    return path


def test_a_row_of_a_database(tmp_path, monkeypatch):
    monkeypatch.setattr(salvage, 'MAX_MESSAGE_BYTES', 16 * MIB)
    path = database(tmp_path / 'bag.db3', size=salvage.MAX_MESSAGE_BYTES + 1)
    with little_memory():
        records, damages = salvaged(path)
    assert [len(record.data) for record in records] == [10]
    assert f'more than {salvage.MAX_MESSAGE_BYTES} bytes' in damages[0]


@pytest.mark.parametrize('further', [0, 1])
def test_rows_that_are_looked_for_behind_a_damage(tmp_path, further):
    size = salvage.LOOK_AHEAD_ROWS * salvage.MIN_ROW_BYTES
    path = database(tmp_path / 'bag.db3', size=size)
    connection = sqlite3.connect(path)
    connection.execute('UPDATE messages SET data = NULL WHERE id = 1')
    connection.execute(
        'UPDATE messages SET id = ? WHERE id = 2', [salvage.LOOK_AHEAD_ROWS + further]
    )
    connection.commit()
    connection.close()
    records, damages = salvaged(path)
    assert len(records) == 1 - further
    assert len(damages) == 1


def test_topics_of_a_database(tmp_path):
    path = database(tmp_path / 'bag.db3', topics=salvage.MAX_TOPICS + 1)
    records, damages = salvaged(path)
    assert records == []
    assert f'more than {salvage.MAX_TOPICS} topics' in damages[0]


def test_steps_of_a_database(tmp_path):
    connection = salvage.open_sqlite(database(tmp_path / 'bag.db3'))
    start = time.monotonic()
    with pytest.raises(sqlite3.OperationalError, match='interrupted'):
        connection.execute(
            'WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT sum(x) FROM n'
        ).fetchone()
    assert time.monotonic() - start < 60.0
    connection.close()


def test_the_summary_of_a_bag(tmp_path):
    from seg_uncertainty_ros.recordings import index

    tail = struct.pack('<BQQQI', 0x02, 20, 8, 0, 0) + salvage.MAGIC
    path = sparse(tmp_path / 'bag.mcap', MAX_SUMMARY_BYTES + 100, head=salvage.MAGIC, tail=tail)
    with little_memory(), pytest.raises(NoIndexError, match='a summary from byte 8'):
        index._mcap_topics(path)


def test_procedural_drives():
    with pytest.raises(drive.DriveError, match=f'{spec.MAX_CHARACTERS} characters'):
        open_source('procedural:seed=1,' + ',' * spec.MAX_CHARACTERS)
    with pytest.raises(drive.DriveError, match=f'more than the {drive.MAX_PIXELS} accepted'):
        open_source('procedural:seed=1,width=4096,height=2176')
    with pytest.raises(drive.DriveError, match=f'within {drive.MAX_EVENT_S:g} s'):
        open_source('procedural:seed=1,unknown=cargo_box:1-7201')


def test_classes_of_an_imported_network(tmp_path):
    path = tmp_path / 'classes.txt'
    lines = [f'c{number}' for number in range(import_onnx.MOST_CLASSES + 1)]
    path.write_text('\n'.join(lines))
    with pytest.raises(CommandError, match=f'expected 2 to {import_onnx.MOST_CLASSES}'):
        import_onnx.read_classes(path)
    sparse(path, 4 * 2**30, head=b'road\ncar\n')
    limit = import_onnx.MAX_CLASS_BYTES
    with little_memory(), pytest.raises(CommandError, match=f'more than the {limit} bytes'):
        import_onnx.read_classes(path)


# Little that stands for much, within what each limit leaves


def png_of_texts():
    """Return a PNG file of 48 pixels and 40 texts of 8 MB, 0.3 MB in all."""
    body = b'a\0\0' + zlib.compress(bytes(7_900_000), 9)
    text = struct.pack('>I', len(body)) + b'zTXt' + body
    text += struct.pack('>I', zlib.crc32(text[4:]))
    plain = encoded('.png', picture())
    return bytes([REPAIR]) + plain[:33] + 40 * text + plain[33:]


def manifest(**changed):
    """Return one that is changed so."""
    return json.dumps({**json.loads(TARGETS['manifest'].seeds[0]), **changed}).encode()


@pytest.mark.parametrize(
    ('name', 'make', 'refusal'),
    [
        ('compressed', png_of_texts, ''),
        ('mcap', lambda: chunk_of_zeros(2**28, 2**28), 'no image topic'),
        # Numbers, texts and lists have no order.
        (
            'manifest',
            lambda: manifest(segments={'features': [1, 'a', []] * 15_000}),
            'bundle.json',
        ),
        ('manifest', lambda: manifest(classes=[{'name': 0, 'colour': 'x'}] * 10_000), 'classes'),
        ('recipe', lambda: b'name: ' + b'[a, ' * 30 + b'a,' * 400_000, 'recipe'),
        ('classes', lambda: '\n'.join(map(str, range(12_000))).encode(), '256 classes'),
        ('novelty', lambda: b'[' + b'0,' * 400_000 + b'0]', 'more than 50000 values'),
    ],
)
def test_little_that_stands_for_much_is_refused_in_time(name, make, refusal):
    prepare(name)
    refused = check(name, make())
    assert refusal in refused
    assert bool(refusal) == bool(refused)
