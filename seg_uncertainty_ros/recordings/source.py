# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""One interface for everything that yields frames, and how to open one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from typing import Protocol

from seg_uncertainty_ros.recordings.errors import SourceError
from seg_uncertainty_ros.recordings.errors import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seg_uncertainty_ros.frames import Frame

BAG_SUFFIXES = ('.mcap', '.db3')
STORAGE_SUFFIXES = (*BAG_SUFFIXES, *(f'{x}.zstd' for x in BAG_SUFFIXES))
VIDEO_SUFFIXES = ('.mp4', '.avi', '.mkv', '.mov', '.webm')
IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp')
DRIVE_PREFIX = 'procedural:'
FOLDER_RATE_HZ = 10.0
START_NS = 1_000_000_000
"""Stamp of the first frame where the input has no clock: ROS takes zero for 'not set'."""


class Source(Protocol):
    """A recording. Each iteration starts at its beginning.

    Iterating yields what is readable; a recording that ends early or is damaged raises
    SourceError behind its last readable frame. A single frame that cannot be decoded does not
    end it: the reason goes to ``skipped`` and the next frame follows.
    """

    @property
    def name(self) -> str:
        """What a person calls it: the file's or directory's name, or the drive's specification."""

    @property
    def topic(self) -> str:
        """The image topic; empty where there is none."""

    @property
    def frame_count(self) -> int | None:
        """How many frames it says it has, undecodable ones included; None where unknown."""

    @property
    def rate_hz(self) -> float | None:
        """Frames a second, the mean over the recording; None where unknown."""

    @property
    def skipped(self) -> list[str]:
        """One line for each frame that the last iteration could not decode."""

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames in order."""

    def stem(self, index: int) -> str:
        """Return the file name, without suffix, for outputs of the ``index``-th frame yielded."""


def open_source(
    spec: str | Path,
    *,
    topic: str | None = None,
    rate_hz: float = FOLDER_RATE_HZ,
) -> Source:
    """Open a bag, a video, a folder of images or a procedural drive.

    Args:
        spec: A rosbag2 directory, a .mcap or .db3 file, a video file, a directory of images, or
            'procedural:...' as ``procedural.parse_drive`` takes it.
        topic: The bag's image topic; may be left out where it has only one.
        rate_hz: Rate of a folder of images, which has no clock.

    Raises:
        SourceError: There is nothing at ``spec``, or nothing that can be read.

    """
    if str(spec).startswith(DRIVE_PREFIX):
        _refuse_topic(spec, topic)
        from seg_uncertainty_ros.recordings.drives import DriveSource

        return DriveSource(str(spec))
    path = Path(spec).expanduser()
    try:
        return _open_path(path, topic, rate_hz)
    except OSError as error:
        msg = f'{path}: cannot be read: {error.strerror or one_line(error)}'
        raise SourceError(msg) from error


def _open_path(path: Path, topic: str | None, rate_hz: float) -> Source:
    if not path.exists():
        msg = f'{path}: does not exist, expected a bag, a video, a folder of images or procedural:'
        raise SourceError(msg)
    # Each kind brings its own libraries: imported when needed.
    if _is_bag(path):
        from seg_uncertainty_ros.recordings.bags import BagSource

        return BagSource(path, topic)
    _refuse_topic(path, topic)
    if path.is_dir():
        from seg_uncertainty_ros.recordings.folders import FolderSource

        return FolderSource(path, rate_hz)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        from seg_uncertainty_ros.recordings.videos import VideoSource

        return VideoSource(path)
    msg = (
        f'{path}: suffix {path.suffix!r} is unknown, '
        f'expected one of {", ".join((*BAG_SUFFIXES, *VIDEO_SUFFIXES))} or a directory'
    )
    raise SourceError(msg)


def _is_bag(path: Path) -> bool:
    if not path.is_dir():
        return path.suffix in BAG_SUFFIXES
    return (path / 'metadata.yaml').exists() or any(
        x.name.endswith(STORAGE_SUFFIXES) for x in path.iterdir()
    )


def _refuse_topic(spec: str | Path, topic: str | None) -> None:
    if topic is not None:
        msg = f'{spec}: has no topics, but topic {topic!r} was asked for'
        raise SourceError(msg)
