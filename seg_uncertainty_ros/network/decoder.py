# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Light feature-pyramid decoder.

Lin et al., Feature Pyramid Networks, CVPR 2017; Kirillov et al., Panoptic FPN, CVPR 2019.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def conv_bn_relu(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    """Return convolution, batch norm, ReLU; the size is kept."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class PyramidDecoder(nn.Module):
    """Top-down pathway from stride 32 to stride 4 with global context at its top."""

    def __init__(self, channels: Sequence[int], width: int = 96, features: int = 64) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.context = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels[-1], width, 1), nn.ReLU(inplace=True)
        )
        outputs = [features] + [width] * (len(channels) - 1)
        self.smooth = nn.ModuleList(conv_bn_relu(width, out, 3) for out in outputs)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map feature maps (fine to coarse) to the features φ >= 0, NxFxH/4xW/4."""
        top = self.laterals[-1](features[-1]) + self.context(features[-1])
        top = self.smooth[-1](top)
        for lateral, smooth, feature in zip(
            reversed(self.laterals[:-1]),
            reversed(self.smooth[:-1]),
            reversed(features[:-1]),
            strict=True,
        ):
            up = F.interpolate(top, scale_factor=2.0, mode='bilinear', align_corners=False)
            top = smooth(lateral(feature) + up)
        return top
