# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Anomaly scores of a pixel, higher is stranger: modules from Evidence to Nx1xP, P pixels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING
from typing import Literal

from torch import nn

from seg_uncertainty_ros.errors import SegUncertaintyError
from seg_uncertainty_ros.scores.gradient_norm import PgnOneHot
from seg_uncertainty_ros.scores.gradient_norm import PgnOneHotExact
from seg_uncertainty_ros.scores.gradient_norm import PgnUniform
from seg_uncertainty_ros.scores.gradient_norm import PgnUniformExact
from seg_uncertainty_ros.scores.logits import Energy
from seg_uncertainty_ros.scores.logits import MaxLogit
from seg_uncertainty_ros.scores.mahalanobis import FeatureStatistics
from seg_uncertainty_ros.scores.mahalanobis import FullMahalanobis
from seg_uncertainty_ros.scores.mahalanobis import Mahalanobis
from seg_uncertainty_ros.scores.outlier import Outlier
from seg_uncertainty_ros.scores.outlier import OutlierCombined
from seg_uncertainty_ros.scores.outlier import Void
from seg_uncertainty_ros.scores.outlier import VoidCombined
from seg_uncertainty_ros.scores.softmax import Entropy
from seg_uncertainty_ros.scores.softmax import Margin
from seg_uncertainty_ros.scores.softmax import MaxSoftmax
from seg_uncertainty_ros.scores.sums import NORMS

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable


class ScoreError(SegUncertaintyError):
    """A score that does not exist, or that this network cannot give; the message says why."""


@dataclass(frozen=True)
class Score:
    """What a score is, the module that computes it, what it needs besides logits and features.

    ``needs`` 'outlier': a network with an outlier output; 'statistics': FeatureStatistics, which
    ``make`` is called with.
    """

    description: str
    make: Callable[..., nn.Module]
    needs: Literal['outlier', 'statistics'] | None = None


def _gradient_norms() -> dict[str, Score]:
    kinds = {
        'pgn_onehot': (PgnOneHot, 'predicted class as label, eq. (5) as printed'),
        'pgn_uniform': (PgnUniform, 'uniform label, eq. (6) as printed'),
        'pgn_onehot_exact': (PgnOneHotExact, 'predicted class as label, exact'),
        'pgn_uniform_exact': (PgnUniformExact, 'uniform label, exact'),
    }
    # 0.5 is the paper's choice and has the plain name.
    suffixes = {0.5: '', **{p: f'_p{p:g}'.replace('.', '') for p in NORMS if p != 0.5}}
    return {
        f'{kind}{suffix}': Score(
            f'gradient norm{" to the power p" if p < 0.5 else ""}, p = {p:g}, {label}',
            partial(module, p),
        )
        for kind, (module, label) in kinds.items()
        for p, suffix in suffixes.items()
    }


SCORES = {
    'max_softmax': Score('1 - max softmax', MaxSoftmax),
    'entropy': Score('softmax entropy over log S', Entropy),
    'margin': Score('1 - max softmax + second softmax', Margin),
    'max_logit': Score('-max logit', MaxLogit),
    'energy': Score('-log sum exp logits', Energy),
    **_gradient_norms(),
    'mahalanobis': Score(
        'squared Mahalanobis distance to the nearest class, in the plane of the class means',
        Mahalanobis,
        'statistics',
    ),
    'mahalanobis_full': Score(
        'squared Mahalanobis distance to the nearest class', FullMahalanobis, 'statistics'
    ),
    'void': Score('log odds of the void class in the softmax over S + 1', Void, 'outlier'),
    'void_combined': Score('p void + 1 - max p over S + 1', VoidCombined, 'outlier'),
    'outlier': Score('logit of the outlier head', Outlier, 'outlier'),
    'outlier_combined': Score('1 - (1 - p outlier) max softmax', OutlierCombined, 'outlier'),
}
"""Every score by name."""

DEPLOYED = (
    'max_softmax',
    'entropy',
    'margin',
    'max_logit',
    'energy',
    'pgn_onehot',
    'pgn_uniform',
)
"""The scores of the graph unless others are asked for, in the order of its output."""

ALTERNATIVES = tuple(name for name in SCORES if '_exact' in name or name == 'mahalanobis_full')
"""Other forms of scores, for comparison: the gradient as it is, the distance as printed."""


def available(*, outlier: bool, statistics: FeatureStatistics | None) -> tuple[str, ...]:
    """Return the names of all scores that a network and its statistics can give."""
    has = {None: True, 'outlier': outlier, 'statistics': statistics is not None}
    return tuple(name for name, score in SCORES.items() if has[score.needs])


def build_scores(
    names: Iterable[str], *, outlier: bool = False, statistics: FeatureStatistics | None = None
) -> nn.ModuleList:
    """Return the modules of these scores.

    Args:
        names: names out of SCORES.
        outlier: whether the network has an outlier output.
        statistics: of the network's features on training data.

    Raises:
        ScoreError: an unknown name, or a score that needs what is not there.

    """
    modules = nn.ModuleList()
    for name in names:
        if name not in SCORES:
            msg = f'scores: {name!r} is none of {", ".join(SCORES)}'
            raise ScoreError(msg)
        score = SCORES[name]
        if score.needs == 'outlier' and not outlier:
            msg = f'scores: {name!r} needs a network with an outlier output, this one has none'
            raise ScoreError(msg)
        if score.needs == 'statistics':
            if statistics is None:
                msg = f'scores: {name!r} needs feature statistics of training data, none given'
                raise ScoreError(msg)
            modules.append(score.make(statistics))
        else:
            modules.append(score.make())
    return modules


__all__ = [
    'ALTERNATIVES',
    'DEPLOYED',
    'SCORES',
    'FeatureStatistics',
    'Score',
    'ScoreError',
    'available',
    'build_scores',
]
