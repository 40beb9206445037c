# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Snapshots: the last seconds from memory and the next ones, as a small rosbag2; no clock."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections import deque
from dataclasses import dataclass
from dataclasses import field
from threading import Condition
from threading import Thread
from typing import TYPE_CHECKING

from seg_uncertainty_ros.recordings.bag_writer import BagWriter
from seg_uncertainty_ros.recordings.errors import one_line
from seg_uncertainty_ros.recordings.event_log import sync_directory

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable
    from pathlib import Path

# What a bag adds to a message: record heads, index.
OVERHEAD_BYTES = 100


@dataclass(frozen=True)
class Message:
    """A serialized (CDR) message; when it came, on a steady clock and on that of the bag (ns)."""

    topic: str
    msgtype: str
    data: bytes
    steady_ns: int
    received_ns: int

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        return len(self.data) + OVERHEAD_BYTES


class RingBuffer:
    """The messages of the last ``seconds``, or as many of the newest as ``max_bytes`` hold."""

    def __init__(self, seconds: float, max_bytes: int) -> None:
        self._span_ns = round(seconds * 1e9)
        self._max_bytes = max_bytes
        self._messages: deque[Message] = deque()
        self._given_up_ns: int | None = None
        self.bytes = 0

    @property
    def seconds(self) -> float:
        """From the first message to the last."""
        if not self._messages:
            return 0.0
        return (self._messages[-1].steady_ns - self._messages[0].steady_ns) / 1e9

    @property
    def is_short(self) -> bool:
        """Whether messages of the last ``seconds`` had to go for want of bytes."""
        if self._given_up_ns is None or not self._messages:
            return False
        return self._given_up_ns >= self._messages[-1].steady_ns - self._span_ns

    def add(self, message: Message) -> None:
        """Take a message and forget the old ones."""
        self._messages.append(message)
        self.bytes += message.size
        self._forget(message.steady_ns)

    def messages(self, now_ns: int) -> tuple[Message, ...]:
        """Return what is no older than ``seconds`` at a time (ns, steady clock)."""
        self._forget(now_ns)
        return tuple(self._messages)

    def _forget(self, now_ns: int) -> None:
        while self._messages:
            first = self._messages[0]
            if first.steady_ns >= now_ns - self._span_ns:
                if self.bytes <= self._max_bytes:
                    return
                self._given_up_ns = first.steady_ns
            self.bytes -= self._messages.popleft().size


@dataclass(frozen=True)
class SnapshotConfig:
    """What a snapshot holds and takes.

    ``before_s``, ``after_s``: seconds around the warning; at most one begins in ``interval_s``.
    ``memory_bytes``: of all messages held; ``disk_bytes``: of all snapshots, the oldest go.
    """

    before_s: float = 5.0
    after_s: float = 3.0
    interval_s: float = 60.0
    memory_bytes: int = 512 << 20
    disk_bytes: int = 4096 << 20
    storage: str = 'mcap'


@dataclass(frozen=True)
class Snapshot:
    """What became of one. ``problem`` is empty unless it could not be written.

    ``before_s`` and ``after_s``: what it holds, from the first message to the warning and from
    there to the last. ``messages``: by topic. ``dropped``: messages for which memory or
    disk had no room. ``deleted``: snapshots that made room for it.
    """

    path: Path
    problem: str = ''
    messages: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    before_s: float = 0.0
    after_s: float = 0.0
    dropped: int = 0
    deleted: tuple[str, ...] = ()


class Snapshots:
    """Keeps the last seconds, and writes them and the next in a thread when it is told to.

    Memory: half of the limit for the ring, half for what waits to be written (the ring's
    messages among it, so that both together hold less than that).
    """

    def __init__(
        self,
        directory: Path,
        stem: str,
        config: SnapshotConfig,
        done: Callable[[Snapshot], None],
    ) -> None:
        """Prepare; nothing is written yet. ``done`` is called in the thread, after each one."""
        self._config = config
        self.ring = RingBuffer(config.before_s, config.memory_bytes // 2)
        self._writer = SnapshotWriter(directory, stem, config, done)
        self._begun_ns: int | None = None
        self._open = False

    @property
    def busy(self) -> bool:
        """Whether one is being taken or written."""
        return self._writer.busy

    def add(self, message: Message) -> None:
        """Take a message."""
        self.tick(message.steady_ns)
        self.ring.add(message)
        if self._open:
            self._writer.add(message)

    def tick(self, now_ns: int) -> None:
        """End a snapshot whose time is over, on a steady clock."""
        if self._open and now_ns - self._begun_ns > self._config.after_s * 1e9:
            self._open = False
            self._writer.end()

    def take(self, label: str, now_ns: int) -> str:
        """Begin a snapshot, or return why not.

        Args:
            label: what the name of the bag ends with.
            now_ns: on the steady clock.

        """
        self.tick(now_ns)
        if self._open:
            return f'{self._writer.name} is being taken'
        if self._writer.busy:
            return f'{self._writer.name} is still being written'
        if self._begun_ns is not None:
            elapsed_s = (now_ns - self._begun_ns) / 1e9
            if elapsed_s < self._config.interval_s:
                return (
                    f'{elapsed_s:.0f} s after {self._writer.name}, '
                    f'one in {self._config.interval_s:.0f} s at most'
                )
        self._begun_ns, self._open = now_ns, True
        self._writer.begin(label, now_ns, self.ring.messages(now_ns))
        return ''

    def close(self, timeout_s: float = 5.0) -> bool:
        """End what is open and wait for it; return whether it was finished in time."""
        if self._open:
            self._open = False
            self._writer.end()
        return self._writer.close(timeout_s)


class SnapshotWriter:
    """Writes one snapshot at a time, in a thread."""

    def __init__(
        self,
        directory: Path,
        stem: str,
        config: SnapshotConfig,
        done: Callable[[Snapshot], None],
    ) -> None:
        self._folder = SnapshotFolder(directory, stem, config.disk_bytes)
        self._config = config
        self._done = done
        self._changed = Condition()
        self._waiting: deque[Message | None] = deque()
        self._waiting_bytes = self._dropped = 0
        self._begun: tuple[str, int] | None = None
        self._closing = False
        self.name = ''
        self._thread = Thread(target=self._run, name='snapshots', daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether one is not finished."""
        with self._changed:
            return self._begun is not None

    def begin(self, label: str, now_ns: int, messages: Iterable[Message]) -> None:
        """Begin with messages that came before; only while not ``busy``."""
        with self._changed:
            self._begun = (label, now_ns)
            self.name = f'the snapshot of {label}'
            self._dropped = 0
            self._waiting.extend(messages)
            self._waiting_bytes = sum(message.size for message in self._waiting)
            self._changed.notify()

    def add(self, message: Message) -> None:
        """Take a further message, unless as many wait as memory is allowed for."""
        with self._changed:
            if self._waiting_bytes + message.size > self._config.memory_bytes // 2:
                self._dropped += 1
                return
            self._waiting.append(message)
            self._waiting_bytes += message.size
            self._changed.notify()

    def end(self) -> None:
        """Finish when all that waits is written."""
        with self._changed:
            self._waiting.append(None)
            self._changed.notify()

    def close(self, timeout_s: float) -> bool:
        """Wait for what was ended; return whether the thread is through."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._begun is not None or self._closing)
                if self._begun is None:
                    return
                label, now_ns = self._begun
            self._done(self._write(label, now_ns))
            with self._changed:
                self._begun = None
                self._waiting.clear()

    def _write(self, label: str, now_ns: int) -> Snapshot:
        """Write one to its end; what goes wrong is in the result, and the bag is gone."""
        path = self._folder.next_path(label)
        self.name = path.name
        written = _Written(first_ns=now_ns, last_ns=now_ns)
        problem = ''
        try:
            with BagWriter(path, storage=self._config.storage) as bag:
                self._fill(bag, self._folder.room_for(path), written)
            if not written.counts:
                problem = 'no messages came'
            else:
                _sync(path)
        except Exception as error:  # a thread that dies would end all snapshots
            problem = one_line(error)
        if problem:
            shutil.rmtree(path, ignore_errors=True)
            while self._next() is not None:
                pass
        return Snapshot(
            path=path,
            problem=problem,
            messages=dict(written.counts),
            bytes=written.bytes,
            before_s=(now_ns - written.first_ns) / 1e9,
            after_s=(written.last_ns - now_ns) / 1e9,
            dropped=self._dropped + written.without_room,
            deleted=tuple(written.deleted),
        )

    def _fill(self, bag: BagWriter, room: Room, written: _Written) -> None:
        while (message := self._next()) is not None:
            if not room.make(written.bytes + message.size, written.deleted):
                written.without_room += 1
                continue
            bag.write_raw(message.topic, message.msgtype, message.data, message.received_ns)
            if not written.counts:
                written.first_ns = message.steady_ns
            written.last_ns = message.steady_ns
            written.counts[message.topic] += 1
            written.bytes += message.size

    def _next(self) -> Message | None:
        """Return the next message to write, None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting)
            message = self._waiting[0]
            # The end stays: whoever asks again is not kept waiting.
            if message is not None:
                self._waiting.popleft()
                self._waiting_bytes -= message.size
            return message


@dataclass
class _Written:
    """What has been written so far."""

    first_ns: int
    last_ns: int
    counts: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    without_room: int = 0
    deleted: list[str] = field(default_factory=list)


class Room:
    """What other snapshots leave of a limit of bytes; the oldest give way."""

    def __init__(self, others: Iterable[tuple[Path, int]], max_bytes: int) -> None:
        self._others = deque(others)
        self._bytes = sum(size for _, size in self._others)
        self._max_bytes = max_bytes

    def make(self, size: int, deleted: list[str]) -> bool:
        """Return whether there is room for ``size`` bytes; add what went to ``deleted``."""
        while self._others and size + self._bytes > self._max_bytes:
            path, each = self._others.popleft()
            shutil.rmtree(path)
            self._bytes -= each
            deleted.append(path.name)
        return size + self._bytes <= self._max_bytes


class SnapshotFolder:
    """The snapshots of one node: ``<stem>.<number>.<label>``, within a limit of bytes."""

    def __init__(self, directory: Path, stem: str, max_bytes: int) -> None:
        self._directory = directory
        self._pattern = re.compile(rf'{re.escape(stem)}\.(\d{{6,12}})\.[\w.-]+')
        self._stem = stem
        self._max_bytes = max_bytes

    def next_path(self, label: str) -> Path:
        """Return the path of the next one."""
        number = max((number for number, _ in self.existing()), default=0) + 1
        return self._directory / f'{self._stem}.{number:06d}.{label}'

    def existing(self) -> list[tuple[int, Path]]:
        """Return numbers and paths, the oldest first; none where the folder cannot be read."""
        try:
            paths = [path for path in self._directory.iterdir() if _is_folder(path)]
        except OSError:
            return []
        found = ((self._pattern.fullmatch(path.name), path) for path in paths)
        return sorted((int(match[1]), path) for match, path in found if match)

    def room_for(self, current: Path) -> Room:
        """Return the room for a snapshot."""
        others = [(path, _bytes_of(path)) for _, path in self.existing() if path != current]
        return Room(others, self._max_bytes)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def _sync(path: Path) -> None:
    for each in path.iterdir():
        with each.open('rb') as file:
            os.fsync(file.fileno())
    sync_directory(path)
    sync_directory(path.parent)
