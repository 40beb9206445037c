# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""From a user's own drives to a reference and thresholds with a stated rate of false alarms."""
