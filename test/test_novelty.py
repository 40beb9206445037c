# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Q_EMD by hand, and bundles without a novelty graph or with one that is none."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from seg_uncertainty_ros.bundle import NOVELTY
from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.bundle import BundleError
from seg_uncertainty_ros.novelty.measure import Novelty
from seg_uncertainty_ros.novelty.measure import NoveltyError
from seg_uncertainty_ros.novelty.q_emd import ScoresError
from seg_uncertainty_ros.novelty.q_emd import q_emd
from seg_uncertainty_ros.runtime.outputs import GraphError


def test_q_emd_by_hand():
    # D_val0 and D_val1 lie 1 apart; to 10 it is 9.5 from their mean.
    assert q_emd([0.0], [1.0], [10.0]) == pytest.approx(9.5)
    assert q_emd([0.0], [1.0], [0.0, 1.0]) == 0
    # Half of one part has to move by the distance of both: the set is known.
    assert q_emd([0.0], [1.0], [1.0]) == pytest.approx(0.5)


def test_q_emd_is_that_of_sorted_scores_and_has_no_unit():
    rng = np.random.default_rng(0)
    first, second = rng.normal(0, 1, 600), rng.normal(0.3, 1, 600)
    other = rng.normal(1.5, 2, 1200)
    known = np.sort(np.r_[first, second])
    expected = np.abs(known - np.sort(other)).mean()
    expected /= np.abs(np.sort(first) - np.sort(second)).mean()
    ratio = q_emd(first, second, other)
    assert ratio == pytest.approx(expected)
    assert q_emd(1e6 * first + 5, 1e6 * second + 5, 1e6 * other + 5) == pytest.approx(ratio)


def test_q_emd_of_parts_of_different_sizes_is_that_of_repeated_scores():
    first, second, other = [0.0, 3.0], [1.0, 1.5, 7.0], [2.0, 2.5, 9.0, -4.0]
    many = (np.repeat(s, 30 // len(s)) for s in (first, second))
    # D_val holds each score once: repeated alike, both parts would weigh the same.
    known, domain = np.sort(np.repeat([*first, *second], 4)), np.sort(np.repeat(other, 5))
    unit = np.abs(np.subtract(*map(np.sort, many))).mean()
    expected = np.abs(known - domain).mean() / unit
    assert q_emd(first, second, other) == pytest.approx(expected)


def test_q_emd_of_a_shift_that_is_far_beyond_known_scores():
    first, second = np.linspace(0, 1, 50), np.linspace(0.1, 1.2, 50)
    unit = 0.15
    assert q_emd(first, second, [1e7, 1e9]) == pytest.approx(5.05e8 / unit, rel=1e-3)
    # One frame of thousand.
    assert q_emd(first, second, [*np.r_[first, second], *first, 1e9]) > 1


def test_q_emd_of_scores_that_fall_is_above_one_too():
    known = np.linspace(0, 1, 100)
    assert q_emd(known, known + 0.1, known - 2) > 1


@pytest.mark.parametrize(
    ('sets', 'words'),
    [
        (([], [1.0], [2.0]), 'val0: shape \\(0,\\)'),
        (([0.0], [[1.0]], [2.0]), 'val1: shape \\(1, 1\\)'),
        (([0.0], [1.0], [2.0, np.nan]), 'domain: nan'),
        (([1.0], [1.0], [2.0]), 'val0, val1: the same scores'),
    ],
)
def test_scores_that_cannot_be_compared(sets, words):
    with pytest.raises(ScoresError, match=words):
        q_emd(*sets)


def test_a_bundle_without_a_novelty_graph(bundle):
    with pytest.raises(NoveltyError, match=f'no {NOVELTY}: seg-uncertainty fit-novelty'):
        Novelty(replace(bundle, novelty=None))


@pytest.fixture
def with_graph(bundle_path, tmp_path):
    """Return what gives a copy of the bundle some file as its novelty graph."""

    def write(source):
        path = shutil.copytree(bundle_path, tmp_path / 'bundle')
        shutil.copyfile(source, path / NOVELTY)
        return Bundle.load(path).write()

    return write


def test_a_novelty_graph_is_part_of_the_bundle(with_graph, bundle):
    written = with_graph(bundle.graph)
    assert written.novelty == written.path / NOVELTY
    written.novelty.write_bytes(b'other')
    with pytest.raises(BundleError, match=NOVELTY):
        Bundle.load(written.path)
    written.novelty.unlink()
    with pytest.raises(BundleError, match=f'{NOVELTY}: missing'):
        Bundle.load(written.path)


def test_graphs_that_are_no_novelty_graphs(with_graph, bundle):
    with pytest.raises(NoveltyError, match=f'{NOVELTY}: inputs .*score_index'):
        Novelty(with_graph(bundle.graph))


def test_a_file_that_is_no_graph(with_graph, bundle):
    with pytest.raises(GraphError, match=f'{NOVELTY}: ONNX Runtime cannot load it'):
        Novelty(with_graph(bundle.path / 'MODEL_CARD.md'))
