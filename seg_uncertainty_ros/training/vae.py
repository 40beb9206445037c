# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A variational autoencoder of the embedding, and the graph of its novelty metrics.

On embeddings, as the book's conclusion proposes, not on images: an autoencoder of 64x32 images
reconstructs dark, blurred and hazy frames better than known ones.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from seg_uncertainty_ros.bundle import NOVELTY
from seg_uncertainty_ros.errors import SegUncertaintyError
from seg_uncertainty_ros.network.export import OPSET
from seg_uncertainty_ros.network.export import drop_traces
from seg_uncertainty_ros.network.export import drop_unused_initializers
from seg_uncertainty_ros.novelty.measure import HELD_OUT
from seg_uncertainty_ros.novelty.measure import INPUT
from seg_uncertainty_ros.novelty.measure import METRICS
from seg_uncertainty_ros.novelty.measure import OUTPUT
from seg_uncertainty_ros.novelty.measure import PATTERN
from seg_uncertainty_ros.novelty.measure import pattern_embedding
from seg_uncertainty_ros.shift.domain import cover
from seg_uncertainty_ros.shift.gaussian import scale_weight

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from seg_uncertainty_ros.bundle import Bundle

MIN_FRAMES = 32
MIN_HELD_OUT = 16
MAX_NEIGHBOURS = 512
"""Training frames that the nearest is searched among; of more, those that leave none far away."""
MAX_KEPT = 256
"""Held-out frames in each part of the graph's metadata."""
MAX_SCALES = 1e4
"""Standardised embeddings are clipped there, so that metrics of absurd ones stay finite."""


class NoveltyFitError(SegUncertaintyError):
    """An autoencoder cannot be fitted to these embeddings; names the drives and the count."""


@dataclass(frozen=True)
class VaeRecipe:
    """How the autoencoder is trained; ``beta`` weighs the divergence, 1 is the plain VAE.

    Latent dimensions and steps are those of the smallest loss on a day drive of CamVid that was
    held out: 235, and 244 of 12 and 400; 16 to 32 dimensions and 600 steps are as good. The book's
    beta of 10.5 raises it; a discrete part beside the latent space (JointVAE) leaves the error.
    """

    latent: int = 24
    hidden: int = 128
    beta: float = 1.0
    steps: int = 800
    batch: int = 64
    learning_rate: float = 2e-3
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Drive:
    """A drive's name and its embeddings (n, D) in order of time."""

    name: str
    embeddings: NDArray[np.float32]


class Vae(nn.Module):
    """Encoder (n, D) -> mean and log variance (n, d) of the latent normal; decoder back."""

    def __init__(self, size: int, latent: int, hidden: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(size, hidden), nn.SiLU(), nn.Linear(hidden, 2 * latent)
        )
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.SiLU(), nn.Linear(hidden, size))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance; the latter bounded, as it is exponentiated."""
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        return mean, log_variance.clamp(-12.0, 6.0)

    def loss(self, x: Tensor, noise: Tensor, beta: float) -> Tensor:
        """Return the negative objective of the beta-VAE, the decoder's deviation being 1.

        |x - x'|^2 / 2 + beta KL(N(mu, sigma^2) || N(0, I)), the mean over the batch (Kingma and
        Welling, ICLR 2014, appendix B; Higgins et al., ICLR 2017, eq. (4)).
        """
        mean, log_variance = self.encode(x)
        decoded = self.decoder(mean + noise * torch.exp(log_variance / 2))
        error = F.mse_loss(decoded, x, reduction='sum') / 2
        divergence = (mean**2 + log_variance.exp() - log_variance - 1).sum() / 2
        return (error + beta * divergence) / len(x)


class NoveltyGraph(nn.Module):
    """From an embedding (D,) to the metrics (6,) in the order of METRICS.

    Args:
        vae: trained on standardised embeddings.
        centre: (D,), and ``weight`` (D,), that standardise an embedding.
        rows: (n, D), embeddings that it was trained on.

    """

    def __init__(self, vae: Vae, centre: Tensor, weight: Tensor, rows: Tensor) -> None:
        super().__init__()
        self.vae = vae
        self.register_buffer('centre', centre)
        self.register_buffer('weight', weight)
        with torch.no_grad():
            mean, log_variance = vae.encode(self._standardise(rows))
        chosen = torch.from_numpy(cover(mean.numpy(), MAX_NEIGHBOURS))
        self.register_buffer('mean', mean[chosen])
        self.register_buffer('direction', F.normalize(mean[chosen]))
        self.register_buffer('variance', log_variance[chosen].exp())
        self.register_buffer('precision', 1 / self.variance)
        self.register_buffer('log_variance', log_variance[chosen].sum(dim=1))

    def forward(self, embedding: Tensor) -> Tensor:
        """Return cosine, Euclidean, Manhattan, z-score, Bhattacharyya, reconstruction error."""
        x = self._standardise(embedding[None])
        mean, log_variance = self.vae.encode(x)
        variance = log_variance.exp()
        difference = mean - self.mean
        squares = difference * difference
        total = self.variance + variance
        # (7) with a/b + b/a + 2 = (a + b)^2 / (a b).
        overlap = (torch.log(total / 2) + squares / total / 2).sum(dim=1) / 2
        distances = (
            1 - F.linear(F.normalize(mean), self.direction)[0],
            squares.sum(dim=1).sqrt(),
            difference.abs().sum(dim=1),
            ((squares + variance) * self.precision).sum(dim=1),
            overlap - (self.log_variance + log_variance.sum()) / 4,
        )
        # Rounding makes small negative numbers of 0.
        nearest = torch.stack(distances).amin(dim=1).clamp_min(0.0)
        error = (x - self.vae.decoder(mean)).norm(dim=1)
        return torch.cat([nearest, error])

    def _standardise(self, embedding: Tensor) -> Tensor:
        return ((embedding - self.centre) * self.weight).clamp(-MAX_SCALES, MAX_SCALES)


def train_vae(rows: Tensor, recipe: VaeRecipe, *, progress: bool = False) -> Vae:
    """Train on standardised embeddings (n, D); the same recipe gives the same autoencoder."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        vae = Vae(rows.shape[1], recipe.latent, recipe.hidden)
        optimizer = torch.optim.Adam(vae.parameters(), lr=recipe.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.steps)
        for _ in tqdm(range(recipe.steps), desc='autoencoder', disable=not progress):
            x = rows[torch.randint(len(rows), (recipe.batch,))]
            loss = vae.loss(x, torch.randn(recipe.batch, recipe.latent), recipe.beta)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return vae.eval().requires_grad_(requires_grad=False)


def fit_graph(
    drives: Sequence[NDArray[np.floating]], recipe: VaeRecipe, *, progress: bool = False
) -> NoveltyGraph:
    """Train on the embeddings (n_i, D) of drives and return the graph of the metrics.

    Raises:
        NoveltyFitError: too few frames, other than numbers, or of different sizes.
        ReferenceError: embeddings that never change.

    """
    rows = _pooled('drives', drives, MIN_FRAMES)
    centre = np.median(rows, axis=0)
    weight = scale_weight([rows])
    tensors = [torch.from_numpy(a.astype(np.float32)) for a in (centre, weight, rows)]
    standardised = (tensors[2] - tensors[0]) * tensors[1]
    return NoveltyGraph(train_vae(standardised, recipe, progress=progress), *tensors).eval()


@torch.no_grad()
def measure(graph: NoveltyGraph, rows: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the metrics (n, 6) of embeddings (n, D)."""
    return torch.stack([graph(row) for row in torch.from_numpy(rows.astype(np.float32))]).numpy()


def halves(
    drives: Sequence[NDArray[np.floating]],
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Split held-out drives in two, D_val0 and D_val1; a single one in time."""
    if len(drives) == 1:
        middle = len(drives[0]) // 2
        return drives[0][:middle], drives[0][middle:]
    return np.concatenate(drives[::2]), np.concatenate(drives[1::2])


def export(graph: NoveltyGraph, path: Path, metadata: Mapping[str, object]) -> None:
    """Write the graph, with JSON of each value in its metadata."""
    torch.onnx.export(
        graph,
        (torch.zeros(graph.centre.shape),),
        str(path),
        input_names=[INPUT],
        output_names=[OUTPUT],
        opset_version=OPSET,
        external_data=False,
        dynamo=True,
        verbose=False,
    )
    model = onnx.load(path)
    drop_unused_initializers(model)
    drop_traces(model)
    texts = {key: json.dumps(value) for key, value in metadata.items()}
    onnx.helper.set_model_props(model, texts)
    onnx.save(model, path)


def fit_novelty(
    bundle: Bundle,
    drives: Sequence[Drive],
    held_out: Sequence[Drive],
    recipe: VaeRecipe,
    out: Path,
) -> Bundle:
    """Write a copy of the bundle, with a novelty graph, to the directory ``out``.

    Args:
        bundle: whose embeddings these are; it may have a graph already.
        drives: to train on.
        held_out: others, which say what is usual on drives not trained on.
        recipe: of the autoencoder.
        out: an empty directory.

    Raises:
        NoveltyFitError: too few frames, other than numbers, or of different sizes.

    """
    if bundle.reference is None:
        msg = f'{bundle.path}: no reference, which the graph belongs to'
        raise NoveltyFitError(msg)
    known = [drive.embeddings for drive in held_out]
    pattern = pattern_embedding(bundle)
    if (size := _pooled('held-out drives', known, MIN_HELD_OUT).shape[1]) != pattern.size:
        msg = f'held-out drives: {size} numbers a frame, the bundle has {pattern.size}'
        raise NoveltyFitError(msg)
    graph = fit_graph([drive.embeddings for drive in drives], recipe, progress=True)
    if graph.centre.shape != (size,):
        msg = f'drives: {len(graph.centre)} numbers a frame, the bundle has {size}'
        raise NoveltyFitError(msg)
    held_out_metrics = [_rounded(_thinned(measure(graph, part))) for part in halves(known)]
    metadata = {HELD_OUT: held_out_metrics, PATTERN: _rounded(pattern)}
    bundle.copy_files(out)
    export(graph, out / NOVELTY, metadata)
    provenance = {
        'drives': [{'name': drive.name, 'frames': len(drive.embeddings)} for drive in drives],
        'held_out': [{'name': drive.name, 'frames': len(drive.embeddings)} for drive in held_out],
        'metrics': list(METRICS),
        'recipe': asdict(recipe),
        'torch': torch.__version__,
    }
    provenance = {**bundle.provenance, 'novelty': provenance}
    return replace(bundle, path=out, provenance=provenance).write()


def _pooled(what: str, drives: Sequence[NDArray[np.floating]], least: int) -> NDArray[np.float64]:
    shapes = sorted({np.shape(rows)[1:] for rows in drives})
    if len(shapes) > 1 or any(len(shape) != 1 for shape in shapes):
        msg = f'{what}: shapes {shapes} of a frame, expected one (D,)'
        raise NoveltyFitError(msg)
    frames = [len(rows) for rows in drives]
    if sum(frames) < least or 0 in frames:
        msg = f'{what}: {sum(frames)} frames, expected at least {least}, some of each: {frames}'
        raise NoveltyFitError(msg)
    rows = np.concatenate(drives).astype(np.float64)
    if not np.isfinite(rows).all():
        frame = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
        value = rows[frame][~np.isfinite(rows[frame])][0]
        msg = f'{what}: {value} in frame {frame}, expected finite embeddings'
        raise NoveltyFitError(msg)
    return rows


def _thinned(rows: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return at most MAX_KEPT rows, evenly taken."""
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), MAX_KEPT)).astype(int)]


def _rounded(values: NDArray[np.floating]) -> list:
    """Return five digits of each number, nested as in the array: text of a bounded size."""
    return np.vectorize(lambda value: float(f'{value:.5g}'))(values).tolist()
