# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Fixtures that every test may use."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.bundle import default_bundle_path

# colcon test runs the whole folder, on machines without torch too.
collect_ignore = [] if find_spec('torch') else ['training']


@pytest.fixture(scope='session')
def data_dir() -> Path:
    """Return the folder of real data, which is not part of the project."""
    default = Path(__file__).parents[2] / 'shared' / 'data'
    path = Path(os.environ.get('SEG_UNCERTAINTY_DATA', default))
    if not path.is_dir():
        pytest.skip(f'no real data at {path}; set SEG_UNCERTAINTY_DATA')
    return path


@pytest.fixture(scope='session')
def bundle_path() -> Path:
    """Return the path of the bundle that ships."""
    return default_bundle_path()


@pytest.fixture(scope='session')
def bundle(bundle_path: Path) -> Bundle:
    """Return the bundle that ships."""
    return Bundle.load(bundle_path)
