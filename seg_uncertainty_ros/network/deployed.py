# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The deployed graph: from a uint8 camera image to uint8 planes and raw scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from seg_uncertainty_ros.scores import DEPLOYED
from seg_uncertainty_ros.scores import build_scores
from seg_uncertainty_ros.scores.evidence import Evidence
from seg_uncertainty_ros.scores.gradient_norm import need_tenths

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from seg_uncertainty_ros.network.segmenter import Prediction
    from seg_uncertainty_ros.network.segmenter import Segmenter
    from seg_uncertainty_ros.scores import FeatureStatistics

INPUTS = ('image', 'score_index')
OUTPUTS = ('labels', 'confidence', 'anomaly', 'embedding', 'scores')


class ScoreScale(nn.Module):
    """Monotone, piecewise linear map of each raw score onto 0..1.

    ``knots`` KxM, rows strictly increasing: score k reaches the value m/(M − 1) at knots[k, m].
    docs/architecture.md, principle 4, says what a value means.
    """

    def __init__(self, knots: Tensor) -> None:
        super().__init__()
        self.register_buffer('lower', knots[:, :-1, None].clone())
        self.register_buffer('inverse_width', 1.0 / (knots[:, 1:, None] - knots[:, :-1, None]))

    def forward(self, scores: Tensor, index: Tensor) -> Tensor:
        """Map the score ``index`` (int64 scalar) of KxP to 1x1xP in 0..1."""
        index = index.view(1)
        score, lower, inverse = (
            rows.index_select(0, index) for rows in (scores, self.lower, self.inverse_width)
        )
        pieces = ((score - lower) * inverse).clamp(0.0, 1.0)
        count = self.lower.shape[1]
        return pieces.new_full((1, count), 1.0 / count) @ pieces


def to_uint8(plane: Tensor) -> Tensor:
    """Return 0..1 as 0..255."""
    return (plane * 255.0).round().to(torch.uint8)


class DeployedGraph(nn.Module):
    """Normalise, network, temperature, softmax, confidence, scores, labels, embedding.

    Args:
        segmenter: the trained network.
        knots: KxM, scale of each score.
        scores: names out of SCORES in the order of the output; the first is max_softmax, which
            gives the confidence.
        temperature: T > 0 of p = softmax(y / T) (Guo et al., ICML 2017).
        statistics: of the features, for the scores that need them.

    Raises:
        ScoreError: a score that does not exist, or that this network cannot give.

    """

    def __init__(
        self,
        segmenter: Segmenter,
        knots: Tensor,
        temperature: float = 1.0,
        scores: Sequence[str] = DEPLOYED,
        statistics: FeatureStatistics | None = None,
    ) -> None:
        super().__init__()
        if scores[0] != 'max_softmax' or len(scores) != len(knots):
            msg = f'scores {scores} with knots {tuple(knots.shape)}: max_softmax comes first'
            raise ValueError(msg)
        self.segmenter = segmenter
        self.scores = build_scores(
            scores, outlier=segmenter.branch is not None, statistics=statistics
        )
        self.scale = ScoreScale(knots)
        self.temperature = temperature

    def raw(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return tempered logits 1xSxhxw, scores Kxhxw and embedding D of a uint8 HxWx3 BGR."""
        prediction = self._predict(image)
        scores = self._judge(prediction).view(-1, *prediction.logits.shape[2:])
        return prediction.logits / self.temperature, scores, prediction.embedding[0]

    def _predict(self, image: Tensor) -> Prediction:
        # TensorRT wants a uint8 input to meet a cast before anything else.
        return self.segmenter(image.float().permute(2, 0, 1).unsqueeze(0))

    def _judge(self, prediction: Prediction) -> Tensor:
        """Return raw scores KxP."""
        evidence = Evidence.of(
            prediction.logits / self.temperature,
            prediction.features,
            prediction.outlier,
            self.temperature,
            tenths=need_tenths(self.scores),
        )
        return torch.cat([score(evidence) for score in self.scores], dim=1).flatten(0, 1)

    def forward(self, image: Tensor, score_index: Tensor) -> tuple[Tensor, ...]:
        """Run the graph.

        Args:
            image: uint8 HxWx3 BGR; H and W are multiples of 32.
            score_index: int64 scalar, the score of the anomaly plane.

        Returns:
            labels uint8 H/2xW/2; confidence (max p) and anomaly uint8 H/4xW/4, 0..255 for 0..1;
            embedding float32 D; scores float32 KxH/4xW/4.

        """
        prediction = self._predict(image)
        scores = self._judge(prediction)
        height, width = prediction.logits.shape[2:]
        # The temperature changes no label; without it, the upsampling keeps the layout of the
        # convolution before it, which halves its time on a CPU.
        fine = F.interpolate(
            prediction.logits, scale_factor=2.0, mode='bilinear', align_corners=False
        )
        labels = fine.argmax(dim=1)[0].to(torch.uint8)
        confidence = to_uint8(1.0 - scores[0]).view(height, width)
        anomaly = to_uint8(self.scale(scores, score_index)).view(height, width)
        planes = scores.view(-1, height, width)
        return labels, confidence, anomaly, prediction.embedding[0], planes
