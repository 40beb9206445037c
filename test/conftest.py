# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Fixtures that every test may use."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from statistics_of_drives import random_drive
from statistics_of_drives import with_test

from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.bundle import default_bundle_path
from seg_uncertainty_ros.runtime import cuda_driver
from seg_uncertainty_ros.shift.fitting import fit_shift_reference

if TYPE_CHECKING:
    from seg_uncertainty_ros.shift.reference import ShiftReference

# colcon test runs the whole folder, on machines without torch too.
collect_ignore = [] if find_spec('torch') else ['training']


@pytest.fixture(scope='session')
def data_dir() -> Path:
    """Return the folder of real data, which is not part of the project."""
    default = Path(__file__).parents[2] / 'shared' / 'data'
    path = Path(os.environ.get('SEG_UNCERTAINTY_DATA', default))
    if not path.is_dir():
        pytest.skip(f'no real data at {path}; set SEG_UNCERTAINTY_DATA')
    return path


@pytest.fixture(scope='session')
def onnx():
    """Return the package onnx, which a vehicle lacks and `make test` has."""
    return pytest.importorskip('onnx', reason='onnx belongs to the extra dev')


@pytest.fixture(scope='session')
def bundle_path() -> Path:
    """Return the path of the bundle that ships."""
    return default_bundle_path()


@pytest.fixture(scope='session')
def bundle(bundle_path: Path) -> Bundle:
    """Return the bundle that ships."""
    return Bundle.load(bundle_path)


@pytest.fixture(scope='session')
def shift_reference(bundle: Bundle) -> ShiftReference:
    """Return a reference to drives of made-up statistics, as large as the bundle's."""
    sizes = {'size': bundle.reference.size, 'classes': len(bundle.classes)}
    drives = [random_drive(seed, seconds=40.0, **sizes) for seed in range(4)]
    return with_test(fit_shift_reference({'town': drives}), 0.1)


@pytest.fixture(scope='session')
def standin_driver(tmp_path_factory) -> Path:
    """Return a CUDA driver whose GPU is the host."""
    if (compiler := shutil.which('cc')) is None:
        pytest.skip('no C compiler')
    library = tmp_path_factory.mktemp('driver') / 'libcuda.so.1'
    source = Path(__file__).parent / 'standin' / 'cuda.c'
    subprocess.run([compiler, '-shared', '-fPIC', '-o', library, source], check=True)
    return library


@pytest.fixture
def standin_gpu(standin_driver, monkeypatch, tmp_path):
    """Return a module tensorrt for that driver; engines go to a folder of the test's own."""
    monkeypatch.setattr(cuda_driver, 'LIBRARY', str(standin_driver))
    cuda_driver._library.cache_clear()
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.syspath_prepend(Path(__file__).parent / 'standin')
    monkeypatch.delitem(sys.modules, 'tensorrt', raising=False)
    module = importlib.import_module('tensorrt')
    yield module
    module.go_on.set()
    del sys.modules['tensorrt']
    cuda_driver._library.cache_clear()
