# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Pixel-wise gradient norms (PGN) of the last, 1x1, convolution.

Maag and Riedlinger, Pixel-wise gradient uncertainty for convolutional neural networks applied to
out-of-distribution segmentation, 2023. The gradient of the cross-entropy by the kernel factors
into a class vector s and the features φ: ‖∇_K L‖_p = ‖s‖_p · ‖φ‖_p without a backward pass.

The factors s that the paper prints in equations (5) and (6) differ from the exact gradient p − y
of the cross-entropy. Both are here: the plain names are the paper's, ``Exact`` is the gradient.

Below p = 0.5 the score is ‖·‖_p^p, which orders pixels as the norm does: the root would raise it,
and its rounding, to the tenth power, far beyond what float16 holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from seg_uncertainty_ros.scores.sums import NORMS
from seg_uncertainty_ros.scores.sums import channel_sum
from seg_uncertainty_ros.scores.sums import power

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from seg_uncertainty_ros.scores.evidence import Evidence


class GradientNorm(nn.Module):
    """‖s‖_p · ‖φ‖_p, or its p-th power for p < 0.5; subclasses give Σ_h |s_h total|^p."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if p not in NORMS:
            msg = f'p: {p}, expected one of {NORMS}'
            raise ValueError(msg)
        self.p = p

    def power_sum(self, evidence: Evidence) -> Tensor:
        """Return Σ_h |s_h total|^p, Nx1xP, where p_h total = e^y."""
        raise NotImplementedError

    def forward(self, evidence: Evidence) -> Tensor:
        """Return the score, Nx1xP, >= 0."""
        powers = self.power_sum(evidence) * evidence.feature_power_ratio(self.p)
        if self.p == 0.5:
            return powers * powers
        return powers.sqrt() if self.p == 2.0 else powers


def need_tenths(scores: Iterable[nn.Module]) -> bool:
    """Return whether any of the scores takes a power below a half."""
    return any(isinstance(score, GradientNorm) and score.p < 0.5 for score in scores)


class PgnOneHot(GradientNorm):
    """s_h = p_h (1 − δ_hĉ), the paper's equation (5)."""

    def power_sum(self, evidence: Evidence) -> Tensor:
        """Return Σ over the other classes of e^(p y)."""
        return evidence.others_power_sum(self.p)


class PgnUniform(GradientNorm):
    """s_h = (S − 1)/S · p_h, the paper's equation (6)."""

    def power_sum(self, evidence: Evidence) -> Tensor:
        """Return Σ_h ((S − 1)/S · e^y)^p; the predicted class has e^y = 1."""
        factor = ((evidence.classes - 1) / evidence.classes) ** self.p
        return factor * evidence.others_power_sum(self.p) + factor


class PgnOneHotExact(GradientNorm):
    """s_h = p_h − δ_hĉ, the exact gradient with the predicted class as label."""

    def power_sum(self, evidence: Evidence) -> Tensor:
        """Return Σ over the other classes of e^(p y), plus (total − 1)^p."""
        return evidence.others_power_sum(self.p) + power(evidence.rest, self.p)


class PgnUniformExact(GradientNorm):
    """s_h = p_h − 1/S, the exact gradient with the uniform label."""

    def power_sum(self, evidence: Evidence) -> Tensor:
        """Return Σ_h |e^y − total/S|^p."""
        from_uniform = evidence.shifted.exp() - evidence.total / evidence.classes
        return channel_sum(power(from_uniform.abs(), self.p))
