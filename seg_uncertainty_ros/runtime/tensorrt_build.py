# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Import TensorRT and build an engine: what versions 10 and 11 have in common.

Networks are strongly typed: the precision is what the ONNX file says. Flags are used by name, for
their numbers differ between the versions.
"""

from __future__ import annotations

import importlib
import re
from typing import TYPE_CHECKING
from typing import Any
from typing import NamedTuple

from seg_uncertainty_ros.runtime.outputs import GraphError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    Report = Callable[[float], bool]
    """Told the done part of a build, 0..1; returns whether to go on."""

OLDEST, NEXT = (10, 1), (12, 0)
"""Versions from, and before which, the calls of this package exist."""


class EngineError(GraphError):
    """An engine cannot be built, kept or run; the message says which and why."""


class Built(NamedTuple):
    """An engine, and the timings that make the next build shorter."""

    engine: bytes
    timings: bytes


def import_tensorrt() -> ModuleType:
    """Return the module tensorrt; only for machines that have a GPU (``find_gpu``).

    Raises:
        EngineError: it is not installed, not whole or of another version.

    """
    try:
        trt = importlib.import_module('tensorrt')
    except (ImportError, OSError, RuntimeError) as error:
        msg = f'no TensorRT: {str(error).splitlines()[0]}'
        raise EngineError(msg) from error
    version = getattr(trt, '__version__', 'of no version')
    numbers = re.match(r'(\d+)\.(\d+)', version)
    if not numbers or not OLDEST <= tuple(map(int, numbers.groups())) < NEXT:
        msg = f'TensorRT {version} at {trt.__file__}, expected 10 (from 10.1) or 11'
        raise EngineError(msg)
    return trt


def make_logger(trt: ModuleType) -> Any:
    """Return a logger of TensorRT whose ``errors`` are the messages of errors so far."""

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message.strip())

        def reason(self) -> str:
            return self.errors[-1].splitlines()[0] if self.errors else 'TensorRT gives no reason'

    return Logger()


def build(trt: ModuleType, graph: bytes, report: Report, timings: bytes = b'') -> Built:
    """Build an engine of an ONNX file's bytes; takes minutes, other threads run meanwhile.

    Args:
        trt: the module tensorrt.
        graph: as ``tensorrt_graph`` returns it.
        report: told of the progress; False from it ends the build.
        timings: of an earlier build by the same version on the same GPU.

    Raises:
        EngineError: TensorRT does not take an operator (named), does not find a way to run
            one, or was told to end.

    """
    logger = make_logger(trt)
    builder = trt.Builder(logger)
    typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(typed)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        msg = f'TensorRT {trt.__version__} refuses {"; ".join(map(_describe, errors))}'
        raise EngineError(msg)
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # on by default: fp32 would have 10 bits of mantissa
    config.progress_monitor = monitor = _make_monitor(trt, report)
    cache = config.create_timing_cache(timings) or config.create_timing_cache(b'')
    # False: timings of another GPU or version are not used.
    if cache is not None and not config.set_timing_cache(cache, ignore_mismatch=False):
        cache = config.create_timing_cache(b'')
        config.set_timing_cache(cache, ignore_mismatch=False)
    engine = builder.build_serialized_network(network, config)
    if monitor.ended:
        msg = 'the build of the engine was ended'
        raise EngineError(msg)
    if engine is None:
        msg = f'TensorRT {trt.__version__} cannot build an engine: {logger.reason()}'
        raise EngineError(msg)
    return Built(bytes(engine), bytes(cache.serialize()) if cache is not None else b'')


def _describe(error: Any) -> str:
    reason = ' '.join(error.desc().split())
    if not error.node_operator():
        return f'the graph: {reason}'
    return f'node {error.node_name()!r}, operator {error.node_operator()}: {reason}'


def _make_monitor(trt: ModuleType, report: Report) -> Any:
    class Monitor(trt.IProgressMonitor):
        """Phases lie within phases; a phase's part of its parent is one of the parent's steps."""

        def __init__(self) -> None:
            super().__init__()
            self.ended = False
            self._phases: dict[str, list[int]] = {}  # name: steps done, steps; outermost first
            self._done = 0.0

        def phase_start(self, phase: str, _parent: str | None, steps: int) -> None:
            self._phases[phase] = [0, max(1, steps)]

        def phase_finish(self, phase: str) -> None:
            self._phases.pop(phase, None)

        def step_complete(self, phase: str, step: int) -> bool:
            if phase in self._phases:
                self._phases[phase][0] = step + 1
            done, weight = 0.0, 1.0
            for finished, steps in tuple(self._phases.values()):
                weight /= steps
                done += weight * finished
            self._done = max(self._done, min(done, 1.0))
            self.ended = self.ended or not report(self._done)
            return not self.ended

    return Monitor()
