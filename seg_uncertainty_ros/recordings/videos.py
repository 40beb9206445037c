# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A video file as a source."""

from __future__ import annotations

import os
from math import isfinite
from typing import TYPE_CHECKING

import cv2

from seg_uncertainty_ros.encodings import FrameError
from seg_uncertainty_ros.encodings import check_size
from seg_uncertainty_ros.frames import Frame
from seg_uncertainty_ros.recordings.errors import SourceError
from seg_uncertainty_ros.recordings.source import START_NS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORMATS = 'avi,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm'
"""FFmpeg's names of the containers that are opened, whatever the suffix: it has three hundred
others, among them lists of further files and addresses."""
RATES_HZ = (0.01, 10_000.0)
ESTIMATING_SUFFIXES = ('.mkv', '.webm')
"""Containers without a frame count: FFmpeg computes it from duration and rate."""


class VideoSource:
    """A video, its stamps counted from its frame rate."""

    topic = ''

    def __init__(self, path: Path) -> None:
        """Open the video once to see that it can be; raises SourceError."""
        # FFmpeg writes thousands of lines about one damaged frame; SourceError says it in one.
        os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')
        os.environ.setdefault(
            'OPENCV_FFMPEG_CAPTURE_OPTIONS', f'format_whitelist;{FORMATS}|protocol_whitelist;file'
        )
        self.name = path.name
        self.skipped: list[str] = []
        self._path = path
        capture = self._open()
        rate_hz = capture.get(cv2.CAP_PROP_FPS)
        count, height, width = (
            _whole(capture.get(x))
            for x in (
                cv2.CAP_PROP_FRAME_COUNT,
                cv2.CAP_PROP_FRAME_HEIGHT,
                cv2.CAP_PROP_FRAME_WIDTH,
            )
        )
        capture.release()
        self._check_size(height, width)
        if not RATES_HZ[0] <= rate_hz <= RATES_HZ[1]:
            msg = f'{path}: frame rate {rate_hz}, expected {RATES_HZ[0]} to {RATES_HZ[1]}'
            raise SourceError(msg)
        self.rate_hz: float | None = rate_hz
        self.frame_count: int | None = count if count > 0 else None

    def _check_size(self, height: int, width: int) -> None:
        try:
            check_size(height, width)
        except FrameError as error:
            msg = f'{self._path}: {error}'
            raise SourceError(msg) from None

    def _open(self) -> cv2.VideoCapture:
        capture = cv2.VideoCapture(str(self._path), _backend())
        if not capture.isOpened():
            msg = (
                f'{self._path}: {self._path.stat().st_size} bytes that do not open as a video '
                '(not a video, cut before its index, or a codec that OpenCV lacks)'
            )
            raise SourceError(msg)
        return capture

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames; raises SourceError behind the last if the container counts more."""
        capture = self._open()
        count = 0
        try:
            while True:
                read, image = capture.read()
                if not read:
                    break
                self._check_size(*image.shape[:2])  # it may change on the way
                yield Frame(image, START_NS + round(count * 1e9 / self.rate_hz))
                count += 1
        finally:
            capture.release()
        expected = self.frame_count or 0
        estimated = self._path.suffix.lower() in ESTIMATING_SUFFIXES
        tolerance = max(1, expected // 50) if estimated else 1
        if count == 0 or count < expected - tolerance:
            msg = f'{self._path}: ends after {count} of {expected} frames, cut or damaged'
            raise SourceError(msg)

    def stem(self, index: int) -> str:
        """Return the index with six digits."""
        return f'{index:06d}'


def _backend() -> int:
    """Return FFmpeg where OpenCV has it: others take a name for a pattern of names."""
    backends = cv2.videoio_registry.getStreamBackends()
    return cv2.CAP_FFMPEG if cv2.CAP_FFMPEG in backends else cv2.CAP_ANY


def _whole(value: float) -> int:
    return int(value) if isfinite(value) else 0
