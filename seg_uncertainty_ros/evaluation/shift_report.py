# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What `shift-report` says, as Markdown and as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from seg_uncertainty_ros.evaluation.shift import COLUMNS
from seg_uncertainty_ros.evaluation.tables import grid

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from seg_uncertainty_ros.calibration.false_alarms import FalseAlarms
    from seg_uncertainty_ros.evaluation.shift import Separation

SHOWN = 8
"""Sources in a table of all indicators; more go into the next one."""


def separations(found: Sequence[Separation]) -> str:
    """Return a table of the combined shift: a row a source."""
    rows = [
        [
            source.name,
            str(source.count),
            number(source.windows[0]),
            number(source.frames[0]),
            number(source.q_emd[0], 1),
            f'{100 * source.above:.0f} %',
        ]
        for source in found
    ]
    head = ['source', 'windows', 'AUROC of windows', 'AUROC of frames', 'Q_EMD', 'above the bound']
    return grid(head, rows)


def indicators(found: Sequence[Separation], *, frames: bool = False) -> str:
    """Return tables of the AUROC of every indicator: a row an indicator, a column a source."""
    tables = []
    for start in range(0, len(found), SHOWN):
        shown = found[start : start + SHOWN]
        columns = [source.frames if frames else source.windows for source in shown]
        rows = [
            [name, *(number(column[index]) for column in columns)]
            for index, name in enumerate(COLUMNS)
        ]
        tables.append(grid(['indicator', *(source.name for source in shown)], rows))
    return '\n\n'.join(tables)


def false_alarm_table(rates: Mapping[str, FalseAlarms]) -> str:
    """Return a table of false alarms: a row a warning."""
    rows = [
        [
            name,
            f'{rate.per_hour:.2f} [{rate.low:.2f}, {rate.high:.2f}]',
            str(rate.alarms),
            f'{60 * rate.hours:.1f} min',
        ]
        for name, rate in rates.items()
    ]
    head = ['warning', 'false alarms an hour, simulated', 'on the drives themselves', 'of drives']
    return grid(head, rows)


def delay_table(delays: Mapping[str, tuple[int, float | None]]) -> str:
    """Return a table from ramp -> alarms before it, and seconds after severity 3 or None."""
    rows = [
        [name, str(before), 'none' if delay is None else f'{delay:+.1f} s']
        for name, (before, delay) in delays.items()
    ]
    return grid(['ramp', 'alarms before it', 'alarm, from severity 3 on'], rows)


def draw(path: Path, found: Sequence[Separation], title: str) -> None:
    """Write a PNG: AUROC of windows, an indicator a row, a source a column."""
    # Matplotlib is slow to import, and a figure needs no window system.
    from matplotlib.figure import Figure

    values = np.stack([source.windows for source in found], axis=1)
    figure = Figure(figsize=(3.2 + 0.62 * len(found), 7.2), layout='constrained')
    axis = figure.subplots()
    image = axis.imshow(values, vmin=0.5, vmax=1.0, cmap='viridis', aspect='auto')
    axis.set_xticks(range(len(found)), [s.name for s in found], rotation=60, ha='right')
    axis.set_yticks(range(len(COLUMNS)), [name.replace('_', ' ') for name in COLUMNS])
    _annotate(axis, values)
    figure.colorbar(image, label='AUROC of windows (0.5: chance or less)', shrink=0.6)
    axis.set_title(title)
    figure.savefig(path, dpi=110)


def _annotate(axis: object, values: NDArray[np.float64]) -> None:
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            text = '1' if value > 0.995 else f'{value:.2f}'.removeprefix('0')
            color = 'black' if value > 0.75 else 'white'
            axis.text(column, row, text, ha='center', va='center', fontsize=7, color=color)


def number(value: float, digits: int = 3) -> str:
    """Return a number, a dash for NaN."""
    return '–' if np.isnan(value) else f'{value:.{digits}f}'
