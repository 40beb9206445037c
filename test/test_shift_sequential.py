# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The sequential test on simulated correlated values, whose false alarms can be counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from seg_uncertainty_ros.shift.sequential import CAP
from seg_uncertainty_ros.shift.sequential import SequentialError
from seg_uncertainty_ros.shift.sequential import SequentialTest
from seg_uncertainty_ros.shift.sequential import correlation_steps
from seg_uncertainty_ros.shift.sequential import cusum

HOUR = 3600


def ar1(rng, count, phi, mean=0.6, deviation=0.2):
    """Values every second, the correlation of which falls by ``phi`` a second."""
    noise = rng.normal(scale=deviation * np.sqrt(1 - phi**2), size=count)
    value, values = rng.normal(scale=deviation), np.empty(count)
    for index, step in enumerate(noise):
        value = phi * value + step
        values[index] = value
    return mean + values


def alarms(test, values, step_s=1.0):
    """Alarms that begin; one lasts until no evidence is left."""
    evidence, count, on = 0.0, 0, False
    for value in values:
        evidence = test.accumulate(evidence, value, step_s)
        if evidence > test.threshold and not on:
            count, on = count + 1, True
        on = on and evidence > 0
    return count


@pytest.fixture(scope='module')
def fitted():
    """10 h of drives of half an hour, and the test for a false alarm every hour."""
    rng = np.random.default_rng(0)
    drives = [ar1(rng, HOUR // 2, 0.9) for _ in range(20)]
    return SequentialTest.fit(drives, step_s=1.0, ert_h=1.0, allowance=0.8)


def test_false_alarms_on_fresh_correlated_data_are_within_the_interval(fitted):
    hours = 60
    fresh = ar1(np.random.default_rng(99), hours * HOUR, 0.9)
    measured = hours / alarms(fitted, fresh)
    assert fitted.ert_low_h < measured < fitted.ert_high_h
    assert fitted.ert_low_h < fitted.ert_h < fitted.ert_high_h
    assert fitted.threshold_low <= fitted.threshold <= fitted.threshold_high
    assert not fitted.extrapolated


def test_independent_values_would_have_got_too_low_a_threshold(fitted):
    """What the block bootstrap is for: the same values in random order need far less."""
    rng = np.random.default_rng(0)
    values = np.concatenate([ar1(rng, HOUR // 2, 0.9) for _ in range(20)])
    rng.shuffle(values)
    naive = SequentialTest.fit([values], step_s=1.0, ert_h=1.0, allowance=0.8)
    assert naive.threshold < 0.5 * fitted.threshold
    fresh = ar1(np.random.default_rng(98), 10 * HOUR, 0.9)
    assert alarms(naive, fresh) > 4 * alarms(fitted, fresh)


def test_a_shift_is_found_soon(fitted):
    shifted = ar1(np.random.default_rng(1), 60, 0.9, mean=1.8)
    evidence = cusum(shifted, fitted.allowance, 1.0)
    assert np.flatnonzero(evidence > fitted.threshold)[0] < 1.5 * fitted.threshold + 1


def test_more_time_between_alarms_than_there_are_data_is_extrapolated_and_said():
    rng = np.random.default_rng(2)
    drives = [ar1(rng, HOUR // 5, 0.8) for _ in range(10)]
    short, long = (
        SequentialTest.fit(drives, step_s=1.0, ert_h=hours, allowance=0.8) for hours in (0.2, 10.0)
    )
    assert not short.extrapolated
    assert long.extrapolated
    assert long.threshold > short.threshold
    assert long.needed_h == 30
    assert 'extrapolated, 30 h would bear it out' in long.describe()
    assert 'extrapolated' not in short.describe()
    hours = 40
    fresh = ar1(np.random.default_rng(97), hours * HOUR, 0.8)
    assert alarms(long, fresh) <= 12, 'some 4 are due'


def test_too_few_data_are_refused_with_what_is_needed():
    drive = ar1(np.random.default_rng(3), 200, 0.95)
    with pytest.raises(SequentialError, match=r'expected at least 10: .* h or more; .* by 30 h'):
        SequentialTest.fit([drive], step_s=1.0, ert_h=10.0)
    for drives, problem in (
        ([], 'drives: none'),
        ([np.array([1.0, np.nan])], 'drive 0'),
        ([np.ones((2, 2))], r'drive 0: shape \(2, 2\)'),
    ):
        with pytest.raises(SequentialError, match=problem):
            SequentialTest.fit(drives, step_s=1.0, ert_h=1.0)
    with pytest.raises(SequentialError, match='ert_h: 0'):
        SequentialTest.fit([drive], step_s=1.0, ert_h=0.0)


def test_values_that_never_exceed_the_bound_still_give_a_threshold():
    quiet = SequentialTest.fit([np.full(500, 0.5)] * 12, step_s=1.0, ert_h=1.0)
    assert quiet.threshold > 0
    assert quiet.ert_low_h == quiet.ert_high_h == np.inf, 'no alarm was ever simulated'


def test_evidence_is_that_of_the_recursion_and_does_not_pile_up(fitted):
    values = ar1(np.random.default_rng(4), 500, 0.9, mean=0.9)
    evidence, expected = 0.0, []
    for value in values:
        evidence = max(0.0, evidence + (value - 0.8) * 0.5)
        expected.append(evidence)
    np.testing.assert_allclose(cusum(values, 0.8, 0.5), expected, atol=1e-9)
    evidence = 0.0
    for _ in range(1000):
        evidence = fitted.accumulate(evidence, 100.0, 1.0)
    assert evidence == CAP * fitted.threshold
    assert replace(fitted, threshold=3.0).accumulate(1.0, 0.0, 100.0) == 0.0


def test_a_rate_changes_nothing(fitted):
    """Evidence is in seconds: ten frames a second say what one does."""
    values = ar1(np.random.default_rng(5), 300, 0.9, mean=0.9)
    slow, fast = 0.0, 0.0
    for value in values:
        slow = fitted.accumulate(slow, value, 1.0)
        for _ in range(10):
            fast = fitted.accumulate(fast, value, 0.1)
        assert fast == pytest.approx(slow, abs=1e-9)


def test_correlation_time_is_that_of_the_process():
    rng = np.random.default_rng(6)
    drives = [ar1(rng, 4000, 0.8) for _ in range(8)]
    assert correlation_steps(drives) == pytest.approx((1 + 0.8) / (1 - 0.8), rel=0.25)
    assert correlation_steps([rng.normal(size=9000)]) < 1.5
    assert correlation_steps([np.ones(50)]) == 1.0
