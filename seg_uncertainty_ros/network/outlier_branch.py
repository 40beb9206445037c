# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A branch of its own for what is no class, beside the decoder.

It can be trained on a network that stays as it is: the masks remain what they were, and features
that have not seen pasted objects cannot learn the traces of pasting (compare Liu et al., Residual
pattern learning for pixel-wise out-of-distribution detection in semantic segmentation, ICCV 2023).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import nn

from seg_uncertainty_ros.network.decoder import conv_bn_relu

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


class OutlierBranch(nn.Module):
    """One logit from the encoder's features at strides 8, 16 and 32."""

    def __init__(self, channels: Sequence[int], width: int = 48, dropout: float = 0.1) -> None:
        super().__init__()
        self.dropout = nn.Dropout2d(dropout)
        self.laterals = nn.ModuleList(nn.Conv2d(count, width, 1) for count in channels[1:])
        self.smooth = conv_bn_relu(width, width, 3)
        self.output = nn.Conv2d(width, 1, 1)

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """Map feature maps at strides 4 to 32 to logits, NxH/4xW/4."""
        levels = [
            lateral(self.dropout(level))
            for lateral, level in zip(self.laterals, pyramid[1:], strict=True)
        ]
        top = levels[-1]
        for level in reversed(levels[:-1]):
            top = level + _twice(top)
        return _twice(self.output(self.smooth(top)))[:, 0]


def _twice(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode='bilinear', align_corners=False)
