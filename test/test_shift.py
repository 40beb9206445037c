# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Window mean, scales and Gaussians of embeddings."""

from __future__ import annotations

import numpy as np
import pytest
from statistics_of_drives import random_drive

from seg_uncertainty_ros.shift.domain import Domain
from seg_uncertainty_ros.shift.gaussian import GaussianError
from seg_uncertainty_ros.shift.gaussian import fit_gaussian
from seg_uncertainty_ros.shift.gaussian import scale_weight
from seg_uncertainty_ros.shift.window import WindowMean

SECOND = 1_000_000_000


def test_window_mean_is_the_mean_of_the_last_seconds():
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(300, 7)).astype(np.float32)
    stamps = np.cumsum(rng.integers(10_000_000, 200_000_000, 300))
    window = WindowMean(2.0, min_frames=3)
    for index, (embedding, stamp) in enumerate(zip(embeddings, stamps, strict=True)):
        mean = window.update(embedding, int(stamp))
        inside = (stamps <= stamp) & (stamps > stamp - 2 * SECOND)
        assert window.count == inside.sum()
        if index < 2:
            assert mean is None
        else:
            np.testing.assert_allclose(mean, embeddings[inside].astype(float).mean(axis=0))


def test_window_mean_keeps_no_trace_of_a_huge_value():
    window = WindowMean(1.0, min_frames=1)
    window.update([1e300, 1.0], 0)
    for tenth in range(1, 30):
        mean = window.update([0.1, 1.0], tenth * SECOND // 10)
    np.testing.assert_allclose(mean, [0.1, 1.0], rtol=1e-12)


def test_window_mean_ignores_and_counts_non_finite_embeddings():
    window = WindowMean(1.0, min_frames=2)
    assert window.update([1.0, 2.0], 0) is None
    assert window.update([np.nan, 2.0], SECOND // 10) is None
    assert window.update([1.0, np.inf], SECOND // 10) is None
    np.testing.assert_array_equal(window.update([3.0, 4.0], SECOND // 5), [2.0, 3.0])
    assert window.ignored == 2
    # Time goes on without embeddings: what is too old leaves.
    assert window.update(None, 5 * SECOND) is None
    assert window.count == 0


def test_window_mean_starts_anew():
    window = WindowMean(1.0, min_frames=2)
    window.update([1.0], SECOND)
    assert window.update([1.0], SECOND + 1) is not None
    assert window.update([1.0], SECOND) is None, 'time went back'
    assert window.update([1.0], SECOND) is not None, 'a stamp that stands still is tolerated'
    window.reset()
    assert window.count == 0


def test_window_mean_is_bounded_where_stamps_stand_still():
    window = WindowMean(1.0, max_frames=10)
    for value in range(100):
        mean = window.update([float(value)], 0)
    assert window.count == 10
    assert mean == np.arange(90, 100).mean()


def test_distance_is_the_mahalanobis_distance():
    drives = [random_drive(seed, size=40, classes=5, seconds=60) for seed in range(4)]
    weight = np.linspace(0.5, 2.0, 40)
    domain = Domain.fit(drives, weight, window=4)
    basis, residual = domain.basis.astype(float), float(domain.residual)
    covariance = residual * np.eye(40) + basis @ np.diag(domain.variances - residual) @ basis.T
    vector = drives[0][7].embedding + 1.0
    centred = (vector - domain.mean) * weight
    expected = np.sqrt(centred @ np.linalg.inv(covariance) @ centred)
    whitened, distance = domain.project(vector, weight)
    assert distance == pytest.approx(expected, rel=1e-4)
    assert 0 < np.linalg.norm(whitened) < distance


def test_covariance_is_shrunk_towards_a_multiple_of_the_identity():
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(200, 30)) * np.linspace(1, 2, 30)
    fit = fit_gaussian(rows, 29, 1)
    # Ledoit and Wolf, 2004, with plain loops.
    centred = rows - rows.mean(axis=0)
    sample = centred.T @ centred / 200
    target = np.trace(sample) / 30 * np.eye(30)
    error = sum(((np.outer(row, row) - sample) ** 2).sum() for row in centred) / 200**2
    shrinkage = error / ((sample - target) ** 2).sum()
    assert 0 < shrinkage < 1
    values = np.linalg.eigvalsh((1 - shrinkage) * sample + shrinkage * target)[::-1]
    np.testing.assert_allclose(fit.variances, values[:29], rtol=1e-4)
    assert fit.residual == pytest.approx(values[29], rel=1e-4)


@pytest.mark.parametrize('size', [1, 2, 60])
def test_few_frames_or_dimensions(size):
    rows = np.random.default_rng(6).normal(size=(12, size))
    fit = fit_gaussian(rows, 32, 3)
    assert np.isfinite(fit.residual) or size == 1
    assert (fit.variances > 0).all()
    assert fit.basis.shape == (size, fit.variances.size)


def test_scales_follow_the_data_and_constant_dimensions_say_nothing():
    rng = np.random.default_rng(5)
    rows = np.hstack([rng.normal(size=(100, 5)), np.full((100, 2), 7.0), np.zeros((100, 1))])
    weight = scale_weight([rows[:50], rows[50:] + 3.0])
    assert (weight[:5] > 0).all()
    assert (weight[5:] == 0).all()
    factor = np.geomspace(1e4, 1e-4, 8)
    other = scale_weight([rows[:50] * factor, (rows[50:] + 3.0) * factor])
    np.testing.assert_allclose(other * factor, weight, rtol=1e-9)
    with pytest.raises(GaussianError, match='every dimension is constant'):
        scale_weight([np.ones((9, 2))])
