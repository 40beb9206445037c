# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Thresholds, hysteresis and latch: when the network can no longer be trusted, and why."""
