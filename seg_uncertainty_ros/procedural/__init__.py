# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Seeded driving scenes with labels, unknown objects, weather and sensor effects."""

from seg_uncertainty_ros.procedural.drive import Drive
from seg_uncertainty_ros.procedural.drive import DriveError
from seg_uncertainty_ros.procedural.drive import EffectEvent
from seg_uncertainty_ros.procedural.drive import Rendered
from seg_uncertainty_ros.procedural.drive import UnknownEvent
from seg_uncertainty_ros.procedural.effects import EFFECTS
from seg_uncertainty_ros.procedural.effects import EffectError
from seg_uncertainty_ros.procedural.effects import apply_effect
from seg_uncertainty_ros.procedural.scenes import random_scene
from seg_uncertainty_ros.procedural.spec import DEMO_FOG
from seg_uncertainty_ros.procedural.spec import DEMO_UNKNOWN
from seg_uncertainty_ros.procedural.spec import demo_drive
from seg_uncertainty_ros.procedural.spec import parse_drive
from seg_uncertainty_ros.procedural.unknowns import KINDS

__all__ = [
    'DEMO_FOG',
    'DEMO_UNKNOWN',
    'EFFECTS',
    'KINDS',
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
