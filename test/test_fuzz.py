# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Whatever the outside sends, a parser returns or says in one line why not.

The same inputs at each run; SEG_UNCERTAINTY_FUZZ=100 draws a hundred times as many, others each
time. benchmarks/fuzz.py goes on from there, see docs/fuzzing.md.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import sys
import time
import zlib
from pathlib import Path

import cv2
import fuzz_targets
import pytest
from fuzz_strategies import inputs
from fuzz_targets import REPAIR
from fuzz_targets import TARGETS
from fuzz_targets import FindingError
from fuzz_targets import Target
from fuzz_targets import check
from fuzz_targets import encoded
from fuzz_targets import picture
from fuzz_targets import prepare
from hypothesis import HealthCheck
from hypothesis import Phase
from hypothesis import given
from hypothesis import settings

from seg_uncertainty_ros.errors import SegUncertaintyError
from seg_uncertainty_ros.recordings import SourceError
from seg_uncertainty_ros.recordings import open_source
from seg_uncertainty_ros.recordings import salvage
from seg_uncertainty_ros.recordings.salvage import CHUNK
from seg_uncertainty_ros.recordings.salvage import MAGIC

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

FACTOR = float(os.environ.get('SEG_UNCERTAINTY_FUZZ', '0'))
CORPUS = Path(__file__).parent / 'corpus'


def ready(name):
    try:
        prepare(name)
    except ModuleNotFoundError as error:
        if error.name.startswith('seg_uncertainty_ros'):
            raise
        pytest.skip(f'{error.name} is not installed')


@pytest.mark.parametrize('name', TARGETS)
def test_parser_returns_or_says_why_not(name):
    target = TARGETS[name]
    ready(name)

    @settings(
        max_examples=max(1, round(target.examples * (FACTOR or 1))),
        derandomize=not FACTOR,
        phases=[Phase.generate],  # a slow input takes for ever to shrink
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs(target))
    def feed(data):
        check(name, data)

    feed()


CASES = [(file.parent.name, file.name) for file in sorted(CORPUS.glob('*/*'))]


@pytest.mark.parametrize(('name', 'case'), CASES)
def test_what_was_found_once_stays_fixed(name, case):
    ready(name)
    check(name, (CORPUS / name / case).read_bytes())


def png_of_texts():
    """Return a PNG file of 16 pixels and 40 texts of 8 MB, 0.3 MB in all."""
    body = b'a\0\0' + zlib.compress(bytes(7_900_000), 9)
    text = struct.pack('>I', len(body)) + b'zTXt' + body
    text += struct.pack('>I', zlib.crc32(text[4:]))
    plain = encoded('.png', picture())
    return bytes([REPAIR]) + plain[:33] + 40 * text + plain[33:]


def jpeg_of_scans():
    """Return a JPEG file that states 8K and has thousands of scans of nothing."""
    small = encoded('.jpg', picture(), cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    size = small.index(b'\xff\xc2') + 5
    small = small[:size] + struct.pack('>HH', 4320, 7680) + small[size + 4 :]
    scans = small[small.index(b'\xff\xda') : -2]
    return b'\0' + small[:-2] + 400 * scans + b'\xff\xd9'


def zeros(compressor, size):
    """Return so many zeros compressed, without as much memory."""
    block = bytes(2**20)
    parts = [compressor.compress(block) for _ in range(size >> 20)]
    return b''.join(parts) + compressor.flush()


def mcap_of_zeros():
    """Return an MCAP file with a chunk of 256 MiB in 8 KiB."""
    packed = zeros(zstd.ZstdCompressor(), 2**28)
    body = struct.pack('<QQQII', 0, 0, 2**28, 0, 4) + b'zstd' + struct.pack('<Q', len(packed))
    return MAGIC + struct.pack('<BQ', CHUNK, len(body) + len(packed)) + body + packed


def message_of_zeros():
    return b'\0' + zeros(zstd.ZstdCompressor(), 2**28)


def reference_of_zeros():
    """Return an archive that states 512 MiB."""
    packed = zeros(zlib.compressobj(1, zlib.DEFLATED, -15), 2**20)
    head = struct.pack('<HHHHHII', 20, 0, 8, 0, 0, 0, len(packed)) + struct.pack('<I', 2**29)
    name = b'weight.npy'
    tail = struct.pack('<HHHHHII', len(name), 0, 0, 0, 0, 0, 0)
    entry = b'PK\x01\x02\x14\0' + head + tail + name
    start = b'PK\x03\x04' + head + struct.pack('<HH', len(name), 0) + name + packed
    end = b'PK\x05\x06' + struct.pack('<HHHHIIH', 0, 0, 1, 1, len(entry), len(start), 0)
    return start + entry + end


def manifest_of_features():
    """Return a manifest with a list of numbers, texts and lists that no order is known of."""
    manifest = json.loads(TARGETS['manifest'].seeds()[0])
    manifest['segments'] = {'features': [1, 'a', []] * 15_000}
    return json.dumps(manifest).encode()


def manifest_of_names():
    manifest = json.loads(TARGETS['manifest'].seeds()[0])
    manifest['classes'] = [{'name': 0, 'colour': 'x'}] * 10_000
    return json.dumps(manifest).encode()


@pytest.mark.parametrize(
    ('name', 'make', 'refusal'),
    [
        ('compressed', png_of_texts, ''),
        ('compressed', jpeg_of_scans, 'scans, more than the'),
        ('mcap', mcap_of_zeros, 'no image topic'),
        ('cdr', message_of_zeros, 'unpacks to more than'),
        ('reference', reference_of_zeros, 'arrays of 536870912 bytes'),
        ('manifest', manifest_of_features, 'bundle.json'),
        ('manifest', manifest_of_names, 'classes'),
        ('recipe', lambda: b'name: ' + b'[a, ' * 30 + b'a,' * 400_000, 'recipe'),
        ('classes', lambda: '\n'.join(map(str, range(12_000))).encode(), '256 classes'),
        ('state', lambda: b'[' + b'0,' * 400_000 + b'0]', 'more than 50000 values'),
    ],
)
def test_little_that_stands_for_much_is_refused_in_time(name, make, refusal):
    ready(name)
    assert refusal in check(name, make())


def test_unpacking_leaves_room_on_the_disk(tmp_path, monkeypatch):
    (tmp_path / 'x.mcap.zstd').write_bytes(TARGETS['zstd_bag'].seeds()[0])
    monkeypatch.setattr(salvage, 'MIN_FREE_BYTES', 2**60)
    with pytest.raises(SourceError, match='no image topic'):
        open_source(tmp_path)
    damages = []
    assert list(salvage.salvage([tmp_path / 'x.mcap.zstd'], damages)) == []
    assert 'GiB left' in damages[0]


def test_a_pipe_among_images_is_none(tmp_path):
    os.mkfifo(tmp_path / 'a.png')
    with pytest.raises(SourceError, match='nor images'):
        open_source(tmp_path)


def test_a_list_of_videos_opens_no_other_file(tmp_path):
    (tmp_path / 'good.avi').write_bytes(TARGETS['video'].seeds()[0][1:])
    assert len(list(open_source(tmp_path / 'good.avi'))) == 3
    (tmp_path / 'list.avi').write_text('ffconcat version 1.0\nfile good.avi\n')
    with pytest.raises(SourceError, match='do not open as a video'):
        open_source(tmp_path / 'list.avi')


def compute(_data):
    end = time.process_time() + 0.6
    while time.process_time() < end:
        pass


def say(message):
    def run(_data):
        raise SegUncertaintyError(message)

    return run


@pytest.mark.parametrize(
    ('run', 'found'),
    [
        (lambda data: {}[data], 'KeyError'),
        (lambda data: data.decode(), 'UnicodeDecodeError'),
        # Pages of its own: a heap that keeps what was freed would give some back.
        (lambda _: mmap.mmap(-1, 2**27).write(bytes(2**27)), 'MiB of memory'),
        (compute, 's of processor time'),
        (say('two\nlines'), 'several lines'),
        (say('x' * 10_000), '10000 characters'),
        (say('\ud800'), 'cannot be printed'),
    ],
)
def test_check_finds_what_no_parser_may_do(monkeypatch, run, found):
    monkeypatch.setitem(TARGETS, 'bad', Target('bad', run, list))
    monkeypatch.setattr(fuzz_targets, 'TIME_LIMIT_S', 0.5)
    monkeypatch.setattr(fuzz_targets, 'MEMORY_LIMIT_BYTES', 2**25)
    with pytest.raises(FindingError, match=found):
        check('bad', b'\xff')


def test_check_tells_refusals_from_findings(monkeypatch):
    monkeypatch.setitem(TARGETS, 'good', Target('good', say('no image'), list))
    assert check('good', b'') == 'no image'
