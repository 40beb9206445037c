# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Event logs on disk: JSON lines in files of bounded size, written behind the writer's back."""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import field
from errno import ENOSPC
from functools import cache
from heapq import merge
from pathlib import Path
from threading import Condition
from threading import Thread
from typing import TYPE_CHECKING
from typing import Any

from jsonschema import Draft202012Validator

import seg_uncertainty_ros
from seg_uncertainty_ros.monitor.events import MAX_LINE_BYTES
from seg_uncertainty_ros.monitor.events import Event
from seg_uncertainty_ros.monitor.events import to_line
from seg_uncertainty_ros.recordings.errors import SinkError
from seg_uncertainty_ros.recordings.errors import SourceError
from seg_uncertainty_ros.recordings.errors import one_line
from seg_uncertainty_ros.structured_text import TextError
from seg_uncertainty_ros.structured_text import parse_json
from seg_uncertainty_ros.structured_text import shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from seg_uncertainty_ros.monitor.events import Moment
    from seg_uncertainty_ros.monitor.events import Origin

SUFFIX = '.jsonl'
SCHEMA = 'event.schema.json'
MAX_WAITING = 1000
RETRY_S = 5.0


class RotatingFile:
    """Appends lines to ``<stem>.<number>.jsonl``: a new number when full, the oldest deleted.

    A line is written whole or not at all. Another process that writes under the same stem gets
    files of its own. Every method raises ``OSError`` where the disk refuses; the next ``write``
    opens anew.
    """

    def __init__(
        self, directory: str | Path, stem: str, *, max_bytes: int, max_total_bytes: int
    ) -> None:
        """Prepare; nothing is written yet.

        Args:
            directory: is created if need be.
            stem: of the files.
            max_bytes: of one file.
            max_total_bytes: of all files of this stem.

        Raises:
            SinkError: A limit on all that is less than two files.

        """
        if not 0 < 2 * max_bytes <= max_total_bytes:
            msg = f'{directory}: {max_total_bytes} bytes in all, expected two files of {max_bytes}'
            raise SinkError(msg)
        self.directory = Path(directory)
        self._stem = stem
        self._max_bytes = max_bytes
        self._max_total_bytes = max_total_bytes
        self._file: int | None = None

    def write(self, line: bytes, *, sync: bool) -> None:
        """Append a line; with ``sync`` it is on the disk when this returns."""
        try:
            # A folder that was deleted meanwhile would swallow the lines.
            if self._file is None or not os.fstat(self._file).st_nlink:
                self._open(len(line))
            size = os.fstat(self._file).st_size
            if size and size + len(line) > self._max_bytes:
                self._open(len(line))
                size = os.fstat(self._file).st_size
            if os.write(self._file, line) < len(line):
                os.ftruncate(self._file, size)
                raise OSError(ENOSPC, os.strerror(ENOSPC), str(self.directory))
            if sync:
                os.fsync(self._file)
        except OSError:
            with suppress(OSError):
                self.close()
            raise

    def close(self) -> None:
        """Close the file, with everything on the disk."""
        file, self._file = self._file, None
        if file is not None:
            try:
                os.fsync(file)
            finally:
                os.close(file)

    def _open(self, room: int) -> None:
        """Open the newest file if it is ours and has room, else the next."""
        self.close()
        self.directory.mkdir(parents=True, exist_ok=True)
        existing = self._files()
        number, path = existing[-1] if existing else (0, None)
        if path is None or path.stat().st_size + room + 1 > self._max_bytes:
            number += 1
        while (file := self._open_mine(number)) is None:
            number += 1
        self._file = file
        sync_directory(self.directory)
        size = os.fstat(file).st_size
        if size and os.pread(file, 1, size - 1) != b'\n':
            os.write(file, b'\n')  # a crash has torn the last line
        self._delete_old(number)

    def _open_mine(self, number: int) -> int | None:
        """Open a file, or return None where another process writes to it."""
        path = self.directory / f'{self._stem}.{number:06d}{SUFFIX}'
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        file = os.open(path, flags, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(file)
            if isinstance(error, BlockingIOError):
                return None
            raise
        return file

    def _files(self) -> list[tuple[int, Path]]:
        return numbered(self.directory, self._stem, SUFFIX[1:])

    def _delete_old(self, current: int) -> None:
        sizes = [(number, path, path.stat().st_size) for number, path in self._files()]
        # The current file may still grow to its limit.
        total = self._max_bytes + sum(size for number, _, size in sizes if number != current)
        for number, path, size in sizes:
            if total <= self._max_total_bytes:
                return
            if number != current:
                path.unlink()
                total -= size


def numbered(directory: Path, stem: str, ending: str) -> list[tuple[int, Path]]:
    """Return number and path of what is named ``<stem>.<number>.<ending>``, the oldest first.

    ``ending`` is a regular expression. Raises ``OSError``.
    """
    pattern = re.compile(rf'{re.escape(stem)}\.(\d{{6,12}})\.{ending}')
    found = ((pattern.fullmatch(path.name), path) for path in directory.iterdir())
    return sorted((int(match[1]), path) for match, path in found if match)


def sync_directory(path: Path) -> None:
    """Make the names in a directory last; raises ``OSError``."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


@dataclass(frozen=True)
class Health:
    """How an event log fares; ``problem`` is empty while the disk takes the lines."""

    problem: str
    written: int
    waiting: int
    lost: int


class EventLog:
    """Writes events in a thread: whoever tells them never waits for a disk.

    While the disk refuses, events wait, up to ``max_waiting``; further ones are lost, counted,
    and the count is an event of its own once writing works again. The disk is tried again
    every ``retry_s`` seconds.
    """

    def __init__(
        self,
        files: RotatingFile,
        origin: Origin,
        now: Callable[[], Moment],
        *,
        retry_s: float = RETRY_S,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._files = files
        self._origin = origin
        self._now = now
        self._retry_s = retry_s
        self._max_waiting = max_waiting
        self._changed = Condition()
        self._waiting: deque[tuple[Event, Moment, int]] = deque()
        self._closing = False
        self._number = self._written = self._lost = 0
        self._untold: list[int] = []
        self._problem = ''
        self._thread = Thread(target=self._run, name='event log', daemon=True)
        self._thread.start()

    def write(self, event: Event) -> None:
        """Take an event, with the present moment."""
        moment = self._now()
        with self._changed:
            self._number += 1
            if self._closing or len(self._waiting) >= self._max_waiting:
                self._lost += 1
                self._untold = [*self._untold[:1], self._number]
            else:
                self._waiting.append((event, moment, self._number))
                self._changed.notify()

    def close(self, timeout_s: float = 2.0) -> Health:
        """Write what waits, for at most ``timeout_s``; what does not get out is lost."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_s)
        with self._changed:
            self._lost += len(self._waiting)
            self._waiting.clear()
        return self.health

    @property
    def health(self) -> Health:
        """How it fares now."""
        with self._changed:
            return Health(self._problem, self._written, len(self._waiting), self._lost)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    break
                event, moment, number = self._waiting[0]
            problem = self._try(event, moment, number)
            with self._changed:
                self._problem = problem
                if not problem:
                    if self._waiting:  # `close` gave up meanwhile
                        self._waiting.popleft()
                        self._written += 1
                    self._tell_of_losses()
                elif self._closing:
                    break
                else:
                    self._changed.wait_for(lambda: self._closing, self._retry_s)
        with suppress(OSError):
            self._files.close()

    def _try(self, event: Event, moment: Moment, number: int) -> str:
        """Write a line; return why that did not work."""
        try:
            self._files.write(to_line(event, self._origin, moment, number), sync=event.urgent)
        except OSError as error:
            return error.strerror or one_line(error)
        return ''

    def _tell_of_losses(self) -> None:
        """Put the count of lost lines behind what waits; the caller holds the lock."""
        if not self._untold:
            return
        first, last = self._untold[0], self._untold[-1]
        self._untold = []
        self._number += 1
        event = Event(
            'lost',
            f'lines {first} to {last} could not be written, {self._lost} lost so far',
            details={'first': first, 'last': last, 'lost': self._lost},
        )
        self._waiting.append((event, self._now(), self._number))


@dataclass
class EventsRead:
    """What a folder of event logs holds.

    ``events``: in the order of the wall clock, those of a node in the order of its files: the
    clock may have been set back. ``torn``: lines that a crash has cut; ``faults``: what else is
    wrong, with file and line, also where lines are missing. The oldest may be: files rotate.
    """

    events: list[dict[str, Any]] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def read_events(path: str | Path) -> EventsRead:
    """Read the event logs of a folder, or one file; raises ``SourceError`` if there is none.

    A line that is no event costs nothing but itself; one beyond ``MAX_LINE_BYTES``, which we do
    not write, the rest of its file.
    """
    path = Path(path)
    found = EventsRead()
    logs: dict[str, _Log] = {}
    try:
        files = [path] if path.is_file() else sorted(path.glob(f'*{SUFFIX}'), key=_order)
        if not files:
            msg = f'{path}: no event log (a folder with files *{SUFFIX})'
            raise SourceError(msg)
        for file in files:
            log = logs.setdefault(file.name.rsplit('.', 2)[0], _Log())
            try:
                _read_file(file, log, found)
            except FileNotFoundError:  # the oldest may go while others are read
                log.lacks_oldest = True
    except OSError as error:
        msg = f'{path}: {one_line(error)}'
        raise SourceError(msg) from error
    events = (log.events for log in logs.values())
    found.events = list(merge(*events, key=lambda event: event['time']['wall_ns']))
    return found


def _order(file: Path) -> tuple[int, str]:
    return len(file.name), file.name  # a number beyond six digits is longer


class _Log:
    """The events of one node, and the last number of each of its runs."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.lacks_oldest = True
        self._numbers: dict[str, int] = {}

    def add(self, event: dict[str, Any]) -> str:
        """Take an event; say whether lines before it are missing without the log saying so."""
        number, run = event['number'], event['origin']['run']
        first = event['details']['first'] if event['kind'] == 'lost' else number
        expected = self._numbers.get(run, 0) + 1
        gap = first > expected and not self.lacks_oldest
        self.lacks_oldest = False
        self.events.append(event)
        self._numbers[run] = number
        return f'number {first}, expected {expected}' if gap else ''


def _read_file(file: Path, log: _Log, found: EventsRead) -> None:
    with file.open('rb') as lines:
        for count, line in enumerate(iter(lambda: lines.readline(MAX_LINE_BYTES + 1), b''), 1):
            where = shown(f'{file.name}:{count}')
            if len(line) > MAX_LINE_BYTES:
                found.faults.append(f'{where}: more than {MAX_LINE_BYTES} bytes, not read further')
                return
            try:
                event = parse_json(line)
            except TextError:
                found.torn.append(where)
                continue
            # The first error will do: to look for the best takes as long as a line has items.
            if (error := next(_validator().iter_errors(event), None)) is not None:
                at = '.'.join(str(part) for part in error.absolute_path) or 'event'
                found.faults.append(f'{where}: {shown(at)}: {shown(error.message)}')
            elif fault := log.add(event):
                found.faults.append(f'{where}: {fault}')


@cache
def _validator() -> Draft202012Validator:
    path = Path(seg_uncertainty_ros.__file__).with_name(SCHEMA)
    return Draft202012Validator(json.loads(path.read_text('utf-8')))
