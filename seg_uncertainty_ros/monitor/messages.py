# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A warning in one line of plain words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seg_uncertainty_ros.monitor.hysteresis import Hysteresis

# Name -> what is wrong, the value, and the threshold.
_TEXTS = {
    'ood_area': (
        'unknown object',
        '{percent:.1f} % of the {where} is anomalous',
        '{limit_percent:.1f} %',
    ),
    'low_confidence': ('unsure', 'mean confidence in the {where} is {value:.2f}', '{limit:.2f}'),
    'domain_shift': (
        'unfamiliar surroundings',
        'shift {value:.1f}x baseline',
        '{limit:.2f}',
    ),
    'stale_input': ('input is silent', 'no image for {value:.1f} s', '{limit:.1f} s'),
    'latency': ('late', '95 % of the images within {value:.3f} s', '{limit:.3f} s'),
}


def describe(
    name: str,
    value: float | None,
    hysteresis: Hysteresis,
    *,
    where: str,
    details: tuple[str, ...],
    moved: tuple[str, ...] = (),
) -> str:
    """Say what, value, threshold, since when, and details such as the place in the image.

    moved: the indicators behind the value, in words.
    """
    what, measured, threshold = _TEXTS[name]
    limit = hysteresis.limits.enter
    numbers = {'limit': limit, 'limit_percent': 100 * limit, 'where': where}
    if value is None:
        measured, state = 'not measurable now', ()
    else:
        numbers |= {'value': value, 'percent': 100 * value}
        state = () if hysteresis.limits.bad(value) else ('no longer beyond the threshold',)
    if hysteresis.limits.latch:
        state += ('latched until reset',)
    what = f'{what}: {", ".join(moved)};' if moved else f'{what}:'
    head = f'{what} {measured} (threshold {threshold}) for {{elapsed:.1f}} s'
    return ', '.join((head.format(**numbers, elapsed=hysteresis.elapsed_s), *details, *state))
