# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What the deployed graph does behind a network of any kind: from logits to planes and scores.

Planes of scores have a quarter of the input's sides, whatever the stride of the logits. Coarser
logits, and features with them, are interpolated, as networks of this kind do themselves before
the argmax; the last, 1x1, convolution and the interpolation can change places, so that this gives
the scores of a network which interpolates first. Logits at each pixel are averaged over 4x4:
scores of all of them would take sixteen times as long, more than the network itself, and differ
little between neighbours; every second or fourth logit alone would lose what is thin.
"""

from __future__ import annotations

import warnings
from math import ceil
from typing import TYPE_CHECKING

import onnx
import torch
import torch.nn.functional as F
from torch import nn
from torch.export import Dim

from seg_uncertainty_ros.network.deployed import OUTPUTS
from seg_uncertainty_ros.network.deployed import ScoreScale
from seg_uncertainty_ros.network.deployed import to_uint8
from seg_uncertainty_ros.network.export import simplify
from seg_uncertainty_ros.network.given import GRID
from seg_uncertainty_ros.network.given import OPSET
from seg_uncertainty_ros.runtime.calibrated_graph import TEMPERATURE
from seg_uncertainty_ros.scores import SCORES
from seg_uncertainty_ros.scores import build_scores
from seg_uncertainty_ros.scores.evidence import Evidence
from seg_uncertainty_ros.scores.gradient_norm import need_tenths

if TYPE_CHECKING:
    from collections.abc import Sequence
    from fractions import Fraction
    from pathlib import Path

    from torch import Tensor

    from seg_uncertainty_ros.network.given import GivenNetwork
    from seg_uncertainty_ros.scores import FeatureStatistics

LABELS = 2
"""The labels have half of the input's sides."""
INPUTS = ('logits', 'score_index', 'features')
# Neither 1, as exporters leave a division by 1 out, nor a constant that a score has: exporters
# make one tensor of two equal ones.
PLACEHOLDER = 1.6180339


def resample(
    plane: Tensor, stride: Fraction, target: int, image: tuple[int, int] | None = None
) -> Tensor:
    """Bring NxCxhxw from one stride to another.

    Args:
        plane: at ``stride`` of the image.
        stride: sides of the image over those of the plane.
        target: the stride to come to.
        image: (height, width) of images of one size, which ``target`` need not divide.

    """
    windows = round(target / stride)
    if windows > 1:
        # The last window of a side that the stride does not divide is a smaller one.
        partial = image is not None and any(side % target for side in image)
        plane = F.avg_pool2d(plane, windows, ceil_mode=partial, count_include_pad=False)
        stride *= windows
    if image is not None:
        size = [ceil(side / target) for side in image]
        if list(plane.shape[2:]) == size:
            return plane
        return F.interpolate(plane, size=size, mode='bilinear', align_corners=False)
    if stride == target:
        return plane
    factor = float(stride / target)
    return F.interpolate(plane, scale_factor=factor, mode='bilinear', align_corners=False)


class ScoreHead(nn.Module):
    """Temperature, scores, labels, confidence, anomaly and embedding of a given network.

    Args:
        network: whose logits and features these are.
        knots: KxM, scale of each score.
        scores: names out of SCORES in the order of the output; the first is max_softmax.
        statistics: of the features, for the scores that need them.

    Raises:
        ScoreError: a score that does not exist, or that this network cannot give.

    """

    def __init__(
        self,
        network: GivenNetwork,
        knots: Tensor,
        scores: Sequence[str],
        statistics: FeatureStatistics | None = None,
    ) -> None:
        super().__init__()
        self.strides = [plane.stride for plane in network.planes]
        self.image = network.geometry.size
        self.scores = build_scores(scores, statistics=statistics)
        self.signed = [SCORES[name].needs == 'statistics' for name in scores]
        self.scale = ScoreScale(knots)
        self.register_buffer(TEMPERATURE, torch.tensor(PLACEHOLDER))

    def forward(
        self, logits: Tensor, score_index: Tensor, features: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Return labels, confidence, anomaly, embedding and scores as the deployed graph does.

        Args:
            logits: 1xSxhxw.
            score_index: int64 scalar, the score of the anomaly plane.
            features: 1xFxhxw, of any sign, or None.

        """
        fine = resample(logits, self.strides[0], LABELS, self.image)
        labels = fine.argmax(dim=1)[0].to(torch.uint8)
        coarse = resample(logits, self.strides[0], GRID, self.image)
        height, width = coarse.shape[2:]
        scores = self._judge(coarse / self.temperature, features)
        confidence = to_uint8(1.0 - scores[0]).view(height, width)
        anomaly = to_uint8(self.scale(scores, score_index)).view(height, width)
        source = logits if features is None else features
        embedding = source.mean(dim=(2, 3), keepdim=True).flatten()
        return labels, confidence, anomaly, embedding, scores.view(-1, height, width)

    def _judge(self, logits: Tensor, features: Tensor | None) -> Tensor:
        """Return raw scores KxP of tempered logits."""
        signed = logits if features is None else features
        if features is not None:
            signed = resample(features, self.strides[1], GRID, self.image)
        # A gradient's norm takes features of any sign by their size, a distance as they are.
        size = Evidence.of(logits, signed.abs(), tenths=need_tenths(self.scores))
        place = Evidence.of(logits, signed)
        pairs = zip(self.scores, self.signed, strict=True)
        planes = [score(place if needs_sign else size) for score, needs_sign in pairs]
        return torch.cat(planes, dim=1).flatten(0, 1)


def export_head(head: ScoreHead, network: GivenNetwork, path: Path) -> onnx.ModelProto:
    """Return the head as an ONNX model of temperature 1; ``path`` is a file for the way there.

    Raises:
        RuntimeError: the exporter did something else with the temperature than dividing by it.

    """
    stride, size = network.geometry.stride, network.geometry.size
    shape = size or (6 * stride, 8 * stride)
    planes, shapes = [], []
    rows, columns = Dim('rows'), Dim('columns')
    for plane in network.planes:
        height, width = (ceil(side / plane.stride) for side in shape)
        planes.append(torch.zeros(1, plane.channels, height, width))
        factor = int(stride / plane.stride) if size is None else 0
        shapes.append({2: factor * rows, 3: factor * columns} if factor else None)
    planes.insert(1, torch.tensor(0))
    shapes.insert(1, None)
    names = INPUTS[: len(planes)]
    with warnings.catch_warnings():
        # Features and logits of one stride share their axes: that is meant.
        warnings.filterwarnings('ignore', message='.*axis name', category=UserWarning)
        warnings.filterwarnings('ignore', module='copyreg', category=FutureWarning)
        torch.onnx.export(
            head.eval(),
            tuple(planes),
            str(path),
            input_names=list(names),
            output_names=list(OUTPUTS),
            opset_version=OPSET,
            external_data=False,
            dynamic_shapes=None if size else dict(zip(names, shapes, strict=True)),
            dynamo=True,
            verbose=False,
        )
    model = onnx.load(path)
    simplify(model)
    users = [node.op_type for node in model.graph.node if TEMPERATURE in node.input]
    if users != ['Div']:
        msg = f'the temperature is read by {users}, expected one division'
        raise RuntimeError(msg)
    temperature = next(x for x in model.graph.initializer if x.name == TEMPERATURE)
    value = onnx.helper.make_tensor(TEMPERATURE, onnx.TensorProto.FLOAT, (), [1.0])
    temperature.CopyFrom(value)
    return model
