# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Whatever the outside sends, a parser returns or says in one line why not.

The same inputs at each run; SEG_UNCERTAINTY_FUZZ=100 draws a hundred times as many, others each
time. benchmarks/fuzz.py goes on from there, see docs/fuzzing.md.
"""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
import time
from pathlib import Path

import fuzz_targets
import pytest
from fuzz_strategies import draw_each
from fuzz_targets import TARGETS
from fuzz_targets import FindingError
from fuzz_targets import Target
from fuzz_targets import any_of
from fuzz_targets import check
from fuzz_targets import prepare

from seg_uncertainty_ros.errors import SegUncertaintyError
from seg_uncertainty_ros.recordings import SourceError
from seg_uncertainty_ros.recordings import open_source

FACTOR = float(os.environ.get('SEG_UNCERTAINTY_FUZZ', '0'))
CORPUS = Path(__file__).parent / 'corpus'
COMMAND = Path(__file__).parents[1] / 'benchmarks' / 'fuzz.py'
CASES = [(file.parent.name, file.name) for file in sorted(CORPUS.glob('*/*'))]


def ready(name):
    try:
        prepare(name)
    except ModuleNotFoundError as error:
        if error.name.startswith('seg_uncertainty_ros'):
            raise
        pytest.skip(f'{error.name} is not installed')


@pytest.mark.parametrize('name', TARGETS)
def test_parser_returns_or_says_why_not(name):
    ready(name)
    examples = max(1, round(TARGETS[name].examples * (FACTOR or 1)))
    draw_each(TARGETS[name], lambda data: check(name, data), examples, None if FACTOR else 0)


@pytest.mark.parametrize(('name', 'case'), CASES)
def test_what_was_found_once_stays_fixed(name, case):
    ready(name)
    check(name, (CORPUS / name / case).read_bytes())


def test_a_pipe_among_images_is_none(tmp_path):
    os.mkfifo(tmp_path / 'a.png')
    with pytest.raises(SourceError, match='nor images'):
        open_source(tmp_path)


def test_a_list_of_videos_opens_no_other_file(tmp_path):
    (tmp_path / 'good.avi').write_bytes(TARGETS['video'].seeds[0][1:])
    assert len(list(open_source(tmp_path / 'good.avi'))) == 3
    (tmp_path / 'list.avi').write_text('ffconcat version 1.0\nfile good.avi\n')
    with pytest.raises(SourceError, match='do not open as a video'):
        open_source(tmp_path / 'list.avi')


# What finds them


def compute(_data):
    end = time.process_time() + 0.6
    while time.process_time() < end:
        pass


def say(message):
    def run(_data):
        raise SegUncertaintyError(message)

    return run


def is_even(data):
    if len(data) % 2:
        raise SegUncertaintyError('odd')


@pytest.mark.parametrize(
    ('run', 'found'),
    [
        (lambda data: {}[data], 'KeyError'),
        (lambda data: data.decode(), 'UnicodeDecodeError'),
        # Pages of its own: a heap that keeps what was freed would give some back.
        (lambda _: mmap.mmap(-1, 2**27).write(bytes(2**27)), 'MiB of memory'),
        (compute, 's of processor time'),
        (say('two\nlines'), 'several lines'),
        (say('x' * 10_000), '10000 characters'),
        (say('\ud800'), 'cannot be printed'),
        (lambda data: any_of(data, say('two\nlines'), is_even), 'several lines'),
    ],
)
def test_check_finds_what_no_parser_may_do(monkeypatch, run, found):
    monkeypatch.setitem(TARGETS, 'bad', Target(run, []))
    monkeypatch.setattr(fuzz_targets, 'TIME_LIMIT_S', 0.5)
    monkeypatch.setattr(fuzz_targets, 'MEMORY_LIMIT_BYTES', 2**25)
    with pytest.raises(FindingError, match=found):
        check('bad', b'\xff')


def test_check_tells_refusals_from_findings(monkeypatch):
    both = Target(lambda data: any_of(data, say('no image'), is_even), [])
    monkeypatch.setitem(TARGETS, 'good', both)
    assert check('good', b'') == ''
    assert check('good', b'x') == 'odd'


def test_the_command_counts_what_it_feeds(tmp_path):
    command = [sys.executable, COMMAND, '--engine', 'hypothesis', '--target', 'state']
    command += ['--runs', '40', '--out', tmp_path]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    [line] = (tmp_path / 'counts.jsonl').read_text('utf-8').splitlines()
    counts = json.loads(line)
    assert counts['cases'] == counts['taken'] + counts['refused'] == 40
    assert 'findings' not in counts
    assert '| **all** | 0 | 40 | 40 |' in run.stdout
