# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""TensorRT's interface, as far as it is used, for the driver of ``cuda.c``.

Its engines are ONNX files with a mark in front, and ONNX Runtime runs them: what comes out is what
the graph computes, from the addresses that it was given.
"""

from __future__ import annotations

import ctypes
import threading
from enum import Enum

import numpy as np
import onnxruntime

from seg_uncertainty_ros.runtime import cuda_driver

__version__ = '10.7.0.post1'

MARK = b'engine of ' + __version__.encode() + b'\n'
go_on = threading.Event()
go_on.set()
"""Cleared by a test that wants to see a build half done."""
builds: list[bytes] = []
"""The timings that each build was given."""
WORK = ctypes.CFUNCTYPE(None)


class TensorLocation(Enum):
    DEVICE = 0
    HOST = 1


class NetworkDefinitionCreationFlag(Enum):
    EXPLICIT_BATCH = 0
    STRONGLY_TYPED = 1

    def __int__(self):
        return self.value


def nptype(dtype):
    return dtype


class ILogger:
    class Severity(Enum):
        INTERNAL_ERROR = 0
        ERROR = 1


class IProgressMonitor:
    pass


class Builder:
    def __init__(self, logger):
        self._logger = logger

    def create_network(self, flags):
        assert flags == 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED.value
        return {}

    def create_builder_config(self):
        return BuilderConfig()

    def build_serialized_network(self, network, config):
        monitor = config.progress_monitor
        builds.append(config.timings.data)
        monitor.phase_start('build', None, 4)
        for step in range(4):
            if not monitor.step_complete('build', step):
                return None
            if step == 1:
                assert go_on.wait(30)
        monitor.phase_finish('build')
        return MARK + network['graph']


class BuilderFlag(Enum):
    TF32 = 'on by default'


class BuilderConfig:
    def clear_flag(self, flag):
        assert flag is BuilderFlag.TF32

    def create_timing_cache(self, data):
        return TimingCache(data)

    def set_timing_cache(self, cache, ignore_mismatch):
        assert not ignore_mismatch
        self.timings = cache
        return True


class TimingCache:
    def __init__(self, data):
        self.data = data

    def serialize(self):
        return self.data + b'.'


class OnnxParser:
    def __init__(self, network, logger):
        self._network = network

    def parse(self, graph):
        self._network['graph'] = graph
        return True


class Runtime:
    def __init__(self, logger):
        self._logger = logger

    def deserialize_cuda_engine(self, data):
        if not data.startswith(MARK):
            self._logger.log(ILogger.Severity.ERROR, 'the engine is of another version\nor so')
            return None
        return Engine(data.removeprefix(MARK))


class Engine:
    device_memory_size_v2 = 12_000_000

    def __init__(self, graph):
        session = onnxruntime.InferenceSession(graph, providers=['CPUExecutionProvider'])
        self.session = session
        probe = session.get_inputs()[0].shape
        feeds = {'image': np.zeros(probe, np.uint8), 'score_index': np.array(0)}
        outputs = session.run(None, feeds)
        self.tensors = {value.name: feeds[value.name] for value in session.get_inputs()}
        self.tensors |= {
            value.name: array for value, array in zip(session.get_outputs(), outputs, strict=True)
        }
        self.num_io_tensors = len(self.tensors)

    def get_tensor_name(self, index):
        return list(self.tensors)[index]

    def get_tensor_shape(self, name):
        return self.tensors[name].shape

    def get_tensor_dtype(self, name):
        return self.tensors[name].dtype

    def get_tensor_location(self, name):
        return TensorLocation.DEVICE

    def create_execution_context(self):
        return ExecutionContext(self)


class ExecutionContext:
    def __init__(self, engine):
        self._engine = engine
        self._addresses = {}
        self._work = WORK(self._run)

    def set_tensor_address(self, name, address):
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream):
        work = cuda_driver._library().standin_work
        work.argtypes = ctypes.c_void_p, WORK
        return work(stream, self._work) == 0

    def _array(self, name):
        like = self._engine.tensors[name]
        memory = (ctypes.c_ubyte * like.nbytes).from_address(self._addresses[name])
        return np.frombuffer(memory, like.dtype).reshape(like.shape)

    def _run(self):
        inputs = [value.name for value in self._engine.session.get_inputs()]
        outputs = [value.name for value in self._engine.session.get_outputs()]
        feeds = {name: self._array(name).copy() for name in inputs}
        for name, array in zip(outputs, self._engine.session.run(None, feeds), strict=True):
            self._array(name)[...] = array
