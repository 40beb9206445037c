# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A recording under a corruption whose severity may rise with time, and the record of it."""

from __future__ import annotations

import json
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING

from seg_uncertainty_ros.corruptions.severity import CorruptionError
from seg_uncertainty_ros.corruptions.severity import check_corruption
from seg_uncertainty_ros.corruptions.severity import corrupt

if TYPE_CHECKING:
    from pathlib import Path

    from seg_uncertainty_ros.frames import Frame

RECORD = 'perturbation.json'


@dataclass(frozen=True)
class Ramp:
    """Severity over time: 0 until ``start_s``, then linearly up to ``peak`` at ``end_s``.

    There it stays. Seconds since the first frame. Where both times are equal the severity jumps;
    the default is ``peak`` throughout. Raises CorruptionError unless 0 <= start_s <= end_s.
    """

    peak: float
    start_s: float = 0.0
    end_s: float = 0.0

    def __post_init__(self) -> None:
        """Check the order of the times."""
        if not (0 <= self.start_s <= self.end_s and isfinite(self.end_s)):
            msg = f'ramp from {self.start_s} s to {self.end_s} s: expected 0 <= START_S <= END_S'
            raise CorruptionError(msg)

    @classmethod
    def parse(cls, peak: float, text: str) -> Ramp:
        """Return the ramp that 'START_S:END_S' asks for; raises CorruptionError."""
        start, _, end = text.partition(':')
        try:
            times = float(start), float(end)
        except ValueError:
            msg = f'ramp {text!r} is not START_S:END_S, two numbers of seconds'
            raise CorruptionError(msg) from None
        return cls(peak, *times)

    def severity(self, time_s: float) -> float:
        """Return the severity ``time_s`` seconds after the first frame."""
        time_s = max(0.0, time_s)  # stamps may jump to before the first frame
        if time_s >= self.end_s:
            return self.peak
        return self.peak * max(0.0, time_s - self.start_s) / (self.end_s - self.start_s or 1.0)


@dataclass(frozen=True)
class Perturbation:
    """What was done to a recording: all that is needed to know the severity of each frame.

    ``start_ns`` is the stamp of the recording's first frame. Raises CorruptionError for what
    ``corrupt`` does not take.
    """

    corruption: str
    ramp: Ramp
    seed: int
    start_ns: int

    def __post_init__(self) -> None:
        """Check name, severity and seed."""
        check_corruption(self.corruption, self.ramp.peak, self.seed)

    def severity(self, stamp_ns: int) -> float:
        """Return the severity of the frame of this stamp."""
        return self.ramp.severity((stamp_ns - self.start_ns) / 1e9)

    def apply(self, frame: Frame, index: int) -> Frame:
        """Return the recording's ``index``-th frame, corrupted; its header stays."""
        severity = self.severity(frame.stamp_ns)
        image = corrupt(frame.image, self.corruption, severity, self.seed, index)
        return replace(frame, image=image)

    def write(self, bag: Path) -> Path:
        """Write the record of a bag; returns its path: in a directory, beside a single file."""
        path = bag.with_suffix(f'.{RECORD}') if bag.suffix == '.mcap' else bag / RECORD
        path.write_text(json.dumps(asdict(self), indent=2) + '\n', encoding='utf-8')
        return path
