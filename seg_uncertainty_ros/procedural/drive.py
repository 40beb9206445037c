# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A procedural drive: frames with labels, unknown objects and depth, by seed and index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from seg_uncertainty_ros.errors import SegUncertaintyError
from seg_uncertainty_ros.procedural.effects import EFFECTS
from seg_uncertainty_ros.procedural.effects import apply_effect
from seg_uncertainty_ros.procedural.painter import Camera
from seg_uncertainty_ros.procedural.painter import Canvas
from seg_uncertainty_ros.procedural.unknowns import KINDS
from seg_uncertainty_ros.procedural.unknowns import Unknown
from seg_uncertainty_ros.procedural.world import Item
from seg_uncertainty_ros.procedural.world import World
from seg_uncertainty_ros.structured_text import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

EPOCH_NS = 1_700_000_000 * 10**9
MAX_PIXELS = 2**23
"""Of a frame, 4K: the noise of one takes 24 bytes a pixel while it is drawn."""
MAX_EVENT_S = 7200.0
"""Drives last an hour; an object that lies on the road further away is nowhere in sight."""
_CLEARANCE = 1.5  # metres between the camera and an object that it passes


class DriveError(SegUncertaintyError):
    """A drive cannot be made from what was asked."""


@dataclass(frozen=True)
class Rendered:
    """One frame with its truth.

    ``image`` uint8 HxWx3 BGR; ``labels`` uint8 HxW, class ids or 255; ``unknown`` bool HxW, true
    on objects that are no class (there labels are 255); ``depth`` float32 HxW, metres along the
    optical axis, inf in the sky.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    unknown: NDArray[np.bool_]
    depth: NDArray[np.float32]


@dataclass(frozen=True)
class UnknownEvent:
    """An unknown object of ``kind`` (see ``unknowns.KINDS``) lies on the road ahead.

    It is there from ``start_s`` on and leaves the picture by ``end_s`` (s), as ego passes it;
    the time between, at ego's speed of 8 to 12 m/s, is how far away it is first seen. ``lane`` is
    its place in lane widths from the middle of ego's lane, positive towards the kerb. Ego swerves
    where it lies in its way.
    """

    start_s: float
    end_s: float
    kind: str = 'cargo_box'
    lane: float = 0.0


@dataclass(frozen=True)
class EffectEvent:
    """An effect of :data:`effects.EFFECTS`, ramping up within ``ramp_s`` after ``start_s``."""

    start_s: float
    end_s: float
    effect: str
    strength: float
    ramp_s: float = 1.0


class Drive:
    """A seeded drive down a street; random access, the same bytes for the same index."""

    def __init__(
        self,
        seed: int = 0,
        width: int = 640,
        height: int = 360,
        rate_hz: float = 10.0,
        duration_s: float = 20.0,
        events: tuple[UnknownEvent | EffectEvent, ...] = (),
    ) -> None:
        """Draw the street; takes about half a second."""
        check_drive(seed, width, height, rate_hz, duration_s, events)
        self.seed = seed
        self.width = width
        self.height = height
        self.rate_hz = rate_hz
        self.duration_s = duration_s
        self.events = events
        rng = np.random.default_rng([seed, 0])
        self.speed = float(rng.uniform(8, 12))
        self._start = float(rng.uniform(0, 96))
        self._phase = float(rng.uniform(0, 2 * np.pi))
        swerves = tuple(event.end_s for event in events if isinstance(event, UnknownEvent))
        self.world = World(seed, duration_s, self.speed, self._start, swerves)
        style = self.world.style
        self._unknowns = tuple(
            (event, Unknown(np.random.default_rng([seed, 4, number]), event.kind, style))
            for number, event in enumerate(events)
            if isinstance(event, UnknownEvent)
        )
        self._grain = np.random.default_rng([seed, 5]).normal(
            0, style.noise, (height + 64, width + 64, 3)
        )
        self._grain = self._grain.astype(np.int16)
        ramp = np.clip(np.arange(256) * style.gain / 255, 0, 1) ** style.gamma
        self._tone = np.clip(ramp * 255 + 0.5, 0, 255).astype(np.uint8)

    def __len__(self) -> int:
        """Return the number of frames."""
        return max(1, round(self.duration_s * self.rate_hz))

    def __iter__(self) -> Iterator[Rendered]:
        """Render every frame in order."""
        return (self.render(index) for index in range(len(self)))

    def stamp_ns(self, index: int) -> int:
        """Return the stamp of frame ``index`` in ns since the epoch."""
        return EPOCH_NS + round(index * 1e9 / self.rate_hz)

    @property
    def _lane(self) -> tuple[float, float]:
        style = self.world.style
        usable = style.half_road - (2.1 if style.parking else 0)
        return style.side * usable / 2, usable

    def _unknown_place(self, event: UnknownEvent, thing: Unknown) -> tuple[float, float]:
        """Return (d, s) of its near side: at ``end_s`` its far side has just left the picture."""
        lane, usable = self._lane
        d = lane + self.world.style.side * event.lane * usable / 2
        return d, self._start + self.speed * event.end_s + 1.2 - thing.size[2]

    def camera(self, time: float) -> Camera:
        """Return the camera at ``time`` seconds."""
        style = self.world.style
        along = self._start + self.speed * time
        offset = self._lane[0] + 0.12 * np.sin(0.5 * time + self._phase)
        for event, thing in self._unknowns:
            d, _ = self._unknown_place(event, thing)
            clear = thing.size[0] / 2 + _CLEARANCE - abs(d - self._lane[0])
            if clear > 0:
                away = np.exp(-(((time - event.end_s) / 1.4) ** 2))
                offset -= style.side * clear * away
        wave = 2 * np.pi * along / 400 + self._phase
        bounce = 0.0016 * np.sin(5.1 * time + self._phase) + 0.001 * np.sin(11.3 * time)
        return Camera(
            width=self.width,
            height=self.height,
            focal=style.focal * self.width,
            centre=style.centre * self.width,
            horizon=(style.horizon + bounce) * self.height,
            eye=style.eye,
            offset=float(offset),
            along=along,
            curvature=style.curvature * float(np.sin(wave)),
            yaw=-style.curvature * 400 / (2 * np.pi) * float(np.cos(wave)),
        )

    def render(self, index: int) -> Rendered:
        """Return frame ``index``; raises DriveError outside 0 to len - 1."""
        if not 0 <= index < len(self):
            msg = f'frame {index} of a procedural drive of {len(self)} frames'
            raise DriveError(msg)
        time = index / self.rate_hz
        camera = self.camera(time)
        canvas = Canvas(camera)
        self.world.paint(canvas, time, self._objects(time))
        image = self._develop(canvas, index)
        for event in self.events:
            if isinstance(event, EffectEvent) and event.start_s <= time < event.end_s:
                ramp = min(1.0, (time - event.start_s) / event.ramp_s) if event.ramp_s else 1.0
                seed = self.seed * 1_000_003 + index
                strength = event.strength * ramp
                image = apply_effect(image, event.effect, strength, seed=seed, depth=canvas.depth)
        return Rendered(image, canvas.labels, canvas.unknown > 0, canvas.depth)

    def _objects(self, time: float) -> tuple[Item, ...]:
        def item(thing: Unknown, place: tuple[float, float]) -> Item:
            return Item(*place, lambda canvas, _: thing.paint(canvas, place, self.world.blot))

        return tuple(
            item(thing, self._unknown_place(event, thing))
            for event, thing in self._unknowns
            if event.start_s <= time < event.end_s
        )

    def _develop(self, canvas: Canvas, index: int) -> NDArray[np.uint8]:
        """Add haze, the lens' softness, exposure and noise."""
        style = self.world.style
        clear = cv2.exp(np.minimum(canvas.depth, 1500) / -style.visibility)
        clear[np.isinf(canvas.depth)] = 1
        veil = np.empty_like(canvas.image)
        veil[:] = np.clip(style.haze, 0, 255)
        image = cv2.blendLinear(canvas.image, veil, clear, 1 - clear)
        image = cv2.GaussianBlur(image, (3, 3), style.softness)
        image = cv2.LUT(image, self._tone)
        rng = np.random.default_rng([self.seed, 6, index])
        y, x = rng.integers(0, 64, 2)
        grain = self._grain[y : y + self.height, x : x + self.width]
        return cv2.add(image, grain, dtype=cv2.CV_8U)


def check_drive(
    seed: int = 0,
    width: int = 640,
    height: int = 360,
    rate_hz: float = 10.0,
    duration_s: float = 20.0,
    events: tuple[UnknownEvent | EffectEvent, ...] = (),
) -> None:
    """Raise DriveError unless there is such a drive."""
    bounds = (
        ('seed', seed, 0, 2**31 - 1),
        ('width', width, 32, 8192),
        ('height', height, 32, 8192),
        ('rate', rate_hz, 0.1, 1000),
        ('duration', duration_s, 0, 3600),
    )
    for name, value, low, high in bounds:
        if not low <= value <= high:
            msg = f'procedural drive: {name} = {value} is outside {low} to {high}'
            raise DriveError(msg)
    if width * height > MAX_PIXELS:
        msg = f'procedural drive: {width} x {height} pixels, more than the {MAX_PIXELS} accepted'
        raise DriveError(msg)
    for event in events:
        _check_event(event)


def _check_event(event: UnknownEvent | EffectEvent) -> None:
    what = None
    if not -MAX_EVENT_S <= event.start_s < event.end_s <= MAX_EVENT_S:
        what = (
            f'an event ends at {event.end_s} s but starts at {event.start_s} s, '
            f'both within {MAX_EVENT_S:g} s'
        )
    elif isinstance(event, UnknownEvent):
        if event.kind not in KINDS:
            what = f'unknown = {shown(repr(event.kind))} is none of {", ".join(KINDS)}'
    elif event.effect not in EFFECTS:
        what = f'effect = {shown(repr(event.effect))} is none of {", ".join(EFFECTS)}'
    elif not 0 <= event.strength <= 1:
        what = f'strength = {event.strength} of effect {event.effect} is outside 0 to 1'
    if what:
        msg = f'procedural drive: {what}'
        raise DriveError(msg)
