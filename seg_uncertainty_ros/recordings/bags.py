# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A rosbag2 recording as a source: mcap or sqlite3, whole or damaged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rosbags.rosbag2 import Reader

from seg_uncertainty_ros.recordings.errors import SourceError
from seg_uncertainty_ros.recordings.errors import one_line
from seg_uncertainty_ros.recordings.folders import natural_order
from seg_uncertainty_ros.recordings.messages import IMAGE_TYPES
from seg_uncertainty_ros.recordings.messages import decode_frame
from seg_uncertainty_ros.recordings.salvage import Record
from seg_uncertainty_ros.recordings.salvage import salvage
from seg_uncertainty_ros.recordings.salvage import uncompressed
from seg_uncertainty_ros.recordings.source import STORAGE_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Iterator
    from pathlib import Path

    from seg_uncertainty_ros.frames import Frame


@dataclass
class Topic:
    """What a bag says about one of its topics."""

    name: str
    msgtype: str
    count: int = 0
    start_ns: int = 2**63 - 1
    end_ns: int = 0


class BagSource:
    """The images of one topic (sensor_msgs/Image or CompressedImage), in order of reception."""

    def __init__(self, path: Path, topic: str | None = None) -> None:
        """Find the image topic.

        Raises:
            SourceError: No image topic, several and no ``topic``, or not the one asked for.

        """
        self.name = path.name
        self.skipped: list[str] = []
        self._path = path
        self._fault = ''
        try:
            if path.is_dir() and not (path / 'metadata.yaml').exists():
                msg = 'metadata.yaml is missing'
                raise FileNotFoundError(msg)
            topics = _indexed_topics(path)
        except Exception as error:
            self._fault = one_line(error)
            topics = _salvaged_topics(bag_files(path))
        found = self._choose(topics, topic)
        self.topic = found.name
        self.frame_count: int | None = found.count
        seconds = (found.end_ns - found.start_ns) / 1e9
        self.rate_hz: float | None = (found.count - 1) / seconds if seconds > 0 else None

    def _choose(self, topics: list[Topic], wanted: str | None) -> Topic:
        images = [x for x in topics if x.msgtype in IMAGE_TYPES]
        reason = f' ({self._fault})' if self._fault else ''
        present = ', '.join(f'{x.name} [{x.msgtype}]' for x in topics) or 'none'
        if not images:
            msg = f'{self._path}: no image topic{reason}; topics present: {present}'
            raise SourceError(msg)
        if wanted is None and len(images) > 1:
            names = ', '.join(x.name for x in images)
            msg = f'{self._path}: {len(images)} image topics, choose one of {names}'
            raise SourceError(msg)
        if wanted is None:
            return images[0]
        for found in images:
            if found.name == wanted:
                return found
        msg = (
            f'{self._path}: topic {wanted!r} is not an image topic of this bag{reason}; '
            f'topics present: {present}'
        )
        raise SourceError(msg)

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames; raises SourceError behind the last if the bag is damaged."""
        self.skipped = []
        count = 0
        faults: list[str] = []
        for index, record in enumerate(self._records(faults)):
            try:
                frame = decode_frame(uncompressed(record.data), record.msgtype, record.time_ns)
            except Exception as error:
                seconds = record.time_ns / 1e9
                self.skipped.append(f'message {index} at {seconds:.3f} s: {one_line(error)}')
                continue
            count += 1
            yield frame
        if faults:
            more = f' (and {len(faults) - 1} more)' if len(faults) > 1 else ''
            msg = f'{self._path}: damaged, {count} frames were readable: {faults[0]}{more}'
            raise SourceError(msg)
        if self.skipped and not count:
            msg = (
                f'{self._path}: none of {len(self.skipped)} messages on {self.topic} '
                f'could be decoded, the first: {self.skipped[0]}'
            )
            raise SourceError(msg)
        if not count:
            msg = f'{self._path}: no messages on {self.topic}'
            raise SourceError(msg)

    def _records(self, faults: list[str]) -> Iterator[Record]:
        """Yield the topic's messages; ``faults`` is not empty afterwards if the bag is damaged."""
        last_ns = -1
        count = 0
        fault = self._fault
        if not fault:
            records = _indexed_records(self._path, self.topic)
            while True:
                try:
                    record = next(records, None)
                except Exception as error:
                    fault = one_line(error)
                    break
                if record is None:
                    if count < self.frame_count:
                        faults.append(f'{count} of {self.frame_count} messages were found')
                    return
                last_ns = record.time_ns
                count += 1
                yield record
        for record in salvage(bag_files(self._path), faults):
            if record.topic == self.topic and record.time_ns > last_ns:
                yield record
        if not faults:
            faults.append(fault)

    def stem(self, index: int) -> str:
        """Return the index with six digits."""
        return f'{index:06d}'


def bag_files(path: Path) -> list[Path]:
    """Return the storage files of a bag, in the order of their numbers."""
    if path.is_file():
        return [path]
    return sorted(
        (x for x in path.iterdir() if x.name.endswith(STORAGE_SUFFIXES)), key=natural_order
    )


def _indexed_topics(path: Path) -> list[Topic]:
    with Reader(path) as reader:
        return _merged(
            Topic(x.topic, x.msgtype, x.msgcount, reader.start_time, reader.end_time - 1)
            for x in reader.connections
        )


def _salvaged_topics(files: list[Path]) -> list[Topic]:
    return _merged(Topic(x.topic, x.msgtype, 1, x.time_ns, x.time_ns) for x in salvage(files, []))


def _merged(parts: Iterable[Topic]) -> list[Topic]:
    topics: dict[tuple[str, str], Topic] = {}
    for part in parts:
        whole = topics.setdefault((part.name, part.msgtype), Topic(part.name, part.msgtype))
        whole.count += part.count
        whole.start_ns = min(whole.start_ns, part.start_ns)
        whole.end_ns = max(whole.end_ns, part.end_ns)
    return list(topics.values())


def _indexed_records(path: Path, topic: str) -> Iterator[Record]:
    with Reader(path) as reader:
        connections = [
            x for x in reader.connections if x.topic == topic and x.msgtype in IMAGE_TYPES
        ]
        for connection, time_ns, data in reader.messages(connections):
            yield Record(topic, connection.msgtype, time_ns, data)
