# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Anomaly scores of a pixel, higher is stranger: modules from Evidence to NxHxW."""

from seg_uncertainty_ros.scores.gradient_norm import PgnOneHot
from seg_uncertainty_ros.scores.gradient_norm import PgnOneHotExact
from seg_uncertainty_ros.scores.gradient_norm import PgnUniform
from seg_uncertainty_ros.scores.gradient_norm import PgnUniformExact
from seg_uncertainty_ros.scores.logits import Energy
from seg_uncertainty_ros.scores.logits import MaxLogit
from seg_uncertainty_ros.scores.softmax import Entropy
from seg_uncertainty_ros.scores.softmax import Margin
from seg_uncertainty_ros.scores.softmax import MaxSoftmax

SCORES = {
    'max_softmax': MaxSoftmax,
    'entropy': Entropy,
    'margin': Margin,
    'max_logit': MaxLogit,
    'energy': Energy,
    'pgn_onehot': PgnOneHot,
    'pgn_uniform': PgnUniform,
    'pgn_onehot_exact': PgnOneHotExact,
    'pgn_uniform_exact': PgnUniformExact,
}
"""Every score by name."""

DEPLOYED = tuple(name for name in SCORES if not name.endswith('_exact'))
"""The scores of the graph unless others are asked for, in the order of its output."""

__all__ = ['DEPLOYED', 'SCORES']
