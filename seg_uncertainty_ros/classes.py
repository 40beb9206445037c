# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The eleven CamVid classes and their palette.

Brostow et al., Semantic object classes in video, PRL 2009, in the grouping of SegNet.
"""

from __future__ import annotations

from dataclasses import dataclass

UNLABELLED = 255


@dataclass(frozen=True)
class ClassInfo:
    """A class; its id is its index. ``color`` is RGB, 0..255; ``ground`` is what one drives on."""

    name: str
    color: tuple[int, int, int]
    ground: bool = False


CAMVID = (
    ClassInfo('sky', (70, 130, 180)),
    ClassInfo('building', (70, 70, 70)),
    ClassInfo('pole', (153, 153, 153)),
    ClassInfo('road', (128, 64, 128), ground=True),
    ClassInfo('pavement', (244, 35, 232), ground=True),
    ClassInfo('tree', (107, 142, 35)),
    ClassInfo('sign', (220, 220, 0)),
    ClassInfo('fence', (190, 153, 153)),
    ClassInfo('car', (0, 0, 142)),
    ClassInfo('pedestrian', (220, 20, 60)),
    ClassInfo('bicyclist', (119, 11, 32)),
)
