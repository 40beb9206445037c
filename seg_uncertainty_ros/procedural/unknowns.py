# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Things on the road that are none of the classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from seg_uncertainty_ros.classes import UNLABELLED
from seg_uncertainty_ros.procedural.painter import NEAR
from seg_uncertainty_ros.procedural.sprites import Sketch
from seg_uncertainty_ros.procedural.sprites import Sprite
from seg_uncertainty_ros.procedural.textures import Ripmap
from seg_uncertainty_ros.procedural.textures import fractal_noise
from seg_uncertainty_ros.procedural.textures import to_image
from seg_uncertainty_ros.procedural.textures import value_noise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from seg_uncertainty_ros.procedural.painter import Canvas
    from seg_uncertainty_ros.procedural.style import Style

# Height in metres of each kind; boxes are (width, height, depth).
BOXES = {'cargo_box': (2.1, 1.45, 1.5), 'suitcase': (0.7, 0.45, 0.3), 'pallet': (1.2, 0.3, 0.8)}
FLAT = {
    'tyre': 0.65,
    'ball': 0.45,
    'sphere': 1.0,
    'barrel': 0.95,
    'animal': 0.9,
    'debris': 0.6,
    'cone': 0.75,
}
KINDS = tuple(BOXES) + tuple(FLAT)


class Unknown:
    """One object of a kind, drawn once and painted at any place."""

    def __init__(self, rng: np.random.Generator, kind: str, style: Style) -> None:
        """Draw the object."""
        self.kind = kind
        self.faces: tuple[Ripmap, ...] = ()
        self.sprite: Sprite | None = None
        if kind in BOXES:
            self.size = BOXES[kind]
            self.faces = _box_faces(rng, kind, style)
        else:
            self.sprite = _DRAWN[kind](rng, style)
            self.size = (self.sprite.width, self.sprite.height, 0.5)

    def paint(self, canvas: Canvas, place: tuple[float, float], blot: NDArray[np.uint8]) -> None:
        """Paint it with its nearest side at ``place`` (d, s)."""
        d, s = place
        width, _, depth = self.size
        wide = width / 2 + 0.3
        near, far = max(s - 0.4, canvas.camera.along + NEAR), s + depth + 0.4
        if near >= far:
            return
        left, right = d - wide, d + wide
        corners = [[left, 0, far], [right, 0, far], [right, 0, near], [left, 0, near]]
        canvas.shadow(np.array(corners), blot, 0.8)
        if self.sprite is None:
            self._paint_box(canvas, place)
        elif s - canvas.camera.along > NEAR:
            canvas.sprite(self.sprite, (d, 0.0, s), UNLABELLED, unknown=True)

    def _paint_box(self, canvas: Canvas, place: tuple[float, float]) -> None:
        d, s = place
        camera = canvas.camera
        width, height, depth = self.size
        left, right, end = d - width / 2, d + width / 2, s + depth
        start = max(s, camera.along + NEAR)  # what is nearer is out of sight
        if start >= end:
            return
        share = (start - s) / depth
        front, side, top = self.faces

        def face(texture: Ripmap, corners: list[list[float]], low: float, high: float) -> None:
            points = np.array(corners, np.float64)
            canvas.quad(texture, points, UNLABELLED, span=(low, high), unknown=True)

        if camera.eye > height:
            back = [[left, height, end], [right, height, end]]
            face(top, [*back, [right, height, start], [left, height, start]], 0, 1)
        if camera.offset < left:
            far = [left, height, end], [left, 0, end]
            face(side, [far[0], [left, height, start], [left, 0, start], far[1]], 0, 1 - share)
        if camera.offset > right:
            far = [right, height, end], [right, 0, end]
            face(side, [[right, height, start], far[0], far[1], [right, 0, start]], share, 1)
        if start == s:
            face(front, [[left, height, s], [right, height, s], [right, 0, s], [left, 0, s]], 0, 1)


def _box_faces(rng: np.random.Generator, kind: str, style: Style) -> tuple[Ripmap, ...]:
    width, height, depth = BOXES[kind]
    tint = {
        'cargo_box': (70, 120, 172),
        'suitcase': tuple(rng.uniform(30, 200, 3)),
        'pallet': (96, 140, 176),
    }[kind]
    faces = []
    for rise, run, light in (
        (height, width, style.wall_end),
        (height, depth, (style.wall_left + style.wall_right) / 2),
        (depth, width, style.sun_ground),
    ):
        columns = 256
        rows = int(np.clip(columns * rise / run, 48, 320))
        face = np.empty((rows, columns, 3), np.float32)
        face[:] = tint
        face *= (1 + 0.1 * fractal_noise(rng, rows, columns, 60, 4))[..., None]
        face *= (1 + 0.07 * value_noise(rng, rows, columns, 3))[..., None]
        edge = 10
        if kind == 'cargo_box':
            # Planks, a frame, a diagonal brace and stencilled bars.
            face[np.arange(rows) % 42 < 2] *= 0.45
            cv2.line(face, (0, 0), (columns, rows), tuple(v * 0.8 for v in tint), 22)
            for band in (np.s_[:16], np.s_[-16:], np.s_[:, :16], np.s_[:, -16:]):
                face[band] = np.array(tint) * 0.72
            for bar in range(4):
                face[rows // 5 : rows // 5 + 22, 120 + 24 * bar : 136 + 24 * bar] *= 0.3
        elif kind == 'pallet':
            face[np.arange(rows) % 60 < 16] *= 0.2
        else:
            face[:, columns // 2 - 4 : columns // 2 + 4] *= 0.5
            face[:edge] *= 0.6
        faces.append(Ripmap(to_image(face * light)))
    return tuple(faces)


def _ball(rng: np.random.Generator, style: Style, height: float, busy: float) -> Sprite:
    size = 160
    sketch = Sketch(rng, size, size)
    sketch.ellipse((0.5, 0.5), (0.49, 0.49), (255, 255, 255))
    row, column = (np.mgrid[0:size, 0:size].astype(np.float32) + 0.5) / size * 2 - 1
    up = np.sqrt(np.clip(1 - row**2 - column**2, 0, 1))
    first, second = rng.uniform(30, 230, 3), rng.uniform(30, 230, 3)
    pattern = fractal_noise(rng, size, size, 50, 3) if busy else np.sin(3.5 * (column + 0.6 * row))
    mixed = np.clip(pattern * 3 + 0.5, 0, 1)[..., None]
    light = 0.45 + 0.5 * np.clip(0.35 * up - 0.7 * row + 0.4 * style.sun_side * column, 0, 1)
    sketch.colour = ((first * mixed + second * (1 - mixed)) * light[..., None]).astype(np.float32)
    return sketch.sprite(height, style.sun_wall, grain=0.05, round_off=0)


def _tyre(rng: np.random.Generator, style: Style) -> Sprite:
    sketch = Sketch(rng, 128, 128)
    sketch.ellipse((0.5, 0.5), (0.49, 0.49), (34, 34, 36))
    sketch.ellipse((0.5, 0.5), (0.42, 0.42), (50, 50, 52))
    sketch.ellipse((0.5, 0.5), (0.27, 0.27), (22, 22, 24))
    sketch.alpha[cv2.circle(np.zeros((128, 128), np.uint8), (64, 64), 26, 255, -1) > 0] = 0
    return sketch.sprite(FLAT['tyre'], style.sun_wall, grain=0.18)


def _barrel(rng: np.random.Generator, style: Style) -> Sprite:
    sketch = Sketch(rng, 192, 126)
    tint = rng.uniform(20, 200, 3)
    wide = 126 / 192
    sketch.polygon([(0.02, 0.06), (wide - 0.02, 0.06), (wide - 0.02, 0.95), (0.02, 0.95)], tint)
    sketch.ellipse((wide / 2, 0.94), (wide / 2 - 0.02, 0.055), tint)
    for y in (0.34, 0.65):
        sketch.limb([(0.03, y), (wide - 0.03, y)], 0.025, tint * 0.6)
    sketch.ellipse((wide / 2, 0.06), (wide / 2 - 0.02, 0.055), np.clip(tint * 1.25, 0, 255))
    across = np.linspace(-1, 1, 126, dtype=np.float32)
    sketch.colour *= (1.1 - 0.65 * np.abs(across + 0.3 * style.sun_side) ** 2)[None, :, None]
    return sketch.sprite(FLAT['barrel'], style.sun_wall, grain=0.12, round_off=0)


def _animal(rng: np.random.Generator, style: Style) -> Sprite:
    sketch = Sketch(rng, 160, 220)
    coat = np.array(
        [(60, 90, 130), (40, 46, 54), (120, 140, 160), (200, 205, 210)][rng.integers(4)]
    )
    for x, dim in ((0.42, 0.7), (0.98, 0.7), (0.5, 1.0), (0.9, 1.0)):
        step = rng.uniform(-0.06, 0.06)
        sketch.limb([(x, 0.55), (x + step, 0.78), (x, 0.97)], 0.075, coat * dim)
    sketch.ellipse((0.7, 0.46), (0.36, 0.18), coat)
    sketch.limb([(1.02, 0.38), (1.16, 0.16)], 0.16, coat)
    sketch.ellipse((1.22, 0.16), (0.13, 0.075), coat * 1.05)
    sketch.polygon([(1.1, 0.12), (1.12, 0.0), (1.18, 0.1)], coat * 0.7)
    sketch.limb([(0.36, 0.38), (0.22, 0.3), (0.14, 0.45)], 0.05, coat * 0.85)
    return sketch.sprite(FLAT['animal'], style.sun_wall, grain=0.25, sun_side=style.sun_side)


def _debris(rng: np.random.Generator, style: Style) -> Sprite:
    sketch = Sketch(rng, 128, 190)
    for _ in range(5):
        turn = np.sort(rng.uniform(0, 2 * np.pi, 7))
        reach = rng.uniform(0.18, 0.42, 7)
        middle = (rng.uniform(0.45, 1.0), rng.uniform(0.55, 0.72))
        points = [
            (middle[0] + r * 1.3 * np.cos(a), min(0.99, middle[1] + r * np.sin(a)))
            for a, r in zip(turn, reach, strict=True)
        ]
        sketch.polygon(points, rng.uniform(30, 210, 3))
    return sketch.sprite(FLAT['debris'], style.sun_wall, grain=0.3)


def _cone(rng: np.random.Generator, style: Style) -> Sprite:
    sketch = Sketch(rng, 128, 96)
    orange, white = (30, 90, 235), (225, 225, 225)
    sketch.polygon([(0.02, 0.92), (0.73, 0.92), (0.73, 0.99), (0.02, 0.99)], (30, 30, 34))
    sketch.polygon([(0.33, 0.02), (0.42, 0.02), (0.62, 0.93), (0.13, 0.93)], orange)
    for y in (0.3, 0.6):
        wide = 0.05 + 0.21 * y
        sketch.polygon(
            [
                (0.375 - wide, y),
                (0.375 + wide, y),
                (0.4 + wide, y + 0.14),
                (0.35 - wide, y + 0.14),
            ],
            white,
        )
    return sketch.sprite(FLAT['cone'], style.sun_wall, grain=0.06)


_DRAWN = {
    'tyre': _tyre,
    'ball': lambda rng, style: _ball(rng, style, FLAT['ball'], 0.0),
    'sphere': lambda rng, style: _ball(rng, style, FLAT['sphere'], 1.0),
    'barrel': _barrel,
    'animal': _animal,
    'debris': _debris,
    'cone': _cone,
}
