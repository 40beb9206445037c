# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The autoencoder, the metrics of its graph by their formulas, and the graph in a bundle."""

from __future__ import annotations

import shutil
from dataclasses import astuple
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from seg_uncertainty_ros.bundle import GRAPH
from seg_uncertainty_ros.bundle import NOVELTY
from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.cli import main
from seg_uncertainty_ros.novelty.measure import HELD_OUT
from seg_uncertainty_ros.novelty.measure import METRICS
from seg_uncertainty_ros.novelty.measure import PATTERN
from seg_uncertainty_ros.novelty.measure import Novelty
from seg_uncertainty_ros.novelty.measure import NoveltyError
from seg_uncertainty_ros.runtime.calibrated_graph import CalibratedGraph
from seg_uncertainty_ros.training import vae
from seg_uncertainty_ros.training.vae import Drive
from seg_uncertainty_ros.training.vae import NoveltyFitError
from seg_uncertainty_ros.training.vae import VaeRecipe

RECIPE = VaeRecipe(latent=3, hidden=16, steps=150)


def drive(seed, count, size, shift=0.0):
    """Return embeddings near a curved surface of two dimensions, of very different scales."""
    rng = np.random.default_rng(seed)
    place = rng.uniform(-1, 1, (count, 2))
    factors = np.c_[place, np.sin(3 * place), place**2]
    mixing = np.random.default_rng(0).normal(size=(factors.shape[1], size))
    rows = factors @ mixing + 0.1 * rng.normal(size=(count, size)) + shift
    return (rows * np.geomspace(0.01, 100, size)).astype(np.float32)


@pytest.fixture(scope='module')
def graph():
    return vae.fit_graph([drive(1, 150, 30), drive(2, 150, 30)], RECIPE)


def test_loss_is_error_and_divergence():
    torch.manual_seed(0)
    model = vae.Vae(5, 2, 4)
    x, noise = torch.randn(7, 5), torch.randn(7, 2)
    mean, log_variance = model.encode(x)
    latent = torch.distributions.Normal(mean, (log_variance / 2).exp())
    prior = torch.distributions.Normal(0.0, 1.0)
    divergence = torch.distributions.kl_divergence(latent, prior).sum()
    decoded = model.decoder(mean + noise * latent.scale)
    error = 0.5 * ((decoded - x) ** 2).sum()
    torch.testing.assert_close(model.loss(x, noise, 3.0), (error + 3 * divergence) / 7)


def test_metrics_are_those_of_the_book(graph):
    row = drive(3, 1, 30, shift=0.5)[0]
    x = (row - graph.centre.numpy()) * graph.weight.numpy()
    mean, log_variance = (t[0].numpy() for t in graph.vae.encode(torch.from_numpy(x)[None]))
    variance = np.exp(log_variance)
    bank, spread = graph.mean.numpy(), graph.variance.numpy()
    rng = np.random.default_rng(0)
    draws = mean + np.sqrt(variance) * rng.normal(size=(4000, 3))
    drawn = (((draws - bank[:, None]) ** 2) / spread[:, None]).sum(axis=2).mean(axis=1)
    overlap = 0.25 * np.log(0.25 * (spread / variance + variance / spread + 2))
    overlap += 0.25 * (bank - mean) ** 2 / (spread + variance)
    decoded = graph.vae.decoder(torch.from_numpy(mean)[None])[0].numpy()
    expected = (
        1 - (bank @ mean / np.linalg.norm(bank, axis=1) / np.linalg.norm(mean)).max(),
        np.linalg.norm(bank - mean, axis=1).min(),
        np.abs(bank - mean).sum(axis=1).min(),
        drawn.min(),
        overlap.sum(axis=1).min(),
        np.linalg.norm(x - decoded),
    )
    measured = vae.measure(graph, row[None])[0]
    z = METRICS.index('z_score')
    np.testing.assert_allclose(
        np.delete(measured, z), np.delete(expected, z), rtol=2e-3, atol=1e-5
    )
    assert measured[z] == pytest.approx(expected[z], rel=0.05)


def test_what_was_trained_on_is_at_no_distance_and_other_drives_are_known(graph):
    trained = vae.measure(graph, drive(1, 150, 30))
    assert np.median(trained[:, :3], axis=0) == pytest.approx(0, abs=1e-3)
    known, other = (vae.measure(graph, drive(5, 60, 30, shift)) for shift in (0.0, 3.0))
    error = METRICS.index('reconstruction')
    assert other[:, error].min() > known[:, error].max()


def test_the_same_seed_gives_the_same_graph_and_leaves_others_randomness_alone(graph):
    torch.manual_seed(5)
    wanted = torch.rand(1)
    torch.manual_seed(5)
    again = vae.fit_graph([drive(1, 150, 30), drive(2, 150, 30)], RECIPE)
    assert torch.rand(1) == wanted
    other = vae.fit_graph([drive(1, 150, 30), drive(2, 150, 30)], replace(RECIPE, seed=1))
    rows = drive(3, 5, 30)
    assert (vae.measure(again, rows) == vae.measure(graph, rows)).all()
    assert (vae.measure(other, rows) != vae.measure(graph, rows)).any()


def test_a_large_beta_leaves_less_in_the_latent_space(graph):
    drives = [drive(1, 150, 30), drive(2, 150, 30)]
    tight = vae.fit_graph(drives, replace(RECIPE, beta=30.0))
    assert tight.mean.var(dim=0).sum() < graph.mean.var(dim=0).sum()


def test_the_nearest_is_searched_among_a_bounded_number(monkeypatch):
    monkeypatch.setattr(vae, 'MAX_NEIGHBOURS', 20)
    graph = vae.fit_graph([drive(1, 150, 30)], RECIPE)
    assert graph.mean.shape == graph.variance.shape == (20, 3)


@pytest.fixture(scope='module')
def fitted(bundle, tmp_path_factory):
    """Return a copy of the bundle with a graph, fitted to made-up drives."""
    out = tmp_path_factory.mktemp('novelty')
    size = bundle.reference.size
    drives = [Drive('monday', drive(1, 100, size)), Drive('tuesday', drive(2, 100, size))]
    held_out = [Drive('friday', drive(3, 40, size))]
    return vae.fit_novelty(bundle, drives, held_out, RECIPE, out), drives


def test_the_graph_in_the_bundle_gives_what_torch_gives(bundle, fitted):
    written, drives = fitted
    assert Bundle.load(written.path).novelty == written.path / NOVELTY
    novelty = Novelty(written)
    graph = vae.fit_graph([d.embeddings for d in drives], RECIPE)
    rows = np.concatenate([drive(4, 10, novelty.size), drive(5, 10, novelty.size, 2.0)])
    measured = [novelty.measure(row) for row in rows]
    expected = vae.measure(graph, rows)
    np.testing.assert_allclose(
        [astuple(m) for m in measured], expected, rtol=1e-3, atol=1e-4 * expected.max()
    )
    held_out = vae.measure(graph, drive(3, 40, novelty.size))
    np.testing.assert_allclose(
        np.concatenate(novelty.held_out), held_out, rtol=2e-3, atol=1e-4 * expected.max()
    )
    assert written.provenance['novelty']['held_out'] == [{'name': 'friday', 'frames': 40}]
    assert novelty.q_emd(measured[10:]).reconstruction > 5
    assert (
        novelty.q_emd(measured[:10]).reconstruction < novelty.q_emd(measured[10:]).reconstruction
    )


def test_the_graph_stays_with_the_bundle_that_is_copied(fitted, tmp_path):
    written, _ = fitted
    written.copy_files(tmp_path)
    assert replace(written, path=tmp_path).write().novelty == tmp_path / NOVELTY


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda row: row[:-1], 'shape'),
        (lambda row: row[None], 'shape'),
        (lambda row: np.where(np.arange(row.size) == 7, np.nan, row), 'nan at 7'),
        (lambda row: np.where(np.arange(row.size) == 3, -np.inf, row), '-inf at 3'),
        (lambda _: 'text', 'expected numbers'),
        (lambda _: None, 'shape'),
    ],
)
def test_bad_embeddings(fitted, change, words):
    novelty = Novelty(fitted[0])
    with pytest.raises(NoveltyError, match=f'embedding: .*{words}'):
        novelty.measure(change(drive(4, 1, novelty.size)[0]))


def test_absurd_embeddings_have_finite_metrics(fitted):
    novelty = Novelty(fitted[0])
    for scale in (0.0, 1e30, -1e30):
        metrics = astuple(novelty.measure(scale * np.ones(novelty.size)))
        assert np.isfinite(metrics).all()
        assert min(metrics) >= 0


@pytest.mark.parametrize(
    ('key', 'content'),
    [
        *((HELD_OUT, c) for c in (None, 'text', '[[1, 2]]', '[[[1]], [[2]]]', '[[], []]')),
        *((PATTERN, c) for c in (None, 'text', '{}', '1', '[1, 2]', '["a"]')),
    ],
)
def test_a_graph_without_its_metadata_is_refused(fitted, tmp_path, key, content):
    written, _ = fitted
    path = shutil.copytree(written.path, tmp_path / 'bundle')
    model = onnx.load(path / NOVELTY)
    kept = {entry.key: entry.value for entry in model.metadata_props}
    kept.pop(key)
    onnx.helper.set_model_props(model, kept if content is None else {**kept, key: content})
    onnx.save(model, path / NOVELTY)
    with pytest.raises(NoveltyError, match=f'{NOVELTY}: metadata {key}'):
        Novelty(replace(written, path=path).write())


def test_a_graph_of_another_network_is_refused(fitted, tmp_path):
    written, _ = fitted
    path = shutil.copytree(written.path, tmp_path / 'bundle')
    model = onnx.load(path / GRAPH)
    tensor = next(t for t in model.graph.initializer if '_conv_stem.weight' in t.name)
    weights = onnx.numpy_helper.to_array(tensor)
    tensor.CopyFrom(onnx.numpy_helper.from_array(1.1 * weights, tensor.name))
    onnx.save(model, path / GRAPH)
    with pytest.raises(NoveltyError, match=f'{NOVELTY}: fitted to another network.* differs by'):
        Novelty(replace(written, path=path).write())


def test_a_calibrated_network_is_the_same(fitted, tmp_path):
    written, _ = fitted
    graph = CalibratedGraph(written)
    graph.set_temperature(2 * written.temperature)
    graph.set_knots(0.5 * np.array([score.knots for score in written.scores]))
    written.copy_files(tmp_path)
    graph.save(tmp_path / GRAPH)
    calibrated = replace(written, path=tmp_path, temperature=2 * written.temperature).write()
    row = drive(4, 1, Novelty(written).size)[0]
    assert Novelty(calibrated).measure(row) == Novelty(written).measure(row)


@pytest.mark.parametrize(
    ('drives', 'held_out', 'words'),
    [
        ((20,), (30,), 'drives: 20 frames, expected at least 32'),
        ((60,), (10,), 'held-out drives: 10 frames, expected at least 16'),
        ((60,), (), 'held-out drives: 0 frames'),
        ((60,), (20, 0), r'held-out drives: 20 frames, .*some of each: \[20, 0\]'),
    ],
)
def test_too_few_frames(bundle, tmp_path, drives, held_out, words):
    size = bundle.reference.size
    parts = ([Drive('d', drive(1, n, size)) for n in counts] for counts in (drives, held_out))
    with pytest.raises(NoveltyFitError, match=words):
        vae.fit_novelty(bundle, *parts, RECIPE, tmp_path)
    assert not list(tmp_path.iterdir())


def test_embeddings_of_another_network_or_with_nan(bundle, tmp_path):
    size = bundle.reference.size
    good, other = Drive('g', drive(1, 60, size)), Drive('o', drive(1, 60, size + 1))
    for drives, held_out in (([good], [other]), ([other], [good]), ([good, other], [good])):
        with pytest.raises(NoveltyFitError, match='drives: '):
            vae.fit_novelty(bundle, drives, held_out, RECIPE, tmp_path)
    rows = good.embeddings.copy()
    rows[9, 3] = np.nan
    with pytest.raises(NoveltyFitError, match='nan in frame 9'):
        vae.fit_novelty(bundle, [Drive('n', rows)], [good], RECIPE, tmp_path)
    assert not list(tmp_path.iterdir())


def test_halves_are_drives_where_there_are_several():
    one, two, three = (np.full((n, 1), n) for n in (5, 6, 7))
    assert [len(part) for part in vae.halves([one])] == [2, 3]
    assert [set(part.ravel()) for part in vae.halves([one, two, three])] == [{5, 7}, {6}]


def test_command_on_procedural_drives(bundle_path, tmp_path, capsys):
    out = tmp_path / 'new'
    spec = 'procedural:seed={},rate=4,duration={},width=160,height=128'
    data, held_out = spec.format(1, 8), spec.format(2, 4)
    command = ['fit-novelty', str(bundle_path), '--data', data, '--held-out', held_out]
    assert main([*command, '--out', str(out), '--seed', '3']) == 0
    assert 'reconstruction' in capsys.readouterr().out
    written = Bundle.load(out)
    assert written.provenance['novelty']['recipe']['seed'] == 3
    assert len(np.concatenate(Novelty(written).held_out)) == 16


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (('--held-out', 'a'), '--held-out: a is in --data too'),
        (('--held-out', 'b', './b/../a'), '--held-out: ./b/../a is in --data too'),
        (('--held-out', 'b', '--interval', '-1'), '--interval: -1.0'),
        (('--held-out', 'b', '--beta', 'nan'), '--beta: nan'),
        (('--held-out', 'b'), 'a: does not exist'),
    ],
)
def test_bad_options_are_refused(bundle_path, tmp_path, monkeypatch, capsys, options, words):
    monkeypatch.chdir(tmp_path)
    command = ['fit-novelty', str(bundle_path), '--data', 'a', '--out', 'new', *options]
    assert main(command) == 1
    assert words in capsys.readouterr().err
