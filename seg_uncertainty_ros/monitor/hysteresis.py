# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The state machine of one warning: two thresholds, two hold times, a latch; no clock."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from math import isfinite

from seg_uncertainty_ros.monitor.config import MonitorError

# Frames that overtake each other, or a step of a synchronised clock, are no jump back.
BACKWARD_TOLERANCE_NS = 100_000_000


def jumped_back(last_ns: int | None, stamp_ns: int) -> bool:
    """Tell whether time went back."""
    return last_ns is not None and stamp_ns < last_ns - BACKWARD_TOLERANCE_NS


def jumped_on(last_ns: int | None, stamp_ns: int, jump_s: float) -> bool:
    """Tell whether time went on by more than ``jump_s``."""
    return last_ns is not None and stamp_ns - last_ns > jump_s * 1e9


@dataclass(frozen=True)
class Limits:
    """When a value raises and when it clears. ``below``: small values are the bad ones."""

    enter: float
    exit: float
    hold_on_s: float = 0.0
    hold_off_s: float = 0.0
    latch: bool = False
    below: bool = False
    jump_s: float = inf

    def __post_init__(self) -> None:
        """Check that ``exit`` is on the good side of ``enter``."""
        for name in ('enter', 'exit', 'hold_on_s', 'hold_off_s'):
            if not isfinite(value := getattr(self, name)):
                msg = f'{name}: {value}, expected a finite number'
                raise MonitorError(msg)
        for name in ('hold_on_s', 'hold_off_s', 'jump_s'):
            if not (value := getattr(self, name)) >= 0:
                msg = f'{name}: {value}, expected at least 0'
                raise MonitorError(msg)
        if self.below and not self.exit > self.enter:
            msg = f'exit: {self.exit}, expected above enter {self.enter}'
            raise MonitorError(msg)
        if not self.below and not self.exit < self.enter:
            msg = f'exit: {self.exit}, expected below enter {self.enter}'
            raise MonitorError(msg)

    def bad(self, value: float) -> bool:
        """Tell whether the value is at or beyond ``enter``."""
        return value <= self.enter if self.below else value >= self.enter

    def good(self, value: float) -> bool:
        """Tell whether the value is at or beyond ``exit``."""
        return value >= self.exit if self.below else value <= self.exit


class Hysteresis:
    """One warning, driven by the stamps of its values.

    Active once every value of ``hold_on_s`` was bad; inactive once every value of ``hold_off_s``
    was good, unless latched. ``since_ns`` is the stamp of the first of the bad values. A value
    of None or NaN is no evidence: it leaves the state as it is and starts the hold times anew.

    A jump of time back resets everything. A jump on by more than ``jump_s`` starts anew too, but
    a latched warning stays: an outage of the camera must not acknowledge it. Stamps that stand
    still let no hold time pass.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.reset()

    def reset(self) -> None:
        """Forget everything, the latch too."""
        self.since_ns: int | None = None
        self._last_ns: int | None = None
        self._bad_ns: int | None = None
        self._good_ns: int | None = None

    @property
    def active(self) -> bool:
        """Whether the warning is raised."""
        return self.since_ns is not None

    @property
    def elapsed_s(self) -> float:
        """Seconds from ``since_ns`` to the last stamp, 0 while inactive."""
        if self.since_ns is None or self._last_ns is None:
            return 0.0
        return (self._last_ns - self.since_ns) / 1e9

    def update(self, value: float | None, stamp_ns: int) -> bool:
        """Take the value at a stamp (ns) and return whether the warning is active."""
        if jumped_back(self._last_ns, stamp_ns):
            self.reset()
        elif jumped_on(self._last_ns, stamp_ns, self.limits.jump_s):
            self._bad_ns = self._good_ns = None
            if not self.limits.latch:
                self.since_ns = None
        stamp_ns = stamp_ns if self._last_ns is None else max(stamp_ns, self._last_ns)
        self._last_ns = stamp_ns
        known = value is not None and isfinite(value)
        self._bad_ns = _run(self._bad_ns, stamp_ns, goes_on=known and self.limits.bad(value))
        self._good_ns = _run(self._good_ns, stamp_ns, goes_on=known and self.limits.good(value))
        if self.since_ns is None:
            if _lasted(self._bad_ns, stamp_ns, self.limits.hold_on_s):
                self.since_ns = self._bad_ns
        elif not self.limits.latch and _lasted(self._good_ns, stamp_ns, self.limits.hold_off_s):
            self.since_ns = None
        return self.active


def _run(start_ns: int | None, stamp_ns: int, *, goes_on: bool) -> int | None:
    if not goes_on:
        return None
    return stamp_ns if start_ns is None else start_ns


def _lasted(start_ns: int | None, stamp_ns: int, seconds: float) -> bool:
    return start_ns is not None and stamp_ns - start_ns >= seconds * 1e9
