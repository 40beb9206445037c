# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Every score against an independent float64 computation; PGN against autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from seg_uncertainty_ros.scores import SCORES
from seg_uncertainty_ros.scores.evidence import Evidence
from seg_uncertainty_ros.scores.gradient_norm import PgnOneHot
from seg_uncertainty_ros.scores.gradient_norm import PgnOneHotExact
from seg_uncertainty_ros.scores.gradient_norm import PgnUniform
from seg_uncertainty_ros.scores.gradient_norm import PgnUniformExact

CLASSES, FEATURES, HEIGHT, WIDTH = 11, 16, 7, 9


def softmax(logits):
    e = np.exp(logits - logits.max(axis=0))
    return e / e.sum(axis=0)


def p_norm(x, p):
    return (np.abs(x) ** p).sum(axis=0) ** (1 / p)


def one_hot(probability):
    return (np.arange(len(probability))[:, None, None] == probability.argmax(axis=0)) * 1.0


def entropy(p):
    return -np.where(p > 0, p * np.log(np.maximum(p, 1e-300)), 0).sum(axis=0) / np.log(len(p))


def margin(p):
    ordered = np.sort(p, axis=0)
    return 1 - ordered[-1] + ordered[-2]


# Straight from the formulas, in float64, without the tricks of the graph.
REFERENCE = {
    'max_softmax': lambda z, phi: 1 - softmax(z).max(axis=0),
    'entropy': lambda z, phi: entropy(softmax(z)),
    'margin': lambda z, phi: margin(softmax(z)),
    'max_logit': lambda z, phi: -z.max(axis=0),
    'energy': lambda z, phi: -np.logaddexp.reduce(z, axis=0),
    'pgn_onehot': lambda z, phi: (
        p_norm(softmax(z) * (1 - one_hot(softmax(z))), 0.5) * p_norm(phi, 0.5)
    ),
    'pgn_uniform': lambda z, phi: (
        p_norm(softmax(z) * (len(z) - 1) / len(z), 0.5) * p_norm(phi, 0.5)
    ),
    'pgn_onehot_exact': lambda z, phi: (
        p_norm(softmax(z) - one_hot(softmax(z)), 0.5) * p_norm(phi, 0.5)
    ),
    'pgn_uniform_exact': lambda z, phi: p_norm(softmax(z) - 1 / len(z), 0.5) * p_norm(phi, 0.5),
}


def random_evidence(scale, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, scale, (CLASSES, HEIGHT, WIDTH))
    features = np.maximum(rng.normal(0, 1, (FEATURES, HEIGHT, WIDTH)), 0)
    # The reference sees the same float32 values, computed further in float64.
    return logits.astype(np.float32), features.astype(np.float32)


def test_every_score_has_a_reference():
    assert set(REFERENCE) == set(SCORES)


@pytest.mark.parametrize('name', SCORES)
@pytest.mark.parametrize('scale', [0.0, 0.3, 3.0, 12.0, 60.0])
def test_score_equals_float64_reference(name, scale):
    logits, features = random_evidence(scale)
    evidence = Evidence.of(torch.from_numpy(logits)[None], torch.from_numpy(features)[None])
    score = SCORES[name]()(evidence)[0].numpy()
    expected = REFERENCE[name](logits.astype(np.float64), features.astype(np.float64))
    # The exact uniform PGN subtracts p and 1/S, which loses digits where they are close.
    atol = 1e-4 if name == 'pgn_uniform_exact' else 1e-6
    np.testing.assert_allclose(score, expected, rtol=2e-5, atol=atol)


def test_confident_pixels_keep_their_order():
    logits = torch.zeros(1, CLASSES, 1, 4)
    logits[0, 3] = torch.tensor([18.0, 22.0, 26.0, 30.0])
    evidence = Evidence.of(logits, torch.ones(1, FEATURES, 1, 4))
    score = SCORES['max_softmax']()(evidence)[0, 0].tolist()
    assert score == sorted(score, reverse=True)
    assert len(set(score)) == 4
    assert score[-1] > 0


def autograd_norm(logits_features, label, p):
    """Return ‖∂L/∂K‖_p of the cross-entropy by the 1x1 kernel K, one pixel at a time."""
    features, kernel = logits_features
    norms = np.empty(features.shape[1:])
    for row, column in np.ndindex(*norms.shape):
        k = kernel.clone().requires_grad_()
        logits = k @ features[:, row, column]
        target = label(logits.detach())
        loss = -(target * F.log_softmax(logits, dim=0)).sum()
        (gradient,) = torch.autograd.grad(loss, k)
        norms[row, column] = (gradient.abs() ** p).sum() ** (1 / p)
    return norms


@pytest.mark.parametrize('p', [0.1, 0.3, 0.5, 1.0, 2.0])
@pytest.mark.parametrize(
    ('score', 'label'),
    [
        (PgnOneHotExact, lambda y: F.one_hot(y.argmax(), CLASSES).double()),
        (PgnUniformExact, lambda y: torch.full((CLASSES,), 1 / CLASSES, dtype=torch.float64)),
    ],
)
def test_exact_gradient_norm_equals_autograd(score, label, p):
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(FEATURES, 3, 4, generator=generator, dtype=torch.float64).relu()
    kernel = torch.randn(CLASSES, FEATURES, generator=generator, dtype=torch.float64)
    logits = torch.einsum('sf,fhw->shw', kernel, features)
    actual = score(p)(Evidence.of(logits[None], features[None]))[0]
    expected = autograd_norm((features, kernel), label, p)
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize(
    ('printed', 'exact'), [(PgnOneHot, PgnOneHotExact), (PgnUniform, PgnUniformExact)]
)
def test_printed_factors_differ_from_the_gradient(printed, exact):
    logits, features = random_evidence(1.0)
    evidence = Evidence.of(torch.from_numpy(logits)[None], torch.from_numpy(features)[None])
    assert not torch.allclose(printed()(evidence), exact()(evidence), rtol=0.05)
