# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Run the novelty graph of a bundle on the embedding of a frame."""

from __future__ import annotations

from dataclasses import astuple
from dataclasses import dataclass
from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np

from seg_uncertainty_ros.bundle import NOVELTY
from seg_uncertainty_ros.errors import SegUncertaintyError
from seg_uncertainty_ros.novelty.q_emd import q_emd
from seg_uncertainty_ros.runtime.onnx_runtime import OnnxRuntime
from seg_uncertainty_ros.runtime.onnx_runtime import open_session
from seg_uncertainty_ros.structured_text import TextError
from seg_uncertainty_ros.structured_text import parse_json
from seg_uncertainty_ros.structured_text import shown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike
    from numpy.typing import NDArray

    from seg_uncertainty_ros.bundle import Bundle

INPUT, OUTPUT = 'embedding', 'metrics'
HELD_OUT = 'held_out'
"""Key of the graph's metadata: JSON, two lists of rows of metrics of drives not trained on."""
PATTERN = 'embedding_of_pattern'
"""Another: JSON, ``pattern_embedding`` of the network that the graph was fitted to."""
TOLERANCE = 0.01
"""Rounding that it is recognised despite, as a share of the largest number."""


class NoveltyError(SegUncertaintyError):
    """A novelty graph, or an embedding for it, cannot be used; names which and the value."""


@dataclass(frozen=True)
class NoveltyMetrics:
    """Novelty of a frame, all >= 0; the larger, the less the autoencoder knows it.

    All but the last are distances to the nearest frame n of the training drives in the latent
    space, where a frame t is the normal distribution N(mu, sigma^2). Equations of the chapter on
    latent spaces of variational autoencoders in Deep Neural Networks and Data for Automated
    Driving, Springer 2022.

    cosine:         1 - the cosine of mu_t and mu_n (3), 0..2.
    euclidean:      |mu_t - mu_n| (4).
    manhattan:      sum |mu_t - mu_n| (5).
    z_score:        sum ((z_t - mu_n) / sigma_n)^2 (6). The book draws z_t from N(mu_t, sigma_t^2);
                    this is the mean over all draws, ((mu_t - mu_n)^2 + sigma_t^2) / sigma_n^2.
    bhattacharyya:  (7).
    reconstruction: |x - x'| (8), x the embedding, of which each dimension is standardised, and x'
                    what the autoencoder makes of mu_t.
    """

    cosine: float
    euclidean: float
    manhattan: float
    z_score: float
    bhattacharyya: float
    reconstruction: float


METRICS = tuple(field.name for field in fields(NoveltyMetrics))


class Novelty:
    """A bundle's novelty graph.

    held_out: two arrays (n, 6), metrics of known drives that the graph was not trained on.

    Raises:
        NoveltyError: the bundle has no such graph, or it belongs to another network.
        GraphError: ONNX Runtime refuses a graph of the bundle.

    """

    def __init__(self, bundle: Bundle) -> None:
        if bundle.novelty is None:
            msg = f'{bundle.path}: no {NOVELTY}: seg-uncertainty fit-novelty makes one'
            raise NoveltyError(msg)
        self.path = bundle.novelty
        # A single thread: waking a second one takes longer than the graph.
        self._session = open_session(str(self.path), self.path, threads=1)
        pattern = pattern_embedding(bundle)
        self.size = pattern.size
        self._check_interface()
        self._check_network(pattern)
        self.held_out = parse_held_out(self._metadata(HELD_OUT), self.path)

    def measure(self, embedding: ArrayLike) -> NoveltyMetrics:
        """Return the metrics of one frame's embedding (D,).

        Raises:
            NoveltyError: another shape, or a number that is not finite.

        """
        try:
            vector = np.asarray(embedding, np.float32)
        except (TypeError, ValueError) as error:
            msg = f'embedding: {error}, expected numbers ({self.size},)'
            raise NoveltyError(msg) from None
        if vector.shape != (self.size,):
            msg = f'embedding: shape {vector.shape}, expected ({self.size},)'
            raise NoveltyError(msg)
        if not np.isfinite(vector).all():
            index = int(np.flatnonzero(~np.isfinite(vector))[0])
            msg = f'embedding: {vector[index]} at {index}, expected finite numbers'
            raise NoveltyError(msg)
        return NoveltyMetrics(*self._session.run([OUTPUT], {INPUT: vector})[0].tolist())

    def q_emd(self, frames: Sequence[NoveltyMetrics]) -> NoveltyMetrics:
        """Return Q_EMD of each metric: these frames against the held-out known drives.

        Raises:
            ScoresError: no frames.

        """
        rows = np.array([astuple(frame) for frame in frames]).reshape(-1, len(METRICS))
        columns = (*(part.T for part in self.held_out), rows.T)
        return NoveltyMetrics(*(q_emd(*scores) for scores in zip(*columns, strict=True)))

    def _check_interface(self) -> None:
        found = [
            [(value.name, value.type, value.shape) for value in values]
            for values in (self._session.get_inputs(), self._session.get_outputs())
        ]
        expected = [
            [(INPUT, 'tensor(float)', [self.size])],
            [(OUTPUT, 'tensor(float)', [len(METRICS)])],
        ]
        for what, given, wanted in zip(('inputs', 'outputs'), found, expected, strict=True):
            if given != wanted:
                msg = f'{self.path}: {what} {given}, expected {wanted}'
                raise NoveltyError(msg)

    def _check_network(self, pattern: NDArray[np.float32]) -> None:
        kept = parse_embedding(self._metadata(PATTERN), self.size, self.path)
        difference = float(np.abs(kept - pattern).max())
        bound = TOLERANCE * float(np.abs(pattern).max())
        if not difference <= bound:
            msg = f'{self.path}: fitted to another network: the embedding of a pattern differs by '
            msg += f'{difference:.3g}, expected at most {bound:.3g}; run fit-novelty again'
            raise NoveltyError(msg)

    def _metadata(self, key: str) -> str:
        return self._session.get_modelmeta().custom_metadata_map.get(key, 'null')


def parse_embedding(text: str, size: int, path: Path) -> NDArray[np.float64]:
    """Return the embedding (size,) that a graph's metadata hold; raises NoveltyError."""
    try:
        return np.asarray(parse_json(text), np.float64).reshape(size)
    except (TextError, TypeError, ValueError) as error:
        msg = f'{path}: metadata {PATTERN}: {shown(str(error))}, expected ({size},)'
        raise NoveltyError(msg) from error


def parse_held_out(text: str, path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the two tables (n, 6) that a graph's metadata hold; raises NoveltyError."""
    try:
        first, second = (np.asarray(part, np.float64) for part in parse_json(text))
    except (TextError, TypeError, ValueError) as error:
        msg = f'{path}: metadata {HELD_OUT}: {shown(str(error))}, expected two tables'
        raise NoveltyError(msg) from error
    for array in (first, second):
        table = array.ndim == 2 and array.shape[1] == len(METRICS)
        if not table or not array.size or not np.isfinite(array).all():
            msg = f'{path}: metadata {HELD_OUT}: shape {array.shape}, expected finite '
            msg += f'(n, {len(METRICS)})'
            raise NoveltyError(msg)
    return first, second


def pattern_embedding(bundle: Bundle) -> NDArray[np.float32]:
    """Return the network's embedding (D,) of a fixed pattern, by which it is recognised.

    A digest of the file would not do: another temperature or scale of a score changes it, and
    leaves the embedding as it is.
    """
    rows, columns = bundle.geometry.size or (4 * bundle.geometry.stride,) * 2
    values = np.arange(rows * columns * 3) ** 2 % 251
    pattern = values.astype(np.uint8).reshape(rows, columns, 3)
    return OnnxRuntime(bundle, threads=1).run(pattern, 0).embedding
