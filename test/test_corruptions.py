# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Corruptions: severities, randomness, ramps, and the command that writes corrupted bags."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import Writer

from seg_uncertainty_ros.cli import main
from seg_uncertainty_ros.corruptions import CORRUPTIONS
from seg_uncertainty_ros.corruptions import CorruptionError
from seg_uncertainty_ros.corruptions import Perturbation
from seg_uncertainty_ros.corruptions import Ramp
from seg_uncertainty_ros.corruptions import corrupt
from seg_uncertainty_ros.corruptions import optics
from seg_uncertainty_ros.corruptions import precipitation
from seg_uncertainty_ros.corruptions import sensor
from seg_uncertainty_ros.corruptions import weather
from seg_uncertainty_ros.procedural import parse_drive
from seg_uncertainty_ros.recordings import open_source
from seg_uncertainty_ros.recordings.bag_writer import BagWriter
from seg_uncertainty_ros.recordings.messages import IMAGE
from seg_uncertainty_ros.recordings.messages import typestore

# These draw anew for every frame; rain and snow move; the others do not know of frames.
RANDOM = {
    'gaussian_noise',
    'shot_noise',
    'impulse_noise',
    'underexposure',
    'night',
    'sensor_artifacts',
}
MOVING = {'rain', 'snow'}
SEEDED = RANDOM | MOVING | {'dirt', 'motion_blur'}
IMAGENET_C = {
    'gaussian_noise',
    'shot_noise',
    'impulse_noise',
    'defocus_blur',
    'motion_blur',
    'jpeg',
    'pixelate',
    'contrast',
    'brightness',
}
DRIVE = 'procedural:seed=3,width=160,height=96,duration=1,rate=2'
TOPIC = '/camera/front/image_raw'


@pytest.fixture(scope='module')
def image():
    """Return a street with sky, shadows and noise, one that no corruption finds clipped."""
    drive = parse_drive('procedural:seed=5,width=320,height=192,duration=1,rate=5')
    return drive.render(0).image


@pytest.fixture(scope='module')
def recording(tmp_path_factory, image):
    """Return a bag of 1 s at 5 Hz."""
    path = tmp_path_factory.mktemp('recording') / 'bag'
    with BagWriter(path) as bag:
        for index in range(5):
            rolled = np.roll(image, 9 * index, axis=1)
            bag.write_image(TOPIC, rolled, 'bgr8', 10**18 + index * 200_000_000, 'front_optical')
    return path


def psnr(image, other):
    return cv2.PSNR(image, other)


def test_those_of_imagenet_c_and_of_the_book_are_there():
    assert set(CORRUPTIONS) >= IMAGENET_C | {'sensor_artifacts', 'fog', 'rain', 'night', 'dirt'}


@pytest.mark.parametrize('name', CORRUPTIONS)
def test_nothing_at_severity_zero_and_worse_with_each_severity(name, image):
    unchanged = corrupt(image, name, 0)
    assert np.array_equal(unchanged, image)
    assert unchanged is not image
    before = image.copy()
    steps = [corrupt(image, name, severity, seed=1, frame=4) for severity in range(6)]
    assert np.array_equal(image, before)
    assert all(step.dtype == np.uint8 and step.shape == image.shape for step in steps)
    closeness = [psnr(image, step) for step in steps]
    assert all(np.diff(closeness) < 0), closeness
    assert closeness[-1] < 29
    first, second = (CORRUPTIONS[name].parameters(severity) for severity in (1, 2))
    assert CORRUPTIONS[name].parameters(1.5) == pytest.approx(np.add(first, second) / 2)


@pytest.mark.parametrize('recording_name', ['camvid_val_15hz', 'dashcam_us_suburb'])
def test_worse_with_each_severity_on_a_real_frame_and_plain_at_three(data_dir, recording_name):
    frame = next(iter(open_source(data_dir / 'recordings' / recording_name))).image
    for name in CORRUPTIONS:
        closeness = [psnr(frame, corrupt(frame, name, severity, 1)) for severity in range(6)]
        assert all(np.diff(closeness) < 0), (name, closeness)
        assert closeness[3] < 33, (name, closeness)


@pytest.mark.parametrize('name', CORRUPTIONS)
def test_the_same_for_the_same_seed_and_frame(name, image):
    first = corrupt(image, name, 3, seed=1, frame=4)
    assert np.array_equal(corrupt(image, name, 3, seed=1, frame=4), first)
    next_frame = corrupt(image, name, 3, seed=1, frame=5)
    assert np.array_equal(next_frame, first) == (name not in RANDOM | MOVING)
    other_seed = corrupt(image, name, 3, seed=2, frame=4)
    assert np.array_equal(other_seed, first) == (name not in SEEDED)


@pytest.mark.parametrize('name', CORRUPTIONS)
def test_any_size_and_any_content(name):
    for shape in ((1, 1, 3), (7, 200, 3), (96, 2, 3), (97, 131, 3)):
        for grey in (0, 90, 255):
            flat = np.full(shape, grey, np.uint8)
            # A ramp may be a nanosecond old.
            for severity in (1e-10, 0.01, 5):
                assert corrupt(flat, name, severity).shape == shape


@pytest.mark.parametrize('name', CORRUPTIONS)
def test_what_has_just_begun_is_hardly_seen(name, image):
    assert psnr(image, corrupt(image, name, 0.002, seed=1)) > 33


def test_noise_has_the_stated_strength():
    grey = np.full((300, 300, 3), 128, np.uint8)
    noisy = corrupt(grey, 'gaussian_noise', 1, seed=1)
    assert noisy.std() == pytest.approx(0.08 * 255, rel=0.02)
    # Poisson: 12 photons make white, so 6 grey; the variance of their number is its mean.
    photons = corrupt(grey, 'shot_noise', 3, seed=1).astype(float) * (12 / 255)
    assert photons.mean() == pytest.approx(12 * 128 / 255, rel=0.02)
    rough = sensor.shot_noise(grey, 12**-0.5, np.random.default_rng(1)).astype(float)
    assert (rough * (12 / 255)).var() == pytest.approx(6, rel=0.1)
    impulses = corrupt(grey, 'impulse_noise', 5, seed=1)
    for extreme in (0, 255):
        assert (impulses == extreme).mean() == pytest.approx(0.27 / 2, rel=0.03)


def test_pixels_of_the_stated_share_saturate_under_a_blue_sky_too():
    image = np.zeros((200, 300, 3), np.uint8)
    image[100:] = np.linspace(0, 180, 300, dtype=np.uint8)[:, None]
    image[:100] = (255, 190, 150)  # its blue saturates already: it does not count
    saturated = sensor.saturation(image, 0.2)
    assert (saturated[100:] == 255).mean() == pytest.approx(0.2, abs=0.01)
    image[:100] = (250, 190, 150)  # it is not the blue alone that is to saturate
    assert sensor.saturation(image, 0.2)[:100, :, 1].min() > 250
    assert sensor.saturation(np.full_like(image, 255), 0.2).min() == 255


def test_gamma_exposure_contrast_and_brightness_are_what_they_say():
    levels = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    share = levels / 255
    for result, expected in (
        (sensor.gamma(levels, 1.9), share**1.9),
        # Twice the light of 2.2 stops is twice the grey level.
        (sensor.exposure(levels, 2.2), share * 2),
        (sensor.exposure(levels, -2.2), share / 2),
        (sensor.contrast(levels, 0.3), 0.5 + 0.3 * (share - 0.5)),
        (sensor.brightness(levels, 0.3), share + 0.3),
    ):
        np.testing.assert_allclose(result, np.clip(255 * expected, 0, 255), atol=1)


def test_colours_are_scaled_apart_about_the_middle():
    ring = np.zeros((201, 201, 3), np.uint8)
    cv2.circle(ring, (100, 100), 50, (255, 255, 255), -1)
    apart = optics.chromatic_aberration(ring, 0.1)
    blue, green, red = ((apart[100, :, i] > 127).sum() / 2 for i in range(3))
    assert (blue, green, red) == pytest.approx((45, 50, 55), abs=1)


def test_blurs_keep_the_light_and_spread_a_point_as_far_as_stated():
    point = np.zeros((101, 101, 3), np.uint8)
    point[50, 50] = 255
    wide = cv2.dilate(point, np.ones((9, 9)))
    for blurred in (
        optics.box_blur(wide, 7.5),
        optics.defocus_blur(wide, 6.3),
        optics.motion_blur(wide, 12, 8, 0.5),
    ):
        assert blurred.mean() == pytest.approx(wide.mean(), rel=0.02)
    for side in (1.5, 4, 6.3):  # none shifts the image
        blurred = optics.box_blur(point, side)
        assert np.array_equal(blurred, blurred[::-1, ::-1])
    rows, columns = np.nonzero(optics.defocus_blur(point, 6)[..., 0])
    assert np.hypot(rows - 50, columns - 50).max() == pytest.approx(6, abs=0.5)
    rows, columns = np.nonzero(optics.motion_blur(point, 20, 15, 0.0)[..., 0])
    assert np.ptp(rows) <= 1
    assert np.ptp(columns) == pytest.approx(20, abs=1)


def test_a_blur_looks_alike_at_every_resolution(image):
    large = cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    for name in ('box_blur', 'defocus_blur', 'motion_blur'):
        shrunk = cv2.resize(corrupt(large, name, 4), image.shape[1::-1])
        assert psnr(corrupt(image, name, 4), shrunk) > psnr(corrupt(image, name, 3), shrunk) + 3


def test_large_pixels_are_those_of_224_at_every_resolution():
    for height in (224, 448, 700):
        noise = np.random.default_rng(1).integers(0, 256, (height, height, 3), np.uint8)
        steps = np.diff(corrupt(noise, 'pixelate', 3).astype(int), axis=1).any(axis=(0, 2))
        assert 1 + steps.sum() == round(224 * 0.4)


def test_dirt_covers_its_share_and_stays():
    white = np.full((240, 320, 3), 255, np.uint8)
    less, more = (optics.dirt(white, share, seed=3).min(axis=2) for share in (0.13, 0.34))
    # Half of the opacity is where the edge of a spot is.
    for covered, share in ((less < 190, 0.13), (more < 190, 0.34)):
        assert covered.mean() == pytest.approx(share, abs=0.03)
    assert (more[less < 190] < 190).all()


@pytest.mark.parametrize('fall', [precipitation.rain, precipitation.snow])
def test_precipitation_falls_and_more_of_it_is_the_same_and_more(fall):
    black = np.zeros((200, 300, 3), np.uint8)
    places = []
    for frame in range(8):
        rows, columns = np.nonzero(fall(black, 1, 0.0, 5, frame)[..., 0])
        if rows.size and rows.min() > 5 and rows.max() < 195:
            places.append((frame, rows.mean(), columns.mean()))
    steps = np.diff(np.array(places), axis=0)
    steady = steps[(steps[:, 0] == 1) & (steps[:, 1] > 0)]  # not those back to the top
    assert len(steady) >= 3
    assert np.ptp(steady[:, 1]) < 2
    assert (steady[:, 2] > 0).all()
    few, many = (fall(black, count, 0.0, 5, 0) for count in (40, 80))
    assert (many >= few).all()
    assert (many > few).any()


def test_fog_hides_what_is_far():
    grey = np.full((240, 320, 3), 40, np.uint8)
    foggy = weather.fog(grey, 0.03)[..., 1].astype(float)
    depth = weather.guess_depth(240, 320)
    clear = np.exp(-0.03 * depth)
    np.testing.assert_allclose(foggy, 40 * clear + weather.FOG_COLOUR[1] * (1 - clear), atol=1)
    assert depth.max() <= 100
    assert foggy[120, 160] > foggy[239, 160]
    assert foggy[120, 160] > foggy[120, 0]


def test_headlights_reach_the_road_and_not_the_sky():
    white = np.full((240, 320, 3), 255, np.uint8)
    dark = corrupt(white, 'night', 5, seed=1)
    assert dark[170:175, 140:180].mean() > 4 * dark[:20].mean()


@pytest.mark.parametrize(
    ('name', 'severity', 'seed', 'frame', 'words'),
    [
        ('sleet', 1, 0, 0, "'sleet' is none of gaussian_noise, "),
        ('fog', 5.1, 0, 0, 'severity = 5.1'),
        ('fog', -1, 0, 0, 'severity = -1'),
        ('fog', float('nan'), 0, 0, 'severity = nan'),
        ('fog', 1, -1, 0, 'seed = -1'),
        ('fog', 1, 0, -1, 'frame = -1'),
    ],
)
def test_corrupt_refuses_what_it_does_not_know(name, severity, seed, frame, words, image):
    with pytest.raises(CorruptionError, match=words):
        corrupt(image, name, severity, seed, frame)


@pytest.mark.parametrize('shape', [(4, 4), (4, 4, 4), (0, 4, 3)])
def test_corrupt_refuses_what_is_no_image(shape):
    with pytest.raises(CorruptionError, match='expected uint8 HxWx3'):
        corrupt(np.zeros(shape, np.uint8), 'fog', 1)
    with pytest.raises(CorruptionError, match='float32'):
        corrupt(np.zeros((4, 4, 3), np.float32), 'fog', 1)


# Severity over time


def test_a_ramp_rises_linearly_and_stays():
    ramp = Ramp.parse(4, '5:10')
    assert [ramp.severity(x) for x in (0, 5, 6.25, 7.5, 10, 99)] == [0, 0, 1, 2, 4, 4]
    step = Ramp(3, 2, 2)
    assert [step.severity(x) for x in (1.999, 2)] == [0, 3]
    # Stamps may jump back to before the first frame.
    assert [Ramp(2).severity(x) for x in (-0.1, 0, 7)] == [2, 2, 2]
    assert ramp.severity(-0.1) == 0


@pytest.mark.parametrize('text', ['', '5', '5:', 'a:b', '1:2:3', '5:3', '-1:3', 'nan:3', '0:inf'])
def test_a_bad_ramp_is_refused(text):
    with pytest.raises(CorruptionError, match='ramp'):
        Ramp.parse(1, text)


# The command


def command(source, out, *options, name='gaussian_noise', severity='3'):
    arguments = ['--corruption', name, '--severity', severity, '--out', out, *options]
    return main(['perturb', *map(str, [source, *arguments])])


def test_a_drive_becomes_a_bag_of_corrupted_frames(tmp_path, capsys):
    out = tmp_path / 'noisy.mcap'
    assert command(DRIVE, out, '--seed', 7) == 0
    assert '2 frames under gaussian_noise, severity 3' in capsys.readouterr().out
    assert json.loads((tmp_path / 'noisy.perturbation.json').read_text())['seed'] == 7
    before, after = list(open_source(DRIVE)), open_source(out)
    assert after.topic == TOPIC
    for index, (old, new) in enumerate(zip(before, after, strict=True)):
        assert (new.stamp_ns, new.frame_id) == (old.stamp_ns, old.frame_id)
        assert np.array_equal(new.image, corrupt(old.image, 'gaussian_noise', 3, 7, index))


@pytest.mark.parametrize('topic', ['/left/image_raw', '/left/image_raw/compressed'])
def test_a_bag_keeps_topic_stamps_and_frame_ids_and_loses_nothing(tmp_path, topic, image):
    with BagWriter(tmp_path / 'in') as bag:
        for stamp in (10**18, 10**18 + 70_000_000, 10**18 + 210_000_001):
            if topic.endswith('compressed'):
                data = cv2.imencode('.jpg', image)[1].tobytes()
                bag.write_compressed(topic, data, stamp, 'left_optical')
            else:
                bag.write_image(topic, image, 'bgr8', stamp, 'left_optical')
    assert command(tmp_path / 'in', tmp_path / 'out', '--topic', topic, name='rain') == 0
    source, written = (open_source(tmp_path / name) for name in ('in', 'out'))
    assert (written.topic, written.frame_count) == (topic, 3)
    for index, (old, new) in enumerate(zip(source, written, strict=True)):
        assert (new.stamp_ns, new.frame_id) == (old.stamp_ns, 'left_optical')
        assert np.array_equal(new.image, corrupt(old.image, 'rain', 3, 0, index))


def test_a_folder_of_images_of_several_sizes(tmp_path, image):
    folder, out = tmp_path / 'folder', tmp_path / 'out'
    folder.mkdir()
    for index, size in enumerate(((131, 97), (320, 192), (1, 1))):
        cv2.imwrite(str(folder / f'{index}.png'), cv2.resize(image, size))
    assert command(folder, out, name='dirt') == 0
    for old, new in zip(open_source(folder), open_source(out), strict=True):
        assert np.array_equal(new.image, corrupt(old.image, 'dirt', 3))


def test_what_is_no_image_on_that_topic_is_left_out(tmp_path, image):
    with BagWriter(tmp_path / 'in') as bag:
        bag.write_image(TOPIC, image, 'bgr8', 10**18, 'front')
        bag.write_image('/rear/image_raw', image, 'bgr8', 10**18, 'rear')
        bag.write_float('/speed', 3, 10**18)
    assert command(tmp_path / 'in', tmp_path / 'out', '--topic', TOPIC) == 0
    with AnyReader([tmp_path / 'out']) as reader:
        assert set(reader.topics) == {TOPIC, '/perturbation/severity'}


def test_a_ramp_after_the_end_is_said_to_do_nothing(tmp_path, recording, capsys):
    assert command(recording, tmp_path / 'bag', '--ramp', '50:60') == 0
    assert '5 frames under gaussian_noise, severity 0, on' in capsys.readouterr().out


def test_the_severity_of_each_frame_is_known_afterwards(tmp_path, recording, capsys):
    out = tmp_path / 'bag'
    assert command(recording, out, '--ramp', '0.3:0.7', name='defocus_blur', severity='4') == 0
    assert '5 frames under defocus_blur, severity 0 to 4, on' in capsys.readouterr().out
    content = json.loads((out / 'perturbation.json').read_text())
    record = Perturbation(**content | {'ramp': Ramp(**content['ramp'])})
    assert record == Perturbation('defocus_blur', Ramp(4, 0.3, 0.7), 0, 10**18)
    frames = list(open_source(out))
    severities = [record.severity(frame.stamp_ns) for frame in frames]
    assert severities == pytest.approx([0, 0, 1, 3, 4])
    with AnyReader([out]) as reader:
        connections = [x for x in reader.connections if x.topic == '/perturbation/severity']
        topic = [reader.deserialize(x[2], x[0].msgtype).data for x in reader.messages(connections)]
    assert topic == pytest.approx(severities)
    for frame, clean in zip(frames[:2], open_source(recording), strict=False):
        assert np.array_equal(frame.image, clean.image)


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'name': 'sleet'}, "corruption 'sleet' is none of"),
        ({'severity': '6'}, 'severity = 6.0 is outside 0 to 5'),
        ({'severity': 'nan'}, 'severity = nan'),
        ({'more': ('--ramp', '7:3')}, 'ramp from 7.0 s to 3.0 s'),
        ({'more': ('--ramp', 'soon')}, "ramp 'soon'"),
        ({'more': ('--seed', '-3')}, 'seed = -3'),
        ({'source': 'nowhere'}, 'nowhere: does not exist'),
        ({'source': 'empty'}, 'neither a bag'),
        ({'source': 'silent'}, 'no messages on /a'),
        ({'out': 'empty'}, 'exists already'),
        ({'out': 'file/bag'}, 'file/bag: cannot be written'),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    tmp_path, monkeypatch, capsys, recording, options, words
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'file').write_text('')
    with Writer(tmp_path / 'silent', version=9) as bag:
        bag.add_connection('/a', IMAGE, typestore=typestore())
    before = sorted(tmp_path.rglob('*'))
    chosen = {'source': recording, 'out': 'bag', 'more': ()} | options
    source, out, more = (chosen.pop(key) for key in ('source', 'out', 'more'))
    assert command(source, out, *more, **chosen) == 1
    said = [x for x in capsys.readouterr().err.splitlines() if x.startswith('seg-uncertainty:')]
    assert len(said) == 1
    assert words in said[0]
    assert sorted(tmp_path.rglob('*')) == before
