# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The monitor: from planes and embedding to an assessment with reasons."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from math import ceil
from math import inf
from math import isfinite
from typing import TYPE_CHECKING

import cv2
import numpy as np

from seg_uncertainty_ros.bundle import Threshold
from seg_uncertainty_ros.monitor.assessment import Assessment
from seg_uncertainty_ros.monitor.assessment import Transition
from seg_uncertainty_ros.monitor.assessment import Warning_
from seg_uncertainty_ros.monitor.config import WARNINGS
from seg_uncertainty_ros.monitor.config import MonitorConfig
from seg_uncertainty_ros.monitor.config import MonitorError
from seg_uncertainty_ros.monitor.domain_shift import WARM_UP
from seg_uncertainty_ros.monitor.domain_shift import DomainShift
from seg_uncertainty_ros.monitor.domain_shift import ShiftJudge
from seg_uncertainty_ros.monitor.hysteresis import Hysteresis
from seg_uncertainty_ros.monitor.hysteresis import Limits
from seg_uncertainty_ros.monitor.hysteresis import jumped_back
from seg_uncertainty_ros.monitor.hysteresis import jumped_on
from seg_uncertainty_ros.monitor.messages import describe
from seg_uncertainty_ros.monitor.ood_area import OodArea
from seg_uncertainty_ros.monitor.ood_area import Scene
from seg_uncertainty_ros.monitor.ood_area import measure
from seg_uncertainty_ros.monitor.region_of_interest import RegionOfInterest
from seg_uncertainty_ros.monitor.region_of_interest import sample
from seg_uncertainty_ros.segments import components
from seg_uncertainty_ros.segments import features
from seg_uncertainty_ros.segments.tracks import Tracker

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from seg_uncertainty_ros.bundle import Bundle
    from seg_uncertainty_ros.bundle import ClassInfo
    from seg_uncertainty_ros.monitor.assessment import Observation
    from seg_uncertainty_ros.monitor.ood_area import Box
    from seg_uncertainty_ros.monitor.ood_area import Region
    from seg_uncertainty_ros.segments.components import Components
    from seg_uncertainty_ros.segments.meta import MetaModel
    from seg_uncertainty_ros.segments.meta import Verdicts
    from seg_uncertainty_ros.shift.reference import ShiftReference

MAX_LATENCIES = 512
NOTHING = OodArea(0.0, ())
_USUAL = MonitorConfig()


class Monitor:
    """Judges observations in the order of their stamps.

    It has no clock: ``tick`` brings the time, on the clock on which stamp + latency of an
    observation is the time of its arrival. Unknown objects (``ood_area``) and an unfamiliar
    domain (``domain_shift``) are two warnings: their causes and reactions differ.
    """

    def __init__(
        self,
        config: MonitorConfig,
        classes: Sequence[ClassInfo],
        thresholds: Mapping[str, Threshold],
        reference: ShiftReference | None,
        meta: MetaModel | None = None,
        *,
        label: str | None = None,
    ) -> None:
        self._classes = tuple(classes)
        self._meta = meta
        self._columns = features.columns(meta, self._classes) if meta else None
        self._tracker = Tracker()
        self._thresholds = thresholds
        self._reference = reference
        self._pending: list[Transition] = []
        self._hysteresis = {name: Hysteresis(self._limits(config, name)) for name in WARNINGS}
        self._label = label
        self._ignored = 0
        self._shift_judge = ShiftJudge(reference) if reference else None
        self.config = config
        self._forget()
        self.configure(config)

    @classmethod
    def of(cls, bundle: Bundle, config: MonitorConfig) -> Monitor:
        """Return the monitor of a bundle, whose assessments name it."""
        return cls(
            config,
            bundle.classes,
            bundle.thresholds,
            bundle.reference,
            bundle.segments,
            label=bundle.label,
        )

    def configure(self, config: MonitorConfig) -> None:
        """Take other parameters while running; warnings keep their state. Refused as a whole."""
        limits = {name: self._limits(config, name) for name in WARNINGS}
        self._region = RegionOfInterest(config.region, self._classes)
        self.config = config
        for name in WARNINGS:
            self._hysteresis[name].limits = limits[name]
            if not getattr(config, name).enabled:
                self._clear(name, 'disabled')

    def threshold(self, name: str) -> Threshold:
        """Return the threshold that a warning goes by, with where it comes from."""
        limits = self._hysteresis[name].limits
        given = [
            f'parameter {name}.{edge}'
            for edge in ('enter', 'exit')
            if getattr(getattr(self.config, name), edge) != getattr(getattr(_USUAL, name), edge)
        ]
        if name == 'domain_shift' and self._tests_sequentially(self.config):
            reasons = [f'evidence of the sequential test: {self._reference.test.describe()}']
        elif name in self._thresholds and len(given) < 2:
            reasons = [*given, f'bundle: {self._thresholds[name].reason}']
        else:
            reasons = given or ['default of the monitor']
        return Threshold(limits.enter, limits.exit, '; '.join(reasons))

    def judged(self, name: str) -> float | None:
        """Return what was compared with ``threshold`` last: an indicator or the evidence."""
        if name == 'domain_shift' and self._tests_sequentially(self.config):
            return self._shift.evidence
        return self._values[name]

    def reset(self) -> None:
        """Clear every warning, the latched ones too, and the windows."""
        for name in WARNINGS:
            self._clear(name, 'reset')
        self._forget_shift()
        self._latencies.clear()

    def jump(self) -> None:
        """Start anew, as the clock jumped."""
        for name in WARNINGS:
            self._clear(name, 'time jumped')
        self._forget()

    def update(self, observation: Observation) -> Assessment:
        """Judge an observation; raise MonitorError and change nothing if it is malformed."""
        self._check(observation)
        stamp_ns = observation.stamp_ns
        if jumped_back(self._stamp_ns, stamp_ns):
            self.jump()
        elif jumped_on(self._stamp_ns, stamp_ns, self.config.jump_s):
            self._forget_shift()
            self._tracker.reset()
            self._latencies.clear()
        self._stamp_ns = stamp_ns = max(stamp_ns, self._stamp_ns or stamp_ns)
        self._notes = []
        self._measure_planes(observation, stamp_ns)
        self._measure_shift(observation, stamp_ns)
        self._measure_latency(observation, stamp_ns)
        for name in ('ood_area', 'low_confidence', 'domain_shift', 'latency'):
            self._judge(name, stamp_ns)
        self._arrive(observation)
        return self._assess(stamp_ns)

    def tick(self, now_ns: int) -> Assessment:
        """Judge the silence of the input at a time (ns)."""
        if jumped_back(self._now_ns, now_ns):
            self.jump()
        self._now_ns = now_ns = max(now_ns, self._now_ns or now_ns)
        if self._arrival_ns is None:
            self._arrival_ns = now_ns
        self._values['stale_input'] = max(0, now_ns - self._arrival_ns) / 1e9
        self._judge('stale_input', now_ns)
        return self._assess(now_ns)

    def _forget_shift(self) -> None:
        self._shift = DomainShift()
        if self._shift_judge is not None:
            self._shift_judge.reset()

    def _forget(self) -> None:
        self._forget_shift()
        self._tracker.reset()
        self._latencies: deque[tuple[int, float]] = deque(maxlen=MAX_LATENCIES)
        self._values: dict[str, float | None] = dict.fromkeys(WARNINGS)
        self._area = NOTHING
        self._notes: list[str] = []
        self._stamp_ns: int | None = None
        self._now_ns: int | None = None
        # Time of the last arrival, or of the first tick while nothing arrived.
        self._arrival_ns: int | None = None

    def _limits(self, config: MonitorConfig, name: str) -> Limits:
        warning = getattr(config, name)
        enter, leave = warning.enter, warning.exit
        if name == 'domain_shift' and self._tests_sequentially(config):
            # What the test's rate of false alarms is stated for.
            enter, leave = 1.0, 0.0
        if (enter is None or leave is None) and warning.enabled:
            if (threshold := self._thresholds.get(name)) is None:
                msg = f'{name}: no threshold in the bundle, expected {name}.enter and {name}.exit'
                raise MonitorError(msg)
            enter = threshold.enter if enter is None else enter
            leave = threshold.exit if leave is None else leave
        below = name == 'low_confidence'
        if enter is None or leave is None:
            # Disabled and without a threshold: any valid pair does.
            enter, leave = (0.0, 1.0) if below else (1.0, 0.0)
        try:
            return Limits(
                enter=enter,
                exit=leave,
                hold_on_s=warning.hold_on_s,
                hold_off_s=warning.hold_off_s,
                latch=warning.latch,
                below=below,
                jump_s=inf if name == 'stale_input' else config.jump_s,
            )
        except MonitorError as err:
            msg = f'{name}.{err}'
            raise MonitorError(msg) from None

    def _tests_sequentially(self, config: MonitorConfig) -> bool:
        """Tell whether the sequential test warns of a shift: not where thresholds are given."""
        given = config.domain_shift.enter is not None or config.domain_shift.exit is not None
        return self._reference is not None and self._reference.test is not None and not given

    def _check(self, observation: Observation) -> None:
        shape = np.shape(observation.mask)
        for name in ('mask', 'confidence', 'anomaly'):
            plane = getattr(observation, name)
            if not isinstance(plane, np.ndarray) or plane.dtype != np.uint8:
                msg = f'{name}: {getattr(plane, "dtype", type(plane).__name__)}, expected uint8'
                raise MonitorError(msg)
            if plane.ndim != 2 or not plane.size:
                msg = f'{name}: shape {plane.shape}, expected (height, width)'
                raise MonitorError(msg)
            if plane.shape != shape:
                msg = f'{name}: shape {plane.shape}, expected {shape} as the mask'
                raise MonitorError(msg)
        self._check_dispersion(observation)
        size = None if self._reference is None else (self._reference.size,)
        if size and observation.embedding is not None and observation.embedding.shape != size:
            msg = f'embedding: shape {observation.embedding.shape}, expected {size}'
            raise MonitorError(msg)

    def _check_dispersion(self, observation: Observation) -> None:
        dispersion = observation.dispersion
        if dispersion is None or self._meta is None:
            return
        if not isinstance(dispersion, np.ndarray) or dispersion.dtype != np.float32:
            kind = getattr(dispersion, 'dtype', type(dispersion).__name__)
            msg = f'dispersion: {kind}, expected float32'
            raise MonitorError(msg)
        planes = len(self._meta.scores)
        if dispersion.ndim != 3 or dispersion.shape[2] != planes or not dispersion.size:
            msg = f'dispersion: shape {dispersion.shape}, expected (height, width, {planes})'
            raise MonitorError(msg)

    def _measure_planes(self, observation: Observation, stamp_ns: int) -> None:
        dispersion = self._usable_dispersion(observation)
        size = observation.mask.shape
        working = self._region.working_size(*size)
        if dispersion is not None:
            working = dispersion.shape[:2]
        mask = sample(observation.mask, working)
        region = self._region.find(mask)
        if region is None:
            self._area = NOTHING
            self._tracker.update(np.empty((0, 4)), stamp_ns)
            seen = self._region.classes
            self._notes.append(f'no {seen[0]} visible' if seen else 'no region of interest')
        else:
            scene = Scene(sample(observation.anomaly, working), mask, region, size)
            self._area = self._find_objects(scene, dispersion, stamp_ns)
        # Without a region there is no evidence: an object that hides the road clears no warning.
        self._values['ood_area'] = None if region is None else self._area.fraction
        if self.config.confidence_in == 'image':
            mean = cv2.mean(observation.confidence)[0]
        elif region is not None:
            mean = cv2.mean(sample(observation.confidence, working), region)[0]
        else:
            mean = None
        self._values['low_confidence'] = None if mean is None else mean / 255

    def _usable_dispersion(self, observation: Observation) -> NDArray[np.float32] | None:
        if self._meta is None:
            return None
        dispersion = observation.dispersion
        if dispersion is None:
            self._notes.append('objects have no probability: no dispersion')
        elif not np.isfinite(dispersion).all():
            self._notes.append('objects have no probability: the dispersion is not finite')
            return None
        return dispersion

    def _find_objects(
        self, scene: Scene, dispersion: NDArray[np.float32] | None, stamp_ns: int
    ) -> OodArea:
        config = self.config.anomaly
        found = components.find(scene.anomaly, threshold=config.threshold, opening=config.opening)
        return measure(
            scene,
            found,
            None if dispersion is None else self._verdicts(scene, found, dispersion),
            self._tracker,
            stamp_ns,
            classes=self._classes,
            config=config,
            threshold=self._meta.threshold if self._meta else 0.0,
        )

    def _verdicts(
        self, scene: Scene, found: Components, dispersion: NDArray[np.float32]
    ) -> Verdicts:
        table = features.measure(found, scene.anomaly, dispersion, scene.mask, len(self._classes))
        return self._meta.predict(table[:, self._columns])

    def _measure_shift(self, observation: Observation, stamp_ns: int) -> None:
        self._shift = DomainShift()
        if self._shift_judge is None:
            self._notes.append('domain shift is not judged: no reference')
        else:
            embedding = observation.embedding
            if embedding is not None and not np.isfinite(embedding).all():
                self._ignored += 1
                self._notes.append(f'embedding is not finite, {self._ignored} ignored so far')
                embedding = None
            self._shift = self._shift_judge.update(
                replace(observation, stamp_ns=stamp_ns, embedding=embedding)
            )
            if self._shift.value is None:
                self._notes.append(WARM_UP)
        self._values['domain_shift'] = self._shift.value

    def _measure_latency(self, observation: Observation, stamp_ns: int) -> None:
        if observation.latency_s is not None and isfinite(observation.latency_s):
            self._latencies.append((stamp_ns, observation.latency_s))
        oldest_ns = stamp_ns - round(self.config.latency_window_s * 1e9)
        while self._latencies and self._latencies[0][0] <= oldest_ns:
            self._latencies.popleft()
        ordered = sorted(latency for _, latency in self._latencies)
        self._values['latency'] = ordered[ceil(0.95 * len(ordered)) - 1] if ordered else None

    def _arrive(self, observation: Observation) -> None:
        latency_s = observation.latency_s
        if latency_s is not None and isfinite(latency_s):
            arrival_ns = observation.stamp_ns + round(latency_s * 1e9)
            self._now_ns = arrival_ns = max(arrival_ns, self._now_ns or arrival_ns)
        else:
            arrival_ns = observation.stamp_ns if self._now_ns is None else self._now_ns
        self._arrival_ns = arrival_ns
        self._values['stale_input'] = 0.0
        self._judge('stale_input', arrival_ns)

    def _judge(self, name: str, stamp_ns: int) -> None:
        if not getattr(self.config, name).enabled:
            return
        hysteresis = self._hysteresis[name]
        since_ns = hysteresis.since_ns
        active = hysteresis.update(self.judged(name), stamp_ns)
        if active and since_ns is None:
            self._note_transition(name, stamp_ns, self._text(name), raised=True)
        elif not active and since_ns is not None:
            text = f'{name} cleared after {(stamp_ns - since_ns) / 1e9:.1f} s'
            self._note_transition(name, stamp_ns, text, raised=False)

    def _clear(self, name: str, reason: str) -> None:
        hysteresis = self._hysteresis[name]
        if hysteresis.active:
            stamp_ns = (self._now_ns if name == 'stale_input' else self._stamp_ns) or 0
            self._note_transition(name, stamp_ns, f'{name} cleared: {reason}', raised=False)
        hysteresis.reset()

    def _note_transition(self, name: str, stamp_ns: int, text: str, *, raised: bool) -> None:
        enter = self._hysteresis[name].limits.enter
        self._pending.append(Transition(name, raised, stamp_ns, self._values[name], enter, text))

    def _assess(self, stamp_ns: int) -> Assessment:
        warnings = tuple(self._warning(name) for name in WARNINGS if self._hysteresis[name].active)
        levels = {warning.level for warning in warnings}
        state = 'ERROR' if 'ERROR' in levels else 'WARN' if levels else 'OK'
        notes = list(self._notes)
        if self._stamp_ns is None:
            notes.append('no image yet')
        if self._stamp_ns is None or self._hysteresis['stale_input'].active:
            state = 'STALE'
        transitions, self._pending = tuple(self._pending), []
        return Assessment(
            stamp_ns=stamp_ns,
            state=state,
            ood_area=self._values['ood_area'],
            mean_confidence=self._values['low_confidence'],
            domain_shift=self._values['domain_shift'],
            nearest_domain=self._shift.domain,
            latency_s=self._values['latency'],
            warnings=warnings,
            regions=self._area.regions,
            dismissed=self._area.dismissed,
            transitions=transitions,
            notes=tuple(notes),
            shift_evidence=self._shift.evidence,
            moved=self._shift.moved,
            indicators=self._shift.indicators,
            bundle=self._label,
            overridden=self.config.overridden,
        )

    def _warning(self, name: str) -> Warning_:
        where, box = self._where(name)
        return Warning_(
            name=name,
            level=getattr(self.config, name).level,
            since_ns=self._hysteresis[name].since_ns or 0,
            value=self._values[name],
            threshold=self._hysteresis[name].limits.enter,
            where=where,
            box=box,
            message=self._text(name),
        )

    def _where(self, name: str) -> tuple[str, Box | None]:
        if name == 'ood_area' and self._area.regions:
            largest = self._area.regions[0]
            return largest.place, largest.box
        if name in {'ood_area', 'low_confidence'}:
            inside = name == 'ood_area' or self.config.confidence_in == 'region'
            return self._region.name if inside else 'image', None
        return '', None

    def _text(self, name: str) -> str:
        where, box = self._where(name)
        details: tuple[str, ...] = ()
        if name == 'ood_area':
            details = (where, str(box), *_about(self._area.regions[0])) if box else ()
            where = self._region.name
        moved: tuple[str, ...] = ()
        if name == 'domain_shift':
            details, moved = _about_shift(self._shift), self._shift.moved
        value = self._values[name]
        hysteresis = self._hysteresis[name]
        return describe(name, value, hysteresis, where=where, details=details, moved=moved)


def _about(region: Region) -> tuple[str, ...]:
    """Say what an object is taken for, since when it is in view, and how sure that is."""
    sure = (
        () if region.probability is None else (f'an object with {100 * region.probability:.0f} %',)
    )
    return (f'taken for {region.predicted}', f'in view for {region.age_s:.1f} s', *sure)


def _about_shift(shift: DomainShift) -> tuple[str, ...]:
    """Say what the warning rests on, and the domain that is the least strange."""
    evidence = shift.evidence
    return (
        *(() if evidence is None else (f'evidence {evidence:.1f}x its threshold',)),
        *(() if shift.domain is None else (f'nearest domain {shift.domain}',)),
    )
