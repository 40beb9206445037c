# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Parameters of the monitor, validated."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field
from dataclasses import fields
from dataclasses import is_dataclass
from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING

from seg_uncertainty_ros.errors import SegUncertaintyError

if TYPE_CHECKING:
    from collections.abc import Mapping

LEVELS = ('WARN', 'ERROR')
GROUND = 'ground'


class MonitorError(SegUncertaintyError):
    """A parameter or an observation that cannot be used; names the field and the value."""


@dataclass(frozen=True)
class WarningConfig:
    """One warning: raised when beyond ``enter`` for ``hold_on_s``, cleared likewise at ``exit``.

    ``enter`` and ``exit`` None mean the threshold of the model bundle; of the domain shift, the
    sequential test where the bundle's reference has one. ``latch`` keeps the warning
    until a reset. ``level`` is what the warning makes of the state: 'WARN' or 'ERROR'.
    """

    enter: float | None = None
    exit: float | None = None
    hold_on_s: float = 0.5
    hold_off_s: float = 1.0
    latch: bool = False
    level: str = 'WARN'
    enabled: bool = True


@dataclass(frozen=True)
class RegionConfig:
    """Where unknown objects count: ground of the named classes, a polygon, or where both are.

    ``classes``: GROUND stands for all that the model calls ground. ``polygon`` holds (x, y) in
    [0, 1] of width and height. Without classes and polygon the whole image counts. Planes are
    read at the size of the dispersion, the network's logits; without it at a whole fraction of
    their size, at most ``working_width`` pixels wide. A region smaller than ``min_area`` of the
    image is no region.
    """

    classes: tuple[str, ...] = (GROUND,)
    polygon: tuple[tuple[float, float], ...] = ()
    working_width: int = 160
    min_area: float = 0.01


@dataclass(frozen=True)
class AnomalyConfig:
    """What is anomalous: a pixel at or above ``threshold`` of the fixed scale [0, 1].

    Responses thinner than ``opening`` pixels at working size are class boundaries, not objects;
    1 keeps them. What is left of where boundaries meet is smaller than ``min_region`` (fraction
    of the region of interest). ``max_regions`` bounds the list of regions, not the area.

    Where ``meta`` is on and the bundle has a meta model, only what the model takes for an object
    counts. ``min_age_s``: an object counts once it has been in view for so long.
    """

    threshold: float = 0.5
    opening: int = 2
    min_region: float = 0.001
    max_regions: int = 8
    meta: bool = True
    min_age_s: float = 0.0


@dataclass(frozen=True)
class MonitorConfig:
    """Everything the monitor can be told.

    ``ood_area`` is an ERROR, as something unknown is where one drives; ``stale_input`` too, and
    it makes the state STALE; the others are a WARN. ``confidence_in`` is 'image' or 'region'.
    Time that goes back, or on by more than ``jump_s`` between two images, is a jump.
    """

    ood_area: WarningConfig = field(default_factory=lambda: WarningConfig(level='ERROR'))
    low_confidence: WarningConfig = field(default_factory=lambda: WarningConfig(hold_on_s=1.0))
    domain_shift: WarningConfig = field(
        default_factory=lambda: WarningConfig(hold_on_s=1.0, hold_off_s=2.0)
    )
    stale_input: WarningConfig = field(
        default_factory=lambda: WarningConfig(1.0, 0.5, 0.0, 0.5, level='ERROR')
    )
    latency: WarningConfig = field(default_factory=lambda: WarningConfig(0.5, 0.3))
    region: RegionConfig = field(default_factory=RegionConfig)
    anomaly: AnomalyConfig = field(default_factory=AnomalyConfig)
    confidence_in: str = 'image'
    latency_window_s: float = 2.0
    jump_s: float = 10.0

    def __post_init__(self) -> None:
        """Check every field."""
        for name in WARNINGS:
            _check_warning(name, getattr(self, name))
        for name in ('stale_input', 'latency'):
            warning = getattr(self, name)
            if warning.enter is None or warning.exit is None:
                msg = f'{name}: no enter or no exit, expected both: the bundle holds none'
                raise MonitorError(msg)
        _check_region(self.region)
        anomaly = self.anomaly
        _check_number('anomaly.threshold', anomaly.threshold, 1e-3, 1.0)
        _check_whole('anomaly.opening', anomaly.opening, 1, 99)
        _check_number('anomaly.min_region', anomaly.min_region, 0.0, 1.0)
        _check_whole('anomaly.max_regions', anomaly.max_regions, 1, 1000)
        _check_number('anomaly.min_age_s', anomaly.min_age_s, 0.0, 60.0)
        if self.confidence_in not in {'image', 'region'}:
            msg = f'confidence_in: {self.confidence_in!r}, expected image or region'
            raise MonitorError(msg)
        _check_number('latency_window_s', self.latency_window_s, 1e-3, 3600.0)
        _check_number('jump_s', self.jump_s, 1e-3, 86400.0)

    @property
    def overridden(self) -> tuple[str, ...]:
        """What differs from the thresholds of the bundle, or else from the defaults."""
        usual = MonitorConfig()
        return tuple(
            f'{name}.{key} {value:g}' if key != 'enabled' else f'{name} disabled'
            for name in WARNINGS
            for key in ('enter', 'exit', 'enabled')
            if (value := getattr(getattr(self, name), key)) != getattr(getattr(usual, name), key)
        )

    def with_values(self, values: Mapping[str, object]) -> MonitorConfig:
        """Return a copy with dotted names replaced, such as {'ood_area.enter': 0.02}."""
        changes: dict[str, object] = {}
        for name, value in values.items():
            head, _, tail = name.partition('.')
            group = changes.get(head, getattr(self, head, None))
            known = {item.name for item in fields(self)} if not tail else set()
            if tail and is_dataclass(group):
                known = {f'{head}.{item.name}' for item in fields(group)}
            if name not in known or (not tail and is_dataclass(group)):
                msg = f'{name}: {value!r}, no such parameter'
                raise MonitorError(msg)
            changes[head] = replace(group, **{tail: value}) if tail else value
        return replace(self, **changes)


# In the order in which they are reported.
WARNINGS = ('ood_area', 'low_confidence', 'domain_shift', 'stale_input', 'latency')


def _check_warning(name: str, warning: WarningConfig) -> None:
    for key in ('enter', 'exit'):
        if getattr(warning, key) is not None:
            _check_number(f'{name}.{key}', getattr(warning, key), -1e9, 1e9)
    _check_number(f'{name}.hold_on_s', warning.hold_on_s, 0.0, 3600.0)
    _check_number(f'{name}.hold_off_s', warning.hold_off_s, 0.0, 3600.0)
    if warning.level not in LEVELS:
        msg = f'{name}.level: {warning.level!r}, expected {" or ".join(LEVELS)}'
        raise MonitorError(msg)


def _check_region(region: RegionConfig) -> None:
    if 0 < len(region.polygon) < 3:
        msg = f'region.polygon: {len(region.polygon)} points, expected none or at least 3'
        raise MonitorError(msg)
    for index, point in enumerate(region.polygon):
        if len(point) != 2:
            msg = f'region.polygon[{index}]: {point!r}, expected x and y'
            raise MonitorError(msg)
        for number in point:
            _check_number(f'region.polygon[{index}]', number, 0.0, 1.0)
    _check_whole('region.working_width', region.working_width, 16, 4096)
    _check_number('region.min_area', region.min_area, 0.0, 1.0)


def _check_number(name: str, value: object, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value):
        msg = f'{name}: {value!r}, expected a finite number'
        raise MonitorError(msg)
    if not low <= value <= high:
        msg = f'{name}: {value}, expected from {low:g} to {high:g}'
        raise MonitorError(msg)


def _check_whole(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        msg = f'{name}: {value!r}, expected a whole number'
        raise MonitorError(msg)
    _check_number(name, value, low, high)
