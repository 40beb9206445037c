# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with a recording."""

from __future__ import annotations

from seg_uncertainty_ros.errors import SegUncertaintyError
from seg_uncertainty_ros.structured_text import shown


class SourceError(SegUncertaintyError):
    """A recording that cannot be read, or not to its end; the message names path and reason."""


class SinkError(SegUncertaintyError):
    """A recording that cannot be written; the message names path and reason."""


def one_line(error: BaseException) -> str:
    """Return an exception's message in one printable line, or its type's name without any."""
    text = ' '.join(str(error).split()).rstrip('.') or type(error).__name__
    return shown(text, len(text))  # SQLite's quotes what is in the file
