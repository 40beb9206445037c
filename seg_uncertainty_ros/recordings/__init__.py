# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Recordings in and out: bags, videos, image folders and procedural drives."""

from __future__ import annotations

from seg_uncertainty_ros.recordings.errors import SinkError
from seg_uncertainty_ros.recordings.errors import SourceError
from seg_uncertainty_ros.recordings.source import Source
from seg_uncertainty_ros.recordings.source import open_source

__all__ = ['SinkError', 'Source', 'SourceError', 'open_source']
