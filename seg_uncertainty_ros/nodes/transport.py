# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Settings of DDS and of the C heap without which camera images get lost or arrive late.

Two things are wrong by default. The shared-memory segment of Fast DDS holds 512 KiB, less than
one 640x480 colour image, so best-effort images are lost; ``config/fastdds.xml`` gives it 32 MiB.
And glibc returns every image-sized buffer to the kernel, so each message pays for fresh pages.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import shutil
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from seg_uncertainty_ros.errors import SegUncertaintyError
from seg_uncertainty_ros.resources import config_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping
    from collections.abc import Sequence

PROFILE = 'fastdds.xml'
SEGMENT_BYTES = 32 * 2**20
# Of Fast DDS, 512 KiB, and what it needs besides.
DEFAULT_SEGMENT_BYTES = 600_000
SHARED_MEMORY = Path('/dev/shm')
# Fast DDS 2 (Jazzy) reads the first name, Fast DDS 3 (Kilted) the second.
PROFILE_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')

# Of Fast DDS 2 and 3: beside each segment lies a file that its process keeps locked.
_LOCK = re.compile(r'(fastrtps|fastdds)_[0-9a-f]{16}_el')
# A process locks the file a moment after it has made it.
_YOUNG_S = 2.0

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_NEVER = 2**31 - 1


def environment() -> dict[str, str]:
    """Return the variables that a process needs before it starts; launch files set them.

    Raises ``ResourceError`` where ``config/fastdds.xml`` was not installed.
    """
    profile = str(config_file(PROFILE))
    return {
        **dict.fromkeys(PROFILE_VARIABLES, profile),
        'MALLOC_MMAP_THRESHOLD_': str(_NEVER),
        'MALLOC_TRIM_THRESHOLD_': str(_NEVER),
    }


def keep_heap() -> bool:
    """Make glibc keep freed memory; both settings are needed. False where there is no glibc."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _NEVER)) and bool(mallopt(_M_TRIM_THRESHOLD, _NEVER))


def prepare() -> bool:
    """Apply both settings to this process; call it before ``rclpy.init``.

    Returns whether the heap keeps its memory.

    A profile that the user named is left alone; so is an empty name, which means none.
    """
    kept = keep_heap()
    if any(name in os.environ for name in PROFILE_VARIABLES):
        return kept
    try:
        profile = str(config_file(PROFILE))
    except SegUncertaintyError:
        return kept  # `shortcomings` says so
    os.environ.update(dict.fromkeys(PROFILE_VARIABLES, profile))
    return kept


def remove_leftovers(shared_memory: Path = SHARED_MEMORY) -> int:
    """Remove segments of Fast DDS whose process was killed; return how many bytes they took.

    What a living process has is locked, in whatever container it runs, and stays. So do ports:
    Fast DDS takes over those of the dead, which are small and no more than ever lived at a time.
    """
    freed = 0
    for lock in shared_memory.glob('fast*_el'):
        if not _LOCK.fullmatch(lock.name):
            continue
        segment = lock.with_name(lock.name.removesuffix('_el'))
        try:
            with lock.open('rb') as file:
                if abs(time.time() - os.fstat(file.fileno()).st_mtime) < _YOUNG_S:
                    continue
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                freed += segment.stat().st_size if segment.exists() else 0
                segment.unlink(missing_ok=True)
                lock.unlink()
        except OSError:  # in use, or another user's
            continue
    return freed


def own_segments(pid: int | str = 'self') -> list[Path]:
    """Return the segments of Fast DDS that a process has made: those that it keeps locked."""
    found = []
    for link in Path(f'/proc/{pid}/fd').iterdir():
        with suppress(OSError):  # closed meanwhile
            lock = link.readlink()
            if lock.parent == SHARED_MEMORY and _LOCK.fullmatch(lock.name):
                found.append(lock.with_name(lock.name.removesuffix('_el')))
    return found


@cache
def has_room() -> bool:
    """Tell whether DDS got shared memory for images when it started; True where that is unknown.

    A segment of the default size does not count: ROS makes one, too, where it keeps to this host.
    """
    try:
        return any(segment.stat().st_size > DEFAULT_SEGMENT_BYTES for segment in own_segments())
    except OSError:
        return True


def shortcomings(
    environ: Mapping[str, str] = os.environ,
    shared_memory: Path = SHARED_MEMORY,
    *,
    free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
    got_room: Callable[[], bool] = has_room,
) -> list[str]:
    """Return what this process lacks to carry images, one line each; empty when all is well.

    Ask once DDS has started.
    """
    if 'fastrtps' not in environ.get('RMW_IMPLEMENTATION', 'rmw_fastrtps_cpp'):
        return []
    profiles = [environ[name] for name in PROFILE_VARIABLES if environ.get(name)]
    if not profiles:
        return [
            'FASTRTPS_DEFAULT_PROFILES_FILE is not set: images above 512 KiB will be lost; '
            'set it to config/fastdds.xml of seg_uncertainty_ros, also for the camera driver'
        ]
    lacking = [
        f'FASTRTPS_DEFAULT_PROFILES_FILE names {profile}, which does not exist'
        for profile in dict.fromkeys(profiles)
        if not os.path.isfile(profile)  # noqa: PTH113 - asked often, and a path leaves its parts
    ]
    if shared_memory.is_dir() and not got_room():
        free = free_bytes(shared_memory)
        if _is_ours(profiles) or free < SEGMENT_BYTES:
            lacking.append(
                f'DDS runs without shared memory for images: {shared_memory} has {free >> 20} MiB '
                f'free, a process needs {SEGMENT_BYTES >> 20} when it starts; DDS falls back to '
                'UDP and loses images (in a container: --ipc=host or --shm-size)'
            )
    return lacking


def _is_ours(profiles: Sequence[str]) -> bool:
    try:
        return str(config_file(PROFILE)) in profiles
    except SegUncertaintyError:
        return False
