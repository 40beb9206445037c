# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Every score against an independent float64 computation; PGN against autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from seg_uncertainty_ros.frames import Geometry
from seg_uncertainty_ros.network.segmenter import Segmenter
from seg_uncertainty_ros.scores import SCORES
from seg_uncertainty_ros.scores import FeatureStatistics
from seg_uncertainty_ros.scores import ScoreError
from seg_uncertainty_ros.scores import available
from seg_uncertainty_ros.scores import build_scores
from seg_uncertainty_ros.scores.evidence import Evidence
from seg_uncertainty_ros.scores.gradient_norm import PgnOneHot
from seg_uncertainty_ros.scores.gradient_norm import PgnOneHotExact
from seg_uncertainty_ros.scores.gradient_norm import PgnUniform
from seg_uncertainty_ros.scores.gradient_norm import PgnUniformExact
from seg_uncertainty_ros.scores.mahalanobis import FLOOR
from seg_uncertainty_ros.scores.sums import NORMS
from seg_uncertainty_ros.training.datasets import Sample
from seg_uncertainty_ros.training.feature_statistics import FeatureMoments
from seg_uncertainty_ros.training.feature_statistics import FeatureStatisticsError
from seg_uncertainty_ros.training.feature_statistics import fit_feature_statistics

CLASSES, FEATURES, HEIGHT, WIDTH = 11, 16, 7, 9
TEMPERATURE = 1.7


def softmax(logits):
    e = np.exp(logits - logits.max(axis=0))
    return e / e.sum(axis=0)


def p_norm(x, p):
    return (np.abs(x) ** p).sum(axis=0) ** (1 / p)


def one_hot(probability):
    return (np.arange(len(probability))[:, None, None] == probability.argmax(axis=0)) * 1.0


def entropy(p):
    return -np.where(p > 0, p * np.log(np.maximum(p, 1e-300)), 0).sum(axis=0) / np.log(len(p))


def margin(p):
    ordered = np.sort(p, axis=0)
    return 1 - ordered[-1] + ordered[-2]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax_with_void(z, v):
    """Softmax over S + 1; the void logit is tempered like the others."""
    return softmax(np.concatenate([z, v[None] / TEMPERATURE]))


def mahalanobis(phi, statistics, *, in_plane_of_means):
    floor = FLOOR * np.trace(statistics.covariance) / len(phi)
    covariance = statistics.covariance + floor * np.eye(len(phi))
    present = statistics.means[statistics.counts > 0]
    apart = phi[None] - present[:, :, None, None]
    if in_plane_of_means:
        # Project along the covariance's metric onto the differences of class means.
        plane = (present[1:] - present[0]).T
        weights = np.linalg.solve(covariance, plane)
        onto = plane @ np.linalg.solve(plane.T @ weights, weights.T)
        apart = np.einsum('fg,sghw->sfhw', onto, apart)
    return np.einsum('sfhw,fg,sghw->shw', apart, np.linalg.inv(covariance), apart).min(axis=0)


def gradient_norm(s, phi, p):
    norm = p_norm(s, p) * p_norm(phi, p)
    return norm**p if p < 0.5 else norm


PRINTED_AND_EXACT = {
    'pgn_onehot': lambda p: p * (1 - one_hot(p)),
    'pgn_uniform': lambda p: p * (len(p) - 1) / len(p),
    # p − 1 of the predicted class, without cancelling.
    'pgn_onehot_exact': lambda p: np.where(one_hot(p), -(p * (1 - one_hot(p))).sum(axis=0), p),
    'pgn_uniform_exact': lambda p: p - 1 / len(p),
}
SUFFIXES = {'': 0.5, '_p01': 0.1, '_p03': 0.3, '_p1': 1.0, '_p2': 2.0}

# Straight from the formulas, in float64, without the tricks of the graph.
REFERENCE = {
    'max_softmax': lambda z, **_: 1 - softmax(z).max(axis=0),
    'entropy': lambda z, **_: entropy(softmax(z)),
    'margin': lambda z, **_: margin(softmax(z)),
    'max_logit': lambda z, **_: -z.max(axis=0),
    'energy': lambda z, **_: -np.logaddexp.reduce(z, axis=0),
    'mahalanobis': lambda phi, statistics, **_: mahalanobis(
        phi, statistics, in_plane_of_means=True
    ),
    'mahalanobis_full': lambda phi, statistics, **_: mahalanobis(
        phi, statistics, in_plane_of_means=False
    ),
    'void': lambda z, v, **_: v / TEMPERATURE - np.logaddexp.reduce(z, axis=0),
    'void_combined': lambda z, v, **_: (
        softmax_with_void(z, v)[-1] + 1 - softmax_with_void(z, v)[:-1].max(axis=0)
    ),
    'outlier': lambda v, **_: v,
    'outlier_combined': lambda z, v, **_: 1 - (1 - sigmoid(v)) * softmax(z).max(axis=0),
} | {
    f'{name}{suffix}': lambda z, phi, s=s, p=p, **_: gradient_norm(s(softmax(z)), phi, p)
    for name, s in PRINTED_AND_EXACT.items()
    for suffix, p in SUFFIXES.items()
}


def random_statistics(features=FEATURES, seed=1):
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 9, CLASSES)
    counts[4] = 0
    means = np.where(counts[:, None] > 0, rng.uniform(0, 2, (CLASSES, features)), 0)
    root = rng.normal(size=(features, features))
    return FeatureStatistics(counts, means, root @ root.T)


def random_evidence(scale, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, scale, (CLASSES, HEIGHT, WIDTH))
    features = np.maximum(rng.normal(0, 1, (FEATURES, HEIGHT, WIDTH)), 0)
    outlier = rng.normal(0, scale / 2, (HEIGHT, WIDTH))
    # The reference sees the same float32 values, computed further in float64.
    return tuple(x.astype(np.float32) for x in (logits, features, outlier))


def score_of(name, logits, features, outlier):
    evidence = Evidence.of(
        torch.from_numpy(logits)[None],
        torch.from_numpy(features)[None],
        torch.from_numpy(outlier)[None, None],
        TEMPERATURE,
    )
    (module,) = build_scores([name], outlier=True, statistics=random_statistics())
    return module(evidence).view(outlier.shape).numpy()


def test_every_score_has_a_reference():
    assert set(REFERENCE) == set(SCORES)


@pytest.mark.parametrize('name', SCORES)
@pytest.mark.parametrize('scale', [0.0, 0.3, 3.0, 12.0, 60.0])
def test_score_equals_float64_reference(name, scale):
    logits, features, outlier = random_evidence(scale)
    z, phi, v = (x.astype(np.float64) for x in (logits, features, outlier))
    expected = REFERENCE[name](z=z, phi=phi, v=v, statistics=random_statistics())
    # The exact PGN subtract p and 1/S, which loses digits where they are close, or take a power
    # of 1 − max p, which is 0 from a gap of 104 between logits on.
    atol = 1e-4 if '_exact' in name else 1e-6
    # Powers of 0.1 and 0.3 of the features are sums of others; a test of their own follows.
    rtol = 5e-3 if name.endswith(('_p01', '_p03')) else 2e-5
    score = score_of(name, logits, features, outlier)
    np.testing.assert_allclose(score, expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize('name', [name for name in SCORES if '_exact' not in name])
def test_a_largest_logit_that_is_not_quite_itself_is_the_largest_still(name):
    """OpenVINO's int8 graphs give y = -1e-7 there; the margin was 1 on a third of the pixels."""
    logits, features, outlier = random_evidence(6.0)
    (module,) = build_scores([name], outlier=True, statistics=random_statistics())
    found = []
    for offset in (0.0, 1e-6):
        planes = (torch.from_numpy(x)[None] for x in (logits, features, outlier[None]))
        evidence = Evidence.of(*planes, TEMPERATURE)
        evidence.__dict__['shifted'] = evidence.logits - evidence.maximum - offset
        found.append(module(evidence))
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('p', NORMS)
def test_powers_made_of_tenths_are_those_made_of_exponentials(p):
    logits, features, _ = (torch.from_numpy(x)[None] for x in random_evidence(6.0))
    apart = Evidence.of(logits, features).others_power_sum(p)
    together = Evidence.of(logits, features, tenths=True).others_power_sum(p)
    torch.testing.assert_close(together, apart, rtol=1e-5, atol=1e-12)


def test_scores_of_saturated_pixels_are_finite():
    logits = np.zeros((CLASSES, 1, 1), np.float32)
    logits[2] = 500.0
    features = np.zeros((FEATURES, 1, 1), np.float32)
    for name in SCORES:
        assert np.isfinite(score_of(name, logits, features, logits[2])).all(), name


def test_confident_pixels_keep_their_order():
    logits = np.zeros((CLASSES, 1, 4), np.float32)
    logits[3] = [18.0, 22.0, 26.0, 30.0]
    score = score_of('max_softmax', logits, np.ones((FEATURES, 1, 4), np.float32), logits[3])
    assert (np.diff(score[0]) < 0).all()
    assert score[0, -1] > 0


def test_sure_outliers_keep_their_order():
    logits = np.zeros((CLASSES, 1, 4), np.float32)
    features = np.ones((FEATURES, 1, 4), np.float32)
    outlier = np.array([[20.0, 40.0, 80.0, 160.0]], np.float32)
    for name in ('void', 'outlier'):
        assert (np.diff(score_of(name, logits, features, outlier)[0]) > 0).all()


def test_a_score_that_the_network_cannot_give_is_refused():
    with pytest.raises(ScoreError, match="'void' needs a network with an outlier output"):
        build_scores(['max_softmax', 'void'])
    with pytest.raises(ScoreError, match="'mahalanobis' needs feature statistics"):
        build_scores(['mahalanobis'], outlier=True)
    with pytest.raises(ScoreError, match="'entorpy' is none of max_softmax"):
        build_scores(['entorpy'])
    plain = available(outlier=False, statistics=None)
    assert len(build_scores(plain)) == len(plain)
    assert available(outlier=True, statistics=random_statistics()) == tuple(SCORES)


def autograd_norm(logits_features, label, p):
    """Return ‖∂L/∂K‖_p of the cross-entropy by the 1x1 kernel K, one pixel at a time."""
    features, kernel = logits_features
    norms = np.empty(features.shape[1:])
    for row, column in np.ndindex(*norms.shape):
        k = kernel.clone().requires_grad_()
        logits = k @ features[:, row, column]
        target = label(logits.detach())
        loss = -(target * F.log_softmax(logits, dim=0)).sum()
        (gradient,) = torch.autograd.grad(loss, k)
        norms[row, column] = (gradient.abs() ** p).sum() ** (1 / p)
    return norms


@pytest.mark.parametrize('p', NORMS)
@pytest.mark.parametrize(
    ('score', 'label'),
    [
        (PgnOneHotExact, lambda y: F.one_hot(y.argmax(), CLASSES).double()),
        (PgnUniformExact, lambda y: torch.full((CLASSES,), 1 / CLASSES, dtype=torch.float64)),
    ],
)
def test_exact_gradient_norm_equals_autograd(score, label, p):
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(FEATURES, 3, 4, generator=generator, dtype=torch.float64).relu()
    kernel = torch.randn(CLASSES, FEATURES, generator=generator, dtype=torch.float64)
    logits = torch.einsum('sf,fhw->shw', kernel, features)
    actual = score(p)(Evidence.of(logits[None], features[None])).view(3, 4)
    norm = autograd_norm((features, kernel), label, p)
    expected = norm**p if p < 0.5 else norm
    np.testing.assert_allclose(actual.numpy(), expected, rtol=5e-3 if p < 0.5 else 1e-9)


@pytest.mark.parametrize(
    ('printed', 'exact'), [(PgnOneHot, PgnOneHotExact), (PgnUniform, PgnUniformExact)]
)
def test_printed_factors_differ_from_the_gradient(printed, exact):
    logits, features, _ = random_evidence(1.0)
    evidence = Evidence.of(torch.from_numpy(logits)[None], torch.from_numpy(features)[None])
    assert not torch.allclose(printed()(evidence), exact()(evidence), rtol=0.05)


def labelled_features(pixels, seed):
    """Features far from 0 with one that never changes, and labels without the last class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES - 1, pixels)
    features = rng.normal(50, 1, (CLASSES, FEATURES))[labels]
    features += rng.normal(0, 1, (pixels, FEATURES)) @ rng.normal(size=(FEATURES, FEATURES))
    features[:, 5] = 0.0
    return features, labels


def test_streamed_statistics_equal_those_of_all_pixels_at_once():
    features, labels = labelled_features(900, 4)
    moments = FeatureMoments(CLASSES, FEATURES)
    for part in np.array_split(np.arange(900), 7):
        moments.update(features[part], labels[part])
    actual = moments.statistics()
    means = np.stack([features[labels == s].mean(axis=0) for s in range(CLASSES - 1)])
    centred = features - means[labels]
    np.testing.assert_array_equal(actual.counts, np.bincount(labels, minlength=CLASSES))
    np.testing.assert_allclose(actual.means[:-1], means, rtol=1e-12)
    np.testing.assert_allclose(actual.covariance, centred.T @ centred / 900, atol=1e-9)


def test_distances_of_the_training_pixels_are_those_of_a_gaussian():
    features, labels = labelled_features(20_000, 5)
    moments = FeatureMoments(CLASSES, FEATURES)
    moments.update(features, labels)
    statistics = moments.statistics()
    planes = torch.from_numpy(features.T.astype(np.float32)).view(1, FEATURES, 100, 200)
    logits = torch.zeros(1, CLASSES, 100, 200)
    (score,) = build_scores(['mahalanobis_full'], statistics=statistics)
    mean = float(score(Evidence.of(logits, planes)).mean())
    # Chi-squared with a degree for each feature that changes; the nearest class may be another.
    assert 0.8 * (FEATURES - 1) < mean < FEATURES


@pytest.mark.parametrize('value', [0.0, np.nan])
def test_features_without_statistics_are_refused(value):
    moments = FeatureMoments(2, 3)
    with pytest.raises(FeatureStatisticsError, match='labelled pixels: 0'):
        moments.statistics()
    moments.update(np.full((9, 3), value), np.arange(9) % 2)
    with pytest.raises(FeatureStatisticsError, match='total variance'):
        moments.statistics()


def test_statistics_of_a_network_are_those_of_its_labelled_pixels():
    torch.manual_seed(0)
    segmenter = Segmenter(3, features=8).eval()
    rng = np.random.default_rng(6)
    samples = []
    for _ in range(2):
        labels = np.zeros((64, 96), np.uint8)
        labels[:, 32:] = 1
        labels[48:] = 255
        samples.append(Sample('', rng.integers(0, 256, (64, 96, 3), dtype=np.uint8), labels))
    actual = fit_feature_statistics(segmenter, samples, Geometry(32, 64 * 96))
    with torch.no_grad():
        images = np.stack([sample.image for sample in samples]).transpose(0, 3, 1, 2)
        features = segmenter(torch.from_numpy(images).float()).features.numpy()
    assert actual.counts.tolist() == [2 * 12 * 8, 2 * 12 * 16, 0]
    expected = features[:, :, :12, :8].mean(axis=(0, 2, 3))
    np.testing.assert_allclose(actual.means[0], expected, rtol=1e-4, atol=1e-6)
