# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The CUDA driver by ctypes: is there a GPU, and the few calls that a frame needs.

``libcuda.so.1`` comes with the driver, for every version of CUDA that TensorRT was built for:
nothing else has to be installed. TensorRT ends the process where there is no driver, so that
``find_gpu`` comes before it is imported. The context is the primary one, which TensorRT uses too.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress
from ctypes import POINTER
from ctypes import c_char_p
from ctypes import c_int
from ctypes import c_size_t
from ctypes import c_uint
from ctypes import c_uint64
from ctypes import c_void_p
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING
from typing import Any

import numpy as np

from seg_uncertainty_ros.runtime.outputs import GraphError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from numpy.typing import NDArray

LIBRARY = 'libcuda.so.1'
# The names of cuda.h's macros where these differ from the functions': all since CUDA 11.4.
SIGNATURES = {
    'cuInit': (c_uint,),
    'cuGetErrorName': (c_int, POINTER(c_char_p)),
    'cuGetErrorString': (c_int, POINTER(c_char_p)),
    'cuDeviceGet': (POINTER(c_int), c_int),
    'cuDeviceGetCount': (POINTER(c_int),),
    'cuDeviceGetName': (c_char_p, c_int, c_int),
    'cuDeviceGetAttribute': (POINTER(c_int), c_int, c_int),
    'cuDeviceTotalMem_v2': (POINTER(c_size_t), c_int),
    'cuDevicePrimaryCtxRetain': (POINTER(c_void_p), c_int),
    'cuDevicePrimaryCtxRelease_v2': (c_int,),
    'cuCtxSetCurrent': (c_void_p,),
    'cuMemGetInfo_v2': (POINTER(c_size_t), POINTER(c_size_t)),
    'cuMemAlloc_v2': (POINTER(c_uint64), c_size_t),
    'cuMemFree_v2': (c_uint64,),
    'cuMemHostAlloc': (POINTER(c_void_p), c_size_t, c_uint),
    'cuMemFreeHost': (c_void_p,),
    'cuMemcpyHtoDAsync_v2': (c_uint64, c_void_p, c_size_t, c_void_p),
    'cuMemcpyDtoHAsync_v2': (c_void_p, c_uint64, c_size_t, c_void_p),
    'cuStreamCreate': (POINTER(c_void_p), c_uint),
    'cuStreamDestroy_v2': (c_void_p,),
    'cuStreamSynchronize': (c_void_p,),
    'cuStreamBeginCapture_v2': (c_void_p, c_int),
    'cuStreamEndCapture': (c_void_p, POINTER(c_void_p)),
    'cuGraphInstantiateWithFlags': (POINTER(c_void_p), c_void_p, c_uint64),
    'cuGraphLaunch': (c_void_p, c_void_p),
    'cuGraphExecDestroy': (c_void_p,),
    'cuGraphDestroy': (c_void_p,),
}
COMPUTE_CAPABILITY_MAJOR = 75  # CUdevice_attribute
COMPUTE_CAPABILITY_MINOR = 76
NON_BLOCKING = 1  # CUstream_flags
THREAD_LOCAL = 1  # CUstreamCaptureMode


class CudaError(GraphError):
    """There is no usable GPU, or a call of the driver failed; one sentence says why."""


@dataclass(frozen=True)
class Gpu:
    """The first GPU that ``CUDA_VISIBLE_DEVICES`` leaves."""

    name: str
    compute_capability: str  # such as 8.7
    memory_bytes: int


def find_gpu() -> Gpu:
    """Return the GPU; safe where there is neither a GPU nor a driver.

    Raises:
        CudaError: no driver, a driver that does not start, or no GPU.

    """
    call('cuInit', 0)
    count, device, memory = c_int(), c_int(), c_size_t()
    call('cuDeviceGetCount', count)
    if not count.value:
        msg = 'no GPU: the NVIDIA driver finds none'
        raise CudaError(msg)
    call('cuDeviceGet', device, 0)
    name = ctypes.create_string_buffer(256)
    call('cuDeviceGetName', name, len(name), device)
    version = c_int(), c_int()
    call('cuDeviceGetAttribute', version[0], COMPUTE_CAPABILITY_MAJOR, device)
    call('cuDeviceGetAttribute', version[1], COMPUTE_CAPABILITY_MINOR, device)
    call('cuDeviceTotalMem_v2', memory, device)
    return Gpu(
        name.value.decode(errors='replace'),
        f'{version[0].value}.{version[1].value}',
        memory.value,
    )


def call(name: str, *arguments: Any) -> None:
    """Call a function of the driver; ctypes passes references where the signature has pointers.

    Raises:
        CudaError: there is no driver, or the function failed.

    """
    library = _library()
    if code := getattr(library, name)(*arguments):
        error, text = c_char_p(), c_char_p()
        library.cuGetErrorName(code, error)
        library.cuGetErrorString(code, text)
        what = (error.value or b'').decode() or f'error {code}'
        reason = (text.value or b'').decode() or 'the driver does not say why'
        msg = f'{name}: {what}, {reason}'
        raise CudaError(msg)


def release(name: str, *arguments: Any) -> None:
    """Call a function that releases something; where it fails the context is lost with it."""
    with suppress(CudaError):
        call(name, *arguments)


@cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(LIBRARY)
        for name, types in SIGNATURES.items():
            getattr(library, name).argtypes = types
    except OSError as error:
        msg = f'no NVIDIA driver: {error}'
        raise CudaError(msg) from error
    except AttributeError as error:
        msg = f'the NVIDIA driver is too old: {error}'
        raise CudaError(msg) from error
    return library


@dataclass(frozen=True)
class Buffer:
    """A tensor: an array in pinned host memory, and the address of as much on the GPU."""

    host: NDArray
    device: int


@dataclass(frozen=True)
class Context:
    """The GPU's primary context; what is made of it is released with ``resources``.

    Use ``Context.retain``. It has to be current in each thread that calls the driver.
    """

    handle: int
    resources: ExitStack

    @classmethod
    def retain(cls, resources: ExitStack) -> Context:
        """Return the context, current in this thread."""
        call('cuInit', 0)
        device, handle = c_int(), c_void_p()
        call('cuDeviceGet', device, 0)
        call('cuDevicePrimaryCtxRetain', handle, device)
        resources.callback(release, 'cuDevicePrimaryCtxRelease_v2', device)
        context = cls(handle.value, resources)
        context.make_current()
        return context

    def make_current(self) -> None:
        """Make it this thread's."""
        call('cuCtxSetCurrent', self.handle)

    def memory(self) -> tuple[int, int]:
        """Return the GPU's free and total memory (bytes)."""
        free, total = c_size_t(), c_size_t()
        call('cuMemGetInfo_v2', free, total)
        return free.value, total.value

    def buffer(self, shape: tuple[int, ...], dtype: np.dtype) -> Buffer:
        """Allocate a tensor on both sides.

        Raises:
            CudaError: there is not enough memory.

        """
        size = max(1, int(np.prod(shape))) * dtype.itemsize
        device, host = c_uint64(), c_void_p()
        call('cuMemAlloc_v2', device, size)
        self.resources.callback(release, 'cuMemFree_v2', device)
        call('cuMemHostAlloc', host, size, 0)
        self.resources.callback(release, 'cuMemFreeHost', host)
        memory = (ctypes.c_ubyte * size).from_address(host.value)
        return Buffer(np.frombuffer(memory, dtype).reshape(shape), device.value)

    def stream(self) -> Stream:
        """Create a stream that does not wait for the default one."""
        handle = c_void_p()
        call('cuStreamCreate', handle, NON_BLOCKING)
        self.resources.callback(release, 'cuStreamDestroy_v2', handle)
        return Stream(handle.value, self.resources)


@dataclass(frozen=True)
class Stream:
    """A queue of copies and kernels."""

    handle: int
    resources: ExitStack

    def upload(self, buffer: Buffer) -> None:
        """Enqueue the copy to the GPU."""
        source = buffer.host.ctypes.data
        call('cuMemcpyHtoDAsync_v2', buffer.device, source, buffer.host.nbytes, self.handle)

    def download(self, buffer: Buffer) -> None:
        """Enqueue the copy to the host."""
        target = buffer.host.ctypes.data
        call('cuMemcpyDtoHAsync_v2', target, buffer.device, buffer.host.nbytes, self.handle)

    def wait(self) -> None:
        """Wait until everything enqueued is done."""
        call('cuStreamSynchronize', self.handle)

    def record(self, enqueue: Callable[[], None]) -> c_void_p:
        """Record what ``enqueue`` enqueues, instead of doing it; ``launch`` repeats it."""
        graph, recorded = c_void_p(), c_void_p()
        call('cuStreamBeginCapture_v2', self.handle, THREAD_LOCAL)
        try:
            enqueue()
        except GraphError:
            with suppress(CudaError):  # the first error says more
                call('cuStreamEndCapture', self.handle, graph)
            raise
        call('cuStreamEndCapture', self.handle, graph)
        try:
            call('cuGraphInstantiateWithFlags', recorded, graph, 0)
        finally:
            call('cuGraphDestroy', graph)
        self.resources.callback(release, 'cuGraphExecDestroy', recorded)
        return recorded

    def launch(self, recorded: c_void_p) -> None:
        """Do what was recorded."""
        call('cuGraphLaunch', recorded, self.handle)
