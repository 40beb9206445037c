# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Dispersion of the softmax: max softmax, entropy, margin."""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING

import torch
from torch import nn

from seg_uncertainty_ros.scores.sums import channel_sum

if TYPE_CHECKING:
    from torch import Tensor

    from seg_uncertainty_ros.scores.evidence import Evidence


class MaxSoftmax(nn.Module):
    """1 − max p, 0..1 − 1/S (Hendrycks and Gimpel, ICLR 2017)."""

    def forward(self, evidence: Evidence) -> Tensor:
        """Return the score, Nx1xP."""
        return evidence.uncertainty


class Entropy(nn.Module):
    """−Σ p log p / log S, 0..1 (Chan et al., ICCV 2021)."""

    def forward(self, evidence: Evidence) -> Tensor:
        """Return the score, Nx1xP; log Σe − Σ e·y / Σe, where the maximum adds 0."""
        expected = channel_sum(evidence.others(1.0) * evidence.shifted) / evidence.total
        return (evidence.log_total - expected) / log(evidence.classes)


class Margin(nn.Module):
    """1 − max p + second max p, 0..1."""

    def forward(self, evidence: Evidence) -> Tensor:
        """Return the score, Nx1xP."""
        second = evidence.others(1.0).amax(dim=1, keepdim=True)
        second = torch.maximum(second, evidence.ties.clamp(max=1.0))
        return (evidence.rest + second) / evidence.total
