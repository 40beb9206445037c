# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""ESPNetv2 for Cityscapes: the outside baseline, and the teacher of unlabelled frames.

Mehta et al., ESPNetv2: a light-weight, power efficient, and general purpose convolutional neural
network, CVPR 2019. Modules are named so that the authors' state dicts (sacmehta/EdgeNets) load.
"""

from __future__ import annotations

from collections import OrderedDict
from math import ceil
from math import gcd
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from seg_uncertainty_ros.errors import SegUncertaintyError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

OUTPUTS = 20
"""Cityscapes' 19 train ids and background."""
BACKGROUND = 19
STRIDE = 16

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
_BRANCHES = 4
_DECODER = (64, 48, 32)
_PYRAMID_SCALES = (2.0, 1.5, 1.0, 0.5, 0.1)
_PYRAMID_CHANNELS = 10
_PYRAMID_MIN_SIDE = 5


class WeightsError(SegUncertaintyError):
    """A file holds no weights of this network."""


def _conv(inputs: int, outputs: int, side: int, **options: int) -> nn.Conv2d:
    padding = side // 2 * options.get('dilation', 1)
    return nn.Conv2d(inputs, outputs, side, padding=padding, bias=False, **options)


def _named(**modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(modules))


def _conv_bn(inputs: int, outputs: int, side: int, **options: int) -> nn.Sequential:
    return _named(conv=_conv(inputs, outputs, side, **options), bn=nn.BatchNorm2d(outputs))


def _bn_act(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(channels), nn.PReLU(channels))


def _conv_bn_act(inputs: int, outputs: int, side: int, **options: int) -> nn.Sequential:
    return _named(
        conv=_conv(inputs, outputs, side, **options),
        bn=nn.BatchNorm2d(outputs),
        act=nn.PReLU(outputs),
    )


def _dilations(receptive_field: int) -> list[int]:
    """Return each branch's dilation, ascending; those that would see more than that get 1."""
    fields = [3 + 2 * branch for branch in range(_BRANCHES)]
    return sorted((field - 1) // 2 if field <= receptive_field else 1 for field in fields)


class _Eesp(nn.Module):
    """Extremely efficient spatial pyramid: reduce, dilated depthwise branches, merge (3.1)."""

    def __init__(self, inputs: int, outputs: int, receptive_field: int, stride: int = 1) -> None:
        super().__init__()
        width = outputs // _BRANCHES
        self.proj_1x1 = _conv_bn_act(inputs, width, 1, groups=_BRANCHES)
        self.spp_dw = nn.ModuleList(
            _named(conv=_conv(width, width, 3, stride=stride, groups=width, dilation=dilation))
            for dilation in _dilations(receptive_field)
        )
        self.conv_1x1_exp = _conv_bn(outputs, outputs, 1, groups=_BRANCHES)
        self.br_after_cat = _named(bn=nn.BatchNorm2d(outputs), act=nn.PReLU(outputs))
        self.module_act = nn.PReLU(outputs)

    def merged(self, x: Tensor) -> Tensor:
        reduced = self.proj_1x1(x)
        branches = [self.spp_dw[0](reduced)]
        for convolution in self.spp_dw[1:]:
            branches.append(convolution(reduced) + branches[-1])  # hierarchical feature fusion
        return self.conv_1x1_exp(self.br_after_cat(torch.cat(branches, dim=1)))

    def forward(self, x: Tensor) -> Tensor:
        return self.module_act(self.merged(x) + x)


class _DownSampler(nn.Module):
    """Strided EESP beside average pooling, plus a shortcut from the input image (3.2)."""

    def __init__(self, inputs: int, outputs: int, receptive_field: int) -> None:
        super().__init__()
        self.eesp = _Eesp(inputs, outputs - inputs, receptive_field, stride=2)
        self.inp_reinf = nn.Sequential(_conv_bn_act(3, 3, 3), _conv_bn(3, outputs, 1))
        self.act = nn.PReLU(outputs)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        halved = F.avg_pool2d(x, 3, stride=2, padding=1)
        features = torch.cat([halved, self.eesp.merged(x)], dim=1)
        while image.shape[-2:] != halved.shape[-2:]:
            image = F.avg_pool2d(image, 3, stride=2, padding=1)
        return self.act(features + self.inp_reinf(image))


class _Encoder(nn.Module):
    def __init__(self, width: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.level1 = _conv_bn_act(3, width[0], 3, stride=2)
        self.level2_0 = _DownSampler(width[0], width[1], 13)
        self.level3_0 = _DownSampler(width[1], width[2], 11)
        self.level3 = nn.Sequential(*(_Eesp(width[2], width[2], 9) for _ in range(3)))
        self.level4_0 = _DownSampler(width[2], width[3], 9)
        self.level4 = nn.Sequential(*(_Eesp(width[3], width[3], 7) for _ in range(7)))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        half = self.level1(image)
        quarter = self.level2_0(half, image)
        eighth = self.level3(self.level3_0(quarter, image))
        sixteenth = self.level4(self.level4_0(eighth, image))
        return half, quarter, eighth, sixteenth


class _PyramidPool(nn.Module):
    """Depthwise convolutions at several scales of a thin projection, merged."""

    def __init__(self, inputs: int, outputs: int, *, last: bool = False) -> None:
        super().__init__()
        thin = _PYRAMID_CHANNELS
        scales = len(_PYRAMID_SCALES)
        self.projection_layer = _named(cbr=_plain(_conv_bn_act(inputs, thin, 1)))
        self.stages = nn.ModuleList(_conv(thin, thin, 3, groups=thin) for _ in _PYRAMID_SCALES)
        self.merge_layer = nn.Sequential(
            _named(br=_bn_act(thin * scales)),
            nn.ChannelShuffle(scales),
            _named(cbr=_plain(_conv_bn_act(thin * scales, thin, 3, groups=thin))),
            nn.Conv2d(thin, outputs, 1, bias=last),
        )
        self.br = nn.Identity() if last else _named(br=_bn_act(outputs))

    def forward(self, x: Tensor) -> Tensor:
        x = self.projection_layer(x)
        size = x.shape[-2:]
        maps = []
        for scale, stage in zip(_PYRAMID_SCALES, self.stages, strict=True):
            scaled = [max(ceil(side * scale), _PYRAMID_MIN_SIDE) for side in size]
            if scale < 1:
                pooled = stage(F.adaptive_avg_pool2d(x, scaled))
                maps.append(_resize(pooled, size))
            elif scale > 1:
                maps.append(F.adaptive_avg_pool2d(stage(_resize(x, scaled)), size))
            else:
                maps.append(stage(x))
        return self.br(self.merge_layer(torch.cat(maps, dim=1)))


class _Skip(nn.Module):
    """Encoder features, reweighted channel by channel."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.wt_layer = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(inputs, outputs, 1, bias=False),
            nn.Sigmoid(),
        )
        groups = gcd(inputs, outputs)
        self.expansion_layer = _named(cbr=_plain(_conv_bn_act(inputs, outputs, 3, groups=groups)))

    def forward(self, x: Tensor) -> Tensor:
        return self.expansion_layer(x) * self.wt_layer(x)


def _plain(modules: nn.Sequential) -> nn.Sequential:
    """Return the same modules numbered: the authors name them in the encoder only."""
    return nn.Sequential(*modules)


def _resize(x: Tensor, size: list[int] | torch.Size) -> Tensor:
    return F.interpolate(x, size=tuple(size), mode='bilinear', align_corners=True)


class EspNetV2(nn.Module):
    """ESPNetv2 with the authors' decoder.

    Args:
        scale: The authors' s, a multiple of 0.5 from 1.0: how wide the encoder is.

    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        width = (32, round(64 * scale), round(128 * scale), round(256 * scale))
        self.base_net = _Encoder(width)
        self.bu_dec_l1 = _PyramidPool(width[3], _DECODER[0])
        self.bu_dec_l2 = _PyramidPool(_DECODER[0], _DECODER[1])
        self.bu_dec_l3 = _PyramidPool(_DECODER[1], _DECODER[2])
        self.bu_dec_l4 = _PyramidPool(_DECODER[2], OUTPUTS, last=True)
        self.merge_enc_dec_l2 = _Skip(width[2], _DECODER[0])
        self.merge_enc_dec_l3 = _Skip(width[1], _DECODER[1])
        self.merge_enc_dec_l4 = _Skip(width[0], _DECODER[2])
        self.bu_br_l2 = _bn_act(_DECODER[0])
        self.bu_br_l3 = _bn_act(_DECODER[1])
        self.bu_br_l4 = _bn_act(_DECODER[2])
        self.register_buffer('mean', torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits NxOUTPUTSxH/2xW/2 of uint8 BGR images Nx3xHxW; STRIDE divides H and W."""
        image = (image.flip(1).float() / 255 - self.mean) / self.std
        half, quarter, eighth, sixteenth = self.base_net(image)
        x = self.bu_dec_l1(sixteenth)
        x = self.bu_br_l2(self.merge_enc_dec_l2(eighth) + _resize(x, eighth.shape[-2:]))
        x = self.bu_dec_l2(x)
        x = self.bu_br_l3(self.merge_enc_dec_l3(quarter) + _resize(x, quarter.shape[-2:]))
        x = self.bu_dec_l3(x)
        x = self.bu_br_l4(self.merge_enc_dec_l4(half) + _resize(x, half.shape[-2:]))
        return self.bu_dec_l4(x)


def load_espnetv2(path: Path) -> EspNetV2:
    """Return the network of a state dict file, in evaluation mode; its width tells the scale.

    Raises:
        WeightsError: The file is no state dict of this network.

    """
    try:
        weights = torch.load(path, map_location='cpu', weights_only=True)
        scale = len(weights['base_net.level2_0.act.weight']) / 64
        network = EspNetV2(scale)
        network.load_state_dict(weights)
    except Exception as error:
        reason = str(error).splitlines()[0]
        msg = f'{path}: no ESPNetv2 Cityscapes state dict: {type(error).__name__}: {reason}'
        raise WeightsError(msg) from error
    return network.eval()
