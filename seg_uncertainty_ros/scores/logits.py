# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Scores on the tempered logits themselves: max logit, energy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

    from seg_uncertainty_ros.scores.evidence import Evidence


class MaxLogit(nn.Module):
    """−max z (Hendrycks et al., Scaling out-of-distribution detection, ICML 2022)."""

    def forward(self, evidence: Evidence) -> Tensor:
        """Return the score, Nx1xP, unbounded."""
        return -evidence.maximum


class Energy(nn.Module):
    """−log Σ e^z (Liu et al., Energy-based out-of-distribution detection, NeurIPS 2020)."""

    def forward(self, evidence: Evidence) -> Tensor:
        """Return the score, Nx1xP, unbounded."""
        return evidence.free_energy
