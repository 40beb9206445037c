# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Judge frame after frame against a reference, in memory that does not grow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from typing import NamedTuple

import numpy as np

from seg_uncertainty_ros.shift.domain import fourier_features
from seg_uncertainty_ros.shift.image_statistics import ImageStatistics
from seg_uncertainty_ros.shift.indicators import BINS
from seg_uncertainty_ros.shift.indicators import DISTANCES
from seg_uncertainty_ros.shift.indicators import INDICATORS
from seg_uncertainty_ros.shift.indicators import WORDS
from seg_uncertainty_ros.shift.indicators import FrameIndicators
from seg_uncertainty_ros.shift.indicators import PlaneStatistics
from seg_uncertainty_ros.shift.indicators import plane_statistics
from seg_uncertainty_ros.shift.streaming import wasserstein
from seg_uncertainty_ros.shift.window import WindowMean

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from seg_uncertainty_ros.shift.domain import Domain
    from seg_uncertainty_ros.shift.indicators import FrameStatistics
    from seg_uncertainty_ros.shift.reference import ShiftReference


FULL = 0.75


class Window:
    """Means over the frames of the last seconds, None until these are full.

    Full: at least ``min_frames`` frames, and the seconds since the first frame, plus one mean
    period, reach three quarters of ``window_s``: at 1 Hz 2 s are full with two frames, at 10 Hz
    with 15.
    Begins anew after a gap longer than the window.
    """

    def __init__(self, window_s: float, min_frames: int) -> None:
        self._mean = WindowMean(window_s, min_frames=min_frames)
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._mean.reset()
        self._first_ns = self._last_ns = 0
        self._seen = 0

    def update(self, row: NDArray[np.floating] | None, stamp_ns: int) -> NDArray | None:
        """Add a row and return the mean of the window; a missing row only moves time."""
        if self._seen and not 0 <= stamp_ns - self._last_ns <= self._mean.window_ns:
            self.reset()
        mean = self._mean.update(row, stamp_ns)
        if row is not None:
            self._first_ns = self._first_ns if self._seen else stamp_ns
            self._last_ns = stamp_ns
            self._seen += 1
        if mean is None or self._seen < 2:
            return mean if self._seen else None
        covered = (self._last_ns - self._first_ns) * self._seen / (self._seen - 1)
        return mean if covered >= FULL * self._mean.window_ns else None


@dataclass(frozen=True, eq=False)
class ShiftAssessment:
    """What a frame and its window say of the domain.

    frame:  indicators of the frame alone.
    domain: name of the domain that the window, or else the frame, is nearest to; None without any
            embedding.
    values: (J,) in the order of INDICATORS, of the window; NaN where it is not full.
    ratios: (J,) >= 0, values over their in-distribution bound: 1.0 is the bound.
    scores: (J,) standardised values; the sign is the direction.
    centre: (J,) what is usual.
    shift:  all ratios combined, 1.0 is the in-distribution bound; None while nothing is full.
    cusum:  evidence summed over time, over its threshold: an alarm from 1.0 on; None where the
            reference has no threshold.
    """

    stamp_ns: int
    frame: FrameIndicators
    domain: str | None
    values: NDArray[np.float64]
    ratios: NDArray[np.float64]
    scores: NDArray[np.float64]
    centre: NDArray[np.float64]
    shift: float | None
    cusum: float | None

    def __getitem__(self, name: str) -> float | None:
        """Value of an indicator, None where its window is not full."""
        return _known(self.values[INDICATORS.index(name)])

    def ratio(self, name: str) -> float | None:
        """Value over bound of an indicator, None where its window is not full."""
        return _known(self.ratios[INDICATORS.index(name)])

    def explain(self, limit: int = 4, *, least: float = 2.0) -> list[str]:
        """Return what moved most and whereto, in words, of scores of at least ``least``.

        For an assessment whose ``shift`` says that something moved: each one indicator alone
        moves now and then. Distances come only where nothing else moved: they say that something
        did, not what.
        """
        size = np.nan_to_num(np.abs(self.scores))
        moved = [i for i in np.argsort(-size) if size[i] >= least]
        said = [i for i in moved if INDICATORS[i] not in DISTANCES] or moved
        return [self._say(i) for i in said[:limit]]

    def _say(self, index: int) -> str:
        name = INDICATORS[index]
        if name in WORDS:
            return WORDS[name][0 if self.scores[index] > 0 else 1]
        if name in DISTANCES:
            return f'{name.replace("_", " ")} {self.ratios[index]:.1f}x its bound'
        label = name.removeprefix('mean_').replace('_', ' ')
        return f'{label} {self.centre[index]:.2f} -> {self.values[index]:.2f}'


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


class ShiftEvaluator:
    """Takes one frame after the other; O(1) in time and memory but for the window's frames.

    A stamp that goes back starts anew. A gap longer than the window empties the windows; the
    evidence stays, but a gap adds none.
    """

    def __init__(self, reference: ShiftReference) -> None:
        self.reference = reference
        self._embeddings, self._planes, self._images = (
            Window(reference.window_s, reference.min_frames) for _ in range(3)
        )
        self._last_ns: int | None = None
        self._evidence = 0.0

    def reset(self) -> None:
        """Forget every frame and the evidence."""
        for window in (self._embeddings, self._planes, self._images):
            window.reset()
        self._last_ns = None
        self._evidence = 0.0

    def update(self, frame: FrameStatistics) -> ShiftAssessment:
        """Judge a frame and the window that it ends.

        Raises:
            ShiftReferenceError: the embedding or the classes have another size than the
                reference's.

        """
        self.reference.check(frame)
        stamp_ns = frame.stamp_ns
        if self._last_ns is not None and stamp_ns < self._last_ns:
            self.reset()
        elapsed_s = 0.0 if self._last_ns is None else (stamp_ns - self._last_ns) / 1e9
        self._last_ns = stamp_ns

        place, embedding = self._locate(frame)
        numbers = plane_statistics(frame.confidence, frame.anomaly)
        row = np.concatenate([frame.confidence, frame.anomaly, frame.classes, numbers])
        planes = self._planes.update(row, stamp_ns)
        image = self._images.update(frame.image, stamp_ns)

        nearest = place.domain
        values = np.full(len(INDICATORS), np.nan)
        if embedding is not None:
            nearest, values[_EMBEDDING] = self._window_distances(embedding)
        domain = self.reference.domains[nearest or 0]
        if planes is not None:
            values[_HISTOGRAMS], values[_NUMBERS] = _compare(planes, domain)
        if image is not None:
            values[_IMAGE] = image
        ratios = domain.ratios(values)
        shift = domain.combine(ratios)
        missing = (np.nan,) * len(ImageStatistics._fields)
        return ShiftAssessment(
            stamp_ns=stamp_ns,
            frame=FrameIndicators(*place.distances, *numbers, *(frame.image or missing)),
            domain=None if nearest is None else self.reference.names[nearest],
            values=values,
            ratios=ratios,
            scores=(values - domain.centre) / domain.spread,
            centre=domain.centre,
            shift=shift,
            cusum=self._accumulate(shift, elapsed_s),
        )

    def _locate(self, frame: FrameStatistics) -> tuple[_Place, NDArray[np.float64] | None]:
        """Return where the frame's embedding lies, and the mean row of the window."""
        if frame.embedding is None:
            return _Place(None, (np.nan, np.nan)), self._embeddings.update(None, frame.stamp_ns)
        row, places = [frame.embedding], []
        for domain in self.reference.domains:
            whitened, distance = domain.project(frame.embedding, self.reference.weight)
            distances = distance, domain.neighbours(whitened)
            features = fourier_features(whitened, domain.frequencies, domain.phases)
            row += [distances, whitened**2, features]
            places.append(distances)
        nearest = min(range(len(places)), key=lambda index: places[index][0])
        mean = self._embeddings.update(np.concatenate(row), frame.stamp_ns)
        return _Place(nearest, places[nearest]), mean

    def _window_distances(self, row: NDArray[np.float64]) -> tuple[int, list[float]]:
        """Return the domain nearest to the window's mean embedding, and the distances to it."""
        reference = self.reference
        embedding = row[: reference.size]
        projections = [domain.project(embedding, reference.weight) for domain in reference.domains]
        nearest = min(range(len(projections)), key=lambda index: projections[index][1])
        mean, distance = projections[nearest]
        start = reference.size + sum(
            2 + d.rank + d.phases.size for d in reference.domains[:nearest]
        )
        domain = reference.domains[nearest]
        distances = row[start : start + 2]
        start += 2
        squares = row[start : start + domain.rank]
        deviation = np.sqrt(np.maximum(squares - mean**2, 0.0))
        start += domain.rank
        features = row[start : start + domain.phases.size]
        return nearest, [
            distance,
            domain.frechet(mean, deviation),
            domain.mmd(features),
            *distances,
        ]

    def _accumulate(self, shift: float | None, elapsed_s: float) -> float | None:
        test = self.reference.test
        if test is None:
            return None
        if shift is not None:
            step_s = min(elapsed_s, self.reference.window_s)
            self._evidence = test.accumulate(self._evidence, shift, step_s)
        return self._evidence / test.threshold


class _Place(NamedTuple):
    """Nearest domain of a frame, and its distances to it: mahalanobis, neighbours."""

    domain: int | None
    distances: tuple[float, float]


def _compare(
    row: NDArray[np.float64], domain: Domain
) -> tuple[tuple[float, float, float], NDArray[np.float64]]:
    """Return distances of a window's mean histograms to the domain's, and the numbers."""
    confidence, anomaly, rest = row[:BINS], row[BINS : 2 * BINS], row[2 * BINS :]
    classes, numbers = rest[: domain.classes.size], rest[domain.classes.size :]
    distances = (
        wasserstein(confidence, domain.confidence),
        wasserstein(anomaly, domain.anomaly),
        0.5 * float(np.abs(classes - domain.classes).sum()),
    )
    return distances, numbers


def _places(*names: str) -> list[int]:
    return [INDICATORS.index(name) for name in names]


_EMBEDDING = _places('embedding', 'frechet', 'mmd', 'mahalanobis', 'neighbours')
_HISTOGRAMS = _places('confidence_distance', 'anomaly_distance', 'class_distance')
_NUMBERS = _places(*PlaneStatistics._fields)
_IMAGE = _places(*ImageStatistics._fields)
