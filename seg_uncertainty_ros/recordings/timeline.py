# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A picture of a drive as the monitor saw it: indicators, thresholds, warnings over time."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any

from seg_uncertainty_ros.bundle import Threshold

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

INDICATORS = (
    ('ood_area', 'ood_area', 'anomalous share\nof the road'),
    ('low_confidence', 'mean_confidence', 'mean confidence'),
    ('domain_shift', 'domain_shift', 'domain shift\n(1 = familiar)'),
)
# Where the reference has a sequential test, its evidence raises the warning, not the shift.
EVIDENCE = 'shift_evidence'
TEST = Threshold(1.0, 0.0, 'of the sequential test')
COLORS = {'ood_area': '#c0392b', 'low_confidence': '#2c6fbb', 'domain_shift': '#7d4fa8'}


def draw_timeline(
    path: Path,
    assessments: Sequence[Mapping[str, Any]],
    thresholds: Mapping[str, Threshold],
    *,
    title: str,
    truth: Mapping[str, tuple[float, float]] | None = None,
) -> None:
    """Write a PNG.

    Args:
        path: the file.
        assessments: ``Assessment.to_dict()`` in the order of their stamps, at least one.
        thresholds: of the bundle.
        title: what was driven.
        truth: what really happened, name to (start, end) in seconds since the first stamp.

    """
    # Matplotlib is slow to import, and a figure needs no window system.
    from matplotlib.figure import Figure

    start_ns = assessments[0]['stamp_ns']
    seconds = [(row['stamp_ns'] - start_ns) / 1e9 for row in assessments]
    figure = Figure(figsize=(11, 7), layout='constrained')
    axes = figure.subplots(len(INDICATORS), 1, sharex=True)
    for axis, (warning, key, label) in zip(axes, INDICATORS, strict=True):
        limit = thresholds[warning]
        if warning == 'domain_shift' and any(row[EVIDENCE] is not None for row in assessments):
            key, label, limit = EVIDENCE, 'evidence of a shift', TEST
        values = [float('nan') if row[key] is None else row[key] for row in assessments]
        axis.plot(seconds, values, color=COLORS[warning], linewidth=1.4)
        axis.axhline(limit.enter, color='black', linewidth=0.8, linestyle='--')
        axis.axhline(limit.exit, color='black', linewidth=0.8, linestyle=':')
        axis.text(1.005, limit.enter, 'raised', transform=axis.get_yaxis_transform(), va='center')
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
        shade_warning(axis, warning, seconds, assessments)
        for name, (begin, end) in (truth or {}).items():
            axis.axvspan(begin, end, ymin=0.0, ymax=0.035, color='black', alpha=0.6)
            if axis is axes[0]:
                axis.annotate(
                    name,
                    ((begin + end) / 2, 1.01),
                    xycoords=('data', 'axes fraction'),
                    ha='center',
                )
    axes[-1].set_xlabel('time since the first frame (s)')
    figure.suptitle(
        f'{title}: shaded where the monitor warned'
        + (', black bars where it was true' if truth else '')
    )
    figure.savefig(path, dpi=110)


def shade_warning(
    axis: Axes, name: str, seconds: Sequence[float], assessments: Sequence[Mapping[str, Any]]
) -> None:
    """Shade the time in which a warning was active."""
    active = [any(w['name'] == name for w in row['warnings']) for row in assessments]
    begin = None
    for second, now in zip([*seconds, seconds[-1]], [*active, False], strict=True):
        if now and begin is None:
            begin = second
        elif not now and begin is not None:
            axis.axvspan(begin, second, color=COLORS[name], alpha=0.15)
            begin = None
