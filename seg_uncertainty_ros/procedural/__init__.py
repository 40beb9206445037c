# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Seeded driving scenes with labels, unknown objects, weather and sensor effects."""

from seg_uncertainty_ros.procedural.classes import CLASSES
from seg_uncertainty_ros.procedural.drive import Drive
from seg_uncertainty_ros.procedural.drive import DriveError
from seg_uncertainty_ros.procedural.drive import EffectEvent
from seg_uncertainty_ros.procedural.drive import Rendered
from seg_uncertainty_ros.procedural.drive import UnknownEvent
from seg_uncertainty_ros.procedural.effects import EFFECTS
from seg_uncertainty_ros.procedural.effects import EffectError
from seg_uncertainty_ros.procedural.effects import apply_effect
from seg_uncertainty_ros.procedural.scenes import random_scene
from seg_uncertainty_ros.procedural.spec import demo_drive
from seg_uncertainty_ros.procedural.spec import parse_drive

__all__ = [
    'CLASSES',
    'EFFECTS',
    'Drive',
    'DriveError',
    'EffectError',
    'EffectEvent',
    'Rendered',
    'UnknownEvent',
    'apply_effect',
    'demo_drive',
    'parse_drive',
    'random_scene',
]
