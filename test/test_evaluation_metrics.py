# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Metrics against scikit-learn, by hand, and by their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import ndimage
from sklearn.metrics import average_precision_score
from sklearn.metrics import roc_auc_score
from sklearn.metrics import roc_curve

from seg_uncertainty_ros.evaluation.component_metrics import THRESHOLDS
from seg_uncertainty_ros.evaluation.component_metrics import MinimumSizes
from seg_uncertainty_ros.evaluation.component_metrics import component_metrics
from seg_uncertainty_ros.evaluation.component_metrics import components
from seg_uncertainty_ros.evaluation.estimates import estimate
from seg_uncertainty_ros.evaluation.estimates import resampling_weights
from seg_uncertainty_ros.evaluation.misclassification import misclassification_metrics
from seg_uncertainty_ros.evaluation.misclassification import sparsification_area
from seg_uncertainty_ros.evaluation.pixel_metrics import IMAGE_BINS
from seg_uncertainty_ros.evaluation.pixel_metrics import SET_BINS
from seg_uncertainty_ros.evaluation.pixel_metrics import PixelCounts
from seg_uncertainty_ros.evaluation.pixel_metrics import ScoreError
from seg_uncertainty_ros.evaluation.pixel_metrics import ScoreHistogram
from seg_uncertainty_ros.evaluation.pixel_metrics import best_f1_threshold
from seg_uncertainty_ros.evaluation.pixel_metrics import merge
from seg_uncertainty_ros.evaluation.pixel_metrics import order_keys
from seg_uncertainty_ros.evaluation.pixel_metrics import ranking_metrics
from seg_uncertainty_ros.evaluation.pixel_metrics import scores_of
from seg_uncertainty_ros.evaluation.pixel_metrics import tpr_threshold

FLOATS = st.floats(width=32, allow_nan=False)
FEW = st.sampled_from([-2.5, -1.0, -0.0, 0.0, 1e-30, 0.5, 3.0])


def sklearn_metrics(scores, positive):
    fpr, tpr, _ = roc_curve(positive, scores, drop_intermediate=False)
    return (
        average_precision_score(positive, scores),
        roc_auc_score(positive, scores),
        fpr[np.searchsorted(tpr, 0.95)],
    )


def counted(scores, positive, images=1):
    counts = PixelCounts()
    for part in np.array_split(np.arange(len(scores)), images):
        counts.add(scores[part], positive[part])
    return counts


@st.composite
def pixels(draw, elements):
    scores = draw(npst.arrays(np.float32, st.integers(2, 60), elements=elements))
    positive = draw(npst.arrays(bool, len(scores)))
    positive[:2] = False, True
    return scores, positive


@given(npst.arrays(np.float32, 50, elements=FLOATS))
@settings(deadline=None)
def test_keys_keep_the_order_and_the_value(scores):
    keys = order_keys(scores)
    assert np.array_equal(keys[:, None] < keys, scores[:, None] < scores)
    assert np.array_equal(keys[:, None] == keys, scores[:, None] == scores)
    assert np.array_equal(scores_of(keys), scores)


@given(st.one_of(pixels(st.floats(-(2.0**99), 2.0**99, width=32)), pixels(FEW)), st.integers(1, 4))
@settings(deadline=None)
def test_small_sets_are_as_scikit_learn_counts(drawn, images):
    scores, positive = drawn
    measured = ranking_metrics(counted(scores, positive, images).pooled.counts)
    assert measured == pytest.approx(sklearn_metrics(scores, positive), abs=1e-12)


def test_hand_counted_case():
    scores = np.array([0.9, 0.8, 0.8, 0.7, 0.1], np.float32)
    positive = np.array([True, True, False, False, True])
    # Thresholds .9 .8 .7 .1: precision 1, 2/3, 1/2, 3/5 at recall 1/3, 2/3, 2/3, 1.
    measured = ranking_metrics(counted(scores, positive).pooled.counts)
    assert measured[0] == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)
    # Of six pairs .9 wins twice, .8 once and ties once, .1 loses twice.
    assert measured[1] == pytest.approx(3.5 / 6)
    assert measured[2] == 1.0


def test_constant_scores_are_chance():
    positive = np.arange(50) < 10
    measured = ranking_metrics(counted(np.ones(50, np.float32), positive).pooled.counts)
    assert measured == pytest.approx([0.2, 0.5, 1.0])


def test_infinite_scores_are_the_largest():
    scores = np.array([np.inf, -np.inf, 1e38], np.float32)
    measured = ranking_metrics(counted(scores, np.array([True, False, False])).pooled.counts)
    assert measured == pytest.approx([1.0, 1.0, 0.0])


def test_without_positives_or_negatives_the_metrics_are_undefined():
    scores = np.linspace(0, 1, 10, dtype=np.float32)
    none = ranking_metrics(counted(scores, np.zeros(10, bool)).pooled.counts)
    assert np.isnan(none).all()
    everything = ranking_metrics(counted(scores, np.ones(10, bool)).pooled.counts)
    assert everything[0] == 1.0
    assert np.isnan(everything[1:]).all()
    nothing = PixelCounts()
    nothing.add(scores[:0], np.zeros(0, bool))
    assert np.isnan(nothing.metrics(resampling_weights(1)).average_precision.value)


@pytest.mark.parametrize('value', [np.nan, -np.nan])
def test_a_score_that_is_not_a_number_is_an_error(value):
    scores = np.array([0.0, value, 1.0], np.float32)
    with pytest.raises(ScoreError, match='1 of 3 scores'):
        PixelCounts().add(scores, np.zeros(3, bool))


@pytest.mark.parametrize(
    ('shape', 'pixels'),
    [
        (lambda x: x, 1_000_000),
        (np.exp, 200_000),
        (lambda x: -10 - 0.1 * x, 200_000),
        (lambda x: np.exp(8 * x), 200_000),
    ],
)
def test_large_sets_are_exact_to_the_fifth_digit(shape, pixels):
    rng = np.random.default_rng(0)
    positive = rng.random(pixels) < 0.02
    scores = shape(rng.normal(size=pixels) + 1.5 * positive).astype(np.float32)
    counts = counted(scores, positive, images=4)
    assert len(counts.pooled.keys) <= SET_BINS
    measured = ranking_metrics(counts.pooled.counts)
    assert measured == pytest.approx(sklearn_metrics(scores, positive), abs=2e-5)
    images = counts.images()
    assert images.shape[2] <= 2 * IMAGE_BINS
    assert np.array_equal(images.sum(axis=(0, 2)), counts.pooled.counts.sum(axis=1))
    coarse = ranking_metrics(images.sum(axis=0))
    assert coarse == pytest.approx(measured, abs=3e-3)


@given(npst.arrays(np.float32, st.integers(1, 80), elements=FLOATS), st.integers(1, 20))
@settings(deadline=None)
def test_a_limit_keeps_all_pixels_in_the_finest_bins_that_it_allows(scores, limit):
    positive = scores > 0
    histogram = ScoreHistogram.of(scores, positive, limit)
    keys = order_keys(scores)
    assert histogram.keys.tolist() == np.unique(keys >> np.uint32(histogram.shift)).tolist()
    assert len(histogram.keys) <= limit
    if histogram.shift:
        assert len(np.unique(keys >> np.uint32(histogram.shift - 1))) > limit
    assert histogram.counts.sum(axis=1).tolist() == [(~positive).sum(), positive.sum()]
    again = merge([ScoreHistogram.of(scores, positive), histogram], limit)
    assert again.counts.tolist() == (2 * histogram.counts).tolist()


@given(pixels(FEW))
@settings(deadline=None)
def test_thresholds_are_the_best_on_a_list_of_all(drawn):
    scores, positive = drawn
    histogram = counted(scores, positive).pooled

    def f1(threshold):
        found = scores >= threshold
        return 2 * (found & positive).sum() / (found.sum() + positive.sum())

    assert f1(best_f1_threshold(histogram)) == max(map(f1, scores))
    recall = {t: (scores[positive] >= t).mean() for t in scores}
    assert tpr_threshold(histogram) == max(t for t, value in recall.items() if value >= 0.95)


def test_an_interval_over_equal_images_is_a_point():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=200).astype(np.float32)
    positive = rng.random(200) < 0.3
    counts = counted(np.tile(scores, 5), np.tile(positive, 5), images=5)
    for value in vars(counts.metrics(resampling_weights(5))).values():
        assert value.low == pytest.approx(value.value)
        assert value.high == pytest.approx(value.value)


def test_intervals_cover_what_they_say():
    # Images of differing difficulty; a large set stands for the truth.
    rng = np.random.default_rng(1)

    def images(count):
        positive = rng.random((count, 20)) < 0.3
        shift = rng.normal(1.0, 0.7, size=(count, 1))
        scores = rng.normal(size=positive.shape) + shift * positive
        return scores.round(1).astype(np.float32), positive

    scores, positive = images(4000)
    truth = sklearn_metrics(scores.ravel(), positive.ravel())
    hits = np.zeros(3)
    sets = 100
    weights = resampling_weights(40, 200)
    for _ in range(sets):
        scores, positive = images(40)
        metrics = counted(scores.ravel(), positive.ravel(), images=40).metrics(weights)
        hits += [
            x.low <= true <= x.high for x, true in zip(vars(metrics).values(), truth, strict=True)
        ]
    # 95 of 100 expected with infinitely many images; a percentile bootstrap of 40 has some less.
    assert (hits >= 85).all()
    assert hits.sum() < 3 * sets


def test_resamples_without_a_value_do_not_count():
    values = np.array([[1.0, 2.0], [0.0, 0.0], [3.0, 2.0]])
    weights = np.array([[1, 2, 0], [0, 3, 0], [0, 1, 2]], float)

    def share(counts):
        with np.errstate(invalid='ignore'):
            return (counts[..., 0] / counts.sum(axis=-1))[None]

    (result,) = estimate(share, values.sum(axis=0), values, weights)
    assert result.value == 0.5
    assert result.low == pytest.approx(1 / 3 + 0.025 * (0.6 - 1 / 3))
    assert result.high == pytest.approx(0.6 - 0.025 * (0.6 - 1 / 3))


@given(pixels(st.floats(-100, 100, width=32)))
@settings(max_examples=50, deadline=None)
def test_sparsification_by_quadrature(drawn):
    scores, wrong = drawn
    measured = sparsification_area(counted(scores, wrong).pooled.counts)
    levels = np.unique(scores)[::-1]
    gone = np.array([0, *((scores >= level).sum() for level in levels)])
    errors = np.array([0, *(wrong[scores >= level].sum() for level in levels)])
    fraction = (np.arange(20000) + 0.5) / 20000
    left = len(scores) * (1 - fraction)

    def area(errors_gone):
        return ((wrong.sum() - errors_gone) / left).mean()

    curve = area(np.interp(fraction * len(scores), gone, errors))
    oracle = area(np.minimum(fraction * len(scores), wrong.sum()))
    assert measured == pytest.approx((curve - oracle) / wrong.mean(), abs=2e-3)


def test_sparsification_of_the_oracle_and_of_chance():
    wrong = np.arange(1000) < 100
    assert sparsification_area(counted(wrong.astype(np.float32), wrong).pooled.counts) == (
        pytest.approx(0.0, abs=1e-12)
    )
    chance = sparsification_area(counted(np.zeros(1000, np.float32), wrong).pooled.counts)
    # Chance keeps the error e for good; the oracle's area is e + (1 - e) ln(1 - e).
    assert chance == pytest.approx(-0.9 * np.log(0.9) / 0.1)
    assert np.isnan(
        sparsification_area(counted(np.zeros(9, np.float32), np.zeros(9, bool)).pooled.counts)
    )


def test_misclassification_takes_errors_as_positives():
    rng = np.random.default_rng(2)
    wrong = rng.random(2000) < 0.1
    scores = (rng.normal(size=2000) + wrong).astype(np.float32)
    metrics = misclassification_metrics(counted(scores, wrong, images=8), resampling_weights(8))
    assert metrics.average_precision.value == pytest.approx(average_precision_score(wrong, scores))
    assert metrics.ause.low < metrics.ause.value < metrics.ause.high


def labels_of(*boxes, size=(20, 20)):
    labels = np.zeros(size, np.uint8)
    for value, rows, columns in boxes:
        labels[rows, columns] = value
    return labels


ANY = MinimumSizes(predicted=1, truth=1)


def test_components_by_hand():
    # Two objects of 4 under one prediction of 10, one object of 6 missed, one false alarm of 3.
    labels = labels_of(
        (1, slice(0, 2), slice(0, 2)),
        (1, slice(0, 2), slice(3, 5)),
        (1, slice(10, 12), slice(0, 3)),
    )
    anomalous = labels_of((1, slice(0, 2), slice(0, 5)), (1, slice(5, 8), 9)).astype(bool)
    result = components(labels, anomalous, ANY)
    # The other object is taken out of the union: 4 / (4 + 2).
    assert result.siou.tolist() == pytest.approx([4 / 6, 4 / 6, 0.0])
    assert result.ppv.tolist() == pytest.approx([0.8, 0.0])
    metrics = component_metrics(result.sums()[None], resampling_weights(1))
    assert metrics.siou.value == pytest.approx(4 / 9)
    assert metrics.ppv.value == pytest.approx(0.4)
    # Up to 0.65: TP 2, FN 1, FP 1. From 0.7: TP 0, FN 3, FP 1.
    assert metrics.f1.value == pytest.approx((9 * 4 / 6 + 2 * 0) / 11)


def test_one_object_in_two_predictions():
    labels = labels_of((1, slice(0, 2), slice(0, 10)))
    anomalous = labels_of((1, slice(0, 3), slice(0, 4)), (1, slice(0, 2), slice(6, 10)))
    result = components(labels, anomalous.astype(bool), ANY)
    assert result.siou.tolist() == pytest.approx([16 / 24])
    assert result.ppv.tolist() == pytest.approx([8 / 12, 1.0])


def test_ignored_pixels_and_small_components_do_not_count():
    labels = labels_of(
        (1, slice(0, 3), slice(0, 3)), (1, 10, slice(0, 2)), (255, slice(15, 20), slice(0, 20))
    )
    anomalous = labels_of(
        (1, slice(0, 3), slice(0, 4)),  # 12 pixels, 9 of them true
        (1, slice(9, 12), slice(0, 2)),  # 6 pixels over the object that is too small, at 10
        (1, slice(13, 17), slice(5, 8)),  # two rows of 3 outside the ignored region
        (1, 0, slice(10, 14)),  # too small
    ).astype(bool)
    result = components(labels, anomalous, MinimumSizes(predicted=5, truth=3))
    assert result.siou.tolist() == pytest.approx([9 / 12])
    # The pixels of the small object leave the region, the other four are a false alarm.
    assert result.ppv.tolist() == pytest.approx([9 / 12, 0.0, 0.0])


def test_diagonal_neighbours_are_connected():
    labels = np.eye(6, dtype=np.uint8)
    assert len(components(labels, labels.astype(bool), ANY).siou) == 1


def test_nothing_predicted_and_nothing_there():
    empty = components(np.zeros((5, 5), np.uint8), np.zeros((5, 5), bool), ANY)
    assert empty.siou.size == empty.ppv.size == 0
    missed = components(np.eye(5, dtype=np.uint8), np.zeros((5, 5), bool), ANY)
    metrics = component_metrics(np.stack([empty.sums(), missed.sums()]), resampling_weights(2))
    assert metrics.siou.value == metrics.f1.value == 0.0
    assert np.isnan(metrics.ppv.value)


@given(
    npst.arrays(np.uint8, (9, 9), elements=st.sampled_from([0, 0, 0, 1, 1, 255])),
    npst.arrays(bool, (9, 9)),
    st.integers(1, 4),
    st.integers(1, 4),
)
@settings(deadline=None)
def test_components_by_their_definition(labels, anomalous, smallest, smallest_true):
    def sets(mask, least):
        ids, count = ndimage.label(mask, np.ones((3, 3)))
        every = [set(np.flatnonzero(ids == index)) for index in range(1, count + 1)]
        return [x for x in every if len(x) >= least], [x for x in every if len(x) < least]

    truth, too_small = sets(labels == 1, smallest_true)
    region = set(np.flatnonzero(labels != 255)).difference(*too_small)
    predicted = [x & region for x in sets(anomalous & (labels != 255), smallest)[0]]
    siou = []
    for k in truth:
        touching = set().union(*(x for x in predicted if x & k))
        others = set().union(*(x for x in truth if x is not k))
        siou.append(len(k & touching) / len(k | (touching - others)))
    everything = set().union(*truth)
    ppv = [len(x & everything) / len(x) for x in predicted if x]
    result = components(labels, anomalous, MinimumSizes(smallest, smallest_true))
    assert sorted(result.siou) == pytest.approx(sorted(siou))
    assert sorted(result.ppv) == pytest.approx(sorted(ppv))


def test_thresholds_are_the_benchmarks():
    assert pytest.approx(np.arange(25, 80, 5) / 100) == THRESHOLDS
