# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""In-distribution images to calibrate on: labelled folders, and recordings without labels."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Protocol

import cv2
import numpy as np

from seg_uncertainty_ros.classes import UNLABELLED
from seg_uncertainty_ros.evaluation.calibration import CalibrationDataError
from seg_uncertainty_ros.recordings import open_source
from seg_uncertainty_ros.recordings.folders import natural_order
from seg_uncertainty_ros.recordings.source import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from seg_uncertainty_ros.recordings import Source


@dataclass(frozen=True)
class CalibrationImage:
    """``image`` uint8 HxWx3 BGR; ``labels`` uint8 HxW, 255 unlabelled, or None without labels."""

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8] | None


class ImageSet(Protocol):
    """Images in their order, that of time where there is one."""

    @property
    def name(self) -> str:
        """What a person calls it."""

    @property
    def labelled(self) -> bool:
        """Whether there are labels."""

    @property
    def skipped(self) -> Sequence[str]:
        """One line for each image that the last reading could not decode."""

    def __len__(self) -> int:
        """How many images it says it has."""

    def read(self, start: int, stop: int) -> Iterator[CalibrationImage]:
        """Yield images start..stop − 1."""


@dataclass(frozen=True)
class LabelledFolder:
    """Pairs of image and label file; a label is a class id 0..S−1, S or 255 for unlabelled."""

    name: str
    pairs: tuple[tuple[Path, Path], ...]
    classes: int
    labelled = True
    skipped = ()

    def __len__(self) -> int:
        return len(self.pairs)

    def read(self, start: int, stop: int) -> Iterator[CalibrationImage]:
        """Yield images start..stop − 1.

        Raises:
            CalibrationDataError: unreadable, of two sizes, or a label that is no class.

        """
        for image_path, label_path in self.pairs[start:stop]:
            image = _read(image_path, cv2.IMREAD_COLOR)
            yield CalibrationImage(image, self._labels(label_path, image.shape[:2]))

    def _labels(self, path: Path, size: tuple[int, ...]) -> NDArray[np.uint8]:
        labels = _read(path, cv2.IMREAD_UNCHANGED)
        if labels.ndim != 2 or labels.dtype != np.uint8:
            msg = f'{path}: {labels.dtype} {labels.shape}, expected class ids in one 8-bit channel'
            raise CalibrationDataError(msg)
        if labels.shape != size:
            msg = f'{path}: {labels.shape[1]}x{labels.shape[0]}, the image {size[1]}x{size[0]}'
            raise CalibrationDataError(msg)
        wrong = (labels > self.classes) & (labels != UNLABELLED)
        if wrong.any():
            msg = (
                f'{path}: label {labels[wrong][0]}, expected a class 0..{self.classes - 1}, '
                f'or {self.classes} or {UNLABELLED} for unlabelled'
            )
            raise CalibrationDataError(msg)
        labels[labels == self.classes] = UNLABELLED
        return labels


class Recording:
    """Frames of a recording, a video or a folder, without labels."""

    labelled = False

    def __init__(self, source: Source) -> None:
        self.name = source.name
        self._source = source
        count = source.frame_count
        self._count = sum(1 for _ in source) if count is None else count

    @property
    def skipped(self) -> Sequence[str]:
        """One line for each frame that the last reading could not decode."""
        return self._source.skipped

    def __len__(self) -> int:
        return self._count

    def read(self, start: int, stop: int) -> Iterator[CalibrationImage]:
        """Yield frames start..stop − 1 of those that can be decoded."""
        for frame in islice(self._source, start, stop):
            yield CalibrationImage(frame.image, None)


def open_images(spec: str, classes: int, topic: str | None = None) -> ImageSet:
    """Open images to calibrate on.

    Args:
        spec: a folder with ``images`` and ``labels``; CamVid's root, whose ``val`` and
            ``valannot`` are read; one folder X of images beside its labels in ``Xannot``; or,
            without labels, whatever ``open_source`` opens. Labels are PNG files with the stem of
            their image.
        classes: the number of classes S.
        topic: the image topic of a bag that has several.

    Raises:
        CalibrationDataError: a labelled folder without images, an image without labels.
        SourceError: none of these.

    """
    path = Path(spec).expanduser().resolve()
    layouts = (
        (path / 'images', path / 'labels'),
        (path / 'val', path / 'valannot'),
        (path, path.parent / f'{path.name}annot'),
    )
    for images, labels in layouts:
        if images.is_dir() and labels.is_dir():
            return LabelledFolder(path.name, _pairs(images, labels), classes)
    images = path / 'images'
    return Recording(open_source(images if images.is_dir() else spec, topic=topic))


def _pairs(images: Path, labels: Path) -> tuple[tuple[Path, Path], ...]:
    files = [x for x in images.iterdir() if x.suffix.lower() in IMAGE_SUFFIXES]
    if not files:
        msg = f'{images}: no images ({", ".join(IMAGE_SUFFIXES)})'
        raise CalibrationDataError(msg)
    pairs = [(x, labels / f'{x.stem}.png') for x in sorted(files, key=natural_order)]
    for image, label in pairs:
        if not label.is_file():
            msg = f'{label}: missing, {image.name} has no labels'
            raise CalibrationDataError(msg)
    return tuple(pairs)


def _read(path: Path, flags: int) -> NDArray:
    image = cv2.imread(str(path), flags)
    if image is None:
        msg = f'{path}: not a readable image'
        raise CalibrationDataError(msg)
    return image
