# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What in-distribution frames of one domain look like, and how far others lie from that."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

from seg_uncertainty_ros.shift.gaussian import fit_gaussian
from seg_uncertainty_ros.shift.indicators import DISTANCES
from seg_uncertainty_ros.shift.indicators import GROUPS
from seg_uncertainty_ros.shift.indicators import INDICATORS
from seg_uncertainty_ros.shift.indicators import WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from seg_uncertainty_ros.shift.indicators import FrameStatistics

COMPONENTS = 32
FEATURES = 128
MAX_ROWS = 256
NEIGHBOURS = 3
MAX_FRAMES = 20_000
"""Frames whose embeddings one Gaussian is fitted to; of more, as many are taken evenly."""
SEED = 0

_DISTANCE = np.array([name in DISTANCES for name in INDICATORS])
_WEIGHTS = np.zeros(len(INDICATORS))
for _group, _names in GROUPS.items():
    _WEIGHTS[[INDICATORS.index(name) for name in _names]] = WEIGHTS[_group] / len(_names)


@dataclass(frozen=True, eq=False)
class Domain:
    """In-distribution statistics of one domain; D, k: dimensions and principal directions.

    mean:       (D,), of the embedding.
    basis:      (D, k), principal directions of the standardised embedding.
    variances:  (k,), along these, shrunk; ``residual`` (): of every other direction.
    rows:       (R, k), float16, whitened embeddings of R frames that cover the domain.
    frequencies: (k, m), phases (m,): random Fourier features of a Gaussian kernel, as long as the
                median distance of two rows; ``features`` (m,): their mean.
    confidence, anomaly: (BINS,), shares of pixels.
    classes:    (C,), shares of pixels.
    centre:     (J,), mean of each window indicator on held-out drives.
    spread:     (J,), its standard deviation there.
    bound:      (J,), what is rarely exceeded there: by distances; by the magnitude of its
                difference to ``centre`` for the rest.
    level:      (), the same of all values over bounds combined.
    """

    mean: NDArray[np.float32]
    basis: NDArray[np.float32]
    variances: NDArray[np.float32]
    residual: NDArray[np.float32]
    rows: NDArray[np.float16]
    frequencies: NDArray[np.float32]
    phases: NDArray[np.float32]
    features: NDArray[np.float32]
    confidence: NDArray[np.float32]
    anomaly: NDArray[np.float32]
    classes: NDArray[np.float32]
    centre: NDArray[np.float32]
    spread: NDArray[np.float32]
    bound: NDArray[np.float32]
    level: NDArray[np.float32]

    @classmethod
    def fit(
        cls,
        drives: Sequence[Sequence[FrameStatistics]],
        weight: NDArray[np.floating],
        *,
        window: int,
    ) -> Domain:
        """Fit to drives; the bounds are set to 1, for they need other drives.

        Args:
            drives: frames in order of time, each with an embedding (D,).
            weight: (D,), 1 / scale of each dimension.
            window: frames that show one place, for the shrinkage.

        """
        frames = [frame for drive in drives for frame in drive]
        usable = [frame for frame in frames if frame.embedding is not None]
        chosen = np.linspace(0, len(usable) - 1, min(len(usable), MAX_FRAMES)).astype(int)
        rows = np.stack([usable[index].embedding for index in chosen]) * weight
        gaussian = fit_gaussian(rows, COMPONENTS, window)
        whitened = (rows - gaussian.mean) @ gaussian.basis / np.sqrt(gaussian.variances)
        kept = whitened[cover(whitened, MAX_ROWS)]
        pairs = np.linalg.norm(kept[:, None] - kept[None], axis=2)[np.triu_indices(len(kept), 1)]
        length = np.float32(np.median(pairs) if pairs.size else 1.0)
        rng = np.random.default_rng(SEED)
        frequencies = rng.standard_normal((kept.shape[1], FEATURES)).astype(np.float32) / length
        phases = rng.uniform(0, 2 * np.pi, FEATURES).astype(np.float32)
        planes = {
            name: np.mean([getattr(frame, name) for frame in frames], axis=0)
            for name in ('confidence', 'anomaly', 'classes')
        }
        unscale = np.divide(1.0, weight, out=np.zeros(len(weight)), where=weight > 0)
        size = len(INDICATORS)
        return cls(
            mean=(gaussian.mean * unscale).astype(np.float32),
            basis=gaussian.basis.astype(np.float32),
            variances=gaussian.variances.astype(np.float32),
            residual=np.float32(gaussian.residual),
            rows=kept.astype(np.float16),
            frequencies=frequencies,
            phases=phases,
            features=fourier_features(whitened, frequencies, phases).mean(axis=0),
            **{name: plane.astype(np.float32) for name, plane in planes.items()},
            centre=np.zeros(size, np.float32),
            spread=np.ones(size, np.float32),
            bound=np.ones(size, np.float32),
            level=np.float32(1.0),
        )

    @property
    def rank(self) -> int:
        """Number k of principal directions."""
        return int(self.variances.size)

    def ratios(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return values (..., J) over their bounds; NaN stays.

        As the book's Q_EMD = EMD(D_val, D_dom) / EMD(D_val0, D_val1), which says that the domain
        shifted where it is > 1, with a high quantile over held-out windows instead of one split.
        """
        return np.where(_DISTANCE, values, np.abs(values - self.centre)) / self.bound

    def combine(self, ratios: NDArray[np.floating]) -> float | None:
        """Return all ratios (J,) as one, 1.0 being its bound; None where none is known.

        A weighted quadratic mean; an indicator without a number has no say.
        """
        weights = np.where(np.isnan(ratios), 0.0, _WEIGHTS)
        total = float(weights.sum())
        squares = np.where(weights > 0, ratios, 0.0) ** 2
        return sqrt(float(weights @ squares) / total) / float(self.level) if total else None

    def project(
        self, embedding: NDArray[np.floating], weight: NDArray[np.floating]
    ) -> tuple[NDArray[np.float32], float]:
        """Return whitened coordinates (k,) and the Mahalanobis distance of (D,)."""
        centred = np.asarray((embedding - self.mean) * weight, np.float32)
        along = centred @ self.basis
        whitened = along / self._deviations
        rest = max(float(centred @ centred) - float(along @ along), 0.0)
        squared = float(whitened @ whitened) + rest / float(self.residual)
        return whitened, sqrt(squared)

    def neighbours(self, whitened: NDArray[np.floating]) -> float:
        """Distance of whitened coordinates (k,) to the NEIGHBOURS-th nearest row.

        Sun et al., Out-of-distribution detection with deep nearest neighbors, ICML 2022.
        """
        rows, squares = self._rows
        distances = squares - 2 * (rows @ whitened.astype(np.float32))
        rank = min(NEIGHBOURS, len(distances)) - 1
        nearest = float(np.partition(distances, rank)[rank])
        return sqrt(max(nearest + float(whitened @ whitened), 0.0))

    @cached_property
    def _deviations(self) -> NDArray[np.float32]:
        return np.sqrt(self.variances)

    @cached_property
    def _rows(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Rows as float32, and their squared lengths."""
        rows = self.rows.astype(np.float32)
        return rows, (rows**2).sum(axis=1)

    @staticmethod
    def frechet(mean: NDArray[np.floating], deviation: NDArray[np.floating]) -> float:
        """Fréchet distance of a window's Gaussian to the domain's, both diagonal.

        Dowson and Landau, 1982, the root of the FID (Heusel et al., 2017): |m|^2 + |s - 1|^2 in
        whitened coordinates, in which the domain is N(0, I). A short window moves less than the
        domain; the bound, from windows as short, allows for that.
        """
        return float(np.sqrt((mean**2).sum() + ((deviation - 1) ** 2).sum()))

    def mmd(self, features: NDArray[np.floating]) -> float:
        """Maximum mean discrepancy to the domain from the mean features (m,) of a window.

        Gretton et al., A kernel two-sample test, JMLR 2012; biased estimate, Gaussian kernel.
        """
        return float(np.linalg.norm(features - self.features))


def fourier_features(
    whitened: NDArray[np.floating],
    frequencies: NDArray[np.float32],
    phases: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return random Fourier features (..., m) of (..., k).

    Rahimi and Recht, Random features for large-scale kernel machines, NeurIPS 2007: the product
    of two of them is about exp(-|x - y|^2 / (2 length^2)).
    """
    scale = np.float32(np.sqrt(2 / phases.size))
    return scale * np.cos(whitened.astype(np.float32) @ frequencies + phases)


def cover(rows: NDArray[np.floating], count: int) -> NDArray[np.int_]:
    """Return indices of ``count`` rows that leave none far away (k-centre, Gonzalez, 1985)."""
    if len(rows) <= count:
        return np.arange(len(rows))
    chosen = [int(np.argmin((rows**2).sum(axis=1)))]
    nearest = np.full(len(rows), np.inf)
    while len(chosen) < count:
        nearest = np.minimum(nearest, ((rows - rows[chosen[-1]]) ** 2).sum(axis=1))
        chosen.append(int(nearest.argmax()))
    return np.array(chosen)
