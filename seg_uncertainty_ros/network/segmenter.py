# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The segmentation network: encoder, decoder, 1x1 classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from seg_uncertainty_ros.network.decoder import PyramidDecoder
from seg_uncertainty_ros.network.encoder import EfficientNetLite0
from seg_uncertainty_ros.network.outlier_branch import OutlierBranch

if TYPE_CHECKING:
    from torch import Tensor

# What the ImageNet weights were trained with (TensorFlow's EfficientNet-Lite).
PIXEL_MEAN = 127.0
PIXEL_STD = 128.0


@dataclass(frozen=True)
class Prediction:
    """Raw output of the network for N images of HxW.

    ``logits`` NxSxH/4xW/4; ``features`` φ before the last convolution, NxFxH/4xW/4, >= 0;
    ``embedding`` NxD, the encoder's features at each stride, averaged over the image.
    ``outlier`` Nx1xH/4xW/4, logit of being no class at all; None where the network has no such
    output.
    """

    logits: Tensor
    features: Tensor
    embedding: Tensor
    outlier: Tensor | None = None


class Segmenter(nn.Module):
    """EfficientNet-Lite0 with a feature pyramid; logits at stride 4.

    With ``outlier`` it has a branch for what is no class: the logit of a void class or of an
    outlier head, whichever the training made of it.
    """

    stride = EfficientNetLite0.stride

    def __init__(
        self, classes: int, features: int = 64, dropout: float = 0.1, *, outlier: bool = False
    ) -> None:
        super().__init__()
        self.classes = classes
        self.encoder = EfficientNetLite0()
        self.decoder = PyramidDecoder(self.encoder.channels, features=features)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(features, classes, 1)
        self.branch = OutlierBranch(self.encoder.channels, features) if outlier else None

    def forward(self, image: Tensor) -> Prediction:
        """Segment images: Nx3xHxW, BGR, 0..255; H and W are multiples of 32."""
        # BGR to RGB by slices: an index list would be exported as a gather.
        rgb = torch.cat([image[:, 2:3], image[:, 1:2], image[:, 0:1]], dim=1)
        pyramid = self.encoder((rgb - PIXEL_MEAN) / PIXEL_STD)
        features = self.decoder(pyramid)
        logits = self.classifier(self.dropout(features))
        outlier = self.branch(pyramid, features) if self.branch else None
        means = [level.mean(dim=(2, 3), keepdim=True) for level in pyramid]
        embedding = torch.cat(means, dim=1).flatten(1)
        return Prediction(logits, features, embedding, outlier)
