# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Camera images made worse by a known amount: sensor, optics, weather, compression."""

from seg_uncertainty_ros.corruptions.perturbation import Perturbation
from seg_uncertainty_ros.corruptions.perturbation import Ramp
from seg_uncertainty_ros.corruptions.severity import CORRUPTIONS
from seg_uncertainty_ros.corruptions.severity import MAX_SEVERITY
from seg_uncertainty_ros.corruptions.severity import Corruption
from seg_uncertainty_ros.corruptions.severity import CorruptionError
from seg_uncertainty_ros.corruptions.severity import corrupt

__all__ = [
    'CORRUPTIONS',
    'MAX_SEVERITY',
    'Corruption',
    'CorruptionError',
    'Perturbation',
    'Ramp',
    'corrupt',
]
