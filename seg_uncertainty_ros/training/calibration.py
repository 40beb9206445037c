# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Fit what turns logits and scores into numbers with a meaning, on in-distribution data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

KNOTS = 9
DECADES = 4.0


@dataclass(frozen=True)
class PixelSample:
    """Logits SxN and labels N of labelled pixels at logit resolution, on validation images."""

    logits: Tensor
    labels: Tensor


def fit_temperature(samples: Sequence[PixelSample]) -> float:
    """Return T that minimises the validation NLL of softmax(y / T).

    Guo et al., On calibration of modern neural networks, ICML 2017.
    """
    logits = torch.cat([s.logits for s in samples], dim=1).T.double()
    labels = torch.cat([s.labels for s in samples])
    log_t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_t], max_iter=30, line_search_fn='strong_wolfe')

    def nll() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(logits / log_t.exp(), labels)
        loss.backward()
        return loss

    optimizer.step(nll)
    return float(log_t.detach().exp())


def expected_calibration_error(samples: Sequence[PixelSample], temperature: float) -> float:
    """Return the ECE of the top label with 15 bins of equal width, 0..1 (Naeini et al., 2015)."""
    logits = torch.cat([s.logits for s in samples], dim=1).T.double()
    labels = torch.cat([s.labels for s in samples])
    confidence, predicted = torch.softmax(logits / temperature, dim=1).max(dim=1)
    right = (predicted == labels).double()
    bins = (confidence * 15).long().clamp(max=14)
    gap = torch.zeros(15, dtype=torch.float64)
    gap.index_add_(0, bins, right - confidence)
    return float(gap.abs().sum() / len(labels))


def score_knots(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return KxM knots of the fixed scale from in-distribution scores KxN.

    Knot m is the raw score that a share 10^(−4 m / (M − 1)) of in-distribution pixels reaches, so
    that the value a of the anomaly plane means a false-positive rate of 10^(−4 a).
    """
    rates = 10.0 ** (-DECADES * np.arange(KNOTS) / (KNOTS - 1))
    knots = np.quantile(scores.astype(np.float64), 1.0 - rates, axis=1).T
    # Saturated scores make equal quantiles; the map needs a step, however small.
    step = 1e-6 * np.maximum(np.abs(knots).max(axis=1, keepdims=True), 1e-6)
    return np.maximum.accumulate(knots, axis=1) + step * np.arange(KNOTS)
