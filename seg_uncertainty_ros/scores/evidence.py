# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What all scores share: the softmax of a pixel in a form without cancellation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

NEVER = -1e5
"""A logit whose exponential is 0, also after a division by ten or a temperature."""


def channel_sum(planes: Tensor) -> Tensor:
    """Sum NxCxHxW over its channels, to NxHxW.

    As a product with ones: ONNX Runtime's sum over an axis that is not the last takes four to
    eight times as long on a CPU.
    """
    count, channels, height, width = planes.shape
    return (planes.new_ones(1, channels) @ planes.flatten(2)).view(count, height, width)


@dataclass(frozen=True)
class Evidence:
    """Softmax p = exp / total of the tempered logits z, all float32.

    ``exp`` e^(z − max z), NxSxHxW. ``below`` is z − max z with the predicted class at NEVER, so
    that its exponentials leave that class out: ``others`` e^below, ``rest`` its sum and ``total``
    1 + ``rest``, NxHxW. 1 − max p is ``rest / total`` to full precision, where 1 − 1/Σe would
    cancel on confident pixels.
    ``maximum`` max z, NxHxW. ``features`` φ before the last convolution, NxFxHxW, >= 0.
    ``outlier`` the untempered logit of the outlier output, NxHxW, or None without one.
    ``temperature`` T of z = y / T: a void class is one of the softmax's classes and takes it too;
    an outlier head is a classifier of its own, which T was not fitted on.
    """

    exp: Tensor
    below: Tensor
    others: Tensor
    rest: Tensor
    total: Tensor
    maximum: Tensor
    features: Tensor
    outlier: Tensor | None = None
    temperature: float = 1.0

    @property
    def classes(self) -> int:
        """The number of classes S."""
        return self.exp.shape[1]

    @classmethod
    def of(
        cls,
        logits: Tensor,
        features: Tensor,
        outlier: Tensor | None = None,
        temperature: float = 1.0,
    ) -> Evidence:
        """Compute from tempered logits NxSxHxW, features NxFxHxW and outlier logit NxHxW."""
        maximum, predicted = logits.max(dim=1, keepdim=True)
        shifted = logits - maximum
        exp = shifted.exp()
        index = torch.arange(logits.shape[1], device=logits.device).view(1, -1, 1, 1)
        below = shifted.where(index != predicted, NEVER)
        others = below.exp()
        rest = channel_sum(others)
        total = 1.0 + rest
        return cls(exp, below, others, rest, total, maximum[:, 0], features, outlier, temperature)
