# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What hypothesis draws for the targets of fuzz_targets.py: damaged files, documents of nonsense.

Most of a damaged file is as it was, so that a parser gets past its first check.
"""

from __future__ import annotations

import json
from copy import deepcopy
from functools import cache
from typing import TYPE_CHECKING
from typing import Any

import yaml
from hypothesis import strategies as st

if TYPE_CHECKING:
    from fuzz_targets import Target

# Sizes that a header may state, in each width and byte order.
NUMBERS = (0, 1, 2, 3, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000)
NUMBERS += (0xFFFFFFFF, 2**33, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
WIDTHS = (1, 2, 4, 8)
CHANGES = 4
KINDS = ('flip', 'number', 'cut', 'drop', 'double', 'splice', 'token')

ODD_TEXT = ('', '\n', '\x00', '\x1b[2J', '\u2028', '\ud800', 'e\u0301' * 40, '\U0001f600', '٣')
ODD_TEXT += ('x' * 3000,)
ODD_NUMBERS = (
    float('nan'),
    float('inf'),
    -float('inf'),
    1e308,
    -1e308,
    5e-324,
    -0.0,
    2**31,
    2**63,
)
ODD_NUMBERS += (2**64, 10**400, -1, 0, 1, 0.5, 32.0, True)


def deep(depth: int) -> list[Any]:
    """Return a list in a list in a list."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


values = st.one_of(
    st.sampled_from(ODD_NUMBERS),
    st.sampled_from(ODD_TEXT),
    st.none(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.builds(deep, st.sampled_from((1, 31, 40, 500))),
    st.lists(st.sampled_from(ODD_NUMBERS), max_size=4),
    st.dictionaries(st.sampled_from(ODD_TEXT), st.none(), max_size=3),
)


@st.composite
def damaged(draw: st.DrawFn, target: Target) -> bytes:
    """Draw a valid input with some bytes changed, cut out, doubled, or of another one."""
    seeds = target.seeds()
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, CHANGES))):
        kind = draw(
            st.sampled_from(('flip', 'number', 'cut', 'drop', 'double', 'splice', 'token'))
        )
        start = draw(st.integers(0, len(data)))
        length = draw(st.integers(1, 64))
        if kind == 'flip' and start < len(data):
            data[start] ^= 1 << draw(st.integers(0, 7))
        elif kind == 'number':
            width, order = draw(st.sampled_from(WIDTHS)), draw(st.sampled_from(('little', 'big')))
            number = draw(st.sampled_from(NUMBERS)) % 256**width
            data[start : start + width] = number.to_bytes(width, order)
        elif kind == 'cut':
            del data[start:]
        elif kind == 'drop':
            del data[start : start + length]
        elif kind == 'double':
            data[start:start] = data[start : start + length]
        elif kind == 'splice':
            other = draw(st.sampled_from(seeds))
            data[start:] = other[draw(st.integers(0, len(other))) :]
        elif kind == 'token':
            token = draw(st.sampled_from((*target.tokens, bytes(length), b'\xff' * length)))
            overwritten = draw(st.sampled_from((0, len(token))))
            data[start : start + overwritten] = token
    return bytes(data)


@st.composite
def nonsense(draw: st.DrawFn, target: Target) -> bytes:
    """Draw a valid document, JSON or YAML, with values that are odd or of other types."""
    seed = draw(st.sampled_from(target.seeds()))
    document = deepcopy(_parsed(seed.splitlines()[0] if target.kind == 'lines' else seed))
    places = list(_places(document))
    for _ in range(draw(st.integers(1, CHANGES))):
        holder, key = draw(st.sampled_from(places))
        if isinstance(holder, dict) and key not in holder:
            continue  # an earlier change
        action = draw(st.sampled_from(('replace', 'replace', 'replace', 'delete', 'add')))
        if action == 'replace':
            holder[key] = draw(values)
        elif isinstance(holder, dict):
            if action == 'delete':
                del holder[key]
            else:
                holder[draw(st.sampled_from(ODD_TEXT))] = draw(values)
        elif action == 'add':
            holder += [draw(values)] * draw(st.sampled_from((1, 50)))
    return json.dumps(document).encode()


@cache
def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return yaml.safe_load(text)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Return every container of a document with each of its keys."""
    found, open_ones = [], [value]
    while open_ones:
        holder = open_ones.pop()
        keys = holder.keys() if isinstance(holder, dict) else range(len(holder))
        for key in keys:
            found.append((holder, key))
            if isinstance(holder[key], dict | list):
                open_ones.append(holder[key])
    return found


def inputs(target: Target) -> st.SearchStrategy[bytes]:
    """Return what a target is fed with."""
    choices = [damaged(target), damaged(target), st.binary(max_size=300)]
    if target.kind in ('document', 'lines'):
        choices += [nonsense(target), nonsense(target)]
    if target.kind != 'bytes':
        choices.append(st.text(max_size=100).map(lambda text: text.encode()))
    return st.one_of(choices)
