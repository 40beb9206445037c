# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Metrics as the public benchmarks count them, datasets with known outliers, tables."""
