# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Procedural drives: truth, determinism, perspective, events, effects, specs."""

from __future__ import annotations

import numpy as np
import pytest

from seg_uncertainty_ros.classes import CAMVID
from seg_uncertainty_ros.classes import UNLABELLED
from seg_uncertainty_ros.procedural import DEMO_FOG
from seg_uncertainty_ros.procedural import DEMO_UNKNOWN
from seg_uncertainty_ros.procedural import EFFECTS
from seg_uncertainty_ros.procedural import KINDS
from seg_uncertainty_ros.procedural import Drive
from seg_uncertainty_ros.procedural import DriveError
from seg_uncertainty_ros.procedural import EffectError
from seg_uncertainty_ros.procedural import EffectEvent
from seg_uncertainty_ros.procedural import Rendered
from seg_uncertainty_ros.procedural import UnknownEvent
from seg_uncertainty_ros.procedural import apply_effect
from seg_uncertainty_ros.procedural import demo_drive
from seg_uncertainty_ros.procedural import parse_drive
from seg_uncertainty_ros.procedural import random_scene
from seg_uncertainty_ros.procedural.classes import CAR
from seg_uncertainty_ros.procedural.classes import ROAD
from seg_uncertainty_ros.procedural.classes import SKY
from seg_uncertainty_ros.procedural.painter import Camera
from seg_uncertainty_ros.procedural.style import draw_style
from seg_uncertainty_ros.procedural.textures import value_noise
from seg_uncertainty_ros.procedural.vehicles import vehicle


@pytest.fixture(scope='module')
def demo() -> Drive:
    return demo_drive()


@pytest.fixture(scope='module')
def scenes() -> list[Rendered]:
    return [random_scene(seed, 320, 240) for seed in range(8)]


def same(first: Rendered, second: Rendered) -> bool:
    return all(
        np.array_equal(getattr(first, name), getattr(second, name))
        for name in ('image', 'labels', 'unknown', 'depth')
    )


def test_same_seed_and_index_give_the_same_bytes_in_any_order() -> None:
    first, second = (Drive(3, 160, 96, duration_s=2.0) for _ in range(2))
    forward = list(first)
    assert len(forward) == len(first) == 20
    for index in (19, 0, 7):
        assert same(forward[index], second.render(index))
    assert not np.array_equal(forward[0].labels, Drive(4, 160, 96).render(0).labels)


def test_stamps_start_at_the_epoch_and_keep_the_rate(demo: Drive) -> None:
    assert demo.stamp_ns(0) == 1_700_000_000 * 10**9
    assert demo.stamp_ns(15) - demo.stamp_ns(0) == 1_500_000_000
    assert len(demo) == 200


def test_a_frame_has_exact_types_and_known_labels(scenes: list[Rendered]) -> None:
    for scene in scenes:
        assert scene.image.shape == (240, 320, 3)
        assert scene.image.dtype == scene.labels.dtype == np.uint8
        assert scene.unknown.dtype == np.bool_
        assert scene.depth.dtype == np.float32
        assert scene.labels.shape == scene.unknown.shape == scene.depth.shape == (240, 320)
        assert set(np.unique(scene.labels)) <= {*range(len(CAMVID)), UNLABELLED}
        assert np.isinf(scene.depth[scene.labels == SKY]).all()
        assert (scene.depth[scene.labels != SKY] < 2001).all()
        assert (scene.depth > 0.7).all()


def test_scenes_for_training_hold_every_class_and_nothing_unknown(scenes: list[Rendered]) -> None:
    pixels = sum(np.bincount(scene.labels.ravel(), minlength=256) for scene in scenes)
    share = dict(zip((info.name for info in CAMVID), pixels / pixels.sum(), strict=False))
    assert min(share.values()) > 3e-4, share
    assert 0.2 < share['road'] < 0.45
    assert 0.1 < share['building'] < 0.4
    assert 0.05 < share['sky'] < 0.35
    assert not any(scene.unknown.any() for scene in scenes)


def test_labels_lie_where_a_street_has_them(scenes: list[Rendered]) -> None:
    for scene in scenes:
        rows = np.indices(scene.labels.shape)[0]
        assert rows[scene.labels == ROAD].min() > 80
        assert rows[scene.labels == SKY].max() < 160


def test_the_unknown_object_is_truth_only_while_its_event_lasts(demo: Drive) -> None:
    assert demo.events == (DEMO_UNKNOWN, DEMO_FOG)
    first = round(DEMO_UNKNOWN.start_s * demo.rate_hz)
    last = round(DEMO_UNKNOWN.end_s * demo.rate_hz)
    for index in (0, first - 1, last, 130, 199):
        assert not demo.render(index).unknown.any()
    areas = []
    for index in (first, first + 10, first + 20, first + 30):
        frame = demo.render(index)
        areas.append(int(frame.unknown.sum()))
        assert (frame.labels[frame.unknown] == UNLABELLED).all()
        assert (frame.labels[~frame.unknown] != UNLABELLED).all()
    assert areas[0] > 400
    assert areas == sorted(areas)


def test_area_grows_with_the_inverse_square_of_distance(demo: Drive) -> None:
    near, far = demo.render(88), demo.render(70)
    ratio = near.unknown.sum() / far.unknown.sum()
    distances = [np.median(frame.depth[frame.unknown]) for frame in (near, far)]
    assert ratio == pytest.approx((distances[1] / distances[0]) ** 2, rel=0.12)


def test_fog_ramps_up_and_veils_the_demo(demo: Drive) -> None:
    before, within, after = (demo.render(i).image[:180].std() for i in (134, 138, 150))
    assert before > within > after
    assert after < 0.5 * before


@pytest.mark.parametrize('kind', KINDS)
def test_every_kind_shows_and_changes_only_its_own_labels(kind: str) -> None:
    event = UnknownEvent(0.0, 2.0, kind)
    frame = Drive(5, 320, 180, duration_s=3.0, events=(event,)).render(8)
    assert frame.unknown.sum() > 15
    assert (frame.labels[frame.unknown] == UNLABELLED).all()
    hit = frame.labels == UNLABELLED
    assert np.array_equal(hit, frame.unknown)


def test_projection_is_a_pinhole_on_a_straight_road() -> None:
    camera = Camera(640, 360, 500.0, 320.0, 180.0, 1.4, -1.0, 50.0, 0.0)
    points = np.array([[-1.0, 1.4, 60.0], [1.0, 0.0, 70.0]])
    pixels, depth = camera.project(points)
    assert pixels == pytest.approx(np.array([[320.0, 180.0], [370.0, 215.0]]))
    assert depth == pytest.approx([10.0, 20.0])


def test_ground_depth_follows_the_height_of_the_camera() -> None:
    drive = Drive(8, 320, 180)
    frame, camera = drive.render(0), drive.camera(0.0)
    row = 178
    road = frame.labels[row] == ROAD
    assert road.any()
    expected = camera.focal * camera.eye / (row + 0.5 - camera.horizon)
    assert frame.depth[row][road] == pytest.approx(expected, rel=1e-4)


def test_the_world_moves_towards_ego_frame_by_frame() -> None:
    drive = Drive(6, 160, 96, rate_hz=20.0, duration_s=4.0)
    along = [drive.camera(i / 20).along for i in range(80)]
    assert np.diff(along) == pytest.approx(drive.speed / 20)
    changed = [
        np.mean(drive.render(i).labels != drive.render(i + 1).labels) for i in range(0, 60, 10)
    ]
    assert max(changed) < 0.25
    assert min(changed) > 0


def test_cars_are_solids_that_stand_on_the_ground() -> None:
    rng = np.random.default_rng(0)
    style = draw_style(rng)
    for _ in range(8):
        car = vehicle(rng, style)
        corners = np.concatenate(car.solids)
        assert corners[:, 1].min() == pytest.approx(0, abs=0.02)
        assert corners[:, 1].max() == pytest.approx(car.height)
        assert np.ptp(corners[:, 2]) == pytest.approx(car.length)
        # Normals point outwards, away from the middle of the car.
        middles = np.add.reduceat(car.corners, car.starts) / np.array(car.sizes)[:, None]
        sides = np.abs(car.normals[:, 1]) < 0.9
        outward = (middles[:, [0, 2]] * car.normals[:, [0, 2]]).sum(axis=1)
        assert (outward[sides] > 0).all()


def test_traffic_shows_as_cars(scenes: list[Rendered]) -> None:
    seen = [int((scene.labels == CAR).sum()) for scene in scenes]
    assert sum(pixels > 200 for pixels in seen) >= len(scenes) // 2


def test_noise_is_periodic() -> None:
    noise = value_noise(np.random.default_rng(1), 64, 96, 8)
    for axis in (0, 1):
        step = np.abs(np.diff(noise, axis=axis)).mean()
        seam = np.abs(noise.take(0, axis) - noise.take(-1, axis)).mean()
        assert seam < 2.5 * step
        assert np.abs(noise.take(0, axis) - noise.take(32, axis)).mean() > 4 * step


@pytest.mark.parametrize('name', EFFECTS)
def test_an_effect_is_nothing_at_zero_and_grows_with_strength(name: str, demo: Drive) -> None:
    frame = demo.render(20)
    for depth in (None, frame.depth):
        steps = [
            apply_effect(frame.image, name, strength, seed=1, depth=depth)
            for strength in (0.0, 0.1, 0.3, 0.6, 1.0)
        ]
        assert np.array_equal(steps[0], frame.image)
        assert steps[0] is not frame.image
        change = [np.abs(step.astype(float) - frame.image.astype(float)).mean() for step in steps]
        assert change == sorted(change)
        assert change[-1] > 3
        assert len(set(change)) == len(change)
        again = apply_effect(frame.image, name, 0.6, seed=1, depth=depth)
        assert np.array_equal(again, steps[3])


def test_noise_differs_by_seed_and_has_the_stated_deviation() -> None:
    grey = np.full((200, 200, 3), 128, np.uint8)
    first, second = (apply_effect(grey, 'noise', 0.25, seed=seed) for seed in (1, 2))
    assert not np.array_equal(first, second)
    assert first.std() == pytest.approx(10, rel=0.03)


def test_effects_take_any_size() -> None:
    for shape in ((1, 1, 3), (7, 480, 3), (96, 2, 3)):
        image = np.full(shape, 90, np.uint8)
        for name in EFFECTS:
            assert apply_effect(image, name, 0.5).shape == shape


@pytest.mark.parametrize(
    ('name', 'strength', 'words'),
    [
        ('rain', 0.5, "'rain'"),
        ('fog', 1.1, '1.1'),
        ('fog', -0.1, '-0.1'),
        ('blur', float('nan'), 'nan'),
    ],
)
def test_effects_refuse_what_they_do_not_know(name: str, strength: float, words: str) -> None:
    with pytest.raises(EffectError, match=words):
        apply_effect(np.zeros((4, 4, 3), np.uint8), name, strength)


def test_a_spec_says_what_the_drive_is() -> None:
    drive = parse_drive(
        'procedural:seed=7,duration=10,rate=5,width=160,height=96,effect=fog:0.6,unknown=ball:2-5'
    )
    assert (drive.seed, drive.width, drive.height, drive.rate_hz) == (7, 160, 96, 5.0)
    assert len(drive) == 50
    assert drive.events == (
        EffectEvent(0.0, 10.0, 'fog', 0.6, 0.0),
        UnknownEvent(2.0, 5.0, 'ball'),
    )
    assert drive.render(0).image.shape == (96, 160, 3)
    assert len(parse_drive('procedural:demo')) == 200


@pytest.mark.parametrize(
    ('spec', 'words'),
    [
        ('bag:x', "'bag:x'"),
        ('procedural:sed=7', "'sed=7'"),
        ('procedural:seed', "'seed'"),
        ('procedural:seed=a', "seed = 'a'"),
        ('procedural:seed=-1', 'seed = -1'),
        ('procedural:width=1', 'width = 1'),
        ('procedural:rate=0', 'rate = 0'),
        ('procedural:rate=nan', 'rate = nan'),
        ('procedural:duration=1e9', 'duration = 1000000000'),
        ('procedural:effect=rain:0.5', "'rain'"),
        ('procedural:effect=fog:2', 'strength = 2.0'),
        ('procedural:effect=fog:x', "effect = 'fog:x'"),
        ('procedural:unknown=ufo:1-3', "'ufo'"),
        ('procedural:unknown=ball', "unknown = 'ball'"),
        ('procedural:unknown=ball:4-3', 'ends at 3.0 s'),
    ],
)
def test_a_bad_spec_is_refused_with_key_and_value(spec: str, words: str) -> None:
    with pytest.raises(DriveError) as caught:
        parse_drive(spec)
    assert words in str(caught.value)
    assert '\n' not in str(caught.value)


def test_an_index_outside_the_drive_is_refused(demo: Drive) -> None:
    for index in (-1, 200):
        with pytest.raises(DriveError, match=str(index)):
            demo.render(index)
