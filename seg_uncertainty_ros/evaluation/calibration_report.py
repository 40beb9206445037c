# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What a recalibration did, as Markdown and as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from seg_uncertainty_ros.evaluation.calibration import DECADES
from seg_uncertainty_ros.evaluation.calibration import KNOTS
from seg_uncertainty_ros.evaluation.recalibration import CHECKED
from seg_uncertainty_ros.evaluation.reliability import save_reliability
from seg_uncertainty_ros.evaluation.tables import grid

if TYPE_CHECKING:
    from pathlib import Path

    from seg_uncertainty_ros.bundle import Bundle
    from seg_uncertainty_ros.evaluation.calibration import ProbabilityMetrics
    from seg_uncertainty_ros.evaluation.recalibration import Recalibration
    from seg_uncertainty_ros.evaluation.recalibration import ScaleResult

REPORT = 'calibration.md'
PICTURE = 'reliability.png'

KEPT = (
    'The thresholds of the monitor and a meta model of segments were kept. They were fitted on '
    'the old confidence and scales: check `ood_area` and `low_confidence` on your own drives.'
)


def write_report(bundle: Bundle, result: Recalibration, folder: Path) -> None:
    """Write calibration.md to ``folder``, and reliability.png where there are labels."""
    (folder / REPORT).write_text(report(bundle, result), encoding='utf-8')
    new = bundle.temperature if result.temperature is None else result.temperature.value
    panels = {}
    if result.temperature is not None:
        panels[f'before: T = {bundle.temperature:.3f}'] = result.temperature.before.bins
    if result.after.bins.pixels:
        panels[f'after: T = {new:.3f}'] = result.after.bins
    if panels:
        save_reliability(folder / PICTURE, panels)


def report(bundle: Bundle, result: Recalibration) -> str:
    """Return Markdown; ``bundle`` is the one that was calibrated."""
    sets = '\n'.join(
        f'- {images.name}: {len(images)} images, {"with" if images.labelled else "without"} labels'
        for images in result.sets
    )
    return f"""# Calibration of {bundle.name} {bundle.version}

{sets}

{result.scales.pixels} known pixels at logit resolution, a quarter of the network's input.

## Temperature

{_temperature(bundle, result)}

## Score scales

Raw scores that the anomaly plane's values stand for. The value a is meant to be reached by a share
10^(-{DECADES:g} a) of in-distribution pixels.

{_knots(bundle, result.scales)}

Check: scales fitted on the first half of every set, measured on the second halves,
{result.scales.held_out_images} images: false-positive rate in %, with its 95 % interval over
images (those of one drive are alike, which makes the interval too narrow).

{_false_positives(bundle, result.scales)}

{KEPT}
"""


def _temperature(bundle: Bundle, result: Recalibration) -> str:
    fitted = result.temperature
    if fitted is None:
        text = f'Kept at {bundle.temperature:.4f}.'
        if not result.after.bins.pixels:
            return text
        return f'{text}\n\n{_metrics({"all labelled images": result.after})}'
    old, new = fitted.held_out
    rows = {
        f'all labelled images, T = {bundle.temperature:.4f} (before)': fitted.before,
        f'the same, T = {fitted.value:.4f} (written)': result.after,
        f'second halves, T = {bundle.temperature:.4f} (before)': old,
        f'the same, T = {fitted.first_half:.4f} (fitted on the first halves)': new,
    }
    return (
        f'T = {fitted.value:.4f}, standard error {fitted.standard_error:.4f} over images; '
        f'before {bundle.temperature:.4f}.\n\n{_metrics(rows)}'
    )


def _metrics(rows: dict[str, ProbabilityMetrics]) -> str:
    head = ['', 'NLL', 'Brier', 'ECE', 'ECE, equal mass', 'MCE', 'accuracy']
    return grid(
        head,
        [
            [
                name,
                f'{metrics.nll():.4f}',
                f'{metrics.brier():.4f}',
                f'{metrics.bins.ece():.4f}',
                f'{metrics.bins.adaptive_ece():.4f}',
                f'{metrics.bins.mce():.4f}',
                f'{metrics.bins.accuracy():.4f}',
            ]
            for name, metrics in rows.items()
            if metrics.bins.pixels
        ],
    )


def _knots(bundle: Bundle, scales: ScaleResult) -> str:
    values = np.arange(KNOTS) / (KNOTS - 1)
    return grid(
        ['a', *(f'{value:g}' for value in values)],
        [
            [name, *(f'{knot:.4g}' for knot in row)]
            for name, row in zip(bundle.score_names, scales.knots, strict=True)
        ],
    )


def _false_positives(bundle: Bundle, scales: ScaleResult) -> str:
    return grid(
        ['score', *(f'a = {a:g}: nominal {100 * 10 ** (-DECADES * a):g}' for a in CHECKED)],
        [
            [name, *(f'{100 * x.value:.3g} ({100 * x.low:.3g} – {100 * x.high:.3g})' for x in row)]
            for name, row in zip(bundle.score_names, scales.false_positives, strict=True)
        ],
    )
