# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Cars as faceted solids: hatchback, saloon, estate, van, truck."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from seg_uncertainty_ros.procedural.painter import NEAR
from seg_uncertainty_ros.procedural.textures import fractal_noise
from seg_uncertainty_ros.procedural.textures import to_image

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    (60, 120, 150),
    (205, 206, 204),
    (150, 150, 148),
    (52, 50, 50),
    (96, 84, 78),
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
class Vehicle:
    """A car about its middle on the ground, its rear towards the camera.

    ``corners`` (N, 3) are (right, up, forward) in metres; face ``i`` takes ``sizes[i]`` of them,
    has a colour (BGR, lit), an outward normal, and is ``bold`` if it shows from afar. ``solids``
    are the convex parts that fill the silhouette. ``gloss`` is what the surroundings reflect,
    128 neutral.
    """

    corners: NDArray[np.float64]
    sizes: tuple[int, ...]
    colours: tuple[tuple[float, float, float], ...]
    normals: NDArray[np.float64]
    bold: tuple[bool, ...]
    solids: tuple[NDArray[np.float64], ...]
    gloss: NDArray[np.uint8]
    length: float
    width: float
    height: float

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Return where each face's corners start."""
        return np.cumsum((0, *self.sizes[:-1]))


class _Mesh:
    """Collects faces and lights them by their normals."""

    def __init__(self, style: Style) -> None:
        self.corners: list[NDArray[np.float64]] = []
        self.colours: list[tuple[float, float, float]] = []
        self.normals: list[NDArray[np.float64]] = []
        self.bold: list[bool] = []
        self.solids: list[NDArray[np.float64]] = []
        # Light by direction: a car's left side faces where right-hand houses face.
        self.light = {
            (0, -1): style.wall_right,
            (0, 1): style.wall_left,
            (1, -1): style.sun_ground * 0.35,
            (1, 1): style.sun_ground * 1.05,
            (2, -1): style.wall_end,
            (2, 1): style.sun_wall * 0.85,
        }

    def add(
        self,
        corners: Sequence[tuple[float, float, float]],
        colour: NDArray[np.float64],
        normal: tuple[float, float, float],
        *,
        bold: bool = False,
    ) -> None:
        unit = np.array(normal, np.float64) / np.linalg.norm(normal)
        gain = sum(
            unit[axis] ** 2 * self.light[axis, 1 if unit[axis] > 0 else -1] for axis in range(3)
        )
        tone = np.clip(np.asarray(colour) * gain, 0, 255)
        self.corners.append(np.array(corners, np.float64))
        self.colours.append((float(tone[0]), float(tone[1]), float(tone[2])))
        self.normals.append(unit)
        self.bold.append(bold)


def vehicle(rng: np.random.Generator, style: Style) -> Vehicle:
    """Draw a car, lit for heading along the road."""
    kinds = list(BODIES)
    kind = kinds[rng.choice(len(kinds), p=[0.3, 0.22, 0.15, 0.2, 0.1, 0.03])]
    length, width, height = (value * rng.uniform(0.95, 1.06) for value in BODIES[kind][:3])
    belt, under, over = BODIES[kind][3:]
    paint = np.clip(np.array(PAINTS[rng.integers(len(PAINTS))]) + rng.normal(0, 10, 3), 16, 235)
    mesh = _Mesh(style)
    boxy = kind in ('van', 'truck')
    _lower_body(mesh, rng, (length, width, belt), paint, boxy=boxy)
    _wheels(mesh, style, (length, width), 0.46 if kind == 'truck' else 0.31)
    _ends(mesh, rng, (length, width, belt), paint)
    base = tuple(-length / 2 + share * length + 0.06 for share in under)
    top = tuple(-length / 2 + share * length + 0.1 for share in over)
    _cabin(mesh, rng, (width, belt, height), (base, top), paint, kind=kind)
    gloss = 128 + 14 * fractal_noise(rng, 48, 64, 24, 3)
    gloss *= np.linspace(1.14, 0.86, 48, dtype=np.float32)[:, None]
    return Vehicle(
        np.concatenate(mesh.corners),
        tuple(len(corners) for corners in mesh.corners),
        tuple(mesh.colours),
        np.array(mesh.normals),
        tuple(mesh.bold),
        tuple(mesh.solids),
        to_image(gloss),
        length,
        width,
        height,
    )


def _lower_body(
    mesh: _Mesh,
    rng: np.random.Generator,
    size: tuple[float, float, float],
    paint: NDArray[np.float64],
    *,
    boxy: bool,
) -> None:
    """Loft rounded rings from the sill to the belt; the bonnet slopes down to the front."""
    length, width, belt = size
    half, back, front = width / 2, -length / 2, length / 2
    cut, nose = 0.14, (0.02 if boxy else 0.13)
    ring = np.array(
        [
            (-half + 2 * cut, back),
            (half - 2 * cut, back),
            (half - 0.3 * cut, back + 0.8 * cut),
            (half, back + 2.5 * cut),
            (half, front - 4 * cut),
            (half - 0.5 * cut, front - 1.2 * cut),
            (half - 2.6 * cut, front),
            (-half + 2.6 * cut, front),
            (-half + 0.5 * cut, front - 1.2 * cut),
            (-half, front - 4 * cut),
            (-half, back + 2.5 * cut),
            (-half + 0.3 * cut, back + 0.8 * cut),
        ]
    )
    slope = np.clip((ring[:, 1] - front + 0.3 * length) / (0.3 * length), 0, 1)
    trim = np.full(3, 42.0) if rng.random() < 0.4 else paint * 0.55
    # (height, share of the ring's width, colour of the band below)
    levels = (
        (0.2, 0.95, None),
        (0.3, 0.985, np.full(3, 30.0)),
        (0.46, 1.0, trim),
        (0.66, 1.0, paint * 0.92),
        (belt - 0.1, 0.995, paint),
        (belt, 0.95, paint * 1.1),
    )
    rings = []
    for rise, share, _ in levels:
        drop = nose * slope * max(0.0, (rise - 0.46) / (belt - 0.46))
        rings.append(np.column_stack([ring[:, 0] * share, rise - drop, ring[:, 1] * share]))
    count = len(ring)
    for low, high, (_, _, colour) in zip(rings[:-1], rings[1:], levels[1:], strict=True):
        for here in range(count):
            after = (here + 1) % count
            quad = [tuple(high[here]), tuple(high[after]), tuple(low[after]), tuple(low[here])]
            edge, rise = high[after] - high[here], low[here] - high[here]
            normal = np.cross(rise, edge)
            if (
                normal[0] * (high[here, 0] + high[after, 0])
                + normal[2] * (high[here, 2] + high[after, 2])
                < 0
            ):
                normal = -normal
            mesh.add(quad, colour, tuple(normal), bold=True)
    mesh.add([tuple(point) for point in rings[-1]], paint * 1.08, (0, 1, 0.05), bold=True)
    mesh.solids.append(np.concatenate(rings))


def _wheels(mesh: _Mesh, style: Style, size: tuple[float, float], radius: float) -> None:
    length, width = size
    turn = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    dark = np.full(3, 32.0)
    for sign in (-1, 1):
        x = sign * (width / 2 + 0.005)
        for z in (-0.31 * length, 0.32 * length):
            for grow, rise, colour in (
                (1.2, 0.05, dark * 0.5),
                (1.0, 0, dark),
                (0.62, 0, style.metal),
            ):
                rim = [
                    (x, radius + rise + grow * radius * np.sin(a), z + grow * radius * np.cos(a))
                    for a in turn
                ]
                mesh.add(rim, colour, (sign, 0, 0))
                if grow == 1.0:
                    inner = np.array(rim) - (sign * 0.22, 0, 0)
                    mesh.solids.append(np.concatenate([rim, inner]))
        for seam in (-0.04 * length, 0.2 * length):
            z = seam + 0.02
            door = [(x, 0.86, seam), (x, 0.86, z), (x, 0.34, z), (x, 0.34, seam)]
            mesh.add(door, dark * 0.9, (sign, 0, 0))


def _ends(
    mesh: _Mesh,
    rng: np.random.Generator,
    size: tuple[float, float, float],
    paint: NDArray[np.float64],
) -> None:
    """Lamps, plates, bumper, grille, and the tyres seen under the body."""
    length, width, belt = size
    half, dark = width / 2, np.full(3, 32.0)
    tall = float(rng.uniform(0.1, 0.24))
    tint = (90, 170, 190) if rng.random() < 0.4 else (190, 192, 192)
    plate_colour = np.array(tint, np.float64)
    for sign in (-1, 1):
        z = sign * length / 2 + sign * 0.005
        normal = (0.0, 0.0, float(sign))

        inset = z - sign * 0.4
        for x in (-half + 0.08, half - 0.28):
            tyre = [(x, 0.25, inset), (x + 0.2, 0.25, inset), (x + 0.2, 0, inset), (x, 0, inset)]
            mesh.add(tyre, dark * 0.9, normal)
        wide = half - 0.28
        if sign < 0:
            _panel(mesh, sign, z, (-wide, wide, 0.3, 0.44), dark * 1.3)
            _panel(mesh, sign, z, (-wide, wide, 0.66, 0.675), paint * 0.45)
            _panel(mesh, sign, z, (-0.26, 0.26, 0.5, 0.61), plate_colour)
        else:
            _panel(mesh, sign, z, (-wide * 0.8, wide * 0.8, 0.5, 0.68), dark)
            _panel(mesh, sign, z, (-wide * 0.9, wide * 0.9, 0.28, 0.4), dark)
            _panel(mesh, sign, z, (-0.26, 0.26, 0.42, 0.52), np.array([212, 214, 214.0]))
        lamp = np.array([36, 32, 128.0]) if sign < 0 else np.array([222, 220, 214.0])
        top = belt - (0.12 if sign < 0 else 0.26)
        bottom = top - (tall if sign < 0 else 0.13)
        for side in (-1, 1):
            # Lamps wrap around the rounded corner.
            x0, x1 = side * (wide - 0.06), side * (half - 0.045)
            back = z - sign * 0.11
            lens = [(x0, top, z), (x1, top, back), (x1, bottom, back), (x0, bottom, z)]
            mesh.add(lens, lamp, (side * 0.3, 0, sign))
            if sign < 0:
                low = [(x0, bottom + 0.06, z), (x1, bottom + 0.06, back)]
                low += [(x1, bottom, back), (x0, bottom, z)]
                mesh.add(low, lamp * 1.1 + 30, (side * 0.3, 0, sign))


def _panel(
    mesh: _Mesh,
    sign: int,
    z: float,
    box: tuple[float, float, float, float],
    colour: NDArray[np.float64],
) -> None:
    """Add an upright panel across the car at ``z``; box is (x0, x1, low, high)."""
    x0, x1, low, high = box
    corners = [(x0, high, z), (x1, high, z), (x1, low, z), (x0, low, z)]
    mesh.add(corners, colour, (0.0, 0.0, float(sign)))


def _cabin(
    mesh: _Mesh,
    rng: np.random.Generator,
    size: tuple[float, float, float],
    span: tuple[tuple[float, ...], tuple[float, ...]],
    paint: NDArray[np.float64],
    *,
    kind: str,
) -> None:
    """Pillars and glass between belt and roof."""
    width, belt, height = size
    closed = kind in ('van', 'truck')
    wide, slim = width / 2 * 0.95, width / 2 - (0.05 if closed else 0.2)
    eave = height - 0.06
    base, top = span
    glass = np.array([64, 56, 48.0]) * rng.uniform(0.5, 1.4)

    def at(side: float, share: float, up: float) -> tuple[float, float, float]:
        """Return a flank's point: ``share`` from rear to front, ``up`` from belt to eave."""
        rear, front = (base[i] + (top[i] - base[i]) * up for i in (0, 1))
        return (
            side * (wide + (slim - wide) * up),
            belt + (eave - belt) * up,
            rear + (front - rear) * share,
        )

    for side in (-1.0, 1.0):
        normal = (side, 0.25, 0.0)
        flank = [at(side, 0, 0), at(side, 0, 1), at(side, 1, 1), at(side, 1, 0)]
        mesh.add(flank, paint * 0.95, normal, bold=True)
        spans = ((0.05, 0.32), (0.35, 0.65), (0.68, 0.95)) if not closed else ((0.74, 0.95),)
        for low, high in spans:
            pane = [
                at(side, low, 0.1),
                at(side, low, 0.88),
                at(side, high, 0.88),
                at(side, high, 0.1),
            ]
            mesh.add(pane, glass, normal)
    for share, direction in ((0.0, -1.0), (1.0, 1.0)):
        normal = (0.0, 0.5, direction)
        screen = [at(-1, share, 0), at(-1, share, 1), at(1, share, 1), at(1, share, 0)]
        mesh.add(screen, paint * 0.95, normal, bold=True)
        if closed and direction < 0:
            for x in (-slim * 0.88, 0.06) if kind == 'van' else ():
                z = base[0] - 0.01
                pane = [(x, eave - 0.25, z), (x + slim * 0.8, eave - 0.25, z)]
                pane += [(x + slim * 0.8, belt + 0.1, z), (x, belt + 0.1, z)]
                mesh.add(pane, glass, normal)
            continue
        edge = 0.9
        pane = [
            at(x, share, up) for x, up in ((-edge, 0.1), (-edge, 0.9), (edge, 0.9), (edge, 0.1))
        ]
        mesh.add(pane, glass * 1.1, normal)
        sky = [
            at(x, share, up) for x, up in ((-edge, 0.62), (-edge, 0.9), (edge, 0.9), (edge, 0.5))
        ]
        mesh.add(sky, glass * 1.5 + 8, normal)
        seat = [at(x, share, up) for x, up in ((0.25, 0.12), (0.3, 0.5), (0.55, 0.5), (0.6, 0.12))]
        mesh.add(seat, glass * 0.6, normal)
    lip = [
        (-slim, eave, top[0]),
        (slim, eave, top[0]),
        (slim, eave, top[1]),
        (-slim, eave, top[1]),
    ]
    crown = [(x * 0.86, height, z) for x, _, z in lip]
    for here, after, normal in (
        (0, 1, (0, 1, -1)),
        (1, 2, (1, 1, 0)),
        (2, 3, (0, 1, 1)),
        (3, 0, (-1, 1, 0)),
    ):
        ridge = [lip[here], lip[after], crown[after], crown[here]]
        mesh.add(ridge, paint, tuple(float(v) for v in normal), bold=True)
    mesh.add(crown, paint * 1.05, (0.0, 1.0, 0.0), bold=True)
    foot = [at(side, share, 0) for side in (-1, 1) for share in (0, 1)]
    mesh.solids.append(np.array([*lip, *crown, *foot]))


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
    depth = s - camera.along
    if depth - car.length / 2 < NEAR + 0.1:
        return
    turn = np.array([-1.0, 1.0, -1.0]) if oncoming else np.ones(3)
    pixels, _ = camera.project(car.corners * turn + (d, 0.0, s))
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    if high[0] < -2 or low[0] > camera.width + 2:
        return
    reach_x, reach_z = car.width / 2 + 0.3, car.length / 2 + 0.45
    if depth - reach_z > 0.5:
        left, right, near, far = d - reach_x, d + reach_x, s - reach_z, s + reach_z
        ground = [[left, 0, far], [right, 0, far], [right, 0, near], [left, 0, near]]
        canvas.shadow(np.array(ground), blot, 0.85)
    # Faces are visible whose plane looks towards the camera.
    eye = np.array([camera.offset - d, camera.eye, camera.along - s]) * turn
    seen = np.einsum('ij,ij->i', car.normals, eye - car.corners[car.starts]) > 0
    tall = high[1] - low[1]
    fine = tall > 14  # far cars do without details
    shown = [index for index in np.flatnonzero(seen) if fine or car.bold[index]]
    starts = car.starts
    canvas.faces(
        [pixels[starts[index] : starts[index] + car.sizes[index]] for index in shown],
        [car.colours[index] for index in shown],
    )
    outline, _ = camera.project(np.concatenate(car.solids) * turn + (d, 0.0, s))
    cuts = np.cumsum([len(part) for part in car.solids[:-1]])
    canvas.hulls(np.split(outline, cuts) if fine else [outline], label, depth)
    if tall > 24:
        canvas.gloss(pixels, car.gloss, depth)
