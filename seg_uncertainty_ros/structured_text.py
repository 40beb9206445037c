# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""JSON and YAML of others: values that are bounded in number, depth and range, or one error."""

from __future__ import annotations

import json
from typing import Any

import yaml

from seg_uncertainty_ros.errors import SegUncertaintyError

MAX_DEPTH = 32
"""Ours are 6 deep; Python's recursion, in printing and copying, ends at about a thousand."""
MAX_VALUES = 50_000
"""Our largest, a manifest of 255 classes, has 5,000; to check one more costs about 10 us."""
MAX_CHARACTERS = 2**20
"""A hundred times the metadata of a bag of ten topics; YAML takes a second for as much."""
MAX_INTEGER = 2**63
"""What fits 64 bits; Python's float() fails on what is much larger."""


class TextError(SegUncertaintyError):
    """A text that is not what it should be; the message says what is wrong, not with which."""


def shown(text: str, length: int = 200) -> str:
    """Return the beginning of a text of others, with what is no printable character escaped."""
    return ''.join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:length])


def parse_json(text: bytes | str) -> Any:
    """Return the value of a JSON text; NaN and infinities are taken, as Python writes them.

    Raises:
        TextError: not JSON, or beyond one of the bounds above.

    """
    _check_length(text, b',' if isinstance(text, bytes) else ',')
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        msg = f'not JSON: {error}'
        raise TextError(msg) from None
    _check_value(value)
    return value


def parse_yaml(text: str) -> Any:
    """Return the value of a YAML document without anchors, aliases and explicit tags.

    Aliases let a kilobyte stand for a terabyte as soon as something prints it.

    Raises:
        TextError: not YAML, with one of these, or beyond one of the bounds above.

    """
    _check_length(text, '\n')
    try:
        _check_events(text)
        value = yaml.load(text, Loader=_LOADER)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        msg = f'not YAML: {" ".join(str(error).split())[:300]}'
        raise TextError(msg) from None
    _check_value(value)
    return value


# The one in C is ten times as fast; where it was not built the same in Python.
_LOADER = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)


def _check_events(text: str) -> None:
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=_LOADER)):
        if getattr(event, 'anchor', None) is not None or getattr(event, 'tag', None) is not None:
            msg = f'anchor, alias or tag in line {event.start_mark.line + 1}'
            raise TextError(msg)
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH or count > 2 * MAX_VALUES:
            _refuse_size()


def _check_length(text: bytes | str, separator: bytes | str) -> None:
    if len(text) > MAX_CHARACTERS:
        msg = f'{len(text)} characters, more than the {MAX_CHARACTERS} accepted'
        raise TextError(msg)
    if text.count(separator) > MAX_VALUES:
        _refuse_size()


def _check_value(value: Any) -> None:
    """Walk through without recursion: what is checked may be deeper than it."""
    level, count = [value], 0
    for _ in range(MAX_DEPTH):
        following: list[Any] = []
        for item in level:
            count += 1
            if isinstance(item, dict):
                following += item.keys()
                following += item.values()
            elif isinstance(item, list | tuple | set):
                following += item
            else:
                _check_scalar(item)
        if not following:
            return
        if count + len(following) > 2 * MAX_VALUES:
            break
        level = following
    _refuse_size()


def _check_scalar(value: Any) -> None:
    if isinstance(value, int) and not -MAX_INTEGER <= value < MAX_INTEGER:
        msg = f'a whole number of {value.bit_length()} bits, expected at most 64'
        raise TextError(msg)
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            msg = f'half a surrogate pair in {ascii(value)[:40]}'
            raise TextError(msg) from None


def _refuse_size() -> None:
    msg = f'more than {MAX_VALUES} values, or more than {MAX_DEPTH} in each other'
    raise TextError(msg)
