# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What a bag says about itself: topics, counts, files, without reading its messages."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import PurePath
from struct import error as struct_error
from struct import iter_unpack
from struct import unpack_from
from typing import TYPE_CHECKING
from typing import Any

from seg_uncertainty_ros.errors import SegUncertaintyError
from seg_uncertainty_ros.recordings.errors import one_line
from seg_uncertainty_ros.recordings.folders import natural_order
from seg_uncertainty_ros.recordings.salvage import MAGIC
from seg_uncertainty_ros.recordings.salvage import McapTypes
from seg_uncertainty_ros.recordings.salvage import open_sqlite
from seg_uncertainty_ros.recordings.salvage import salvage
from seg_uncertainty_ros.recordings.salvage import sqlite_topics
from seg_uncertainty_ros.recordings.source import BAG_SUFFIXES
from seg_uncertainty_ros.recordings.source import STORAGE_SUFFIXES
from seg_uncertainty_ros.structured_text import MAX_CHARACTERS
from seg_uncertainty_ros.structured_text import TextError
from seg_uncertainty_ros.structured_text import parse_yaml

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

METADATA = 'metadata.yaml'
MAX_SUMMARY_BYTES = 2**26
"""Of an MCAP file: 100 bytes a chunk, some kilobytes a topic; this is a terabyte of chunks."""
FOOTER_BYTES = 37
STATISTICS = 0x0B
MAX_TIME_NS = 2**63 - 1


class NoIndexError(SegUncertaintyError):
    """A bag without a usable index; the message says why."""


@dataclass
class Topic:
    """What a bag says about one of its topics."""

    name: str
    msgtype: str
    count: int = 0
    start_ns: int = MAX_TIME_NS
    end_ns: int = 0


@dataclass(frozen=True)
class Index:
    """Topics of a bag, and its storage files in their order."""

    topics: list[Topic]
    files: list[Path]


def bag_files(path: Path) -> list[Path]:
    """Return the storage files of a bag, in the order of their numbers."""
    if path.is_file():
        return [path]
    return sorted(
        (x for x in path.iterdir() if x.name.endswith(STORAGE_SUFFIXES) and x.is_file()),
        key=natural_order,
    )


def read_index(path: Path) -> Index:
    """Return what a bag's metadata.yaml, summary or tables tell.

    Raises:
        NoIndexError: there is none, or it is damaged.
        OSError: the file system refuses.

    """
    if not path.is_dir():
        return Index(merged(_file_topics(path)), [path])
    index = _metadata(path)
    for file in index.files:
        if file.suffix in BAG_SUFFIXES:
            _file_topics(file)  # is it whole?
    return index


def salvaged_topics(files: Iterable[Path]) -> list[Topic]:
    """Return the topics of the messages that are readable."""
    return merged(Topic(x.topic, x.msgtype, 1, x.time_ns, x.time_ns) for x in salvage(files, []))


def merged(parts: Iterable[Topic]) -> list[Topic]:
    """Return one for each name and type."""
    topics: dict[tuple[str, str], Topic] = {}
    for part in parts:
        whole = topics.setdefault((part.name, part.msgtype), Topic(part.name, part.msgtype))
        whole.count += part.count
        whole.start_ns = min(whole.start_ns, part.start_ns)
        whole.end_ns = max(whole.end_ns, part.end_ns)
    return list(topics.values())


def _file_topics(file: Path) -> list[Topic]:
    return _mcap_topics(file) if file.suffix == '.mcap' else _sqlite_topics(file)


def _metadata(path: Path) -> Index:
    file = path / METADATA
    if not file.is_file():
        msg = f'{METADATA} is missing'
        raise NoIndexError(msg)
    with file.open('rb') as stream:
        content = stream.read(MAX_CHARACTERS + 1)
    try:
        about = _field(parse_yaml(content.decode()), 'rosbag2_bagfile_information', dict)
        names = [PurePath(_of(x, str)).name for x in _field(about, 'relative_file_paths', list)]
        lost = [x for x in names if not (path / x).is_file()]
        if not all(x.endswith(STORAGE_SUFFIXES) for x in names) or len({*names}) < len(names):
            msg = f'relative_file_paths: expected different names of {", ".join(STORAGE_SUFFIXES)}'
            raise NoIndexError(msg)
        start_ns = _field(_field(about, 'starting_time', dict), 'nanoseconds_since_epoch', int)
        end_ns = start_ns + _field(_field(about, 'duration', dict), 'nanoseconds', int)
        topics = [
            Topic(
                _field(_field(x, 'topic_metadata', dict), 'name', str),
                _field(_field(x, 'topic_metadata', dict), 'type', str),
                _field(x, 'message_count', int),
                start_ns,
                end_ns,
            )
            for x in _field(about, 'topics_with_message_count', list)
        ]
    except (TextError, NoIndexError, UnicodeDecodeError) as error:
        msg = f'{METADATA}: {one_line(error)}'
        raise NoIndexError(msg) from None
    if lost:
        msg = f'{METADATA}: {lost[0][:80]!r} is missing'
        raise NoIndexError(msg)
    return Index(merged(topics), [path / name for name in names])


def _field(mapping: Any, name: str, kind: type) -> Any:
    if not isinstance(mapping, dict) or name not in mapping:
        msg = f'{name}: missing'
        raise NoIndexError(msg)
    return _of(mapping[name], kind, name)


def _of(value: Any, kind: type, name: str = 'relative_file_paths') -> Any:
    if type(value) is not kind:
        msg = f'{name}: {type(value).__name__}, expected {kind.__name__}'
        raise NoIndexError(msg)
    return value


def _mcap_topics(file: Path) -> list[Topic]:
    """Read the summary section; a file may have none."""
    with file.open('rb') as stream:
        size = stream.seek(0, 2)
        end = stream.seek(max(0, size - FOOTER_BYTES))
        footer = stream.read(FOOTER_BYTES)
        if len(footer) < FOOTER_BYTES or not footer.endswith(MAGIC):
            msg = 'File end magic is invalid'
            raise NoIndexError(msg)
        (start,) = unpack_from('<Q', footer, 9)
        if not start:
            return salvaged_topics([file])
        if not len(MAGIC) <= start <= end or end - start > MAX_SUMMARY_BYTES:
            msg = f'a summary from byte {start} to {end}'
            raise NoIndexError(msg)
        stream.seek(start)
        summary = stream.read(end - start)
    try:
        return _summarised(summary)
    except (struct_error, UnicodeDecodeError) as error:
        msg = f'summary: {one_line(error)}'
        raise NoIndexError(msg) from None


def _summarised(summary: bytes) -> list[Topic]:
    types = McapTypes()
    counts: dict[int, int] | None = None
    start_ns, end_ns, position = MAX_TIME_NS, 0, 0
    while position < len(summary):
        opcode, size = unpack_from('<BQ', summary, position)
        body = summary[position + 9 : position + 9 + size]
        if opcode == STATISTICS:
            start_ns, end_ns, length = unpack_from('<QQI', body, 26)
            rows = body[46 : 46 + length]
            counts = dict(iter_unpack('<HQ', rows[: len(rows) // 10 * 10]))
        types.read(opcode, body)
        position += 9 + size
    if counts is None or not types.channels:
        msg = 'a summary without statistics or channels'
        raise NoIndexError(msg)
    return [
        Topic(topic, msgtype, counts.get(number, 0), start_ns, end_ns)
        for number, (topic, msgtype) in types.channels.items()
    ]


def _sqlite_topics(file: Path) -> list[Topic]:
    try:
        with closing(open_sqlite(file)) as connection:
            topics = sqlite_topics(connection)
            rows = connection.execute(
                'SELECT topic_id, count(*), min(timestamp), max(timestamp) FROM messages '
                'GROUP BY topic_id'
            ).fetchall()
    except sqlite3.Error as error:
        raise NoIndexError(one_line(error)) from None
    counts = {row[0]: row[1:] for row in rows if all(type(x) is int for x in row)}
    return [
        Topic(name, msgtype, *counts.get(number, (0, MAX_TIME_NS, 0)))
        for number, name, msgtype in topics
    ]
