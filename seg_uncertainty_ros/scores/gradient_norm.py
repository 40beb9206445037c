# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Pixel-wise gradient norms (PGN) of the last, 1x1, convolution.

Maag and Riedlinger, Pixel-wise gradient uncertainty for convolutional neural networks applied to
out-of-distribution segmentation, 2023. The gradient of the cross-entropy by the kernel factors
into a class vector s and the features φ: ‖∇_K L‖_p = ‖s‖_p · ‖φ‖_p without a backward pass.

The factors s that the paper prints in equations (5) and (6) differ from the exact gradient p − y
of the cross-entropy. Both are here: the plain names are the paper's, ``Exact`` is the gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from seg_uncertainty_ros.scores.evidence import channel_sum

if TYPE_CHECKING:
    from torch import Tensor

    from seg_uncertainty_ros.scores.evidence import Evidence


class GradientNorm(nn.Module):
    """‖s‖_p · ‖φ‖_p; subclasses give Σ_h |s_h|^p."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = p

    def power(self, x: Tensor) -> Tensor:
        """Return x^p for x >= 0; the square root has a kernel of its own."""
        return x.sqrt() if self.p == 0.5 else x**self.p

    def root(self, x: Tensor) -> Tensor:
        """Return x^(1/p)."""
        return x * x if self.p == 0.5 else x ** (1.0 / self.p)

    def class_power_sum(self, evidence: Evidence) -> Tensor:
        """Return Σ_h |s_h|^p, NxHxW."""
        raise NotImplementedError

    def forward(self, evidence: Evidence) -> Tensor:
        """Return the score, NxHxW, >= 0."""
        features = channel_sum(self.power(evidence.features))
        return self.root(self.class_power_sum(evidence) * features)


class PgnOneHot(GradientNorm):
    """s_h = p_h (1 − δ_hĉ), the paper's equation (5)."""

    description = 'gradient norm, predicted class as label, eq. (5) as printed'

    def class_power_sum(self, evidence: Evidence) -> Tensor:
        """Return Σ over the other classes of p_h^p."""
        return channel_sum(self.power(evidence.others)) / self.power(evidence.total)


class PgnUniform(GradientNorm):
    """s_h = (S − 1)/S · p_h, the paper's equation (6)."""

    description = 'gradient norm, uniform label, eq. (6) as printed'

    def class_power_sum(self, evidence: Evidence) -> Tensor:
        """Return Σ_h ((S − 1)/S · p_h)^p."""
        factor = ((evidence.classes - 1) / evidence.classes) ** self.p
        # The predicted class has exp = 1; added last, small terms keep their precision.
        powers = 1.0 + channel_sum(self.power(evidence.others))
        return factor * powers / self.power(evidence.total)


class PgnOneHotExact(GradientNorm):
    """s_h = p_h − δ_hĉ, the exact gradient with the predicted class as label."""

    description = 'gradient norm, predicted class as label, exact'

    def class_power_sum(self, evidence: Evidence) -> Tensor:
        """Return Σ over the other classes of p_h^p, plus (1 − max p)^p."""
        powers = channel_sum(self.power(evidence.others)) + self.power(evidence.rest)
        return powers / self.power(evidence.total)


class PgnUniformExact(GradientNorm):
    """s_h = p_h − 1/S, the exact gradient with the uniform label."""

    description = 'gradient norm, uniform label, exact'

    def class_power_sum(self, evidence: Evidence) -> Tensor:
        """Return Σ_h |p_h − 1/S|^p."""
        p = evidence.exp / evidence.total.unsqueeze(1)
        return channel_sum(self.power((p - 1.0 / evidence.classes).abs()))
