# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""One drive's street: its textures, its lots and what moves on it."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

from seg_uncertainty_ros.procedural import sprites
from seg_uncertainty_ros.procedural import textures
from seg_uncertainty_ros.procedural.classes import BICYCLIST
from seg_uncertainty_ros.procedural.classes import BUILDING
from seg_uncertainty_ros.procedural.classes import CAR
from seg_uncertainty_ros.procedural.classes import FENCE
from seg_uncertainty_ros.procedural.classes import PEDESTRIAN
from seg_uncertainty_ros.procedural.classes import POLE
from seg_uncertainty_ros.procedural.classes import SIGN
from seg_uncertainty_ros.procedural.classes import TREE
from seg_uncertainty_ros.procedural.painter import NEAR
from seg_uncertainty_ros.procedural.style import CHUNK
from seg_uncertainty_ros.procedural.style import TILE_CHUNKS
from seg_uncertainty_ros.procedural.style import draw_style
from seg_uncertainty_ros.procedural.textures import Ripmap
from seg_uncertainty_ros.procedural.textures import to_image
from seg_uncertainty_ros.procedural.vehicles import paint_vehicle
from seg_uncertainty_ros.procedural.vehicles import vehicle

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from seg_uncertainty_ros.procedural.painter import Canvas
    from seg_uncertainty_ros.procedural.vehicles import Vehicle

SIGHT = 200.0  # metres: the street is drawn that far, smaller things less far
SIGHT_TREES = 160.0
SIGHT_SMALL = 120.0


@dataclass(frozen=True)
class Item:
    """Something beside or on the road: where it is sorted, and how it is painted at a time."""

    d: float
    s: float
    paint: Callable[[Canvas, float], None]
    sight: float = SIGHT


@dataclass(frozen=True)
class Mover:
    """Something that moves: ``s0`` at time 0, ``speed`` along the road and ``drift`` across."""

    d0: float
    s0: float
    speed: float
    drift: float
    paint: Callable[[Canvas, float, tuple[float, float]], None]

    def place(self, time: float) -> tuple[float, float]:
        """Return (d, s) at ``time`` seconds."""
        return self.d0 + self.drift * time, self.s0 + self.speed * time


@dataclass(frozen=True)
class Building:
    """A front along the road over its lot, with a side facing back and perhaps a roof."""

    face: float
    height: float
    style: int
    pitched: bool
    depth: float


class World:
    """Textures and layout of a drive; ``paint`` draws what a camera sees at a time."""

    def __init__(
        self,
        seed: int,
        duration_s: float,
        speed: float,
        start: float,
        swerves: tuple[float, ...] = (),
    ) -> None:
        """Draw the street; ego starts at ``start`` (m) with ``speed`` (m/s), among traffic.

        At the times ``swerves`` (s) ego leaves its lane: nobody drives ahead of it, and nobody
        meets it then.
        """
        self.seed = seed
        rng = np.random.default_rng([seed, 1])
        self.style = style = draw_style(rng)
        self.ground = textures.ground(rng, style)
        self.sky = textures.sky(rng, style)
        self.skyline = textures.skyline(rng, style)
        self.fronts: list[tuple[Ripmap, Ripmap, float]] = []
        for _ in range(5):
            floors = int(rng.integers(style.floors[0], style.floors[1] + 1))
            shop = bool(rng.random() < style.shops)
            front = textures.facade(rng, style, CHUNK, floors, shop)
            left, right = (
                Ripmap(to_image(front * gain)) for gain in (style.wall_left, style.wall_right)
            )
            self.fronts.append((left, right, 3.6 + 3 * (floors - 1)))
        self.ends = [
            Ripmap(to_image(wall * style.wall_end))
            for wall in (
                textures.plain_wall(rng, style),
                textures.facade(rng, style, 8.0, 3, shop=False),
                textures.facade(rng, style, 8.0, 2, shop=False),
            )
        ]
        roof = textures.roof(rng, style)
        self.roofs = {
            side: Ripmap(to_image(roof * gain))
            for side, gain in (
                (-1, style.wall_left * 0.6 + 0.4),
                (1, style.wall_right * 0.6 + 0.4),
            )
        }
        hedge = textures.hedge(rng, style)
        self.hedges = {
            side: Ripmap(to_image(hedge * gain))
            for side, gain in ((-1, style.wall_left), (1, style.wall_right))
        }
        self.fences = [Ripmap(textures.fence(rng, style)) for _ in range(2)]
        self.trees = [sprites.tree(rng, style) for _ in range(4)]
        self.people = [sprites.person(rng, style) for _ in range(4)]
        self.riders = [sprites.cyclist(rng, style, side) for side in (False, False, True)]
        self.signs = [sprites.sign(rng, style) for _ in range(5)]
        self.light = sprites.traffic_light(rng, style)
        self.cars = [vehicle(rng, style) for _ in range(7)]
        blot = np.zeros((64, 64), np.uint8)
        blot[5:59, 5:59] = 255
        self.blot = cv2.GaussianBlur(blot, (0, 0), 3)
        self.movers = [
            replace(mover, s0=mover.s0 + start)
            for mover in self._traffic(rng, duration_s, speed)
            if not self._in_the_way(mover, speed, swerves)
        ]
        self.lot = lru_cache(maxsize=512)(self._lot)

    # What stands.

    def _junction(self, chunk: int, side: int) -> bool:
        style = self.style
        if style.junction is None or side not in style.junction_sides:
            return False
        return chunk % TILE_CHUNKS == round(style.junction[0] / CHUNK)

    def _building(self, chunk: int, side: int) -> Building | None:
        style = self.style
        if self._junction(chunk, side):
            return None
        rng = np.random.default_rng([self.seed, 2, chunk + 10**6, side + 1])
        if rng.random() >= style.built:
            return None
        edge = style.half_road + style.pavement
        setback = rng.uniform(0, 1) if rng.random() < style.shops else rng.uniform(0.5, 6)
        kind = int(rng.integers(len(self.fronts)))
        pitched = bool(rng.random() < style.pitched)
        return Building(
            edge + setback, self.fronts[kind][2] * rng.uniform(0.92, 1.1), kind, pitched, 8.0
        )

    def _lot(self, chunk: int, side: int) -> tuple[Item, ...]:
        style = self.style
        rng = np.random.default_rng([self.seed, 3, chunk + 10**6, side + 1])
        start = chunk * CHUNK
        edge = style.half_road + style.pavement
        items: list[Item] = []
        junction = self._junction(chunk, side)
        building = self._building(chunk, side)
        if building is not None:
            items.append(
                Item(
                    side * building.face,
                    start + CHUNK,
                    self._paint_building(building, chunk, side),
                )
            )
        if not junction:
            free = 13.0 if building is None else building.face
            count = rng.poisson(style.leafy * (2.6 if building is None else 0.7))
            for _ in range(count):
                out = edge + rng.uniform(0.5, max(0.6, min(free - edge, 8)))
                items.append(
                    self._sprite(rng, side * out, start + rng.uniform(0, CHUNK), self.trees, TREE)
                )
            if rng.random() < 0.35 * style.leafy:  # a tree in the pavement
                at = start + rng.uniform(0, CHUNK)
                items.append(
                    self._sprite(rng, side * (style.half_road + 0.6), at, self.trees, TREE)
                )
            if building is None or building.face - edge > 1:
                if rng.random() < style.fenced:
                    items.append(self._wall(rng, side, start, edge + 0.1, FENCE))
                elif rng.random() < style.leafy:
                    items.append(self._wall(rng, side, start, edge + 0.3, TREE))
            elif rng.random() < 0.08:  # a guard rail at the kerb
                items.append(self._wall(rng, side, start, style.half_road + 0.25, FENCE))
        items += self._furniture(rng, chunk, side, junction=junction)
        items += self._standing(rng, chunk, side, junction=junction)
        return tuple(items)

    def _sprite(
        self, rng: np.random.Generator, d: float, s: float, bank: list[sprites.Sprite], label: int
    ) -> Item:
        sprite = bank[rng.integers(len(bank))]
        mirror, scale = bool(rng.random() < 0.5), float(rng.uniform(0.8, 1.15))

        def paint(canvas: Canvas, _time: float) -> None:
            canvas.sprite(sprite, (d, 0.0, s), label, mirror=mirror, scale=scale)

        return Item(d, s, paint, SIGHT_TREES)

    def _wall(
        self, rng: np.random.Generator, side: int, start: float, out: float, label: int
    ) -> Item:
        height = float(rng.uniform(0.9, 1.7))
        texture = (
            self.hedges[side] if label == TREE else self.fences[rng.integers(len(self.fences))]
        )

        def paint(canvas: Canvas, _time: float) -> None:
            _along(canvas, texture, side * out, (start, start + CHUNK), (0, height), label)

        return Item(side * out, start + CHUNK, paint, SIGHT_SMALL)

    def _paint_building(
        self, building: Building, chunk: int, side: int
    ) -> Callable[[Canvas, float], None]:
        left, right, _ = self.fronts[building.style]
        front = left if side < 0 else right
        end = self.ends[(chunk + building.style) % len(self.ends)]
        start = chunk * CHUNK
        before = self._building(chunk - 1, side)
        shown = (
            before is None
            or before.face > building.face + 0.3
            or before.height < building.height - 0.3
        )
        face, height = side * building.face, building.height
        back = side * (building.face + building.depth)
        ridge = height + 2.6

        def paint(canvas: Canvas, _time: float) -> None:
            if building.pitched:
                roof = (face - side * 0.3, face + side * 4.0)
                _along(
                    canvas,
                    self.roofs[side],
                    roof,
                    (start, start + CHUNK),
                    (height - 0.1, ridge),
                    BUILDING,
                )
            if shown and start - canvas.camera.along > NEAR:
                wall = np.array(
                    [
                        [face, height, start],
                        [back, height, start],
                        [back, 0, start],
                        [face, 0, start],
                    ]
                )
                if building.pitched:
                    middle = (face + back) / 2
                    gable = np.array(
                        [
                            [middle, ridge, start],
                            [middle, ridge, start + 0.01],
                            [back, height, start],
                            [face, height, start],
                        ]
                    )
                    canvas.quad(end, gable, BUILDING)
                canvas.quad(end, wall, BUILDING)
            _along(canvas, front, face, (start, start + CHUNK), (0, height), BUILDING)

        return paint

    def _furniture(
        self, rng: np.random.Generator, chunk: int, side: int, *, junction: bool
    ) -> list[Item]:
        style = self.style
        items = []
        start = chunk * CHUNK
        kerb = style.half_road + 0.45
        if chunk % 3 == (0 if side > 0 else 1) and style.furniture > 0.5:
            s = start + 1.0
            items.append(Item(side * kerb, s, self._lamp(side * kerb, s, side), SIGHT_SMALL))
        if rng.random() < 0.55 * style.furniture:
            s = start + rng.uniform(2, 10)
            plate = self.signs[rng.integers(len(self.signs))]
            items.append(
                Item(
                    side * kerb,
                    s,
                    self._post(side * kerb, s, plate, rng.uniform(1.6, 2.3)),
                    SIGHT_SMALL,
                )
            )
        if junction or (style.crossing is not None and self._junction(chunk + 1, side)):
            s = start + (1.0 if junction else 9.5)
            items.append(
                Item(side * kerb, s, self._post(side * kerb, s, self.light, 2.3), SIGHT_SMALL)
            )
        if rng.random() < 0.25 * style.furniture and not junction:
            d, s = side * (kerb + rng.uniform(0, 1.0)), start + rng.uniform(0, CHUNK)
            tall = float(rng.choice([0.95, 3.2, 7.5]))

            def post(canvas: Canvas, _time: float) -> None:
                _bar(canvas, (d, s), (0, tall), 0.12, style.metal * style.sun_wall * 0.7, POLE)

            items.append(Item(d, s, post, SIGHT_SMALL))
        return items

    def _lamp(self, d: float, s: float, side: int) -> Callable[[Canvas, float], None]:
        style = self.style
        colour = style.metal * style.sun_wall * 0.75

        def paint(canvas: Canvas, _time: float) -> None:
            _bar(canvas, (d, s), (0, 1.2), 0.2, colour * 0.9, POLE)
            _bar(canvas, (d, s), (1.2, 7.2), 0.13, colour, POLE)
            arm = d - side * 1.6
            _bar(canvas, ((d + arm) / 2, s), (7.12, 7.24), abs(d - arm), colour, POLE)
            _bar(canvas, (arm, s), (7.02, 7.22), 0.6, colour * 1.2, POLE)

        return paint

    def _post(
        self, d: float, s: float, plate: sprites.Sprite, rise: float
    ) -> Callable[[Canvas, float], None]:
        colour = self.style.metal * self.style.sun_wall * 0.85

        def paint(canvas: Canvas, _time: float) -> None:
            _bar(canvas, (d, s), (0, rise + plate.height * 0.5), 0.09, colour, POLE)
            canvas.sprite(plate, (d, rise, s), SIGN)

        return paint

    def _standing(
        self, rng: np.random.Generator, chunk: int, side: int, *, junction: bool
    ) -> list[Item]:
        style = self.style
        items = []
        start = chunk * CHUNK
        if style.parking and not junction:
            for slot in (3.0, 9.0):
                if rng.random() < style.traffic * 0.75:
                    car = self.cars[rng.integers(len(self.cars))]
                    d = side * (style.half_road - 1.05 + rng.normal(0, 0.06))
                    s = start + slot + rng.uniform(-0.4, 0.4)
                    away = side != style.side

                    parked = self._parked(car, d, s, oncoming=away)
                    items.append(Item(d, s, parked, SIGHT_SMALL))
        return items

    def _parked(
        self, car: Vehicle, d: float, s: float, *, oncoming: bool
    ) -> Callable[[Canvas, float], None]:
        def paint(canvas: Canvas, _time: float) -> None:
            paint_vehicle(canvas, car, (d, s), CAR, self.blot, oncoming=oncoming)

        return paint

    # What moves.

    def _traffic(self, rng: np.random.Generator, duration_s: float, speed: float) -> list[Mover]:
        style = self.style
        reach = speed * duration_s + SIGHT
        movers: list[Mover] = []
        usable = style.half_road - (2.1 if style.parking else 0)
        lane = style.side * usable / 2
        if rng.random() < 0.55 * style.traffic + 0.15:  # those ahead keep ego's pace
            s = rng.uniform(10, 40)
            for _ in range(rng.integers(1, 4)):
                movers.append(self._driving(rng, lane, s, speed, oncoming=False))
                s += rng.uniform(9, 30)
        s = rng.uniform(8, 60)
        while s < reach * 2.2:
            movers.append(
                self._driving(rng, -lane, s, -speed * rng.uniform(0.85, 1), oncoming=True)
            )
            s += rng.uniform(9, 40) / max(style.traffic, 0.1)
        for chunk in range(-1, int(reach / CHUNK) + 1):
            for side in (-1, 1):
                for _ in range(rng.poisson(1.1 * style.people)):
                    movers.append(self._walking(rng, side, chunk * CHUNK + rng.uniform(0, CHUNK)))
            if rng.random() < 0.3 * style.people + 0.06:
                movers.append(self._riding(rng, usable, chunk * CHUNK + 6, speed))
            if rng.random() < 0.05 * style.people:
                movers.append(self._crossing(rng, chunk * CHUNK + 6, speed))
        return movers

    def _in_the_way(self, mover: Mover, speed: float, swerves: tuple[float, ...]) -> bool:
        if abs(mover.d0) > self.style.half_road and not mover.drift:
            return False
        closing = speed - mover.speed
        if abs(closing) < 0.1:
            return bool(swerves)
        return any(abs(mover.s0 / closing - time) < 3 for time in swerves)

    def _driving(
        self, rng: np.random.Generator, d: float, s: float, speed: float, *, oncoming: bool
    ) -> Mover:
        car = self.cars[rng.integers(len(self.cars))]

        def paint(canvas: Canvas, _time: float, place: tuple[float, float]) -> None:
            paint_vehicle(canvas, car, place, CAR, self.blot, oncoming=oncoming)

        return Mover(d + rng.normal(0, 0.12), s, speed, 0.0, paint)

    def _figure(
        self, steps: tuple[sprites.Sprite, ...], rate: float, label: int, *, mirror: bool
    ) -> Callable[[Canvas, float, tuple[float, float]], None]:
        def paint(canvas: Canvas, time: float, place: tuple[float, float]) -> None:
            d, s = place
            sprite = steps[int(time * rate * len(steps)) % len(steps)]
            half = sprite.width * 0.45
            if s - 0.5 - canvas.camera.along > NEAR:
                ground = [
                    [d - half, 0, s + 0.5],
                    [d + half, 0, s + 0.5],
                    [d + half, 0, s - 0.3],
                    [d - half, 0, s - 0.3],
                ]
                canvas.shadow(np.array(ground), self.blot, 0.5)
            canvas.sprite(sprite, (d, 0.0, s), label, mirror=mirror)

        return paint

    def _walking(self, rng: np.random.Generator, side: int, s: float) -> Mover:
        style = self.style
        d = side * (style.half_road + rng.uniform(0.5, max(0.8, style.pavement - 0.3)))
        speed = float(rng.choice([-1, 0, 1], p=[0.4, 0.15, 0.45]) * rng.uniform(1.0, 1.6))
        steps = self.people[rng.integers(len(self.people))]
        steps = steps if speed else steps[:1]
        paint = self._figure(steps, 0.9, PEDESTRIAN, mirror=bool(rng.random() < 0.5))
        return Mover(d, s, speed, 0.0, paint)

    def _crossing(self, rng: np.random.Generator, s: float, speed: float) -> Mover:
        """Someone who crosses well before ego comes."""
        drift = float(rng.choice([-1, 1]) * rng.uniform(1.0, 1.5))
        when = max(0.0, (s - rng.uniform(15, 45)) / speed)
        steps = self.people[rng.integers(len(self.people))]
        paint = self._figure(steps, 0.9, PEDESTRIAN, mirror=drift < 0)
        return Mover(-drift * when, s, 0.0, drift, paint)

    def _riding(self, rng: np.random.Generator, usable: float, s: float, speed: float) -> Mover:
        style = self.style
        if rng.random() < 0.15:
            drift = float(rng.choice([-1, 1]) * rng.uniform(2.5, 4))
            when = max(0.0, (s - rng.uniform(20, 50)) / speed)
            paint = self._figure(self.riders[2], 1.0, BICYCLIST, mirror=drift < 0)
            return Mover(-drift * when, s, 0.0, drift, paint)
        side = style.side if rng.random() < 0.7 else -style.side
        pace = float(rng.uniform(3.5, 6)) * (1 if side == style.side else -1)
        steps = self.riders[rng.integers(2)]
        paint = self._figure(steps, 1.1, BICYCLIST, mirror=False)
        return Mover(side * (usable - rng.uniform(0.3, 0.6)), s, pace, 0.0, paint)

    # A frame.

    def paint(self, canvas: Canvas, time: float, extra: tuple[Item, ...] = ()) -> None:
        """Paint everything in sight, far to near and from the sides inwards."""
        camera = canvas.camera
        canvas.sky(self.sky, *self.skyline)
        canvas.ground(self.ground)
        first = int(np.floor((camera.along + NEAR) / CHUNK))
        last = int((camera.along + SIGHT) // CHUNK)
        items = [
            item
            for chunk in range(first, last + 1)
            for side in (-1, 1)
            for item in self.lot(chunk, side)
            if item.s - camera.along < item.sight
        ]
        for mover in self.movers:
            d, s = mover.place(time)
            if NEAR < s - camera.along < SIGHT_SMALL and abs(d) < 20:
                items.append(
                    Item(
                        d, s, lambda view, now, mover=mover, at=(d, s): mover.paint(view, now, at)
                    )
                )
        items += extra

        # Seen from the road, what stands farther out never hides what stands farther in at the
        # same or a smaller distance: lots are painted far to near, each from the outside inwards.
        def order(item: Item) -> tuple[float, float, float]:
            lot = np.ceil(item.s / CHUNK - 1e-6)
            return (-lot, -abs(item.d - camera.offset), -item.s)

        for item in sorted(items, key=order):
            item.paint(canvas, time)


def _along(
    canvas: Canvas,
    texture: Ripmap,
    d: float | tuple[float, float],
    span: tuple[float, float],
    rise: tuple[float, float],
    label: int,
) -> None:
    """Paint a quad along the road; ``d`` may differ between its bottom and its top edge."""
    foot, head = d if isinstance(d, tuple) else (d, d)
    start = max(span[0], canvas.camera.along + NEAR)
    if start >= span[1]:
        return
    low, high = rise
    near, far = start, span[1]
    share = (near - span[0]) / (span[1] - span[0])
    if foot > canvas.camera.offset:  # on the right the far end is the left one
        corners = [[head, high, far], [head, high, near], [foot, low, near], [foot, low, far]]
        part = (0.0, 1 - share)
    else:
        corners = [[head, high, near], [head, high, far], [foot, low, far], [foot, low, near]]
        part = (share, 1.0)
    canvas.quad(texture, np.array(corners, np.float64), label, span=part)


def _bar(
    canvas: Canvas,
    place: tuple[float, float],
    rise: tuple[float, float],
    width: float,
    colour: NDArray[np.float32],
    label: int,
) -> None:
    """Paint an upright bar, at least about a pixel wide, lit like a round post."""
    d, s = place
    camera = canvas.camera
    depth = s - camera.along
    if depth < NEAR:
        return
    tall = (rise[1] - rise[0]) * camera.focal / depth
    if tall < 1.0 and label == POLE and rise[0] > 0:
        return
    ends, _ = camera.project(np.array([[d, rise[1], s], [d, rise[0], s]]))
    half = max(width * camera.focal / depth, 1.0) / 2
    (x, top), bottom = ends[0], max(ends[1][1], ends[0][1] + 1)
    body = np.array([[x - half, top], [x + half, top], [x + half, bottom], [x - half, bottom]])
    polygons, tones = [body], [tuple(float(v) for v in np.clip(colour, 0, 255))]
    if half > 1.2:
        stripe = body.copy()
        stripe[[1, 2], 0] = x - half * 0.2
        polygons.append(stripe)
        tones.append(tuple(float(v) for v in np.clip(colour * 0.7, 0, 255)))
    canvas.faces(polygons, tones)
    canvas.hulls([body], label, depth)
