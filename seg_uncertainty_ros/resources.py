# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Where the files that are no code lie: configuration, launch files, RViz."""

from __future__ import annotations

from pathlib import Path

from seg_uncertainty_ros.errors import SegUncertaintyError

PACKAGE = 'seg_uncertainty_ros'


class ResourceError(SegUncertaintyError):
    """A file of the package was not installed."""


def resource_file(folder: str, name: str) -> Path:
    """Return the path of ``folder/name`` (``config``, ``launch``, ``rviz``).

    It is looked for beside the sources first, then in ``share/seg_uncertainty_ros`` of each
    prefix above the package: that covers a checkout, a virtual environment, a user install and
    a colcon install without asking ament, which may not be there.
    """
    package = Path(__file__).resolve().parent
    candidates = [package.parent / folder / name]
    candidates += [prefix / 'share' / PACKAGE / folder / name for prefix in package.parents]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    msg = f'{folder}/{name} is not installed: looked beside and above {package}'
    raise ResourceError(msg)


def config_file(name: str) -> Path:
    """Return the path of a file in ``config/``."""
    return resource_file('config', name)
