# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What all scores share: the softmax of a pixel in a form without cancellation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


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

    ``shifted`` z − max z and ``exp`` e^shifted, NxSxHxW. ``others`` is ``exp`` with the predicted
    class set to zero, ``rest`` its sum and ``total`` = 1 + ``rest``, NxHxW: 1 − max p is
    ``rest / total`` to full precision, where 1 − 1/Σe would cancel on confident pixels.
    ``maximum`` max z, NxHxW. ``features`` φ before the last convolution, NxFxHxW, >= 0.
    ``outlier`` the untempered logit of the outlier output, NxHxW, or None without one.
    """

    shifted: Tensor
    exp: Tensor
    others: Tensor
    rest: Tensor
    total: Tensor
    maximum: Tensor
    features: Tensor
    outlier: Tensor | None = None

    @property
    def classes(self) -> int:
        """The number of classes S."""
        return self.exp.shape[1]

    @classmethod
    def of(cls, logits: Tensor, features: Tensor, outlier: Tensor | None = None) -> Evidence:
        """Compute from tempered logits NxSxHxW, features NxFxHxW and outlier logit NxHxW."""
        maximum, predicted = logits.max(dim=1, keepdim=True)
        shifted = logits - maximum
        exp = shifted.exp()
        index = torch.arange(logits.shape[1], device=logits.device).view(1, -1, 1, 1)
        others = exp * (index != predicted).to(exp.dtype)
        rest = channel_sum(others)
        total = 1.0 + rest
        return cls(shifted, exp, others, rest, total, maximum[:, 0], features, outlier)
