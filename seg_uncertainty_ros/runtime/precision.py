# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A bundle's graph in half precision or 8-bit integers: ONNX to ONNX.

Precision is written into the graph, as a strongly typed runtime wants it. The network is what
leads to the last convolution or linear layer; what follows towards confidence, anomaly and scores
is the head, which sums exponentials and stays in float32.
"""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from typing import Literal
from typing import get_args

import numpy as np
from tqdm import tqdm

from seg_uncertainty_ros.errors import SegUncertaintyError
from seg_uncertainty_ros.runtime.onnx_file import read_onnx

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Iterator
    from collections.abc import Sequence

    import onnx
    from numpy.typing import NDArray

    from seg_uncertainty_ros.bundle import Bundle
    from seg_uncertainty_ros.bundle import ScoreInfo
    from seg_uncertainty_ros.frames import Frame

Precision = Literal['fp32', 'fp16', 'int8']

LARGEST_HALF = float(np.finfo(np.float16).max)
# Raw scores beyond the last knot, which 1 in 10,000 known pixels exceeds, by this factor.
HEADROOM = 4.0
# What float16 must tell apart between two knots.
STEPS = 2
JUDGED = ('confidence', 'anomaly', 'scores')
# Inputs that ONNX wants in float32 whatever the precision.
ALWAYS_SINGLE = {('Resize', 2), ('Upsample', 1)}
SHAPES = ('Shape', 'Size')
QUANTISED = ('Conv', 'ConvTranspose', 'Gemm', 'MatMul')


class PrecisionError(SegUncertaintyError):
    """A graph cannot be written in a precision; the message names the file and the reason."""


def write_graph(
    bundle: Bundle,
    precision: Precision,
    out_path: Path | str,
    frames: Iterable[Frame] | None = None,
) -> None:
    """Write a bundle's graph in a precision.

    Args:
        bundle: the model.
        precision: ``fp32`` is a copy. ``fp16``: weights and activations of the network in
            float16, the head in float32; ``scores`` are float16 where that tells their knots
            apart. ``int8``: layers take symmetric, signed integers, weights of 7 bits by output
            channel; the first and last layers, those by channel and what is between layers stay
            in float32.
        out_path: the ONNX file.
        frames: camera images that ``int8`` takes the ranges of activations from; a hundred of the
            camera's own recordings are enough.

    Raises:
        PrecisionError: no such precision, no frames, no package onnx, or a graph that does not
            allow it.

    """
    out_path = Path(out_path)
    if precision not in get_args(Precision):
        msg = f'precision: {precision!r} is none of {", ".join(get_args(Precision))}'
        raise PrecisionError(msg)
    if precision == 'fp32':
        try:
            shutil.copyfile(bundle.graph, out_path)
        except OSError as error:
            msg = f'{out_path}: cannot be written: {error.strerror}'
            raise PrecisionError(msg) from error
        return
    model = _load(bundle.graph)
    if any(node.op_type == 'QuantizeLinear' for node in model.graph.node):
        msg = f'{bundle.graph}: of 8-bit integers already; precision fp32 leaves it as it is'
        raise PrecisionError(msg)
    if precision == 'fp16':
        _save(half_precision(model, bundle.scores, bundle.graph), out_path)
    else:
        _write_integer(model, bundle, out_path, frames)


def half_precision(
    model: onnx.ModelProto, scores: Sequence[ScoreInfo], path: Path
) -> onnx.ModelProto:
    """Return a graph with its network in float16; ``path`` is what messages name."""
    return _HalfWriter(_Graph(model, path)).write(narrow_scores=_holds_scores(scores))


def _holds_scores(scores: Sequence[ScoreInfo]) -> bool:
    """Return whether float16 tells the knots of all scores apart, with room above the last."""
    return all(
        HEADROOM * max(abs(score.knots[0]), abs(score.knots[-1])) < LARGEST_HALF
        and all(
            high - low > STEPS * np.spacing(np.float16(max(abs(low), abs(high))))
            for low, high in pairwise(score.knots)
        )
        for score in scores
    )


class _Graph:
    """A graph with the types of its tensors, and who makes and reads them."""

    def __init__(self, model: onnx.ModelProto, path: Path) -> None:
        import onnx

        self.path = path
        self.model = model
        self.nodes: Sequence[onnx.NodeProto] = model.graph.node
        try:
            inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        except Exception as error:  # onnx's errors have no base class of their own
            msg = f'{path}: onnx cannot infer its types: {str(error).splitlines()[0]}'
            raise PrecisionError(msg) from error
        self.initializers = {tensor.name: tensor for tensor in model.graph.initializer}
        self._types = {name: tensor.data_type for name, tensor in self.initializers.items()}
        for value in (*inferred.input, *inferred.value_info, *inferred.output):
            self._types[value.name] = value.type.tensor_type.elem_type
        self._producer = {
            name: index for index, node in enumerate(self.nodes) for name in node.output if name
        }
        for name, index in self._producer.items():
            if not self._types.get(name):
                msg = f'{path}: no type for {name!r}, output of {self.nodes[index].op_type}'
                raise PrecisionError(msg)

    def is_float(self, name: str) -> bool:
        """Return whether a tensor is float32."""
        import onnx

        return self._types[name] == onnx.TensorProto.FLOAT

    def before(self, names: Iterable[str]) -> set[int]:
        """Return the nodes that these tensors depend on."""
        found: set[int] = set()
        waiting = list(names)
        while waiting:
            index = self._producer.get(waiting.pop())
            if index is not None and index not in found:
                found.add(index)
                waiting.extend(self.nodes[index].input)
        return found

    def layers(self) -> list[int]:
        """Return the layers of the network: activations times weights.

        The head multiplies the other way around: in sums over channels, and with covariances.
        """
        return [
            index
            for index, node in enumerate(self.nodes)
            if node.op_type in ('Conv', 'ConvTranspose', 'Gemm')
            or (
                node.op_type == 'MatMul'
                and node.input[0] not in self.initializers
                and node.input[1] in self.initializers
            )
        ]

    def last_layers(self) -> set[int]:
        """Return the layers that no other layer follows: of the logits, of a branch."""
        layers = self.layers()
        inner = self.before(name for index in layers for name in self.nodes[index].input)
        return set(layers) - inner

    def first_layers(self) -> set[int]:
        """Return the layers that follow no other layer."""
        layers = set(self.layers())
        return {i for i in layers if not self.before(self.nodes[i].input) & layers}

    def head(self) -> set[int]:
        """Return the nodes after the last layers that lead to confidence, anomaly or scores.

        Raises:
            PrecisionError: there is no layer, or an output is missing.

        """
        missing = set(JUDGED) - {value.name for value in self.model.graph.output}
        layers = self.layers()
        if missing or not layers:
            what = f'no output {min(missing)!r}' if missing else 'no convolution or linear layer'
            msg = f'{self.path}: {what}; is it the graph of a bundle?'
            raise PrecisionError(msg)
        network = self.before(name for index in layers for name in self.nodes[index].output)
        return self.before(JUDGED) - network

    def sizes(self) -> set[int]:
        """Return the nodes that compute with nothing but constants and sizes."""
        found: set[int] = set()
        for index, node in enumerate(self.nodes):  # in the order of computation
            if node.op_type in SHAPES or all(
                not name or name in self.initializers or self._producer.get(name) in found
                for name in node.input
            ):
                found.add(index)
        return found


class _HalfWriter:
    """Writes a graph anew, its nodes in half or single precision, and casts where they meet."""

    def __init__(self, graph: _Graph) -> None:
        self._graph = graph
        self._single = graph.head() | graph.sizes()
        self._halves: set[str] = set()
        self._renamed: dict[str, str] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._tensors: dict[str, onnx.TensorProto] = {}
        self._made: set[str] = set()

    def write(self, *, narrow_scores: bool) -> onnx.ModelProto:
        """Return the new graph."""
        import onnx

        model = onnx.ModelProto()
        model.CopyFrom(self._graph.model)
        ends = [value for value in model.graph.output if self._graph.is_float(value.name)]
        self._renamed = {value.name: f'{value.name}_computed' for value in ends}
        for index, node in enumerate(self._graph.nodes):
            self._add(node, half=index not in self._single)
        for value in ends:
            narrow = narrow_scores and value.name == 'scores'
            if narrow:
                value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
            self._end(value.name, half=narrow)
        for part in (model.graph.node, model.graph.initializer, model.graph.value_info):
            del part[:]  # the stored types are those of single precision
        model.graph.node.extend(self._nodes)
        model.graph.initializer.extend(self._tensors.values())
        return model

    def _add(self, old: onnx.NodeProto, *, half: bool) -> None:
        import onnx

        node = onnx.NodeProto()
        node.CopyFrom(old)
        for slot, name in enumerate(old.input):
            if not name:
                continue
            if old.op_type in SHAPES:
                node.input[slot] = self._renamed.get(name, name)
                continue
            wanted = half and (old.op_type, slot) not in ALWAYS_SINGLE
            node.input[slot] = self._read(name, half=wanted)
        for slot, name in enumerate(old.output):
            node.output[slot] = self._renamed.get(name, name)
            if half and name and self._graph.is_float(name):
                self._halves.add(name)
        if half:
            for attribute in node.attribute:
                if attribute.name == 'to' and attribute.i == onnx.TensorProto.FLOAT:
                    attribute.i = onnx.TensorProto.FLOAT16
                if attribute.t.data_type == onnx.TensorProto.FLOAT:
                    attribute.t.CopyFrom(self._narrow(attribute.t, attribute.t.name))
        self._nodes.append(node)

    def _read(self, name: str, *, half: bool) -> str:
        """Return the name of a tensor in the precision that its reader wants."""
        tensor = self._graph.initializers.get(name)
        if not self._graph.is_float(name):
            if tensor is not None:
                self._tensors[name] = tensor
            return name
        if tensor is not None:
            wanted = f'{name}_half' if half else name
            if wanted not in self._tensors:
                self._tensors[wanted] = self._narrow(tensor, wanted) if half else tensor
            return wanted
        here = self._renamed.get(name, name)
        if (name in self._halves) == half:
            return here
        wanted = f'{here}_{"half" if half else "single"}'
        if wanted not in self._made:
            self._made.add(wanted)
            self._cast(here, wanted, half=half)
        return wanted

    def _end(self, name: str, *, half: bool) -> None:
        """Give an output its name and type."""
        import onnx

        here = self._renamed[name]
        if half and name not in self._halves:
            limits = [f'{name}_lowest', f'{name}_highest']
            for limit, value in zip(limits, (-LARGEST_HALF, LARGEST_HALF), strict=True):
                array = np.array(value, dtype=np.float32)
                self._tensors[limit] = onnx.numpy_helper.from_array(array, limit)
            clipped = f'{name}_clipped'
            self._nodes.append(onnx.helper.make_node('Clip', [here, *limits], [clipped]))
            here = clipped
        self._cast(here, name, half=half)

    def _cast(self, name: str, to: str, *, half: bool) -> None:
        import onnx

        kind = onnx.TensorProto.FLOAT16 if half else onnx.TensorProto.FLOAT
        self._nodes.append(onnx.helper.make_node('Cast', [name], [to], name=f'cast_{to}', to=kind))

    def _narrow(self, tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
        from onnx import numpy_helper

        values = numpy_helper.to_array(tensor)
        if (largest := float(np.abs(values).max(initial=0.0))) > LARGEST_HALF:
            msg = f'{self._graph.path}: {tensor.name!r} holds {largest:g}, beyond float16'
            raise PrecisionError(msg)
        return numpy_helper.from_array(values.astype(np.float16), name)


def _load(path: Path) -> onnx.ModelProto:
    """Return a graph whose constants are initializers, and whose nodes all have names."""
    model = read_onnx(path, 'writing a graph in another precision', PrecisionError)
    nodes = []
    for index, node in enumerate(model.graph.node):
        values = [a.t for a in node.attribute if a.name == 'value']
        if node.op_type == 'Constant' and values:
            values[0].name = node.output[0]
            model.graph.initializer.append(values[0])
            continue
        if any(attribute.HasField('g') for attribute in node.attribute):
            msg = f'{path}: {node.op_type} {node.name!r} has a graph of its own'
            raise PrecisionError(msg)
        node.name = node.name or f'{node.op_type}_{index}'
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def _save(model: onnx.ModelProto, path: Path) -> None:
    import onnx

    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # onnx's errors have no base class of their own
        msg = f'{path}: not valid in this precision: {str(error).splitlines()[0]}'
        raise PrecisionError(msg) from error
    try:
        onnx.save(model, path)
    except OSError as error:
        msg = f'{path}: cannot be written: {error.strerror}'
        raise PrecisionError(msg) from error


def _write_integer(
    model: onnx.ModelProto, bundle: Bundle, path: Path, frames: Iterable[Frame] | None
) -> None:
    """Quantise by ONNX Runtime, with what TensorRT accepts: symmetric, signed, biases in float."""
    from onnxruntime.quantization import CalibrationMethod
    from onnxruntime.quantization import QuantFormat
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization import quantize_static

    # Types and shapes are in the file; without this, a warning asks for them.
    model.metadata_props.add(key='onnx.quant.pre_process', value='onnxruntime.quant')
    graph = _Graph(model, bundle.graph)
    graph.head()
    layers = _tolerant_layers(graph)
    if not layers:
        msg = f'{bundle.graph}: no convolution or linear layer between the first and the last'
        raise PrecisionError(msg)
    inputs = _Inputs(bundle, frames)
    with TemporaryDirectory(prefix='seg_uncertainty_') as folder:
        written = Path(folder) / 'int8.onnx'
        try:
            quantize_static(
                model,
                written,
                inputs,
                quant_format=QuantFormat.QDQ,
                nodes_to_quantize=layers,
                op_types_to_quantize=list(QUANTISED),
                per_channel=True,
                # Weights of 7 bits: two products of 8 bits overflow the 16 bits in which
                # processors without VNNI add them up.
                reduce_range=True,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                extra_options={
                    'ActivationSymmetric': True,
                    'WeightSymmetric': True,
                    'QuantizeBias': False,
                    # An activation function follows, which narrows the range.
                    'OpTypesToExcludeOutputQuantization': list(QUANTISED),
                },
            )
        except PrecisionError:
            raise
        except Exception as error:  # ONNX Runtime has no public base class of its errors
            msg = f'{bundle.graph}: ONNX Runtime cannot quantise it: {str(error).splitlines()[0]}'
            raise PrecisionError(msg) from error
        _save(_load(written), path)


def _tolerant_layers(graph: _Graph) -> list[str]:
    """Return the names of the layers that a few bits suffice for: neither outer nor grouped.

    Nor those that read what the head reads too: scores of quantised features are others, and
    OpenVINO makes some below 0 that come from a ReLU, of which the head takes roots. Camera
    pixels and logits are what few bits harm most; layers by channel (depthwise) have large
    weights and few products: quantised, they gain 4 % of the time and lose 2 points of AP.
    """
    outer = graph.first_layers() | graph.last_layers()
    judged = {name for index in graph.head() for name in graph.nodes[index].input}
    inner = (graph.nodes[index] for index in graph.layers() if index not in outer)
    return [x.name for x in inner if _groups(x) == 1 and x.input[0] not in judged]


def _groups(node: onnx.NodeProto) -> int:
    return next((a.i for a in node.attribute if a.name == 'group'), 1)


class _Inputs:
    """Feeds frames to the calibration, with a progress bar."""

    def __init__(self, bundle: Bundle, frames: Iterable[Frame] | None) -> None:
        if frames is None:
            msg = 'int8 needs frames of recordings to take ranges of activations from'
            raise PrecisionError(msg)
        self._images = self._resized(bundle, frames)
        self._first = next(self._images, None)
        if self._first is None:
            msg = 'int8: the recordings hold no frame'
            raise PrecisionError(msg)

    @staticmethod
    def _resized(bundle: Bundle, frames: Iterable[Frame]) -> Iterator[NDArray[np.uint8]]:
        from seg_uncertainty_ros.pipeline import network_input  # which imports the runtimes

        for frame in tqdm(frames, desc='ranges of activations', unit='frame'):
            yield network_input(frame.image, bundle.geometry)

    def get_next(self) -> dict[str, NDArray] | None:
        """Return the inputs of the next frame, None after the last."""
        image, self._first = self._first, None
        if image is None:
            image = next(self._images, None)
        if image is None:
            return None
        return {'image': image, 'score_index': np.array(0, dtype=np.int64)}
