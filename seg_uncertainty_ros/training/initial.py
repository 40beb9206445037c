# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Weights to start a training run from: ImageNet, a checkpoint, or the graph of a bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import torch
from torch import nn

from seg_uncertainty_ros.bundle import GRAPH
from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.training.recipe import SOURCES
from seg_uncertainty_ros.training.recipe import RecipeError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from seg_uncertainty_ros.network.segmenter import Segmenter

PREFIX = 'segmenter.'
BRANCH = 'branch.'


def initialise(model: Segmenter, init: Path | None, images: Tensor) -> tuple[str, tuple[str, ...]]:
    """Load weights into ``model``; return where they are from, and the sources they have seen.

    Args:
        model: as made; a branch for outliers that ``init`` lacks stays as it is.
        init: a checkpoint, the directory of a bundle, or None for ImageNet (encoder only).
        images: Nx3xHxW, training images, for the statistics that a bundle's graph lacks.

    Raises:
        RecipeError: ``init`` holds another network.

    """
    if init is None:
        model.encoder.load_imagenet()
        return 'ImageNet', ()
    if init.is_dir():
        bundle = Bundle.load(init)
        load_folded(model, onnx.load(init / GRAPH), images)
        recipe = bundle.provenance.get('recipe', {})
        seen = bundle.provenance.get('sources') or [s for s in SOURCES if recipe.get(s)]
        return f'graph of bundle {bundle.name} {bundle.version}, {bundle.digest[:12]}', tuple(seen)
    first = torch.load(init, weights_only=True)
    load_weights(model, first['weights'], str(init))
    name = f'{first["recipe"]["name"]}, step {first["val"]["step"]}'
    return name, tuple(first['sources'])


def load_weights(model: Segmenter, weights: Mapping[str, Tensor], source: str) -> None:
    """Load a state dict; the branch for outliers may be missing, and stays as it is then."""
    own = {k: v for k, v in model.state_dict().items() if k.startswith(BRANCH)}
    try:
        model.load_state_dict(own | dict(weights))
    except RuntimeError as error:
        msg = f'{source}: holds another network: {str(error)[:300]}'
        raise RecipeError(msg) from error


def load_folded(model: Segmenter, graph: onnx.ModelProto, images: Tensor) -> None:
    """Load the convolutions of an exported graph, whose batch norms were folded into them.

    Each batch norm gets the statistics of its input on ``images``, and the weight and bias with
    which it adds no more than the convolution's folded bias: the function stays the same, and
    training goes on with norms as they were.
    """
    values = {t.name: torch.tensor(onnx.numpy_helper.to_array(t)) for t in graph.graph.initializer}
    state = {}
    for name, own in model.state_dict().items():
        state[name] = values.get(PREFIX + name, own)
    load_weights(model, state, 'graph')
    modules = list(model.named_modules())
    hooks = []
    # In the order of definition each norm follows the convolution that it was folded into.
    for (conv_name, conv), (_, norm) in zip(
        [m for m in modules if isinstance(m[1], nn.Conv2d) and m[1].bias is None],
        [m for m in modules if isinstance(m[1], nn.BatchNorm2d)],
        strict=True,
    ):
        bias = values.get(f'{PREFIX}{conv_name}.weight_bias')
        if bias is None and conv_name.startswith(BRANCH):
            continue
        if bias is None or f'{PREFIX}{conv_name}.weight' not in values:
            msg = f'graph: no folded weights of {conv_name}'
            raise RecipeError(msg)
        del conv
        hooks.append(norm.register_forward_pre_hook(_unfold(bias)))
    model.eval()
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()


def _unfold(bias: Tensor):  # noqa: ANN202
    def set_statistics(norm: nn.BatchNorm2d, inputs: tuple[Tensor]) -> None:
        mean = inputs[0].mean(dim=(0, 2, 3))
        var = inputs[0].var(dim=(0, 2, 3), unbiased=False)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(var)
        norm.weight.copy_((var + norm.eps).sqrt())
        norm.bias.copy_(mean + bias)

    return set_statistics
