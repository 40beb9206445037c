# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Flat, camera-facing cut-outs: trees, people, cyclists, signs and unknown objects."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import cv2
import numpy as np

from seg_uncertainty_ros.procedural.textures import fractal_noise
from seg_uncertainty_ros.procedural.textures import to_image
from seg_uncertainty_ros.procedural.textures import value_noise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from seg_uncertainty_ros.procedural.style import Style

SKIN = ((120, 150, 205), (90, 120, 175), (50, 75, 115), (140, 170, 220))
CLOTHES = (
    (40, 36, 34),
    (90, 60, 40),
    (60, 60, 62),
    (40, 40, 130),
    (150, 150, 150),
    (110, 90, 60),
    (50, 80, 60),
    (70, 110, 150),
    (200, 205, 205),
    (60, 200, 220),
)


@dataclass(frozen=True)
class Sprite:
    """A cut-out: ``colour`` BGR premultiplied by ``alpha``, ``solid`` where it is the object.

    ``width`` and ``height`` are metres; its middle bottom stands on the ground.
    """

    colour: NDArray[np.uint8]
    alpha: NDArray[np.uint8]
    solid: NDArray[np.uint8]
    width: float
    height: float

    @cached_property
    def levels(self) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        """Return halvings of (BGRA premultiplied, solid), the full size first."""
        levels = [(np.dstack([self.colour, self.alpha]), self.solid)]
        while min(levels[-1][0].shape[:2]) > 4:
            image, solid = levels[-1]
            size = (image.shape[1] // 2, image.shape[0] // 2)
            halved = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            levels.append((halved, cv2.resize(solid, size, interpolation=cv2.INTER_AREA)))
        return levels


class Sketch:
    """Draws shapes in units of the sketch's height onto colour and alpha together."""

    def __init__(self, rng: np.random.Generator, height: int, width: int) -> None:
        """Begin transparent."""
        self.rng = rng
        self.colour = np.zeros((height, width, 3), np.float32)
        self.alpha = np.zeros((height, width), np.uint8)
        self.scale = height

    def _points(self, points: Sequence[tuple[float, float]]) -> NDArray[np.int32]:
        scaled = np.array(points, np.float64) * self.scale
        return np.round(scaled * 8).astype(np.int32)

    def polygon(self, points: Sequence[tuple[float, float]], colour: Sequence[float]) -> None:
        """Fill a polygon."""
        where = [self._points(points)]
        cv2.fillPoly(self.colour, where, [float(c) for c in colour], cv2.LINE_8, 3)
        cv2.fillPoly(self.alpha, where, 255, cv2.LINE_AA, 3)

    def limb(
        self, points: Sequence[tuple[float, float]], thick: float, colour: Sequence[float]
    ) -> None:
        """Draw a thick line with round ends."""
        where = [self._points(points)]
        size = max(1, round(thick * self.scale))
        tint = [float(c) for c in colour]
        cv2.polylines(self.colour, where, False, tint, size, cv2.LINE_8, 3)
        cv2.polylines(self.alpha, where, False, 255, size, cv2.LINE_AA, 3)

    def ellipse(
        self,
        centre: tuple[float, float],
        axes: tuple[float, float],
        colour: Sequence[float],
        thick: float = 0,
        angle: float = 0,
    ) -> None:
        """Fill an ellipse, or draw its outline ``thick`` wide."""
        middle = tuple(int(v) for v in self._points([centre])[0])
        radii = tuple(int(v) for v in self._points([axes])[0])
        size = max(1, round(thick * self.scale)) if thick else -1
        tint = [float(c) for c in colour]
        cv2.ellipse(self.colour, middle, radii, angle, 0, 360, tint, size, cv2.LINE_8, 3)
        cv2.ellipse(self.alpha, middle, radii, angle, 0, 360, 255, size, cv2.LINE_AA, 3)

    def sprite(
        self,
        height: float,
        light: NDArray[np.float32],
        *,
        sun_side: int = 0,
        grain: float = 0.12,
        round_off: float = 0.35,
    ) -> Sprite:
        """Light, roughen and finish; ``round_off`` darkens towards the outline."""
        rows, columns = self.alpha.shape
        shade = 1 + grain * fractal_noise(self.rng, rows, columns, max(4, rows / 12), 4)
        shade += 0.25 * sun_side * np.linspace(-1, 1, columns, dtype=np.float32)[None, :]
        if round_off:
            reach = max(3.0, rows * 0.05)
            inside = cv2.GaussianBlur(self.alpha.astype(np.float32) / 255, (0, 0), reach)
            shade *= 1 - round_off + round_off * np.clip(inside * 1.5 - 0.2, 0, 1.2)
        colour = self.colour * shade[..., None] * light * (self.alpha[..., None] / np.float32(255))
        solid = np.where(self.alpha > 127, 255, 0).astype(np.uint8)
        width = height * columns / rows
        return Sprite(to_image(colour), self.alpha, solid, width, height)


def _pick(rng: np.random.Generator, colours: Sequence[tuple[int, ...]]) -> NDArray[np.float64]:
    return np.clip(np.array(colours[rng.integers(len(colours))]) + rng.normal(0, 10, 3), 8, 245)


def tree(rng: np.random.Generator, style: Style) -> Sprite:
    """Return a tree of 4 to 11 m, leafy or bare."""
    size = 384
    sketch = Sketch(rng, size, size)
    bare = style.bare_trees and rng.random() < 0.8
    height = float(rng.uniform(4.5, 11))
    fork = rng.uniform(0.55, 0.75)
    bark = style.bark * rng.uniform(0.7, 1.1)
    trunk = rng.uniform(0.018, 0.035)
    lean = rng.normal(0, 0.02)
    sketch.polygon(
        [
            (0.5 - trunk, 1.0),
            (0.5 + lean - trunk * 0.6, fork - 0.2),
            (0.5 + lean + trunk * 0.6, fork - 0.2),
            (0.5 + trunk, 1.0),
        ],
        bark,
    )

    def branch(x: float, y: float, angle: float, length: float, thick: float) -> None:
        end = (x + length * np.sin(angle), y - length * np.cos(angle))
        sketch.limb([(x, y), end], thick, bark * rng.uniform(0.8, 1.1))
        if length < (0.028 if bare else 0.05):
            return
        for turn in (-1, 1) if rng.random() < 0.6 else (-1, 0, 1):
            bend = 0.93 * angle + turn * rng.uniform(0.2, 0.6) + rng.normal(0, 0.1)
            branch(*end, float(bend), length * rng.uniform(0.55, 0.85), thick * 0.62)

    reach = rng.uniform(0.13, 0.2) * (1 if bare else 0.7)
    branch(0.5 + lean * 0.7, fork - 0.08, float(lean), reach, trunk * 1.1)
    for _ in range(5 if bare else 0):  # side branches of the trunk
        side = float(rng.choice([-1, 1]) * rng.uniform(0.5, 1.1))
        branch(
            0.5 + lean * 0.7,
            fork - rng.uniform(0.0, 0.2),
            side,
            rng.uniform(0.1, 0.16),
            trunk * 0.7,
        )
    if bare:
        hull = cv2.morphologyEx(
            sketch.alpha, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (21, 21))
        )
        sprite = sketch.sprite(height, style.sun_wall, round_off=0, grain=0.1)
        solid = np.where(hull > 100, 255, 0).astype(np.uint8)
        return Sprite(sprite.colour, sprite.alpha, solid, sprite.width, sprite.height)

    row, column = np.mgrid[0:size, 0:size].astype(np.float32) / size
    crown = np.full((size, size), -4, np.float32)
    depth = np.zeros((size, size), np.float32)
    wide, tall = rng.uniform(0.24, 0.36), rng.uniform(0.3, 0.38)
    middle = 0.02 + tall + rng.uniform(0, 0.05)
    for _ in range(22):
        turn, out = rng.uniform(0, 2 * np.pi), np.sqrt(rng.random()) * 0.75
        x, y = 0.5 + wide * out * np.sin(turn), middle + tall * out * np.cos(turn)
        radius = rng.uniform(0.3, 0.5) * wide
        apart = 1 - ((column - x) ** 2 + (row - y) ** 2) / radius**2
        # Each tuft is lit from above and from the sun's side.
        lit = 0.6 - 0.7 * (row - y) / radius + 0.35 * style.sun_side * (column - x) / radius
        depth = np.where(apart > crown, lit, depth)
        crown = np.maximum(crown, apart)
    rough = fractal_noise(rng, size, size, 36, 5)
    leaf = value_noise(rng, size, size, 2.5)
    body = crown + 0.16 * rough + 0.06 * leaf
    leaves = style.leaves * rng.uniform(0.75, 1.25) + rng.normal(0, 6, 3)
    shade = np.clip(0.62 + 0.3 * depth + 0.16 * rough + 0.2 * leaf, 0.12, 1.7)
    cover = np.clip((body - 0.1) * 9, 0, 1)
    cover *= np.clip(1.8 + leaf + 6 * body, 0, 1)
    base = sketch.sprite(height, style.sun_wall, round_off=0, grain=0.15)
    over = (leaves * shade[..., None] * style.sun_wall).astype(np.float32)
    colour = base.colour * (1 - cover[..., None]) + over * cover[..., None]
    alpha = to_image(np.maximum(base.alpha.astype(np.float32), cover * 255))
    solid = np.where((body > 0.12) | (base.alpha > 127), 255, 0).astype(np.uint8)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))
    solid = cv2.morphologyEx(solid, cv2.MORPH_CLOSE, disc)
    return Sprite(to_image(colour), alpha, solid, height, height)


def person(rng: np.random.Generator, style: Style, phases: int = 4) -> tuple[Sprite, ...]:
    """Return one pedestrian in ``phases`` steps of the gait."""
    top, legs = _pick(rng, CLOTHES), _pick(rng, CLOTHES) * 0.8
    skin, hair = _pick(rng, SKIN), rng.uniform(15, 90) * np.array([0.6, 0.8, 1])
    broad = rng.uniform(0.85, 1.2)
    coat = rng.random() < 0.35
    bag = rng.random() < 0.4
    height = float(np.clip(rng.normal(1.7, 0.12), 1.2, 1.95))
    bag_colour = _pick(rng, CLOTHES)
    steps = []
    for phase in range(phases):
        swing = np.sin(2 * np.pi * phase / phases) * 0.085
        sketch = Sketch(rng, 240, 136)
        mid = 136 / 240 / 2
        for sign, dim in ((-1, 0.75), (1, 1.0)):
            foot = (mid + sign * swing * 1.1 + sign * 0.02, 0.965 - max(0, -sign * swing) * 0.3)
            knee = (mid + sign * swing * 0.75 + sign * 0.02, 0.74)
            hip = (mid + sign * 0.03 * broad, 0.5)
            sketch.limb([hip, knee, foot], 0.075 * broad, legs * dim)
            sketch.ellipse((foot[0] + 0.015, 0.975), (0.035, 0.02), (30, 30, 34))
        arm = swing * 0.8
        sketch.limb(
            [(mid - 0.085 * broad, 0.23), (mid - 0.1 - arm, 0.4), (mid - 0.09 - arm * 1.6, 0.52)],
            0.048,
            top * 0.8,
        )
        hem = 0.68 if coat else 0.53
        sketch.polygon(
            [
                (mid - 0.095 * broad, 0.19),
                (mid - 0.04, 0.155),
                (mid + 0.04, 0.155),
                (mid + 0.095 * broad, 0.19),
                (mid + 0.085 * broad, hem),
                (mid - 0.085 * broad, hem),
            ],
            top,
        )
        if bag:
            sketch.ellipse((mid + 0.1 * broad, 0.42), (0.045, 0.085), bag_colour)
        sketch.limb(
            [(mid + 0.09 * broad, 0.23), (mid + 0.105 + arm, 0.4), (mid + 0.1 + arm * 1.6, 0.52)],
            0.048,
            top * 0.92,
        )
        sketch.ellipse((mid + 0.1 + arm * 1.6, 0.535), (0.018, 0.022), skin)
        sketch.limb([(mid, 0.16), (mid, 0.12)], 0.05, skin)
        sketch.ellipse((mid, 0.075), (0.048, 0.06), skin)
        sketch.ellipse((mid, 0.05), (0.05, 0.042), hair)
        steps.append(sketch.sprite(height, style.sun_wall, sun_side=style.sun_side))
    return tuple(steps)


def cyclist(
    rng: np.random.Generator, style: Style, side_view: bool, phases: int = 4
) -> tuple[Sprite, ...]:
    """Return one rider with bicycle in ``phases`` of the pedals, from behind or from the side."""
    top = _pick(rng, CLOTHES) if rng.random() < 0.6 else np.array([60, 230, 225.0])
    legs, skin = _pick(rng, CLOTHES) * 0.7, _pick(rng, SKIN)
    frame, head = _pick(rng, CLOTHES), _pick(rng, CLOTHES)
    tyre = (26, 26, 28)
    steps = []
    for phase in range(phases):
        turn = 2 * np.pi * phase / phases
        if side_view:
            sketch = Sketch(rng, 240, 250)
            back, front, axle, floor = 0.24, 0.8, 0.5, 0.8
            for x in (back, front):
                sketch.ellipse((x, floor), (0.185, 0.185), tyre, 0.022)
                sketch.ellipse((x, floor), (0.165, 0.165), (120, 120, 120), 0.006)
                for spoke in range(6):
                    way = turn + spoke * np.pi / 6
                    reach = (0.165 * np.cos(way), 0.165 * np.sin(way))
                    sketch.limb(
                        [(x - reach[0], floor - reach[1]), (x + reach[0], floor + reach[1])],
                        0.004,
                        (140, 140, 140),
                    )
            seat, bar = (0.4, 0.5), (0.73, 0.46)
            for line in (
                [(back, floor), seat, (axle, floor), (back, floor)],
                [(axle, floor), bar, seat],
                [bar, (front, floor)],
            ):
                sketch.limb(line, 0.02, frame)
            for sign, dim in ((-1, 0.7), (1, 1.0)):
                foot = (axle + sign * 0.09 * np.cos(turn), floor + sign * 0.09 * np.sin(turn))
                knee = ((seat[0] + foot[0]) / 2 + 0.13, (seat[1] + foot[1]) / 2 - 0.03)
                sketch.limb([(seat[0], seat[1] - 0.03), knee, foot], 0.062, legs * dim)
            sketch.limb([(0.56, 0.24), (0.66, 0.38), bar], 0.042, skin)
            sketch.limb([(0.41, 0.46), (0.55, 0.22)], 0.12, top)
            sketch.ellipse((0.62, 0.1), (0.055, 0.065), skin)
            sketch.ellipse((0.61, 0.075), (0.065, 0.05), head)
        else:
            sketch = Sketch(rng, 240, 110)
            mid = 110 / 480
            sketch.ellipse((mid, 0.79), (0.014, 0.19), tyre)
            sketch.polygon([(mid - 0.05, 0.6), (mid + 0.05, 0.6), (mid, 0.62)], tyre)
            for sign in (-1, 1):
                lift = 0.05 * np.sin(turn) * sign
                foot = (mid + sign * 0.05, 0.87 + lift)
                knee = (mid + sign * 0.085, 0.7 + lift)
                hip = (mid + sign * 0.045, 0.55)
                sketch.limb([hip, knee, foot], 0.062, legs * (0.9 + 0.1 * sign))
                elbow = (mid + sign * 0.13, 0.36)
                sketch.limb(
                    [(mid + sign * 0.08, 0.25), elbow, (mid + sign * 0.12, 0.46)], 0.045, top
                )
                sketch.ellipse(foot, (0.022, 0.018), tyre)
            sketch.polygon(
                [
                    (mid - 0.09, 0.22),
                    (mid - 0.03, 0.18),
                    (mid + 0.03, 0.18),
                    (mid + 0.09, 0.22),
                    (mid + 0.075, 0.58),
                    (mid - 0.075, 0.58),
                ],
                top,
            )
            sketch.ellipse((mid, 0.11), (0.045, 0.06), skin)
            sketch.ellipse((mid, 0.085), (0.055, 0.05), head)
            sketch.ellipse((mid, 0.66), (0.014, 0.014), (40, 40, 220))
        steps.append(sketch.sprite(1.75, style.sun_wall, sun_side=style.sun_side))
    return tuple(steps)


def sign(rng: np.random.Generator, style: Style) -> Sprite:
    """Return a traffic sign, direction board or advertisement of 0.6 to 2.2 m."""
    kind = rng.integers(6)
    red, blue, white = (36, 32, 178), (150, 76, 20), (225, 225, 222)
    ink = (24, 24, 26)
    if kind <= 3:
        sketch = Sketch(rng, 96, 96)
    if kind == 0:
        sketch.ellipse((0.5, 0.5), (0.49, 0.49), red)
        sketch.ellipse((0.5, 0.5), (0.36, 0.36), white)
        for x in (0.38, 0.6):
            sketch.limb([(x, 0.35), (x, 0.65)], 0.07, ink)
    elif kind == 1:
        sketch.polygon([(0.5, 0.02), (0.98, 0.9), (0.02, 0.9)], red)
        sketch.polygon([(0.5, 0.24), (0.8, 0.78), (0.2, 0.78)], white)
        sketch.limb([(0.5, 0.42), (0.5, 0.62)], 0.08, ink)
    elif kind == 2:
        sketch.ellipse((0.5, 0.5), (0.49, 0.49), blue)
        sketch.limb([(0.5, 0.75), (0.5, 0.3)], 0.1, white)
        sketch.limb([(0.32, 0.46), (0.5, 0.27), (0.68, 0.46)], 0.1, white)
    elif kind == 3:
        sketch.polygon([(0.02, 0.02), (0.98, 0.02), (0.98, 0.98), (0.02, 0.98)], blue)
        sketch.polygon([(0.5, 0.2), (0.82, 0.78), (0.18, 0.78)], white)
    else:
        sketch = Sketch(rng, 96, 150 if kind == 4 else 64)
        wide = sketch.alpha.shape[1] / 96
        board = ((34, 110, 40), blue, white, (40, 180, 220))[rng.integers(4)]
        text = white if np.mean(board) < 150 else ink
        sketch.polygon([(0, 0), (wide, 0), (wide, 1), (0, 1)], white)
        sketch.polygon(
            [(0.04, 0.04), (wide - 0.04, 0.04), (wide - 0.04, 0.96), (0.04, 0.96)], board
        )
        for y in (0.25, 0.5, 0.75):
            start = rng.uniform(0.08, 0.2)
            end = rng.uniform(0.5, 0.85) * wide
            sketch.limb([(start, y), (end, y)], 0.09, text)
    height = float(rng.uniform(0.6, 0.85) if kind <= 3 else rng.uniform(0.9, 1.7))
    return sketch.sprite(height, style.sun_wall, grain=0.05, round_off=0.1)


def traffic_light(rng: np.random.Generator, style: Style) -> Sprite:
    """Return the head of a traffic light, 1 m high."""
    sketch = Sketch(rng, 96, 40)
    sketch.polygon([(0, 0), (40 / 96, 0), (40 / 96, 1), (0, 1)], (30, 30, 30))
    lamps = [(30, 30, 60), (30, 60, 70), (40, 60, 34)]
    on = rng.integers(3)
    lamps[on] = ((60, 60, 255), (60, 190, 255), (150, 255, 90))[on]
    for lamp, y in zip(lamps, (0.2, 0.5, 0.8), strict=True):
        sketch.ellipse((20 / 96, y), (0.12, 0.12), lamp)
    return sketch.sprite(1.0, style.sun_wall, grain=0.03, round_off=0.1)
