# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The locks of the demo's environment, and the audit that CI makes of it."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.metadata import distributions
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import pytest
import setuptools
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
AUDIT = SimpleNamespace(**run_path(str(ROOT / '.ci' / 'audit.py')))
LOCKS = sorted((ROOT / 'requirements').glob('*.txt'))
HASH = f'sha256:{"0" * 64}'


@pytest.fixture(scope='module')
def required():
    """Return what setup.py asks for: always, and of ROS."""
    seen = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(setuptools, 'setup', lambda **arguments: seen.update(arguments))
        run_path('setup.py')
    return seen['install_requires'], seen['extras_require']['ros']


@pytest.mark.parametrize('path', LOCKS, ids=lambda path: path.stem)
def test_everything_in_a_lock_is_pinned_with_hashes_and_no_host_is_named(path):
    text = path.read_text(encoding='utf-8')
    assert AUDIT.findings_of_lock(text) == []
    options = set(re.findall(r'(?<!\S)--[a-z-]+', text))
    assert options == {'--hash'}
    assert '://' not in text


@pytest.mark.parametrize(
    ('stem', 'pythons', 'machines', 'with_ros'),
    [
        ('wheels', ('3.10', '3.11', '3.12', '3.13'), ('x86_64',), True),
        ('sourced', ('3.10', '3.11', '3.12', '3.13'), ('x86_64', 'aarch64'), False),
    ],
)
def test_a_lock_has_what_setup_asks_for(stem, pythons, machines, with_ros, required):
    always, ros = required
    text = (ROOT / 'requirements' / f'{stem}.txt').read_text(encoding='utf-8')
    locked = [requirement for requirement, _ in AUDIT.read_lock(text)]
    for python in pythons:
        for machine in machines:
            there = {
                'python_version': python,
                'python_full_version': f'{python}.9',
                'platform_machine': machine,
                'sys_platform': 'linux',
            }
            versions = {}
            for entry in locked:
                if entry.marker is None or entry.marker.evaluate(there):
                    name = canonicalize_name(entry.name)
                    assert name not in versions, f'{name} twice for {there}'
                    versions[name] = next(iter(entry.specifier)).version
            for item in map(Requirement, [*always, *(ros if with_ros else ())]):
                if item.marker is None or item.marker.evaluate(there):
                    assert versions[canonicalize_name(item.name)] in item.specifier, str(item)
            if stem == 'sourced':  # what cv_bridge of Jazzy was built for
                assert versions['numpy'] in Requirement('numpy<2').specifier


@pytest.mark.parametrize(
    ('line', 'words'),
    [
        (f'numpy>=1.26 --hash={HASH}', 'not pinned'),
        (f'numpy==1.* --hash={HASH}', 'not pinned'),
        (f'numpy --hash={HASH}', 'not pinned'),
        ('numpy==1.26.4', 'without sha256'),
        ('numpy==1.26.4 --hash=md5:0', 'without sha256'),
        (f'numpy @ https://example.org/numpy.whl --hash={HASH}', 'comes from an address'),
    ],
)
def test_what_a_lock_leaves_open_is_found(line, words):
    assert words in ' | '.join(AUDIT.findings_of_lock(f'{line}\n'))


def test_options_are_no_part_of_a_lock():
    with pytest.raises(ValueError, match='is no requirement'):
        AUDIT.findings_of_lock('--extra-index-url https://example.org/simple\n')


def install(folder, name, version='1.0', *, needs=(), licence='MIT', code='x = 1\n'):
    """Put a distribution where Python finds it, with a record of its files."""
    info = folder / f'{name}-{version}.dist-info'
    info.mkdir(parents=True)
    (folder / f'{name}.py').write_text(code)
    requires = ''.join(f'Requires-Dist: {item}\n' for item in needs)
    stated = f'License-Expression: {licence}\n' if licence else ''
    (info / 'METADATA').write_text(f'Name: {name}\nVersion: {version}\n{stated}{requires}')
    digest = base64.urlsafe_b64encode(hashlib.sha256(code.encode()).digest()).decode().rstrip('=')
    (info / 'RECORD').write_text(
        f'{name}.py,sha256={digest},{len(code)}\n{info.name}/METADATA,,\n'
    )


def installed(folder):
    return {each.name: each for each in distributions(path=[str(folder)])}


def test_a_changed_and_a_missing_file_are_found(tmp_path):
    install(tmp_path, 'good')
    install(tmp_path, 'changed')
    install(tmp_path, 'missing')
    (tmp_path / 'changed.py').write_text('x = 2\n')
    (tmp_path / 'missing.py').unlink()
    there = installed(tmp_path)
    assert AUDIT.findings_of_files(there['good']) == []
    assert AUDIT.findings_of_files(there['changed']) == ['changed: changed.py was changed']
    assert AUDIT.findings_of_files(there['missing']) == ['missing: missing.py is missing']


def test_what_differs_from_the_lock_is_found(tmp_path):
    install(tmp_path, 'seg-uncertainty-ros', needs=['first', 'second; extra == "ros"'])
    install(tmp_path, 'first', '1.1', needs=['third'])
    install(tmp_path, 'second')
    install(tmp_path, 'third')
    install(tmp_path, 'stranger')
    there = installed(tmp_path)
    needed = AUDIT.closure(there, 'seg-uncertainty-ros', ['ros'])
    assert needed == {'seg-uncertainty-ros', 'first', 'second', 'third'}
    assert 'second' not in AUDIT.closure(there, 'seg-uncertainty-ros')
    pinned = {'first': '1.0', 'second': '1.0', 'fourth': '1.0'}
    assert AUDIT.findings_of_versions(there, needed, pinned) == [
        'third: not in the lock',
        'first: 1.1 is installed, the lock says 1.0',
        'fourth: nothing is installed, the lock says 1.0',
    ]


def test_dependencies_that_are_missing_or_contradict_each_other_are_found(tmp_path):
    install(tmp_path, 'first', needs=['second<2', 'third', 'fourth; extra == "more"'])
    install(tmp_path, 'second', '2.0')
    there = installed(tmp_path)
    assert AUDIT.findings_of_dependencies(there, {'first', 'second'}) == [
        'first: needs second<2, 2.0 is installed',
        'first: needs third, nothing is installed',
    ]


def test_a_package_that_nobody_asked_for_is_found(tmp_path, monkeypatch):
    install(tmp_path, 'first')
    install(tmp_path, 'stranger')
    there = installed(tmp_path)
    monkeypatch.setattr('sys.prefix', str(tmp_path))
    assert AUDIT.findings_of_strangers(there, {'first'}) == ['stranger: nothing here needs it']
    monkeypatch.setattr('sys.prefix', str(tmp_path / 'elsewhere'))
    assert AUDIT.findings_of_strangers(there, {'first'}) == []


@pytest.mark.parametrize(
    ('licence', 'words'),
    [
        ('MIT', None),
        ('(Apache-2.0 OR BSD-3-Clause) AND MIT', None),
        ('AGPL-3.0-only', "'AGPL-3.0-only'"),
        ('MIT AND Proprietary', "'Proprietary'"),
        ('', 'states no licence'),
    ],
)
def test_licences_beyond_the_list_are_found(licence, words, tmp_path):
    install(tmp_path, 'first', licence=licence)
    found = AUDIT.findings_of_licences(installed(tmp_path)['first'])
    assert len(found) == (words is not None)
    assert words is None or words in found[0]
