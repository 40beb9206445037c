# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Thresholds of a user's own drives: rate of false alarms, what is refused, what is written."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from statistics_of_drives import random_drive

from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.bundle import Threshold
from seg_uncertainty_ros.calibration.calibrate import calibrate
from seg_uncertainty_ros.calibration.calibrate import held_out_shift
from seg_uncertainty_ros.calibration.calibrate import write_bundle
from seg_uncertainty_ros.calibration.false_alarms import alarms
from seg_uncertainty_ros.calibration.false_alarms import false_alarms
from seg_uncertainty_ros.calibration.judging import false_alarm_rates
from seg_uncertainty_ros.calibration.judging import limits
from seg_uncertainty_ros.calibration.judging import ramp_delay
from seg_uncertainty_ros.calibration.judging import series
from seg_uncertainty_ros.calibration.observed import DriveError
from seg_uncertainty_ros.calibration.observed import ObservedDrive
from seg_uncertainty_ros.calibration.observed import observe_drive
from seg_uncertainty_ros.calibration.return_level import ReturnLevelError
from seg_uncertainty_ros.calibration.return_level import Series
from seg_uncertainty_ros.calibration.return_level import last
from seg_uncertainty_ros.calibration.return_level import return_level
from seg_uncertainty_ros.cli import main
from seg_uncertainty_ros.corruptions import Ramp
from seg_uncertainty_ros.evaluation.shift import COLUMNS
from seg_uncertainty_ros.evaluation.shift import auroc
from seg_uncertainty_ros.evaluation.shift import known_drives
from seg_uncertainty_ros.evaluation.shift import separation
from seg_uncertainty_ros.frames import Frame
from seg_uncertainty_ros.monitor.assessment import Observation
from seg_uncertainty_ros.monitor.config import MonitorConfig
from seg_uncertainty_ros.monitor.hysteresis import Limits
from seg_uncertainty_ros.monitor.monitor import Monitor
from seg_uncertainty_ros.pipeline import Pipeline
from seg_uncertainty_ros.procedural import random_scene
from seg_uncertainty_ros.recordings.bag_writer import BagWriter
from seg_uncertainty_ros.shift.fitting import fit_shift_reference

SECOND = 1_000_000_000
SIZE, CLASSES = 24, 5
TOPIC = '/camera/image_raw'


def observed(seed, seconds=60, shift_after_s=None, size=SIZE, classes=CLASSES):
    frames = random_drive(seed, size=size, classes=classes, seconds=seconds)
    if shift_after_s is not None:
        begin = frames[0].stamp_ns + shift_after_s * SECOND
        frames = [
            replace(frame, embedding=frame.embedding + np.float32(4))
            if frame.stamp_ns >= begin
            else frame
            for frame in frames
        ]
    rng = np.random.default_rng(seed)
    area = rng.exponential(0.001, len(frames))
    return ObservedDrive(f'drive {seed}', tuple(frames), area, rng.normal(0.93, 0.01, len(frames)))


def exponential(rng, seconds):
    return Series(np.arange(seconds, dtype=float), rng.exponential(size=seconds))


def test_level_of_plenty_of_data_is_the_one_that_is_exceeded_once_in_the_period():
    found = return_level([exponential(np.random.default_rng(0), 36_000)], period_h=0.25)
    assert found.level == pytest.approx(np.log(900), rel=0.05)
    assert found.low <= found.level <= found.high
    assert not found.extrapolated


def test_level_of_little_data_is_exceeded_once_in_the_period_on_average():
    rng = np.random.default_rng(1)
    levels = [return_level([exponential(rng, 100)], period_h=10.0).level for _ in range(100)]
    assert 0.4 < 36_000 * np.mean(np.exp(-np.array(levels))) < 1.6
    assert return_level([exponential(rng, 100)], period_h=10.0).extrapolated


@pytest.mark.parametrize('hold_s', [0.0, 0.5, 1.3])
def test_what_lasts_is_what_raises_the_alarm_of_the_monitor(hold_s):
    rng = np.random.default_rng(2)
    for _ in range(30):
        drive = Series(np.cumsum(rng.uniform(0.05, 0.6, 60)), rng.random(60))
        drive.values[rng.random(60) < 0.05] = np.nan
        lasting = last(drive, hold_s)
        for level in (0.3, 0.6, 0.8):
            raised = alarms(drive, Limits(level, level - 0.1, hold_s, 0.2))
            assert bool(raised) == bool((lasting[np.isfinite(lasting)] >= level).any())


def test_too_little_data_for_a_level_says_how_much_is_needed():
    with pytest.raises(ReturnLevelError, match=r'blocks of 2 s in 15 s, expected .*20 s or more'):
        return_level([exponential(np.random.default_rng(3), 15)], period_h=10.0)
    with pytest.raises(ReturnLevelError, match=r'no value lasts 1 s'):
        return_level([Series(np.arange(9.0), np.full(9, np.nan))], period_h=10.0, hold_s=1.0)


def test_false_alarms_of_a_known_rate():
    rng = np.random.default_rng(4)
    drives = [
        Series(np.arange(3600.0), (rng.random(3600) < 1 / 600).astype(float)) for _ in range(5)
    ]
    real = sum(int(drive.values.sum()) for drive in drives) / 5
    found = false_alarms(drives, Limits(0.5, 0.4))
    assert found.hours == pytest.approx(5.0)
    assert found.alarms == pytest.approx(5 * real, abs=1)
    assert found.per_hour == pytest.approx(real, rel=0.2)
    assert found.low < found.per_hour < found.high
    below = Series(drives[0].seconds, 1 - drives[0].values)
    raised = alarms(drives[0], Limits(0.5, 0.4))
    assert alarms(below, Limits(0.5, 0.6, below=True)) == raised
    assert false_alarms(drives, Limits(1.5, 0.4)).per_hour == 0


def test_drives_are_cut_where_time_jumps():
    drive = observed(0, seconds=10)
    jumped = replace(
        drive,
        frames=(
            *drive.frames[:5],
            *(replace(f, stamp_ns=f.stamp_ns - 60 * SECOND) for f in drive.frames[5:8]),
            *drive.frames[8:],
        ),
    )
    assert [len(piece.frames) for piece in jumped.pieces(10.0)] == [5, 3, 12]


def test_a_drive_is_judged_by_the_others_when_it_is_held_out(bundle):
    drives = [observed(0), observed(1), observed(2, shift_after_s=0)]
    fit = fit_shift_reference({'lab': [drive.frames for drive in drives]})
    judged = replace(bundle, reference=fit.reference)
    own = [np.nanmedian(series(judged, drive, 'domain_shift').values) for drive in drives]
    medians = [np.nanmedian(piece.values) for piece in held_out_shift(fit, 10.0)]
    assert len(medians) == 3, 'held out whole'
    assert max(medians) > 1.5 * max(own)
    prevailing = [observed(0, 60).frames, observed(1, 5).frames]
    halved = held_out_shift(fit_shift_reference({'lab': prevailing}), 10.0)
    assert len(halved) == 4, 'cut in halves'


def test_calibrated_thresholds_are_quiet_on_new_drives_and_loud_on_others(bundle):
    sizes = {'size': bundle.reference.size, 'classes': len(bundle.classes)}
    found = calibrate(bundle, {'lab': [observed(seed, **sizes) for seed in range(3)]})
    judged = replace(bundle, reference=found.reference, thresholds=found.thresholds)
    rates = false_alarm_rates(judged, [observed(seed, **sizes) for seed in range(10, 13)])
    assert {name: rate.per_hour for name, rate in rates.items()} == dict.fromkeys(rates, 0.0)
    ramp = Ramp(5.0, 20.0, 30.0)
    assert ramp_delay(judged, observed(20, shift_after_s=20, **sizes), ramp)[0] == 0
    assert -6 < ramp_delay(judged, observed(20, shift_after_s=20, **sizes), ramp)[1] < 0
    assert ramp_delay(judged, observed(20, **sizes), ramp) == (0, None)
    for threshold in found.thresholds.values():
        assert 'once in 10 h' in threshold.reason
        assert 'extrapolated' in threshold.reason


def test_more_hours_between_false_alarms_move_every_threshold_away(bundle):
    drives = [observed(seed) for seed in range(3)]
    limits = {'ood_area': (0.001, 0.0), 'low_confidence': (0.999, 1.0)}
    strict = replace(
        bundle, thresholds={name: Threshold(*pair, 'of a test') for name, pair in limits.items()}
    )
    often, rarely = (
        calibrate(strict, {'lab': drives}, ert_h=hours).thresholds for hours in (1.0, 100.0)
    )
    assert rarely['ood_area'].enter >= often['ood_area'].enter
    assert rarely['low_confidence'].enter < often['low_confidence'].enter
    assert rarely['domain_shift'].enter > often['domain_shift'].enter


def test_few_even_drives_are_no_reason_to_warn_of_less_than_before(bundle):
    drives = {'lab': [observed(seed) for seed in range(3)]}
    before = bundle.thresholds['low_confidence'].enter
    found = calibrate(bundle, drives, ert_h=1.0).thresholds['low_confidence']
    assert found.enter == before
    assert f'the {1 - before:.3g} of the bundle stays' in found.reason
    # Enough of them are.
    found = calibrate(bundle, drives, ert_h=0.01).thresholds['low_confidence']
    assert found.enter > before


def test_a_sequential_test_is_fitted_where_it_is_wanted(bundle):
    drives = [observed(seed) for seed in range(3)]
    found = calibrate(bundle, {'lab': drives}, sequential=True)
    assert found.reference.test.ert_h == 10.0
    assert calibrate(bundle, {'lab': drives}).reference.test is None
    judged = replace(bundle, reference=found.reference, thresholds=found.thresholds)
    assert limits(judged, 'domain_shift') == Limits(1.0, 0.0, 1.0, 2.0, jump_s=10.0)
    ramp = Ramp(5.0, 20.0, 30.0)
    assert ramp_delay(judged, observed(20, shift_after_s=20), ramp)[1] is not None


@pytest.mark.parametrize('seconds', [1, 5, 15])
def test_too_little_data_is_refused_and_says_how_much_is_needed(bundle, seconds):
    with pytest.raises(DriveError, match=r'drive 0: \d+ frames, .* too little data: .* expected'):
        calibrate(bundle, {'lab': [observed(0, seconds)]})


def test_short_drives_give_thresholds_without_a_rate(bundle):
    drive = observed(0, seconds=15)
    found = calibrate(bundle, {'lab': [drive]}, ert_h=None)
    assert found.reference.test is None
    for name, threshold in found.thresholds.items():
        assert 'too little data for a rate' in threshold.reason, name
    assert found.thresholds['ood_area'].enter >= bundle.thresholds['ood_area'].enter
    assert found.thresholds['low_confidence'].enter <= bundle.thresholds['low_confidence'].enter


def test_auroc_of_ties_and_missing_values():
    rng = np.random.default_rng(5)
    known, other = rng.integers(0, 5, 80).astype(float), rng.integers(2, 7, 50).astype(float)
    truth = np.r_[np.zeros(80), np.ones(50)]
    expected = roc_auc_score(truth, np.r_[known, other])
    assert auroc(known, np.r_[other, np.nan]) == pytest.approx(expected)
    assert np.isnan(auroc(known, np.full(3, np.nan)))


def test_indicators_tell_a_shift_apart_in_windows_better_than_in_frames(bundle):
    found = calibrate(bundle, {'lab': [observed(0), observed(1)]}, ert_h=1.0)
    usual = known_drives(found.reference, [observed(2)])
    shifted = replace(
        observed(3),
        frames=tuple(
            replace(f, embedding=f.embedding + np.float32(0.6)) for f in observed(3).frames
        ),
    )
    source = separation(found.reference, usual, 'shifted', [shifted])
    same = separation(found.reference, usual, 'same', [observed(4)])
    place = COLUMNS.index('embedding')
    assert source.windows[place] > source.frames[place] > 0.6
    assert source.windows[place] > 0.9
    assert 0.2 < same.windows[0] < 0.8
    assert source.q_emd[place] > 1


@pytest.fixture(scope='module')
def bags(tmp_path_factory):
    """Write bags of small images: two sizes, one that has a single frame, one at night."""
    folder = tmp_path_factory.mktemp('bags')
    image = random_scene(7, 240, 320).image
    for name, (width, height), count, light in (
        ('first', (160, 128), 24, 1.0),
        ('second', (128, 96), 24, 1.0),
        ('single', (160, 128), 1, 1.0),
        ('night', (160, 128), 8, 0.15),
    ):
        rng = np.random.default_rng(len(name))
        with BagWriter(folder / f'{name}.mcap') as bag:
            for index in range(count):
                small = cv2.resize(np.roll(image, 5 * index, axis=1), (width, height))
                noisy = light * small + rng.normal(0, 2, small.shape)
                stamp_ns = 5 * SECOND + index * SECOND // 2
                bag.write_image(TOPIC, noisy.clip(0, 255).astype(np.uint8), 'bgr8', stamp_ns, 'c')
    return folder


@pytest.fixture(scope='module')
def calibrated(bags, tmp_path_factory):
    out = tmp_path_factory.mktemp('calibrated') / 'bundle'
    drives = [str(bags / f'{name}.mcap') for name in ('first', 'second', 'single')]
    assert (
        main(['calibrate', *drives, '--without-rate', '--domain', 'lab', '--out', str(out)]) == 0
    )
    return Bundle.load(out)


def test_bundle_of_bags_runs_in_pipeline_and_monitor(calibrated, bundle, capsys):
    assert calibrated.reference.names == ('lab',)
    about = calibrated.provenance['drives']
    assert [drive['frames'] for drive in about['drives']] == [24, 24, 1]
    assert len({drive['sha256_of_frames'] for drive in about['drives']}) == 3
    assert about['from_bundle'] == bundle.digest
    assert calibrated.provenance['commit'] == bundle.provenance['commit']
    assert 'Calibrated on other drives' in (calibrated.path / 'MODEL_CARD.md').read_text('utf-8')
    pipeline = Pipeline(calibrated)
    monitor = Monitor(
        MonitorConfig(),
        calibrated.classes,
        calibrated.thresholds,
        calibrated.reference,
        calibrated.segments,
    )
    image = cv2.resize(random_scene(7, 240, 320).image, (160, 128))
    frames = [Frame(image if i < 5 else image // 8, (5 + i) * SECOND) for i in range(10)]
    assessments = [
        monitor.update(Observation.of(pipeline.process(frame), frame.stamp_ns)) for frame in frames
    ]
    assert assessments[-1].nearest_domain == 'lab'
    assert assessments[-1].domain_shift > max(assessments[4].domain_shift, 1.0)
    # What the calibration takes for an alarm is what the monitor raises.
    drive = observe_drive(pipeline, 'dark', frames)
    for name in ('ood_area', 'low_confidence', 'domain_shift'):
        raised = [
            (change.stamp_ns - frames[0].stamp_ns) / SECOND
            for assessment in assessments
            for change in assessment.transitions
            if change.name == name and change.raised
        ]
        assert alarms(series(calibrated, drive, name), limits(calibrated, name)) == raised
        assert raised or name != 'domain_shift'


def test_shift_report_of_bags(calibrated, bags, tmp_path, capsys):
    arguments = [str(bags / 'night.mcap'), '--known', str(bags / 'second.mcap')]
    report = tmp_path / 'report'
    command = ['shift-report', str(calibrated.path), *arguments, '--ramps', 'night']
    assert main([*command, '--out', str(report)]) == 0
    text = (report / 'shift.md').read_text('utf-8')
    assert calibrated.digest[:12] in text
    assert 'night on second.mcap' in text
    picture = cv2.imread(str(report / 'shift.png'))
    assert picture is not None
    assert picture.std() > 10
    row = next(line for line in text.splitlines() if 'night.mcap' in line)
    assert float(row.split('|')[3]) > 0.9


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['single'], 'single.mcap: 1 frames, 0 s: too little data'),
        (['first'], 'first.mcap: 24 frames, 11.5 s: too little data'),
        (['first', 'first'], 'given twice'),
        (['missing', 'gone'], 'gone.mcap: does not exist'),
        (['first', '--hours-between-false-alarms', '0'], 'expected a positive number'),
        (['first', '--sequential', '--without-rate'], 'needs a rate'),
        (['first', '--seed', '-1'], '--seed: -1'),
    ],
)
def test_calibrate_refuses(bags, tmp_path, capsys, arguments, words):
    specs = [str(bags / f'{a}.mcap') if a.isalpha() else a for a in arguments]
    out = tmp_path / 'out'
    assert main(['calibrate', *specs, '--out', str(out)]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if 'seg-uncertainty:' in line]
    # One line for each bag that cannot be opened, one for anything else.
    assert len(lines) == max(1, sum('does not exist' in line for line in lines))
    assert words in lines[-1]
    assert not out.exists() or not any(out.iterdir())


def test_shift_report_refuses(bags, bundle_path, calibrated, tmp_path, capsys):
    drive = str(bags / 'first.mcap')
    for reference, more, words in (
        (calibrated.path, ['--fit', drive], 'is in --fit too'),
        (calibrated.path, ['--ramps', 'fogg'], "'fogg' is none of"),
        (bundle_path.parent, [], 'bundle.json'),
    ):
        command = ['shift-report', str(reference), drive, '--known', drive, *more]
        assert main([*command, '--out', str(tmp_path / 'out')]) == 1
        assert words in capsys.readouterr().err


def test_observed_drive_without_frames_is_refused(bundle):
    with pytest.raises(DriveError, match='nothing: not one frame'):
        observe_drive(Pipeline(bundle), 'nothing', [])


def test_a_written_bundle_says_what_it_was_made_of(bundle, tmp_path):
    sizes = {'size': bundle.reference.size, 'classes': len(bundle.classes)}
    found = calibrate(bundle, {'lab': [observed(seed, **sizes) for seed in range(2)]}, ert_h=5.0)
    (tmp_path / 'new').mkdir()
    written = write_bundle(bundle, found, [{'name': 'monday'}], tmp_path / 'new')
    assert written.provenance['drives']['hours_between_false_alarms'] == 5.0
    assert written.reference.provenance['drives'] == [{'name': 'monday'}]
    assert written.thresholds['ood_area'].enter == found.thresholds['ood_area'].enter
