# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime, on the CPU or a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnxruntime

from seg_uncertainty_ros.runtime.outputs import GraphError
from seg_uncertainty_ros.runtime.outputs import Outputs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from seg_uncertainty_ros.bundle import Bundle

CPU = 'CPUExecutionProvider'
NAMES = {CPU: 'onnxruntime-cpu', 'CUDAExecutionProvider': 'onnxruntime-cuda'}
INPUTS = {'image': 'tensor(uint8)', 'score_index': 'tensor(int64)'}


def session_options(threads: int = 0) -> onnxruntime.SessionOptions:
    """Return the options of every session; ``threads`` 0 is one a physical core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Workers spin within a run, as many of the score operators are shorter than a wake-up, and not
    # between runs: conversion and transport need the cores.
    options.add_session_config_entry('session.force_spinning_stop', '1')
    return options


def open_session(
    graph: str | bytes, path: Path, threads: int = 0, provider: str = CPU
) -> onnxruntime.InferenceSession:
    """Open a graph, a file's name or a model's bytes; ``threads`` 0 is one a physical core.

    Raises:
        GraphError: ONNX Runtime refuses it, ``path`` is what the message names; or it does not
            have the provider.

    """
    if provider not in onnxruntime.get_available_providers():
        msg = f'ONNX Runtime {onnxruntime.__version__} is installed without {provider}'
        raise GraphError(msg)
    try:
        session = onnxruntime.InferenceSession(
            graph, session_options(threads), providers=[provider]
        )
    except Exception as error:  # ONNX Runtime has no public base class of its errors
        msg = f'{path}: ONNX Runtime cannot load it: {str(error).splitlines()[0]}'
        raise GraphError(msg) from error
    # ONNX Runtime takes the CPU instead, and says so on stderr only.
    if (used := session.get_providers()[0]) != provider:
        msg = f'ONNX Runtime cannot use its {provider} here, only {used}'
        raise GraphError(msg)
    return session


def run_session(
    session: onnxruntime.InferenceSession, image: NDArray[np.uint8], score_index: int
) -> list[NDArray]:
    """Return all outputs of a graph for a uint8 HxWx3 BGR image of the network's size.

    Raises:
        GraphError: it failed on this image.

    """
    feeds = {'image': image, 'score_index': np.array(score_index, dtype=np.int64)}
    try:
        return session.run(None, feeds)
    except Exception as error:
        msg = f'ONNX Runtime failed on {image.shape}: {str(error).splitlines()[0]}'
        raise GraphError(msg) from error


def check_outputs(bundle: Bundle, path: Path, shapes: Mapping[str, Sequence]) -> None:
    """Check the outputs of a graph: names in their order, and the sizes that are known.

    Raises:
        GraphError: they do not belong to the bundle.

    """
    if tuple(shapes) != Outputs._fields:
        msg = f'{path}: outputs {tuple(shapes)}, expected {Outputs._fields}'
        raise GraphError(msg)
    expected = [('scores', len(bundle.scores), 'the manifest')]
    if bundle.reference is not None:
        expected.append(('embedding', bundle.reference.size, 'the reference'))
    for output, size, where in expected:
        if shapes[output][0] not in (size, None):
            msg = f'{path}: {output} has {shapes[output][0]} values, {where} {size}'
            raise GraphError(msg)


class OnnxRuntime:
    """A session over a bundle's graph; ``threads`` 0 is one a physical core.

    ``graph``: the bundle's graph in another precision, instead.
    """

    def __init__(
        self,
        bundle: Bundle,
        threads: int = 0,
        provider: str = CPU,
        *,
        graph: Path | None = None,
    ) -> None:
        self.name = NAMES[provider]
        path = graph or bundle.graph
        self._session = open_session(str(path), path, threads, provider)
        self._check(bundle, path)

    def _check(self, bundle: Bundle, path: Path) -> None:
        inputs = {value.name: value.type for value in self._session.get_inputs()}
        if inputs != INPUTS:
            msg = f'{path}: inputs {inputs}, expected {INPUTS}'
            raise GraphError(msg)
        check_outputs(
            bundle, path, {value.name: value.shape for value in self._session.get_outputs()}
        )

    def run(self, image: NDArray[np.uint8], score_index: int) -> Outputs:
        """Run the graph on a uint8 HxWx3 BGR image of the network's size."""
        outputs = Outputs(*run_session(self._session, image, score_index))
        return outputs._replace(scores=outputs.scores.astype(np.float32, copy=False))
