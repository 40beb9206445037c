# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A network that somebody else exported: read it, find logits and sizes, refuse it with a reason.

Nothing is believed that can be tried: the network runs on noise, in two sizes where it says that
it takes any.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto
from onnx import version_converter

from seg_uncertainty_ros.errors import SegUncertaintyError
from seg_uncertainty_ros.frames import Geometry

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

OPSET = 18
"""What the score head is exported in, and what older networks are converted to."""
STRIDE = 32
"""Of networks that say nothing of it: what nearly all encoders shrink by."""
MAX_PIXELS = 1024 * 512
GRID = 4
"""The planes of scores have a quarter of the input's sides."""
# Sides of the images that a network of any size is tried on, in strides; neither is square.
PROBES = ((4, 6), (7, 5))
# How far softmax outputs add up to 1, and how far a converted network may differ from the given.
TOLERANCE = 1e-3


class NetworkError(SegUncertaintyError):
    """A network that cannot be imported; the message names the file and what is wrong with it."""


@dataclass(frozen=True)
class Plane:
    """A map of the network: its name, its channels, sides of the input over its own."""

    name: str
    channels: int
    stride: Fraction


@dataclass(frozen=True)
class GivenNetwork:
    """A network as it was given, at an opset of its own or OPSET, with the outputs asked for.

    ``image`` is its input, float32 1x3xHxW; ``features`` None where none were named.
    """

    model: onnx.ModelProto
    image: str
    logits: Plane
    features: Plane | None
    geometry: Geometry

    @property
    def opset(self) -> int:
        """Of the standard operators."""
        return _opset(self.model)

    @property
    def planes(self) -> tuple[Plane, ...]:
        """Logits, and features where there are some."""
        return (self.logits,) if self.features is None else (self.logits, self.features)


def read_network(
    path: Path,
    classes: int,
    *,
    logits: str | None = None,
    features: str | None = None,
    size: tuple[int, int] | None = None,
    stride: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> GivenNetwork:
    """Read and try a network.

    Args:
        path: an ONNX file with its weights inside.
        classes: how many channels the logits have.
        logits: name of an output, or of a tensor inside; None for the only output.
        features: likewise, what the last convolution sees; None without.
        size: (height, width) that every image is brought to; None for the network's own, or any.
        stride: sides of images are multiples of it; None for STRIDE. Of networks that take any.
        max_pixels: likewise, about how many an image has at most.

    Raises:
        NetworkError: the network is not of this kind; the message says why.

    """
    model = _load(path)
    image, shape = _image(model, path)
    logits = _choose_logits(model, logits, classes, path)
    if features == logits:
        msg = f'--features: {features!r} are the logits already'
        raise NetworkError(msg)
    names = [logits] if features is None else [logits, features]
    _set_outputs(model, names, path)
    geometry = _geometry(shape, size, stride, max_pixels, path)
    probe = _Probe(model, image, path)
    sizes = (
        [geometry.size]
        if geometry.size
        else [tuple(geometry.stride * x for x in p) for p in PROBES]
    )
    planes = [probe.planes(names, each, named=geometry.size is not None) for each in sizes]
    if planes[0] != planes[-1]:
        msg = (
            f'{path}: the axes are dynamic, and yet outputs of {_text(sizes[0])} and '
            f'{_text(sizes[-1])} are not of one stride: name a --size'
        )
        raise NetworkError(msg)
    if planes[0][0].channels != classes:
        msg = f'{path}: {logits!r} has {planes[0][0].channels} channels, --classes names {classes}'
        raise NetworkError(msg)
    _replace_outputs(model, [_value(x.name, [1, x.channels, None, None]) for x in planes[0]])
    converted = _at_opset(model, path)
    if converted is not model:
        _check_equal(probe, _Probe(converted, image, path), sizes[0], path)
    return GivenNetwork(
        converted, image, planes[0][0], planes[0][1] if features else None, geometry
    )


def _load(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        msg = f'{path}: no such file'
        raise NetworkError(msg)
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's errors are no part of onnx's interface
        msg = f'{path}: no ONNX file, or a damaged one: {_line(error)}'
        raise NetworkError(msg) from error
    if not model.graph.node:
        msg = f'{path}: no ONNX file, or one without operators'
        raise NetworkError(msg)
    if outside := [t.name for t in model.graph.initializer if t.data_location == t.EXTERNAL]:
        msg = (
            f'{path}: {len(outside)} weights, as {outside[0]!r}, lie outside the file: '
            'a bundle has one file, export with external_data=False'
        )
        raise NetworkError(msg)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # ValidationError; a damaged name is a UnicodeDecodeError
        msg = f'{path}: not valid ONNX: {_line(error)}'
        raise NetworkError(msg) from error
    return model


def _image(model: onnx.ModelProto, path: Path) -> tuple[str, tuple[int | None, int | None]]:
    """Return name and (height, width) of the input, None for an axis of any length."""
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    # Weights were listed as inputs once; later versions of the format take that for a default.
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, 4)
    if len(inputs) != 1:
        names = ', '.join(repr(value.name) for value in inputs) or 'none'
        msg = f'{path}: inputs {names}, expected one, the image'
        raise NetworkError(msg)
    image = inputs[0]
    kind = image.type.tensor_type.elem_type
    if kind != TensorProto.FLOAT:
        msg = f'{path}: input {image.name!r} is {_kind(kind)}, expected float32'
        if kind in (TensorProto.FLOAT16, TensorProto.BFLOAT16):
            msg += ': export in float32, the precision is chosen when an engine is built'
        raise NetworkError(msg)
    if not image.type.tensor_type.HasField('shape'):
        msg = f'{path}: input {image.name!r} has no shape, expected 1x3xHxW'
        raise NetworkError(msg)
    dims = [
        dim.dim_value if dim.HasField('dim_value') and dim.dim_value > 0 else None
        for dim in image.type.tensor_type.shape.dim
    ]
    if len(dims) != 4 or dims[0] not in (1, None) or dims[1] not in (3, None):
        shape = 'x'.join('?' if dim is None else str(dim) for dim in dims)
        msg = f'{path}: input {image.name!r} is {shape}, expected 1x3xHxW'
        raise NetworkError(msg)
    return image.name, (dims[2], dims[3])


def _choose_logits(model: onnx.ModelProto, name: str | None, classes: int, path: Path) -> str:
    if name is not None:
        return name
    outputs = list(model.graph.output)
    if len(outputs) == 1:
        kind = outputs[0].type.tensor_type.elem_type
        if kind not in (TensorProto.FLOAT, TensorProto.UNDEFINED):
            msg = (
                f'{path}: the output {outputs[0].name!r} is {_kind(kind)}, no logits (float32, '
                f'1x{classes}xhxw): name the tensor that has them with --logits'
            )
            raise NetworkError(msg)
        return outputs[0].name
    names = ', '.join(value.name for value in outputs)
    msg = f'{path}: several outputs ({names}): say which one has the logits with --logits'
    raise NetworkError(msg)


def _set_outputs(model: onnx.ModelProto, names: Sequence[str], path: Path) -> None:
    """Make the named tensors the only outputs, those inside the graph too."""
    known = {value.name: value for value in model.graph.output}
    made = {name for node in model.graph.node for name in node.output}
    for option, name in zip(('--logits', '--features'), names, strict=False):
        if name not in made:
            outputs = ', '.join(known)
            msg = f'{path}: {option}: no tensor {name!r}; its outputs are {outputs}'
            raise NetworkError(msg)
    _replace_outputs(model, [known.get(name) or _value(name, None) for name in names])


def _value(name: str, shape: Sequence[int | None] | None) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _replace_outputs(model: onnx.ModelProto, values: Sequence[onnx.ValueInfoProto]) -> None:
    del model.graph.output[:]
    model.graph.output.extend(values)


def _geometry(
    shape: tuple[int | None, int | None],
    size: tuple[int, int] | None,
    stride: int | None,
    max_pixels: int,
    path: Path,
) -> Geometry:
    if None not in shape or size is not None:
        if stride is not None:
            msg = f'--stride: {stride}, but every image is brought to one size'
            raise NetworkError(msg)
        size = size or shape
        if any(own not in (None, side) for own, side in zip(shape, size, strict=True)):
            msg = f'--size: {_text(size)}, but {path} takes {_text(shape)}'
            raise NetworkError(msg)
        return Geometry(1, max(size[0] * size[1], 1024), size=size)
    if shape != (None, None):
        msg = f'{path}: takes {_text(shape)}, one side of any length: name a --size'
        raise NetworkError(msg)
    stride = lcm(STRIDE if stride is None else stride, GRID)
    if not GRID <= stride <= 256:
        msg = f'--stride: {stride} with the planes at a quarter, expected {GRID} to 256'
        raise NetworkError(msg)
    return Geometry(stride, max_pixels)


class _Probe:
    """Runs a network on noise."""

    def __init__(self, model: onnx.ModelProto, image: str, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what it says comes as an exception too
        try:
            self._session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=['CPUExecutionProvider']
            )
        except Exception as error:  # ONNX Runtime has no public base class of its errors
            what = 'an operator, opset or type that ONNX Runtime does not take'
            msg = f'{path}: {what}: {_line(error)}'
            raise NetworkError(msg) from error
        self._image = image
        self._path = path

    def run(self, size: tuple[int, int], *, named: bool = True) -> list[NDArray]:
        noise = np.random.default_rng(0).normal(size=(1, 3, *size)).astype(np.float32)
        try:
            return self._session.run(None, {self._image: noise})
        except Exception as error:
            hint = '' if named else ': name the --stride or the --size that it takes'
            msg = f'{self._path}: fails on an image of {_text(size)}{hint}: {_line(error)}'
            raise NetworkError(msg) from error

    def planes(
        self, names: Sequence[str], size: tuple[int, int], *, named: bool
    ) -> tuple[Plane, ...]:
        outputs = dict(zip(names, self.run(size, named=named), strict=True))
        planes = tuple(self._plane(name, values, size) for name, values in outputs.items())
        self._refuse_probabilities(names[0], outputs[names[0]])
        return planes

    def _plane(self, name: str, values: NDArray, size: tuple[int, int]) -> Plane:
        shape = 'x'.join(map(str, values.shape))
        if values.ndim != 4 or values.shape[0] != 1 or values.dtype != np.float32:
            msg = f'{self._path}: {name!r} is {values.dtype} {shape}, expected float32 1xCxhxw'
            raise NetworkError(msg)
        if not np.isfinite(values).all():
            msg = f'{self._path}: {name!r} is not finite on noise of mean 0 and deviation 1'
            raise NetworkError(msg)
        stride = Fraction(size[0], values.shape[2])
        other = Fraction(size[1], values.shape[3])
        # Networks of aligned corners round their sides: 513 pixels give 65, not 64.125.
        if abs(stride - other) > max(stride, other) / 8:
            msg = f'{self._path}: {name!r} is {shape} of an image of {_text(size)}: no one stride'
            raise NetworkError(msg)
        return Plane(name, values.shape[1], stride if stride == other else Fraction(round(stride)))

    def _refuse_probabilities(self, name: str, values: NDArray[np.float32]) -> None:
        sums = values.sum(axis=1)
        logs = np.exp(np.minimum(values, 1.0)).sum(axis=1)
        kind = None
        if values.min() >= 0 and np.abs(sums - 1).max() < TOLERANCE:
            kind = 'probabilities'
        elif values.max() <= TOLERANCE and np.abs(logs - 1).max() < TOLERANCE:
            kind = 'log probabilities'
        if kind and values.shape[1] > 1:
            msg = (
                f'{self._path}: {name!r} are {kind}, which add up to 1, not logits: name the '
                'tensor before the softmax with --logits'
            )
            raise NetworkError(msg)


def _at_opset(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """Return the model at OPSET, or as it is where it is newer."""
    opset = _opset(model)
    if opset >= OPSET:
        return model
    try:
        converted = version_converter.convert_version(model, OPSET)
    except Exception as error:  # RuntimeError, or what its C++ part throws
        msg = f'{path}: opset {opset} cannot be converted to {OPSET}: {_line(error)}; export anew'
        raise NetworkError(msg) from error
    # Domains beside the standard one are lost on the way.
    known = {entry.domain for entry in converted.opset_import}
    converted.opset_import.extend(x for x in model.opset_import if x.domain not in known)
    return converted


def _check_equal(given: _Probe, converted: _Probe, size: tuple[int, int], path: Path) -> None:
    for one, other in zip(given.run(size), converted.run(size), strict=True):
        if (error := float(np.abs(one - other).max())) > TOLERANCE * (1 + np.abs(one).max()):
            msg = f'{path}: converted to opset {OPSET} it gives something else, {error:.2g} off'
            raise NetworkError(msg)


def _opset(model: onnx.ModelProto) -> int:
    versions = [entry.version for entry in model.opset_import if entry.domain in ('', 'ai.onnx')]
    return versions[0] if versions else 1


def _text(size: tuple[int | None, int | None]) -> str:
    """Return (height, width) as a person writes it, width first."""
    return 'x'.join('any' if side is None else str(side) for side in reversed(size))


def _kind(number: int) -> str:
    if number not in TensorProto.DataType.values():
        return f'of an unknown type, {number},'
    return 'float32' if number == TensorProto.FLOAT else TensorProto.DataType.Name(number).lower()


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
