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
    """One logit from the encoder's features at strides 8, 16 and 32 and from the decoder's.

    Only 1x1 convolutions at stride 8, of every second of the decoder's features in every second
    row: two percent of the network. Without the decoder's it costs a fifth less and finds less.
    """

    def __init__(
        self, channels: Sequence[int], features: int, width: int = 16, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.dropout = nn.Dropout2d(dropout)
        self.laterals = nn.ModuleList(
            _lateral(count, width, stride)
            for count, stride in ((features, 2), *((count, 1) for count in channels[1:]))
        )
        self.hidden = conv_bn_relu(width, width, 1)
        self.output = nn.Conv2d(width, 1, 1)

    def forward(self, pyramid: Sequence[Tensor], features: Tensor) -> Tensor:
        """Map the encoder's features at strides 4 to 32, and φ at 4, to logits Nx1xH/4xW/4."""
        fine, eighth, *coarse = (
            lateral(self.dropout(level))
            for lateral, level in zip(self.laterals, (features, *pyramid[1:]), strict=True)
        )
        top = coarse[-1]
        for level in (*reversed(coarse[:-1]), eighth):
            top = level + _twice(top)
        return _twice(self.output(self.hidden(F.relu(top + fine))))


def _lateral(channels: int, width: int, stride: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width)
    )


def _twice(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode='bilinear', align_corners=False)
