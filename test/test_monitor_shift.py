# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The monitor's warning of unfamiliar surroundings, by a reference with a sequential test."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from statistics_of_drives import with_test

from seg_uncertainty_ros.bundle import ClassInfo
from seg_uncertainty_ros.bundle import Threshold
from seg_uncertainty_ros.monitor.assessment import Observation
from seg_uncertainty_ros.monitor.config import MonitorConfig
from seg_uncertainty_ros.monitor.config import MonitorError
from seg_uncertainty_ros.monitor.domain_shift import WARM_UP
from seg_uncertainty_ros.monitor.monitor import Monitor
from seg_uncertainty_ros.shift.fitting import fit_shift_reference
from seg_uncertainty_ros.shift.image_statistics import ImageStatistics
from seg_uncertainty_ros.shift.indicators import frame_statistics

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
CLASSES = tuple(
    ClassInfo(name, (0, 0, 0), name in {'road', 'pavement'})
    for name in ('sky', 'road', 'pavement')
)
THRESHOLDS = {
    'ood_area': Threshold(0.02, 0.01, 'test'),
    'low_confidence': Threshold(0.2, 0.3, 'test'),
    'domain_shift': Threshold(2.0, 1.5, 'test'),
}
SIZE = 6
USUAL = ImageStatistics(0.5, 0.25, 0.5, 0.005, 0.3, 0.0, 0.01, 0.02)
NIGHT = {'confidence': 120, 'brightness': -0.3, 'sharpness': -0.2}


def observe(rng, stamp_ns, *, confidence=200, shift=0.0, image=True, **moved):
    """Return what a street looks like, and what moved."""
    mask = np.ones((36, 64), np.uint8)
    mask[:12] = 0
    plane = np.clip(rng.normal(confidence, 4.0, mask.shape), 0, 255).astype(np.uint8)
    anomaly = np.full(mask.shape, 20, np.uint8)
    statistics = ImageStatistics(*rng.normal(USUAL, 0.003))
    statistics = statistics._replace(**{k: getattr(statistics, k) + v for k, v in moved.items()})
    embedding = rng.normal(size=SIZE).astype(np.float32) + np.float32(shift)
    return Observation(
        stamp_ns, mask, plane, anomaly, embedding, image_statistics=statistics if image else None
    )


@pytest.fixture(scope='module')
def reference():
    rng = np.random.default_rng(0)

    def drive():
        seen = [observe(rng, START + index * SECOND // 4) for index in range(160)]
        return [
            replace(
                frame_statistics(
                    o.stamp_ns, o.mask, o.confidence, o.anomaly, o.embedding, classes=len(CLASSES)
                ),
                image=o.image_statistics,
            )
            for o in seen
        ]

    return with_test(fit_shift_reference({'town': [drive() for _ in range(5)]}), 0.5)


class Drive:
    """Feeds a monitor at 4 Hz and keeps what it says."""

    def __init__(self, reference, **values):
        config = MonitorConfig().with_values({k.replace('__', '.'): v for k, v in values.items()})
        self.monitor = Monitor(config, CLASSES, THRESHOLDS, reference, label='street 1.0.0 abc')
        self.rng = np.random.default_rng(1)
        self.stamp = START
        self.said = []

    def run(self, seconds, **arguments):
        """Drive on; return the assessments of these seconds."""
        first = len(self.said)
        for _ in range(round(seconds * 4)):
            self.stamp += SECOND // 4
            self.said.append(self.monitor.update(observe(self.rng, self.stamp, **arguments)))
        return self.said[first:]


def names(assessment):
    return [warning.name for warning in assessment.warnings]


def test_familiar_surroundings_are_quiet_and_judged_once_the_window_is_full(reference):
    said = Drive(reference).run(60.0)
    first = next(index for index, each in enumerate(said) if each.domain_shift is not None)
    assert first * 0.25 >= 1.25, 'three quarters of two seconds, a period included'
    assert all(WARM_UP in each.notes for each in said[:first])
    assert all(each.notes == () for each in said[first:])
    assert all(each.state == 'OK' for each in said)
    assert np.mean([each.domain_shift < 1 for each in said[first:]]) > 0.8
    assert max(each.shift_evidence for each in said[first:]) < 1
    assert said[-1].nearest_domain == 'town'


def test_a_wrong_start_is_no_warning_before_the_window_is_full(reference):
    for each in Drive(reference, domain_shift__hold_on_s=0.0).run(1.25, **NIGHT):
        assert each.domain_shift is None
        assert each.warnings == ()


def test_the_warning_says_what_moved_and_whereto(reference):
    drive = Drive(reference)
    drive.run(20.0)
    said = drive.run(20.0, **NIGHT)
    last = said[-1]
    assert names(last) == ['domain_shift'], 'nothing unknown is on the road'
    assert last.ood_area == 0
    (warning,) = last.warnings
    assert last.moved == ('darker', 'blurrier', 'confidence 0.78 -> 0.47')
    assert re.fullmatch(
        r'unfamiliar surroundings: darker, blurrier, confidence 0\.78 -> 0\.47; '
        r'shift \d+\.\dx baseline \(threshold 1\.00\) for \d+\.\d s, '
        r'evidence 2\.0x its threshold, nearest domain town',
        warning.message,
    )
    assert warning.value == last.domain_shift > 2
    assert warning.threshold == 1.0
    assert START + 20 * SECOND < warning.since_ns < START + 24 * SECOND
    assert drive.run(120.0)[-1].moved == ()


def test_an_alarm_begins_with_the_evidence_and_lasts_until_none_is_left(reference):
    drive = Drive(reference, domain_shift__hold_on_s=0.0, domain_shift__hold_off_s=0.0)
    drive.run(10.0)
    drive.run(6.0, **NIGHT)
    drive.run(120.0)
    raised = [bool(each.warnings) for each in drive.said]
    assert sum(a != b for a, b in pairwise(raised)) == 2, 'one alarm'
    begin, end = raised.index(True), len(raised) - 1 - raised[::-1].index(True)
    evidence = [each.shift_evidence for each in drive.said]
    assert evidence[begin - 1] < 1 <= evidence[begin]
    assert evidence[end] > 0 == evidence[end + 1]
    shifts = [each.domain_shift for each in drive.said]
    assert any(shift < 1 for shift in shifts[begin:end]), 'evidence outlasts the shift'
    quiet = [each for each in drive.said[begin:end] if each.domain_shift < 1]
    assert 'no longer beyond the threshold' in quiet[-1].message


def test_thresholds_given_by_parameters_are_named_and_count_instead_of_the_test(reference):
    drive = Drive(reference, domain_shift__enter=50.0, ood_area__enabled=False)
    said = drive.run(20.0, **NIGHT)
    assert max(each.domain_shift or 0 for each in said) > 2
    assert all(each.warnings == () for each in said)
    assert said[-1].overridden == ('ood_area disabled', 'domain_shift.enter 50')
    lower = Drive(reference, domain_shift__enter=1.8)
    (warning,) = lower.run(20.0, **NIGHT)[-1].warnings
    assert warning.threshold == 1.8
    assert Drive(reference).run(0.25)[-1].overridden == ()
    with pytest.raises(MonitorError, match=r'domain_shift\.exit: 1.5, expected below enter 1.2'):
        Drive(reference, domain_shift__enter=1.2)


def test_a_reference_without_a_test_takes_the_thresholds_of_the_bundle(reference):
    drive = Drive(replace(reference, test=None))
    drive.run(10.0)
    (warning,) = drive.run(10.0, **NIGHT)[-1].warnings
    assert (warning.threshold, drive.said[-1].shift_evidence) == (2.0, None)
    assert 'evidence' not in warning.message
    assert drive.run(20.0)[-1].warnings == ()


def test_latch_reset_and_jumps(reference):
    drive = Drive(reference, domain_shift__latch=True)
    drive.run(10.0)
    drive.run(10.0, **NIGHT)
    assert names(drive.run(100.0)[-1]) == ['domain_shift']
    assert drive.said[-1].shift_evidence < 1
    drive.run(10.0, **NIGHT)
    drive.monitor.reset()
    after = drive.run(1.0)
    assert all(each.warnings == () and each.domain_shift is None for each in after)
    drive.run(10.0, **NIGHT)
    drive.stamp -= 100 * SECOND
    back = drive.run(4.0)
    assert all(each.warnings == () for each in back), 'evidence from before the jump is void'
    assert back[0].domain_shift is None


def test_planes_without_image_statistics_are_judged(reference):
    drive = Drive(reference)
    last = drive.run(20.0, image=False)[-1]
    assert last.domain_shift < 1.5
    assert 'brightness' not in last.indicators
    assert {'embedding', 'mean_confidence'} <= set(last.indicators)
    darker = drive.run(20.0, image=False, confidence=120)[-1]
    assert names(darker) == ['domain_shift']
    assert 'darker' not in darker.message


def test_embeddings_that_are_not_finite_leave_the_rest(reference):
    drive = Drive(reference)
    drive.run(10.0)
    last = drive.run(10.0, shift=np.nan)[-1]
    assert last.notes == ('embedding is not finite, 40 ignored so far',)
    assert 'embedding' not in last.indicators
    assert 'brightness' in last.indicators


def test_state_holds_indicators_and_the_bundle_and_is_small(reference):
    drive = Drive(reference)
    drive.run(10.0, **NIGHT)
    text = json.dumps(drive.said[-1].to_dict(), allow_nan=False)
    assert len(text) < 4000
    content = json.loads(text)
    assert content['bundle'] == 'street 1.0.0 abc'
    brightness = content['indicators']['brightness']
    assert brightness['value'] == pytest.approx(0.2, abs=0.01)
    assert brightness['ratio'] > 1
    assert content['moved']
    assert content['shift_evidence'] > 1
    assert content['overridden'] == []
