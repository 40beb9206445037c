# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The warnings of a bundle on observed drives: false ones, and how soon a ramp is noticed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from seg_uncertainty_ros.calibration.false_alarms import alarms
from seg_uncertainty_ros.calibration.false_alarms import false_alarms
from seg_uncertainty_ros.calibration.return_level import Series
from seg_uncertainty_ros.monitor.config import MonitorConfig
from seg_uncertainty_ros.monitor.hysteresis import Limits
from seg_uncertainty_ros.shift.online import ShiftEvaluator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seg_uncertainty_ros.bundle import Bundle
    from seg_uncertainty_ros.calibration.false_alarms import FalseAlarms
    from seg_uncertainty_ros.calibration.observed import ObservedDrive
    from seg_uncertainty_ros.corruptions import Ramp

PEAK = 5.0
NOTABLE = 3.0
"""Severity from which on a ramp should be noticed."""
WARNINGS = ('ood_area', 'low_confidence', 'domain_shift')


def false_alarm_rates(bundle: Bundle, drives: Sequence[ObservedDrive]) -> dict[str, FalseAlarms]:
    """Return for each warning how often it is raised on known drives, recombined to hours."""
    pieces = [piece for drive in drives for piece in drive.pieces(MonitorConfig().jump_s)]
    return {
        name: false_alarms([series(bundle, piece, name) for piece in pieces], limits(bundle, name))
        for name in WARNINGS
    }


def ramp_delay(bundle: Bundle, drive: ObservedDrive, ramp: Ramp) -> tuple[int, float | None]:
    """Return alarms of the domain shift before a ramp, and seconds from severity 3 to the next.

    Negative: before severity 3 was reached. None: no alarm at all.
    """
    raised = alarms(series(bundle, drive, 'domain_shift'), limits(bundle, 'domain_shift'))
    notable_s = ramp.start_s + (ramp.end_s - ramp.start_s) * NOTABLE / ramp.peak
    after = [second - notable_s for second in raised if second >= ramp.start_s]
    return len(raised) - len(after), after[0] if after else None


def series(bundle: Bundle, drive: ObservedDrive, name: str) -> Series:
    """Return what a warning is judged by; of the domain, the evidence where there is a test."""
    if name == 'ood_area':
        return Series(drive.stamps_s, drive.ood_area)
    if name == 'low_confidence':
        return Series(drive.stamps_s, drive.confidence)
    evaluator = ShiftEvaluator(bundle.reference)
    found = [evaluator.update(frame) for frame in drive.frames]
    tested = bundle.reference.test is not None
    values = [each.cusum if tested else each.shift for each in found]
    return Series(drive.stamps_s, np.array(values, np.float64))


def limits(bundle: Bundle, name: str, config: MonitorConfig | None = None) -> Limits:
    """Return when the monitor raises and clears a warning by a bundle."""
    config = config or MonitorConfig()
    warning, threshold = getattr(config, name), bundle.thresholds[name]
    enter, leave = threshold.enter, threshold.exit
    if name == 'domain_shift' and bundle.reference.test is not None:
        enter, leave = 1.0, 0.0
    return Limits(
        enter,
        leave,
        warning.hold_on_s,
        warning.hold_off_s,
        below=name == 'low_confidence',
        jump_s=config.jump_s,
    )
