# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""From in-distribution drives to a reference: statistics of all, bounds from those held out."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from dataclasses import replace
from itertools import pairwise
from math import pi
from math import sqrt
from math import tan
from statistics import NormalDist
from typing import TYPE_CHECKING
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from seg_uncertainty_ros.shift.domain import Domain
from seg_uncertainty_ros.shift.gaussian import scale_weight
from seg_uncertainty_ros.shift.indicators import DISTANCES
from seg_uncertainty_ros.shift.indicators import INDICATORS
from seg_uncertainty_ros.shift.indicators import LEAST
from seg_uncertainty_ros.shift.online import ShiftEvaluator
from seg_uncertainty_ros.shift.reference import ShiftReference
from seg_uncertainty_ros.shift.reference import ShiftReferenceError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from seg_uncertainty_ros.shift.indicators import FrameStatistics

WINDOW_S = 2.0
MIN_FRAMES = 2
STEP_S = 0.5
"""Windows behind a bound end at least this far apart, for overlapping ones repeat each other."""
THIN_S = 0.4
"""Frames behind the statistics are at least this far apart: neighbours say the same again."""
MIN_DOMAIN_FRAMES = 8
MAX_FOLDS = 8
NEVER = 1e9
PRIOR = 2


@dataclass(frozen=True, eq=False)
class HeldOut:
    """A drive, or a half of one, judged by the statistics of the others of its domain.

    stamps_ns: (n,); shift: (n,), combined ratio after each frame, NaN where no window is full.
    """

    stamps_ns: NDArray[np.int64]
    shift: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ShiftFit:
    """A reference, and what it says of the drives behind it where they are held out of it."""

    reference: ShiftReference
    held_out: tuple[HeldOut, ...]


def fit_shift_reference(
    drives: Mapping[str, Sequence[Sequence[FrameStatistics]]],
    *,
    window_s: float = WINDOW_S,
    min_frames: int = MIN_FRAMES,
    quantile: float = 0.95,
    progress: bool = False,
) -> ShiftFit:
    """Fit from domain -> drives, each with its frames in order of time.

    Bounds come from drives that the statistics behind them have not seen: each of up to MAX_FOLDS
    parts of the drives is held out once. A frame takes about 2.5 kB.

    Args:
        drives: in-distribution; halves are held out where one drive prevails.
        window_s: seconds of a window.
        min_frames: that a window needs.
        quantile: of held-out windows below a bound.
        progress: show a bar.

    Raises:
        ShiftReferenceError: too few frames, windows or embeddings, or of different sizes.
        GaussianError: embeddings that never change.

    """
    if not drives:
        msg = 'drives: none, expected one or more domains'
        raise ShiftReferenceError(msg)
    if not 0.0 < quantile < 1.0:
        msg = f'quantile: {quantile}, expected between 0 and 1'
        raise ShiftReferenceError(msg)
    thinned = {name: [_thin(drive) for drive in group] for name, group in drives.items()}
    for name, group in thinned.items():
        _check(name, group)
    weight = scale_weight([_embeddings(group) for group in thinned.values()]).astype(np.float32)
    frames = sum(len(drive) for group in drives.values() for drive in group)
    domains, held_out, hours = [], [], 0.0
    with tqdm(total=frames, desc='shift reference', unit='frame', disable=not progress) as bar:
        for name, group in drives.items():
            fitted = _fit_domain(group, weight, window_s)
            judged = []
            for part, others in _folds(group):
                domain = _fit_domain(others, weight, window_s)
                judge = ShiftReference((name,), weight, (domain,), window_s, min_frames, None, 1.0)
                for drive in part:
                    judged.append(_judge(judge, drive))
                    bar.update(len(drive))
            domain, shifts = _bound(name, fitted, judged, quantile)
            domains.append(domain)
            held_out += shifts
            hours += sum(_hours(drive, window_s) for drive in group)
    reference = ShiftReference(
        names=tuple(drives),
        weight=weight,
        domains=tuple(domains),
        window_s=window_s,
        min_frames=min_frames,
        test=None,
        hours=hours,
    )
    return ShiftFit(reference, tuple(held_out))


class _Judged(NamedTuple):
    """Window indicators (n, J) after each frame of a held-out drive, stamps (n,) in ns."""

    stamps_ns: NDArray[np.int64]
    values: NDArray[np.float64]

    @property
    def sparse(self) -> NDArray[np.float64]:
        """Values at least STEP_S apart."""
        kept = [0] if len(self.stamps_ns) else []
        for index, stamp in enumerate(self.stamps_ns):
            if not 0 <= stamp - self.stamps_ns[kept[-1]] < STEP_S * 1e9:
                kept.append(index)
        return self.values[kept]


def _fit_domain(
    drives: Sequence[Sequence[FrameStatistics]], weight: NDArray[np.floating], window_s: float
) -> Domain:
    thinned = [_thin(drive) for drive in drives]
    return Domain.fit(thinned, weight, window=_window_frames(thinned, window_s))


def _judge(reference: ShiftReference, drive: Sequence[FrameStatistics]) -> _Judged:
    evaluator = ShiftEvaluator(reference)
    return _Judged(
        np.array([frame.stamp_ns for frame in drive], np.int64),
        np.array([evaluator.update(frame).values for frame in drive]).reshape(-1, len(INDICATORS)),
    )


def _bound(
    name: str, domain: Domain, judged: Sequence[_Judged], quantile: float
) -> tuple[Domain, list[HeldOut]]:
    """Set centre, spread, bound and level; return the combined ratios too."""
    drives = [each.sparse for each in judged]
    values = np.concatenate(drives)
    full = int(np.isfinite(values).any(axis=1).sum())
    if full < MIN_DOMAIN_FRAMES:
        msg = f'{name}: {full} full windows, expected at least {MIN_DOMAIN_FRAMES}'
        raise ShiftReferenceError(msg)
    # What no drive has, such as image statistics, has no bound that could be exceeded.
    known = np.isfinite(values).any(axis=0)
    centre, spread, bound = np.zeros(len(known)), np.ones(len(known)), np.full(len(known), NEVER)
    centre[known] = np.nanmean(values[:, known], axis=0)
    spread[known] = np.nanstd(values[:, known], axis=0)
    domain = replace(domain, centre=centre)
    bound[known] = np.nanquantile(domain.ratios(values)[:, known], quantile, axis=0)
    bound = np.maximum(bound, _new_drive(drives, quantile))
    least = np.array([LEAST.get(name, 1e-3) for name in INDICATORS])
    domain = replace(domain, spread=np.maximum(spread, least / 3), bound=np.maximum(bound, least))
    level = float(np.nanquantile(_combined(domain, values), quantile))
    domain = replace(domain, level=np.float32(level))
    return domain, [HeldOut(j.stamps_ns, _combined(domain, j.values)) for j in judged]


def _combined(domain: Domain, values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the combined ratio (n,) of window indicators (n, J); NaN where none is known."""
    return np.array([domain.combine(row) for row in domain.ratios(values)], np.float64)


def _new_drive(values: Sequence[NDArray[np.float64]], quantile: float) -> NDArray[np.float64]:
    """Return (J,) how far the mean of a further drive may lie from the mean of these.

    The prediction interval t s sqrt(1 + 1/n) of Student's t: two or three drives under one sky
    say little about brightness. Their variance is pooled with that within drives, which counts
    as PRIOR drives (a scaled inverse chi-squared prior), for two drives alone say nothing at all.
    Distances come from held-out drives and need no such allowance; 0 for them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', RuntimeWarning)
        means = np.array([np.nanmean(rows, axis=0) for rows in values])
        within = np.nanmean([np.nanvar(rows, axis=0) for rows in values], axis=0)
        between = np.nanvar(means, axis=0)
    count = np.isfinite(means).sum(axis=0)
    allowance = np.zeros(means.shape[1])
    for index in np.flatnonzero((count > 0) & ~np.isin(INDICATORS, DISTANCES)):
        n = int(count[index])
        freedom = n - 1 + PRIOR
        variance = (n * between[index] + PRIOR * within[index]) / freedom
        student = student_quantile((1 + quantile) / 2, freedom)
        allowance[index] = student * sqrt(variance * (1 + 1 / n))
    return allowance


def student_quantile(level: float, freedom: int) -> float:
    """Quantile of Student's t, for levels above 0.5, right to 3 %.

    Exact for one and two degrees of freedom, else Abramowitz and Stegun, 26.7.5.
    """
    if freedom == 1:
        return tan(pi * (level - 0.5))
    if freedom == 2:
        return (2 * level - 1) * sqrt(2 / (4 * level * (1 - level)))
    z = NormalDist().inv_cdf(level)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / freedom ** (i + 1) for i, term in enumerate(terms))


def _thin(drive: Sequence[FrameStatistics]) -> list[FrameStatistics]:
    kept: list[FrameStatistics] = []
    for frame in drive:
        if not kept or not 0 <= frame.stamp_ns - kept[-1].stamp_ns < THIN_S * 1e9:
            kept.append(frame)
    return kept


def _window_frames(drives: Sequence[Sequence[FrameStatistics]], window_s: float) -> int:
    """Frames of a window at the usual rate of the drives."""
    gaps = [b.stamp_ns - a.stamp_ns for drive in drives for a, b in pairwise(drive)]
    return max(1, round(window_s * 1e9 / max(float(np.median(gaps)), 1.0))) if gaps else 1


def _folds(
    drives: Sequence[Sequence[FrameStatistics]],
) -> list[tuple[list[Sequence[FrameStatistics]], list[Sequence[FrameStatistics]]]]:
    """Return what is held out and the rest, for each fold; a drive stays in one piece.

    Where one drive has more than two thirds of all frames, drives are cut in halves.
    """
    parts = list(drives)
    lengths = [len(_thin(drive)) for drive in parts]
    if len(parts) < 2 or max(lengths) > 2 / 3 * sum(lengths):
        parts = [part for d in drives for part in (d[: len(d) // 2], d[len(d) // 2 :]) if part]
        sides = [index % 2 for index in range(len(parts))]
    else:
        order = np.argsort([-length for length in lengths], kind='stable')
        sides, filled = [0] * len(parts), [0] * min(len(parts), MAX_FOLDS)
        for index in order:
            sides[index] = int(np.argmin(filled))
            filled[sides[index]] += lengths[index]
    return [
        (
            [part for part, side in zip(parts, sides, strict=True) if side == fold],
            [part for part, side in zip(parts, sides, strict=True) if side != fold],
        )
        for fold in sorted(set(sides))
    ]


def _embeddings(drives: Sequence[Sequence[FrameStatistics]]) -> NDArray[np.float64]:
    rows = [f.embedding for drive in drives for f in drive if f.embedding is not None]
    return np.stack(rows).astype(np.float64)


def _hours(drive: Sequence[FrameStatistics], window_s: float) -> float:
    """Hours of a drive without its gaps."""
    gaps = [(b.stamp_ns - a.stamp_ns) / 1e9 for a, b in pairwise(drive)]
    return sum(gap for gap in gaps if 0 <= gap <= window_s) / 3600


def _check(name: str, drives: Sequence[Sequence[FrameStatistics]]) -> None:
    frames = [frame for drive in drives for frame in drive if frame.embedding is not None]
    if len(frames) < 2 * MIN_DOMAIN_FRAMES:
        msg = f'{name}: {len(frames)} frames at least {THIN_S:g} s apart with an embedding, '
        msg += f'expected at least {2 * MIN_DOMAIN_FRAMES}'
        raise ShiftReferenceError(msg)
    for key in ('embedding', 'classes'):
        sizes = {getattr(frame, key).shape for frame in frames}
        if len(sizes) > 1:
            msg = f'{name}: {key}: shapes {sorted(sizes)}, expected one'
            raise ShiftReferenceError(msg)
