# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Train a recipe: mixed batches, averaged weights, selection on CamVid val."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch.optim.swa_utils import AveragedModel
from torch.optim.swa_utils import get_ema_multi_avg_fn
from tqdm import tqdm

from seg_uncertainty_ros.classes import CAMVID
from seg_uncertainty_ros.frames import Geometry
from seg_uncertainty_ros.network.segmenter import Segmenter
from seg_uncertainty_ros.training import datasets
from seg_uncertainty_ros.training.augmentation import random_colour
from seg_uncertainty_ros.training.augmentation import random_crop
from seg_uncertainty_ros.training.losses import superset_cross_entropy
from seg_uncertainty_ros.evaluation.confusion import ConfusionMatrix
from seg_uncertainty_ros.training.taxonomy import target_table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.random import Generator
    from torch import Tensor

    from seg_uncertainty_ros.training.datasets import Sample
    from seg_uncertainty_ros.training.recipe import Recipe


@dataclass(frozen=True)
class Pool:
    """Samples of one source and how many crops of them a batch holds."""

    samples: Sequence[Sample]
    crops: int


def load_pools(recipe: Recipe, data: Path, out: Path) -> tuple[list[Pool], list[Sample]]:
    """Return the training pools and the CamVid val samples."""
    pools = [Pool(datasets.camvid(data / 'camvid', 'train'), recipe.camvid)]
    if recipe.idd_lite:
        pools.append(Pool(datasets.idd_lite(data / 'idd_lite', 'train'), recipe.idd_lite))
    if recipe.procedural:
        scenes = datasets.procedural(
            recipe.procedural_scenes, 10_000, 360, 480, out / 'scenes.npz'
        )
        pools.append(Pool(scenes, recipe.procedural))
    return pools, datasets.camvid(data / 'camvid', 'val')


def draw_batch(pools: Sequence[Pool], recipe: Recipe, rng: Generator) -> tuple[Tensor, Tensor]:
    """Return images Nx3xHxW (float, BGR 0..255) and targets uint8 NxHxW."""
    images, targets = [], []
    for pool in pools:
        for index in rng.integers(len(pool.samples), size=pool.crops):
            sample = pool.samples[index]
            # Images smaller than CamVid's are enlarged as if they were taken by the same camera.
            base = 480 / sample.image.shape[1]
            image, labels = random_crop(
                sample.image,
                sample.labels,
                recipe.crop_height,
                recipe.crop_width,
                (recipe.scale_min * base, recipe.scale_max * base),
                rng,
            )
            images.append(random_colour(image, rng))
            targets.append(labels)
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
    return batch.contiguous(memory_format=torch.channels_last), torch.from_numpy(np.stack(targets))


def target_weights(samples: Sequence[Sample], recipe: Recipe) -> Tensor:
    """Return 256 weights: rare classes of CamVid weigh more, everything else 1."""
    counts = sum(np.bincount(s.labels.ravel(), minlength=256) for s in samples)
    share = counts[: len(CAMVID)] / counts[: len(CAMVID)].sum()
    rare = (recipe.rare_share / np.maximum(share, 1e-6)) ** recipe.rare_power
    weights = torch.ones(256)
    weights[: len(CAMVID)] = torch.from_numpy(np.clip(rare, 1.0, recipe.rare_bound)).float()
    return weights


@torch.no_grad()
def validate(model: torch.nn.Module, samples: Sequence[Sample]) -> ConfusionMatrix:
    """Segment at the camera's scale, as the pipeline does, and count at label resolution."""
    model.eval()
    geometry = Geometry(stride=Segmenter.stride, max_pixels=1 << 30)
    matrix = ConfusionMatrix(len(CAMVID))
    for sample in samples:
        height, width = sample.labels.shape
        rows, columns = geometry.network_size(height, width)
        image = cv2.resize(sample.image, (columns, rows), interpolation=cv2.INTER_LINEAR)
        logits = model(torch.from_numpy(image).permute(2, 0, 1)[None].float()).logits
        logits = F.interpolate(logits, size=(height, width), mode='bilinear')
        matrix.update(sample.labels, logits[0].argmax(dim=0).numpy().astype(np.uint8))
    return matrix


def learning_rate_factor(step: int, recipe: Recipe) -> float:
    """Return the factor of the learning rate: linear warm-up, then cosine to zero."""
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    progress = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def make_optimizer(model: Segmenter, recipe: Recipe) -> torch.optim.Optimizer:
    """Return AdamW; the pretrained encoder learns more slowly, norms and biases do not decay."""
    groups = []
    for module, factor in (
        (model.encoder, recipe.encoder_rate),
        (model.decoder, 1.0),
        (model.classifier, 1.0),
    ):
        for decays in (True, False):
            parameters = [p for p in module.parameters() if (p.ndim > 1) == decays]
            decay = recipe.weight_decay if decays else 0.0
            rate = recipe.learning_rate * factor
            groups.append({'params': parameters, 'lr': rate, 'weight_decay': decay})
    return torch.optim.AdamW(groups)


def train(recipe: Recipe, data: Path, out: Path, init: Path | None = None) -> Path:
    """Train ``recipe`` on ``data``; return the best checkpoint, ``out/best.pt``.

    ``init`` is a checkpoint to start from; without it the encoder starts from ImageNet.

    A run that was cut short continues from ``out/last.pt``. ``out/log.jsonl`` has a line for each
    validation.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    pools, val = load_pools(recipe, data, out)
    weights = target_weights(pools[0].samples, recipe)
    table = target_table()
    model = Segmenter(len(CAMVID))
    origin = 'ImageNet'
    if init is None:
        model.encoder.load_imagenet()
    else:
        first = torch.load(init, weights_only=True)
        model.load_state_dict(first['weights'])
        origin = f'{first["recipe"]["name"]}, step {first["val"]["step"]}'
    model = model.to(memory_format=torch.channels_last)
    optimizer = make_optimizer(model, recipe)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(step, recipe)
    )
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema), use_buffers=True)
    start, best = 0, -1.0
    last = out / 'last.pt'
    if last.exists():
        state = torch.load(last, weights_only=True)
        for part, key in ((model, 'model'), (optimizer, 'optimizer'), (average, 'average')):
            part.load_state_dict(state[key])
        schedule.load_state_dict(state['schedule'])
        start, best = state['step'], state['best']
    end = recipe.stop_after or recipe.steps
    progress = tqdm(range(start, end), initial=start, total=end, unit='step', mininterval=2.0)
    losses = []
    for step in progress:
        # Seeds per step: a resumed run draws the batches and drops what an uncut one would.
        torch.manual_seed(recipe.seed * 1_000_003 + step)
        images, targets = draw_batch(pools, recipe, np.random.default_rng([recipe.seed, step]))
        model.train()
        with torch.autocast('cpu', dtype=torch.bfloat16):
            logits = model(images).logits
        # Half resolution: a quarter of the cost; thin classes still keep their pixels.
        logits = F.interpolate(logits.float(), scale_factor=2.0, mode='bilinear')
        loss = superset_cross_entropy(logits, targets[:, ::2, ::2], table, weights)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        average.update_parameters(model)
        losses.append(float(loss.detach()))
        progress.set_postfix(loss=f'{np.mean(losses[-100:]):.3f}', best=f'{best:.4f}')
        if (step + 1) % recipe.validate_every == 0 or step + 1 == end:
            matrix = validate(average.module, val)
            row = {
                'step': step + 1,
                'loss': round(float(np.mean(losses[-recipe.validate_every :])), 4),
                'miou': round(matrix.miou(), 4),
                'accuracy': round(matrix.accuracy(), 4),
                'iou': [round(float(v), 3) for v in matrix.iou()],
            }
            with (out / 'log.jsonl').open('a', encoding='utf-8') as log:
                log.write(json.dumps(row) + '\n')
            if row['miou'] > best:
                best = row['miou']
                checkpoint = {
                    'weights': average.module.state_dict(),
                    'recipe': asdict(recipe),
                    'origin': origin,
                    'val': row,
                }
                torch.save(checkpoint, out / 'best.pt')
            torch.save(
                {
                    'model': model.state_dict(),
                    'optimizer': optimizer.state_dict(),
                    'average': average.state_dict(),
                    'schedule': schedule.state_dict(),
                    'step': step + 1,
                    'best': best,
                },
                last,
            )
    return out / 'best.pt'
