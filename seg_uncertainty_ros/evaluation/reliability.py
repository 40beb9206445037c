# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Reliability diagrams (Guo et al., ICML 2017): accuracy against confidence, as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from seg_uncertainty_ros.evaluation.calibration import BINS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from matplotlib.axes import Axes

    from seg_uncertainty_ros.evaluation.calibration import ReliabilityBins

ACCURACY = '#33658a'
GAP = '#f26419'


def save_reliability(path: Path, panels: Mapping[str, ReliabilityBins]) -> None:
    """Write a PNG with one diagram for each of ``panels``, by title, side by side.

    Above: accuracy of each bin of confidence and its gap to the diagonal. Below: the share of
    pixels in each bin, logarithmic.
    """
    # A figure by itself draws with Agg: no window, no state of pyplot.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.4 * len(panels), 5.4), layout='constrained')
    axes = figure.subplots(
        2, len(panels), squeeze=False, sharex=True, sharey='row', height_ratios=(3, 1)
    )
    for (above, below), (title, bins) in zip(axes.T, panels.items(), strict=True):
        _draw_accuracy(above, bins)
        _draw_share(below, bins)
        above.set_title(f'{title}\nECE {bins.ece():.2%}, MCE {bins.mce():.1%}', fontsize=11)
        below.set_xlabel('confidence')
    axes[0, 0].set_ylabel('accuracy')
    axes[1, 0].set_ylabel('share of pixels')
    axes[0, 0].legend(loc='upper left', frameon=False)
    figure.savefig(path, dpi=120)


def _centres() -> np.ndarray:
    return (np.arange(BINS) + 0.5) / BINS


def _draw_accuracy(axes: Axes, bins: ReliabilityBins) -> None:
    _, confidence, accuracy = bins.equal_width()
    axes.bar(_centres(), accuracy, 1 / BINS, color=ACCURACY, edgecolor='white', label='accuracy')
    # From accuracy to mean confidence: its height is what the ECE weighs.
    axes.bar(
        _centres(),
        confidence - accuracy,
        0.4 / BINS,
        accuracy,
        color=GAP,
        label='gap to confidence',
    )
    axes.plot([0, 1], [0, 1], color='black', linewidth=1, linestyle='--', label='ideal')
    axes.set(xlim=(0, 1), ylim=(0, 1))


def _draw_share(axes: Axes, bins: ReliabilityBins) -> None:
    pixels, confidence, _ = bins.equal_width()
    axes.bar(_centres(), pixels / pixels.sum(), 1 / BINS, color='#999999', edgecolor='white')
    axes.set_yscale('log')
    means = {
        'confidence': (np.nansum(pixels * confidence) / pixels.sum(), GAP, '-'),
        'accuracy': (bins.accuracy(), ACCURACY, '--'),
    }
    for name, (value, color, style) in means.items():
        axes.axvline(value, color=color, linestyle=style, label=f'mean {name} {value:.3f}')
    axes.legend(loc='upper left', frameon=False, fontsize=8)
