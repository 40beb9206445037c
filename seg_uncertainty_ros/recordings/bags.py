# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A rosbag2 recording as a source: mcap or sqlite3, whole or damaged."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from seg_uncertainty_ros.errors import SegUncertaintyError
from seg_uncertainty_ros.recordings.errors import SourceError
from seg_uncertainty_ros.recordings.errors import one_line
from seg_uncertainty_ros.recordings.index import NoIndexError
from seg_uncertainty_ros.recordings.index import bag_files
from seg_uncertainty_ros.recordings.index import read_index
from seg_uncertainty_ros.recordings.index import salvaged_topics
from seg_uncertainty_ros.recordings.messages import IMAGE_TYPES
from seg_uncertainty_ros.recordings.messages import decode_frame
from seg_uncertainty_ros.recordings.salvage import salvage
from seg_uncertainty_ros.recordings.salvage import uncompressed
from seg_uncertainty_ros.structured_text import shown

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Iterator
    from pathlib import Path

    from seg_uncertainty_ros.frames import Frame
    from seg_uncertainty_ros.recordings.index import Topic
    from seg_uncertainty_ros.recordings.salvage import Record

MAX_RATE_HZ = 10_000.0
"""What an index tells beyond this is no camera's."""
MOST_NAMED = 20
"""Of topics, in a message."""


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
            index = read_index(path)
            topics, self._files = index.topics, index.files
        except NoIndexError as error:
            self._fault = one_line(error)
            self._files = bag_files(path)
            topics = salvaged_topics(self._files)
        found = self._choose(topics, topic)
        self.topic = found.name
        self.frame_count: int | None = max(0, found.count)
        seconds = (found.end_ns - found.start_ns) / 1e9
        rate_hz = (found.count - 1) / seconds if seconds > 0 else 0.0
        self.rate_hz: float | None = rate_hz if 0 < rate_hz <= MAX_RATE_HZ else None

    def _choose(self, topics: list[Topic], wanted: str | None) -> Topic:
        images = [x for x in topics if x.msgtype in IMAGE_TYPES]
        reason = f' ({self._fault})' if self._fault else ''
        present = _listed(f'{x.name} [{x.msgtype}]' for x in topics) or 'none'
        if not images:
            msg = f'{self._path}: no image topic{reason}; topics present: {present}'
            raise SourceError(msg)
        if wanted is None and len(images) > 1:
            names = _listed(x.name for x in images)
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
            except SegUncertaintyError as error:
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
                f'{self._path}: none of {len(self.skipped)} messages on {shown(self.topic)} '
                f'could be decoded, the first: {self.skipped[0]}'
            )
            raise SourceError(msg)
        if not count:
            msg = f'{self._path}: no messages on {shown(self.topic)}'
            raise SourceError(msg)

    def _records(self, faults: list[str]) -> Iterator[Record]:
        """Yield the topic's messages; ``faults`` is not empty afterwards if the bag is damaged."""
        count = 0
        for record in salvage(self._files, faults, self.topic):
            if record.msgtype in IMAGE_TYPES:
                count += 1
                yield record
        if self._fault and not faults:
            faults.append(self._fault)
        if not faults and count < self.frame_count:
            faults.append(f'{count} of {self.frame_count} messages were found')

    def stem(self, index: int) -> str:
        """Return the index with six digits."""
        return f'{index:06d}'


def _listed(names: Iterable[str]) -> str:
    first = [shown(name, 100) for name in islice(names, MOST_NAMED + 1)]
    return ', '.join([*first[:MOST_NAMED], '…'] if len(first) > MOST_NAMED else first)
