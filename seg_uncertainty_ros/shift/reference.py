# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""In-distribution statistics of the embedding and the distance of a window mean to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from typing import NamedTuple
from zipfile import BadZipFile
from zlib import error as ZlibError

import numpy as np

from seg_uncertainty_ros.errors import SegUncertaintyError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike
    from numpy.typing import NDArray

FORMAT = 1
MIN_FRAMES = 8
MAX_FOLDS = 8


class ReferenceError(SegUncertaintyError):  # noqa: A001, the name of what is wrong
    """Reference statistics that cannot be used; the message names the key and the value."""


class Gaussian(NamedTuple):
    """A Gaussian in standardised coordinates: ``variances`` along ``basis``, else ``residual``."""

    mean: NDArray[np.float64]
    basis: NDArray[np.float64]
    variances: NDArray[np.float64]
    residual: float


@dataclass(frozen=True, eq=False)
class Reference:
    """Gaussians of the embedding in K domains, and how far in-distribution window means lie.

    names:      K domain names.
    weight:     (D,), 1 / scale of each dimension, 0 for dimensions that never change.
    mean:       (K, D), in units of the embedding.
    basis:      (K, D, k), orthonormal principal directions of the standardised embedding;
                a domain with fewer directions than k has zero columns.
    variances:  (K, k), shrunk variances along the directions.
    residual:   (K,), variance of every other direction (probabilistic PCA, Tipping and Bishop,
                1999, eq. (8); the eigenvalues are shrunk as in Ledoit and Wolf, 2004).
    baseline:   (K,), high quantile of the squared Mahalanobis distance of held-out window means.
    window:     (K,), frames per window behind ``baseline``.
    frames:     (K,), frames behind the Gaussian.
    """

    names: tuple[str, ...]
    weight: NDArray[np.float32]
    mean: NDArray[np.float32]
    basis: NDArray[np.float32]
    variances: NDArray[np.float32]
    residual: NDArray[np.float32]
    baseline: NDArray[np.float32]
    window: NDArray[np.int32]
    frames: NDArray[np.int32]

    def __post_init__(self) -> None:
        """Check names, shapes, and that every number is finite and has the right sign."""
        domains, size, kept = len(self.names), np.size(self.weight), np.shape(self.variances)[-1:]
        if not domains or not all(self.names) or len(set(self.names)) != domains:
            msg = f'names: {list(self.names)!r}, expected one or more different domain names'
            raise ReferenceError(msg)
        shapes: dict[str, tuple[int, ...]] = {
            'weight': (size,),
            'mean': (domains, size),
            'basis': (domains, size, *kept),
            'variances': (domains, *kept),
            'residual': (domains,),
            'baseline': (domains,),
            'window': (domains,),
            'frames': (domains,),
        }
        for key, shape in shapes.items():
            kind = np.int32 if key in {'window', 'frames'} else np.float32
            array = _as_kind(key, getattr(self, key), kind)
            if array.shape != shape or not size:
                msg = f'{key}: shape {array.shape}, expected {shape}'
                raise ReferenceError(msg)
            if not np.isfinite(array).all():
                msg = f'{key}: {array[~np.isfinite(array)][0]}, expected finite numbers'
                raise ReferenceError(msg)
            if key not in {'mean', 'basis', 'weight'} and (array <= 0).any():
                msg = f'{key}: {array[array <= 0][0]}, expected positive numbers'
                raise ReferenceError(msg)
            object.__setattr__(self, key, array)
        if (self.weight < 0).any() or not self.weight.any():
            msg = (
                f'weight: from {self.weight.min()} to {self.weight.max()}, expected >= 0, some > 0'
            )
            raise ReferenceError(msg)

    @property
    def size(self) -> int:
        """Number D of dimensions of the embedding."""
        return int(self.weight.size)

    def distances(self, window: ArrayLike) -> NDArray[np.float64]:
        """Return squared Mahalanobis distances (K,) of a mean (D,) or of a window (n, D)."""
        vector = np.asarray(window, np.float64)
        vector = vector.mean(axis=0) if vector.ndim == 2 else vector
        if vector.shape != (self.size,):
            msg = f'embedding: shape {vector.shape}, expected ({self.size},)'
            raise ReferenceError(msg)
        if not np.isfinite(vector).all():
            msg = f'embedding: {vector[~np.isfinite(vector)][0]}, expected finite numbers'
            raise ReferenceError(msg)
        centred = (vector - self.mean) * self.weight
        along = np.matmul(centred[:, None, :], self.basis)[:, 0, :]
        return mahalanobis(centred, along, self.variances, self.residual)

    def measure(self, window: ArrayLike) -> tuple[float, str]:
        """Return the distance over its bound, and the name, of the nearest domain.

        Nearest by distance, not by ratio: a domain of few drives has a loose bound, which must
        not excuse what lies far outside of the domain that it resembles most.
        """
        distances = self.distances(window)
        nearest = int(distances.argmin())
        return float(distances[nearest] / self.baseline[nearest]), self.names[nearest]

    def distance(self, window: ArrayLike) -> float:
        """Distance to the nearest domain of a mean (D,) or a window (n, D).

        1.0 is the in-distribution bound: the chosen quantile of window means of held-out drives.
        """
        return self.measure(window)[0]

    def nearest(self, window: ArrayLike) -> str:
        """Name of the nearest domain."""
        return self.measure(window)[1]

    @classmethod
    def fit(
        cls,
        drives: Mapping[str, Sequence[NDArray[np.floating]]],
        *,
        window: int | Mapping[str, int],
        components: int = 32,
        quantile: float = 0.99,
    ) -> Reference:
        """Fit from domain -> drives, each (n_i, D) in time order.

        ``window`` is the number of frames in a window at the rate of the drives, one for all
        domains or by domain. Use 1 where the frames are independent images: a window of a real
        drive shows one place, so one image stands for it, and averaging unrelated images would
        make the bound far too tight.
        """
        if not drives:
            msg = 'drives: none, expected one or more domains'
            raise ReferenceError(msg)
        if not 0.0 < quantile < 1.0:
            msg = f'quantile: {quantile}, expected between 0 and 1'
            raise ReferenceError(msg)
        if components < 1:
            msg = f'components: {components}, expected at least 1'
            raise ReferenceError(msg)
        if isinstance(window, Mapping) and (missing := set(drives) - set(window)):
            msg = f'window: nothing for {min(missing)}, expected frames for each domain'
            raise ReferenceError(msg)
        windows = dict(window) if isinstance(window, Mapping) else dict.fromkeys(drives, window)
        checked = _check_drives(drives, windows)
        weight = scale_weight([np.concatenate(arrays) for arrays in checked.values()])
        gaussians, baselines = [], []
        for name, arrays in checked.items():
            rows = [array * weight for array in arrays]
            gaussians.append(fit_gaussian(np.concatenate(rows), components, windows[name]))
            distances = _held_out(rows, components, windows[name])
            baselines.append(np.quantile(np.concatenate(distances), quantile))
        kept = max(gaussian.variances.size for gaussian in gaussians)
        unscale = np.divide(1.0, weight, out=np.zeros_like(weight), where=weight > 0)
        constant = weight == 0
        return cls(
            names=tuple(checked),
            weight=weight,
            mean=np.stack(
                [
                    np.where(constant, np.concatenate(arrays).mean(axis=0), fit.mean * unscale)
                    for fit, arrays in zip(gaussians, checked.values(), strict=True)
                ]
            ),
            basis=np.stack([_pad(fit.basis, kept, 0.0) for fit in gaussians]),
            variances=np.stack([_pad(fit.variances, kept, 1.0) for fit in gaussians]),
            residual=np.array([fit.residual for fit in gaussians]),
            baseline=np.array(baselines),
            window=np.array([windows[name] for name in checked]),
            frames=np.array([sum(map(len, arrays)) for arrays in checked.values()]),
        )

    def save(self, path: Path) -> None:
        """Write to an .npz file, float32, without pickle."""
        with path.open('wb') as file:
            np.savez_compressed(
                file,
                format=np.int32(FORMAT),
                names=np.array(self.names, np.str_),
                **{key: getattr(self, key) for key in _ARRAYS},
            )

    @classmethod
    def load(cls, path: Path) -> Reference:
        """Read what ``save`` wrote; raise ReferenceError naming path, key and value."""
        try:
            with path.open('rb') as file:
                archive = np.load(file, allow_pickle=False)
                if isinstance(archive, np.ndarray):
                    msg = f'{path}: not an .npz archive'
                    raise ReferenceError(msg)
                if missing := {'format', 'names', *_ARRAYS} - set(archive.files):
                    msg = f'{path}: {min(missing)}: missing'
                    raise ReferenceError(msg)
                arrays = {key: archive[key] for key in ('format', 'names', *_ARRAYS)}
        except (OSError, EOFError, ValueError, KeyError, BadZipFile, ZlibError) as err:
            msg = f'{path}: cannot be read: {err}'
            raise ReferenceError(msg) from err
        version, names = arrays.pop('format'), arrays.pop('names')
        if version.shape != () or version != FORMAT:
            msg = f'{path}: format: {version}, expected {FORMAT}'
            raise ReferenceError(msg)
        if names.ndim != 1 or names.dtype.kind != 'U':
            msg = f'{path}: names: {names.dtype} of shape {names.shape}, expected a list of text'
            raise ReferenceError(msg)
        try:
            return cls(names=tuple(names.tolist()), **arrays)
        except ReferenceError as err:
            msg = f'{path}: {err}'
            raise ReferenceError(msg) from None


_ARRAYS = (
    'weight',
    'mean',
    'basis',
    'variances',
    'residual',
    'baseline',
    'window',
    'frames',
)


def _as_kind(key: str, value: ArrayLike, kind: type[np.generic]) -> NDArray[np.generic]:
    array = np.asarray(value)
    if array.dtype.kind not in 'fiu':
        msg = f'{key}: {array.dtype}, expected numbers'
        raise ReferenceError(msg)
    with np.errstate(over='ignore', invalid='ignore'):
        return array.astype(kind)


def _check_drives(
    drives: Mapping[str, Sequence[NDArray[np.floating]]],
    windows: Mapping[str, int],
) -> dict[str, list[NDArray[np.float64]]]:
    checked = {}
    size = None
    for name, arrays in drives.items():
        if windows[name] < 1:
            msg = f'window: {windows[name]} for {name}, expected at least 1 frame'
            raise ReferenceError(msg)
        checked[name] = [np.asarray(array, np.float64) for array in arrays]
        for index, array in enumerate(checked[name]):
            if array.ndim != 2 or 0 in array.shape or size not in {None, array.shape[1]}:
                msg = f'{name}: drive {index}: shape {array.shape}, expected (n, {size or "D"})'
                raise ReferenceError(msg)
            if not np.isfinite(array).all():
                msg = f'{name}: drive {index}: {array[~np.isfinite(array)][0]}, expected finite'
                raise ReferenceError(msg)
            size = array.shape[1]
        if (count := sum(map(len, checked[name]))) < MIN_FRAMES:
            msg = f'{name}: {count} frames, expected at least {MIN_FRAMES}'
            raise ReferenceError(msg)
    return checked


def scale_weight(domains: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return 1 / scale (D,) from the deviations inside the domains.

    The scale is 1.4826 MAD, and at least a quarter of the standard deviation, so that neither a
    few odd frames nor a channel that is nearly always 0 decides. A dimension that moves less than
    float32 resolves gets weight 0: it says nothing and must not blow up.
    """
    rows = np.concatenate([rows - np.median(rows, axis=0) for rows in domains])
    largest = np.max([np.abs(rows).max(axis=0) for rows in domains], axis=0)
    scale = np.maximum(1.4826 * np.median(np.abs(rows), axis=0), 0.25 * rows.std(axis=0))
    lives = scale > 1e-6 * largest
    if not lives.any():
        msg = 'embedding: every dimension is constant, expected some that change'
        raise ReferenceError(msg)
    return np.divide(1.0, scale, out=np.zeros_like(scale), where=lives)


def fit_gaussian(rows: NDArray[np.float64], components: int, window: int) -> Gaussian:
    """Fit mean and shrunk covariance to standardised rows (n, D).

    Ledoit and Wolf (2004): S* = (1 - a) S + a mu I. The frames of one window show one place, so
    they count as one sample in the estimate of the shrinkage a.
    """
    count, size = rows.shape
    mean = rows.mean(axis=0)
    centred = rows - mean
    covariance = centred.T @ centred / count
    average = np.trace(covariance) / size
    error = ((centred**2).sum(axis=1) ** 2).sum() / count**2 - (covariance**2).sum() / count
    spread = (covariance**2).sum() - size * average**2
    shrinkage = min(1.0, window * error / spread) if spread > 0 else 1.0
    values, vectors = np.linalg.eigh(covariance)
    kept = min(components, count - 1, size - 1)
    shrunk = (1 - shrinkage) * np.maximum(values[::-1], 0.0) + shrinkage * average
    # A direction without any variance in few frames must not decide alone.
    shrunk = np.maximum(shrunk, 1e-3 * average + 1e-12)
    return Gaussian(mean, vectors[:, ::-1][:, :kept], shrunk[:kept], float(shrunk[kept:].mean()))


def mahalanobis(
    centred: NDArray[np.float64],
    along: NDArray[np.float64],
    variances: NDArray[np.floating],
    residual: NDArray[np.floating] | float,
) -> NDArray[np.float64]:
    """Squared distance (...) from centred (..., D) and its projections along (..., k)."""
    rest = np.maximum((centred**2).sum(axis=-1) - (along**2).sum(axis=-1), 0.0)
    return (along**2 / variances).sum(axis=-1) + rest / residual


def _window_means(rows: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Means (m, D) of all runs of ``window`` rows; of all rows where there are fewer."""
    window = min(window, len(rows))
    sums = np.concatenate([np.zeros((1, rows.shape[1])), rows.cumsum(axis=0)])
    return (sums[window:] - sums[:-window]) / window


def _folds(rows: Sequence[NDArray[np.float64]]) -> list[list[NDArray[np.float64]]]:
    """Split drives into parts to hold out: whole drives, or halves where one drive prevails."""
    total = sum(map(len, rows))
    if len(rows) < 2 or max(map(len, rows)) > 2 / 3 * total:
        halves = [np.array_split(array, 2) for array in rows]
        return [[pair[side] for pair in halves if len(pair[side])] for side in range(2)]
    folds: list[list[NDArray[np.float64]]] = [[] for _ in range(min(len(rows), MAX_FOLDS))]
    for array in sorted(rows, key=len, reverse=True):
        min(folds, key=lambda fold: sum(map(len, fold))).append(array)
    return folds


def _held_out(
    rows: Sequence[NDArray[np.float64]],
    components: int,
    window: int,
) -> list[NDArray[np.float64]]:
    """Squared distances of the window means of each fold to the Gaussian of all others.

    The covariance of a mean of n correlated frames is not Sigma / n, so the bound is measured.
    """
    folds = _folds(rows)
    distances = []
    for index, held_out in enumerate(folds):
        others = [array for fold in folds[:index] + folds[index + 1 :] for array in fold]
        gaussian = fit_gaussian(np.concatenate(others), components, window)
        for array in held_out:
            centred = _window_means(array, window) - gaussian.mean
            along = centred @ gaussian.basis
            distances.append(mahalanobis(centred, along, gaussian.variances, gaussian.residual))
    return distances


def _pad(array: NDArray[np.float64], size: int, value: float) -> NDArray[np.float64]:
    """Fill the last axis up to ``size``."""
    width = [(0, 0)] * (array.ndim - 1) + [(0, size - array.shape[-1])]
    return np.pad(array, width, constant_values=value)
