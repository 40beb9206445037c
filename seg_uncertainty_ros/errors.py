# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The base of every error that is somebody's input, not our mistake."""


class SegUncertaintyError(Exception):
    """Bad input. The message names what, where and which value; commands print it and exit 1."""
