# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The ratio of earth mover's distances by which two sets of scores are told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from seg_uncertainty_ros.errors import SegUncertaintyError
from seg_uncertainty_ros.shift.streaming import wasserstein

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from numpy.typing import NDArray

BINS = 1024


class ScoresError(SegUncertaintyError):
    """Scores that cannot be compared; names the set."""


def q_emd(val0: ArrayLike, val1: ArrayLike, domain: ArrayLike) -> float:
    """Return Q_EMD = EMD(D_val, D_domain) / EMD(D_val0, D_val1).

    By how much the scores of a domain differ from those of known drives, in units of how much
    known drives differ from each other; a shift is what lies above 1 (Deep Neural Networks and
    Data for Automated Driving, Springer 2022, chapter on latent spaces of variational
    autoencoders, eqs. (9), (14); D_val is both parts). It does not say whether scores rose or
    fell. Histograms share one axis, so the unit of the scores cancels.

    Args:
        val0: (n,) scores of held-out known drives.
        val1: (m,) scores of others.
        domain: (k,) scores of what is asked about.

    Raises:
        ScoresError: a set is empty, not one-dimensional or not finite, or both parts of the
            known ones are the same, so that there is no unit.

    """
    sets = [_checked(*named) for named in zip(_NAMES, (val0, val1, domain), strict=True)]
    lower, upper = min(map(np.min, sets)), max(map(np.max, sets))
    first, second, other = (np.histogram(s, BINS, (lower, upper))[0] for s in sets)
    unit = float(wasserstein(first, second))
    if not unit > 0:
        msg = 'val0, val1: the same scores, expected parts that differ'
        raise ScoresError(msg)
    return float(wasserstein(first + second, other)) / unit


_NAMES = ('val0', 'val1', 'domain')


def _checked(name: str, scores: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(scores, np.float64)
    if array.ndim != 1 or not array.size:
        msg = f'{name}: shape {array.shape}, expected (n,), n > 0'
        raise ScoresError(msg)
    if not np.isfinite(array).all():
        msg = f'{name}: {array[~np.isfinite(array)][0]}, expected finite scores'
        raise ScoresError(msg)
    return array
