# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Semantic segmentation that says how sure it is, what is strange, and when not to trust it."""

__version__ = '0.1.0'
