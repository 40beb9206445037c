# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Snapshots: the last seconds from memory and the next ones, as a small rosbag2; no clock."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections import deque
from contextlib import ExitStack
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING

from seg_uncertainty_ros.recordings.bag_writer import BagWriter
from seg_uncertainty_ros.recordings.errors import one_line
from seg_uncertainty_ros.recordings.event_log import numbered
from seg_uncertainty_ros.recordings.event_log import sync_directory

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator
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
        self._newest_ns = 0
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
        since_ns = self._newest_ns - self._span_ns
        return self._given_up_ns is not None and self._given_up_ns >= since_ns

    def add(self, message: Message) -> None:
        """Take a message and forget the old ones."""
        self._newest_ns = message.steady_ns
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


@dataclass
class Snapshot:
    """What became of one. ``problem`` is empty unless it could not be written.

    ``begun_ns``: when it was asked for, ``first_ns`` and ``last_ns``: its first and last message
    (steady clock). ``messages``: by topic. ``dropped``: messages for which memory or disk had no
    room. ``deleted``: snapshots that made room for it.
    """

    path: Path
    begun_ns: int
    first_ns: int
    last_ns: int
    problem: str = ''
    messages: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    dropped: int = 0
    deleted: list[str] = field(default_factory=list)

    @property
    def before_s(self) -> float:
        """Seconds that it holds before the warning."""
        return max(0, self.begun_ns - self.first_ns) / 1e9

    @property
    def after_s(self) -> float:
        """Seconds that it holds after the warning."""
        return max(0, self.last_ns - self.begun_ns) / 1e9

    def add(self, message: Message) -> None:
        """Note a message that was written."""
        if not self.messages:
            self.first_ns = message.steady_ns
        self.last_ns = message.steady_ns
        self.messages[message.topic] = self.messages.get(message.topic, 0) + 1
        self.bytes += message.size


class Snapshots:
    """Keeps the last seconds, and writes them and the next when it is told to.

    Memory: half of the limit for the ring, half for what waits to be written (the ring's
    messages among it, so that both together hold less than that).
    """

    def __init__(self, directory: Path, stem: str, config: SnapshotConfig) -> None:
        """Prepare; nothing is written yet."""
        self._directory = directory
        self._stem = stem
        self._config = config
        self.ring = RingBuffer(config.before_s, config.memory_bytes // 2)
        # Of the newest one.
        self._label = ''
        self._begun_ns = 0
        self._backlog = Backlog(0)
        self._thread: Thread | None = None
        self._open = False

    @property
    def busy(self) -> bool:
        """Whether one is being taken or written."""
        return self._thread is not None and self._thread.is_alive()

    def add(self, message: Message) -> None:
        """Take a message."""
        self.tick(message.steady_ns)
        self.ring.add(message)
        if self._open:
            self._backlog.add(message)

    def tick(self, now_ns: int) -> None:
        """End a snapshot whose time is over, on a steady clock."""
        if self._open and now_ns - self._begun_ns > self._config.after_s * 1e9:
            self._end()

    def take(self, label: str, now_ns: int, done: Callable[[Snapshot], None]) -> str:
        """Begin a snapshot, or return why not.

        Args:
            label: what the name of the bag ends with.
            now_ns: on the steady clock.
            done: is called in the thread that has written it, or could not.

        """
        self.tick(now_ns)
        if self.busy:
            return f'that of {self._label} is being {"taken" if self._open else "written"}'
        elapsed_s = (now_ns - self._begun_ns) / 1e9
        if self._thread is not None and elapsed_s < self._config.interval_s:
            return (
                f'{elapsed_s:.0f} s after that of {self._label}, '
                f'one in {self._config.interval_s:.0f} s at most'
            )
        self._label, self._begun_ns = label, now_ns
        self._backlog = Backlog(self._config.memory_bytes // 2)
        for message in self.ring.messages(now_ns):
            self._backlog.add(message)
        snapshot = Snapshot(self._directory / label, now_ns, now_ns, now_ns)
        arguments = (snapshot, self._backlog, done)
        thread = Thread(target=self._write, args=arguments, name='snapshot', daemon=True)
        thread.start()
        self._thread, self._open = thread, True
        return ''

    def close(self, timeout_s: float = 5.0) -> bool:
        """End what is open and wait for it; return whether it was finished in time."""
        if self._open:
            self._end()
        if self._thread is not None:
            self._thread.join(timeout_s)
        return not self.busy

    def _end(self) -> None:
        self._open = False
        self._backlog.end()

    def _write(
        self, snapshot: Snapshot, backlog: Backlog, done: Callable[[Snapshot], None]
    ) -> None:
        """Write one to its end; what goes wrong is in the result, and the bag is gone."""
        messages = iter(backlog)
        try:
            with ExitStack() as stack:
                self._directory.mkdir(parents=True, exist_ok=True)
                with _locked(self._directory):  # another recorder of this name takes another
                    room = Room(self._directory, self._stem, self._config.disk_bytes)
                    snapshot.path = room.next_path(snapshot.path.name)
                    writer = BagWriter(snapshot.path, storage=self._config.storage)
                    bag = stack.enter_context(writer)
                for message in messages:
                    if room.make(snapshot.bytes + message.size, snapshot.deleted):
                        data, received_ns = message.data, message.received_ns
                        bag.write_raw(message.topic, message.msgtype, data, received_ns)
                        snapshot.add(message)
                    else:
                        snapshot.dropped += 1
            if snapshot.messages:
                _sync(snapshot.path)
            elif snapshot.dropped or backlog.refused:
                snapshot.problem = 'no message had room'
            else:
                snapshot.problem = 'no messages came'
        except Exception as error:  # whatever it is, it concerns this one only
            snapshot.problem = one_line(error)
        if snapshot.problem:
            shutil.rmtree(snapshot.path, ignore_errors=True)
        for _ in messages:  # until its end, so that no other begins meanwhile
            pass
        snapshot.dropped += backlog.refused
        done(snapshot)


class Backlog:
    """Messages on their way from one thread to another, at most ``max_bytes`` of them."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._queue: SimpleQueue[Message | None] = SimpleQueue()
        # Each is written by one thread only.
        self._put = self._taken = 0
        self.refused = 0

    @property
    def bytes(self) -> int:
        """Bytes that wait."""
        return self._put - self._taken

    def add(self, message: Message) -> None:
        """Take a message; without room for it, count it as refused."""
        if self.bytes + message.size > self._max_bytes:
            self.refused += 1
            return
        self._put += message.size
        self._queue.put(message)

    def end(self) -> None:
        """Let the other thread come to an end."""
        self._queue.put(None)

    def __iter__(self) -> Iterator[Message]:
        """Yield the messages until the end, waiting for each."""
        while (message := self._queue.get()) is not None:
            self._taken += message.size
            yield message


class Room:
    """The snapshots of one node, ``<stem>.<number>.<label>``: the oldest make room for another."""

    def __init__(self, directory: Path, stem: str, max_bytes: int) -> None:
        """Look what there is; raises ``OSError``."""
        found = numbered(directory, stem, r'[\w.-]+')
        paths = [each for each in found if each[1].is_dir() and not each[1].is_symlink()]
        self._start = f'{stem}.{paths[-1][0] + 1 if paths else 1:06d}'
        self._directory = directory
        self._others = deque((path, _bytes_of(path)) for _, path in paths)
        self._bytes = sum(size for _, size in self._others)
        self._max_bytes = max_bytes

    def next_path(self, label: str) -> Path:
        """Return the path of the next one."""
        return self._directory / f'{self._start}.{label}'

    def make(self, size: int, deleted: list[str]) -> bool:
        """Return whether there is room for ``size`` bytes; add what went to ``deleted``."""
        while self._others and size + self._bytes > self._max_bytes:
            path, each = self._others.popleft()
            shutil.rmtree(path)
            self._bytes -= each
            deleted.append(path.name)
        return size + self._bytes <= self._max_bytes


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Keep out others that do the same, in whatever process."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def _sync(path: Path) -> None:
    for each in path.iterdir():
        with each.open('rb') as file:
            os.fsync(file.fileno())
    sync_directory(path)
    sync_directory(path.parent)
