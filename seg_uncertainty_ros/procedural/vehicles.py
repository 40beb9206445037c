# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Cars as faceted solids: hatchback, saloon, estate, van, truck."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from seg_uncertainty_ros.procedural.painter import Camera
    from seg_uncertainty_ros.procedural.painter import Canvas
    from seg_uncertainty_ros.procedural.style import Style

PAINTS = (
    (38, 36, 36),
    (190, 190, 188),
    (225, 226, 224),
    (120, 118, 116),
    (70, 68, 66),
    (40, 34, 120),
    (110, 60, 30),
    (70, 50, 40),
    (60, 80, 50),
    (40, 140, 190),
)
# (length, width, height, belt height, share of the length under glass at belt and at roof)
BODIES = {
    'hatchback': (3.9, 1.7, 1.48, 0.92, (0.02, 0.7), (0.1, 0.5)),
    'saloon': (4.6, 1.78, 1.43, 0.92, (0.12, 0.72), (0.26, 0.55)),
    'estate': (4.7, 1.8, 1.5, 0.95, (0.02, 0.7), (0.06, 0.54)),
    'suv': (4.6, 1.88, 1.75, 1.08, (0.02, 0.72), (0.07, 0.58)),
    'van': (5.2, 1.95, 2.2, 1.2, (0.0, 0.86), (0.01, 0.7)),
    'truck': (7.5, 2.3, 3.1, 1.3, (0.0, 0.97), (0.0, 0.96)),
}


@dataclass(frozen=True)
class Face:
    """One flat face: corners (N, 3) as (right, up, forward), colour BGR, and its parent's normal."""

    corners: NDArray[np.float64]
    colour: tuple[float, float, float]
    normal: tuple[float, float, float]
    solid: bool


@dataclass(frozen=True)
class Vehicle:
    """A car about its middle on the ground, its rear towards the camera."""

    faces: tuple[Face, ...]
    length: float
    width: float
    height: float


def vehicle(rng: np.random.Generator, style: Style) -> Vehicle:
    """Draw a car, lit for heading along the road."""
    kinds = list(BODIES)
    kind = kinds[rng.choice(len(kinds), p=[0.3, 0.22, 0.15, 0.2, 0.1, 0.03])]
    length, width, height, belt, under, over = BODIES[kind]
    paint = np.array(PAINTS[rng.integers(len(PAINTS))]) + rng.normal(0, 10, 3)
    paint = np.clip(paint, 16, 235)
    half, sill, inset = width / 2, 0.28, 0.04 if kind in ('van', 'truck') else 0.17
    rear, front = -length / 2, length / 2
    glass = np.array([62, 54, 46.0]) * rng.uniform(0.6, 1.3)
    dark = np.array([34, 34, 36.0])
    faces: list[Face] = []
    gains = {
        'left': style.wall_right,  # a car's left side faces where right-hand houses face
        'right': style.wall_left,
        'rear': style.wall_end,
        'front': style.sun_wall * 0.85,
        'up': style.sun_ground,
    }
    normals = {
        'left': (-1, 0, 0),
        'right': (1, 0, 0),
        'rear': (0, 0, -1),
        'front': (0, 0, 1),
        'up': (0, 1, 0),
    }

    def add(
        side: str, corners: list[tuple[float, float, float]], colour: NDArray, solid: bool
    ) -> None:
        tone = np.clip(np.asarray(colour) * gains[side], 0, 255)
        tint = (float(tone[0]), float(tone[1]), float(tone[2]))
        faces.append(Face(np.array(corners, np.float64), tint, normals[side], solid))

    def flank(side: str, low: float, high: float, z0: float, z1: float) -> list:
        x = -half if side == 'left' else half
        return [(x, high, z0), (x, high, z1), (x, low, z1), (x, low, z0)]

    def across(side: str, low: float, high: float, x0: float, x1: float) -> list:
        z = rear if side == 'rear' else front
        return [(x0, high, z), (x1, high, z), (x1, low, z), (x0, low, z)]

    wheel_z = (rear + 0.19 * length, front - 0.18 * length)
    radius = 0.32 if kind != 'truck' else 0.48
    turn = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    for side in ('left', 'right'):
        x = -half if side == 'left' else half
        nose = 0.1 if kind not in ('van', 'truck') else 0.03
        outline = [
            (x, sill, rear + 0.05),
            (x, 0.5, rear),
            (x, belt, rear + 0.04),
            (x, belt, rear + (1 - 0.28) * length),
            (x, belt - nose, front - 0.08),
            (x, 0.5, front),
            (x, sill, front - 0.05),
        ]
        add(side, outline, paint, True)
        add(
            side,
            flank(side, belt - 0.1, belt - 0.02, rear + 0.1, front - 0.28 * length),
            paint * 1.18,
            False,
        )
        add(side, flank(side, sill, sill + 0.2, rear + 0.05, front - 0.05), paint * 0.55, False)
        seam = rear + 0.47 * length
        add(side, flank(side, sill + 0.1, belt, seam, seam + 0.03), paint * 0.5, False)
        for z in wheel_z:
            for grow, colour, rise in (
                (1.2, dark * 0.6, 0.04),
                (1.0, dark, 0),
                (0.62, style.metal, 0),
            ):
                ring = [
                    (x, radius + rise + grow * radius * np.sin(a), z + grow * radius * np.cos(a))
                    for a in turn
                ]
                add(side, ring, colour, grow == 1.0)
    # The underside between the wheels is dark and hides what lies behind.
    for side in ('rear', 'front'):
        add(side, across(side, 0.16, sill + 0.05, -half + 0.2, half - 0.2), dark * 0.5, False)
        for x in (-half + 0.04, half - 0.24):
            add(side, across(side, 0.0, sill + 0.02, x, x + 0.2), dark * 0.8, True)
        low = belt - (0.0 if side == 'rear' else 0.1)
        add(side, across(side, sill, low, -half, half), paint, True)
        add(
            side,
            across(side, sill, 0.48, -half, half),
            paint * 0.6 if rng.random() < 0.7 else dark,
            False,
        )
        plate = np.array([120, 210, 225.0]) if side == 'rear' else np.array([215, 215, 215.0])
        lamp = np.array([30, 28, 170.0]) if side == 'rear' else np.array([225, 222, 214.0])
        if side == 'front':
            add(side, across(side, 0.5, 0.66, -half * 0.55, half * 0.55), dark, False)
        add(side, across(side, 0.5, 0.61, -0.26, 0.26), plate, False)
        for x in (-half + 0.02, half - 0.36):
            add(side, across(side, low - 0.24, low - 0.06, x, x + 0.34), lamp, False)
    add(
        'up',
        [
            (-half, belt, rear + 0.03),
            (half, belt, rear + 0.03),
            (half, belt - 0.1, front),
            (-half, belt - 0.1, front),
        ],
        paint * 1.1,
        True,
    )
    base = (rear + under[0] * length + 0.03, rear + under[1] * length)
    top = (rear + over[0] * length + 0.03, rear + over[1] * length)
    slim = half - inset
    closed = kind in ('van', 'truck')
    for side in ('left', 'right'):
        x0, x1 = (-half, -slim) if side == 'left' else (half, slim)
        cabin = [
            (x0, belt, base[0]),
            (x1, height - 0.04, top[0]),
            (x1, height - 0.04, top[1]),
            (x0, belt, base[1]),
        ]
        add(side, cabin, paint, True)
        spans = ((0.04, 0.34), (0.38, 0.66), (0.7, 0.95)) if not closed else ((0.72, 0.94),)
        for low, high in spans:
            window = []
            for share_up, share in ((0.12, low), (0.88, low), (0.88, high), (0.12, high)):
                x = x0 + (x1 - x0) * share_up
                z0 = base[0] + (top[0] - base[0]) * share_up
                z1 = base[1] + (top[1] - base[1]) * share_up
                y = belt + (height - 0.04 - belt) * share_up
                window.append((x, y, z0 + (z1 - z0) * share))
            add(side, window, glass, False)
    for side, at, to in (('rear', base[0], top[0]), ('front', base[1], top[1])):
        screen = [
            (-slim, height - 0.04, to),
            (slim, height - 0.04, to),
            (half, belt, at),
            (-half, belt, at),
        ]
        add(side, screen, paint, True)
        if not closed or side == 'front':
            pane = []
            for share, x in ((0.88, -slim), (0.88, slim), (0.14, half), (0.14, -half)):
                pane.append(
                    (x * 0.9, belt + (height - 0.04 - belt) * share, at + (to - at) * share)
                )
            add(side, pane, glass * 1.15, False)
            shine = [
                pane[0],
                (0.0, pane[1][1], pane[1][2]),
                (-half * 0.3, pane[2][1], pane[2][2]),
                pane[3],
            ]
            add(side, shine, glass * 1.45, False)
        elif kind == 'van':
            for x in (-slim * 0.85, 0.08):
                pane = [(x, height - 0.3, to), (x + slim * 0.75, height - 0.3, to)]
                pane += [(x + slim * 0.75, belt + 0.05, at), (x, belt + 0.05, at)]
                add(side, pane, glass, False)
    roof = [
        (-slim, height, top[0] + 0.05),
        (slim, height, top[0] + 0.05),
        (slim, height, top[1]),
        (-slim, height, top[1]),
    ]
    add('up', roof, paint * 1.05, True)
    return Vehicle(tuple(faces), length, width, height)


def paint_vehicle(
    canvas: Canvas,
    car: Vehicle,
    place: tuple[float, float],
    label: int,
    blot: NDArray[np.uint8],
    *,
    oncoming: bool = False,
) -> None:
    """Paint ``car`` with its shadow, its middle at ``place`` (d, s)."""
    camera: Camera = canvas.camera
    d, s = place
    if s - car.length / 2 - camera.along < 0.9:
        return
    turn = -1.0 if oncoming else 1.0
    reach_x, reach_z = car.width * 0.72, car.length * 0.6
    ground = np.array(
        [
            [d - reach_x, 0, s + reach_z],
            [d + reach_x, 0, s + reach_z],
            [d + reach_x, 0, s - reach_z],
            [d - reach_x, 0, s - reach_z],
        ]
    )
    if s - reach_z - camera.along > 0.5:
        canvas.shadow(ground, blot, 0.78)
    sizes = [len(face.corners) for face in car.faces]
    corners = np.concatenate([face.corners for face in car.faces]) * (turn, 1.0, turn)
    pixels, _ = camera.project(corners + (d, 0.0, s))
    # Faces are visible whose parent plane looks towards the camera.
    eye = np.array([camera.offset - d, camera.eye, camera.along - s]) * (turn, 1.0, turn)
    polygons, colours, solid = [], [], []
    start = 0
    for face, size in zip(car.faces, sizes):
        points = pixels[start : start + size]
        start += size
        if np.dot(face.normal, eye - face.corners[0]) > 0:
            polygons.append(points)
            colours.append(face.colour)
            solid.append(face.solid)
    canvas.faces(polygons, colours, solid, label, s - camera.along)
