# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Single random scenes, for training."""

from __future__ import annotations

import numpy as np

from seg_uncertainty_ros.procedural.drive import Drive
from seg_uncertainty_ros.procedural.drive import EffectEvent
from seg_uncertainty_ros.procedural.drive import Rendered

# What a camera in service meets: effects stay mild.
_MILD = {
    'fog': 0.12,
    'dusk': 0.7,
    'noise': 0.2,
    'blur': 0.1,
    'chromatic_aberration': 0.2,
    'gamma': 0.3,
    'saturation': 0.25,
}


def random_scene(seed: int, width: int, height: int) -> Rendered:
    """Return one labelled frame of a drive of its own, without unknown objects.

    In two scenes of five a mild effect is applied. Takes about half a second.
    """
    rng = np.random.default_rng([seed, 9])
    events: tuple[EffectEvent, ...] = ()
    if rng.random() < 0.4:
        name = str(rng.choice(list(_MILD)))
        strength = float(rng.uniform(0.1, 1)) * _MILD[name]
        events = (EffectEvent(0.0, 10.0, name, strength, 0.0),)
    drive = Drive(seed, width, height, rate_hz=10.0, duration_s=2.0, events=events)
    return drive.render(int(rng.integers(len(drive))))
