# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Read a reference of either format, and say what it is."""

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


def describe_reference(reference: Reference | ShiftReference | None) -> str:
    """Say in one line what a reference rests on."""
    if reference is None:
        return 'none: no domain shift can be told'
    text = f'{reference.size} dimensions; domains {", ".join(reference.names)}'
    if isinstance(reference, ShiftReference):
        text += f'; windows of {reference.window_s:g} s, {reference.hours:.3g} h of drives'
        text += f'; {reference.test.describe() if reference.test else "no sequential test"}'
    return text
