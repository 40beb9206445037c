# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Audit of the demo's environment, without a network: it is what the lock says, nothing else.

Pins and hashes in the lock, versions and files as installed, packages that nobody asked for,
licences, dependencies that contradict each other. Known vulnerabilities are not looked up: that
needs a database (see docs/safety.md).
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import re
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Iterator
    from collections.abc import Mapping
    from importlib.metadata import Distribution

PROJECT = 'seg-uncertainty-ros'
# What installs the others.
INSTALLERS = {'pip', PROJECT}
# Their wheels state no licence; their sources do: Apache-2.0.
UNSTATED = {'ros-fastcdr', 'ros-fastrtps'}
# As package metadata write them.
LICENCES = {
    '3-Clause BSD License',
    'Apache 2.0',
    'Apache License 2.0',
    'Apache License, Version 2.0',
    'Apache Software License',
    'Apache-2.0',
    'BSD',
    'BSD License',
    'BSD-2-Clause',
    'BSD-3-Clause',
    'Boost Software License',
    'CC0-1.0',
    '0BSD',
    'MIT',
    'MIT License',
    'MIT-CMU',
    'MPL-2.0',
    'PSF-2.0',
    'Python Software Foundation License',
    'Zlib',
    'any-OSI',
    'zlib License',
}


def read_lock(text: str) -> Iterator[tuple[Requirement, list[str]]]:
    """Yield the requirements of a lock file and their hashes.

    Raises ``ValueError`` for a line that is neither, such as an option that names an index.
    """
    joined = re.sub(r'\\\n', ' ', text)
    for line in joined.splitlines():
        if not (words := line.split('#')[0].strip()):
            continue
        head, *hashes = words.split('--hash=')
        try:
            yield Requirement(head.strip()), [item.strip() for item in hashes]
        except ValueError as error:
            msg = f'{line.strip()!r} is no requirement: {error}'
            raise ValueError(msg) from error


def findings_of_lock(text: str) -> list[str]:
    """Return what is wrong with a lock: what is not pinned, has no hash or names a place."""
    found = []
    for requirement, hashes in read_lock(text):
        specifiers = list(requirement.specifier)
        if requirement.url:
            found.append(f'{requirement.name}: comes from an address')
        if len(specifiers) != 1 or specifiers[0].operator != '==' or '*' in specifiers[0].version:
            found.append(f'{requirement.name}: not pinned to one version')
        if not hashes or not all(re.fullmatch('sha256:[0-9a-f]{64}', item) for item in hashes):
            found.append(f'{requirement.name}: without sha256')
    return found


def pins(text: str) -> dict[str, str]:
    """Return the versions by name that a lock has for this Python and this machine."""
    return {
        canonicalize_name(requirement.name): next(iter(requirement.specifier)).version
        for requirement, _ in read_lock(text)
        if requirement.marker is None or requirement.marker.evaluate()
    }


def needs(distribution: Distribution, extras: Iterable[str] = ()) -> Iterator[Requirement]:
    """Yield what a distribution needs here, itself and for its ``extras``."""
    for requirement in map(Requirement, distribution.requires or ()):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({'extra': each}) for each in ('', *extras)):
            yield requirement


def closure(
    installed: Mapping[str, Distribution], name: str, extras: Iterable[str] = ()
) -> set[str]:
    """Return what a distribution needs, and what that needs, as far as it is installed."""
    needed: set[str] = set()
    waiting = [(canonicalize_name(name), frozenset(extras))]
    seen = set()
    while waiting:
        name, extras = item = waiting.pop()
        if item in seen or name not in installed:
            continue
        seen.add(item)
        needed.add(name)
        for requirement in needs(installed[name], extras):
            child = canonicalize_name(requirement.name)
            waiting.append((child, frozenset(requirement.extras)))
    return needed


def findings_of_versions(
    installed: Mapping[str, Distribution], needed: set[str], pinned: Mapping[str, str]
) -> list[str]:
    """Return where what is installed differs from the lock."""
    found = [f'{name}: not in the lock' for name in sorted(needed - {PROJECT} - set(pinned))]
    for name, version in sorted(pinned.items()):
        there = installed[name].version if name in installed else 'nothing'
        if there != version:
            found.append(f'{name}: {there} is installed, the lock says {version}')
    return found


def findings_of_strangers(installed: Mapping[str, Distribution], asked_for: set[str]) -> list[str]:
    """Return distributions of this environment that nobody asked for and no other one brings."""
    brought = {
        canonicalize_name(re.split(r'-\d', path.parent.name)[0])
        for name in asked_for
        for path in installed[name].files or ()
        if path.parent.suffix in ('.dist-info', '.egg-info')
    }
    strangers = sorted(set(installed) - asked_for - brought - INSTALLERS)
    # Those of the system, where ROS is sourced, are not ours to judge.
    here = [name for name in strangers if is_here(installed[name])]
    return [f'{name}: nothing here needs it' for name in here]


def is_here(distribution: Distribution) -> bool:
    """Tell whether a distribution is part of this virtual environment."""
    return Path(distribution.locate_file('')).resolve().is_relative_to(Path(sys.prefix).resolve())


def findings_of_files(distribution: Distribution) -> list[str]:
    """Return the files of a distribution that are not what was installed, but for bytecode."""
    found = []
    for path in distribution.files or ():
        if path.hash is None or path.suffix == '.pyc':
            continue
        try:
            digest = hashlib.new(path.hash.mode, path.locate().read_bytes()).digest()
        except OSError:
            found.append(f'{distribution.name}: {path} is missing')
            continue
        if base64.urlsafe_b64encode(digest).decode().rstrip('=') != path.hash.value:
            found.append(f'{distribution.name}: {path} was changed')
    return found


def parts(expression: str) -> list[str]:
    """Return the licences in an SPDX expression; all of them must be acceptable."""
    return [part for part in re.split(r' AND | OR |[()]', expression) if part]


def licences(distribution: Distribution) -> list[str]:
    """Return the licences that a distribution, or the ROS package in it, states."""
    metadata = distribution.metadata
    if expression := metadata.get('License-Expression'):
        return parts(expression)
    entries = [
        entry.rpartition(' :: ')[2]
        for entry in metadata.get_all('Classifier') or ()
        if entry.startswith('License :: ')
    ]
    if not entries:
        entries = [
            part
            for line in (metadata.get('License') or '').splitlines()[:1]
            for part in parts(line)
        ]
    if not entries:
        entries = [
            node.text.strip()
            for path in distribution.files or ()
            if path.name == 'package.xml'
            for node in ElementTree.parse(path.locate()).iter('license')
        ]
    return entries


def findings_of_licences(distribution: Distribution) -> list[str]:
    """Return licences of a distribution that are not among ``LICENCES``."""
    stated = licences(distribution)
    if not stated and canonicalize_name(distribution.name) not in UNSTATED:
        return [f'{distribution.name}: states no licence']
    return [f'{distribution.name}: licence {name!r}' for name in stated if name not in LICENCES]


def findings_of_dependencies(installed: Mapping[str, Distribution], needed: set[str]) -> list[str]:
    """Return the dependencies that are missing or of a version that another one excludes."""
    found = []
    for name in sorted(needed):
        for requirement in needs(installed[name]):
            there = installed.get(canonicalize_name(requirement.name))
            version = there.version if there else 'nothing'
            if not there or not requirement.specifier.contains(version, prereleases=True):
                found.append(f'{name}: needs {requirement}, {version} is installed')
    return found


def audit(lock: str, extras: Iterable[str]) -> list[str]:
    """Return everything that is wrong with this environment and its lock."""
    installed: dict[str, Distribution] = {}
    for each in distributions():  # the first on the path is the one that is imported
        installed.setdefault(canonicalize_name(each.name), each)
    project = installed.get(PROJECT)
    if project is None:
        return [f'{PROJECT} is not installed']
    needed = closure(installed, PROJECT, extras)
    asked_for = closure(installed, PROJECT, project.metadata.get_all('Provides-Extra') or ())
    found = findings_of_lock(lock)
    found += findings_of_versions(installed, needed, pins(lock))
    found += findings_of_strangers(installed, asked_for)
    for name in sorted(needed - {PROJECT}):
        found += findings_of_files(installed[name])
        found += findings_of_licences(installed[name])
    return found + findings_of_dependencies(installed, needed)


def main() -> int:
    """Print what is wrong; return 1 if anything is."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('lock', type=Path, help='lock file of the environment of this Python')
    parser.add_argument('--extra', action='append', default=[], help='extra that the lock covers')
    options = parser.parse_args()
    found = audit(options.lock.read_text(encoding='utf-8'), options.extra)
    for line in found:
        print(line)
    print(f'audit of {options.lock}: {len(found)} findings')
    return 1 if found else 0


if __name__ == '__main__':
    sys.exit(main())
