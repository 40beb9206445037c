# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The folder of engines: what is kept, what is built anew, and what a full disk leaves behind."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from seg_uncertainty_ros.runtime.engines import EngineCache
from seg_uncertainty_ros.runtime.engines import EngineKey
from seg_uncertainty_ros.runtime.engines import NoEngineError
from seg_uncertainty_ros.runtime.engines import default_folder
from seg_uncertainty_ros.runtime.tensorrt_build import Built
from seg_uncertainty_ros.runtime.tensorrt_build import EngineError

KEY = EngineKey('0f' * 32, 384, 640, 'fp16', 'NVIDIA Orin (nvgpu)', '8.7', '10.7.0')
ENGINE = bytes(range(256)) * 64


class Builds:
    """Builds engines of numbered bytes, and remembers the timings that it was given."""

    def __init__(self):
        self.timings = []

    def __call__(self, timings):
        self.timings.append(timings)
        return Built(ENGINE + bytes([len(self.timings)]), b'%d' % len(self.timings))


@pytest.fixture
def cache(tmp_path):
    return EngineCache(tmp_path / 'engines')


@pytest.fixture
def builds():
    return Builds()


def load_or_build(cache, builds, key=KEY):
    said = []
    return cache.load_or_build(key, builds, said.append), said


def test_an_engine_is_built_once_and_named_for_people(cache, builds):
    first, said = load_or_build(cache, builds)
    assert said == [f'{cache.path(KEY)}: no engine yet; it is built now']
    assert cache.path(KEY).name == '0f0f0f0f0f0f-640x384-fp16-nvidia-orin-nvgpu-sm87.engine'
    second, said = load_or_build(EngineCache(cache.folder), builds)
    assert (first, second, said) == (ENGINE + b'\x01', ENGINE + b'\x01', [])
    record = json.loads(cache.path(KEY).with_suffix('.json').read_text())
    assert record['of']['tensorrt'] == '10.7.0'
    assert record['bytes'] == len(first)


@pytest.mark.parametrize(
    ('field', 'value', 'reason'),
    [
        ('tensorrt', '11.4.0', 'stale: built for tensorrt 10.7.0, wanted 11.4.0'),
        ('graph', '0f' * 31 + 'aa', 'stale: built for graph 0f0f'),
    ],
)
def test_of_another_version_it_is_built_anew_in_its_place(cache, builds, field, value, reason):
    load_or_build(cache, builds)
    key = replace(KEY, **{field: value})
    with pytest.raises(NoEngineError, match=reason):
        cache.load(key)
    engine, said = load_or_build(cache, builds, key)
    assert reason in said[0]
    assert engine == ENGINE + b'\x02' == cache.load(key)
    assert cache.path(key) == cache.path(KEY)


@pytest.mark.parametrize(
    ('field', 'value'),
    [
        ('height', 416),
        ('width', 672),
        ('precision', 'int8'),
        ('gpu', 'H200'),
        ('graph', 'ab' * 32),
    ],
)
def test_engines_for_something_else_lie_beside_each_other(cache, builds, field, value):
    other = replace(KEY, **{field: value})
    first, second = load_or_build(cache, builds)[0], load_or_build(cache, builds, other)[0]
    assert first != second
    assert (cache.load(KEY), cache.load(other)) == (first, second)


def test_a_build_is_given_the_timings_of_the_one_before(cache, builds):
    load_or_build(cache, builds)
    load_or_build(cache, builds, replace(KEY, width=672))
    load_or_build(cache, builds, replace(KEY, tensorrt='10.8.0'))
    assert builds.timings == [b'', b'1', b'']


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path):
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ('suffix', 'damage', 'reason'),
    [
        ('.engine', cut, 'damaged: sha256'),
        ('.engine', flip, 'damaged: sha256'),
        ('.engine', lambda path: path.unlink(), 'no engine yet'),
        ('.json', lambda path: path.unlink(), 'no engine yet'),
        ('.json', lambda path: path.write_text('{"of": '), 'json: damaged: '),
        ('.json', lambda path: path.write_text('[]'), 'json: damaged: '),
        ('.json', lambda path: path.write_text('{}'), "json: damaged: 'of'"),
        ('.json', lambda path: path.write_bytes(b'\xff\xfe'), 'json: damaged: '),
    ],
)
def test_a_damaged_one_is_built_anew(cache, builds, suffix, damage, reason):
    load_or_build(cache, builds)
    damage(cache.path(KEY).with_suffix(suffix))
    with pytest.raises(NoEngineError, match=reason):
        cache.load(KEY)
    engine, said = load_or_build(cache, builds)
    assert reason in said[0]
    assert engine == ENGINE + b'\x02' == cache.load(KEY)


FULL = """
import resource, sys
from pathlib import Path
from test_engines import KEY, Builds
from seg_uncertainty_ros.runtime.engines import EngineCache
from seg_uncertainty_ros.runtime.tensorrt_build import EngineError
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), -1))
try:
    EngineCache(Path(sys.argv[1])).load_or_build(KEY, Builds(), lambda text: None)
except EngineError as error:
    print(error)
"""


@pytest.mark.parametrize('room', [0, 8000, 16384])
def test_a_full_disk_is_one_error_and_leaves_nothing_behind(cache, room):
    # No file of this process can grow beyond `room` bytes: the kernel fails the write.
    said = subprocess.run(
        [sys.executable, '-c', FULL, str(cache.folder), str(room)],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert said == f'{cache.path(KEY)}: cannot write 0.0 MB: File too large\n'
    left = {path.name: path.stat().st_size for path in cache.folder.iterdir()}
    assert left == {f'{KEY.stem}.lock': 0}


def test_a_folder_that_cannot_be_is_one_error(tmp_path, builds):
    (tmp_path / 'file').write_text('')
    with pytest.raises(EngineError, match='file/engines: cannot keep engines there: Not a direc'):
        load_or_build(EngineCache(tmp_path / 'file' / 'engines'), builds)
    assert builds.timings == []


def test_a_failed_build_leaves_nothing_behind_and_the_next_may_succeed(cache, builds):
    def fail(_timings):
        raise EngineError('no way')

    with pytest.raises(EngineError, match='no way'):
        cache.load_or_build(KEY, fail, lambda text: None)
    assert [path.suffix for path in cache.folder.iterdir()] == ['.lock']
    assert load_or_build(cache, builds)[0] == ENGINE + b'\x01'


def test_who_wants_the_same_engine_waits_for_it(cache, builds):
    """Two nodes of one vehicle start at once: one builds."""
    started, go_on = threading.Event(), threading.Event()

    def slow(timings):
        started.set()
        assert go_on.wait(10)
        return builds(timings)

    got = []
    threads = [
        threading.Thread(target=lambda: got.append(cache.load_or_build(KEY, slow, print)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    assert started.wait(10)
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert got == [ENGINE + b'\x01'] * 3
    assert len(builds.timings) == 1


def test_the_folder_follows_the_desktop_standard(monkeypatch, tmp_path):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    assert default_folder() == tmp_path / 'seg_uncertainty' / 'engines'
    assert EngineCache().folder == default_folder()
