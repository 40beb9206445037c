# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A procedural drive as a source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seg_uncertainty_ros.frames import Frame
from seg_uncertainty_ros.procedural import parse_drive

if TYPE_CHECKING:
    from collections.abc import Iterator


class DriveSource:
    """Frames rendered as they are asked for."""

    topic = ''

    def __init__(self, spec: str) -> None:
        """Parse 'procedural:...'; raises what ``procedural.parse_drive`` raises."""
        self.name = spec
        self.skipped: list[str] = []
        self._drive = parse_drive(spec)
        self.rate_hz: float | None = self._drive.rate_hz

    @property
    def frame_count(self) -> int | None:
        """Number of frames of the drive."""
        return len(self._drive)

    def __iter__(self) -> Iterator[Frame]:
        """Render and yield the frames."""
        for index in range(len(self._drive)):
            yield Frame(self._drive.render(index).image, self._drive.stamp_ns(index))

    def stem(self, index: int) -> str:
        """Return the index with six digits."""
        return f'{index:06d}'
