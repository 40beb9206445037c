# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A folder of images as a source."""

from __future__ import annotations

import re
from collections import Counter
from os import fstat
from typing import TYPE_CHECKING

from seg_uncertainty_ros.encodings import MAX_PIXELS
from seg_uncertainty_ros.encodings import FrameError
from seg_uncertainty_ros.encodings import decode_compressed
from seg_uncertainty_ros.frames import Frame
from seg_uncertainty_ros.recordings.errors import SourceError
from seg_uncertainty_ros.recordings.errors import one_line
from seg_uncertainty_ros.recordings.source import IMAGE_SUFFIXES
from seg_uncertainty_ros.recordings.source import START_NS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


MAX_FILE_BYTES = 4 * MAX_PIXELS
"""The largest image that is accepted, four bytes a pixel: compressed it is smaller."""


class FolderSource:
    """The images of one directory in natural order (2 before 10), at a given rate."""

    topic = ''

    def __init__(self, path: Path, rate_hz: float) -> None:
        """List the images; raises SourceError where there are none."""
        if not rate_hz > 0:
            msg = f'{path}: rate {rate_hz} Hz, expected more than 0'
            raise SourceError(msg)
        self.name = path.name
        self.rate_hz: float | None = rate_hz
        self.skipped: list[str] = []
        self._path = path
        self._files = sorted(
            (
                x
                for x in path.iterdir()
                if x.suffix.lower() in IMAGE_SUFFIXES
                and not x.name.startswith('.')
                and x.is_file()  # a pipe would never end
            ),
            key=natural_order,
        )
        # With 'a.jpg' beside 'a.png' the stem alone would not tell their outputs apart.
        stems = Counter(x.stem for x in self._files)
        self._twins = {stem for stem, count in stems.items() if count > 1}
        self._stems: list[str] = []
        if not self._files:
            msg = (
                f'{path}: neither a bag (metadata.yaml, .mcap, .db3) '
                f'nor images ({", ".join(IMAGE_SUFFIXES)}) in this directory'
            )
            raise SourceError(msg)

    @property
    def frame_count(self) -> int | None:
        """Number of image files."""
        return len(self._files)

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames; raises SourceError where not one file could be decoded."""
        self.skipped = []
        self._stems = []
        for index, file in enumerate(self._files):
            try:
                image = decode_compressed(_read(file), file.suffix[1:])
            except (FrameError, OSError) as error:
                self.skipped.append(f'{file.name}: {one_line(error)}')
                continue
            self._stems.append(file.name if file.stem in self._twins else file.stem)
            yield Frame(image, START_NS + round(index * 1e9 / self.rate_hz))
        if not self._stems:
            msg = (
                f'{self._path}: none of {len(self._files)} images could be decoded, '
                f'the first: {self.skipped[0]}'
            )
            raise SourceError(msg)

    def stem(self, index: int) -> str:
        """Return the image file's stem, or its name where another file has the same stem."""
        return self._stems[index]


def _read(file: Path) -> bytes:
    with file.open('rb') as stream:
        if (size := fstat(stream.fileno()).st_size) > MAX_FILE_BYTES:
            msg = f'{size} bytes, more than the {MAX_FILE_BYTES} accepted'
            raise FrameError(msg)
        return stream.read(size)


def natural_order(path: Path) -> tuple[tuple[bool, int, str], ...]:
    """Return a sort key that orders the numbers in a file's name by value."""
    parts = re.split(r'(\d+)', path.name)
    return tuple((x.isdecimal(), int(x) if x.isdecimal() else 0, x) for x in parts if x)
