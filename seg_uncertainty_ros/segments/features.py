# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What is known of a segment: size, shape, place, dispersion, classes inside and around.

After MetaSeg (Rottmann et al., Prediction error meta classification in semantic segmentation,
2020), for segments of the anomaly plane as in Chan et al. (Entropy maximization and meta
classification for out-of-distribution detection, 2021), with gradient norms as in Maag and
Riedlinger (2023).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from seg_uncertainty_ros.segments.meta import MetaModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from seg_uncertainty_ros.classes import ClassInfo
    from seg_uncertainty_ros.segments.components import Components
    from seg_uncertainty_ros.segments.meta import MetaModel

DISPERSION = ('entropy', 'margin', 'pgn_onehot')
"""Scores of the graph that the features are made from unless a model names others."""

GEOMETRY = (
    'log_area',
    'log_width',
    'log_height',
    'fill',
    'boundary_share',
    'off_centre',
    'top',
    'bottom',
)
PARTS = ('', '_interior', '_boundary')
RING = 2
"""Width of the ring around a segment, pixels."""


def feature_names(scores: Sequence[str], classes: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the columns of ``measure``."""
    moments = (
        f'{plane}{part}_{moment}'
        for moment in ('mean', 'std')
        for part in PARTS
        for plane in ('anomaly', *scores)
    )
    shares = (f'{where}_{name}' for where in ('inside', 'ring') for name in classes)
    return (*GEOMETRY, *moments, 'class_share', *shares)


def columns(model: MetaModel, classes: Sequence[ClassInfo]) -> NDArray[np.intp]:
    """Return where a model's features stand among the columns of ``measure``.

    Raises ``MetaModelError`` where the classes do not give such a feature.
    """
    names = feature_names(model.scores, [info.name for info in classes])
    if unknown := set(model.features) - set(names):
        msg = f'features: {min(unknown)!r} is none of the scores {model.scores} and the classes'
        raise MetaModelError(msg)
    return np.array([names.index(name) for name in model.features], np.intp)


def measure(
    components: Components,
    anomaly: NDArray[np.uint8],
    dispersion: NDArray[np.float32],
    mask: NDArray[np.uint8],
    classes: int,
) -> NDArray[np.float64]:
    """Return the features of every segment, (N, F).

    anomaly: uint8 (h, w), 0-255 = 0-1; dispersion: float32 (h, w, K), raw scores; mask: uint8
    (h, w), ids below ``classes`` or 255. Lengths are fractions of the plane's. Where a segment
    has no interior, or no boundary, the moments of that part are those of the segment.
    """
    pixels = np.flatnonzero(components.labels)
    segment = components.labels.ravel()[pixels].astype(np.intp) - 1
    on_boundary = components.boundary().ravel()[pixels].astype(np.intp)
    scores = dispersion.reshape(-1, dispersion.shape[2])[pixels]
    values = np.empty((1 + scores.shape[1], len(pixels)))
    values[0] = anomaly.ravel()[pixels] * (1 / 255)
    values[1:] = scores.T
    ring = components.ring(RING).ravel()
    around = np.flatnonzero(ring)
    inside = _shares(segment, mask.ravel()[pixels], len(components), classes)
    outside = _shares(
        ring[around].astype(np.intp) - 1, mask.ravel()[around], len(components), classes
    )
    count = np.bincount(2 * segment + on_boundary, minlength=2 * len(components)).reshape(-1, 2)
    return np.column_stack(
        (
            _geometry(components, count[:, 1]),
            _moments(values, 2 * segment + on_boundary, count),
            inside.max(axis=1, initial=0.0),
            inside,
            outside,
        )
    )


def _geometry(components: Components, boundary: NDArray[np.int64]) -> NDArray[np.float64]:
    height, width = components.labels.shape
    left, top, columns, rows = components.boxes.T.astype(np.float64)
    return np.column_stack(
        (
            np.log(components.area / (height * width)),
            np.log(columns / width),
            np.log(rows / height),
            components.area / (columns * rows),
            boundary / components.area,
            np.abs(2 * left + columns - width) / width,
            top / height,
            (top + rows) / height,
        )
    )


def _moments(
    values: NDArray[np.float64], part: NDArray[np.intp], count: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return means, then standard deviations, of whole, interior and boundary: (N, 2 * 3 * P).

    values: (P, n); part: (n,), twice the segment, plus 1 on its boundary; count: (N, 2) pixels.
    """
    total = count.sum(axis=1)
    mean = _sums(values, part // 2, len(count)) / total
    # About the mean of the segment: squares of large values would cancel.
    centred = values - mean[:, part // 2]
    both = np.concatenate((centred, centred * centred))
    by_part = _sums(both, part, count.size).reshape(len(both), *count.shape)
    whole = by_part.sum(axis=2, keepdims=True)
    missing, pixels = count == 0, total[:, None]
    moments = np.where(missing, whole, by_part) / np.where(missing, pixels, count)
    parts = ((whole / pixels)[..., 0], moments[..., 0], moments[..., 1])
    planes = len(values)
    means = [mean + part[:planes] for part in parts]
    variances = [part[planes:] - part[:planes] ** 2 for part in parts]
    deviations = [np.sqrt(np.maximum(variance, 0.0)) for variance in variances]
    return np.concatenate((*means, *deviations)).T


def _sums(
    values: NDArray[np.float64], group: NDArray[np.intp], groups: int
) -> NDArray[np.float64]:
    """Return the sum of each group's columns of (P, n): (P, groups)."""
    return np.stack([np.bincount(group, row, minlength=groups) for row in values])


def _shares(
    segment: NDArray[np.intp], ids: NDArray[np.uint8], segments: int, classes: int
) -> NDArray[np.float64]:
    """Return the share of each class among the pixels of each segment, (N, classes)."""
    known = ids < classes
    cells = segment[known] * classes + ids[known]
    table = np.bincount(cells, minlength=segments * classes).reshape(segments, classes)
    total = np.bincount(segment, minlength=segments)[:, None]
    return table / np.maximum(total, 1)
