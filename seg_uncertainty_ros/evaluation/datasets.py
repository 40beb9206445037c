# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Images with labelled outliers, and CamVid, as the public benchmarks lay them out.

===============  ===============================================  ===========================
format           layout                                           labels
===============  ===============================================  ===========================
fishyscapes      images/X.*, labels/X.png                         0, 1 = outlier, 255 ignored
road-anomaly     images/X.*, labels/X.png                         0, 2 = outlier
smiyc            images/X.*, labels_masks/X_labels_semantic.png   0, 1 = outlier, 255 ignored
camvid           val/X.jpg, valannot/X.png (folder: val)          classes 0..10, 11 ignored
===============  ===============================================  ===========================

A set may hold images without outliers, as ten of the thirty of Fishyscapes Static: their pixels
count among the negatives of the pool. Of smiyc, only images with labels are read (its test images
come without).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from seg_uncertainty_ros.classes import CAMVID
from seg_uncertainty_ros.classes import UNLABELLED
from seg_uncertainty_ros.errors import SegUncertaintyError
from seg_uncertainty_ros.recordings.folders import natural_order

if TYPE_CHECKING:
    from collections.abc import Collection
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

IGNORED = UNLABELLED
IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.webp')
RATIO_TOLERANCE = 0.02


class DatasetError(SegUncertaintyError):
    """A dataset is not as its format says; the message names the file and the value."""


@dataclass(frozen=True)
class Format:
    """``values``: what each value of a label file stands for (0, 1 = outlier, 255 ignored)."""

    labels: str
    suffix: str
    values: Mapping[int, int]


OUTLIER_FORMATS = {
    'fishyscapes': Format('labels', '.png', {0: 0, 1: 1, 255: IGNORED}),
    'road-anomaly': Format('labels', '.png', {0: 0, 2: 1}),
    'smiyc': Format('labels_masks', '_labels_semantic.png', {0: 0, 1: 1, 255: IGNORED}),
}
CAMVID_FORMAT = Format(
    '{}annot', '.png', {**{index: index for index in range(len(CAMVID))}, len(CAMVID): IGNORED}
)
FORMATS = (*OUTLIER_FORMATS, 'camvid')


@dataclass(frozen=True)
class Sample:
    """``image`` uint8 hxwx3 BGR; ``labels`` uint8 HxW, 255 ignored, of the same aspect ratio."""

    name: str
    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]


@dataclass(frozen=True)
class Dataset:
    """Files of images and labels in natural order; read one by one.

    ``values``: what each value of a label file stands for.
    """

    name: str
    format: str
    files: tuple[tuple[Path, Path], ...]
    values: Mapping[int, int]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        """Read an image and its labels.

        Raises:
            DatasetError: unreadable, another aspect ratio, or a label that the format has not.

        """
        image_path, label_path = self.files[index]
        image = read_image(image_path, cv2.IMREAD_COLOR)
        raw = read_image(label_path, cv2.IMREAD_UNCHANGED)
        if raw.ndim != 2 or raw.dtype != np.uint8:
            msg = f'{label_path}: {raw.dtype} {raw.shape}, expected one channel of 8 bits'
            raise DatasetError(msg)
        (height, width), (rows, columns) = image.shape[:2], raw.shape
        if abs(width * rows / (height * columns) - 1) > RATIO_TOLERANCE:
            msg = f'{label_path}: {columns}x{rows}, not the aspect ratio of the image'
            raise DatasetError(f'{msg}, {width}x{height}')
        lut = np.full(256, -1, np.int16)
        lut[list(self.values)] = list(self.values.values())
        labels = lut[raw]
        if (unknown := labels < 0).any():
            expected = ', '.join(map(str, self.values))
            msg = f'{label_path}: value {raw[unknown][0]}, expected {expected} ({self.format})'
            raise DatasetError(msg)
        return Sample(image_path.stem, image, labels.astype(np.uint8))


def open_dataset(format_name: str, root: Path) -> Dataset:
    """List the files of a dataset.

    Raises:
        DatasetError: an unknown format, no images, an image without labels (smiyc: the reverse).

    """
    if format_name not in FORMATS:
        msg = f'dataset {format_name!r} is none of {", ".join(FORMATS)}'
        raise DatasetError(msg)
    layout = CAMVID_FORMAT if format_name == 'camvid' else OUTLIER_FORMATS[format_name]
    root = root.resolve()
    if format_name == 'camvid':
        images, labels = root, root.with_name(layout.labels.format(root.name))
    else:
        images, labels = root / 'images', root / layout.labels
    for folder in (images, labels):
        if not folder.is_dir():
            msg = f'{folder}: no such folder, {format_name} needs it'
            raise DatasetError(msg)
    only = None
    if format_name == 'smiyc':
        only = {path.name.removesuffix(layout.suffix) for path in labels.glob(f'*{layout.suffix}')}
    files = labelled_files(images, labels, layout.suffix, only)
    if missing := (only or set()) - {path.stem for path, _ in files}:
        msg = f'{images}: no image {min(missing)!r}, {labels.name} has labels of it'
        raise DatasetError(msg)
    name = f'{root.parent.name}/{root.name}' if format_name == 'camvid' else root.name
    return Dataset(name, format_name, files, layout.values)


def labelled_files(
    images: Path, labels: Path, suffix: str, only: Collection[str] | None = None
) -> tuple[tuple[Path, Path], ...]:
    """Return the images of a folder in natural order, each with its file of labels.

    Args:
        images: folder of the images.
        labels: folder of their labels, files of an image's stem and ``suffix``.
        suffix: what the name of a file of labels ends with.
        only: stems of the images to take; None for all.

    Raises:
        DatasetError: no images, an image without labels, two images for one file of labels.

    """
    files = tuple(
        (path, labels / f'{path.stem}{suffix}')
        for path in sorted(images.iterdir(), key=natural_order)
        if path.suffix.lower() in IMAGE_SUFFIXES and (only is None or path.stem in only)
    )
    if not files:
        msg = f'{images}: no images ({", ".join(IMAGE_SUFFIXES)}) with labels'
        raise DatasetError(msg)
    taken: dict[Path, Path] = {}
    for image, label in files:
        if not label.is_file():
            msg = f'{label}: missing, {image.name} needs it'
            raise DatasetError(msg)
        if (other := taken.setdefault(label, image)) != image:
            msg = f'{label}: labels of {other.name} or of {image.name}?'
            raise DatasetError(msg)
    return files


def read_image(path: Path, flags: int) -> NDArray:
    """Read with OpenCV; raise DatasetError naming the file."""
    image = cv2.imread(str(path), flags)
    if image is None:
        msg = f'{path}: not a readable image'
        raise DatasetError(msg)
    return image
