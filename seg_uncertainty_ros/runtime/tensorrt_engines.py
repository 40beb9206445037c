# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""TensorRT as a runtime: one engine an image size, loaded, or built where there is none."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from threading import Thread
from typing import TYPE_CHECKING
from typing import Protocol

from seg_uncertainty_ros.errors import SegUncertaintyError
from seg_uncertainty_ros.runtime.cuda_driver import find_gpu
from seg_uncertainty_ros.runtime.engines import EngineCache
from seg_uncertainty_ros.runtime.engines import EngineKey
from seg_uncertainty_ros.runtime.engines import UnusableEngineError
from seg_uncertainty_ros.runtime.outputs import GraphError
from seg_uncertainty_ros.runtime.precision import write_graph
from seg_uncertainty_ros.runtime.tensorrt_build import EngineError
from seg_uncertainty_ros.runtime.tensorrt_build import build
from seg_uncertainty_ros.runtime.tensorrt_build import import_tensorrt
from seg_uncertainty_ros.runtime.tensorrt_graph import tensorrt_graph
from seg_uncertainty_ros.runtime.tensorrt_runtime import TensorRtRuntime

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from seg_uncertainty_ros.bundle import Bundle
    from seg_uncertainty_ros.runtime.outputs import Outputs
    from seg_uncertainty_ros.runtime.outputs import Runtime
    from seg_uncertainty_ros.runtime.precision import Precision
    from seg_uncertainty_ros.runtime.tensorrt_build import Built
    from seg_uncertainty_ros.runtime.tensorrt_build import Report

# How long `close` waits for a build that was told to end (s).
PATIENCE_S = 10.0
# Engines that are kept, one an image size; each takes hundreds of MiB of the GPU's memory.
SIZES_KEPT = 4


class NotReadyError(GraphError):
    """The engine for this image size is being built."""


class Platform(Protocol):
    """What builds and runs engines, and the names that engines depend on."""

    gpu: str
    compute_capability: str
    version: str

    def build(self, graph: bytes, report: Report, timings: bytes) -> Built:
        """Build an engine of an ONNX file's bytes."""

    def open(self, engine: bytes) -> Runtime:
        """Load an engine."""


class TensorRt:
    """The installed TensorRT on the first GPU.

    Raises:
        GraphError: one of them is missing.

    """

    def __init__(self) -> None:
        gpu = find_gpu()  # TensorRT must not be touched where there is none
        self._trt = import_tensorrt()
        self.gpu = gpu.name
        self.compute_capability = gpu.compute_capability
        self.version = self._trt.__version__

    def build(self, graph: bytes, report: Report, timings: bytes) -> Built:
        """Build an engine; see ``tensorrt_build.build``."""
        return build(self._trt, graph, report, timings)

    def open(self, engine: bytes) -> Runtime:
        """Load an engine; see ``TensorRtRuntime``."""
        return TensorRtRuntime(self._trt, engine)


class EngineMaker:
    """Loads or builds the engines of a bundle in one precision.

    ``graph`` is the bundle's graph in that precision, where it has been written already. Without,
    an int8 engine can only be loaded, for its ranges come from recordings.
    """

    def __init__(
        self,
        platform: Platform,
        bundle: Bundle,
        precision: Precision,
        folder: Path | None,
        graph: Path | None = None,
    ) -> None:
        self.platform = platform
        self.precision = precision
        self.cache = EngineCache(folder)
        self._bundle = bundle
        self._graph = graph
        self._digest = hashlib.sha256(bundle.graph.read_bytes()).hexdigest()

    def key(self, height: int, width: int) -> EngineKey:
        """Return what the engine for images of this size depends on."""
        return EngineKey(
            self._digest,
            height,
            width,
            self.precision,
            self.platform.gpu,
            self.platform.compute_capability,
            self.platform.version,
        )

    def make(self, key: EngineKey, report: Report, say: Callable[[str], None]) -> Runtime:
        """Return an engine that runs; one that turns out not to is built anew, once.

        Raises:
            EngineError: it cannot be built, written or run.

        """
        for attempt in (1, 2):
            engine = self.cache.load_or_build(
                key, lambda timings: self._build(key, report, timings), say
            )
            try:
                return self.platform.open(engine)
            except UnusableEngineError as error:
                self.cache.discard(key)
                if attempt == 2:
                    raise
                say(f'{self.cache.path(key)}: {error}')
        raise AssertionError

    def _build(self, key: EngineKey, report: Report, timings: bytes) -> Built:
        if self._graph is not None:
            graph = tensorrt_graph(self._graph, key.height, key.width)
            return self.platform.build(graph, report, timings)
        if self.precision == 'int8':
            msg = (
                f'no int8 engine for {key.size}, and building one takes recordings: '
                f'seg-uncertainty build-engine {self._bundle.path} --precision int8 '
                '--calibration BAG --check DATA'
            )
            raise EngineError(msg)
        with TemporaryDirectory(prefix='seg_uncertainty_') as folder:
            path = Path(folder) / 'graph.onnx'
            try:
                write_graph(self._bundle, self.precision, path)
            except (SegUncertaintyError, OSError) as error:
                msg = f'{key.precision}: {error}'
                raise EngineError(msg) from error
            graph = tensorrt_graph(path, key.height, key.width)
        return self.platform.build(graph, report, timings)


@dataclass
class _Engine:
    """One image size: its runtime once there is one, or why there is none."""

    key: EngineKey
    done: float = 0.0
    runtime: Runtime | None = None
    problem: str = ''
    thread: Thread | None = None

    @property
    def progress(self) -> str:
        """How far it is; empty at the end."""
        if self.runtime is not None or self.problem:
            return ''
        return f'engine for {self.key.size} in {self.key.precision}: {100 * self.done:.0f} % built'

    def close(self) -> None:
        """Release the engine."""
        if self.runtime is not None and (close := getattr(self.runtime, 'close', None)):
            close()


class TensorRtEngines:
    """Runs each frame on the engine for its size; keeps those of the last ``SIZES_KEPT`` sizes.

    Args:
        maker: loads or builds the engines.
        background: build in a thread, while ``run`` raises NotReadyError; else ``run`` builds.
        say: told what is built and why, from any thread.

    """

    name = 'tensorrt'

    def __init__(
        self, maker: EngineMaker, *, background: bool, say: Callable[[str], None]
    ) -> None:
        self._maker = maker
        self._background = background
        self._say = say
        self._engines: dict[tuple[int, int], _Engine] = {}
        self._closing = Event()

    @property
    def progress(self) -> str:
        """What is being built, and how far; empty where nothing is."""
        return '; '.join(x.progress for x in list(self._engines.values()) if x.progress)

    def run(self, image: NDArray[np.uint8], score_index: int) -> Outputs:
        """Run the engine for this size on a uint8 HxWx3 BGR image.

        Raises:
            NotReadyError: it is being built.
            GraphError: there is no way to have one, or it failed.

        """
        size = image.shape[0], image.shape[1]
        engine = self._engines.pop(size, None)
        known = engine is not None
        if not known:
            self._make_room(size)
            engine = _Engine(self._maker.key(*size))
        self._engines[size] = engine  # the last one used is the last one in the order
        if not known:
            if self._background:
                engine.thread = Thread(target=self._make, args=(engine,), name='engine')
                engine.thread.start()
            else:
                self._make(engine)
        if engine.runtime is not None:
            return engine.runtime.run(image, score_index)
        if engine.problem:
            raise EngineError(engine.problem)
        raise NotReadyError(engine.progress)

    def close(self) -> None:
        """Release the engines; end what is being built."""
        self._closing.set()
        for engine in self._engines.values():
            if engine.thread is not None:
                engine.thread.join(PATIENCE_S)
            engine.close()
        self._engines.clear()

    def _make_room(self, size: tuple[int, int]) -> None:
        """Release the engine that was not used for longest, but none that is being built."""
        if len(self._engines) < SIZES_KEPT:
            return
        idle = next((key for key, engine in self._engines.items() if not engine.progress), None)
        if idle is None:
            msg = f'{size[1]}x{size[0]}: {SIZES_KEPT} engines for other sizes are being built'
            raise NotReadyError(msg)
        self._engines.pop(idle).close()

    def _make(self, engine: _Engine) -> None:
        def report(done: float) -> bool:
            engine.done = done
            return not self._closing.is_set()

        try:
            engine.runtime = self._maker.make(engine.key, report, self._say)
        except GraphError as error:
            engine.problem = str(error)
        except Exception as error:  # a thread must not end in silence
            engine.problem = f'{type(error).__name__}: {error}'
