# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What an event log holds: one JSON object a line, described by ``event.schema.json``."""

from __future__ import annotations

import json
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import field
from datetime import datetime
from datetime import timedelta
from datetime import timezone
from typing import TYPE_CHECKING

from seg_uncertainty_ros import __version__
from seg_uncertainty_ros.bundle import GRAPH
from seg_uncertainty_ros.bundle import REFERENCE
from seg_uncertainty_ros.monitor.assessment import plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seg_uncertainty_ros.bundle import Bundle
    from seg_uncertainty_ros.monitor.ood_area import Box
    from seg_uncertainty_ros.monitor.ood_area import Region

VERSION = 1
MAX_LINE_BYTES = 2**17
# Characters: six texts come from outside, a character is 12 bytes of JSON at most.
MAX_CUT_TEXT = 1000
# What must be on the disk before anything else happens.
URGENT = frozenset({'begin', 'end', 'escalated', 'started', 'stopped', 'thresholds', 'lost'})
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Moment:
    """When: nanoseconds of the wall clock, of a steady clock and of the node's ROS clock.

    The steady clock tells durations even where the wall clock was set meanwhile.
    """

    wall_ns: int
    steady_ns: int
    ros_ns: int

    @property
    def utc(self) -> str:
        """The wall clock's time in the form of ISO 8601, microseconds."""
        moment = _EPOCH + timedelta(microseconds=self.wall_ns // 1000)
        return moment.isoformat(timespec='microseconds').replace('+00:00', 'Z')


@dataclass(frozen=True)
class Origin:
    """Who writes: the node, its process's run, the version of the package."""

    node: str
    run: str
    package: str = __version__


@dataclass(frozen=True)
class Model:
    """What judged: name and version of a bundle, sha256 of its manifest and of its files.

    The manifest holds the thresholds and the sha256 of every file, so ``sha256`` stands for all;
    ``reference`` is that of the reference drives, None where the bundle has none.
    """

    bundle: str
    sha256: str
    graph: str
    reference: str | None

    @classmethod
    def of(cls, bundle: Bundle) -> Model:
        """Return the ids of a bundle."""
        return cls(
            bundle=f'{bundle.name} {bundle.version}',
            sha256=bundle.digest,
            graph=bundle.files[GRAPH],
            reference=bundle.files.get(REFERENCE),
        )


@dataclass(frozen=True)
class FrameId:
    """The image that an event is about: its stamp (ns) and the camera's frame."""

    stamp_ns: int
    frame_id: str | None = None


@dataclass(frozen=True)
class Judgement:
    """A warning as it was judged.

    ``value`` is what was compared with ``threshold`` (of the domain shift, the evidence of the
    sequential test where that judges), ``worst`` the worst since it began, ``clears_at`` where it
    ends, ``reason`` where both thresholds come from. ``began_ns``: stamp of the first bad frame.
    ``place`` in words, ``box`` in camera pixels.
    """

    name: str
    level: str
    value: float | None
    threshold: float
    clears_at: float
    reason: str
    began_ns: int | None = None
    duration_s: float | None = None
    worst: float | None = None
    place: str | None = None
    box: Box | None = None


@dataclass(frozen=True)
class Reaction:
    """What the node did: its state before and after, and each topic with its subscribers."""

    was: str | None
    state: str
    published: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Event:
    """One event. ``details`` is what its kind alone has; ``message`` says it in plain words.

    kind: ``started``, ``stopped``, ``begin``, ``end`` (of a warning), ``escalated`` (the state
    grew worse while something was wrong already), ``planes_missing``, ``planes_rejected``,
    ``thresholds`` (changed by parameters), ``time_jumped``, ``snapshot``, ``lost`` (lines that
    could not be written). ``measured``: all indicators of the assessment. ``objects``: unknown
    objects, the largest first.
    """

    kind: str
    message: str
    model: Model | None = None
    frame: FrameId | None = None
    warning: Judgement | None = None
    measured: Mapping[str, float | None] | None = None
    objects: tuple[Region, ...] | None = None
    reaction: Reaction | None = None
    details: Mapping[str, object] | None = None

    @property
    def urgent(self) -> bool:
        """Whether the line has to be on the disk at once."""
        return self.kind in URGENT


def to_line(event: Event, origin: Origin, moment: Moment, number: int) -> bytes:
    """Return the line of an event, with its line end; ``number`` counts the lines of a run.

    What would be longer than ``MAX_LINE_BYTES`` goes without its details and objects, and with
    its texts cut: a camera's ``frame_id``, say, is as long as the camera likes.
    """
    content = {key: value for key, value in asdict(event).items() if value is not None}
    content = {
        'version': VERSION,
        'kind': content.pop('kind'),
        'number': number,
        'time': {'utc': moment.utc, **asdict(moment)},
        'origin': asdict(origin),
        **content,
    }
    line = _encode(content)
    if len(line) > MAX_LINE_BYTES:
        content.pop('objects', None)
        content['details'] = {'omitted': f'a line of {len(line)} bytes'}
        line = _encode(_cut(content))
    return line


def _encode(content: object) -> bytes:
    # What JSON has no form for is text: an error would end the thread that writes the log.
    return json.dumps(plain(content), allow_nan=False, default=str).encode() + b'\n'


def _cut(content: object) -> object:
    if isinstance(content, dict):
        return {key: _cut(value) for key, value in content.items()}
    return content[:MAX_CUT_TEXT] if isinstance(content, str) else content
