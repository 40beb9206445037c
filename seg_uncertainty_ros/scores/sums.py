# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Powers, and sums over the channels of a pixel, in the forms that runtimes are quick at."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

NORMS = (0.1, 0.3, 0.5, 1.0, 2.0)
"""The p of PGN's norms in the paper."""

# Exponents with a cheap power: square roots of square roots.
DYADIC = (0.125, 0.25, 0.5, 1.0)


def channel_sum(planes: Tensor) -> Tensor:
    """Sum NxCxP over its channels, to Nx1xP.

    As a product with ones: ONNX Runtime's sum over an axis that is not the last takes four to
    eight times as long on a CPU.
    """
    return planes.new_ones(1, planes.shape[1]) @ planes


def power(x: Tensor, p: float) -> Tensor:
    """Return x^p for x >= 0 and p of NORMS."""
    if p == 1.0:
        return x
    if p == 2.0:
        return x * x
    # A general power takes four times as long; log 0 = −inf, and its exponential is 0 again.
    return x.sqrt() if p == 0.5 else (p * x.log()).exp()


@cache
def dyadic_weights(p: float) -> tuple[float, ...]:
    """Return w with x^p ≈ Σ_k w_k x^e_k for x in 0..30 and e of DYADIC.

    Least squares on 1e-6..30, weighted by how often a feature is about that small (the density of
    features after a ReLU is finite at 0). Exact at 0. For p = 0.1 and 0.3 a sum over 64 features
    is off by 0.02 % (rms) and 0.12 % at most on CamVid.
    """
    x = np.geomspace(1e-6, 30.0, 4000)
    weight = np.sqrt(np.minimum(x, 1.0) + 1e-3)
    powers = x[:, None] ** np.array(DYADIC)
    solution = np.linalg.lstsq(powers * weight[:, None], x**p * weight, rcond=None)[0]
    return tuple(solution.tolist())
