# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Read a reference of either format."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np

from seg_uncertainty_ros.shift.reference import Reference
from seg_uncertainty_ros.shift.shift_reference import ShiftReference

if TYPE_CHECKING:
    from pathlib import Path


def load_reference(path: Path) -> Reference | ShiftReference:
    """Read what either class has saved.

    Raises:
        ReferenceError: unreadable, or not as format 1 is.
        ShiftReferenceError: not as format 2 is.

    """
    try:
        with path.open('rb') as file:
            archive = np.load(file, allow_pickle=False)
            # Format 2 keeps its number among the settings, format 1 in an array of its own.
            second = not isinstance(archive, np.ndarray) and 'about' in archive.files
    except (OSError, EOFError, ValueError, BadZipFile):
        # The first format's reader says what is wrong with the file.
        second = False
    return ShiftReference.load(path) if second else Reference.load(path)
