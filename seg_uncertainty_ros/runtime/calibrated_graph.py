# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Lay open a deployed graph's logits, and change its temperature and score scales in place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from seg_uncertainty_ros.runtime.onnx_file import read_onnx
from seg_uncertainty_ros.runtime.onnx_runtime import open_session
from seg_uncertainty_ros.runtime.onnx_runtime import run_session
from seg_uncertainty_ros.runtime.outputs import GraphError

if TYPE_CHECKING:
    from pathlib import Path

    import onnx
    from numpy.typing import NDArray

    from seg_uncertainty_ros.bundle import Bundle

CLASSIFIER = 'segmenter.classifier.weight'
OUTLIER = 'segmenter.branch.output.weight'
TEMPERATURE = 'temperature'
LOWER = 'scale.lower'
INVERSE_WIDTH = 'scale.inverse_width'
BETWEEN = (
    *('Flatten', 'Gather', 'Identity', 'Reshape', 'Resize'),
    *('Slice', 'Split', 'Squeeze', 'Unsqueeze'),
)
"""Operators that may stand between a convolution and the division of what it gives."""
# 1 - max p in float32, from logits and from the graph.
TOLERANCE = 1e-4


class CalibratedGraph:
    """The ONNX graph of a bundle, in memory.

    The temperature is the constant that the logits and perhaps a void class, an output of the last
    convolution or of a branch, are divided by. It gets the name ``temperature`` in a graph that
    has none by it. The graph of an imported network has that name alone: its last convolution is
    called what its maker called it.

    Raises:
        GraphError: no onnx package, or a graph that does not hold its calibration like this.

    """

    def __init__(self, bundle: Bundle) -> None:
        self.path = bundle.graph
        self.classes = len(bundle.classes)
        self._model = read_onnx(bundle.graph, 'changing a graph')
        self._tensors = {tensor.name: tensor for tensor in self._model.graph.initializer}
        origin = CLASSIFIER if TEMPERATURE not in self._tensors else TEMPERATURE
        for name in (origin, LOWER, INVERSE_WIDTH):
            if name not in self._tensors:
                msg = f'{bundle.graph}: no tensor {name!r}; was it exported by this package?'
                raise GraphError(msg)
        divisions = self._divisions()
        divisors = {float(self.tensor(node.input[1])) for node in divisions}
        if divisors != {float(np.float32(bundle.temperature))}:
            msg = (
                f'{bundle.graph}: divides the logits by {sorted(divisors) or "nothing"}, '
                f'the manifest says temperature {bundle.temperature}'
            )
            raise GraphError(msg)
        self._check_others(divisions)
        if TEMPERATURE not in self._tensors:
            self._tensors[TEMPERATURE] = self._model.graph.initializer.add()
            self.set_temperature(bundle.temperature)
            for node in divisions:
                node.input[1] = TEMPERATURE
            self._drop_unread()
        self._logits = divisions[0].output[0]

    def _divisions(self) -> list[onnx.NodeProto]:
        """Return the divisions by a constant of what the last convolutions give, logits first."""
        found = []
        nodes = self._model.graph.node
        if CLASSIFIER not in self._tensors:
            return [n for n in nodes if n.op_type == 'Div' and n.input[1] == TEMPERATURE]
        for weight in (CLASSIFIER, OUTLIER):
            names = [node.output[0] for node in nodes if weight in node.input]
            for node in nodes:  # in the order of computation
                if not node.input or node.input[0] not in names:
                    continue
                if node.op_type in BETWEEN:
                    names.extend(node.output)
                elif node.op_type == 'Div' and node.input[1] in self._tensors:
                    found.append(node)
        return found

    def _check_others(self, divisions: list[onnx.NodeProto]) -> None:
        divisors = {node.input[1] for node in divisions}
        for node in self._model.graph.node:
            if node.op_type == 'Div' and node.input[1] in divisors and node not in divisions:
                msg = f'{self.path}: divides {node.input[0]!r} by the temperature, expected logits'
                raise GraphError(msg)

    def _drop_unread(self) -> None:
        # Runtimes warn of each constant that no node reads.
        read = {name for node in self._model.graph.node for name in node.input}
        for name in self._tensors.keys() - read:
            self._model.graph.initializer.remove(self._tensors.pop(name))

    def tensor(self, name: str) -> NDArray[np.float32]:
        """Return a copy of a constant of the graph."""
        from onnx import numpy_helper

        return numpy_helper.to_array(self._tensors[name]).copy()

    def set_temperature(self, temperature: float) -> None:
        """Divide by ``temperature`` instead."""
        self._replace(TEMPERATURE, np.array(temperature))

    def set_knots(self, knots: NDArray[np.float64]) -> None:
        """Map raw scores onto 0..1 by these knots, KxM, as network.deployed.ScoreScale does."""
        single = knots.astype(np.float32)
        values = {LOWER: single[:, :-1], INVERSE_WIDTH: 1.0 / np.diff(single, axis=1)}
        for name, new in values.items():
            old = self.tensor(name).shape
            if old[:2] != new.shape:  # and perhaps a last axis of length 1
                msg = f'{self.path}: {name} is {old}, not of knots {knots.shape}'
                raise GraphError(msg)
            self._replace(name, new.reshape(old))

    def save(self, path: Path) -> None:
        """Write the graph."""
        import onnx

        onnx.save(self._model, path)

    def session(self) -> LogitsSession:
        """Return what runs the graph as it is now."""
        import onnx

        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        scores = onnx.ValueInfoProto()
        scores.CopyFrom(next(x for x in model.graph.output if x.name == 'scores'))
        logits = onnx.helper.make_tensor_value_info(self._logits, onnx.TensorProto.FLOAT, None)
        # Without the other outputs the runtime computes no more than these two need.
        del model.graph.output[:]
        model.graph.output.extend((logits, scores))
        return LogitsSession(model.SerializeToString(), self.path)

    def _replace(self, name: str, values: NDArray) -> None:
        from onnx import numpy_helper

        self._tensors[name].CopyFrom(numpy_helper.from_array(values.astype(np.float32), name))


class LogitsSession:
    """Runs a graph for tempered logits and raw scores."""

    def __init__(self, model: bytes, path: Path) -> None:
        self._session = open_session(model, path)
        self._path = path
        self._checked = False

    def run(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return tempered logits Sxhxw and raw scores Kxhxw of a uint8 HxWx3 of network size.

        Raises:
            GraphError: it failed, or its first score is not 1 - max softmax of these logits.

        """
        outputs, scores = run_session(self._session, image, 0)
        logits = outputs.reshape(-1, *scores.shape[1:])
        if not self._checked:
            rest = 1 - 1 / np.exp(logits - logits.max(axis=0)).sum(axis=0)
            if (error := float(np.abs(rest - scores[0]).max())) > TOLERANCE:
                msg = (
                    f'{self._path}: score 0 is not 1 - max softmax of the logits: {error:.2g} off'
                )
                raise GraphError(msg)
            self._checked = True
        return logits, scores
