# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What is measured of one frame, and the names, order and words of all indicators."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import fields
from typing import TYPE_CHECKING
from typing import NamedTuple

import cv2
import numpy as np

from seg_uncertainty_ros.errors import SegUncertaintyError
from seg_uncertainty_ros.shift.image_statistics import ImageStatistics
from seg_uncertainty_ros.shift.image_statistics import image_statistics

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from numpy.typing import NDArray

BINS = 64
MAX_SIDE = 160
"""Planes are sampled to at most this many rows and columns."""
UNLABELLED = 255


class IndicatorError(SegUncertaintyError):
    """Planes or an embedding that nothing can be measured of; names plane and shape."""


@dataclass(frozen=True, eq=False)
class FrameStatistics:
    """What a frame is judged by, before any reference.

    stamp_ns:   ns, on the clock of the drive.
    embedding:  float32 (D,), or None; one that is not finite counts as missing.
    confidence: (BINS,) shares of pixels by confidence, over 0..1.
    anomaly:    (BINS,) the same of the anomaly.
    classes:    (C,) shares of the labelled pixels; zeros where there are none.
    image:      of the network's input, or None.
    """

    stamp_ns: int
    embedding: NDArray[np.float32] | None
    confidence: NDArray[np.float32]
    anomaly: NDArray[np.float32]
    classes: NDArray[np.float32]
    image: ImageStatistics | None

    def __post_init__(self) -> None:
        """Take an embedding that is not finite for missing."""
        if self.embedding is not None and not np.isfinite(self.embedding).all():
            object.__setattr__(self, 'embedding', None)


class PlaneStatistics(NamedTuple):
    """Numbers out of the histograms of a frame or the mean histograms of a window, all 0..1.

    entropy: mean binary entropy (bits) of confidence and its rest, which the entropy of the
        softmax never falls below.
    """

    mean_confidence: float
    low_confidence: float
    entropy: float
    mean_anomaly: float
    high_anomaly: float


@dataclass(frozen=True)
class FrameIndicators:
    """Indicators of one frame against a reference, in this order; NaN where one is missing.

    mahalanobis: distance of the embedding, in standard deviations of the nearest domain.
    neighbours:  distance to the nearest rows of the reference, whitened.
    low_confidence: mean of the least confident twentieth of the pixels; ``high_anomaly`` likewise.

    For the rest see ``PlaneStatistics`` and ``ImageStatistics``.
    """

    mahalanobis: float
    neighbours: float
    mean_confidence: float
    low_confidence: float
    entropy: float
    mean_anomaly: float
    high_anomaly: float
    brightness: float
    contrast: float
    sharpness: float
    noise: float
    saturation: float
    warmth: float
    underexposed: float
    overexposed: float


FRAME_INDICATORS = tuple(field.name for field in fields(FrameIndicators))
WINDOW_DISTANCES = (
    'embedding',
    'frechet',
    'mmd',
    'confidence_distance',
    'anomaly_distance',
    'class_distance',
)
"""Distances of a window to the domain that it is nearest to."""
INDICATORS = (*WINDOW_DISTANCES, *FRAME_INDICATORS)
"""Indicators of a window: its distances, and the means of its frames' indicators."""
DISTANCES = (*WINDOW_DISTANCES, 'mahalanobis', 'neighbours')
"""Indicators that only grow when something moves; the others move up or down."""
GROUPS = {
    'embedding': ('embedding',),
    'outputs': (
        'confidence_distance',
        'class_distance',
        'mean_confidence',
        'low_confidence',
        'entropy',
    ),
    'image': ImageStatistics._fields,
}
WEIGHTS = {'embedding': 2.0, 'outputs': 1.0, 'image': 1.0}
"""Groups of indicators, and what they weigh in the combined one.

The mean embedding of a window tells domains apart the best by far; the other distances of the
embedding say the same with more scatter and are left out. Outputs and image see what the network
is blind to. The anomaly has no say: it is the other warning's, and an unknown object must not look
like an unfamiliar domain.
"""

ANOMALY = ('anomaly_distance', 'mean_anomaly', 'high_anomaly')
LEAST = dict.fromkeys((*GROUPS['outputs'], *ANOMALY, *GROUPS['image']), 0.02) | {'noise': 0.001}
"""What no person would call a change, however even the drives behind a bound were."""

WORDS = {
    'brightness': ('brighter', 'darker'),
    'contrast': ('more contrast', 'less contrast'),
    'sharpness': ('sharper', 'blurrier'),
    'noise': ('noisier', 'smoother'),
    'saturation': ('more colourful', 'paler'),
    'warmth': ('redder', 'bluer'),
    'underexposed': ('more black', 'less black'),
    'overexposed': ('more blinded', 'less white'),
}
"""What to say of an image whose indicator lies above or below the reference's."""

# Bins hold 256 / BINS grey levels each; the mean of these over 255.
_LEVELS = (np.arange(256) / 255).reshape(BINS, -1).mean(axis=1)
_ENTROPY = -(_LEVELS * np.log2(_LEVELS) + (1 - _LEVELS) * np.log2(1 - _LEVELS))
TAIL = 0.05


def frame_statistics(
    stamp_ns: int,
    mask: NDArray[np.uint8],
    confidence: NDArray[np.uint8],
    anomaly: NDArray[np.uint8],
    embedding: ArrayLike | None,
    image: NDArray[np.uint8] | None = None,
    *,
    classes: int,
) -> FrameStatistics:
    """Measure a frame.

    Args:
        stamp_ns: stamp of the frame (ns).
        mask: uint8 HxW of class ids; those from ``classes`` on count as unlabelled.
        confidence: uint8 HxW, 0..255 for 0..1.
        anomaly: likewise.
        embedding: (D,), or None.
        image: uint8 HxWx3 BGR as the network takes it, or None.
        classes: number of classes.

    Raises:
        IndicatorError: a plane is not uint8 HxW with pixels, or the embedding not (D,).
        ImageError: an image without statistics.

    """
    for name, plane in (('mask', mask), ('confidence', confidence), ('anomaly', anomaly)):
        if getattr(plane, 'dtype', None) != np.uint8 or plane.ndim != 2 or not plane.size:
            kind = getattr(plane, 'dtype', type(plane).__name__)
            msg = f'{name}: {kind} {np.shape(plane)}, expected uint8 (height, width)'
            raise IndicatorError(msg)
    vector = None if embedding is None else np.asarray(embedding, np.float32)
    if vector is not None and (vector.ndim != 1 or not vector.size):
        msg = f'embedding: shape {vector.shape}, expected (D,)'
        raise IndicatorError(msg)
    return FrameStatistics(
        stamp_ns=stamp_ns,
        embedding=vector,
        confidence=_shares(_histogram(confidence, BINS)),
        anomaly=_shares(_histogram(anomaly, BINS)),
        classes=_shares(_histogram(mask, 256)[:classes]),
        image=None if image is None else image_statistics(image),
    )


def plane_statistics(
    confidence: NDArray[np.floating], anomaly: NDArray[np.floating]
) -> PlaneStatistics:
    """Return the numbers out of two histograms (BINS,) that sum to 1."""
    return PlaneStatistics(
        mean_confidence=float(confidence @ _LEVELS),
        low_confidence=_tail_mean(confidence),
        entropy=float(confidence @ _ENTROPY),
        mean_anomaly=float(anomaly @ _LEVELS),
        high_anomaly=1.0 - _tail_mean(anomaly[::-1]),
    )


def _tail_mean(shares: NDArray[np.floating]) -> float:
    """Mean of the lowest TAIL of what a histogram counts; smooth, where a quantile jumps."""
    taken = np.minimum(np.cumsum(shares, dtype=np.float64), TAIL)
    # Summed by parts: levels are evenly spaced, and all of the tail lies below the last one.
    return float(_LEVELS[-1] - (_LEVELS[1] - _LEVELS[0]) * taken[:-1].sum() / TAIL)


def _histogram(plane: NDArray[np.uint8], bins: int) -> NDArray[np.float32]:
    size = tuple(min(side, MAX_SIDE) for side in plane.shape[::-1])
    if size != plane.shape[::-1]:
        plane = cv2.resize(plane, size, interpolation=cv2.INTER_NEAREST)
    return cv2.calcHist([plane], [0], None, [bins], [0, 256]).ravel()


def _shares(counts: NDArray[np.float32]) -> NDArray[np.float32]:
    return counts / max(float(counts.sum()), 1.0)
