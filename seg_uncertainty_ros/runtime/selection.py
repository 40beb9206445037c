# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Choose what runs a graph, and keep why: the fastest that can, or the one that is asked for."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING
from typing import Literal
from typing import get_args

from seg_uncertainty_ros.runtime.outputs import GraphError
from seg_uncertainty_ros.runtime.tensorrt_engines import EngineMaker
from seg_uncertainty_ros.runtime.tensorrt_engines import NotReadyError
from seg_uncertainty_ros.runtime.tensorrt_engines import TensorRt
from seg_uncertainty_ros.runtime.tensorrt_engines import TensorRtEngines

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from seg_uncertainty_ros.bundle import Bundle
    from seg_uncertainty_ros.runtime.outputs import Outputs
    from seg_uncertainty_ros.runtime.outputs import Runtime
    from seg_uncertainty_ros.runtime.precision import Precision

Backend = Literal['auto', 'tensorrt', 'onnxruntime-cuda', 'onnxruntime-cpu', 'openvino']
BACKENDS: tuple[Backend, ...] = get_args(Backend)
AUTO: tuple[Backend, ...] = ('tensorrt', 'onnxruntime-cuda', 'onnxruntime-cpu')
"""The order of ``auto``."""


def open_runtime(
    bundle: Bundle,
    backend: Backend = 'auto',
    *,
    threads: int = 0,
    precision: Precision = 'fp16',
    engines: Path | None = None,
    background: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Selection:
    """Open what runs a bundle's graph.

    Args:
        bundle: the model.
        backend: ``auto`` takes the first of ``AUTO`` that can; any other is taken or fails.
        threads: on the CPU; 0 for one a physical core.
        precision: of TensorRT's engine.
        engines: folder of the engines; None for ``engines.default_folder()``.
        background: build a missing engine while the next backend runs the frames. With
            ``tensorrt`` asked for there is none: frames are refused until the engine is there.
        say: told each change, and why; from any thread.

    Raises:
        GraphError: unknown or unable backend, with the reason, or a graph that nothing runs.

    """
    openers: dict[str, Callable[[], Runtime]] = {
        'tensorrt': partial(_tensorrt, bundle, precision, engines, background, say),
        'onnxruntime-cuda': partial(_onnxruntime, bundle, threads, 'CUDAExecutionProvider'),
        'onnxruntime-cpu': partial(_onnxruntime, bundle, threads, 'CPUExecutionProvider'),
        'openvino': partial(_openvino, bundle, threads),
    }
    if backend not in BACKENDS:
        msg = f'backend: {backend!r} is none of {", ".join(BACKENDS)}'
        raise GraphError(msg)
    if backend == 'auto':
        return Selection([(name, openers[name]) for name in AUTO], say)
    try:
        return Selection([(backend, openers[backend])], say)
    except GraphError as error:
        msg = f'backend {backend}: {error}'
        raise GraphError(msg) from error


def _tensorrt(
    bundle: Bundle,
    precision: Precision,
    engines: Path | None,
    background: bool,
    say: Callable[[str], None],
) -> Runtime:
    maker = EngineMaker(TensorRt(), bundle, precision, engines)
    return TensorRtEngines(maker, background=background, say=say)


def _onnxruntime(bundle: Bundle, threads: int, provider: str) -> Runtime:
    from seg_uncertainty_ros.runtime.onnx_runtime import OnnxRuntime

    return OnnxRuntime(bundle, threads, provider)


def _openvino(bundle: Bundle, threads: int) -> Runtime:
    from seg_uncertainty_ros.runtime.openvino_runtime import OpenVinoRuntime

    return OpenVinoRuntime(bundle, threads)


class Selection:
    """Runs each frame on the first runtime of an order that can.

    ``name`` is the runtime of the last frame, before the first one that of the next.
    ``reasons`` says of each earlier one in the order why it is not used, or not yet.

    Args:
        openers: names, and functions that open the runtime or raise GraphError; the last one must
            work.
        say: told each change, and why.

    Raises:
        GraphError: the last one cannot be opened either.

    """

    def __init__(
        self, openers: Sequence[tuple[str, Callable[[], Runtime]]], say: Callable[[str], None]
    ) -> None:
        self.name = ''
        self.reasons: dict[str, str] = {}
        self._waiting = deque(openers)
        self._open: list[Runtime] = []
        self._say = say
        self._open_next()
        if self._waiting and isinstance(self._open[0], TensorRtEngines):
            self._open_next()  # what runs until an engine is there
        self._set_name(self._open[-1].name)

    @property
    def progress(self) -> str:
        """What is being built, and how far; empty where nothing is."""
        engines = (x.progress for x in self._open if isinstance(x, TensorRtEngines))
        return next(engines, '')

    def run(self, image: NDArray[np.uint8], score_index: int) -> Outputs:
        """Run the graph on a uint8 HxWx3 BGR image of the network's size.

        Raises:
            GraphError: it failed. A runtime that has another one behind it is not used again.

        """
        index = 0
        while True:
            if index == len(self._open):
                self._open_next()
            runtime = self._open[index]
            last = index + 1 == len(self._open) and not self._waiting
            try:
                outputs = runtime.run(image, score_index)
            except NotReadyError as error:
                if last:
                    raise
                if runtime.name not in self.reasons:
                    self._say(f'{runtime.name} is not used yet: {error}')
                self.reasons[runtime.name] = str(error)
                index += 1
            except GraphError as error:
                if last:
                    raise
                self._open.pop(index)
                _close(runtime)
                self._refuse(runtime.name, str(error))
            else:
                self.reasons.pop(runtime.name, None)
                self._set_name(runtime.name)
                return outputs

    def close(self) -> None:
        """Release everything; end what is being built."""
        for runtime in self._open:
            _close(runtime)
        self._open.clear()

    def _open_next(self) -> None:
        while True:
            name, opener = self._waiting.popleft()
            try:
                self._open.append(opener())
            except GraphError as error:
                if not self._waiting:
                    raise
                self._refuse(name, str(error))
            else:
                return

    def _refuse(self, name: str, reason: str) -> None:
        self._say(f'{name} is not used: {reason}')
        self.reasons[name] = reason

    def _set_name(self, name: str) -> None:
        if name != self.name:
            self.name = name
            self._say(f'{name} runs the network')


def _close(runtime: Runtime) -> None:
    if close := getattr(runtime, 'close', None):
        close()
