# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What /proc says of a process over a long run, and whether its memory grows."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SHARED_MEMORY = re.compile(r'/dev/shm/(?:sem\.)?fast\S+(?=$)', re.MULTILINE)
TICK_S = 1.0 / os.sysconf('SC_CLK_TCK')
RESAMPLES = 999


@dataclass(frozen=True)
class Sample:
    """A process after ``frames`` frames; memory in MiB.

    heap: anonymous pages, which no other process has; pss: all, with its share of what others have
    too; rss: all that is resident; shm: what it maps of Fast DDS's files in /dev/shm. cpu_s:
    processor time; waited_s: how long its threads, taken together, were ready and had no core.
    in_use: what malloc has given out; blocks: Python's small objects; both as the process says.
    """

    frames: int
    heap: float
    pss: float
    rss: float
    shm: float
    descriptors: int
    threads: int
    cpu_s: float
    waited_s: float
    in_use: float
    blocks: float


class Watched:
    """A process and its samples; ``shared``: names of all that it had mapped of /dev/shm."""

    def __init__(self, name, pid):
        self.name = name
        self.pid = pid
        self.samples = []
        self.shared = set()
        self._waited = {}

    def sample(self, frames, says):
        """Take a sample; nothing where the process has ended. ``says``: its diagnostics."""
        folder = Path('/proc', str(self.pid))
        try:
            rollup = _numbers((folder / 'smaps_rollup').read_text('utf-8'))
            maps = (folder / 'maps').read_text('utf-8')
            descriptors = sum(1 for _ in (folder / 'fd').iterdir())
            cpu_s = _cpu_s(folder)
            tasks = list((folder / 'task').iterdir())
            # Threads that have ended are missing in the next sum.
            self._waited |= {task.name: _waited_s(task) for task in tasks}
        except (FileNotFoundError, ProcessLookupError):
            return
        files = set(SHARED_MEMORY.findall(maps))
        self.shared |= files
        self.samples.append(
            Sample(
                frames,
                rollup['Anonymous'] / 1024,
                rollup['Pss'] / 1024,
                rollup['Rss'] / 1024,
                sum(map(_allocated, files)) / 2**20,
                descriptors,
                len(tasks),
                cpu_s,
                sum(self._waited.values()),
                float(says.get('heap_in_use_mib', 'nan')),
                float(says.get('python_blocks', 'nan')),
            )
        )

    def column(self, name):
        """Return one field of all samples."""
        return np.array([getattr(sample, name) for sample in self.samples], float)


def _numbers(text):
    lines = (line.split() for line in text.splitlines()[1:])
    return {words[0].rstrip(':'): int(words[1]) for words in lines}


def _cpu_s(folder):
    # The name in brackets may hold spaces.
    fields = (folder / 'stat').read_text('utf-8').rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


def _waited_s(task):
    try:
        return int((task / 'schedstat').read_text('utf-8').split()[1]) * 1e-9
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return 0.0


def _allocated(name):
    try:
        return Path(name).stat().st_blocks * 512
    except FileNotFoundError:
        return 0


def unused(names):
    """Return those files of /dev/shm that are there and that no process has mapped."""
    used = set()
    for maps in Path('/proc').glob('[0-9]*/maps'):
        with contextlib.suppress(OSError):
            used |= set(SHARED_MEMORY.findall(maps.read_text('utf-8', errors='replace')))
    return sorted(name for name in names if name not in used and Path(name).exists())


def slope(x, y, seed=0):
    """Return the slope of y over x (which does not fall), and the ends of its 95 % interval.

    Theil-Sen: the median of the slopes of all pairs, which single jumps do not move. The interval
    is a bootstrap of the steps between neighbouring samples, in blocks of a tenth of them: memory
    of a process wanders, and a bootstrap of its values would take any walk for a trend.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    new = np.concatenate([[True], np.diff(x) > 0])
    x, y = x[new], y[new]
    first, second = np.triu_indices(len(x), 1)
    apart = x[second] - x[first]

    def fit(values):
        return np.median((values[second] - values[first]) / apart)

    steps = np.diff(y)
    block = max(1, len(steps) // 10)
    rng = np.random.default_rng(seed)
    slopes = []
    for _ in range(RESAMPLES):
        starts = rng.integers(0, len(steps) - block + 1, -(-len(steps) // block))
        taken = (starts[:, None] + np.arange(block)).ravel()[: len(steps)]
        slopes.append(fit(np.concatenate([[0.0], np.cumsum(steps[taken])])))
    return fit(y), *np.percentile(slopes, (2.5, 97.5))
