# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""From assessments to the events of the log; no clock of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from seg_uncertainty_ros.monitor.config import WARNINGS
from seg_uncertainty_ros.monitor.events import Event
from seg_uncertainty_ros.monitor.events import FrameId
from seg_uncertainty_ros.monitor.events import Judgement
from seg_uncertainty_ros.monitor.events import Reaction

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping

    from seg_uncertainty_ros.monitor.assessment import Assessment
    from seg_uncertainty_ros.monitor.assessment import Transition
    from seg_uncertainty_ros.monitor.events import Model
    from seg_uncertainty_ros.monitor.monitor import Monitor

RANKS = {'OK': 0, 'WARN': 1, 'ERROR': 2, 'STALE': 3}
# More objects than a person would look at say nothing more about a decision.
MAX_OBJECTS = 8
QUIET_NS = 10_000_000_000


class Narrator:
    """Tells what happened from one assessment of a monitor to the next."""

    def __init__(self, monitor: Monitor, model: Model) -> None:
        self._monitor = monitor
        self._model = model
        self._state: str | None = None
        self._active: dict[str, Judgement] = {}

    def started(self, parameters: Mapping[str, object], reference: str) -> Event:
        """Return the event of a monitor that begins to judge.

        parameters: all of them; reference: what the reference of usual drives rests on.
        """
        return Event(
            'started',
            f'judging with {self._model.bundle}',
            model=self._model,
            details={
                'parameters': dict(parameters),
                'reference': reference,
                'thresholds': self._thresholds(),
            },
        )

    def reconfigured(self, changes: Mapping[str, object]) -> Event:
        """Return the event of parameters that were changed while running."""
        text = ', '.join(f'{name} = {value!r}' for name, value in changes.items())
        return Event(
            'thresholds',
            f'changed by parameters: {text}',
            model=self._model,
            details={'changed': dict(changes), 'thresholds': self._thresholds()},
        )

    def tell(
        self,
        assessment: Assessment,
        frame_id: str | None = None,
        published: Callable[[], Mapping[str, int]] = dict,
    ) -> list[Event]:
        """Return the events of an assessment; none, most of the time.

        frame_id: of the image judged, None after a tick. published: topics that told of it and
        how many listened; asked only where there is an event.
        """
        was, self._state = self._state, assessment.state
        for warning in assessment.warnings:
            if (judgement := self._active.get(warning.name)) is not None:
                value = self._monitor.judged(warning.name)
                self._active[warning.name] = replace(
                    judgement,
                    level=warning.level,
                    worst=_worst(warning.name, judgement.worst, value),
                )
        escalated = was in ('WARN', 'ERROR') and RANKS[assessment.state] > RANKS[was]
        if not assessment.transitions and not escalated:
            return []
        found = [
            Event(
                'begin' if transition.raised else 'end',
                transition.message,
                warning=self._begin(transition.name, assessment)
                if transition.raised
                else self._end(transition),
            )
            for transition in assessment.transitions
        ]
        if escalated:
            found.append(Event('escalated', f'{was} became {assessment.state}'))
        context = {
            'model': self._model,
            'frame': FrameId(assessment.stamp_ns, frame_id),
            'measured': {
                'ood_area': assessment.ood_area,
                'mean_confidence': assessment.mean_confidence,
                'domain_shift': assessment.domain_shift,
                'shift_evidence': assessment.shift_evidence,
                'latency_s': assessment.latency_s,
            },
            'objects': assessment.regions[:MAX_OBJECTS],
            'reaction': Reaction(was, assessment.state, published()),
            'details': {
                'notes': assessment.notes,
                'moved': assessment.moved,
                'nearest_domain': assessment.nearest_domain,
                'overridden': assessment.overridden,
            },
        }
        return [replace(event, **context) for event in found]

    def _begin(self, name: str, assessment: Assessment) -> Judgement:
        judgement = self._judge(name)
        judgement = replace(judgement, worst=judgement.value)
        # What was raised may be cleared again within one assessment.
        for warning in assessment.warnings:
            if warning.name == name:
                judgement = replace(
                    judgement, began_ns=warning.since_ns, place=warning.where, box=warning.box
                )
        self._active[name] = judgement
        return judgement

    def _end(self, transition: Transition) -> Judgement:
        now = self._judge(transition.name)
        begun = self._active.pop(transition.name, now)
        began_ns = begun.began_ns
        return replace(
            begun,
            value=now.value,
            threshold=now.threshold,
            clears_at=now.clears_at,
            reason=now.reason,
            duration_s=None if began_ns is None else (transition.stamp_ns - began_ns) / 1e9,
        )

    def _judge(self, name: str) -> Judgement:
        threshold = self._monitor.threshold(name)
        return Judgement(
            name=name,
            level=getattr(self._monitor.config, name).level,
            value=self._monitor.judged(name),
            threshold=threshold.enter,
            clears_at=threshold.exit,
            reason=threshold.reason,
        )

    def _thresholds(self) -> dict[str, object]:
        found = {}
        for name in WARNINGS:
            config, threshold = getattr(self._monitor.config, name), self._monitor.threshold(name)
            found[name] = {
                'enabled': config.enabled,
                'level': config.level,
                'threshold': threshold.enter,
                'clears_at': threshold.exit,
                'reason': threshold.reason,
            }
        return found


class Repeats:
    """Tells of what may happen with every image: at once, then all ten seconds with its count."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[int, int]] = {}

    def update(self, kind: str, total: int, message: str, steady_ns: int) -> list[Event]:
        """Return an event if there is something new; ``total`` counts since the start."""
        told, told_ns = self._told.get(kind, (0, -QUIET_NS))
        count = total - told
        if not count or steady_ns - told_ns < QUIET_NS:
            return []
        self._told[kind] = (total, steady_ns)
        text = message if count == 1 else f'{message} ({count} times)'
        return [Event(kind, text, details={'count': count})]


def _worst(name: str, before: float | None, value: float | None) -> float | None:
    if value is None or before is None:
        return before if value is None else value
    return min(before, value) if name == 'low_confidence' else max(before, value)
