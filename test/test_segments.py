# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Segments of the anomaly plane: found, measured, judged, tracked."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from seg_uncertainty_ros.segments.components import MOST
from seg_uncertainty_ros.segments.components import find
from seg_uncertainty_ros.segments.features import DISPERSION
from seg_uncertainty_ros.segments.features import feature_names
from seg_uncertainty_ros.segments.features import measure
from seg_uncertainty_ros.segments.meta import LinearModel
from seg_uncertainty_ros.segments.meta import MetaModel
from seg_uncertainty_ros.segments.meta import MetaModelError
from seg_uncertainty_ros.segments.tracks import Tracker
from seg_uncertainty_ros.segments.tracks import distance_iou

SECOND = 1_000_000_000
CLASSES = ('road', 'tree', 'car')
NAMES = feature_names(DISPERSION, CLASSES)


def plane(*boxes, shape=(24, 40)):
    """Return an anomaly plane with boxes (left, top, width, height) at 255."""
    anomaly = np.zeros(shape, np.uint8)
    for left, top, width, height in boxes:
        anomaly[top : top + height, left : left + width] = 255
    return anomaly


# Components


def test_segments_come_the_largest_first():
    anomaly = plane((1, 1, 2, 2), (10, 5, 6, 4), (20, 20, 1, 1))
    anomaly[9, 16] = 255  # touches the second at a corner
    found = find(anomaly, threshold=0.5)
    assert found.area.tolist() == [25, 4, 1]
    assert found.boxes.tolist() == [[10, 5, 7, 5], [1, 1, 2, 2], [20, 20, 1, 1]]
    assert (found.labels[5, 10], found.labels[1, 1], found.labels[20, 20]) == (1, 2, 3)
    chosen = np.zeros_like(anomaly)
    chosen[:6] = 1
    assert found.count(chosen).tolist() == [6, 4, 0]


def test_threshold_and_opening():
    anomaly = plane((2, 2, 5, 5), (20, 0, 2, 24))
    anomaly[anomaly > 0] = 128
    assert len(find(anomaly, threshold=0.5)) == 2
    assert len(find(anomaly, threshold=128 / 255)) == 2
    assert len(find(anomaly, threshold=129 / 255)) == 0
    for opening in (3, 4, 5):
        assert find(anomaly, threshold=0.5, opening=opening).boxes.tolist() == [[2, 2, 5, 5]]
    assert len(find(anomaly, threshold=0.5, opening=2)) == 2
    assert len(find(anomaly, threshold=0.5, opening=6)) == 0


def test_the_smallest_of_too_many_are_left_out():
    anomaly = np.zeros((60, 80), np.uint8)
    anomaly[::2, ::2] = 255
    anomaly[-1, 40:] = 255
    found = find(anomaly, threshold=0.5)
    assert len(found) == MOST == found.labels.max()
    assert found.area[0] == 60


# Features


def neighbours(row, column, shape):
    steps = ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1))
    return [(y, x) for y, x in steps if 0 <= y < shape[0] and 0 <= x < shape[1]]


def plain_features(labels, segment, anomaly, dispersion, mask):
    """Return the features of a segment, pixel by pixel."""
    height, width = labels.shape
    pixels = [tuple(place) for place in np.argwhere(labels == segment)]
    edge = [
        place
        for place in pixels
        if any(labels[other] != segment for other in neighbours(*place, labels.shape))
    ]
    parts = {
        '': pixels,
        '_interior': [place for place in pixels if place not in edge] or pixels,
        '_boundary': edge or pixels,
    }
    ring = []
    for row, column in np.argwhere(labels == 0):
        near = labels[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3]
        if near.max() == segment:
            ring.append((row, column))
    rows, columns = np.array(pixels).T
    box = rows.max() - rows.min() + 1, columns.max() - columns.min() + 1
    result = {
        'log_area': np.log(len(pixels) / (height * width)),
        'log_width': np.log(box[1] / width),
        'log_height': np.log(box[0] / height),
        'fill': len(pixels) / (box[0] * box[1]),
        'boundary_share': len(edge) / len(pixels),
        'off_centre': abs(columns.min() + columns.max() + 1 - width) / width,
        'top': rows.min() / height,
        'bottom': (rows.max() + 1) / height,
    }
    planes = {'anomaly': anomaly / 255.0}
    planes |= {name: dispersion[..., k].astype(float) for k, name in enumerate(DISPERSION)}
    for name, values in planes.items():
        for part, places in parts.items():
            chosen = [values[place] for place in places]
            result[f'{name}{part}_mean'] = np.mean(chosen)
            result[f'{name}{part}_std'] = np.std(chosen)
    for where, places in (('inside', pixels), ('ring', ring)):
        ids = [mask[place] for place in map(tuple, places)]
        for index, name in enumerate(CLASSES):
            result[f'{where}_{name}'] = ids.count(index) / max(1, len(ids))
    result['class_share'] = max(result[f'inside_{name}'] for name in CLASSES)
    return [result[name] for name in NAMES]


def check_against_plain(anomaly, threshold=0.5, scale=1.0):
    rng = np.random.default_rng(1)
    dispersion = (scale * (1 + rng.random((*anomaly.shape, 3)))).astype(np.float32)
    mask = rng.choice(np.array([0, 1, 2, 255], np.uint8), anomaly.shape)
    found = find(anomaly, threshold=threshold)
    table = measure(found, anomaly, dispersion, mask, len(CLASSES))
    assert table.shape == (len(found), len(NAMES))
    expected = [
        plain_features(found.labels, index + 1, anomaly, dispersion, mask)
        for index in range(len(found))
    ]
    if expected:
        np.testing.assert_allclose(table, expected, rtol=1e-9, atol=1e-7 * scale)
    return found


def test_features_equal_plain_loops():
    rng = np.random.default_rng(0)
    smooth = cv2.GaussianBlur(rng.normal(size=(24, 40)), (0, 0), 1.2)
    anomaly = np.clip(128 + 400 * smooth, 0, 255).astype(np.uint8)
    found = check_against_plain(anomaly, threshold=0.6)
    assert len(found) > 8
    touching = (found.boxes[:, :2] == 0).any() and (found.area == 1).any()
    assert touching, 'segments at the border, and of one pixel, are among them'


@pytest.mark.parametrize('scale', [1e-6, 1e6])
def test_features_of_scores_of_any_size(scale):
    check_against_plain(plane((0, 0, 5, 4), (12, 3, 1, 1), (15, 3, 20, 15)), scale=scale)


def test_no_segments_no_rows():
    check_against_plain(plane())
    empty = np.zeros((0, len(NAMES)))
    assert model().predict(empty[:, :3]).probability.shape == (0,)


def test_the_whole_plane_as_a_segment_has_no_boundary():
    found = check_against_plain(plane((0, 0, 40, 24)))
    assert found.area.tolist() == [960]


# Meta model


def model(**changes):
    rows = {
        'scores': DISPERSION,
        'features': ('log_area', 'fill', 'bottom'),
        'mean': (0.5, -1.0, 2.0),
        'scale': (2.0, 1.0, 0.5),
        'classification': LinearModel((1.0, -2.0, 0.5), 0.25),
        'regression': LinearModel((0.1, 0.2, 0.0), 0.4),
        'threshold': 0.3,
        'reason': 'test',
        'provenance': {'segments': 3},
    }
    return MetaModel(**{**rows, **changes})


def test_meta_model_is_the_logistic_and_the_linear_formula():
    features = np.array([[2.5, 0.0, 2.0], [0.5, -1.0, 4.0], [-4000.0, 900.0, 0.0]])
    verdicts = model().predict(features)
    assert verdicts.probability[:2] == pytest.approx(
        [1 / (1 + np.exp(0.75)), 1 / (1 + np.exp(-2.25))]
    )
    assert verdicts.probability[2] == 0
    assert verdicts.iou[:2] == pytest.approx([0.7, 0.4])
    assert 0 <= verdicts.iou[2] <= 1


def test_meta_model_survives_json():
    content = json.loads(json.dumps(model().to_dict(), allow_nan=False))
    assert MetaModel.from_dict(content) == model()


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'mean': (1.0, 2.0)}, 'mean: 2 values, expected 3'),
        ({'regression': LinearModel((1.0,), 0.0)}, 'regression.weights: 1 values'),
        ({'scale': (1.0, 0.0, 1.0)}, 'scale: 0.0, expected above 0'),
        ({'threshold': float('nan')}, 'threshold: nan'),
        ({'classification': LinearModel((1.0, float('inf'), 0.0), 0.0)}, 'weights: inf'),
    ],
)
def test_meta_model_refuses(changes, words):
    with pytest.raises(MetaModelError, match=words):
        replace(model(), **changes)


# Tracks


def box(x, y, size=10.0):
    return [x, y, x + size, y + size]


def follow(tracker, frames, step_s=0.1):
    """Feed boxes of frames; return the identities of each frame."""
    seen = []
    for index, boxes in enumerate(frames):
        tracks = tracker.update(
            np.array(boxes, float).reshape(-1, 4), round(index * step_s * SECOND)
        )
        seen.append([track.id for track in tracks])
    return seen


def test_objects_that_cross_keep_their_identity():
    # Towards each other, 6 pixels a frame; they pass 4 pixels apart.
    frames = [[box(6 * i, 0), box(120 - 6 * i, 4)] for i in range(21)]
    assert follow(Tracker(), frames) == [[1, 2]] * 21


def test_order_of_the_boxes_does_not_matter():
    frames = [[box(0, 0), box(50, 0)], [box(50, 0), box(0, 0)]]
    assert follow(Tracker(), frames) == [[1, 2], [2, 1]]


def test_a_gap_is_bridged_by_prediction():
    tracker = Tracker(max_gap_s=0.5)
    # So fast that only the prediction overlaps after the gap.
    frames = [[box(8 * i, 0)] if i not in (6, 7, 8) else [] for i in range(12)]
    assert [ids for ids in follow(tracker, frames) if ids] == [[1]] * 9
    (track,) = tracker.tracks
    assert track.age_s == pytest.approx(1.1)
    assert track.persistence == pytest.approx(9 / 12)
    assert (track.hits, track.frames) == (9, 12)
    np.testing.assert_allclose(track.velocity, [80.0, 0, 80, 0], atol=1e-6)


def test_a_long_gap_or_a_leap_is_a_new_object():
    frames = [[box(0, 0)]] + [[]] * 6 + [[box(0, 0)], [box(90, 0)]]
    seen = follow(Tracker(max_gap_s=0.5), frames)
    assert [seen[0], *seen[-2:]] == [[1], [2], [3]]


def test_objects_of_a_slow_camera_age():
    frames = [[box(0, 0)], [box(2, 0)], [box(4, 0)], [], [box(6, 0)]]
    tracker = Tracker(max_gap_s=0.5)
    assert follow(tracker, frames[:3], step_s=1.0) == [[1]] * 3
    assert tracker.tracks[0].age_s == 2.0
    assert follow(Tracker(max_gap_s=0.5), frames, step_s=1.0)[-1] == [2]


def test_reset_forgets_but_gives_no_identity_twice():
    tracker = Tracker()
    follow(tracker, [[box(0, 0)]])
    tracker.reset()
    assert tracker.tracks == ()
    assert follow(tracker, [[box(0, 0)]]) == [[2]]


def test_stamps_that_stand_still_leave_the_velocity():
    tracker = Tracker()
    assert follow(tracker, [[box(0, 0)], [box(1, 0)], [box(2, 0)]], step_s=0.0) == [[1]] * 3
    (track,) = tracker.tracks
    assert not track.velocity.any()
    assert track.age_s == 0


def test_the_number_of_tracks_is_bounded():
    tracker = Tracker(max_gap_s=10.0, max_tracks=5)
    for index in range(20):
        follow(tracker, [[box(100 * index, 100 * row) for row in range(3)]])
        assert len(tracker.tracks) <= 5
    assert [track.id for track in tracker.tracks][:3] == [58, 59, 60]
    many = follow(tracker, [[box(30 * i, 900) for i in range(9)]])
    assert len(many[0]) == 9
    assert len(tracker.tracks) == 5


def test_distance_iou_by_hand():
    first = np.array([[0.0, 0, 2, 2], [5, 5, 5, 5]])
    second = np.array([[0.0, 0, 2, 2], [1, 0, 3, 2], [2, 0, 4, 2]])
    expected = [1.0, 1 / 3 - 1 / 13, -4 / 20]
    np.testing.assert_allclose(distance_iou(first, second)[0], expected)
    assert np.isfinite(distance_iou(first, first)).all()
