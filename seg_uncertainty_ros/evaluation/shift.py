# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""How well each indicator of a shift tells drives from known ones, and how soon."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from seg_uncertainty_ros.evaluation.pixel_metrics import ScoreHistogram
from seg_uncertainty_ros.evaluation.pixel_metrics import ranking_metrics
from seg_uncertainty_ros.novelty.q_emd import ScoresError
from seg_uncertainty_ros.novelty.q_emd import q_emd
from seg_uncertainty_ros.shift.indicators import INDICATORS
from seg_uncertainty_ros.shift.online import ShiftEvaluator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from seg_uncertainty_ros.calibration.observed import ObservedDrive
    from seg_uncertainty_ros.shift.reference import ShiftReference

COMBINED = 'shift'
COLUMNS = (COMBINED, *INDICATORS)


@dataclass(frozen=True, eq=False)
class Separation:
    """How one source is told from known drives, by each of COLUMNS; NaN: not measured.

    windows, frames: AUROC of 2 s windows and of single frames, 1 is perfect, 0.5 is chance.
    q_emd:           of windows, above 1 is a shift.
    above:           share of the windows whose combined shift is above its bound.
    count:           of windows.
    """

    name: str
    windows: NDArray[np.float64]
    frames: NDArray[np.float64]
    q_emd: NDArray[np.float64]
    above: float
    count: int


@dataclass(frozen=True, eq=False)
class Known:
    """Ratios (n, COLUMNS) of windows and of frames of held-out known drives."""

    windows: NDArray[np.float64]
    frames: NDArray[np.float64]


def known_drives(reference: ShiftReference, drives: Sequence[ObservedDrive]) -> Known:
    """Measure what sources are compared with."""
    return Known(ratios(reference, drives), ratios(single_frames(reference), drives))


def separation(
    reference: ShiftReference, known: Known, name: str, drives: Sequence[ObservedDrive]
) -> Separation:
    """Tell drives from known ones."""
    windows = ratios(reference, drives)
    frames = ratios(single_frames(reference), drives)
    return Separation(
        name=name,
        windows=_aurocs(known.windows, windows),
        frames=_aurocs(known.frames, frames),
        q_emd=_q_emds(known.windows, windows),
        above=float(np.mean(windows[:, 0] > 1)) if len(windows) else float('nan'),
        count=len(windows),
    )


def ratios(reference: ShiftReference, drives: Sequence[ObservedDrive]) -> NDArray[np.float64]:
    """Return (n, COLUMNS): values over bounds after each frame that ends a full window."""
    rows = []
    for drive in drives:
        evaluator = ShiftEvaluator(reference)
        for frame in drive.frames:
            found = evaluator.update(frame)
            if found.shift is not None:
                rows.append((found.shift, *found.ratios))
    return np.array(rows, np.float64).reshape(-1, len(COLUMNS))


def single_frames(reference: ShiftReference) -> ShiftReference:
    """Return the reference with windows that hold one frame."""
    return replace(reference, window_s=1e-6, min_frames=1, test=None)


def auroc(known: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Return how often the other values are higher; a tie counts half; NaN without values."""
    known, other = (values[np.isfinite(values)] for values in (known, other))
    if not known.size or not other.size:
        return float('nan')
    scores = np.concatenate([known, other]).astype(np.float32)
    positive = np.arange(scores.size) >= known.size
    return float(ranking_metrics(ScoreHistogram.of(scores, positive).counts)[1])


def _aurocs(known: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([auroc(a, b) for a, b in zip(known.T, other.T, strict=True)])


def _q_emds(known: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    middle = len(known) // 2
    result = []
    for a, b in zip(known.T, other.T, strict=True):
        try:
            result.append(q_emd(a[:middle], a[middle:], b))
        except ScoresError:  # an indicator that is missing, or the same in both halves
            result.append(np.nan)
    return np.array(result)
