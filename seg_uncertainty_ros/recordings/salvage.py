# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Messages out of rosbag2 files, whole or damaged, without their index.

A recording that was killed has neither index nor footer, a full disk cuts a file anywhere, a bad
sector damages one chunk or page. What stands before, between and behind is still there. MCAP
records: https://mcap.dev/spec. No number in a file decides how much memory is taken: the bounds
below do.
"""

from __future__ import annotations

import sqlite3
import sys
from binascii import crc32
from contextlib import closing
from itertools import count
from itertools import islice
from os import fstat
from pathlib import Path
from shutil import disk_usage
from struct import error as struct_error
from struct import unpack_from
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from typing import NamedTuple

from lz4.frame import LZ4FrameDecompressor

from seg_uncertainty_ros.encodings import MAX_PIXELS
from seg_uncertainty_ros.recordings.errors import SourceError
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
READ = frozenset((SCHEMA, CHANNEL, MESSAGE, CHUNK))
"""Every other record is passed over, however long: attachments, indices, metadata."""
ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'
BLOCK_BYTES = 2**16
MAX_MESSAGE_BYTES = 4 * MAX_PIXELS + 2**16
"""The largest image that is accepted, of four bytes a pixel, and its header."""
MAX_CHUNK_BYTES = MAX_MESSAGE_BYTES + 2**24
"""A chunk is closed at some MiB (rosbag2: 0.75, rosbags: 1), behind a message of any size."""
MIN_FREE_BYTES = 2**30
"""What unpacking a file leaves free of the disk: others write there too."""
MAX_DAMAGES = 1000
"""Behind so many the rest of a file is given up: each costs a search for what is whole."""
LOOK_AHEAD_ROWS = 10_000
"""Behind a damage, and ten times as many in a file: each costs some 20 us. No more than fit."""
MIN_ROW_BYTES = 16
"""Of number, topic, time and the four bytes that any message has."""
MAX_TOPICS = 10_000
"""Fewer than the variables of a statement in SQLite, 32,766."""
MAX_STEPS = 20_000_000
"""Of SQLite's machine from one row to the next, about a second."""
STEPS_A_BYTE = 2
"""And as many more: to count messages it takes some twenty a row, of MIN_ROW_BYTES at least."""
STEPS = 1000


class Record(NamedTuple):
    """One serialized message; ``time_ns`` is when it was received."""

    topic: str
    msgtype: str
    time_ns: int
    data: bytes


def salvage(
    files: Iterable[Path], damages: list[str], topic: str | None = None
) -> Iterator[Record]:
    """Yield the readable messages of rosbag2 files (.mcap, .db3, .zstd of both) in file order.

    Inside a chunk they come in the order of their times; ``topic`` None means every one. Nothing
    raised by a damaged file comes out: each damage is a line in ``damages``.
    """
    for file in files:
        if file.suffix != '.zstd':
            yield from _salvage_file(file, damages, topic)
            continue
        with TemporaryDirectory() as directory:
            plain = Path(directory, file.stem)
            _decompress_file(file, plain, damages)
            yield from _salvage_file(plain, damages, topic)


def uncompressed(data: bytes) -> bytes:
    """Return a message without rosbag2's per-message compression, if it has one.

    A serialized message starts with 0x00 (its encapsulation), never with zstd's magic. Raises
    SourceError.
    """
    if not data.startswith(ZSTD_MAGIC):
        return data
    try:
        return _inflated(data, 'zstd', MAX_MESSAGE_BYTES)
    except _INFLATE_ERRORS as error:
        msg = f'{len(data)} bytes of zstd: {one_line(error)}'
        raise SourceError(msg) from None


def _salvage_file(file: Path, damages: list[str], topic: str | None) -> Iterator[Record]:
    found: list[str] = []
    try:
        if file.suffix == '.db3':
            records = _salvage_sqlite(file, found, topic)
            yield from _until_hopeless(records, found, file.name)
        else:
            with file.open('rb') as stream:
                records = _McapScan(stream, file.name, found, topic).records()
                yield from _until_hopeless(records, found, file.name)
    except OSError as error:
        found.append(f'{file.name}: {one_line(error)}')
    finally:
        damages += found


def _until_hopeless(records: Iterator[Record], damages: list[str], name: str) -> Iterator[Record]:
    for record in records:
        yield record
        if len(damages) > MAX_DAMAGES:
            damages.append(f'{name}: given up behind {MAX_DAMAGES} damages')
            return


def _inflate(blocks: Iterable[bytes], compression: str) -> Iterator[bytes]:
    """Yield what decompresses, BLOCK_BYTES at most at a time.

    Raises at the first damaged block or at an unexpected end.
    """
    decompressor = zstd.ZstdDecompressor() if compression == 'zstd' else LZ4FrameDecompressor()
    for block in blocks:
        if decompressor.eof:
            return
        plain = decompressor.decompress(block, BLOCK_BYTES)
        yield plain
        while not decompressor.needs_input and not decompressor.eof:
            yield decompressor.decompress(b'', BLOCK_BYTES)
    if not decompressor.eof:
        msg = f'{compression} data end early'
        raise EOFError(msg)


_INFLATE_ERRORS = (zstd.ZstdError, EOFError, RuntimeError, OSError)


def _inflated(packed: bytes, compression: str, limit: int) -> bytes:
    plain = bytearray()
    for block in _inflate(_blocks(packed), compression):
        plain += block
        if len(plain) > limit:
            msg = f'unpacks to more than the {limit} bytes accepted'
            raise OSError(msg)
    return bytes(plain)


def _blocks(data: bytes) -> Iterator[bytes]:
    return (data[x : x + BLOCK_BYTES] for x in range(0, len(data), BLOCK_BYTES))


def _decompress_file(file: Path, plain: Path, damages: list[str]) -> None:
    """Unpack a file into a temporary one, as far as the disk has room."""
    with file.open('rb') as stream, plain.open('wb') as out:
        try:
            for number, block in enumerate(
                _inflate(iter(lambda: stream.read(BLOCK_BYTES), b''), 'zstd')
            ):
                if not number % 256 and disk_usage(plain.parent).free < MIN_FREE_BYTES:
                    msg = f'{plain.parent} has less than {MIN_FREE_BYTES / 2**30:g} GiB left'
                    raise OSError(msg)
                out.write(block)
        except _INFLATE_ERRORS as error:
            damages.append(f'{file.name}: {one_line(error)}')


class McapTypes:
    """The channels that an MCAP file has named so far: number to topic and type of message."""

    def __init__(self) -> None:
        self.channels: dict[int, tuple[str, str]] = {}
        self._schemas: dict[int, str] = {}

    def read(self, opcode: int, body: bytes) -> None:
        """Take a record SCHEMA or CHANNEL; raises struct.error or UnicodeDecodeError."""
        if opcode == SCHEMA:
            (number,) = unpack_from('<H', body)
            self._schemas[number], _ = mcap_string(body, 2)
        elif opcode == CHANNEL:
            number, schema = unpack_from('<HH', body)
            topic, _ = mcap_string(body, 4)
            self.channels[number] = topic, self._schemas.get(schema, '')


class _McapScan:
    """Reads an MCAP file from its start, record by record, without its index."""

    def __init__(self, stream: BinaryIO, name: str, damages: list[str], topic: str | None) -> None:
        self._stream = stream
        self._size = fstat(stream.fileno()).st_size
        self._name = name
        self._damages = damages
        self._topic = topic
        self._types = McapTypes()

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
            present = min(size, self._size - self._stream.tell())
            cut = present < size
            if opcode in READ:
                yield from self._read(opcode, present, start, cut=cut)
            if cut:
                self._damage(start, f'a record has {present} of its {size} bytes')
                return
            self._stream.seek(start + 9 + size)

    def _read(self, opcode: int, size: int, start: int, *, cut: bool) -> Iterator[Record]:
        if size > MAX_CHUNK_BYTES:
            self._damage(start, f'a record of {size} bytes, {MAX_CHUNK_BYTES} are accepted')
            return
        body = self._stream.read(size)
        if opcode == CHUNK:
            yield from self._chunk(body, start, cut=cut)
        elif not cut:
            yield from self._record(opcode, body, start)

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
            plain = bytearray()
            try:
                for block in _inflate(_blocks(packed), compression):
                    plain += block
                    # What follows is not the chunk that its header tells of.
                    if len(plain) > min(plain_size, MAX_CHUNK_BYTES):
                        break
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
        records = self._chunk_records(packed, start, whole=whole)
        yield from sorted(records, key=lambda record: record.time_ns)

    def _chunk_records(self, plain: bytes, start: int, *, whole: bool) -> Iterator[Record]:
        position = 0
        while position + 9 <= len(plain):
            opcode, size = unpack_from('<BQ', plain, position)
            end = position + 9 + size
            if end > len(plain):
                break
            if opcode in READ:
                yield from self._record(opcode, plain[position + 9 : end], start)
            position = end
        if whole and position != len(plain):
            self._damage(start, f'chunk: no record fits at its byte {position}')

    def _record(self, opcode: int, body: bytes, start: int) -> Iterator[Record]:
        try:
            if opcode == MESSAGE:
                number, _, time_ns, _ = unpack_from('<HIQQ', body)
                topic, msgtype = self._types.channels[number]
                if self._topic in (None, topic):
                    yield Record(topic, msgtype, time_ns, body[22:])
            else:
                self._types.read(opcode, body)
        except (struct_error, UnicodeDecodeError, KeyError) as error:
            self._damage(start, f'record {opcode:#04x}: {type(error).__name__} {one_line(error)}')

    def _damage(self, position: int, reason: str) -> None:
        self._damages.append(f'{self._name} at byte {position}: {reason}')


def mcap_string(body: bytes, position: int) -> tuple[str, int]:
    """Return a text of a record and where it ends."""
    (length,) = unpack_from('<I', body, position)
    end = position + 4 + length
    return body[position + 4 : end].decode(), end


def open_sqlite(file: Path) -> sqlite3.Connection:
    """Open a .db3 file whose tables may be anything: no row takes longer than MAX_STEPS.

    Raises:
        sqlite3.DatabaseError: it cannot be opened, or messages and topics are no tables.

    """
    uri = f'{file.resolve().as_uri()}?mode=ro&immutable=1'
    connection = sqlite3.connect(uri, uri=True)
    try:
        _allow_steps(connection, file.stat().st_size)
        # Lets SQLite open a file that is shorter than its header says; nothing is written.
        connection.execute('PRAGMA writable_schema=ON')
        connection.execute('PRAGMA trusted_schema=OFF')
        tables = connection.execute(
            "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE '%VIRTUAL%'"
            " AND sql NOT LIKE '%GENERATED%' AND name IN ('messages', 'topics')"
        ).fetchone()
        if tables != (2,):
            msg = 'not the two tables messages and topics of a bag'
            raise sqlite3.DatabaseError(msg)
        # Other columns are no damage that ends behind some rows.
        connection.execute('SELECT id, topic_id, timestamp, data FROM messages LIMIT 0')
    except MemoryError:  # so SQLite calls some damages of a schema; no memory was asked for
        connection.close()
        msg = 'a damaged schema'
        raise sqlite3.DatabaseError(msg) from None
    except BaseException:
        connection.close()
        raise
    return connection


def _allow_steps(connection: sqlite3.Connection, size: int) -> None:
    """Let SQLite's machine take so many steps from here on, then interrupt whatever it does."""
    rounds, most = count(1), (MAX_STEPS + STEPS_A_BYTE * size) // STEPS
    connection.set_progress_handler(lambda: next(rounds) > most, STEPS)


def _salvage_sqlite(file: Path, damages: list[str], topic: str | None) -> Iterator[Record]:
    """Read rows by their id: the index over time may point into what is damaged."""
    try:
        with closing(open_sqlite(file)) as connection:
            (page_bytes,) = connection.execute('PRAGMA page_size').fetchone()
            topics = {
                number: (name, msgtype)
                for number, name, msgtype in sqlite_topics(connection)
                if topic in (None, name)
            }
            size = file.stat().st_size
            records = _salvage_rows(connection, topics, file.name, size, damages)
            # SQLite fills a page that is cut with zeros: they end up in the last row.
            yield from _without_last(records) if size % page_bytes else records
    except sqlite3.Error as error:
        damages.append(f'{file.name}: {one_line(error)}')


def sqlite_topics(connection: sqlite3.Connection) -> list[tuple[int, str, str]]:
    """Return number, name and type of message of each topic; raises sqlite3.Error."""
    rows = connection.execute('SELECT id, name, type FROM topics').fetchmany(MAX_TOPICS + 1)
    if len(rows) > MAX_TOPICS:
        msg = f'more than {MAX_TOPICS} topics'
        raise sqlite3.DatabaseError(msg)
    return [row for row in rows if tuple(map(type, row)) == (int, str, str)]


def _without_last(records: Iterator[Record]) -> Iterator[Record]:
    previous = next(records, None)
    for record in records:
        yield previous
        previous = record


def _salvage_rows(
    connection: sqlite3.Connection,
    topics: dict[int, tuple[str, str]],
    name: str,
    size: int,
    damages: list[str],
) -> Iterator[Record]:
    last = 0
    rows = _rows(connection, topics, 'id > ?', last)
    look_ahead = min(LOOK_AHEAD_ROWS, size // MIN_ROW_BYTES)
    looked = islice(count(), 10 * look_ahead)
    while len(damages) < MAX_DAMAGES:
        try:
            row = next(rows, None)
            if row is None:
                return
            _check_row(row, last)
        except (sqlite3.Error, ValueError) as error:
            damages.append(f'{name} behind row {last}: {one_line(error)}')
            row = _next_row(connection, topics, last, islice(looked, look_ahead))
            if row is None:
                return
            rows = _rows(connection, topics, 'id > ?', row[0])
        last, topic, time_ns, data = row
        _allow_steps(connection, size)
        yield Record(*topics[topic], time_ns, data)


def _check_row(row: tuple[object, ...], last: int) -> None:
    number, _, time_ns, _ = row
    whole = [type(value) for value in row] == [int, int, int, bytes]
    if not whole or number <= last or time_ns < 0:
        msg = f'a row without number, time or data, or of more than {MAX_MESSAGE_BYTES} bytes'
        raise ValueError(msg)


def _rows(
    connection: sqlite3.Connection,
    topics: Iterable[int],
    condition: str,
    value: int,
) -> Iterator[tuple[int, int, int, bytes]]:
    numbers = [*topics]
    yield from connection.execute(
        'SELECT id, topic_id, timestamp, CASE WHEN length(data) <= ? THEN data END FROM messages '
        f'WHERE {condition} AND topic_id IN ({",".join("?" * len(numbers))}) ORDER BY id',
        (MAX_MESSAGE_BYTES, value, *numbers),
    )


def _next_row(
    connection: sqlite3.Connection,
    topics: Iterable[int],
    last: int,
    looked: Iterable[int],
) -> tuple[int, int, int, bytes] | None:
    """Return the first readable row behind ``last``: one that a whole page holds."""
    for number, _ in zip(range(last + 1, 2**63), looked, strict=False):
        try:
            for row in _rows(connection, topics, 'id = ?', number):
                _check_row(row, last)
                return row
        except (sqlite3.Error, ValueError):
            continue
    return None
