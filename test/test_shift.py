# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Window mean and reference statistics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from seg_uncertainty_ros.shift.reference import Reference
from seg_uncertainty_ros.shift.reference import ReferenceError  # noqa: A004
from seg_uncertainty_ros.shift.window import WindowMean

SECOND = 1_000_000_000
SCALE = np.geomspace(1e-3, 1e3, 40)


def drive(rng, count=200, shift=0.0, size=40):
    """Slowly changing embeddings of very different scales, correlated over time and dimension."""
    place = (
        np.cumsum(rng.normal(size=(count, 4)), axis=0) / np.sqrt(np.arange(1, count + 1))[:, None]
    )
    mixing = np.random.default_rng(1).normal(size=(4, size))
    return (place @ mixing + rng.normal(size=(count, size)) + shift + 3) * SCALE[:size]


@pytest.fixture(scope='module')
def drives():
    rng = np.random.default_rng(2)
    return {
        'town': [drive(rng) for _ in range(8)],
        'procedural': [drive(rng, shift=30.0) for _ in range(8)],
    }


@pytest.fixture(scope='module')
def reference(drives):
    return Reference.fit(drives, window=20, components=8)


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


def test_distance_is_the_mahalanobis_distance_over_the_baseline(reference, drives):
    vector = drives['town'][0][:20].mean(axis=0)
    expected = []
    for index in range(2):
        weight, basis = reference.weight.astype(float), reference.basis[index].astype(float)
        residual, variances = float(reference.residual[index]), reference.variances[index]
        covariance = residual * np.eye(40) + basis @ np.diag(variances - residual) @ basis.T
        centred = (vector - reference.mean[index]) * weight
        expected.append(centred @ np.linalg.inv(covariance) @ centred)
    np.testing.assert_allclose(reference.distances(vector), expected, rtol=1e-4)
    ratio = expected[0] / reference.baseline[0]
    assert reference.distance(vector) == pytest.approx(ratio, rel=1e-4)
    assert reference.distance(drives['town'][0][:20]) == pytest.approx(ratio, rel=1e-4)
    assert reference.nearest(vector) == 'town'


def test_a_loose_bound_excuses_nothing_that_is_nearer_to_another_domain(drives, reference):
    loose = replace(reference, baseline=reference.baseline * [1, 1e4])
    shifted = drives['town'][0][:20] + 3.0 * SCALE
    assert loose.nearest(shifted) == 'town'
    assert loose.distance(shifted) == reference.distance(shifted) > 1.5


def test_covariance_is_shrunk_towards_a_multiple_of_the_identity():
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(200, 30)) * np.linspace(1, 2, 30)
    fit = Reference.fit({'a': [rows]}, window=1, components=29)
    # Ledoit and Wolf, 2004, with plain loops.
    scaled = rows * fit.weight
    scaled -= scaled.mean(axis=0)
    sample = scaled.T @ scaled / 200
    target = np.trace(sample) / 30 * np.eye(30)
    error = sum(((np.outer(row, row) - sample) ** 2).sum() for row in scaled) / 200**2
    shrinkage = error / ((sample - target) ** 2).sum()
    assert 0 < shrinkage < 1
    values = np.linalg.eigvalsh((1 - shrinkage) * sample + shrinkage * target)[::-1]
    np.testing.assert_allclose(fit.variances[0], values[:29], rtol=1e-4)
    assert fit.residual[0] == pytest.approx(values[29], rel=1e-4)


def test_bound_holds_for_new_drives_and_a_shift_exceeds_it(reference):
    rng = np.random.default_rng(4)
    fresh = [drive(rng) for _ in range(10)]
    distances = np.array(
        [
            reference.distance(rows[start : start + 20])
            for rows in fresh
            for start in range(0, 180, 10)
        ]
    )
    assert (distances > 1).mean() < 0.08
    shifted = [reference.distance(drive(rng, shift=3.0)[:20]) for _ in range(10)]
    assert min(shifted) > 1.5 * distances.max()


def test_bound_is_wider_than_one_measured_on_the_data_of_the_fit(drives, reference):
    own = [
        reference.distance(rows[start : start + 20])
        for rows in drives['town']
        for start in range(181)
    ]
    assert np.quantile(own, 0.99) < 1.0


def test_scales_do_not_matter(drives, reference):
    factor = np.geomspace(1e4, 1e-4, 40)
    other = Reference.fit(
        {name: [rows * factor for rows in group] for name, group in drives.items()},
        window=20,
        components=8,
    )
    vector = drives['town'][3][40:60]
    assert other.distance(vector * factor) == pytest.approx(reference.distance(vector), rel=1e-3)


def test_constant_dimensions_do_not_explode():
    rng = np.random.default_rng(5)
    rows = np.hstack([rng.normal(size=(100, 5)), np.full((100, 2), 7.0), np.zeros((100, 1))])
    reference = Reference.fit({'a': [rows]}, window=5, components=4)
    vector = rows[:5].mean(axis=0)
    other = vector + np.array([0, 0, 0, 0, 0, 1e-3, 1e3, 1e-6])
    assert reference.distance(other) == pytest.approx(reference.distance(vector))
    np.testing.assert_allclose(reference.mean[0, 5:], [7.0, 7.0, 0.0])


@pytest.mark.parametrize('size', [1, 2, 60])
def test_few_frames_or_dimensions(size):
    rows = np.random.default_rng(6).normal(size=(12, size))
    reference = Reference.fit({'a': [rows]}, window=3)
    assert np.isfinite(reference.distance(rows[:3]))


def test_windows_by_domain(drives):
    reference = Reference.fit(drives, window={'town': 20, 'procedural': 1})
    assert reference.window.tolist() == [20, 1]
    assert reference.frames.tolist() == [1600, 1600]


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ({'drives': {}}, 'drives: none'),
        ({'drives': {'a': [np.zeros((3, 2))]}}, 'a: 3 frames, expected at least 8'),
        ({'drives': {'a': [np.zeros(9)]}}, r'a: drive 0: shape \(9,\)'),
        (
            {'drives': {'a': [np.eye(9), np.eye(8)]}},
            r'a: drive 1: shape \(8, 8\), expected \(n, 9\)',
        ),
        ({'drives': {'a': [np.full((9, 2), np.nan)]}}, 'a: drive 0: nan'),
        ({'drives': {'a': [np.ones((9, 2))]}}, 'every dimension is constant'),
        ({'window': 0}, 'window: 0 for a'),
        ({'window': {'b': 1}}, 'window: nothing for a'),
        ({'components': 0}, 'components: 0'),
        ({'quantile': 1.0}, 'quantile: 1.0'),
    ],
)
def test_fit_refuses(arguments, words):
    good = {'drives': {'a': [np.eye(9)]}, 'window': 1}
    with pytest.raises(ReferenceError, match=words):
        Reference.fit(**{**good, **arguments})


def test_distance_refuses(reference):
    with pytest.raises(ReferenceError, match=r'embedding: shape \(39,\), expected \(40,\)'):
        reference.distance(np.zeros(39))
    with pytest.raises(ReferenceError, match='embedding: nan'):
        reference.distance(np.full(40, np.nan))


def test_round_trip(reference, drives, tmp_path):
    reference.save(tmp_path / 'reference.npz')
    loaded = Reference.load(tmp_path / 'reference.npz')
    assert loaded.names == reference.names == ('town', 'procedural')
    for key in (
        'weight',
        'mean',
        'basis',
        'variances',
        'residual',
        'baseline',
        'window',
        'frames',
    ):
        np.testing.assert_array_equal(getattr(loaded, key), getattr(reference, key))
    vector = drives['procedural'][0][:20]
    assert loaded.measure(vector) == reference.measure(vector)
    assert loaded.nearest(vector) == 'procedural'


def test_file_is_small(tmp_path):
    rng = np.random.default_rng(7)
    drives = {name: [rng.normal(size=(60, 500)) for _ in range(2)] for name in 'abc'}
    Reference.fit(drives, window=5).save(tmp_path / 'reference.npz')
    assert (tmp_path / 'reference.npz').stat().st_size < 500_000


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'mean': None}, 'mean: missing'),
        ({'format': np.int32(9)}, 'format: 9, expected 1'),
        ({'names': np.array(['town', 'town'])}, r"names: \['town', 'town'\]"),
        ({'names': np.array([1, 2])}, 'names: int64'),
        ({'names': np.array(['town'])}, r'mean: shape \(2, 40\), expected \(1, 40\)'),
        ({'mean': np.zeros((2, 39))}, r'mean: shape \(2, 39\), expected \(2, 40\)'),
        ({'basis': np.zeros((2, 40, 7))}, r'basis: shape \(2, 40, 7\), expected \(2, 40, 8\)'),
        ({'basis': np.full((2, 40, 8), np.nan)}, 'basis: nan'),
        ({'variances': np.zeros((2, 8))}, 'variances: 0.0, expected positive'),
        ({'variances': np.float32(1)}, r'basis: shape \(2, 40, 8\), expected \(2, 40\)'),
        ({'residual': np.array([1.0, -2.0])}, 'residual: -2.0'),
        ({'baseline': np.array([np.inf, 1.0])}, 'baseline: inf'),
        ({'weight': np.full(40, -1.0)}, 'weight: from -1.0'),
        ({'frames': np.array(['a', 'b'])}, 'frames: <U1, expected numbers'),
        ({'weight': np.array([object()])}, 'cannot be read: Object arrays'),
    ],
)
def test_load_names_what_is_wrong(reference, tmp_path, changes, words):
    path = tmp_path / 'reference.npz'
    reference.save(path)
    with np.load(path) as archive:
        arrays = {**archive, **changes}
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    with pytest.raises(ReferenceError, match=words) as caught:
        Reference.load(path)
    assert str(path) in str(caught.value)
    assert '\n' not in str(caught.value)


def test_load_refuses_what_is_no_archive(reference, tmp_path):
    path = tmp_path / 'reference.npz'
    with pytest.raises(ReferenceError, match='cannot be read'):
        Reference.load(path)
    reference.save(path)
    content = path.read_bytes()
    damaged = bytearray(content)
    damaged[len(content) // 2] ^= 0xFF
    for wrong in (b'', b'text', content[: len(content) // 2], bytes(damaged)):
        path.write_bytes(wrong)
        with pytest.raises(ReferenceError, match='cannot be read'):
            Reference.load(path)
    with path.open('wb') as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ReferenceError, match=r'not an \.npz archive'):
        Reference.load(path)
