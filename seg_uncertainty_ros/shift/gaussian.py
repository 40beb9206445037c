# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A Gaussian of embeddings, of few frames in many dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import NamedTuple

import numpy as np

from seg_uncertainty_ros.errors import SegUncertaintyError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class GaussianError(SegUncertaintyError):
    """Embeddings that no Gaussian can be fitted to."""


class Gaussian(NamedTuple):
    """A Gaussian in standardised coordinates: ``variances`` along ``basis``, else ``residual``.

    mean (D,); basis (D, k), orthonormal principal directions; variances (k,), shrunk; residual:
    variance of every other direction (probabilistic PCA, Tipping and Bishop, 1999, eq. (8)).
    """

    mean: NDArray[np.float64]
    basis: NDArray[np.float64]
    variances: NDArray[np.float64]
    residual: float


def scale_weight(domains: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return 1 / scale (D,) from the deviations inside the domains.

    The scale is 1.4826 MAD, and at least a quarter of the standard deviation, so that neither a
    few odd frames nor a channel that is nearly always 0 decides. A dimension that moves less than
    float32 resolves gets weight 0: it says nothing and must not blow up.
    """
    rows = np.concatenate([rows - np.median(rows, axis=0) for rows in domains])
    largest = np.max([np.abs(rows).max(axis=0) for rows in domains], axis=0)
    scale = np.maximum(1.4826 * np.median(np.abs(rows), axis=0), 0.25 * rows.std(axis=0))
    lives = scale > 1e-6 * largest
    if not lives.any():
        msg = 'embedding: every dimension is constant, expected some that change'
        raise GaussianError(msg)
    return np.divide(1.0, scale, out=np.zeros_like(scale), where=lives)


def fit_gaussian(rows: NDArray[np.float64], components: int, window: int) -> Gaussian:
    """Fit mean and shrunk covariance to standardised rows (n, D).

    Ledoit and Wolf (2004): S* = (1 - a) S + a mu I. The frames of one window show one place, so
    they count as one sample in the estimate of the shrinkage a.
    """
    count, size = rows.shape
    mean = rows.mean(axis=0)
    centred = rows - mean
    covariance = centred.T @ centred / count
    average = np.trace(covariance) / size
    error = ((centred**2).sum(axis=1) ** 2).sum() / count**2 - (covariance**2).sum() / count
    spread = (covariance**2).sum() - size * average**2
    shrinkage = min(1.0, window * error / spread) if spread > 0 else 1.0
    values, vectors = np.linalg.eigh(covariance)
    kept = min(components, count - 1, size - 1)
    shrunk = (1 - shrinkage) * np.maximum(values[::-1], 0.0) + shrinkage * average
    # A direction without any variance in few frames must not decide alone.
    shrunk = np.maximum(shrunk, 1e-3 * average + 1e-12)
    return Gaussian(mean, vectors[:, ::-1][:, :kept], shrunk[:kept], float(shrunk[kept:].mean()))
