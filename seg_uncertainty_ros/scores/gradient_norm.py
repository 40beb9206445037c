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

from seg_uncertainty_ros.scores.evidence import channel_sum

if TYPE_CHECKING:
    from torch import Tensor

    from seg_uncertainty_ros.scores.evidence import Evidence

NORMS = (0.1, 0.3, 0.5, 1.0, 2.0)
"""The p of the paper."""


def power(x: Tensor, p: float) -> Tensor:
    """Return x^p for x >= 0 and p of NORMS."""
    if p == 1.0:
        return x
    if p == 2.0:
        return x * x
    if p == 0.5:
        return x.sqrt()
    # A general power takes four times as long; log 0 = −inf, and its exponential is 0 again.
    return (p * x.log()).exp()


def others_power_sum(evidence: Evidence, p: float) -> Tensor:
    """Return Σ e^(p y) over the classes that are not predicted, NxHxW.

    Not as powers of e^y, which is 0 where e^(y / 10) is still far from it.
    """
    return evidence.rest if p == 1.0 else channel_sum((p * evidence.below).exp())


class GradientNorm(nn.Module):
    """‖s‖_p · ‖φ‖_p, or its p-th power for p < 0.5; subclasses give Σ_h |s_h|^p."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if p not in NORMS:
            msg = f'p: {p}, expected one of {NORMS}'
            raise ValueError(msg)
        self.p = p

    def class_power_sum(self, evidence: Evidence) -> Tensor:
        """Return Σ_h |s_h|^p, NxHxW."""
        raise NotImplementedError

    def forward(self, evidence: Evidence) -> Tensor:
        """Return the score, NxHxW, >= 0."""
        features = channel_sum(power(evidence.features, self.p))
        powers = self.class_power_sum(evidence) * features
        if self.p == 0.5:
            return powers * powers
        return powers.sqrt() if self.p == 2.0 else powers


class PgnOneHot(GradientNorm):
    """s_h = p_h (1 − δ_hĉ), the paper's equation (5)."""

    def class_power_sum(self, evidence: Evidence) -> Tensor:
        """Return Σ over the other classes of p_h^p."""
        return others_power_sum(evidence, self.p) / power(evidence.total, self.p)


class PgnUniform(GradientNorm):
    """s_h = (S − 1)/S · p_h, the paper's equation (6)."""

    def class_power_sum(self, evidence: Evidence) -> Tensor:
        """Return Σ_h ((S − 1)/S · p_h)^p."""
        factor = ((evidence.classes - 1) / evidence.classes) ** self.p
        # The predicted class has exp = 1; added last, small terms keep their precision.
        powers = 1.0 + others_power_sum(evidence, self.p)
        return factor * powers / power(evidence.total, self.p)


class PgnOneHotExact(GradientNorm):
    """s_h = p_h − δ_hĉ, the exact gradient with the predicted class as label."""

    def class_power_sum(self, evidence: Evidence) -> Tensor:
        """Return Σ over the other classes of p_h^p, plus (1 − max p)^p."""
        powers = others_power_sum(evidence, self.p) + power(evidence.rest, self.p)
        return powers / power(evidence.total, self.p)


class PgnUniformExact(GradientNorm):
    """s_h = p_h − 1/S, the exact gradient with the uniform label."""

    def class_power_sum(self, evidence: Evidence) -> Tensor:
        """Return Σ_h |p_h − 1/S|^p."""
        p = evidence.exp / evidence.total.unsqueeze(1)
        return channel_sum(power((p - 1.0 / evidence.classes).abs(), self.p))
