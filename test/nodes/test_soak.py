# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The soak, a few seconds of it: what it asks for holds, but for growth and ratios of speed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('onnx', reason='onnx belongs to the extra dev')

SOAK = Path(__file__).parents[2] / 'benchmarks' / 'soak.py'
# What a run this short cannot say.
OF_LONG_RUNS = re.compile('slope|do not grow|latency p99|processor time')


def test_a_short_soak_misses_nothing(tmp_path):
    # Enough faults that each kind comes.
    command = [sys.executable, SOAK, '--frames', '1200', '--faults', '--every', '10']
    command += ['--page', tmp_path / 'soak.md']
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode in (0, 1), run.stderr
    page = (tmp_path / 'soak.md').read_text('utf-8')
    assert run.stdout.strip() in page
    targets = re.findall(r'^\| (.+) \| (.+) \| (met|MISSED) \|$', page, re.MULTILINE)
    names = ' '.join(target for target, _, _ in targets)
    assert 'counts consistent' in names
    assert 'bad images rejected' in names
    missed = [each for each in targets if each[-1] != 'met' and not OF_LONG_RUNS.search(each[0])]
    assert missed == []
