# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The combined shift of each drive, judged by a reference that knows the other drives only."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from seg_uncertainty_ros.calibration.return_level import Series
from seg_uncertainty_ros.shift.domain import Domain
from seg_uncertainty_ros.shift.fitting import THIN_S
from seg_uncertainty_ros.shift.online import ShiftEvaluator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seg_uncertainty_ros.calibration.observed import ObservedDrive
    from seg_uncertainty_ros.shift.shift_reference import ShiftReference

MAX_FOLDS = 8
PREVAILING = 2 / 3


def held_out_shift(
    reference: ShiftReference,
    drives: Sequence[ObservedDrive],
    *,
    jump_s: float,
    progress: bool = False,
) -> list[Series]:
    """Return the shift of every piece between jumps of time; NaN where its window is not full.

    ``reference``, of one domain, was fitted to ``drives``. Here it judges each by the statistics
    of the others: a threshold fitted to that allows for what a new drive differs by. Drives are
    cut in halves where there is one, or one prevails. Its bounds come from all of them.
    """
    result = []
    parts = folds(drives)
    for index in tqdm(range(len(parts)), desc='held out', unit='fold', disable=not progress):
        known, held_out = (
            [
                piece
                for k, part in enumerate(parts)
                if (k == index) == side
                for drive in part
                for piece in drive.pieces(jump_s)
            ]
            for side in (False, True)
        )
        judge = _without(reference, known)
        result += [shift_series(judge, piece) for piece in held_out]
    return result


def _without(reference: ShiftReference, known: Sequence[ObservedDrive]) -> ShiftReference:
    """Return the reference with the statistics of ``known`` alone, and its own bounds."""
    (domain,) = reference.domains
    gaps = np.concatenate([np.diff(drive.stamps_s) for drive in known])
    gap = max(float(np.median(gaps)), 1e-3) if gaps.size else reference.window_s
    # Neighbours say the same again, at the cost of a Gaussian of all of them.
    step = max(1, round(THIN_S / gap))
    fitted = Domain.fit(
        [drive.frames[::step] for drive in known],
        reference.weight,
        window=max(1, round(reference.window_s / (gap * step))),
    )
    bounds = {key: getattr(domain, key) for key in ('centre', 'spread', 'bound', 'level')}
    return replace(reference, domains=(replace(fitted, **bounds),), test=None)


def shift_series(reference: ShiftReference, drive: ObservedDrive) -> Series:
    """Return the combined ratio after each frame of a drive."""
    evaluator = ShiftEvaluator(reference)
    shifts = [evaluator.update(frame).shift for frame in drive.frames]
    return Series(drive.stamps_s, np.array(shifts, np.float64))


def folds(drives: Sequence[ObservedDrive]) -> list[list[ObservedDrive]]:
    """Return drives in up to MAX_FOLDS groups of about as many frames, or as two halves."""
    sizes = [len(drive.frames) for drive in drives]
    if len(drives) < 2 or max(sizes) > PREVAILING * sum(sizes):
        halves = [drive.halves() for drive in drives]
        return [[half[side] for half in halves if half[side].frames] for side in (0, 1)]
    groups: list[list[ObservedDrive]] = [[] for _ in range(min(len(drives), MAX_FOLDS))]
    for drive in sorted(drives, key=lambda drive: -len(drive.frames)):
        min(groups, key=lambda group: sum(len(d.frames) for d in group)).append(drive)
    return groups
