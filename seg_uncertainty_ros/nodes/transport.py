# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Settings of DDS and of the C heap without which camera images get lost or arrive late.

Two things are wrong by default. The shared-memory segment of Fast DDS holds 512 KiB, less than
one 640x480 colour image, so best-effort images are lost; ``config/fastdds.xml`` gives it 32 MiB.
And glibc returns every image-sized buffer to the kernel, so each message pays for fresh pages.
"""

from __future__ import annotations

import ctypes
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from seg_uncertainty_ros.errors import SegUncertaintyError
from seg_uncertainty_ros.resources import config_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping

PROFILE = 'fastdds.xml'
SEGMENT_BYTES = 32 * 2**20
# Fast DDS 2 (Jazzy) reads the first name, Fast DDS 3 (Kilted) the second.
PROFILE_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')

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


def shortcomings(
    environ: Mapping[str, str] = os.environ,
    shared_memory: Path = Path('/dev/shm'),
    *,
    free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
) -> list[str]:
    """Return what this process lacks to carry images, one line each; empty when all is well."""
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
        if not Path(profile).is_file()
    ]
    if shared_memory.is_dir() and (free := free_bytes(shared_memory)) < SEGMENT_BYTES:
        lacking.append(
            f'{shared_memory} has {free >> 20} MiB free, one process needs {SEGMENT_BYTES >> 20}: '
            'DDS falls back to UDP and loses images (in a container: --ipc=host or --shm-size)'
        )
    return lacking
