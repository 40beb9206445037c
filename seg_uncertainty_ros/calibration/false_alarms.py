# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Alarms of a series as the monitor raises them, and how many to expect in hours of such."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from seg_uncertainty_ros.calibration.return_level import STEP_S
from seg_uncertainty_ros.calibration.return_level import Series
from seg_uncertainty_ros.calibration.return_level import maxima
from seg_uncertainty_ros.monitor.hysteresis import Hysteresis
from seg_uncertainty_ros.shift.sequential import correlation_steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from seg_uncertainty_ros.monitor.hysteresis import Limits

SIMULATED_H = 10.0
SIMULATIONS = 20
BLOCK_TIMES = 5.0
MIN_BLOCK_S = 20.0


@dataclass(frozen=True)
class FalseAlarms:
    """Alarms an hour, with the 90 % interval of simulated drives of SIMULATED_H hours each.

    hours: of real drives behind it; ``alarms``: raised on these as they were.
    """

    per_hour: float
    low: float
    high: float
    hours: float
    alarms: int


def alarms(series: Series, limits: Limits) -> list[float]:
    """Return the seconds at which the monitor raises an alarm."""
    if not any(map(limits.bad, series.values)):
        return []
    hysteresis, raised, before = Hysteresis(limits), [], False
    for second, value in zip(series.seconds, series.values, strict=True):
        active = hysteresis.update(float(value), round(second * 1e9))
        if active and not before:
            raised.append(float(second))
        before = active
    return raised


def false_alarms(drives: Sequence[Series], limits: Limits, *, seed: int = 0) -> FalseAlarms:
    """Recombine drives in blocks longer than their values are correlated, and count alarms.

    One value a second, the one nearest to an alarm; none where two blocks meet, for what follows
    there lasts in no drive. Stationary bootstrap (Politis and Romano, 1994). Values that no drive
    reached do not occur: it says nothing of rarer ones.
    """
    sign = -1.0 if limits.below else 1.0
    steps = [
        values
        for drive in drives
        if (values := maxima(Series(drive.seconds, sign * drive.values), STEP_S)).size
    ]
    hours = sum(map(len, steps)) * STEP_S / 3600
    real = sum(len(alarms(drive, limits)) for drive in drives)
    if not steps:
        return FalseAlarms(float('nan'), float('nan'), float('nan'), 0.0, real)
    rng = np.random.default_rng(seed)
    correlated = correlation_steps([values - values.mean() for values in steps])
    block = max(BLOCK_TIMES * correlated, MIN_BLOCK_S / STEP_S)
    count = round(SIMULATED_H * 3600 / STEP_S)
    counts = [
        len(alarms(Series(np.arange(count) * STEP_S, sign * row), limits)) / SIMULATED_H
        for row in (_recombine(steps, block, count, rng) for _ in range(SIMULATIONS))
    ]
    low, high = np.quantile(counts, (0.05, 0.95))
    return FalseAlarms(float(np.mean(counts)), float(low), float(high), hours, real)


def _recombine(
    series: Sequence[NDArray[np.float64]], block: float, count: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return ``count`` values: runs of geometric length out of any of the series, circular."""
    pooled = np.concatenate(series)
    lengths = np.repeat([len(values) for values in series], [len(values) for values in series])
    starts = np.repeat(np.cumsum([0, *map(len, series[:-1])]), [len(values) for values in series])
    anew = rng.random(count) < 1 / block
    anew[0] = True
    position = np.arange(count)
    begun = np.maximum.accumulate(np.where(anew, position, 0))
    origin = rng.integers(len(pooled), size=count)[begun]
    inside = (origin - starts[origin] + position - begun) % lengths[origin]
    return np.where(anew, np.nan, pooled[starts[origin] + inside])
