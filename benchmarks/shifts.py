# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The real drives and the corruptions that benchmarks of the domain shift look at."""

# CamVid's day drives and the split that holds them.
DAY = {'0006R0': 'train', '0016E5': 'train', 'Seq05VD': 'test'}
RECORDINGS = (
    'dashcam_us_suburb',
    'highway_us',
    'cityscapes_seq0000',
    'cityscapes_seq0003',
    'cityscapes_seq0005',
)
CORRUPTIONS = (
    'fog',
    'night',
    'rain',
    'gaussian_noise',
    'box_blur',
    'motion_blur',
    'contrast',
    'underexposure',
)
