# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Scores of a network with an outlier output: a void class, or a head of its own.

The output is one logit v. Trained as a void class it belongs to a softmax over S + 1 classes and
is tempered with them; trained as a head it is a sigmoid of its own and stays untempered. A score
of the other training is computed all the same: v − log Σ e^z of a head is the ratio of an outlier
posterior and a density that DenseHybrid uses (Grcić et al., ECCV 2022).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

    from seg_uncertainty_ros.scores.evidence import Evidence


def void_log_odds(evidence: Evidence) -> Tensor:
    """Return log(p_void / (1 − p_void)) = v / T − log Σ e^z of the softmax over S + 1."""
    return evidence.outlier / evidence.temperature + evidence.free_energy


class Void(nn.Module):
    """Log odds of the void class (Blum et al., IJCV 2021, Fishyscapes, section 4.3).

    The probability itself is their sigmoid, which saturates; the odds keep its order.
    """

    def forward(self, evidence: Evidence) -> Tensor:
        """Return the score, Nx1xP, unbounded."""
        return void_log_odds(evidence)


class VoidCombined(nn.Module):
    """p_void + 1 − max p_k, k <= S, of the softmax over S + 1; 0..2.

    UNO, negative objectness and uncertainty (Delić et al., BMVC 2024), which leaves out the 1.
    """

    def forward(self, evidence: Evidence) -> Tensor:
        """Return the score, Nx1xP; max p_k = (1 − p_void) max p."""
        odds = void_log_odds(evidence)
        return 2.0 * odds.sigmoid() + (-odds).sigmoid() * evidence.uncertainty


class Outlier(nn.Module):
    """Logit of the outlier head (Bevandić et al., GCPR 2019), in the order of its sigmoid."""

    def forward(self, evidence: Evidence) -> Tensor:
        """Return the score, Nx1xP, unbounded."""
        return evidence.outlier


class OutlierCombined(nn.Module):
    """1 − (1 − p_out) max p, 0..1: no outlier, and sure of the class.

    Bevandić et al., Dense open-set recognition based on training with noisy negative images,
    Image and Vision Computing 2022.
    """

    def forward(self, evidence: Evidence) -> Tensor:
        """Return the score, Nx1xP, as p_out + (1 − p_out)(1 − max p), which does not cancel."""
        logit = evidence.outlier
        return logit.sigmoid() + (-logit).sigmoid() * evidence.uncertainty
