# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What became on disk of the bundle that is in use."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class BundleFiles:
    """The files of a bundle as they are when this is created; make it before loading them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._then = _look(path)

    def changes(self) -> str:
        """Return what has been changed or removed since; empty where nothing has."""
        now = _look(self.path)
        changed = [name for name, then in sorted(self._then.items()) if now.get(name) != then]
        if not changed:
            return ''
        if not now:
            return f'{self.path} is gone'
        return f'{self.path}: {", ".join(changed)} changed'


def _look(path: Path) -> dict[str, tuple[int, int, int]]:
    """Return inode, size and time of change by name; empty where there is nothing to see."""
    try:
        stats = {file.name: file.stat() for file in path.iterdir()}
    except OSError:
        return {}
    return {name: (stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()}
