# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Drives by name: the demo's, and those written as ``procedural:key=value,...``."""

from __future__ import annotations

from typing import Any

from seg_uncertainty_ros.procedural.drive import Drive
from seg_uncertainty_ros.procedural.drive import DriveError
from seg_uncertainty_ros.procedural.drive import EffectEvent
from seg_uncertainty_ros.procedural.drive import UnknownEvent
from seg_uncertainty_ros.structured_text import shown

PREFIX = 'procedural:'
DEMO_SEED = 109
DEMO_UNKNOWN = UnknownEvent(start_s=6.0, end_s=10.5, kind='cargo_box')
DEMO_FOG = EffectEvent(start_s=13.5, end_s=20.0, effect='fog', strength=0.9, ramp_s=1.0)
DEMO = {
    'seed': DEMO_SEED,
    'width': 640,
    'height': 360,
    'rate_hz': 10.0,
    'duration_s': 20.0,
    'events': (DEMO_UNKNOWN, DEMO_FOG),
}
MAX_CHARACTERS = 4096
"""Of a specification: some hundred events."""
_NUMBERS = {'seed': int, 'width': int, 'height': int, 'rate': float, 'duration': float}
_NAMES = {'rate': 'rate_hz', 'duration': 'duration_s'}


def demo_drive() -> Drive:
    """Return the 20 s of ``make demo``: calm, a cargo box on the lane, calm, dense fog."""
    return Drive(**DEMO)


def parse_drive(spec: str) -> Drive:
    """Return the drive that ``spec`` asks for; see ``drive_arguments``."""
    return Drive(**drive_arguments(spec))


def drive_arguments(spec: str) -> dict[str, Any]:
    """Return the arguments of the drive that ``spec`` asks for.

    ``procedural:demo``, or ``procedural:`` and comma-separated ``seed``, ``width``, ``height``,
    ``rate`` (Hz), ``duration`` (s), ``effect=NAME:STRENGTH`` and ``unknown=KIND:START-END`` (s),
    the last two any number of times. Raises DriveError, which names key and value.
    """
    if not spec.startswith(PREFIX) or len(spec) > MAX_CHARACTERS:
        msg = f'{spec[:80]!r} does not begin with {PREFIX!r}, or is of more than '
        msg += f'{MAX_CHARACTERS} characters'
        raise DriveError(msg)
    body = spec[len(PREFIX) :]
    if body == 'demo':
        return dict(DEMO)
    numbers: dict[str, int | float] = {}
    wanted: list[tuple[str, str]] = []
    for part in filter(None, body.split(',')):
        key, separator, value = part.partition('=')
        if not separator or (key not in _NUMBERS and key not in ('effect', 'unknown')):
            known = ', '.join([*_NUMBERS, 'effect', 'unknown'])
            msg = f'{_quoted(spec)}: {_quoted(part)} is no KEY=VALUE with a key of {known}'
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
    return {**numbers, 'events': events}


def _number(spec: str, key: str, value: str) -> int | float:
    try:
        return _NUMBERS[key](value)
    except ValueError:
        msg = f'{_quoted(spec)}: {key} = {_quoted(value)} is no {_NUMBERS[key].__name__}'
        raise DriveError(msg) from None


def _effect(spec: str, value: str, duration: float) -> EffectEvent:
    name, _, strength = value.partition(':')
    try:
        return EffectEvent(0.0, max(duration, 1e-3), name, float(strength or 1), 0.0)
    except ValueError:
        msg = f'{_quoted(spec)}: effect = {_quoted(value)} is no NAME:STRENGTH'
        raise DriveError(msg) from None


def _unknown(spec: str, value: str) -> UnknownEvent:
    kind, _, span = value.partition(':')
    start, _, end = span.partition('-')
    try:
        return UnknownEvent(float(start), float(end), kind)
    except ValueError:
        msg = f'{_quoted(spec)}: unknown = {_quoted(value)} is no KIND:START-END'
        raise DriveError(msg) from None


def _quoted(text: str) -> str:
    return shown(repr(text))
