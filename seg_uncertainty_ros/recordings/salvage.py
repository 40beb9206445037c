# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Messages out of damaged rosbag2 files, which readers that need an index refuse.

A recording that was killed has neither index nor footer, a full disk cuts a file anywhere, a bad
sector damages one chunk or page. What stands before, between and behind is still there. MCAP
records: https://mcap.dev/spec.
"""

from __future__ import annotations

import sqlite3
import sys
from binascii import crc32
from contextlib import closing
from os import fstat
from pathlib import Path
from struct import error as struct_error
from struct import unpack_from
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from typing import NamedTuple

from lz4.frame import LZ4FrameDecompressor

from seg_uncertainty_ros.recordings.errors import one_line

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Iterator
    from typing import BinaryIO

MAGIC = b'\x89MCAP0\r\n'
SCHEMA, CHANNEL, MESSAGE, CHUNK, DATA_END = 0x03, 0x04, 0x05, 0x06, 0x0F
ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'
BLOCK_BYTES = 2**16
LOOK_AHEAD_ROWS = 10_000


class Record(NamedTuple):
    """One serialized message; ``time_ns`` is when it was received."""

    topic: str
    msgtype: str
    time_ns: int
    data: bytes


def salvage(files: Iterable[Path], damages: list[str]) -> Iterator[Record]:
    """Yield the readable messages of rosbag2 files (.mcap, .db3, .zstd of both) in file order.

    Nothing raised by a damaged file comes out: each damage is a line in ``damages``.
    """
    for file in files:
        if file.suffix != '.zstd':
            yield from _salvage_file(file, damages)
            continue
        with TemporaryDirectory() as directory:
            plain = Path(directory, file.stem)
            _decompress_file(file, plain, damages)
            yield from _salvage_file(plain, damages)


def uncompressed(data: bytes) -> bytes:
    """Return a message without rosbag2's per-message compression, if it has one.

    A serialized message starts with 0x00 (its encapsulation), never with zstd's magic.
    """
    return zstd.decompress(data) if data.startswith(ZSTD_MAGIC) else data


def _salvage_file(file: Path, damages: list[str]) -> Iterator[Record]:
    try:
        if file.suffix == '.db3':
            yield from _salvage_sqlite(file, damages)
        else:
            with file.open('rb') as stream:
                yield from _McapScan(stream, file.name, damages).records()
    except OSError as error:
        damages.append(f'{file.name}: {one_line(error)}')


def _inflate(blocks: Iterable[bytes], compression: str) -> Iterator[bytes]:
    """Yield what decompresses; raises at the first damaged block or at an unexpected end."""
    decompressor = zstd.ZstdDecompressor() if compression == 'zstd' else LZ4FrameDecompressor()
    for block in blocks:
        if decompressor.eof:
            return
        yield decompressor.decompress(block)
    if not decompressor.eof:
        msg = f'{compression} data end early'
        raise EOFError(msg)


_INFLATE_ERRORS = (zstd.ZstdError, EOFError, RuntimeError, OSError)


def _decompress_file(file: Path, plain: Path, damages: list[str]) -> None:
    with file.open('rb') as stream, plain.open('wb') as out:
        try:
            for block in _inflate(iter(lambda: stream.read(BLOCK_BYTES), b''), 'zstd'):
                out.write(block)
        except _INFLATE_ERRORS as error:
            damages.append(f'{file.name}: {one_line(error)}')


class _McapScan:
    """Reads an MCAP file from its start, record by record, without its index."""

    def __init__(self, stream: BinaryIO, name: str, damages: list[str]) -> None:
        self._stream = stream
        self._size = fstat(stream.fileno()).st_size
        self._name = name
        self._damages = damages
        self._schemas: dict[int, str] = {}
        self._channels: dict[int, tuple[str, str]] = {}

    def records(self) -> Iterator[Record]:
        """Yield the messages up to the end of the data section or of the file."""
        if (magic := self._stream.read(len(MAGIC))) != MAGIC:
            self._damage(0, f'starts with {magic.hex(" ")!r}, which is not MCAP')
            return
        while True:
            start = self._stream.tell()
            head = self._stream.read(9)
            if len(head) < 9:
                self._damage(start, 'the file ends without its index and footer')
                return
            opcode, size = unpack_from('<BQ', head)
            if opcode == DATA_END:
                return
            # A damaged length may be anything: never ask for more than there is.
            body = self._stream.read(min(size, self._size - self._stream.tell()))
            cut = len(body) < size
            if opcode == CHUNK:
                yield from self._chunk(body, start, cut=cut)
            elif not cut:
                yield from self._record(opcode, body, start)
            if cut:
                self._damage(start, f'a record has {len(body)} of its {size} bytes')
                return

    def _chunk(self, body: bytes, start: int, *, cut: bool) -> Iterator[Record]:
        try:
            _, _, plain_size, crc, length = unpack_from('<QQQII', body)
            compression = body[32 : 32 + length].decode()
            (packed_size,) = unpack_from('<Q', body, 32 + length)
        except (struct_error, UnicodeDecodeError) as error:
            if not cut:
                self._damage(start, f'chunk header: {one_line(error)}')
            return
        packed = body[40 + length : 40 + length + packed_size]
        whole = not cut
        if compression in {'zstd', 'lz4'}:
            blocks = (packed[x : x + BLOCK_BYTES] for x in range(0, len(packed), BLOCK_BYTES))
            plain = bytearray()
            try:
                for block in _inflate(blocks, compression):
                    plain += block
            except _INFLATE_ERRORS as error:
                whole = False
                if not cut:
                    self._damage(start, f'chunk: {one_line(error)}')
            packed = bytes(plain)
        elif compression:
            self._damage(start, f'chunk: compression {compression[:20]!r} is unknown')
            return
        if whole and (len(packed) != plain_size or (crc and crc32(packed) != crc)):
            self._damage(start, 'chunk: size or checksum mismatch')
            return
        yield from self._chunk_records(packed, start, whole=whole)

    def _chunk_records(self, plain: bytes, start: int, *, whole: bool) -> Iterator[Record]:
        position = 0
        while position + 9 <= len(plain):
            opcode, size = unpack_from('<BQ', plain, position)
            end = position + 9 + size
            if end > len(plain):
                break
            yield from self._record(opcode, plain[position + 9 : end], start)
            position = end
        if whole and position != len(plain):
            self._damage(start, f'chunk: no record fits at its byte {position}')

    def _record(self, opcode: int, body: bytes, start: int) -> Iterator[Record]:
        try:
            if opcode == SCHEMA:
                (number,) = unpack_from('<H', body)
                self._schemas[number], _ = _string(body, 2)
            elif opcode == CHANNEL:
                number, schema = unpack_from('<HH', body)
                topic, _ = _string(body, 4)
                self._channels[number] = topic, self._schemas.get(schema, '')
            elif opcode == MESSAGE:
                number, _, time_ns, _ = unpack_from('<HIQQ', body)
                topic, msgtype = self._channels[number]
                yield Record(topic, msgtype, time_ns, body[22:])
        except (struct_error, UnicodeDecodeError, KeyError) as error:
            self._damage(start, f'record {opcode:#04x}: {type(error).__name__} {one_line(error)}')

    def _damage(self, position: int, reason: str) -> None:
        self._damages.append(f'{self._name} at byte {position}: {reason}')


def _string(body: bytes, position: int) -> tuple[str, int]:
    (length,) = unpack_from('<I', body, position)
    end = position + 4 + length
    return body[position + 4 : end].decode(), end


def _salvage_sqlite(file: Path, damages: list[str]) -> Iterator[Record]:
    """Read rows by their id: the index over time may point into what is damaged."""
    uri = f'{file.resolve().as_uri()}?mode=ro&immutable=1'
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        try:
            # Lets SQLite open a file that is shorter than its header says; nothing is written.
            connection.execute('PRAGMA writable_schema=ON')
            (page_bytes,) = connection.execute('PRAGMA page_size').fetchone()
            rows = connection.execute('SELECT id, name, type FROM topics')
            topics = {number: (name, msgtype) for number, name, msgtype in rows}
        except sqlite3.DatabaseError as error:
            damages.append(f'{file.name}: {one_line(error)}')
            return
        records = _salvage_rows(connection, topics, file.name, damages)
        # SQLite fills a page that is cut with zeros: they end up in the last row.
        yield from _without_last(records) if file.stat().st_size % page_bytes else records


def _without_last(records: Iterator[Record]) -> Iterator[Record]:
    previous = next(records, None)
    for record in records:
        yield previous
        previous = record


def _salvage_rows(
    connection: sqlite3.Connection,
    topics: dict[int, tuple[str, str]],
    name: str,
    damages: list[str],
) -> Iterator[Record]:
    last = 0
    rows = _rows(connection, 'id > ? ORDER BY id', last)
    while True:
        try:
            row = next(rows, None)
            if row is None:
                return
            _check_row(row, last)
        except (sqlite3.DatabaseError, ValueError) as error:
            damages.append(f'{name} behind row {last}: {one_line(error)}')
            row = _next_row(connection, last)
            if row is None:
                return
            rows = _rows(connection, 'id > ? ORDER BY id', row[0])
        last, topic, time_ns, data = row
        if topic in topics:
            yield Record(*topics[topic], time_ns, data)


def _check_row(row: tuple[object, ...], last: int) -> None:
    number, _, time_ns, data = row
    if not (number > last and isinstance(time_ns, int) and isinstance(data, bytes)):
        msg = 'a row without number, time or data'
        raise ValueError(msg)


def _rows(
    connection: sqlite3.Connection,
    condition: str,
    value: int,
) -> Iterator[tuple[int, int, int, bytes]]:
    yield from connection.execute(
        f'SELECT id, topic_id, timestamp, data FROM messages WHERE {condition}',
        (value,),
    )


def _next_row(
    connection: sqlite3.Connection,
    last: int,
) -> tuple[int, int, int, bytes] | None:
    """Return the first readable row behind ``last``: one that a whole page holds."""
    for number in range(last + 1, last + LOOK_AHEAD_ROWS):
        try:
            for row in _rows(connection, 'id = ?', number):
                _check_row(row, last)
                return row
        except (sqlite3.DatabaseError, ValueError):
            continue
    return None
