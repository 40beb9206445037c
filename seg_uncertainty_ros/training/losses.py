# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Losses: what is known about a pixel's class, and what to do where it is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor


def superset_cross_entropy(
    logits: Tensor, target: Tensor, table: Tensor, weights: Tensor
) -> Tensor:
    """Return the mean of −log Σ_{s allowed} p_s over the pixels that allow any class.

    Args:
        logits: NxSxHxW.
        target: uint8 or int64 NxHxW, rows of ``table``.
        table: bool 256xS, the classes that a target value allows.
        weights: 256, weight of each target value; the mean is weighted.

    """
    target = target.long()
    allowed = table[target]
    valid = allowed.any(dim=-1)
    # A large finite penalty instead of -inf keeps the gradient of ignored pixels finite.
    penalty = torch.where(allowed, 0.0, -1e4).permute(0, 3, 1, 2)
    log_p = F.log_softmax(logits, dim=1)
    loss = -torch.logsumexp(log_p + penalty, dim=1)
    weight = weights[target] * valid
    return (loss * weight).sum() / weight.sum().clamp(min=1.0)


def uniform_cross_entropy(logits: Tensor, outlier: Tensor) -> Tensor:
    """Return the mean of −1/S Σ_s log p_s over the outlier pixels: least where p is uniform.

    Chan et al., Entropy maximization and meta classification for out-of-distribution detection in
    semantic segmentation, ICCV 2021, equation (3). ``logits`` NxSxHxW, ``outlier`` bool NxHxW.
    """
    loss = -F.log_softmax(logits, dim=1).mean(dim=1)
    return (loss * outlier).sum() / outlier.sum().clamp(min=1.0)


def outlier_cross_entropy(logit: Tensor, outlier: Tensor, known: Tensor) -> Tensor:
    """Return the binary cross-entropy of being no class, positives and negatives weighed alike.

    Bevandić et al., Simultaneous semantic segmentation and outlier detection in presence of domain
    shift, GCPR 2019. ``logit`` NxHxW; ``outlier`` and ``known`` bool NxHxW, the rest is ignored.
    """
    loss = F.binary_cross_entropy_with_logits(logit, outlier.to(logit.dtype), reduction='none')
    positive = (loss * outlier).sum() / outlier.sum().clamp(min=1.0)
    negative = (loss * known).sum() / known.sum().clamp(min=1.0)
    return positive + negative
