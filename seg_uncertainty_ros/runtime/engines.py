# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A folder of engines: each beside a JSON file that says what it was built of, by what, for what.

An engine runs only with the TensorRT and on the kind of GPU that built it. One that does not
match its JSON file, or whose JSON file does not match what is asked for, is built anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import tempfile
from contextlib import contextmanager
from contextlib import suppress
from dataclasses import asdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

from seg_uncertainty_ros.runtime.tensorrt_build import EngineError
from seg_uncertainty_ros.structured_text import TextError
from seg_uncertainty_ros.structured_text import parse_json
from seg_uncertainty_ros.structured_text import shown

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator

    from seg_uncertainty_ros.runtime.tensorrt_build import Built


MAX_ENGINE_BYTES = 2**32
"""Ours have 20 MB; what is larger than most GPUs' memory is no engine for them."""
MAX_TIMINGS_BYTES = 2**28
"""A cache of timings grows by about a megabyte a network."""
MAX_RECORD_BYTES = 2**16
"""The JSON file beside an engine has half a kilobyte."""


class NoEngineError(EngineError):
    """There is no usable engine in the folder; the message says why."""


class UnusableEngineError(EngineError):
    """An engine that TensorRT does not load, although its file is whole."""


@dataclass(frozen=True)
class EngineKey:
    """What an engine depends on: any change, and it has to be built anew.

    ``graph`` is the sha256 of the bundle's ONNX file; ``height`` and ``width`` are the network's.
    """

    graph: str
    height: int
    width: int
    precision: str
    gpu: str
    compute_capability: str
    tensorrt: str

    @property
    def stem(self) -> str:
        """Name of the files: without the version, so that a new one replaces the engine."""
        return f'{self.graph[:12]}-{self.size}-{self.precision}-{self.gpu_label}'

    @property
    def size(self) -> str:
        """As 640x384."""
        return f'{self.width}x{self.height}'

    @property
    def gpu_label(self) -> str:
        """The GPU in lower case, as a part of a file name."""
        label = re.sub(r'[^a-z0-9]+', '-', self.gpu.lower()).strip('-')
        return f'{label}-sm{self.compute_capability.replace(".", "")}'


def default_folder() -> Path:
    """Return where engines lie: ``$XDG_CACHE_HOME/seg_uncertainty/engines``."""
    home = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(home) / 'seg_uncertainty' / 'engines'


class EngineCache:
    """The engines of a folder, ``default_folder()`` unless given."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = (folder or default_folder()).expanduser()

    def path(self, key: EngineKey) -> Path:
        """Return the engine's file, whether it exists or not."""
        return self.folder / f'{key.stem}.engine'

    def load(self, key: EngineKey) -> bytes:
        """Return an engine.

        Raises:
            NoEngineError: there is none, or it is stale or damaged.

        """
        path = self.path(key)
        try:
            record = _read_record(path.with_suffix('.json'))
            of, digest = record['of'], record['sha256']
            changed = [name for name, value in asdict(key).items() if of[name] != value]
            engine = _read_bounded(path, MAX_ENGINE_BYTES)
        except FileNotFoundError as error:
            msg = f'{path}: no engine yet'
            raise NoEngineError(msg) from error
        except OSError as error:
            msg = f'{path}: unreadable: {error.strerror}'
            raise NoEngineError(msg) from error
        except (TextError, KeyError, TypeError) as error:
            msg = f'{path.with_suffix(".json")}: damaged: {shown(str(error))}'
            raise NoEngineError(msg) from error
        if changed:
            name = changed[0]
            built_for = shown(str(of[name]), 80)
            msg = f'{path}: stale: built for {name} {built_for}, wanted {asdict(key)[name]}'
            raise NoEngineError(msg)
        if (actual := hashlib.sha256(engine).hexdigest()) != digest:
            stated = shown(str(digest), 12)
            msg = f'{path}: damaged: sha256 {actual[:12]}…, the JSON file says {stated}…'
            raise NoEngineError(msg)
        return engine

    def load_or_build(
        self, key: EngineKey, build: Callable[[bytes], Built], say: Callable[[str], None]
    ) -> bytes:
        """Return an engine; build it where there is no usable one.

        Args:
            key: which engine.
            build: builds it, given the timings of earlier builds.
            say: told why an engine is built.

        Raises:
            EngineError: it cannot be built or written; nothing of it is left behind.

        """
        with self._locked(key):  # whoever else wants the same engine waits and finds it
            try:
                return self.load(key)
            except NoEngineError as error:
                say(f'{error}; it is built now')
            timings = self.folder / f'timings-{key.gpu_label}-{key.tensorrt}.cache'
            known = b''
            with suppress(OSError, EngineError):  # only the build takes longer without
                known = _read_bounded(timings, MAX_TIMINGS_BYTES)
            built = build(known)
            self._store(key, built.engine)
            with suppress(EngineError):  # only the next build takes longer without
                self._write(timings, built.timings)
            return built.engine

    def discard(self, key: EngineKey) -> None:
        """Remove an engine that turned out to be unusable."""
        with suppress(OSError):
            self.path(key).unlink(missing_ok=True)
            self.path(key).with_suffix('.json').unlink(missing_ok=True)

    def _store(self, key: EngineKey, engine: bytes) -> None:
        path = self.path(key)
        record = {'of': asdict(key), 'sha256': hashlib.sha256(engine).hexdigest()}
        try:
            self._write(path, engine)
            text = json.dumps({**record, 'bytes': len(engine)}, indent=2) + '\n'
            self._write(path.with_suffix('.json'), text.encode())
        except EngineError:
            self.discard(key)
            raise

    def _write(self, path: Path, data: bytes) -> None:
        """Write a file wholly or not at all."""
        temporary = None
        try:
            with tempfile.NamedTemporaryFile(dir=self.folder, delete=False) as file:
                temporary = Path(file.name)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            if temporary is not None:
                temporary.unlink(missing_ok=True)
            msg = f'{path}: cannot write {len(data) / 1e6:.1f} MB: {error.strerror}'
            raise EngineError(msg) from error

    @contextmanager
    def _locked(self, key: EngineKey) -> Iterator[None]:
        path = self.folder / f'{key.stem}.lock'
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = path.open('w')
        except OSError as error:
            msg = f'{self.folder}: cannot keep engines there: {error.strerror}'
            raise EngineError(msg) from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _read_bounded(path: Path, limit: int) -> bytes:
    with path.open('rb') as file:
        if (size := os.fstat(file.fileno()).st_size) > limit:
            msg = f'{path}: {size} bytes, {limit} are accepted'
            raise NoEngineError(msg)
        return file.read(size)  # memory is taken for as many bytes as are asked for


def _read_record(path: Path) -> dict[str, Any]:
    return parse_json(_read_bounded(path, MAX_RECORD_BYTES))
