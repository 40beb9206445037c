# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Write an MP4 video."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from seg_uncertainty_ros.recordings.errors import SinkError

if TYPE_CHECKING:
    import sys
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

    if sys.version_info >= (3, 11):
        from typing import Self
    else:
        from typing_extensions import Self

# MPEG-4 part 2 comes with every OpenCV wheel; H.264 encoders do not.
FOURCC = 'mp4v'


class VideoWriter:
    """An MP4 being written; its size is that of the first frame.

    MPEG-4 has even sides: the last column or row of an odd size is left out.
    """

    def __init__(self, path: str | Path, rate_hz: float) -> None:
        """Prepare; the file appears with the first frame."""
        self.path = Path(path)
        self.frame_count = 0
        self._rate_hz = rate_hz
        self._shape: tuple[int, ...] = ()
        self._writer: cv2.VideoWriter | None = None

    def __enter__(self) -> Self:
        """Enter the context that finishes the file."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        """Finish the file, after an error too."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None

    def write(self, image: NDArray[np.uint8]) -> None:
        """Append a BGR uint8 HxWx3 image.

        Raises:
            SinkError: The file cannot be opened, or the image has another size than the first.

        """
        if self._writer is None:
            self._writer = self._open(image)
        if image.shape != self._shape:
            msg = f'{self.path}: image {image.shape} in a video of {self._shape}'
            raise SinkError(msg)
        self._writer.write(image)
        self.frame_count += 1

    def _open(self, image: NDArray[np.uint8]) -> cv2.VideoWriter:
        height, width = image.shape[:2]
        writer = cv2.VideoWriter(
            str(self.path),
            cv2.VideoWriter_fourcc(*FOURCC),
            self._rate_hz,
            (width, height),
        )
        if not writer.isOpened():
            msg = (
                f'{self.path}: OpenCV cannot write this video '
                f'({FOURCC}, {width} x {height}, {self._rate_hz} Hz)'
            )
            raise SinkError(msg)
        self._shape = image.shape
        return writer
