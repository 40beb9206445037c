# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""docs/safety.md makes no claim without a test: each test that it names exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / 'docs' / 'safety.md'
LINK = re.compile(r'\[`(test_\w+)`\]\(([^)]+)\)')
TEXT = PAGE.read_text(encoding='utf-8')


def tables():
    """Yield the header and the rows of each table, as lists of cells."""
    for block in re.findall(r'(?:^\|.*\|\n)+', TEXT, flags=re.MULTILINE):
        header, _, *rows = (
            [cell.strip() for cell in line.strip('|').split(' | ')] for line in block.splitlines()
        )
        yield [cell.strip('| ') for cell in header], rows


@cache
def names_in(path):
    """Return the names of the tests that pytest finds in a file."""
    tree = ast.parse(path.read_text(encoding='utf-8'))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(('name', 'file'), sorted(set(LINK.findall(TEXT))))
def test_a_test_that_the_page_names_exists(name, file):
    assert name in names_in((PAGE.parent / file).resolve())


def test_every_row_of_a_table_of_claims_names_a_test():
    checked = 0
    for header, rows in tables():
        if header[-1] == 'test':
            for row in rows:
                assert LINK.search(row[-1]), row[0]
                checked += 1
        else:
            assert header == ['', ''], header  # the contract
    assert checked > 60


def test_no_test_is_named_without_a_link():
    unlinked = LINK.sub('', TEXT)
    assert re.findall(r'`test_\w+`', unlinked) == []


def test_limits_are_those_of_the_code():
    checked = 0
    for header, rows in tables():
        if 'limit' not in header:
            continue
        for _, limit, where, _ in rows:
            module, _, name = where.strip('`').rpartition('.')
            value = getattr(import_module(module), name)
            numbers = value if isinstance(value, tuple) else (value,)
            assert [float(word) for word in limit.split(' to ')] == [*map(float, numbers)], where
            checked += 1
    assert checked > 20


def cells(page, beginning):
    """Return the cells of the one row of a page that begins so, without intervals."""
    text = (ROOT / page).read_text(encoding='utf-8')
    (row,) = (line for line in text.splitlines() if line.startswith(beginning))
    return [cell.split('[')[0].strip() for cell in row.strip('|').split('|')]


def test_figures_are_those_of_the_pages_that_their_commands_write():
    summary = dict(
        zip(
            cells('docs/results.md', '| bundle            | input up to | score | CamVid'),
            cells('docs/results.md', '| lite0_fpn_outlier | 0.25 MP     | void  |'),
            strict=True,
        )
    )
    for name, label in (('RoadAnomaly', 'on RoadAnomaly'), ('FS_LostFound_full', 'on small')):
        precision, rate = (float(summary[f'{name} {key}']) for key in ('AP', 'FPR95'))
        assert f'AP {precision:.2f}, FPR95 {rate:.2f} {label}' in TEXT
    card = 'seg_uncertainty_ros/models/default/MODEL_CARD.md'
    _, removed, lost = cells(card, '| threshold of all groups')
    assert f'removes {removed} of false segments, loses {lost} of unknown objects' in TEXT
    real, fog = (
        float(cells('docs/shift.md', f'| {name}')[1].split()[0])
        for name in ('real shifts against any drive', 'corruptions, severity 1 and 2')
    )
    assert f'AUROC {real:.2f} to 1.00 on real shifts, {fog:.2f} (fog 1) to 1.00' in TEXT
    calibration = cells('docs/results.md', '| lite0_fpn_outlier | 0.25 MP     | 0.')[-1]
    assert f'expected calibration error {calibration} on CamVid test' in TEXT


def test_what_the_page_links_to_exists():
    for target in re.findall(r'\]\(([^)#]+)\)', TEXT):
        assert (PAGE.parent / target).exists(), target
    for command in re.findall(r'python (benchmarks/\w+\.py)', TEXT):
        assert (ROOT / command).is_file(), command
