# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""In-distribution images to calibrate on: labelled folders, and recordings without labels."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Protocol

from seg_uncertainty_ros.classes import UNLABELLED
from seg_uncertainty_ros.evaluation.datasets import Dataset
from seg_uncertainty_ros.evaluation.datasets import labelled_files
from seg_uncertainty_ros.recordings import open_source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Sequence

    import numpy as np
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


class LabelledFolder:
    """A dataset whose labels are class ids."""

    labelled = True
    skipped = ()

    def __init__(self, dataset: Dataset) -> None:
        self.name = dataset.name
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def read(self, start: int, stop: int) -> Iterator[CalibrationImage]:
        """Yield images start..stop − 1; raises DatasetError."""
        for index in range(start, stop):
            sample = self._dataset[index]
            yield CalibrationImage(sample.image, sample.labels)


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
            their image, and hold class ids 0..S - 1, S or 255 for unlabelled.
        classes: the number of classes S.
        topic: the image topic of a bag that has several.

    Raises:
        DatasetError: a labelled folder without images, an image without labels.
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
            files = labelled_files(images, labels, '.png')
            values = {index: index for index in range(classes)}
            values |= {classes: UNLABELLED, UNLABELLED: UNLABELLED}
            return LabelledFolder(Dataset(path.name, 'class ids', files, values))
    images = path / 'images'
    return Recording(open_source(images if images.is_dir() else spec, topic=topic))
