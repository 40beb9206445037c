# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Names for the ids of the CamVid classes, in the order of ``classes.CAMVID``."""

from __future__ import annotations

from seg_uncertainty_ros.classes import CAMVID

SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST = range(
    len(CAMVID)
)
