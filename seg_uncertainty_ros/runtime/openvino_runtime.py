# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""OpenVINO on the CPU, where it is installed: quick at graphs of 8-bit integers."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any

import numpy as np

from seg_uncertainty_ros.runtime.onnx_runtime import check_outputs
from seg_uncertainty_ros.runtime.outputs import GraphError
from seg_uncertainty_ros.runtime.outputs import Outputs

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from seg_uncertainty_ros.bundle import Bundle

INPUTS = {'image': 'u8', 'score_index': 'i64'}
SIZES_KEPT = 4
"""Compiled networks that are kept, one an image size; each takes tens of MiB."""


class OpenVinoRuntime:
    """A bundle's graph, compiled for each image size at its first frame.

    Args:
        bundle: the model.
        threads: 0 for one a physical core.
        graph: the bundle's graph in another precision, instead.
        precision: of what the graph does not quantise. OpenVINO by itself takes ``bf16`` where
            the processor has it, and other labels come out.

    Raises:
        GraphError: openvino is not installed, cannot read the graph, or it is none of the bundle.

    """

    name = 'openvino'

    def __init__(
        self,
        bundle: Bundle,
        threads: int = 0,
        *,
        graph: Path | None = None,
        precision: str = 'f32',
    ) -> None:
        try:
            import openvino
        except ImportError as error:
            msg = 'the backend openvino needs the package openvino: pip install openvino'
            raise GraphError(msg) from error
        self._path = graph or bundle.graph
        self._core = openvino.Core()
        self._options = {
            'PERFORMANCE_HINT': 'LATENCY',
            'INFERENCE_PRECISION_HINT': precision,
            'INFERENCE_NUM_THREADS': threads,
            # Conversion and transport need the cores between two frames.
            'ENABLE_CPU_PINNING': False,
        }
        self._requests: dict[tuple[int, ...], Any] = {}
        model = self._read()
        inputs = {port.any_name: port.element_type.get_type_name() for port in model.inputs}
        if inputs != INPUTS:
            msg = f'{self._path}: inputs {inputs}, expected {INPUTS}'
            raise GraphError(msg)
        check_outputs(bundle, self._path, {port.any_name: _shape(port) for port in model.outputs})

    def run(self, image: NDArray[np.uint8], score_index: int) -> Outputs:
        """Run the graph on a uint8 HxWx3 BGR image of the network's size.

        The first image of a size takes up to a second more.

        Raises:
            GraphError: OpenVINO cannot compile the graph for this size, or failed on the image.

        """
        feeds = {
            'image': np.ascontiguousarray(image),
            'score_index': np.array(score_index, dtype=np.int64),
        }
        try:
            request = self._request(image.shape)
            results = request.infer(feeds, share_inputs=True, share_outputs=True)
        except GraphError:
            raise
        except Exception as error:  # OpenVINO raises RuntimeError, in many lines
            msg = f'{self._path}: OpenVINO failed on {image.shape}: {_reason(error)}'
            raise GraphError(msg) from error
        # The next frame is written where these results lie.
        planes = [np.array(results[index]) for index in range(len(Outputs._fields))]
        outputs = Outputs(*planes)
        return outputs._replace(scores=outputs.scores.astype(np.float32, copy=False))

    def _request(self, shape: tuple[int, ...]) -> Any:
        """Return what runs images of a shape; the last one of ``SIZES_KEPT`` sizes goes."""
        request = self._requests.pop(shape, None)
        if request is None:
            model = self._read()
            model.reshape({'image': list(shape), 'score_index': []})
            compiled = self._core.compile_model(model, 'CPU', self._options)
            request = compiled.create_infer_request()
        self._requests[shape] = request
        if len(self._requests) > SIZES_KEPT:
            del self._requests[next(iter(self._requests))]
        return request

    def _read(self) -> Any:
        try:
            return self._core.read_model(str(self._path))
        except Exception as error:  # OpenVINO raises RuntimeError, in many lines
            msg = f'{self._path}: OpenVINO cannot read it: {_reason(error)}'
            raise GraphError(msg) from error


def _shape(port: Any) -> list[int | None]:
    return [None if side.is_dynamic else side.get_length() for side in port.partial_shape]


def _reason(error: Exception) -> str:
    """Return the line of OpenVINO's message that says what is wrong: the last one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
