# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The ratio of earth mover's distances by which two sets of scores are told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from seg_uncertainty_ros.errors import SegUncertaintyError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from numpy.typing import NDArray


class ScoresError(SegUncertaintyError):
    """Scores that cannot be compared; names the set."""


def q_emd(val0: ArrayLike, val1: ArrayLike, domain: ArrayLike) -> float:
    """Return Q_EMD = EMD(D_val, D_domain) / EMD(D_val0, D_val1).

    By how much the scores of a domain differ from those of known drives, in units of how much
    known drives differ from each other; a shift is what lies above 1 (Deep Neural Networks and
    Data for Automated Driving, Springer 2022, chapter on latent spaces of variational
    autoencoders, eqs. (9), (14); D_val is both parts). It does not say whether scores rose or
    fell. The book's histograms are left out, for it does not say how fine they are and a far
    outlier would put all known scores into one bin. The unit of the scores cancels.

    Args:
        val0: (n,) scores of held-out known drives.
        val1: (m,) scores of others.
        domain: (k,) scores of what is asked about.

    Raises:
        ScoresError: a set is empty, not one-dimensional or not finite, or both parts of the
            known ones are the same, so that there is no unit.

    """
    first = _checked('val0', val0)
    second = _checked('val1', val1)
    other = _checked('domain', domain)
    unit = emd(first, second)
    if not unit > 0:
        msg = 'val0, val1: the same scores, expected parts that differ'
        raise ScoresError(msg)
    return emd(np.concatenate([first, second]), other) / unit


def emd(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return the earth mover's distance of two sets of scores (n,), (m,), in their unit.

    The area between the cumulative distributions (Ramdas et al., On Wasserstein two-sample testing
    and related families of nonparametric tests, Entropy 2017).
    """
    scores = np.sort(np.concatenate([first, second]))
    below = (
        np.searchsorted(np.sort(s), scores[:-1], side='right') / s.size for s in (first, second)
    )
    return float(np.abs(np.subtract(*below)) @ np.diff(scores))


def _checked(name: str, scores: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(scores, np.float64)
    if array.ndim != 1 or not array.size:
        msg = f'{name}: shape {array.shape}, expected (n,), n > 0'
        raise ScoresError(msg)
    if not np.isfinite(array).all():
        msg = f'{name}: {array[~np.isfinite(array)][0]}, expected finite scores'
        raise ScoresError(msg)
    return array
