# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Label values of several datasets as sets of our classes.

A coarse label (IDD-Lite's `vehicle`) is the superset of what it may be (car, bicyclist): the loss
is the negative log of the summed probability.
"""

from __future__ import annotations

import torch

from seg_uncertainty_ros.classes import CAMVID
from seg_uncertainty_ros.classes import UNLABELLED

_INDEX = {info.name: index for index, info in enumerate(CAMVID)}
IDD_OFFSET = 20
# No class of ours: what was pasted as an outlier.
OUTLIER = 254
# Some class of ours, whichever.
KNOWN = 253

# IDD-Lite level-1 labels, Varma et al., WACV 2019. Its roadside objects hold kerbs and walls.
_IDD_LITE = (
    ('road',),
    ('pavement', 'tree'),
    ('pedestrian', 'bicyclist'),
    ('car', 'bicyclist'),
    ('fence', 'pole', 'sign', 'building', 'pavement'),
    ('building', 'tree'),
    ('sky',),
)


def target_table() -> torch.Tensor:
    """Return bool 256xS: which classes a target value allows; an empty row is ignored.

    Values 0..10 are our classes, 20..26 the labels of IDD-Lite; KNOWN allows every class.
    """
    table = torch.zeros(UNLABELLED + 1, len(CAMVID), dtype=torch.bool)
    for index in range(len(CAMVID)):
        table[index, index] = True
    for label, names in enumerate(_IDD_LITE):
        for name in names:
            table[IDD_OFFSET + label, _INDEX[name]] = True
    table[KNOWN] = True
    return table
