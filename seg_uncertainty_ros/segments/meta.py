# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Meta classification and regression: whether a segment is an object, and how well it fits.

Linear models on the standardised features of a segment (Rottmann et al. 2020): a logistic one for
the probability that it overlaps a true object, a ridge regression for its IoU with that object.
"""

from __future__ import annotations

from dataclasses import asdict
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING
from typing import Any

import numpy as np

from seg_uncertainty_ros.errors import SegUncertaintyError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


class MetaModelError(SegUncertaintyError):
    """A meta model contradicts itself; names the field."""


@dataclass(frozen=True)
class Verdicts:
    """Of each segment: probability of a true object, expected IoU; (N,) in [0, 1]."""

    probability: NDArray[np.float64]
    iou: NDArray[np.float64]


@dataclass(frozen=True)
class LinearModel:
    """A weight for each standardised feature, and what is added."""

    weights: tuple[float, ...]
    intercept: float


@dataclass(frozen=True)
class MetaModel:
    """What was fitted on segments of labelled images.

    scores: of the graph, in the order of the dispersion planes; features: names out of
    ``features.feature_names``; mean, scale: of the features; threshold: segments whose
    probability is below are no objects, ``reason`` says where it comes from.
    """

    scores: tuple[str, ...]
    features: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    classification: LinearModel
    regression: LinearModel
    threshold: float
    reason: str
    provenance: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Check lengths and numbers."""
        vectors = {
            'mean': self.mean,
            'scale': self.scale,
            'classification.weights': self.classification.weights,
            'regression.weights': self.regression.weights,
        }
        for name, values in vectors.items():
            if len(values) != len(self.features):
                msg = f'{name}: {len(values)} values, expected {len(self.features)} as features'
                raise MetaModelError(msg)
        numbers = {
            **{name: sum(values) for name, values in vectors.items()},
            'classification.intercept': self.classification.intercept,
            'regression.intercept': self.regression.intercept,
            'threshold': self.threshold,
        }
        for name, number in numbers.items():
            if not isfinite(number):
                msg = f'{name}: {number}, expected finite numbers'
                raise MetaModelError(msg)
        if min(self.scale, default=1.0) <= 0:
            msg = f'scale: {min(self.scale)}, expected above 0'
            raise MetaModelError(msg)

    def predict(self, features: NDArray[np.float64]) -> Verdicts:
        """Judge segments by the model's features, finite (N, F)."""
        z = (features - np.array(self.mean)) / np.array(self.scale)
        logit = z @ np.array(self.classification.weights) + self.classification.intercept
        iou = z @ np.array(self.regression.weights) + self.regression.intercept
        # tanh does not overflow.
        return Verdicts(0.5 + 0.5 * np.tanh(0.5 * logit), np.clip(iou, 0.0, 1.0))

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists and numbers, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> MetaModel:
        """Return the model of ``to_dict``, of the right types; raises ``MetaModelError``."""
        linear = {
            name: LinearModel(tuple(content[name]['weights']), content[name]['intercept'])
            for name in ('classification', 'regression')
        }
        rows = {name: tuple(content[name]) for name in ('scores', 'features', 'mean', 'scale')}
        return cls(
            **rows,
            **linear,
            threshold=content['threshold'],
            reason=content['reason'],
            provenance=content['provenance'],
        )
