# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""From observed drives to a bundle whose reference and thresholds are those of these drives."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING

import numpy as np

from seg_uncertainty_ros.bundle import MODEL_CARD
from seg_uncertainty_ros.bundle import Threshold
from seg_uncertainty_ros.calibration.observed import DriveError
from seg_uncertainty_ros.calibration.return_level import STEP_S
from seg_uncertainty_ros.calibration.return_level import ReturnLevelError
from seg_uncertainty_ros.calibration.return_level import Series
from seg_uncertainty_ros.calibration.return_level import last
from seg_uncertainty_ros.calibration.return_level import maxima
from seg_uncertainty_ros.calibration.return_level import return_level
from seg_uncertainty_ros.monitor.config import MonitorConfig
from seg_uncertainty_ros.shift.fitting import WINDOW_S
from seg_uncertainty_ros.shift.fitting import fit_shift_reference
from seg_uncertainty_ros.shift.reference import ShiftReferenceError
from seg_uncertainty_ros.shift.sequential import SequentialError
from seg_uncertainty_ros.shift.sequential import SequentialTest
from seg_uncertainty_ros.shift.sequential import correlation_steps

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Sequence
    from pathlib import Path

    from seg_uncertainty_ros.bundle import Bundle
    from seg_uncertainty_ros.calibration.observed import ObservedDrive
    from seg_uncertainty_ros.calibration.return_level import ReturnLevel
    from seg_uncertainty_ros.shift.fitting import ShiftFit
    from seg_uncertainty_ros.shift.reference import ShiftReference

ERT_H = 10.0
LEAST_AREA = 0.01
"""An object that covers less of the road is none that anybody wants to be warned of."""
MAX_AREA = 0.5
MIN_CONFIDENCE = 0.05
LEAST_SHIFT = 1.2
"""The bound alone, 1.0, is exceeded by one held-out window in twenty."""
MARGIN = 1.5
"""By how much short drives may be exceeded where no rate of false alarms can be told."""
BLOCK_TIMES = 2.0
"""Blocks of the sequential test, in correlation times within drives."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """What drives say is usual; at most one false alarm of each kind in ``ert_h`` hours.

    ert_h: None where drives were too short to say.
    """

    reference: ShiftReference
    thresholds: Mapping[str, Threshold]
    ert_h: float | None
    seed: int


def calibrate(
    bundle: Bundle,
    drives: Mapping[str, Sequence[ObservedDrive]],
    *,
    ert_h: float | None = ERT_H,
    sequential: bool = False,
    config: MonitorConfig | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Calibration:
    """Fit reference and thresholds.

    Args:
        bundle: that the drives were observed with.
        drives: usual ones, domain -> drives.
        ert_h: hours between false alarms of each warning; None for thresholds well beyond the
            drives, and not nearer than the bundle's, without a rate.
        sequential: the alarm of the domain is that of a sequential test, which sums up what is
            beyond the bound: it finds smaller shifts that last, later. Otherwise it is a level.
        config: of the monitor, whose hold times count.
        seed: of the bootstrap.
        progress: show a bar.

    Raises:
        DriveError: too little data, and how much is needed.

    """
    config = config or MonitorConfig()
    every = [drive for group in drives.values() for drive in group]
    try:
        fit = fit_shift_reference(
            {name: [drive.frames for drive in group] for name, group in drives.items()},
            progress=progress,
        )
        shifts = held_out_shift(fit, config.jump_s)
        test = fit_test(shifts, ert_h, seed) if sequential and ert_h is not None else None
    except (ShiftReferenceError, SequentialError) as error:
        raise DriveError(_too_little(every, error)) from error
    pieces = [piece for drive in every for piece in drive.pieces(config.jump_s)]
    series = {
        'ood_area': [Series(piece.stamps_s, piece.ood_area) for piece in pieces],
        'low_confidence': [Series(piece.stamps_s, 1 - piece.confidence) for piece in pieces],
        'domain_shift': shifts,
    }
    if ert_h is None:
        thresholds = _widened(bundle, series, config)
    else:
        thresholds = _thresholds(bundle, every, series, config, ert_h, seed)
    return Calibration(replace(fit.reference, test=test), thresholds, ert_h, seed)


def held_out_shift(fit: ShiftFit, jump_s: float) -> list[Series]:
    """Return the shift of every piece of the held-out drives between jumps of time."""
    return [
        piece
        for drive in fit.held_out
        for piece in Series((drive.stamps_ns - drive.stamps_ns[:1]) / 1e9, drive.shift).pieces(
            jump_s
        )
    ]


def fit_test(held_out: Sequence[Series], ert_h: float, seed: int = 0) -> SequentialTest:
    """Fit the sequential test to drives that the reference behind them has not seen.

    Raises:
        SequentialError: not one full window, or too few independent blocks.

    """
    steps = [values for series in held_out if (values := maxima(series, STEP_S)).size]
    if not steps:
        msg = 'not one full window on held-out drives'
        raise SequentialError(msg)
    correlated_s = STEP_S * correlation_steps([values - values.mean() for values in steps])
    test = SequentialTest.fit(
        steps,
        step_s=STEP_S,
        ert_h=ert_h,
        block_s=BLOCK_TIMES * correlated_s,
        min_block_s=2 * WINDOW_S,
        seed=seed,
    )
    # What the data do not bear out is promised only at the safe end of the interval.
    return replace(test, threshold=test.threshold_high) if test.extrapolated else test


def _thresholds(
    bundle: Bundle,
    drives: Sequence[ObservedDrive],
    series: Mapping[str, Sequence[Series]],
    config: MonitorConfig,
    ert_h: float,
    seed: int,
) -> dict[str, Threshold]:
    levels: dict[str, ReturnLevel] = {}
    for name, values in series.items():
        hold_s = getattr(config, name).hold_on_s
        try:
            levels[name] = return_level(values, period_h=ert_h, hold_s=hold_s, seed=seed)
        except ReturnLevelError as error:
            raise DriveError(_too_little(drives, f'{name}: {error}')) from error
    reasons = {
        name: f'what lasts {getattr(config, name).hold_on_s:g} s is {level}'
        for name, level in levels.items()
    }
    reasons['low_confidence'] = f'1 - confidence: {reasons["low_confidence"]}'
    reasons['domain_shift'] += '; every drive is held out of the statistics that judge it'
    found = {name: level.level for name, level in levels.items()}
    # A few even drives are no reason to warn of less than what the bundle's drives had.
    for name, kept in _bundle_levels(bundle).items():
        if levels[name].extrapolated and kept > found[name]:
            found[name] = kept
            reasons[name] += f'; {levels[name].level:.3g}, the {kept:.3g} of the bundle stays'
    return _limits(found, series, reasons)


def _bundle_levels(bundle: Bundle) -> dict[str, float]:
    """Return the thresholds that do not depend on a reference, higher is worse."""
    return {
        'ood_area': bundle.thresholds['ood_area'].enter,
        'low_confidence': 1 - bundle.thresholds['low_confidence'].enter,
    }


def _widened(
    bundle: Bundle, series: Mapping[str, Sequence[Series]], config: MonitorConfig
) -> dict[str, Threshold]:
    """Return thresholds that short drives stay well away from, or the bundle's where farther."""
    kept = {**_bundle_levels(bundle), 'domain_shift': MARGIN}
    levels, reasons = {}, {}
    for name, values in series.items():
        hold_s = getattr(config, name).hold_on_s
        lasting = np.concatenate([last(drive, hold_s) for drive in values])
        lasting = lasting[np.isfinite(lasting)]
        levels[name] = max(kept[name], MARGIN * float(lasting.max(initial=0.0)))
        value = '1 - confidence' if name == 'low_confidence' else name
        reasons[name] = (
            f'{value}: {MARGIN:g} x the largest of {len(lasting)} values that last {hold_s:g} s, '
            f'at least {kept[name]:.3g}: too little data for a rate of false alarms'
        )
    return _limits(levels, series, reasons)


def _limits(
    levels: Mapping[str, float],
    series: Mapping[str, Sequence[Series]],
    reasons: Mapping[str, str],
) -> dict[str, Threshold]:
    """Return thresholds at what is hardly exceeded; they end part of the way back to usual."""
    area = round(float(np.clip(levels['ood_area'], LEAST_AREA, MAX_AREA)), 4)
    confidence = round(max(1 - levels['low_confidence'], MIN_CONFIDENCE), 4)
    values = np.concatenate([drive.values for drive in series['low_confidence']])
    usual = 1 - float(np.nanmedian(values)) if np.isfinite(values).any() else confidence
    shift = round(max(levels['domain_shift'], LEAST_SHIFT), 3)
    limits = {
        'ood_area': (area, 0.6 * area),
        'low_confidence': (confidence, confidence + max(0.25 * (usual - confidence), 0.01)),
        'domain_shift': (shift, max(0.7 * shift, 1.0)),
    }
    found = {**levels, 'low_confidence': 1 - levels['low_confidence']}
    return {
        name: Threshold(enter, round(leave, 4), reasons[name] + _bounded(found[name], enter))
        for name, (enter, leave) in limits.items()
    }


def _bounded(level: float, enter: float) -> str:
    """Say where a threshold is not the level that was fitted."""
    return '' if abs(level - enter) < 1e-3 else f'; {level:.3g} is out of range, {enter:g} is not'


def _too_little(drives: Sequence[ObservedDrive], reason: object) -> str:
    frames = sum(len(drive.frames) for drive in drives)
    seconds = sum(float(drive.stamps_s[-1]) for drive in drives)
    what = f'{len(drives)} drives' if len(drives) > 1 else drives[0].name
    return f'{what}: {frames} frames, {seconds:.3g} s: too little data: {reason}'


def write_bundle(
    bundle: Bundle, result: Calibration, drives: Sequence[Mapping[str, object]], out: Path
) -> Bundle:
    """Write ``bundle`` with the reference and thresholds of ``drives`` to the directory ``out``.

    drives: what is to be known of each, for the provenance.
    """
    bundle.copy_files(out)
    provenance = {
        'date': date.today().isoformat(),
        'from_bundle': bundle.digest,
        'drives': list(drives),
        'hours': round(result.reference.hours, 4),
        'hours_between_false_alarms': result.ert_h,
        'seed': result.seed,
    }
    reference = replace(result.reference, provenance=provenance)
    with (out / MODEL_CARD).open('a', encoding='utf-8') as card:
        card.write(_section(result, drives))
    return replace(
        bundle,
        path=out,
        reference=reference,
        thresholds={**bundle.thresholds, **result.thresholds},
        provenance={**bundle.provenance, 'drives': provenance},
    ).write()


def _section(result: Calibration, drives: Sequence[Mapping[str, object]]) -> str:
    names = ', '.join(str(drive['name']) for drive in drives)
    rows = '\n'.join(
        f'| {name} | {limit.enter:g} | {limit.exit:g} | {limit.reason} |'
        for name, limit in result.thresholds.items()
    )
    return f"""
## Calibrated on other drives

Reference of the domain shift and thresholds were fitted anew on {names}; figures above that rest
on thresholds or on the reference were measured before.

| warning | raised at | cleared at | reason |
|-|-:|-:|-|
{rows}
"""
