# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Hysteresis, region of interest, anomalous area, and the monitor over time."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from seg_uncertainty_ros.bundle import ClassInfo
from seg_uncertainty_ros.bundle import Threshold
from seg_uncertainty_ros.monitor.assessment import Observation
from seg_uncertainty_ros.monitor.config import AnomalyConfig
from seg_uncertainty_ros.monitor.config import MonitorConfig
from seg_uncertainty_ros.monitor.config import MonitorError
from seg_uncertainty_ros.monitor.config import RegionConfig
from seg_uncertainty_ros.monitor.config import WarningConfig
from seg_uncertainty_ros.monitor.domain_shift import WARM_UP
from seg_uncertainty_ros.monitor.hysteresis import Hysteresis
from seg_uncertainty_ros.monitor.hysteresis import Limits
from seg_uncertainty_ros.monitor.monitor import Monitor
from seg_uncertainty_ros.monitor.ood_area import Scene
from seg_uncertainty_ros.monitor.ood_area import measure
from seg_uncertainty_ros.monitor.ood_area import place
from seg_uncertainty_ros.monitor.region_of_interest import RegionOfInterest
from seg_uncertainty_ros.monitor.region_of_interest import hull
from seg_uncertainty_ros.monitor.region_of_interest import sample
from seg_uncertainty_ros.segments.components import find
from seg_uncertainty_ros.segments.meta import Verdicts
from seg_uncertainty_ros.segments.tracks import Tracker
from seg_uncertainty_ros.shift.fitting import fit_shift_reference
from seg_uncertainty_ros.shift.indicators import frame_statistics

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
NAMES = 'sky building pole road pavement tree sign fence car pedestrian bicyclist'.split()  # noqa: SIM905
CLASSES = tuple(ClassInfo(name, (0, 0, 0), name in {'road', 'pavement'}) for name in NAMES)
BUILDING, ROAD, PAVEMENT, CAR = 1, 3, 4, 8
THRESHOLDS = {
    'ood_area': Threshold(0.02, 0.01, 'test'),
    'low_confidence': Threshold(0.5, 0.6, 'test'),
    'domain_shift': Threshold(2.0, 1.5, 'test'),
}
SIZE = 6


def states(limits, values, step_s=0.1):
    """Feed one value every ``step_s`` and return what is active as a string of 0 and 1."""
    hysteresis = Hysteresis(limits)
    return ''.join(
        str(int(hysteresis.update(value, START + round(index * step_s * SECOND))))
        for index, value in enumerate(values)
    )


@pytest.mark.parametrize(
    ('limits', 'values', 'expected'),
    [
        (Limits(5, 3), [0, 5, 4, 3.1, 3, 4, 9], '0111001'),
        (Limits(5, 3, hold_on_s=0.2), [5, 5, 5, 0], '0010'),
        (Limits(5, 3, hold_on_s=0.2), [5, 5, 4, 5, 5, 5], '000001'),
        (Limits(5, 3, hold_off_s=0.2), [5, 1, 1, 1, 5], '11101'),
        (Limits(5, 3, hold_off_s=0.2), [5, 1, 1, 4, 1, 1, 1], '1111110'),
        # Flicker faster than the hold times changes nothing.
        (Limits(5, 3, hold_on_s=0.1), [5, 1] * 5, '0' * 10),
        (Limits(5, 3, hold_off_s=0.1), [5, 1] * 5, '1' * 10),
        (Limits(5, 3, latch=True), [5, 1, 1, 1], '1111'),
        (Limits(3, 5, below=True), [9, 3, 4, 5, 3], '01101'),
        # No value is no evidence.
        (Limits(5, 3, hold_on_s=0.1), [5, None, 5, 5], '0001'),
        (Limits(5, 3), [5, None, float('nan'), 1], '1110'),
        (Limits(5, 3, hold_off_s=0.1), [5, 1, None, 1, 1], '11110'),
    ],
)
def test_hysteresis(limits, values, expected):
    assert states(limits, values) == expected


def test_hysteresis_since_is_the_first_bad_value():
    hysteresis = Hysteresis(Limits(5, 3, hold_on_s=0.5))
    for tenth, value in enumerate([0, 0, 5, 6, 7, 5, 5, 5, 4]):
        hysteresis.update(value, START + tenth * SECOND // 10)
    assert hysteresis.since_ns == START + 2 * SECOND // 10
    assert hysteresis.elapsed_s == pytest.approx(0.6)
    hysteresis.reset()
    assert not hysteresis.active
    assert hysteresis.elapsed_s == 0


@pytest.mark.parametrize(
    ('limits', 'steps_s', 'expected'),
    [
        # A jump back starts anew, latched or not: the hold time counts from there.
        (Limits(5, 3, hold_on_s=1), [0, 1, -5, 0.9, 0.1], '01001'),
        (Limits(5, 3, hold_on_s=1, latch=True), [0, 1, -5, 0.9, 0.1], '01001'),
        # So does a jump on, but it acknowledges nothing.
        (Limits(5, 3, hold_on_s=1, jump_s=4), [0, 1, 5, 0.9, 0.1], '01001'),
        (Limits(5, 3, hold_on_s=1, jump_s=4, latch=True), [0, 1, 5, 0.9], '0111'),
        (Limits(5, 3, hold_on_s=1, jump_s=4), [0, 0.5, 5, 0.9, 0.1], '00001'),
        (Limits(5, 3, hold_on_s=1, jump_s=4), [0, 4], '01'),
        # Stamps that stand still, or images that overtake each other, change nothing.
        (Limits(5, 3, hold_on_s=1), [0, 0, 0, 0, 1, 0], '000011'),
        (Limits(5, 3, hold_on_s=1), [0, 0.95, -0.05, 0.05, 0.05], '00001'),
    ],
)
def test_hysteresis_when_time_jumps(limits, steps_s, expected):
    hysteresis = Hysteresis(limits)
    stamp, seen = START, ''
    for step in steps_s:
        stamp += round(step * SECOND)
        seen += str(int(hysteresis.update(9, stamp)))
    assert seen == expected


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ({'enter': 1, 'exit': 1}, 'exit: 1, expected below enter 1'),
        ({'enter': 1, 'exit': 1, 'below': True}, 'exit: 1, expected above enter 1'),
        ({'enter': float('nan'), 'exit': 1}, 'enter: nan'),
        ({'enter': 2, 'exit': 1, 'hold_on_s': -1}, 'hold_on_s: -1'),
    ],
)
def test_limits_refuse(arguments, words):
    with pytest.raises(MonitorError, match=words):
        Limits(**arguments)


def road_mask(height=360, width=640):
    """Road as a trapezoid below the horizon, buildings elsewhere."""
    mask = np.full((height, width), BUILDING, np.uint8)
    corners = [(0, height), (0.45 * width, 0.5 * height), (0.55 * width, 0.5 * height)]
    cv2.fillPoly(mask, [np.array([*corners, (width, height)], np.int32)], ROAD)
    return mask


def test_region_includes_an_object_on_the_road():
    bare, mask = road_mask(180, 320), road_mask(180, 320)
    mask[100:130, 150:190] = CAR  # amid the road
    mask[150:180, 140:200] = CAR  # at the lower border of the image
    mask[120:140, 60:90] = CAR  # at the left border of the road
    region = RegionOfInterest(RegionConfig(), CLASSES).find(mask)
    assert region[100:130, 150:190].all()
    assert region[150:180, 140:200].all()
    on_road = bare[120:140, 60:90] == ROAD
    assert region[120:140, 60:90][on_road].mean() > 0.5
    assert not region[:85].any()


def test_region_leaves_out_what_is_no_ground():
    mask = road_mask(180, 320)
    expected = RegionOfInterest(RegionConfig(), CLASSES).find(mask)
    mask[10:40, 100:200] = ROAD  # a wall, high up in the image
    mask[140:144, 2:6] = PAVEMENT  # a speckle
    region = RegionOfInterest(RegionConfig(), CLASSES).find(mask)
    np.testing.assert_array_equal(region, expected)


def test_region_by_polygon_and_both():
    mask = road_mask(100, 200)
    polygon = ((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0))
    right = RegionOfInterest(RegionConfig(classes=(), polygon=polygon), CLASSES).find(mask)
    assert right[:, 100:].all()
    assert not right[:, :99].any()
    both = RegionOfInterest(RegionConfig(polygon=polygon), CLASSES).find(mask)
    ground = RegionOfInterest(RegionConfig(), CLASSES).find(mask)
    np.testing.assert_array_equal(both, ground & right)
    everything = RegionOfInterest(RegionConfig(classes=()), CLASSES).find(mask)
    assert everything.all()
    named = RegionConfig(classes=('pavement', 'ground', 'road'))
    assert set(RegionOfInterest(named, CLASSES).classes) == {'road', 'pavement'}
    own = (*CLASSES, ClassInfo('ground', (0, 0, 0)))
    assert RegionOfInterest(RegionConfig(), own).classes == ('ground',)
    with pytest.raises(MonitorError, match='the model calls none of its classes so; expected'):
        RegionOfInterest(RegionConfig(), [ClassInfo('lane', (0, 0, 0))])
    unseen = RegionOfInterest(RegionConfig(), CLASSES).find(np.full((100, 200), 255, np.uint8))
    assert unseen is None


def test_hull_equals_plain_loops():
    inside = np.random.default_rng(0).random((14, 19)) < 0.06
    places = np.argwhere(inside)
    expected = np.zeros(inside.shape, np.uint8)
    for row, column in np.ndindex(*inside.shape):
        away = places - (row, column)
        for step in ((0, 1), (1, 0), (1, 1), (1, -1)):
            on_line = away[away[:, 0] * step[1] == away[:, 1] * step[0]] @ step
            expected[row, column] |= (on_line <= 0).any() and (on_line >= 0).any()
    assert inside.sum() < expected.sum() < expected.size
    np.testing.assert_array_equal(hull(inside), expected)


@pytest.mark.parametrize('shape', [(1, 1), (1, 2000), (2000, 1), (7, 641), (720, 1280)])
def test_working_size_fits_any_size(shape):
    height, width = RegionOfInterest(RegionConfig(), CLASSES).working_size(*shape)
    assert 1 <= width <= 160
    assert 1 <= height <= shape[0]


def test_sampling_takes_the_centre_of_blocks():
    plane = np.arange(45, dtype=np.uint8).reshape(5, 9)
    np.testing.assert_array_equal(sample(plane, (5, 3)), plane[:, 1::3])
    assert sample(plane, (5, 9)) is plane
    assert sample(plane, (1, 1)) == plane[2, 4]


def measured(
    anomaly,
    mask=None,
    region=None,
    config=AnomalyConfig(opening=5),  # noqa: B008
    factor=1,
    verdicts=None,
):
    mask = np.full(anomaly.shape, ROAD, np.uint8) if mask is None else mask
    region = np.ones(anomaly.shape, np.uint8) if region is None else region
    size = (round(anomaly.shape[0] * factor), round(anomaly.shape[1] * factor))
    return measure(
        Scene(anomaly, mask, region, size),
        find(anomaly, threshold=config.threshold, opening=config.opening),
        verdicts,
        Tracker(),
        START,
        classes=CLASSES,
        config=config,
        threshold=0.4,
    )


def test_thin_boundaries_are_no_objects():
    anomaly = np.zeros((180, 320), np.uint8)
    anomaly[90:92] = 255
    anomaly[:, 160:164] = 255
    cv2.line(anomaly, (0, 0), (159, 179), 255, 3)
    assert measured(anomaly).fraction == 0
    anomaly[100:120, 40:60] = 255
    found = measured(anomaly)
    assert found.fraction == pytest.approx(400 / (180 * 320))
    assert measured(anomaly, config=AnomalyConfig(opening=1)).fraction > 0.02


def test_regions_say_where_how_much_and_what():
    anomaly = np.zeros((180, 300), np.uint8)
    mask = np.full(anomaly.shape, ROAD, np.uint8)
    region = np.zeros(anomaly.shape, np.uint8)
    region[90:] = 1
    anomaly[150:170, 140:160] = 204
    mask[150:170, 140:155] = CAR
    anomaly[95:105, 10:20] = 255
    anomaly[0:50, 0:50] = 255  # outside
    found = measured(anomaly, mask, region, factor=2)
    near, far = found.regions
    assert found.fraction == pytest.approx(500 / (90 * 300))
    assert (near.box.x, near.box.y, near.box.width, near.box.height) == (280, 300, 40, 40)
    assert str(near.box) == 'box x=280..319 y=300..339'
    assert near.area == pytest.approx(400 / (90 * 300))
    assert near.anomaly == pytest.approx(0.8)
    assert (near.predicted, near.place) == ('car', 'centre near')
    assert (far.predicted, far.place) == ('road', 'left far')
    bounded = measured(anomaly, mask, region, AnomalyConfig(max_regions=1))
    assert [item.predicted for item in bounded.regions] == ['car']
    assert bounded.fraction == found.fraction


def test_an_object_at_the_border_of_the_region_keeps_its_box():
    anomaly = np.zeros((100, 100), np.uint8)
    region = np.zeros(anomaly.shape, np.uint8)
    region[50:] = 1
    anomaly[40:60, 20:50] = 255
    found = measured(anomaly, region=region, factor=2.5)
    (item,) = found.regions
    assert found.fraction == item.area == pytest.approx(300 / 5000)
    assert (item.box.x, item.box.y, item.box.width, item.box.height) == (50, 100, 75, 50)


def test_meta_model_dismisses_and_can_be_switched_off():
    anomaly = np.zeros((100, 100), np.uint8)
    anomaly[10:30, 10:30] = 255
    anomaly[50:60, 50:60] = 255
    verdicts = Verdicts(np.array([0.39, 0.41]), np.array([0.2, 0.6]))
    found = measured(anomaly, verdicts=verdicts)
    assert [(item.probability, item.iou) for item in found.regions] == [(0.41, 0.6)]
    assert (found.dismissed, found.fraction) == (1, pytest.approx(0.01))
    everything = measured(anomaly, config=AnomalyConfig(meta=False), verdicts=verdicts)
    assert [item.probability for item in everything.regions] == [0.39, 0.41]
    assert (everything.dismissed, everything.fraction) == (0, pytest.approx(0.05))
    unjudged = measured(anomaly)
    assert [item.probability for item in unjudged.regions] == [None, None]


def test_threshold_is_on_the_fixed_scale():
    anomaly = np.full((20, 20), 127, np.uint8)
    assert measured(anomaly, config=AnomalyConfig(threshold=0.5)).fraction == 0
    anomaly[:] = 128
    assert measured(anomaly, config=AnomalyConfig(threshold=0.5)).fraction == 1
    assert measured(anomaly, config=AnomalyConfig(threshold=128 / 255)).fraction == 1


@pytest.mark.parametrize(
    ('across', 'down', 'words'),
    [
        (0.0, 0.1, 'left far'),
        (0.5, 0.5, 'centre middle'),
        (1.0, 1.0, 'right near'),
        (0.34, 0.3, 'centre far'),
        (0.9, 0.67, 'right near'),
        (-1.0, 2.0, 'left near'),
    ],
)
def test_place(across, down, words):
    assert place(across, down) == words


@pytest.fixture(scope='module')
def reference():
    """Return a reference to drives of what ``Drive`` shows, embeddings apart."""
    rng = np.random.default_rng(0)
    planes = road_mask(), np.full((360, 640), 200, np.uint8), np.full((360, 640), 20, np.uint8)

    def drive():
        return [
            frame_statistics(
                START + index * SECOND // 10,
                *planes,
                rng.normal(size=SIZE),
                classes=len(CLASSES),
            )
            for index in range(300)
        ]

    return fit_shift_reference({'town': [drive() for _ in range(4)]}).reference


class Drive:
    """Feeds a monitor at 10 Hz."""

    def __init__(self, reference, config=None, start=START):
        self.monitor = Monitor(config or MonitorConfig(), CLASSES, THRESHOLDS, reference)
        self.rng = np.random.default_rng(1)
        self.stamp = start
        self.transitions = []

    def frame(self, *, ood=False, confidence=200, shift=0.0, latency=0.05, mask=None):
        """Return the observation at the present stamp."""
        mask = road_mask() if mask is None else mask
        anomaly = np.full(mask.shape, 20, np.uint8)
        if ood:
            anomaly[200:250, 280:360] = 250
        embedding = (self.rng.normal(size=SIZE) + shift).astype(np.float32)
        plane = np.full(mask.shape, confidence, np.uint8)
        return Observation(self.stamp, mask, plane, anomaly, embedding, latency)

    def run(self, seconds, **arguments):
        """Drive on; return the last assessment."""
        for _ in range(round(seconds * 10)):
            self.stamp += SECOND // 10
            assessment = self.monitor.update(self.frame(**arguments))
            self.transitions += assessment.transitions
        return assessment

    @property
    def events(self):
        return [
            (event.name, event.raised, round((event.stamp_ns - START) / SECOND, 1))
            for event in self.transitions
        ]


def test_an_object_is_no_older_than_the_view_of_the_ground(reference):
    drive = Drive(reference)
    (before,) = drive.run(1.0, ood=True).regions
    drive.run(2.0, ood=True, mask=np.zeros_like(road_mask()))
    (after,) = drive.run(0.1, ood=True).regions
    assert (before.track, after.track, after.age_s) == (1, 2, 0.0)


def test_objects_of_a_slow_camera_count_once_they_are_old_enough(reference):
    drive = Drive(reference, MonitorConfig(anomaly=AnomalyConfig(min_age_s=1.5)))
    counted = []
    for _ in range(4):
        drive.stamp += SECOND
        counted.append(len(drive.monitor.update(drive.frame(ood=True)).regions))
    assert counted == [0, 0, 1, 1]


def test_unknown_object_is_raised_and_cleared_in_words(reference):
    drive = Drive(reference)
    quiet = drive.run(3.0)
    assert (quiet.state, quiet.warnings, quiet.notes) == ('OK', (), ())
    assert quiet.message == 'nothing unusual'
    loud = drive.run(2.0, ood=True)
    assert loud.state == 'ERROR'
    (warning,) = loud.warnings
    assert (warning.name, warning.level, warning.threshold) == ('ood_area', 'ERROR', 0.02)
    assert warning.since_ns == START + round(3.1 * SECOND)
    assert warning.value == loud.ood_area > 0.02
    assert (warning.box.x, warning.box.width) == (280, 80)
    assert warning.where == 'centre middle'
    assert warning.message == (
        f'unknown object: {100 * warning.value:.1f} % of the road region is anomalous '
        '(threshold 2.0 %) for 1.9 s, centre middle, box x=280..359 y=200..247, '
        'taken for road, in view for 1.9 s'
    )
    (region,) = loud.regions
    assert (region.predicted, region.track, region.persistence) == ('road', 1, 1.0)
    assert region.age_s == pytest.approx(1.9)
    over = drive.run(0.5)
    assert over.state == 'ERROR'
    assert 'no longer beyond the threshold' in over.message
    assert drive.run(2.0).state == 'OK'
    assert drive.events == [('ood_area', True, 3.6), ('ood_area', False, 6.1)]
    assert drive.transitions[1].message == 'ood_area cleared after 3.0 s'


def test_short_flicker_is_no_warning(reference):
    drive = Drive(reference)
    for _ in range(10):
        drive.run(0.4, ood=True)
        drive.run(0.1)
    assert drive.events == []


def test_latch_and_reset(reference):
    config = MonitorConfig().with_values({'ood_area.latch': True})
    drive = Drive(reference, config)
    drive.run(1.0, ood=True)
    latched = drive.run(5.0)
    assert latched.state == 'ERROR'
    assert 'latched until reset' in latched.message
    drive.monitor.reset()
    assert drive.run(0.1).state == 'OK'
    assert drive.transitions[-1].message == 'ood_area cleared: reset'


def test_domain_shift_is_another_warning_and_warms_up(reference):
    drive = Drive(reference)
    first = drive.run(0.2)
    assert first.domain_shift is None
    assert first.notes == (WARM_UP,)
    unfamiliar = Drive(reference, MonitorConfig().with_values({'domain_shift.hold_on_s': 0.0}))
    assert unfamiliar.run(1.4, shift=50.0).domain_shift is None, 'the window is not full'
    assert [w.name for w in unfamiliar.run(0.5, shift=50.0).warnings] == ['domain_shift']
    assert 0 < drive.run(2.0).domain_shift < 1.5
    drive.transitions.clear()
    shifted = drive.run(5.0, shift=4.0)
    assert [warning.name for warning in shifted.warnings] == ['domain_shift']
    assert (shifted.state, shifted.nearest_domain) == ('WARN', 'town')
    assert shifted.ood_area == 0
    assert f'shift {shifted.domain_shift:.1f}x baseline (threshold 2.00)' in shifted.message
    assert 'nearest domain town' in shifted.message
    assert drive.run(6.0).state == 'OK'
    assert [event[:2] for event in drive.events] == [
        ('domain_shift', True),
        ('domain_shift', False),
    ]


def test_low_confidence_in_image_and_region(reference):
    drive = Drive(reference)
    unsure = drive.run(2.0, confidence=100)
    assert unsure.mean_confidence == pytest.approx(100 / 255)
    assert unsure.message.startswith(
        'unsure: mean confidence in the image is 0.39 (threshold 0.50)'
    )
    monitor = Monitor(MonitorConfig(confidence_in='region'), CLASSES, THRESHOLDS, reference)
    mask = road_mask()
    confidence = np.where(mask == ROAD, 204, 0).astype(np.uint8)
    frame = Observation(START, mask, confidence, np.zeros_like(mask))
    assert monitor.update(frame).mean_confidence == pytest.approx(0.8, abs=0.01)
    nowhere = replace(frame, mask=np.zeros_like(mask))
    assert monitor.update(nowhere).mean_confidence is None


def test_latency(reference):
    drive = Drive(reference)
    assert drive.run(3.0).latency_s == pytest.approx(0.05)
    drive.run(0.1, latency=2.0)
    assert drive.run(3.0).state == 'OK', 'one late image is not a warning'
    late = drive.run(2.0, latency=0.9)
    assert late.message.startswith('late: 95 % of the images within 0.900 s (threshold 0.500 s)')
    assert drive.run(0.1, latency=None).latency_s == pytest.approx(0.9)
    assert drive.run(0.1, latency=float('nan')).latency_s == pytest.approx(0.9)


def test_stale_input(reference):
    drive = Drive(reference)
    waiting = drive.monitor.tick(START)
    assert (waiting.state, waiting.warnings) == ('STALE', ())
    assert 'no image yet' in waiting.notes
    assert drive.monitor.tick(START + 2 * SECOND).warnings[0].name == 'stale_input'
    drive.stamp += 2 * SECOND
    assert drive.run(2.0).state == 'OK'
    arrival = drive.stamp + SECOND // 20
    assert drive.monitor.tick(arrival + SECOND * 9 // 10).state == 'OK'
    silent = drive.monitor.tick(arrival + SECOND)
    assert silent.state == 'STALE'
    assert silent.message.startswith('input is silent: no image for 1.0 s (threshold 1.0 s)')
    assert [event.raised for event in silent.transitions] == [True]
    drive.stamp += SECOND
    drive.transitions.clear()
    assert drive.run(1.0).state == 'OK'
    assert [event[:2] for event in drive.events] == [('stale_input', False)]


def test_stale_input_where_the_latency_is_not_known(reference):
    drive = Drive(reference)
    for _ in range(20):
        drive.run(0.1, latency=None)
        # Images reach the monitor 0.4 s after their stamp; ticks come in between.
        assert drive.monitor.tick(drive.stamp + SECOND * 4 // 10).state != 'ERROR'
    assert drive.monitor.tick(drive.stamp + 2 * SECOND).state == 'STALE'


def test_a_jump_of_time_starts_anew(reference):
    drive = Drive(reference, MonitorConfig().with_values({'ood_area.latch': True}))
    drive.run(3.0, ood=True)
    drive.stamp -= 20 * SECOND
    after = drive.run(0.1)
    assert after.state == 'OK'
    assert after.domain_shift is None
    assert drive.transitions[-1].message == 'ood_area cleared: time jumped'
    drive.run(3.0, ood=True)
    drive.stamp += 60 * SECOND
    gap = drive.run(0.1)
    assert gap.state == 'ERROR', 'an outage does not acknowledge a latched warning'
    assert gap.domain_shift is None
    drive.monitor.jump()
    assert drive.run(0.1).state == 'OK'


def test_ticks_that_go_back_start_anew(reference):
    drive = Drive(reference)
    drive.run(3.0, ood=True)
    assert drive.monitor.tick(START).state == 'STALE'
    assert drive.monitor.tick(START + SECOND // 2).warnings == ()


def test_stamps_that_stand_still(reference):
    drive = Drive(reference)
    for _ in range(100):
        assessment = drive.monitor.update(drive.frame(ood=True))
    assert assessment.state == 'OK', 'no hold time passes'
    assert assessment.ood_area > 0.02


def test_embeddings_that_are_not_finite(reference):
    drive = Drive(reference)
    before = drive.run(3.0)
    broken = drive.run(0.3, shift=np.nan)
    assert broken.domain_shift is not None
    assert broken.notes == ('embedding is not finite, 3 ignored so far',)
    assert before.notes == ()
    assert 'embedding' in broken.indicators
    lost = drive.run(3.0, shift=np.nan)
    assert 'embedding' not in lost.indicators
    assert lost.nearest_domain is None
    assert lost.domain_shift is not None, 'confidence and classes are still judged'


def test_no_road(reference):
    drive = Drive(reference)
    blind = drive.run(2.0, mask=np.zeros((360, 640), np.uint8), ood=True)
    assert blind.ood_area is None
    assert blind.notes == ('no road visible',)
    assert blind.regions == ()


def test_an_object_that_hides_the_road_clears_no_warning(reference):
    drive = Drive(reference)
    assert [w.name for w in drive.run(2.0, ood=True).warnings] == ['ood_area']
    warning, shift = drive.run(5.0, mask=np.zeros((360, 640), np.uint8)).warnings
    assert shift.name == 'domain_shift', 'other classes than ever'
    assert warning.message.startswith('unknown object: not measurable now')
    assert drive.run(5.0).warnings == ()


def test_changing_and_tiny_resolutions(reference):
    monitor = Monitor(
        MonitorConfig(region=RegionConfig(polygon=((0, 0), (1, 0), (1, 1), (0, 1)))),
        CLASSES,
        THRESHOLDS,
        reference,
    )
    for index, shape in enumerate([(360, 640), (1, 1), (720, 1280), (227, 320), (2, 3000)]):
        mask, high = np.full(shape, ROAD, np.uint8), np.full(shape, 255, np.uint8)
        assessment = monitor.update(Observation(START + index * SECOND, mask, high, high))
        assert (assessment.ood_area, assessment.mean_confidence) == (1.0, 1.0), shape
        (region,) = assessment.regions
        assert (region.box.width, region.box.height) == (shape[1], shape[0])


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'mask': np.zeros((2, 3), np.int32)}, 'mask: int32, expected uint8'),
        ({'mask': None}, 'mask: NoneType'),
        ({'anomaly': np.zeros((3, 2), np.uint8)}, r'anomaly: shape \(3, 2\), expected \(2, 3\)'),
        ({'confidence': np.zeros((2, 3, 1), np.uint8)}, r'confidence: shape \(2, 3, 1\)'),
        ({'mask': np.zeros((0, 3), np.uint8)}, r'mask: shape \(0, 3\)'),
        ({'embedding': np.zeros(5)}, r'embedding: shape \(5,\), expected \(6,\)'),
    ],
)
def test_malformed_observations_are_refused_and_leave_no_trace(reference, changes, words):
    drive = Drive(reference)
    before = drive.run(1.0)
    plane = np.zeros((2, 3), np.uint8)
    wrong = replace(Observation(START, plane, plane, plane), **changes)
    with pytest.raises(MonitorError, match=words):
        drive.monitor.update(wrong)
    assert drive.monitor.tick(drive.stamp).ood_area == before.ood_area
    assert drive.run(2.0).state == 'OK'


def test_thresholds_of_the_bundle_and_of_the_config(reference):
    config = MonitorConfig().with_values({'ood_area.enter': 0.9})
    assert Drive(reference, config).run(1.0, ood=True).state == 'OK'
    with pytest.raises(MonitorError, match=r'ood_area\.exit: 0.01, expected below enter 0.005'):
        Drive(reference, MonitorConfig().with_values({'ood_area.enter': 0.005}))
    with pytest.raises(MonitorError, match='domain_shift: no threshold in the bundle'):
        Monitor(
            MonitorConfig(),
            CLASSES,
            {'ood_area': THRESHOLDS['ood_area']}
            | {'low_confidence': THRESHOLDS['low_confidence']},
            reference,
        )
    disabled = MonitorConfig().with_values({'domain_shift.enabled': False})
    few = {name: THRESHOLDS[name] for name in ('ood_area', 'low_confidence')}
    assert Monitor(disabled, CLASSES, few, None).tick(START).domain_shift is None


def test_parameters_change_while_running(reference):
    drive = Drive(reference)
    drive.run(3.0, ood=True)
    with pytest.raises(MonitorError, match=r"region\.classes: 'lawn', no such class"):
        drive.monitor.configure(MonitorConfig(region=RegionConfig(classes=('lawn',))))
    assert drive.run(0.1, ood=True).state == 'ERROR', 'refused as a whole'
    drive.monitor.configure(MonitorConfig().with_values({'ood_area.level': 'WARN'}))
    changed = drive.run(0.1, ood=True)
    assert changed.state == 'WARN'
    assert changed.domain_shift is not None, 'the window goes on'
    drive.monitor.configure(MonitorConfig().with_values({'ood_area.enabled': False}))
    assert drive.run(0.1, ood=True).state == 'OK'
    assert drive.transitions[-1].message == 'ood_area cleared: disabled'


@pytest.mark.parametrize(
    ('values', 'words'),
    [
        ({'ood_area.hold_on_s': -1.0}, 'ood_area.hold_on_s: -1.0, expected from 0 to 3600'),
        ({'latency.enter': float('nan')}, 'latency.enter: nan, expected a finite number'),
        ({'latency.exit': None}, 'latency: no enter or no exit'),
        (
            {'low_confidence.level': 'FATAL'},
            "low_confidence.level: 'FATAL', expected WARN or ERROR",
        ),
        ({'region.polygon': ((0, 0), (1, 1))}, 'region.polygon: 2 points'),
        ({'region.polygon': ((0, 0), (1, 1), (0, 2))}, r'region.polygon\[2\]: 2, expected from 0'),
        ({'region.polygon': ((0, 0), (1,), (0, 1))}, r'region.polygon\[1\]: \(1,\)'),
        ({'region.working_width': 320.0}, 'region.working_width: 320.0, expected a whole number'),
        ({'region.min_area': 2.0}, 'region.min_area: 2.0'),
        ({'anomaly.threshold': 0.0}, 'anomaly.threshold: 0.0, expected from 0.001 to 1'),
        ({'anomaly.opening': 0}, 'anomaly.opening: 0'),
        ({'confidence_in': 'road'}, "confidence_in: 'road', expected image or region"),
        ({'jump_s': 0}, 'jump_s: 0'),
        ({'ood_area': 3}, 'ood_area: 3, no such parameter'),
        ({'ood_area.entry': 3}, 'ood_area.entry: 3, no such parameter'),
        ({'jump_s.x': 3}, 'jump_s.x: 3, no such parameter'),
        ({'nothing': 3}, 'nothing: 3, no such parameter'),
    ],
)
def test_config_names_what_is_wrong(values, words):
    with pytest.raises(MonitorError, match=words):
        MonitorConfig().with_values(values)


def test_config_with_values_replaces_only_those():
    config = MonitorConfig().with_values(
        {'ood_area.enter': 0.05, 'ood_area.exit': 0.04, 'jump_s': 3.0, 'region.classes': ('road',)}
    )
    assert config.ood_area == WarningConfig(enter=0.05, exit=0.04, level='ERROR')
    assert config.region == RegionConfig(classes=('road',))
    assert config.jump_s == 3.0
    assert config.latency == MonitorConfig().latency


def test_assessment_is_json(reference):
    drive = Drive(reference)
    content = json.loads(json.dumps(drive.run(1.0, ood=True).to_dict(), allow_nan=False))
    assert content['state'] == 'ERROR'
    assert content['warnings'][0]['box'] == {'x': 280, 'y': 200, 'width': 80, 'height': 48}
    assert content['regions'][0]['place'] == 'centre middle'
    assert content['transitions'] == []
    assert content['stamp_ns'] == drive.stamp
