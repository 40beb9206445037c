# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What all scores share: the softmax of a pixel in a form without cancellation."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field
from functools import cached_property
from typing import TYPE_CHECKING

from seg_uncertainty_ros.scores.sums import DYADIC
from seg_uncertainty_ros.scores.sums import channel_sum
from seg_uncertainty_ros.scores.sums import dyadic_weights
from seg_uncertainty_ros.scores.sums import power

if TYPE_CHECKING:
    from torch import Tensor

# One over a difference of two logits that is none: runtimes may compute max z otherwise than z,
# and the largest logit then lies about 1e-7 below itself.
STEEP = 1e5


@dataclass(frozen=True)
class Evidence:
    """What scores are computed from, all float32; every derived plane is computed once.

    The P = HW pixels are one dimension: planes are Nx1xP. A runtime then neither changes nor asks
    for a shape between any two of the many operators that a score consists of.

    ``logits`` z tempered, NxSxP; ``features`` φ before the last convolution, NxFxHxW, >= 0;
    ``outlier`` the untempered logit of the outlier output, Nx1xP, or None without one.
    ``temperature`` T of z = y / T: a void class is one of the softmax's classes and takes it too;
    an outlier head is a classifier of its own, which T was not fitted on. ``tenths`` whether
    powers 0.1 and 0.3 are asked for anyhow: products of them then save an exponential.

    With y = z − max z <= 0 the softmax is e^y / ``total``. Sums over the classes leave out the
    predicted one, so that 1 − max p = ``rest / total`` keeps its precision where 1 − 1/Σe^y
    cancels.
    """

    logits: Tensor
    features: Tensor
    outlier: Tensor | None = None
    temperature: float = 1.0
    tenths: bool = False
    _others: dict[float, Tensor] = field(default_factory=dict, repr=False)
    _powers: dict[float, Tensor] = field(default_factory=dict, repr=False)
    _sums: dict[float, Tensor] = field(default_factory=dict, repr=False)
    _ratios: dict[float, Tensor] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        logits: Tensor,
        features: Tensor,
        outlier: Tensor | None = None,
        temperature: float = 1.0,
        *,
        tenths: bool = False,
    ) -> Evidence:
        """Return the evidence of a prediction: logits NxSxHxW, φ NxFxHxW, outlier Nx1xHxW."""
        outlier = None if outlier is None else outlier.flatten(2)
        return cls(logits.flatten(2), features, outlier, temperature, tenths)

    @property
    def classes(self) -> int:
        """The number of classes S."""
        return self.logits.shape[1]

    @cached_property
    def maximum(self) -> Tensor:
        """Max z, Nx1xP."""
        return self.logits.amax(dim=1, keepdim=True)

    @cached_property
    def shifted(self) -> Tensor:
        """Logits minus their maximum, y, NxSxP."""
        return self.logits - self.maximum

    @cached_property
    def below(self) -> Tensor:
        """1 where y < 0 by more than 2 / STEEP, 0 where a class has the largest logit, NxSxP.

        A comparison and a selection take three times as long.
        """
        return (self.shifted * -STEEP - 1.0).clamp(0.0, 1.0)

    @cached_property
    def ties(self) -> Tensor:
        """Number of classes besides the predicted one that have the largest logit, Nx1xP."""
        return (self.classes - 1.0) - channel_sum(self.below)

    def others(self, p: float) -> Tensor:
        """Return e^(p y), 0 for classes that have the largest logit, NxSxP; p of NORMS."""
        if p not in self._others:
            if p in (1.0, 2.0):
                half = self.others(0.5 * p)
                powers = half * half
            elif p == 0.3:
                tenth = self.others(0.1)
                powers = tenth * tenth * tenth
            elif p == 0.5 and self.tenths:
                tenth = self.others(0.1)
                powers = tenth * tenth * self.others(0.3)
            else:
                powers = (p * self.shifted).exp() * self.below
            self._others[p] = powers
        return self._others[p]

    def others_power_sum(self, p: float) -> Tensor:
        """Return Σ e^(p y) over the classes that are not predicted, Nx1xP."""
        return channel_sum(self.others(p)) + self.ties

    def feature_powers(self, p: float) -> Tensor:
        """Return φ^p, NxFxP; p of DYADIC, or 2."""
        if p not in self._powers:
            if p == 1.0:
                powers = self.features.flatten(2)
            elif p == 2.0:
                powers = self.feature_powers(1.0) * self.feature_powers(1.0)
            else:
                powers = self.feature_powers(2.0 * p).sqrt()
            self._powers[p] = powers
        return self._powers[p]

    def feature_power_sum(self, p: float) -> Tensor:
        """Return Σ φ^p, Nx1xP; p of NORMS, 0.1 and 0.3 as dyadic_weights says.

        A logarithm and two exponentials would take as long as all other scores together.
        """
        if p not in self._sums:
            if p in (0.1, 0.3):
                weights = zip(dyadic_weights(p), DYADIC, strict=True)
                total = sum(weight * self.feature_power_sum(e) for weight, e in weights)
            else:
                total = channel_sum(self.feature_powers(p))
            self._sums[p] = total
        return self._sums[p]

    def feature_power_ratio(self, p: float) -> Tensor:
        """Return Σ φ^p / total^p, Nx1xP; p of NORMS."""
        if p not in self._ratios:
            self._ratios[p] = self.feature_power_sum(p) / power(self.total, p)
        return self._ratios[p]

    @cached_property
    def rest(self) -> Tensor:
        """Σ e^y over the classes that are not predicted, Nx1xP."""
        return self.others_power_sum(1.0)

    @cached_property
    def total(self) -> Tensor:
        """Σ e^y, Nx1xP."""
        return 1.0 + self.rest

    @cached_property
    def log_total(self) -> Tensor:
        """Log Σ e^y, Nx1xP."""
        return self.total.log()

    @cached_property
    def uncertainty(self) -> Tensor:
        """1 − max p, Nx1xP."""
        return self.rest / self.total

    @cached_property
    def free_energy(self) -> Tensor:
        """−log Σ e^z, Nx1xP."""
        return -(self.maximum + self.log_total)
