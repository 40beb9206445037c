# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Train a recipe: mixed batches, averaged weights, selection on CamVid val."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch.optim.swa_utils import AveragedModel
from torch.optim.swa_utils import get_ema_multi_avg_fn
from tqdm import tqdm

from seg_uncertainty_ros.classes import CAMVID
from seg_uncertainty_ros.evaluation.datasets import open_dataset
from seg_uncertainty_ros.network.segmenter import Segmenter
from seg_uncertainty_ros.training.batches import draw_batch
from seg_uncertainty_ros.training.batches import load_pools
from seg_uncertainty_ros.training.batches import load_things
from seg_uncertainty_ros.training.datasets import camvid
from seg_uncertainty_ros.training.initial import initialise
from seg_uncertainty_ros.training.losses import outlier_cross_entropy
from seg_uncertainty_ros.training.losses import superset_cross_entropy
from seg_uncertainty_ros.training.losses import uniform_cross_entropy
from seg_uncertainty_ros.training.outliers import held_out_scenes
from seg_uncertainty_ros.training.taxonomy import OUTLIER
from seg_uncertainty_ros.training.taxonomy import target_table
from seg_uncertainty_ros.training.validation import validate
from seg_uncertainty_ros.training.validation import validate_outliers

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor
    from torch import nn

    from seg_uncertainty_ros.network.segmenter import Prediction
    from seg_uncertainty_ros.training.datasets import Sample
    from seg_uncertainty_ros.training.recipe import Recipe


def target_weights(samples: Sequence[Sample], recipe: Recipe) -> Tensor:
    """Return 256 weights: rare classes of CamVid weigh more, everything else 1."""
    counts = sum(np.bincount(s.labels.ravel(), minlength=256) for s in samples)
    share = counts[: len(CAMVID)] / counts[: len(CAMVID)].sum()
    rare = (recipe.rare_share / np.maximum(share, 1e-6)) ** recipe.rare_power
    weights = torch.ones(256)
    weights[: len(CAMVID)] = torch.from_numpy(np.clip(rare, 1.0, recipe.rare_bound)).float()
    return weights


def learning_rate_factor(step: int, recipe: Recipe) -> float:
    """Return the factor of the learning rate: linear warm-up, then cosine to zero."""
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    progress = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def freeze(model: Segmenter, recipe: Recipe) -> list[nn.Module]:
    """Stop the training of what the recipe leaves as it is; return what must stay in eval mode."""
    if recipe.trained == 'all':
        return model.encoder.freeze(recipe.frozen_blocks)
    parts = [part for part in model.children() if part is not model.branch]
    for part in parts:
        part.requires_grad_(requires_grad=False)
    return parts


def make_optimizer(model: Segmenter, recipe: Recipe) -> torch.optim.Optimizer:
    """Return AdamW; the pretrained encoder learns more slowly, norms and biases do not decay."""
    groups = []
    for name, module in model.named_children():
        factor = recipe.encoder_rate if name == 'encoder' else 1.0
        for decays in (True, False):
            parameters = [
                p for p in module.parameters() if p.requires_grad and (p.ndim > 1) == decays
            ]
            decay = recipe.weight_decay if decays else 0.0
            rate = recipe.learning_rate * factor
            groups.append({'params': parameters, 'lr': rate, 'weight_decay': decay})
    return torch.optim.AdamW(groups)


def objective(
    prediction: Prediction, targets: Tensor, recipe: Recipe, table: Tensor, weights: Tensor
) -> Tensor:
    """Return the loss of a batch; targets uint8 NxHxW at the images' size."""
    # Half resolution: a quarter of the cost; thin classes still keep their pixels.
    targets = targets[:, ::2, ::2]
    logits = _upsample(prediction.logits)
    outlier = targets == OUTLIER
    loss = superset_cross_entropy(logits, targets, table, weights)
    if recipe.outlier_output != 'none':
        logit = _upsample(prediction.outlier)[:, 0]
        if recipe.outlier_output == 'void':
            # The softmax over S + 1 classes is that over S, and these odds of the void class.
            logit = logit - logits.logsumexp(dim=1)
        known = table.any(dim=1)[targets.long()]
        loss = loss + recipe.outlier_weight * outlier_cross_entropy(logit, outlier, known)
    if recipe.entropy_weight:
        loss = loss + recipe.entropy_weight * uniform_cross_entropy(logits, outlier)
    return loss


def _upsample(planes: Tensor) -> Tensor:
    return F.interpolate(planes.float(), scale_factor=2.0, mode='bilinear')


def interpolate(initial: Mapping[str, Tensor], model: nn.Module, share: float) -> nn.Module:
    """Return a copy of a model whose weights lie this share of the way from the initial ones."""
    result = copy.deepcopy(model)
    with torch.no_grad():
        for name, value in result.state_dict().items():
            if value.is_floating_point():
                value.lerp_(initial[name], 1.0 - share)
    return result


def train(recipe: Recipe, data: Path, out: Path, init: Path | None = None) -> Path:
    """Train ``recipe`` on ``data``; return the best checkpoint, ``out/best.pt``.

    ``out/end.pt`` is the last one, for a stage to start from.

    ``init`` is a checkpoint or a bundle to start from; without it the encoder starts from
    ImageNet. The best checkpoint has the largest CamVid val mIoU, to which a recipe with outliers
    adds the AP on fs_static and on held-out scenes of COCO, the mean of both, of the best of its
    scores; all of the averaged weights.

    A run that was cut short continues from ``out/last.pt``. ``out/log.jsonl`` has a line for each
    validation. Runs on a GPU where there is one, else on the CPU, in bfloat16 where that is fast.
    """
    out.mkdir(parents=True, exist_ok=True)
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    # CPUs without the instructions emulate bfloat16, ten times slower than float32.
    bfloat16 = device.type == 'cuda' or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    torch.manual_seed(recipe.seed)
    pools = load_pools(recipe, data, out)
    things = load_things(data, pools[0].samples) if recipe.pasted else None
    val = camvid(data / 'camvid', 'val')
    strange = {}
    if recipe.uses_outliers:
        strange = {
            'fs_static': open_dataset('fishyscapes', data / 'ood' / 'fs_static'),
            'coco': held_out_scenes(data / 'coco128_seg'),
        }
    weights = target_weights(pools[0].samples, recipe).to(device)
    table = target_table().to(device)
    model = Segmenter(len(CAMVID), outlier=recipe.outlier_output != 'none')
    first, _ = draw_batch(pools, None, recipe, np.random.default_rng(recipe.seed))
    origin, earlier = initialise(model, init, first)
    sources = sorted({*earlier, *recipe.sources})
    model = model.to(device, memory_format=torch.channels_last)
    initial = copy.deepcopy(model.state_dict())
    frozen = freeze(model, recipe)
    optimizer = make_optimizer(model, recipe)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(step, recipe)
    )
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema), use_buffers=True)
    start, best = 0, -1.0
    last = out / 'last.pt'
    if last.exists():
        state = torch.load(last, weights_only=True, map_location=device)
        for part, key in ((model, 'model'), (optimizer, 'optimizer'), (average, 'average')):
            part.load_state_dict(state[key])
        schedule.load_state_dict(state['schedule'])
        start, best, origin = state['step'], state['best'], state['origin']
    end = recipe.stop_after or recipe.steps
    progress = tqdm(range(start, end), initial=start, total=end, unit='step', mininterval=2.0)
    losses = []
    for step in progress:
        # Seeds per step: a resumed run draws the batches and drops what an uncut one would.
        torch.manual_seed(recipe.seed * 1_000_003 + step)
        rng = np.random.default_rng([recipe.seed, step])
        images, targets = draw_batch(pools, things, recipe, rng)
        model.train()
        for part in frozen:
            part.eval()
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16):
            prediction = model(images.to(device))
        loss = objective(prediction, targets.to(device), recipe, table, weights)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        average.update_parameters(model)
        losses.append(float(loss.detach()))
        progress.set_postfix(loss=f'{np.mean(losses[-100:]):.3f}', best=f'{best:.4f}')
        if (step + 1) % recipe.validate_every == 0 or step + 1 == end:
            judged = interpolate(initial, average.module, recipe.learned_share)
            matrix = validate(judged, val)
            row = {
                'step': step + 1,
                'loss': round(float(np.mean(losses[-recipe.validate_every :])), 4),
                'miou': round(matrix.miou(), 4),
                'accuracy': round(matrix.accuracy(), 4),
                'iou': [round(float(v), 3) for v in matrix.iou()],
            }
            merit = row['miou']
            found = {
                name: validate_outliers(judged, samples, recipe.outlier_scores)
                for name, samples in strange.items()
            }
            row |= found
            if found:
                merit += max(
                    float(np.mean([metrics[score][0] for metrics in found.values()]))
                    for score in recipe.outlier_scores
                )
            with (out / 'log.jsonl').open('a', encoding='utf-8') as log:
                log.write(json.dumps(row) + '\n')
            checkpoint = {
                'weights': judged.state_dict(),
                'recipe': asdict(recipe),
                'origin': origin,
                'sources': sources,
                'val': row,
            }
            if merit > best:
                best = merit
                torch.save(checkpoint, out / 'best.pt')
            if step + 1 == end:
                torch.save(checkpoint, out / 'end.pt')
            torch.save(
                {
                    'model': model.state_dict(),
                    'optimizer': optimizer.state_dict(),
                    'average': average.state_dict(),
                    'schedule': schedule.state_dict(),
                    'step': step + 1,
                    'best': best,
                    'origin': origin,
                },
                last,
            )
    return out / 'best.pt'
