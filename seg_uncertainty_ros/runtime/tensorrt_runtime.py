# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Run an engine: everything is allocated once, and a frame is one launch of a CUDA graph."""

from __future__ import annotations

import weakref
from collections import deque
from contextlib import ExitStack
from typing import TYPE_CHECKING
from typing import Any

import numpy as np

from seg_uncertainty_ros.runtime.cuda_driver import Context
from seg_uncertainty_ros.runtime.cuda_driver import CudaError
from seg_uncertainty_ros.runtime.cuda_driver import release
from seg_uncertainty_ros.runtime.engines import UnusableEngineError
from seg_uncertainty_ros.runtime.outputs import GraphError
from seg_uncertainty_ros.runtime.outputs import Outputs
from seg_uncertainty_ros.runtime.tensorrt_build import EngineError
from seg_uncertainty_ros.runtime.tensorrt_build import make_logger

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Iterator
    from types import ModuleType

    from numpy.typing import NDArray

    from seg_uncertainty_ros.runtime.cuda_driver import Buffer

INPUTS = {'image': np.uint8, 'score_index': np.int64}


class TensorRtRuntime:
    """An engine for images of one size; for one thread at a time.

    Args:
        trt: the module tensorrt.
        engine: what ``tensorrt_build.build`` built, on this GPU with this version.
        buffer_sets: 1 for the least latency. With 2, ``run_all`` copies one frame while the GPU
            computes another.

    Raises:
        UnusableEngineError: it was built elsewhere.
        EngineError: it is not of a bundle's graph, or the GPU's memory does not suffice; the
            message has the sizes.

    """

    name = 'tensorrt'

    def __init__(self, trt: ModuleType, engine: bytes, buffer_sets: int = 1) -> None:
        resources = ExitStack()
        self._sets: list[_BufferSet] = []
        self.close = weakref.finalize(self, resources.close)
        try:
            self._context = Context.retain(resources)
            logger = make_logger(trt)
            loaded = trt.Runtime(logger).deserialize_cuda_engine(engine)
            if loaded is None:
                msg = f'TensorRT {trt.__version__} cannot load the engine: {logger.reason()}'
                raise UnusableEngineError(msg)
            _check(trt, loaded)
            for _ in range(buffer_sets):
                self._sets.append(self._make_set(trt, loaded, logger, resources))
        except BaseException:
            self.close()
            raise
        # First what uses the buffers, in whatever thread that is.
        resources.callback(self._sets.clear)
        resources.callback(release, 'cuCtxSetCurrent', self._context.handle)

    def _make_set(
        self, trt: ModuleType, engine: Any, logger: Any, resources: ExitStack
    ) -> _BufferSet:
        try:
            return _BufferSet(trt, engine, self._context, resources)
        except CudaError as error:
            free, total = self._context.memory()
            msg = (
                f'the engine does not fit on the GPU or does not run: {error}; it needs '
                f'{engine.device_memory_size_v2 / 1e6:.0f} MB for activations, '
                f'{_io_bytes(trt, engine) / 1e6:.1f} MB for inputs and outputs; '
                f'{free / 1e6:.0f} of {total / 1e6:.0f} MB are free; {logger.reason()}'
            )
            raise EngineError(msg) from error

    def run(self, image: NDArray[np.uint8], score_index: int) -> Outputs:
        """Run the engine on a uint8 HxWx3 BGR image of its size.

        Raises:
            GraphError: another size, or the GPU failed.

        """
        self._context.make_current()
        self._sets[0].start(image, score_index)
        return self._sets[0].finish()

    def run_all(self, frames: Iterable[tuple[NDArray[np.uint8], int]]) -> Iterator[Outputs]:
        """Yield the outputs of (image, score index) in order; with two sets, they overlap."""
        self._context.make_current()
        idle, busy = deque(self._sets), deque()
        for image, score_index in frames:
            if not idle:
                idle.append(busy.popleft())
                yield idle[0].finish()
            idle[0].start(image, score_index)
            busy.append(idle.popleft())
        while busy:
            yield busy.popleft().finish()


class _BufferSet:
    """An execution context, its tensors, its stream, and its recorded frame."""

    def __init__(
        self, trt: ModuleType, engine: Any, context: Context, resources: ExitStack
    ) -> None:
        self._execution = engine.create_execution_context()
        if self._execution is None:
            msg = 'TensorRT cannot create an execution context'
            raise CudaError(msg)
        self._stream = context.stream()
        self._inputs: dict[str, Buffer] = {}
        self._outputs: dict[str, Buffer] = {}
        for name in _tensor_names(engine):
            shape = tuple(engine.get_tensor_shape(name))
            buffer = context.buffer(shape, _dtype(trt, engine, name))
            buffer.host.fill(0)
            self._execution.set_tensor_address(name, buffer.device)
            group = self._inputs if name in INPUTS else self._outputs
            group[name] = buffer
        # TensorRT sets itself up in the first frame, which must not be recorded.
        self._enqueue()
        self._stream.wait()
        self._frame = self._stream.record(self._enqueue)

    def _enqueue(self) -> None:
        for buffer in self._inputs.values():
            self._stream.upload(buffer)
        if not self._execution.execute_async_v3(self._stream.handle):
            msg = 'TensorRT cannot enqueue the engine'
            raise CudaError(msg)
        for buffer in self._outputs.values():
            self._stream.download(buffer)

    def start(self, image: NDArray[np.uint8], score_index: int) -> None:
        """Begin with a frame; the image may change as soon as this returns."""
        host = self._inputs['image'].host
        if image.shape != host.shape or image.dtype != host.dtype:
            msg = f'image: {image.dtype} {image.shape}, the engine is for {host.shape}'
            raise GraphError(msg)
        np.copyto(host, image)
        self._inputs['score_index'].host[...] = score_index
        self._stream.launch(self._frame)

    def finish(self) -> Outputs:
        """Wait for the frame."""
        self._stream.wait()
        # Copies: results outlive the next frame. float16 becomes float32.
        return Outputs(
            *(
                host.astype(np.float32 if host.dtype.kind == 'f' else host.dtype)
                for host in (self._outputs[name].host for name in Outputs._fields)
            )
        )


def _tensor_names(engine: Any) -> list[str]:
    return [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]


def _dtype(trt: ModuleType, engine: Any, name: str) -> np.dtype:
    return np.dtype(trt.nptype(engine.get_tensor_dtype(name)))


def _io_bytes(trt: ModuleType, engine: Any) -> int:
    return sum(
        int(np.prod(tuple(engine.get_tensor_shape(name)))) * _dtype(trt, engine, name).itemsize
        for name in _tensor_names(engine)
    )


def _check(trt: ModuleType, engine: Any) -> None:
    """Refuse an engine whose tensors are not those of a bundle's graph."""
    names = _tensor_names(engine)
    if set(names) != {*INPUTS, *Outputs._fields}:
        msg = f'the engine has {sorted(names)}, expected {sorted({*INPUTS, *Outputs._fields})}'
        raise EngineError(msg)
    for name, kind in INPUTS.items():
        if (found := _dtype(trt, engine, name)) != kind:
            msg = f'the input {name} of the engine is {found}, expected {np.dtype(kind)}'
            raise EngineError(msg)
    for name in names:
        if min(tuple(engine.get_tensor_shape(name)), default=1) < 1:
            msg = f'{name} of the engine has the shape {tuple(engine.get_tensor_shape(name))}'
            raise EngineError(msg)
        if engine.get_tensor_location(name) != trt.TensorLocation.DEVICE:
            msg = f'{name} of the engine lies on the host, where a CUDA graph cannot change it'
            raise EngineError(msg)
