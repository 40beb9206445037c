# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The worst frames of an evaluation as one picture: image, anomaly, truth.

Worst is the highest false-positive rate at the threshold that finds 95 % of the outlier pixels of
the whole set: these frames make FPR95 what it is. The caption says what was found on the frame.
Where a dataset may not be shown, the classes found stand for the image, boxes for the truth.
"""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING

import cv2
import numpy as np

from seg_uncertainty_ros.drawing import color_mask
from seg_uncertainty_ros.drawing import palette_lut
from seg_uncertainty_ros.evaluation.benchmark import GraphRunner
from seg_uncertainty_ros.evaluation.benchmark import upsampled
from seg_uncertainty_ros.evaluation.datasets import IGNORED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from seg_uncertainty_ros.bundle import ScoreInfo
    from seg_uncertainty_ros.evaluation.benchmark import FrameErrors
    from seg_uncertainty_ros.evaluation.benchmark import OutlierRow
    from seg_uncertainty_ros.evaluation.benchmark import OutlierTable
    from seg_uncertainty_ros.evaluation.datasets import Sample

FRAMES = 6
TILE_WIDTH = 400
BAR = 24
GAP = 4
OUTLIER = (255, 0, 255)
FALSE = (0, 200, 255)
"""BGR of true outliers, and of the outline of what the threshold takes for one."""


def worst_frames(row: OutlierRow, count: int = FRAMES) -> list[FrameErrors]:
    """Return the frames with the highest false-positive rates, the worst first."""
    rated = [frame for frame in row.frames if not isnan(frame.false_positive_rate)]
    return sorted(rated, key=lambda frame: -frame.false_positive_rate)[:count]


def contact_sheet(
    table: OutlierTable, row: OutlierRow, count: int = FRAMES, *, show_data: bool = True
) -> NDArray[np.uint8]:
    """Return uint8 HxWx3 BGR: a line for each of the worst frames of a score.

    ``show_data`` False: neither images nor label masks of the dataset.
    """
    run = table.run
    index = run.bundle.score_names.index(row.score)
    runner = GraphRunner(run.bundle, run.max_pixels)
    legend = _legend(row, show_data=show_data)
    strips = [_bar(f'{run.bundle.name}, {row.score}, {run.dataset.name}: {legend}')]
    for frame in worst_frames(row, count):
        sample = run.dataset[frame.index]
        outputs = runner.run(sample.image)
        raw = upsampled(outputs.scores[index], sample.labels.shape)
        tiles = _tiles(
            sample,
            raw,
            row.tpr95_threshold,
            run.bundle.scores[index],
            None if show_data else color_mask(outputs.labels, palette_lut(run.bundle.classes)),
        )
        gap = np.full((tiles[0].shape[0], GAP, 3), 255, np.uint8)
        strips += [_bar(_caption(frame)), np.hstack([tiles[0], gap, tiles[1], gap, tiles[2]])]
    return np.vstack(strips)


def _legend(row: OutlierRow, *, show_data: bool) -> str:
    first = 'Image' if show_data else 'Classes'
    truth = 'truth: magenta outlier, dark ignored' if show_data else 'magenta: box of an outlier'
    return (
        f'AP {row.pixels.average_precision.value:.3f}, FPR95 {row.pixels.fpr95.value:.3f}. '
        f'{first} | score on its fixed scale | {truth}; outlined: above the 95 % threshold'
    )


def _caption(frame: FrameErrors) -> str:
    found = frame.true_positive_rate
    what = 'no outlier on it' if isnan(found) else f'{100 * found:.0f} % of its outliers found'
    return f'image {frame.name}: {100 * frame.false_positive_rate:.1f} % false positives, {what}'


def _tiles(
    sample: Sample,
    raw: NDArray[np.float32],
    threshold: float,
    score: ScoreInfo,
    classes: NDArray[np.uint8] | None,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    rows, columns = sample.labels.shape
    size = TILE_WIDTH, round(TILE_WIDTH * rows / columns)
    image = cv2.resize(sample.image, size, interpolation=cv2.INTER_AREA)
    if classes is not None:
        image = cv2.resize(classes, size, interpolation=cv2.INTER_NEAREST)
    small = cv2.resize(raw, size, interpolation=cv2.INTER_LINEAR)
    scale = np.interp(small, score.knots, np.linspace(0.0, 1.0, len(score.knots)))
    heat = cv2.applyColorMap(np.rint(255 * scale).astype(np.uint8), cv2.COLORMAP_INFERNO)
    # Small objects keep a pixel: a share of a tile's pixel is enough.
    outlier, ignored = (
        cv2.resize((sample.labels == value).astype(np.float32), size, interpolation=cv2.INTER_AREA)
        for value in (1, IGNORED)
    )
    truth = image.copy()
    if classes is None:
        truth[ignored > 0.5] //= 4
        truth[outlier > 0.1] = OUTLIER
    else:
        truth //= 2
        _, _, boxes, _ = cv2.connectedComponentsWithStats((outlier > 0.1).astype(np.uint8))
        for x, y, width, height, _ in boxes[1:]:
            cv2.rectangle(truth, (x, y), (x + width, y + height), OUTLIER, 1)
    outlines, _ = cv2.findContours(
        (small >= threshold).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE
    )
    cv2.drawContours(truth, outlines, -1, FALSE, 1)
    return image, heat, truth


def _bar(text: str) -> NDArray[np.uint8]:
    bar = np.full((BAR, 3 * TILE_WIDTH + 2 * GAP, 3), 255, np.uint8)
    ascii_text = text.encode('ascii', 'replace').decode()  # all that OpenCV's fonts have
    place = (GAP, BAR - 8)
    cv2.putText(bar, ascii_text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    return bar
