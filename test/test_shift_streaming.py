# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Statistics of streams, of images and of frames."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from seg_uncertainty_ros.shift.image_statistics import ImageError
from seg_uncertainty_ros.shift.image_statistics import image_statistics
from seg_uncertainty_ros.shift.indicators import BINS
from seg_uncertainty_ros.shift.indicators import IndicatorError
from seg_uncertainty_ros.shift.indicators import frame_statistics
from seg_uncertainty_ros.shift.indicators import plane_statistics
from seg_uncertainty_ros.shift.streaming import Histogram
from seg_uncertainty_ros.shift.streaming import Moments
from seg_uncertainty_ros.shift.streaming import StreamError
from seg_uncertainty_ros.shift.streaming import wasserstein


@pytest.fixture(scope='module')
def rows():
    # A mean that is huge against the deviation: a sum of squares would cancel.
    return 1e8 + np.random.default_rng(0).normal(size=(500, 6)) * np.geomspace(0.1, 100, 6)


@pytest.mark.parametrize('covariance', [False, True])
def test_moments_of_a_stream_are_those_of_all_rows(rows, covariance):
    whole, first, second = (Moments(6, covariance) for _ in range(3))
    for row in rows:
        whole.update(row)
    for part in np.array_split(rows[:170], 7):
        first.update(part)
    second.update(rows[170:])
    first.merge(second)
    for moments in (whole, first):
        assert moments.count == 500
        np.testing.assert_allclose(moments.mean, rows.mean(axis=0), rtol=1e-14)
        np.testing.assert_allclose(moments.variance, rows.var(axis=0), rtol=1e-6)
        if covariance:
            expected = np.cov((rows - 1e8).T, bias=True)
            np.testing.assert_allclose(moments.covariance, expected, rtol=1e-5, atol=1e-4)


def test_moments_leave_out_what_is_not_finite(rows):
    moments = Moments(6)
    assert np.isnan(moments.variance).all()
    moments.update([[np.nan] * 6, rows[0], [np.inf] * 6])
    assert (moments.count, moments.ignored) == (1, 2)
    np.testing.assert_array_equal(moments.mean, rows[0])
    with pytest.raises(StreamError, match=r'\(5,\), expected \(n, 6\)'):
        moments.update(rows[0, :5])
    with pytest.raises(StreamError, match='covariance: not kept'):
        _ = moments.covariance
    with pytest.raises(StreamError, match='size 7'):
        moments.merge(Moments(7))


def test_histogram_of_a_stream_is_that_of_all_values_and_its_quantiles_are_near():
    values = np.random.default_rng(1).beta(2, 5, 20_000)
    first, second = Histogram(0.0, 1.0, 200), Histogram(0.0, 1.0, 200)
    for part in np.array_split(values[:7000], 11):
        first.update(part)
    second.update(np.append(values[7000:], [np.nan, np.inf]))
    first.merge(second)
    np.testing.assert_array_equal(first.counts, np.histogram(values, 200, (0, 1))[0])
    assert first.ignored == 2
    for level in (0.0, 0.01, 0.5, 0.95, 1.0):
        assert first.quantile(level) == pytest.approx(np.quantile(values, level), abs=0.005)
    first.update([-3.0, 7.0])
    assert first.counts.sum() == 20_002, 'what lies outside counts at the ends'
    assert np.isnan(Histogram(0.0, 1.0, 3).quantile(0.5))
    with pytest.raises(StreamError, match=r'level: 1\.5'):
        first.quantile(1.5)
    with pytest.raises(StreamError, match=r'from 1\.0 to 0\.0'):
        Histogram(1.0, 0.0, 3)


def test_wasserstein_is_the_mean_difference_of_sorted_values():
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 64, 3000), np.minimum(rng.integers(0, 64, 3000) // 2 + 20, 63)
    histograms = [np.bincount(x, minlength=64) for x in (a, b)]
    expected = np.abs(np.sort(a) - np.sort(b)).mean() / 64
    assert wasserstein(*histograms) == pytest.approx(expected)
    assert wasserstein(histograms[0], 3 * histograms[0]) == pytest.approx(0)


@pytest.fixture(scope='module')
def scene():
    """Something with edges of all sizes."""
    rng = np.random.default_rng(3)
    image = np.zeros((360, 640, 3), np.uint8)
    for _ in range(600):
        x, y, size = *rng.integers(0, 640, 2), int(rng.integers(3, 60))
        colour = rng.integers(60, 160, 3).tolist()
        cv2.rectangle(image, (int(x), int(y)), (int(x) + size, int(y) + size), colour, -1)
    return image


def test_image_statistics_tell_blur_contrast_noise_and_brightness_apart(scene):
    usual = image_statistics(scene)
    dark = image_statistics((scene * 0.4).astype(np.uint8))
    pale = image_statistics((scene * 0.4 + 90).astype(np.uint8))
    blurred, worse = (
        image_statistics(cv2.GaussianBlur(scene, (0, 0), sigma)) for sigma in (1.5, 5.0)
    )
    noise = np.random.default_rng(4).normal(0, 8, (360, 640, 1))
    noisy = image_statistics(np.clip(scene + noise, 0, 255).astype(np.uint8))
    assert dark.brightness < 0.5 * usual.brightness
    assert pale.contrast == pytest.approx(0.4 * usual.contrast, rel=0.05)
    for even in (dark, pale):
        assert even.sharpness == pytest.approx(usual.sharpness, abs=0.2), 'no blur in these'
    assert max(blurred.sharpness, worse.sharpness) < usual.sharpness - 1
    assert blurred.contrast > 0.9 * usual.contrast
    assert noisy.noise > usual.noise + 4 / 255
    assert noisy.brightness == pytest.approx(usual.brightness, abs=0.02)
    grey = image_statistics(np.repeat(scene[..., :1], 3, axis=2))
    assert grey.saturation == pytest.approx(0, abs=1e-6)
    assert grey.saturation < usual.saturation
    red = scene.copy()
    red[..., 0] //= 2
    assert image_statistics(red).warmth > usual.warmth + 0.1
    bright = image_statistics(np.clip(scene.astype(int) * 4, 0, 255).astype(np.uint8))
    assert bright.overexposed > 0.3 > usual.overexposed


def test_noise_estimate_is_that_of_white_noise():
    noise = np.random.default_rng(5).normal(128, 6, (480, 640, 1)).round().astype(np.uint8)
    measured = image_statistics(np.repeat(noise, 3, axis=2)).noise
    assert measured * 255 == pytest.approx(6, rel=0.03)


@pytest.mark.parametrize('shape', [(12, 12, 3), (13, 1000, 3), (1000, 17, 3), (1080, 1919, 3)])
def test_image_statistics_take_any_size_and_even_images(shape):
    for level in (0, 255):
        statistics = image_statistics(np.full(shape, level, np.uint8))
        assert np.isfinite(statistics).all()
        assert statistics.brightness == level / 255
        assert statistics.noise == statistics.contrast == 0
        assert statistics.sharpness < -3


@pytest.mark.parametrize(
    'image',
    [np.zeros((40, 40), np.uint8), np.zeros((40, 40, 3)), np.zeros((8, 40, 3), np.uint8), None],
)
def test_image_statistics_name_what_they_refuse(image):
    with pytest.raises(ImageError, match='expected uint8 HxWx3 with sides of at least 12'):
        image_statistics(image)


def test_frame_statistics_of_planes_of_any_size(scene):
    rng = np.random.default_rng(6)
    small = rng.beta(6, 2, (24, 40)) * 255
    for size in ((24, 40), (360, 640), (1080, 1920)):
        plane = cv2.resize(small.astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST)
        mask = np.zeros(size, np.uint8)
        mask[: size[0] // 4], mask[-size[0] // 4 :] = 255, 3
        frame = frame_statistics(7, mask, plane, plane, [1.0, 2.0], scene, classes=4)
        numbers = plane_statistics(frame.confidence, frame.anomaly)
        assert numbers.mean_confidence == pytest.approx(plane.mean() / 255, abs=0.01)
        lowest = np.sort(plane.ravel())[: plane.size // 20]
        assert numbers.low_confidence == pytest.approx(lowest.mean() / 255, abs=0.02)
        highest = np.sort(plane.ravel())[-plane.size // 20 :]
        assert numbers.high_anomaly == pytest.approx(highest.mean() / 255, abs=0.02)
        share = plane / 255
        entropy = -(share * np.log2(share) + (1 - share) * np.log2(1 - share + 1e-9)).mean()
        assert numbers.entropy == pytest.approx(entropy, abs=0.02)
        np.testing.assert_allclose(frame.classes, [2 / 3, 0, 0, 1 / 3], atol=0.01)
        assert frame.confidence.shape == (BINS,)
    empty = frame_statistics(
        7, np.full((9, 9), 255, np.uint8), plane, plane, [np.nan, 1.0], classes=4
    )
    assert empty.embedding is None, 'an embedding that is not finite is missing'
    assert empty.image is None
    assert not empty.classes.any()


def test_frame_statistics_name_what_they_refuse():
    plane = np.zeros((4, 4), np.uint8)
    with pytest.raises(IndicatorError, match=r'anomaly: float64 \(4, 4\), expected uint8'):
        frame_statistics(0, plane, plane, plane.astype(float), None, classes=2)
    with pytest.raises(IndicatorError, match=r'mask: list \(0,\)'):
        frame_statistics(0, [], plane, plane, None, classes=2)
    with pytest.raises(IndicatorError, match=r'embedding: shape \(1, 2\)'):
        frame_statistics(0, plane, plane, plane, [[1, 2]], classes=2)
