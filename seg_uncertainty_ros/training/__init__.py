# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Datasets, losses and recipes of the networks that we train (torch; training extra)."""
