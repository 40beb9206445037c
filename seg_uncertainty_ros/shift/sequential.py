# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A sequential test whose parameter is the expected time between false alarms.

CUSUM (Page, Continuous inspection schemes, Biometrika 1954). The threshold is fitted by
simulation with the stationary bootstrap (Politis and Romano, JASA 1994; blocks: Künsch, 1989), so
that frames which resemble each other are not counted as independent. The parameter is the
expected run time (ERT) without a change, as in the online detectors of alibi-detect.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np

from seg_uncertainty_ros.errors import SegUncertaintyError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MIN_BLOCKS = 10
RULE_OF_THREE = 3.0
"""No alarm in 3 T says with 95 % confidence that T pass between two (Hanley, 1983)."""
MIN_THRESHOLD = 0.1
"""Where the bound is never exceeded any threshold would do; in bounds times seconds."""
BLOCK_TIMES = 5.0
"""Blocks are as many correlation times long: shorter ones cut excursions and flatter the test."""
CAP = 2.0
"""Evidence beyond this many thresholds says nothing new and would only delay the all-clear."""
PATHS = 64
MIN_HORIZON, HORIZON = 3600, 36_000
"""Steps of a simulated path: ten times what is wanted, within these."""
REPLICATES = 40
MIN_ALARMS = 10
MAX_CORRELATION_STEPS = 600


class SequentialError(SegUncertaintyError):
    """A series or a setting that no threshold can be fitted to; says how much is needed."""


@dataclass(frozen=True)
class SequentialTest:
    """CUSUM of a series whose in-distribution bound is 1.0, and how far to trust it.

    Evidence S = max(0, S + (value - allowance) * seconds). An alarm begins where S > threshold and
    lasts until S = 0: who ends it sooner counts one excursion several times. The allowance 1.0
    lies half way between a usual value v and a shift to 2 - v, which it detects the soonest.

    threshold:      bounds times seconds; ``threshold_low``, ``threshold_high``: 90 % interval.
    ert_h:          hours between false alarms, as wanted; ``ert_low_h``, ``ert_high_h``: 90 %
                    interval of what the threshold gives, inf where no simulated path alarms.
    hours:          of data; ``blocks``: of ``block_s`` seconds, about independent of each other.
    extrapolated:   ``hours`` do not reach ``needed_h``: the data bear out neither with nor without
                    false alarms what is wanted, and the threshold rests on recombined blocks and
                    on an exponential tail, log ERT linear in the threshold.
    """

    allowance: float
    threshold: float
    threshold_low: float
    threshold_high: float
    ert_h: float
    ert_low_h: float
    ert_high_h: float
    hours: float
    block_s: float
    blocks: int

    @property
    def needed_h(self) -> float:
        """Hours of data that would bear out ``ert_h`` by themselves."""
        return RULE_OF_THREE * self.ert_h

    @property
    def extrapolated(self) -> bool:
        """Whether the threshold goes beyond what the data show."""
        return self.hours < self.needed_h

    def accumulate(self, evidence: float, value: float, seconds: float) -> float:
        """Return the evidence after a value that lasted for some seconds."""
        grown = evidence + (value - self.allowance) * seconds
        return min(max(0.0, grown), CAP * self.threshold)

    def describe(self) -> str:
        """Say what the threshold rests on."""
        text = (
            f'a false alarm every {self.ert_h:g} h (90 %: {self.ert_low_h:.3g} to '
            f'{self.ert_high_h:.3g} h), from {self.hours:.3g} h in {self.blocks} blocks of '
            f'{self.block_s:.3g} s'
        )
        if self.extrapolated:
            text += f'; extrapolated, {self.needed_h:.3g} h would bear it out'
        return text

    @classmethod
    def fit(
        cls,
        drives: Sequence[NDArray[np.floating]],
        *,
        step_s: float,
        ert_h: float,
        allowance: float = 1.0,
        block_s: float | None = None,
        min_block_s: float = 0.0,
        seed: int = 0,
    ) -> SequentialTest:
        """Fit the threshold.

        Args:
            drives: (n_i,) in-distribution values every ``step_s`` seconds; 1.0 is their bound.
            step_s: seconds.
            ert_h: wanted expected hours between two false alarms.
            allowance: what evidence grows above.
            block_s: mean length of a block; None for BLOCK_TIMES times the time over which the
                values are correlated.
            min_block_s: blocks are at least as long.
            seed: of the bootstrap.

        Raises:
            SequentialError: no series, a number that is not finite, or too few blocks.

        """
        series = _check(drives, step_s, ert_h)
        steps = sum(map(len, series))
        if block_s is None:
            block_s = BLOCK_TIMES * correlation_steps(series) * step_s
        block_s = max(block_s, min_block_s, step_s)
        hours, blocks = steps * step_s / 3600, int(steps * step_s / block_s)
        if blocks < MIN_BLOCKS:
            msg = (
                f'sequential test: {blocks} independent blocks of {block_s:.3g} s in {hours:.3g} '
                f'h, expected at least {MIN_BLOCKS}: {MIN_BLOCKS * block_s / 3600:.3g} h or more; '
                f'a false alarm every {ert_h:g} h is borne out by {RULE_OF_THREE * ert_h:g} h'
            )
            raise SequentialError(msg)
        rng = np.random.default_rng(seed)
        block = block_s / step_s
        wanted = ert_h * 3600 / step_s
        horizon = int(min(max(10 * wanted, MIN_HORIZON), HORIZON))
        passages = _simulate(series, block, allowance, (PATHS, horizon), rng) * step_s
        threshold = _solve(passages, wanted, steps)
        resampled = [
            _simulate(drawn, block, allowance, (PATHS // 8, horizon), rng) * step_s
            for drawn in (_resample(series, block, rng) for _ in range(REPLICATES))
        ]
        thresholds = [_solve(each, wanted, steps) for each in resampled]
        times = [_time(each, threshold, wanted, steps) * step_s / 3600 for each in resampled]
        low, high = np.quantile(thresholds, [0.05, 0.95])
        # Without interpolation: between a number and infinity there is none.
        least, most = np.quantile(times, [0.05, 0.95], method='nearest')
        return cls(
            allowance=allowance,
            threshold=threshold,
            threshold_low=float(min(low, threshold)),
            threshold_high=float(max(high, threshold)),
            ert_h=ert_h,
            ert_low_h=float(least),
            ert_high_h=float(most),
            hours=hours,
            block_s=block_s,
            blocks=blocks,
        )


def correlation_steps(series: Sequence[NDArray[np.floating]]) -> float:
    """Integrated autocorrelation time 1 + 2 sum rho, in steps, of drives about one mean.

    The sum ends where the correlation falls below 0.05. Drives that differ from each other are
    correlated over their whole length, as they should be.
    """
    pooled = np.concatenate(series)
    centred = [values - pooled.mean() for values in series]
    variance = float(np.mean((pooled - pooled.mean()) ** 2))
    total = 1.0
    for lag in range(1, min(MAX_CORRELATION_STEPS, max(map(len, series)))):
        products = [values[lag:] * values[:-lag] for values in centred if len(values) > lag]
        correlation = float(np.mean(np.concatenate(products))) / variance if variance > 0 else 0.0
        if correlation < 0.05:
            break
        total += 2 * correlation
    return total


def cusum(values: NDArray[np.floating], allowance: float, step_s: float) -> NDArray[np.float64]:
    """Return the evidence (..., n) after each value, from 0: C - min C, C the running sum."""
    total = np.cumsum((np.asarray(values, np.float64) - allowance) * step_s, axis=-1)
    return total - np.minimum(np.minimum.accumulate(total, axis=-1), 0.0)


def _check(
    drives: Sequence[NDArray[np.floating]], step_s: float, ert_h: float
) -> list[NDArray[np.float64]]:
    for name, number in (('step_s', step_s), ('ert_h', ert_h)):
        if not (isfinite(number) and number > 0):
            msg = f'{name}: {number}, expected a positive number'
            raise SequentialError(msg)
    series = [np.asarray(values, np.float64) for values in drives]
    for index, values in enumerate(series):
        if values.ndim != 1 or not np.isfinite(values).all():
            msg = f'drive {index}: shape {values.shape}, expected (n,) finite numbers'
            raise SequentialError(msg)
    if not (series := [values for values in series if len(values)]):
        msg = 'drives: none with a value, expected one or more'
        raise SequentialError(msg)
    return series


def _simulate(
    series: Sequence[NDArray[np.float64]],
    block: float,
    allowance: float,
    shape: tuple[int, int],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Return the largest evidence so far, of ``shape`` (paths, steps), at 1 s a step.

    Stationary bootstrap: blocks of geometric length, mean ``block`` steps, from anywhere; a block
    that reaches the end of its drive ends there, for what follows in another drive is unrelated.
    """
    pooled = np.concatenate(series)
    ends = np.repeat(np.cumsum([len(values) for values in series]), [len(v) for v in series])
    count = shape[0] * shape[1]
    starts_anew = rng.random(count) < 1 / block
    starts_anew[:: shape[1]] = True
    position = np.arange(count)
    begun = np.maximum.accumulate(np.where(starts_anew, position, 0))
    origin = rng.integers(len(pooled), size=count)[begun]
    index = origin + position - begun
    # Past the end of its drive a block goes on at its drive's other positions: circular.
    length = np.concatenate([np.full(len(values), len(values)) for values in series])[origin]
    last = ends[origin]
    index = np.where(index >= last, last - length + (index - last) % length, index)
    values = pooled[index].reshape(shape)
    return np.maximum.accumulate(cusum(values, allowance, 1.0), axis=1)


def _resample(
    series: Sequence[NDArray[np.float64]], block: float, rng: np.random.Generator
) -> list[NDArray[np.float64]]:
    """Draw as many parts anew: drives where there are enough of them, blocks otherwise."""
    parts = list(series)
    if len(parts) < MIN_BLOCKS:
        parts = [
            part
            for values in series
            for part in np.array_split(values, max(1, round(len(values) / block)))
        ]
    return [parts[index] for index in rng.integers(len(parts), size=len(parts))]


def _mean_times(
    passages: NDArray[np.float64], thresholds: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int_]]:
    """Mean steps to the first alarm at each threshold, inf without one; and alarms.

    Exposure over alarms, as paths without an alarm are censored.
    """
    length = passages.shape[1]
    steps = np.array([np.searchsorted(path, thresholds, side='right') for path in passages])
    alarms = (steps < length).sum(axis=0)
    exposure = np.minimum(steps + 1, length).sum(axis=0)
    return np.where(alarms > 0, exposure / np.maximum(alarms, 1), inf), alarms


def _tail(passages: NDArray[np.float64], supported: float) -> NDArray[np.float64] | None:
    """Fit log mean time = offset + slope * threshold to what the data bear out; None if not.

    The time to a false alarm of a CUSUM grows exponentially with its threshold (Siegmund,
    Sequential analysis, 1985).
    """
    grid = np.linspace(0.0, passages[:, -1].max(), 100)
    times, alarms = _mean_times(passages, grid)
    usable = (alarms >= MIN_ALARMS) & (times <= supported) & (times > supported / 100)
    if usable.sum() < 3:
        return None
    line = np.polyfit(grid[usable], np.log(times[usable]), 1)
    return line if line[0] > 0 else None


def _time(
    passages: NDArray[np.float64], threshold: float, wanted: float, supported: float
) -> float:
    """Mean steps to an alarm; by the tail where that is less and the data do not reach so far."""
    simulated = float(_mean_times(passages, np.array([threshold]))[0][0])
    tail = _tail(passages, supported) if wanted > supported else None
    return simulated if tail is None else min(simulated, float(np.exp(tail @ [threshold, 1])))


def _solve(passages: NDArray[np.float64], wanted: float, supported: float) -> float:
    """Return the least threshold whose mean time to an alarm is at least ``wanted`` steps.

    Where ``wanted`` is more than ``supported`` steps of data, the tail of what these bear out
    has a say too, and the larger of both answers counts.
    """
    grid = np.linspace(0.0, passages[:, -1].max(), 200)
    enough = grid[_mean_times(passages, grid)[0] >= wanted]
    thresholds = [enough[0] if enough.size else grid[-1], MIN_THRESHOLD]
    tail = _tail(passages, supported) if wanted > supported else None
    if tail is not None:
        thresholds.append((np.log(wanted) - tail[1]) / tail[0])
    return float(max(thresholds))
