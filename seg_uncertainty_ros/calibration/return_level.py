# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The level that a series exceeds once in H hours, from far fewer hours of it.

Peaks over a threshold (Coles, An introduction to statistical modeling of extreme values, 2001,
chapter 4) with an exponential tail. Peaks are maxima of blocks that are about independent.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from seg_uncertainty_ros.errors import SegUncertaintyError
from seg_uncertainty_ros.shift.sequential import MIN_BLOCKS
from seg_uncertainty_ros.shift.sequential import RULE_OF_THREE
from seg_uncertainty_ros.shift.sequential import correlation_steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

STEP_S = 1.0
MIN_BLOCK_S = 2.0
MIN_PEAKS, MAX_PEAKS = 5, 50
"""Of the tail; more where the data bear out the period."""
RESAMPLES = 200


class ReturnLevelError(SegUncertaintyError):
    """Too little of a series; says how much is needed."""


@dataclass(frozen=True, eq=False)
class Series:
    """Values (n,) at stamps (n,) in seconds, rising; NaN where there is no value."""

    seconds: NDArray[np.float64]
    values: NDArray[np.float64]

    def pieces(self, jump_s: float) -> list[Series]:
        """Return the parts between jumps of time: back, or on by more than ``jump_s``."""
        return [
            Series(self.seconds[part], self.values[part]) for part in pieces(self.seconds, jump_s)
        ]


@dataclass(frozen=True)
class ReturnLevel:
    """What is exceeded once in ``period_h`` hours.

    level: with the 90 % interval ``low``..``high`` of blocks drawn anew.
    hours: of data; ``blocks``: of ``block_s`` seconds, about independent of each other; ``peaks``:
        of them behind the tail.
    """

    level: float
    low: float
    high: float
    period_h: float
    hours: float
    block_s: float
    blocks: int
    peaks: int

    @property
    def extrapolated(self) -> bool:
        """Whether the level goes beyond what the data show."""
        return self.hours < RULE_OF_THREE * self.period_h

    def __str__(self) -> str:
        """Say data, interval, and whether they bear out what is wanted."""
        text = (
            f'exceeded once in {self.period_h:g} h (90 % interval {self.low:.3g} to '
            f'{self.high:.3g}), from {self.hours:.3g} h in {self.blocks} blocks of '
            f'{self.block_s:.3g} s'
        )
        if self.extrapolated:
            needed = RULE_OF_THREE * self.period_h
            text += f'; extrapolated by an exponential tail, {needed:g} h would bear it out'
        return text


def pieces(seconds: NDArray[np.float64], jump_s: float) -> list[slice]:
    """Return the parts of stamps (n,) between jumps of time."""
    gaps = np.diff(seconds)
    cuts = [0, *(np.flatnonzero((gaps < 0) | (gaps > jump_s)) + 1), len(seconds)]
    return [slice(int(a), int(b)) for a, b in pairwise(cuts)]


def return_level(
    drives: Sequence[Series], *, period_h: float, hold_s: float = 0.0, seed: int = 0
) -> ReturnLevel:
    """Return the level that lasting for ``hold_s`` is exceeded once in ``period_h``.

    Raises:
        ReturnLevelError: no value, or too few independent blocks.

    """
    lasting = [
        Series(drive.seconds, last(drive, hold_s)) for drive in drives if len(drive.seconds)
    ]
    steps = [values for drive in lasting if (values := maxima(drive, STEP_S)).size]
    if not steps:
        msg = f'no value lasts {hold_s:g} s'
        raise ReturnLevelError(msg)
    # Each about its own mean: that drives differ is no correlation within them.
    correlated_s = STEP_S * correlation_steps([values - values.mean() for values in steps])
    block_s = max(correlated_s, MIN_BLOCK_S, 2 * hold_s)
    hours = sum(map(len, steps)) * STEP_S / 3600
    highest = np.concatenate([maxima(drive, block_s) for drive in lasting])
    if (blocks := int(hours * 3600 / block_s)) < MIN_BLOCKS:
        msg = (
            f'{blocks} independent blocks of {block_s:.3g} s in {3600 * hours:.3g} s, expected at '
            f'least {MIN_BLOCKS}: {MIN_BLOCKS * block_s:.3g} s or more'
        )
        raise ReturnLevelError(msg)
    rng = np.random.default_rng(seed)
    drawn = rng.choice(highest, (RESAMPLES, len(highest)))
    levels = [_level(row, period_h, hours) for row in drawn]
    low, high = np.quantile(levels, (0.05, 0.95))
    level = _level(highest, period_h, hours)
    return ReturnLevel(
        level=level,
        low=float(min(low, level)),
        high=float(max(high, level)),
        period_h=period_h,
        hours=hours,
        block_s=block_s,
        blocks=blocks,
        peaks=_peaks(len(highest), period_h, hours),
    )


def last(series: Series, hold_s: float) -> NDArray[np.float64]:
    """Return (n,) what a series did not fall below for ``hold_s`` up to each stamp.

    NaN before that time has passed, and where a value is missing on the way: just what
    ``monitor.hysteresis`` takes for lasting.
    """
    begin = np.searchsorted(series.seconds, series.seconds - hold_s + 1e-9, side='right') - 1
    return np.array(
        [
            series.values[first : index + 1].min() if first >= 0 else np.nan
            for index, first in enumerate(begin)
        ]
    )


def maxima(series: Series, block_s: float) -> NDArray[np.float64]:
    """Return the maximum of each ``block_s`` seconds that have a value."""
    known = np.isfinite(series.values)
    if not known.any():
        return np.empty(0)
    block = ((series.seconds[known] - series.seconds[0]) / block_s).astype(int)
    _, first = np.unique(block, return_index=True)
    return np.maximum.reduceat(series.values[known], first)


def _peaks(blocks: int, period_h: float, hours: float) -> int:
    """Return how many of the highest blocks make the tail; the level lies above its beginning."""
    most = max(MAX_PEAKS, round(2 * hours / period_h))
    return min(max(min(blocks // 2, most), MIN_PEAKS), blocks - 1)


def _level(highest: NDArray[np.float64], period_h: float, hours: float) -> float:
    """Return the level from block maxima in ``hours``.

    The n highest excesses over the next one have the mean s; a further one exceeds x with the
    probability (1 + x / n s)^-n, which is exact for an exponential tail whose mean is known from
    n peaks only.
    """
    peaks = _peaks(len(highest), period_h, hours)
    ordered = np.sort(highest)
    threshold, excess = ordered[-peaks - 1], ordered[-peaks:] - ordered[-peaks - 1]
    factor = max(peaks * period_h / hours, 1.0) ** (1 / peaks) - 1
    return float(threshold + excess.sum() * factor)
