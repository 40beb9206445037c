# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Drives by name: the demo's, and those written as ``procedural:key=value,...``."""

from __future__ import annotations

from seg_uncertainty_ros.procedural.drive import Drive
from seg_uncertainty_ros.procedural.drive import DriveError
from seg_uncertainty_ros.procedural.drive import EffectEvent
from seg_uncertainty_ros.procedural.drive import UnknownEvent

PREFIX = 'procedural:'
DEMO_SEED = 109
DEMO_UNKNOWN = UnknownEvent(start_s=6.0, end_s=10.5, kind='cargo_box')
DEMO_FOG = EffectEvent(start_s=13.5, end_s=20.0, effect='fog', strength=0.9, ramp_s=1.0)
_NUMBERS = {'seed': int, 'width': int, 'height': int, 'rate': float, 'duration': float}
_NAMES = {'rate': 'rate_hz', 'duration': 'duration_s'}


def demo_drive() -> Drive:
    """Return the 20 s of ``make demo``: calm, a cargo box on the lane, calm, dense fog."""
    return Drive(DEMO_SEED, 640, 360, 10.0, 20.0, (DEMO_UNKNOWN, DEMO_FOG))


def parse_drive(spec: str) -> Drive:
    """Return the drive that ``spec`` asks for.

    ``procedural:demo``, or ``procedural:`` and comma-separated ``seed``, ``width``, ``height``,
    ``rate`` (Hz), ``duration`` (s), ``effect=NAME:STRENGTH`` and ``unknown=KIND:START-END`` (s),
    the last two any number of times. Raises DriveError, which names key and value.
    """
    if not spec.startswith(PREFIX):
        msg = f'{spec!r} does not begin with {PREFIX!r}'
        raise DriveError(msg)
    body = spec[len(PREFIX) :]
    if body == 'demo':
        return demo_drive()
    numbers: dict[str, int | float] = {}
    wanted: list[tuple[str, str]] = []
    for part in filter(None, body.split(',')):
        key, separator, value = part.partition('=')
        if not separator or (key not in _NUMBERS and key not in ('effect', 'unknown')):
            known = ', '.join([*_NUMBERS, 'effect', 'unknown'])
            msg = f'{spec!r}: {part!r} is no KEY=VALUE with a key of {known}'
            raise DriveError(msg)
        if key in _NUMBERS:
            numbers[_NAMES.get(key, key)] = _number(spec, key, value)
        else:
            wanted.append((key, value))
    duration = float(numbers.get('duration_s', 20.0))
    events = tuple(
        _effect(spec, value, duration) if key == 'effect' else _unknown(spec, value)
        for key, value in wanted
    )
    return Drive(**numbers, events=events)  # type: ignore[arg-type]


def _number(spec: str, key: str, value: str) -> int | float:
    try:
        return _NUMBERS[key](value)
    except ValueError:
        msg = f'{spec!r}: {key} = {value!r} is no {_NUMBERS[key].__name__}'
        raise DriveError(msg) from None


def _effect(spec: str, value: str, duration: float) -> EffectEvent:
    name, _, strength = value.partition(':')
    try:
        return EffectEvent(0.0, max(duration, 1e-3), name, float(strength or 1), 0.0)
    except ValueError:
        msg = f'{spec!r}: effect = {value!r} is no NAME:STRENGTH'
        raise DriveError(msg) from None


def _unknown(spec: str, value: str) -> UnknownEvent:
    kind, _, span = value.partition(':')
    start, _, end = span.partition('-')
    try:
        return UnknownEvent(float(start), float(end), kind)
    except ValueError:
        msg = f'{spec!r}: unknown = {value!r} is no KIND:START-END'
        raise DriveError(msg) from None
