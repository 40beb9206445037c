# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""How unfamiliar the last seconds are."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from seg_uncertainty_ros.shift.indicators import INDICATORS
from seg_uncertainty_ros.shift.indicators import frame_statistics
from seg_uncertainty_ros.shift.online import ShiftEvaluator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seg_uncertainty_ros.monitor.assessment import Observation
    from seg_uncertainty_ros.shift.online import ShiftAssessment
    from seg_uncertainty_ros.shift.reference import ShiftReference

WARM_UP = 'warm-up: the window of the domain shift is not full'
MAX_WORDS = 3


@dataclass(frozen=True)
class Indicator:
    """``value`` of an indicator over the window; ``ratio`` to its in-distribution bound."""

    value: float
    ratio: float


@dataclass(frozen=True)
class DomainShift:
    """What the last seconds say of the domain.

    value:      1.0 = in-distribution bound; None while no window is full.
    evidence:   of the sequential test: an alarm begins at 1.0 and lasts until 0; None without a
                test, or without a value.
    domain:     the nearest one.
    moved:      what moved and whereto, in words, the most first; nothing while all is in bounds.
    indicators: by name; those that are known.
    """

    value: float | None = None
    evidence: float | None = None
    domain: str | None = None
    moved: tuple[str, ...] = ()
    indicators: Mapping[str, Indicator] = field(default_factory=dict)


class ShiftJudge:
    """Takes one observation after the other; stamps never go back."""

    def __init__(self, reference: ShiftReference) -> None:
        self._evaluator = ShiftEvaluator(reference)

    def update(self, observation: Observation) -> DomainShift:
        """Judge an observation whose embedding is finite, or None."""
        frame = frame_statistics(
            observation.stamp_ns,
            observation.mask,
            observation.confidence,
            observation.anomaly,
            observation.embedding,
            classes=self._evaluator.reference.classes,
        )
        found = self._evaluator.update(replace(frame, image=observation.image_statistics))
        if found.shift is None:
            return DomainShift(domain=found.domain)
        beyond = max(found.shift, found.cusum or 0.0) >= 1.0
        return DomainShift(
            value=found.shift,
            evidence=found.cusum,
            domain=found.domain,
            moved=_moved(found) if beyond else (),
            indicators=_indicators(found),
        )

    def reset(self) -> None:
        """Forget every observation and the evidence."""
        self._evaluator.reset()


def _moved(found: ShiftAssessment) -> tuple[str, ...]:
    """Return words for the image, and one number for the outputs: the others repeat it."""
    said = found.explain(len(INDICATORS))
    words = [text for text in said if ' -> ' not in text]
    numbers = [text for text in said if ' -> ' in text]
    # Of the numbers, the mean confidence is the one that everybody reads the same way.
    numbers.sort(key=lambda text: not text.startswith('confidence '))
    return (*words[:MAX_WORDS], *numbers[:1])


def _indicators(found: ShiftAssessment) -> dict[str, Indicator]:
    """Four digits, as they are written into every message of the state."""
    return {
        name: Indicator(float(f'{value:.4g}'), float(f'{ratio:.4g}'))
        for name, value, ratio in zip(INDICATORS, found.values, found.ratios, strict=True)
        if not np.isnan(value)
    }
