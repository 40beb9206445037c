# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What hypothesis draws for the targets of fuzz_targets.py: damaged files, documents of nonsense.

Most of a damaged file is as it was, so that a parser gets past its first check.
"""

from __future__ import annotations

import json
from copy import deepcopy
from functools import cache

import yaml
from hypothesis import HealthCheck
from hypothesis import Phase
from hypothesis import given
from hypothesis import seed as seeded
from hypothesis import settings
from hypothesis import strategies as st

# Sizes that a header may state, in each width and byte order.
NUMBERS = (0, 1, 2, 3, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000)
NUMBERS += (0xFFFFFFFF, 2**33, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
WIDTHS = (1, 2, 4, 8)
CHANGES = 4
DAMAGES = ('flip', 'number', 'cut', 'drop', 'double', 'splice', 'token')

ODD_TEXT = ('', '\n', '\x00', '\x1b[2J', '\u2028', '\ud800', 'e\u0301' * 40, '\U0001f600', '٣')
ODD_TEXT += ('x' * 3000,)
INFINITY = float('inf')
ODD_NUMBERS = (float('nan'), INFINITY, -INFINITY, 1e308, -1e308, 5e-324, -0.0, 2**31, 2**63)
ODD_NUMBERS += (2**64, 10**400, -1, 0, 1, 0.5, 32.0, True)

_JSON = (
    b'NaN', b'-Infinity', b'1e999', b'9' * 400, b'9' * 5000, b'null', b'true', b'[]', b'{}', b'""',
    b'"\\ud800"', b'[' * 3000, b'0.5', b'-1', b'"a\\nb"', b'\\u0000', b'\xff\xfe',
)  # fmt: skip
TOKENS = {
    'json': _JSON,
    'lines': (b'\n', *_JSON),
    'yaml': (
        b'&a ', b'*a', b'<<: *a', b'!!python/object/apply:os.system', b'!!timestamp 2001-99-99',
        b'!!binary ', b'? [a]\n: b\n', b'.nan', b'-.inf', b'0x', b'1:99:99', b'~', b'[' * 2000,
        b'{' * 2000, b'|\n', b'---\n', b'%YAML 9.9\n', b'!!set {a}', b'\t', b'9' * 5000,
        b'\xef\xbb\xbf', b'2001-12-14', b'!!int x', b'!!float x', b'0b', b'0o9', b'- - - - ',
        b'!!omap', b'\x85',
    ),
}  # fmt: skip
"""What a mutation may put into a document, by its kind."""


def deep(depth):
    """Return a list in a list in a list."""
    value = []
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


def tokens(target):
    """Return what a mutation may put into an input of a target."""
    return (*target.tokens, *TOKENS.get(target.kind, ()))


@st.composite
def damaged(draw, target):
    """Draw a valid input with some bytes changed, cut out, doubled, or of another one."""
    data = bytearray(draw(st.sampled_from(target.seeds)))
    for _ in range(draw(st.integers(1, CHANGES))):
        kind = draw(st.sampled_from(DAMAGES))
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
            other = draw(st.sampled_from(target.seeds))
            data[start:] = other[draw(st.integers(0, len(other))) :]
        elif kind == 'token':
            token = draw(st.sampled_from((*tokens(target), bytes(length), b'\xff' * length)))
            overwritten = draw(st.sampled_from((0, len(token))))
            data[start : start + overwritten] = token
    return bytes(data)


@st.composite
def nonsense(draw, target):
    """Draw a valid document, JSON or YAML, with values that are odd or of other types."""
    document = deepcopy(_parsed(draw(st.sampled_from(target.seeds)), target.kind))
    places = list(_places(document))
    for _ in range(draw(st.integers(1, CHANGES))):
        holder, key = draw(st.sampled_from(places))
        if (key not in holder) if isinstance(holder, dict) else key >= len(holder):
            continue  # an earlier change
        action = draw(st.sampled_from(('replace', 'replace', 'replace', 'delete', 'add')))
        if action == 'replace':
            odd = ODD_NUMBERS if isinstance(holder[key], int | float) else ODD_TEXT
            alike = isinstance(holder[key], int | float | str) and draw(st.booleans())
            holder[key] = draw(st.sampled_from(odd) if alike else values)
        elif action == 'delete':
            del holder[key]
        elif isinstance(holder, dict):
            holder[draw(st.sampled_from(ODD_TEXT))] = draw(values)
        else:
            holder += [draw(values)] * draw(st.sampled_from((1, 50)))
    lines = document if target.kind == 'lines' else [document]
    return '\n'.join(map(json.dumps, lines)).encode()


@cache
def _parsed(text, kind):
    if kind == 'lines':
        return [json.loads(line) for line in text.splitlines()]
    return json.loads(text) if kind == 'json' else yaml.safe_load(text)


def _places(value):
    """Yield every container of a document with each of its keys; of a list the first two will do.

    Its items are alike, and there may be more of them than of all the rest.
    """
    open_ones = [value]
    while open_ones:
        holder = open_ones.pop()
        for key in holder if isinstance(holder, dict) else range(min(2, len(holder))):
            yield holder, key
            if isinstance(holder[key], dict | list):
                open_ones.append(holder[key])


def inputs(target):
    """Return what a target is fed with."""
    choices = [damaged(target), damaged(target), st.binary(max_size=300)]
    if target.kind in TOKENS:
        choices += [nonsense(target), nonsense(target)]
    if target.kind != 'bytes':
        choices.append(st.text(max_size=100).map(str.encode))
    return st.one_of(choices)


def draw_each(target, feed, examples, seed=None):
    """Call ``feed`` with so many inputs of a target, always the same where a seed is given."""

    @settings(
        max_examples=examples,
        derandomize=False,  # it would be on wherever CI is set
        phases=[Phase.generate],  # a slow input takes for ever to shrink
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs(target))
    def run(data):
        feed(data)

    (run if seed is None else seeded(seed)(run))()
