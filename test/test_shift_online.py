# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Fit a reference to drives, keep it in a file, judge frames by it."""

from __future__ import annotations

import json
import pickle
import sys
from dataclasses import asdict
from dataclasses import replace

import cv2
import numpy as np
import pytest
from statistics_of_drives import with_test

from seg_uncertainty_ros.corruptions import corrupt
from seg_uncertainty_ros.frames import Frame
from seg_uncertainty_ros.pipeline import Pipeline
from seg_uncertainty_ros.pipeline import network_input
from seg_uncertainty_ros.shift.domain import fourier_features
from seg_uncertainty_ros.shift.fitting import fit_shift_reference
from seg_uncertainty_ros.shift.fitting import student_quantile
from seg_uncertainty_ros.shift.image_statistics import ImageStatistics
from seg_uncertainty_ros.shift.indicators import DISTANCES
from seg_uncertainty_ros.shift.indicators import FRAME_INDICATORS
from seg_uncertainty_ros.shift.indicators import INDICATORS
from seg_uncertainty_ros.shift.indicators import FrameStatistics
from seg_uncertainty_ros.shift.indicators import frame_statistics
from seg_uncertainty_ros.shift.online import ShiftEvaluator
from seg_uncertainty_ros.shift.reference import ShiftReference
from seg_uncertainty_ros.shift.reference import ShiftReferenceError
from seg_uncertainty_ros.shift.sequential import SequentialTest

SECOND = 1_000_000_000
SIZE = 40
RATE = 2


def drive(rng, seconds=100, *, shift=0.0, rate=RATE, **image):
    """Frames of a drive that slowly changes; ``image`` moves its image statistics."""
    mixing = np.random.default_rng(1).normal(size=(4, SIZE))
    place = rng.normal(size=4)
    frames = []
    for index in range(int(seconds * rate)):
        place = 0.8 * place + 0.6 * rng.normal(size=4)
        embedding = place @ mixing + rng.normal(size=SIZE) + 3 + shift
        planes = [rng.multinomial(4000, p) / 4000 for p in (_ramp(64), _ramp(64)[::-1], _ramp(5))]
        usual = ImageStatistics(0.5, 0.25, 0.5, 0.005, 0.3, 0.0, 0.01, 0.02)
        statistics = ImageStatistics(*(np.array(usual) + rng.normal(size=8) * 0.003))
        statistics = statistics._replace(**{k: getattr(usual, k) + v for k, v in image.items()})
        stamp_ns = 10 * SECOND + round(index * SECOND / rate)
        frames.append(FrameStatistics(stamp_ns, embedding.astype(np.float32), *planes, statistics))
    return frames


def _ramp(bins):
    ramp = np.arange(1, bins + 1) ** 2.0
    return ramp / ramp.sum()


@pytest.fixture(scope='module')
def drives():
    rng = np.random.default_rng(2)
    return {
        'town': [drive(rng) for _ in range(7)],
        'forest': [drive(rng, shift=30.0, saturation=0.3) for _ in range(5)],
    }


@pytest.fixture(scope='module')
def reference(drives):
    tested = with_test(fit_shift_reference(drives), 0.5)
    return replace(tested, provenance={'drives': 12, 'place': 'lab'})


def judge(reference, frames):
    evaluator = ShiftEvaluator(reference)
    return [evaluator.update(frame) for frame in frames]


def known(assessments):
    return np.array([a.shift for a in assessments if a.shift is not None])


def test_what_is_in_the_domain_is_quiet_and_what_is_not_is_loud(reference):
    rng = np.random.default_rng(3)
    for name, shift in (('town', {}), ('forest', {'shift': 30.0, 'saturation': 0.3})):
        fresh = judge(reference, drive(rng, **shift))
        assert {a.domain for a in fresh} == {name}
        # The bound is a 95 % quantile, and the windows of a drive resemble each other.
        assert np.mean(known(fresh) < 1) > 0.8
        assert max(a.cusum for a in fresh) < 1
    shifted = judge(reference, drive(rng, shift=4.0))
    assert known(shifted).min() > 1
    assert shifted[-1].cusum > 1
    assert shifted[-1].ratio('embedding') > 1.5
    assert known(judge(reference, drive(rng, brightness=-0.3))).min() > 1, 'the network is blind'


def test_every_indicator_has_a_value_a_ratio_and_a_direction(reference):
    last = judge(reference, drive(np.random.default_rng(4), brightness=-0.2))[-1]
    assert len(last.values) == len(last.ratios) == len(INDICATORS)
    for name in INDICATORS:
        assert last[name] is not None
        assert last.ratio(name) >= 0
    assert tuple(asdict(last.frame)) == FRAME_INDICATORS
    index = INDICATORS.index('brightness')
    assert last.scores[index] < -1
    assert last['brightness'] == pytest.approx(0.3)
    assert last.ratios[index] == pytest.approx(
        abs(last.values[index] - last.centre[index]) / reference.domains[0].bound[index], rel=1e-5
    )
    for name in DISTANCES:
        assert last[name] >= 0


def test_it_says_what_moved_and_whereto(reference):
    rng = np.random.default_rng(5)
    image = {'brightness': -0.3, 'sharpness': -0.2, 'noise': 0.02}
    said = judge(reference, drive(rng, **image))[-1].explain()
    assert {'darker', 'blurrier', 'noisier'} <= set(said)
    frames = drive(rng)
    for index, frame in enumerate(frames):
        frames[index] = replace(frame, confidence=frame.confidence[::-1])
    said = judge(reference, frames)[-1].explain()
    assert any(text.startswith('confidence 0.7') and ' -> 0.2' in text for text in said), said
    said = judge(reference, drive(rng, shift=4.0))[-1].explain(1)
    assert said[0].endswith('x its bound'), 'only distances moved'
    quiet = judge(reference, drive(rng))[-1]
    assert len(quiet.explain(3, least=0.0)) == 3
    assert quiet.explain(least=1e9) == []


def test_the_window_is_that_of_its_frames(reference):
    """Incremental values equal those computed at once from the frames of the last 2 s."""
    frames = drive(np.random.default_rng(6), seconds=8)
    last = judge(reference, frames)[-1]
    domain, window = reference.domains[0], frames[-2 * RATE :]
    embeddings = np.array([f.embedding for f in window], float)
    weight, basis = reference.weight.astype(float), domain.basis.astype(float)
    centred = (embeddings - domain.mean) * weight
    whitened = centred @ basis / np.sqrt(domain.variances)
    mean = centred.mean(axis=0)
    rest = (mean**2).sum() - ((mean @ basis) ** 2).sum()
    squared = ((mean @ basis) ** 2 / domain.variances).sum() + rest / domain.residual
    assert last['embedding'] == pytest.approx(np.sqrt(squared), rel=1e-3)
    frechet = (whitened.mean(axis=0) ** 2).sum() + ((whitened.std(axis=0) - 1) ** 2).sum()
    assert last['frechet'] == pytest.approx(np.sqrt(frechet), rel=1e-3)
    distances = np.linalg.norm(whitened[:, None] - domain.rows.astype(float), axis=2)
    assert last['neighbours'] == pytest.approx(np.sort(distances, axis=1)[:, 2].mean(), rel=1e-3)
    cdf = np.cumsum(np.mean([f.anomaly for f in window], axis=0) - domain.anomaly)
    assert last['anomaly_distance'] == pytest.approx(np.abs(cdf).mean(), rel=1e-3)
    brightness = np.mean([f.image.brightness for f in window])
    assert last['brightness'] == pytest.approx(brightness)


def test_random_features_give_the_kernel_and_the_discrepancy(reference):
    domain = reference.domains[0]
    rows = domain.rows.astype(np.float64)
    features = fourier_features(rows, domain.frequencies, domain.phases)
    squares = ((rows[:, None] - rows[None]) ** 2).sum(axis=-1)
    length = np.median(np.sqrt(squares[np.triu_indices(len(rows), 1)]))
    kernel = np.exp(-squares / (2 * length**2))
    assert np.abs(features @ features.T - kernel).mean() < 0.1, '1 / sqrt(128)'
    far = fourier_features(rows + 4, domain.frequencies, domain.phases)
    assert domain.mmd(far.mean(axis=0)) > 2 * domain.mmd(features.mean(axis=0))


def test_a_window_that_is_not_full_has_no_value(reference):
    frames = drive(np.random.default_rng(7), seconds=3, rate=5)
    assessments = judge(reference, frames)
    full = [a.shift is not None for a in assessments]
    assert full == [index >= 7 for index in range(15)], 'three quarters of 2 s at 5 Hz'
    assert assessments[0]['brightness'] is None
    assert assessments[0].frame.brightness > 0, 'the frame has one'
    assert assessments[0].explain() == []
    assert judge(reference, frames[:1])[0].shift is None, 'a drive of one frame'
    slow = drive(np.random.default_rng(7), seconds=4, rate=1)
    assert [a.shift is not None for a in judge(reference, slow)] == [False, True, True, True]


def test_time_that_goes_back_starts_anew_and_a_gap_empties_the_window(reference):
    frames = drive(np.random.default_rng(8), seconds=6)
    evaluator = ShiftEvaluator(reference)
    first = [evaluator.update(frame).shift for frame in frames]
    again = [evaluator.update(frame).shift for frame in frames]
    assert first == again
    shifted = drive(np.random.default_rng(8), seconds=20, shift=4.0)
    for frame in shifted:
        before = evaluator.update(replace(frame, stamp_ns=frame.stamp_ns + 60 * SECOND))
    after = evaluator.update(replace(frame, stamp_ns=frame.stamp_ns + 3600 * SECOND))
    assert after.shift is None
    assert after.cusum == before.cusum > 1, 'a gap adds no evidence and takes none away'
    back = evaluator.update(frames[0])
    assert back.cusum == 0


def test_irregular_stamps_and_missing_parts(reference):
    rng = np.random.default_rng(9)
    frames = drive(rng, seconds=30)
    stamps = np.sort(rng.uniform(0, 30, len(frames)))
    frames = [
        replace(
            frame,
            stamp_ns=round(stamp * SECOND),
            embedding=None if index % 3 == 0 else frame.embedding,
            image=None if index % 4 == 0 else frame.image,
        )
        for index, (frame, stamp) in enumerate(zip(frames, stamps, strict=True))
    ]
    assessments = judge(reference, frames)
    assert np.mean(known(assessments[-100:]) < 1) > 0.8
    assert np.isfinite(known(assessments)).all()
    broken = [replace(f, embedding=np.full(SIZE, np.nan, np.float32)) for f in frames]
    blind = judge(reference, broken)
    assert {a.domain for a in blind} == {None}
    assert blind[-1]['embedding'] is None
    assert np.isnan(blind[-1].frame.mahalanobis)
    assert blind[-1]['brightness'] is not None, 'the rest is judged'
    assert blind[-1].shift is not None
    # One such frame among others leaves no trace.
    mended = judge(reference, [*frames[:50], broken[50], *frames[51:]])
    assert mended[-1].shift == pytest.approx(assessments[-1].shift)
    standing = judge(reference, [replace(f, stamp_ns=5) for f in frames])
    assert {a.shift for a in standing} == {None}


def test_memory_is_bounded(reference):
    frame = drive(np.random.default_rng(10), seconds=1)[0]
    evaluator, sizes = ShiftEvaluator(reference), []
    for index in range(1200):
        evaluator.update(replace(frame, stamp_ns=index * SECOND // 60))
        if index % 300 == 299:
            sizes.append(len(pickle.dumps(evaluator)) - sys.getsizeof(reference))
    assert max(sizes) < 1.5 * min(sizes)


def test_sizes_that_do_not_match_are_named(reference):
    frame = drive(np.random.default_rng(11), seconds=1)[0]
    evaluator = ShiftEvaluator(reference)
    with pytest.raises(ShiftReferenceError, match=r'embedding: shape \(3,\), expected \(40,\)'):
        evaluator.update(replace(frame, embedding=np.zeros(3, np.float32)))
    with pytest.raises(ShiftReferenceError, match=r'classes: shape \(7,\), expected \(5,\)'):
        evaluator.update(replace(frame, classes=np.zeros(7, np.float32)))


def test_fit_says_what_is_missing(drives):
    with pytest.raises(ShiftReferenceError, match='drives: none'):
        fit_shift_reference({})
    with pytest.raises(ShiftReferenceError, match='town: 3 frames at least'):
        fit_shift_reference({'town': [drives['town'][0][:9:3]]})
    odd = [replace(f, classes=f.classes[:4]) for f in drives['town'][1]]
    with pytest.raises(ShiftReferenceError, match=r'town: classes: shapes \[\(4,\), \(5,\)\]'):
        fit_shift_reference({'town': [drives['town'][0], odd]})
    lonely = [[frame] for group in drives['town'] for frame in group[::10]]
    with pytest.raises(ShiftReferenceError, match='town: 0 full windows'):
        fit_shift_reference({'town': lonely})


def test_drives_of_one_frame_and_without_images_are_taken(drives):
    plain = [[replace(f, image=None) for f in group] for group in drives['town']]
    fitted = fit_shift_reference({'town': [*plain, plain[0][:1], []]}).reference
    assert fitted.test is None
    last = judge(fitted, plain[0])[-1]
    assert last.shift < 1.5
    assert last.cusum is None
    # Images that the drives lacked have no bound to exceed.
    assert judge(fitted, drives['town'][0])[-1].ratio('brightness') < 1e-6


def test_few_drives_say_little_about_brightness():
    """Two drives under nearly the same sky leave a wider bound than they differ by."""
    rng = np.random.default_rng(12)
    place = INDICATORS.index('brightness')
    group = [drive(rng, brightness=offset) for offset in (0.02, -0.02)]
    fitted = fit_shift_reference({'town': group}).reference
    assert fitted.domains[0].bound[place] > 0.05
    many = [drive(rng, 40, brightness=offset) for offset in rng.normal(scale=0.05, size=10)]
    fitted = fit_shift_reference({'town': many}).reference
    assert fitted.domains[0].bound[place] == pytest.approx(2.2 * 0.05, rel=0.4)


@pytest.mark.parametrize(
    ('freedom', 'expected'),
    [(1, 12.706), (2, 4.303), (3, 3.182), (5, 2.571), (10, 2.228), (100, 1.984)],
)
def test_student_quantiles_are_those_of_the_tables(freedom, expected):
    assert student_quantile(0.975, freedom) == pytest.approx(expected, rel=0.03)


def test_round_trip(reference, tmp_path):
    path = tmp_path / 'shift.npz'
    reference.save(path)
    loaded = ShiftReference.load(path)
    assert loaded.names == reference.names
    assert loaded.test == reference.test
    assert loaded.provenance == {'drives': 12, 'place': 'lab'}
    assert loaded.hours == pytest.approx(12 * 99.5 / 3600)
    frames = drive(np.random.default_rng(13), seconds=5)
    for first, second in zip(judge(reference, frames), judge(loaded, frames), strict=True):
        np.testing.assert_array_equal(first.values, second.values)
        assert (first.shift, first.cusum) == (second.shift, second.cusum)


def test_file_is_small_and_has_no_pickle(tmp_path):
    rng = np.random.default_rng(14)
    frames = [
        replace(frame, embedding=rng.normal(size=496).astype(np.float32))
        for frame in drive(rng, seconds=200)
    ]
    group = np.array_split(np.array(frames, object), 4)
    drives = {name: [list(part) for part in group] for name in 'abc'}
    fit_shift_reference(drives).reference.save(tmp_path / 'shift.npz')
    assert (tmp_path / 'shift.npz').stat().st_size < 1_000_000
    with np.load(tmp_path / 'shift.npz', allow_pickle=False) as archive:
        assert all(archive[key].dtype.kind in 'fU' for key in archive.files)


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'weight': None}, 'weight: missing'),
        ({'1.rows': None}, '1.rows: missing'),
        ({'weight': np.full(SIZE, np.nan, np.float32)}, 'weight: nan, expected finite'),
        ({'0.mean': np.zeros(3, np.float32)}, r'town: mean: shape \(3,\), expected \(40,\)'),
        ({'0.bound': np.zeros(len(INDICATORS))}, 'town: bound: 0.0, expected positive'),
        ({'0.anomaly': np.zeros(64)}, 'town: anomaly: sum 0.0, expected shares'),
        ({'1.level': np.array('much')}, 'forest: level: <U4, expected numbers'),
        ({'about': np.array('{')}, 'about: '),
        ({'about': None, 'format': np.int32(1)}, 'format: 1, expected 2'),
    ],
)
def test_load_names_what_is_wrong(reference, tmp_path, changes, words):
    path = tmp_path / 'shift.npz'
    reference.save(path)
    with np.load(path) as archive:
        arrays = {key: archive[key] for key in archive.files} | changes
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    with pytest.raises(ShiftReferenceError, match=f'shift.npz: {words}'):
        ShiftReference.load(path)


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'format': 3}, 'format: 3, expected 2'),
        ({'window_s': -1.0}, 'window_s: -1.0, expected a positive'),
        ({'min_frames': 'two'}, "min_frames: 'two'"),
        ({'names': ['town', 'town']}, r"names: \['town', 'town'\]"),
        ({'indicators': ['embedding']}, 'indicators: .* differ'),
        ({'test': {'threshold': 1.0}}, 'test: .* missing'),
    ],
)
def test_load_names_settings_that_are_wrong(reference, tmp_path, changes, words):
    path = tmp_path / 'shift.npz'
    reference.save(path)
    with np.load(path) as archive:
        arrays = {key: archive[key] for key in archive.files}
    about = json.loads(str(arrays['about'])) | changes
    np.savez(path, **arrays | {'about': np.array(json.dumps(about))})
    with pytest.raises(ShiftReferenceError, match=f'shift.npz: {words}'):
        ShiftReference.load(path)


def test_a_test_with_a_threshold_of_zero_is_refused(reference):
    with pytest.raises(ShiftReferenceError, match='test: threshold: 0'):
        replace(reference, test=replace(reference.test, threshold=0.0))
    assert isinstance(reference.test, SequentialTest)


def test_load_refuses_what_is_no_archive(reference, tmp_path):
    path = tmp_path / 'shift.npz'
    with pytest.raises(ShiftReferenceError, match=r'shift.npz: cannot be read'):
        ShiftReference.load(path)
    reference.save(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ShiftReferenceError, match=r'shift.npz: cannot be read'):
        ShiftReference.load(path)
    with path.open('wb') as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ShiftReferenceError, match=r'shift.npz: cannot be read.*not a zip file'):
        ShiftReference.load(path)


def test_night_and_blur_on_real_frames_are_told_from_another_day_in_the_same_town(
    data_dir, bundle
):
    pipeline = Pipeline(bundle, plane_size='network')

    def frames(pattern, step, count, corruption=None):
        paths = sorted((data_dir / 'camvid').glob(pattern))[::step][:count]
        assert len(paths) == count
        for second, path in enumerate(paths, start=1):
            image = cv2.imread(str(path))
            if corruption:
                image = corrupt(image, corruption, 4)
            result = pipeline.process(Frame(image, second * SECOND))
            resized = network_input(image, bundle.geometry)
            yield frame_statistics(
                second * SECOND,
                result.mask,
                result.confidence,
                result.anomaly,
                result.embedding,
                resized,
                classes=len(bundle.classes),
            )

    drives = [list(frames('train/0016E5*', 10, 16)), list(frames('train/0006R0*', 8, 12))]
    reference = fit_shift_reference({'camvid': drives}).reference
    usual = known(judge(reference, frames('test/Seq05VD*', 20, 6)))
    for corruption, word in (('night', 'darker'), ('defocus_blur', 'blurrier')):
        shifted = judge(reference, frames('test/Seq05VD*', 20, 6, corruption))
        assert known(shifted).min() > max(1.0, usual.max())
        assert word in shifted[-1].explain(8), corruption
