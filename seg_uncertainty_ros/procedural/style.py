# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The look of one drive, drawn from its seed: palette, street, light and lens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Colour = NDArray[np.float32]

CHUNK = 12.0  # metres of street that one lot takes
TILE_CHUNKS = 8  # lots until the ground repeats


@dataclass(frozen=True)
class Style:
    """Everything that stays the same through a drive. Lengths in metres, colours BGR 0-255."""

    side: int  # +1 drives on the right, -1 on the left
    half_road: float
    pavement: float
    parking: bool
    green_verge: bool
    slabs: bool
    tile: float
    junction: tuple[float, float] | None
    junction_sides: tuple[int, ...]
    crossing: float | None
    dash: tuple[float, float]
    double_line: bool
    edge_lines: tuple[float, ...]
    curvature: float
    # What stands beside the road, as probabilities a lot.
    built: float
    leafy: float
    fenced: float
    shops: float
    bricks: float
    pitched: float
    floors: tuple[int, int]
    curtain_wall: bool
    mullions: bool
    bare_trees: bool
    far_houses: float
    traffic: float
    people: float
    furniture: float
    # Colours.
    asphalt: Colour
    paving: Colour
    kerb: Colour
    grass: Colour
    leaves: Colour
    bark: Colour
    walls: tuple[Colour, ...]
    roofs: tuple[Colour, ...]
    accents: tuple[Colour, ...]
    frame: Colour
    glass: Colour
    metal: Colour
    wood: Colour
    paint: Colour
    centre_paint: Colour
    edge_paint: Colour
    # Light.
    sun_side: int
    shadow: float
    shadow_reach: float
    sun_ground: Colour
    sun_wall: Colour
    wall_left: Colour
    wall_right: Colour
    wall_end: Colour
    zenith: Colour
    haze: Colour
    cloud: Colour
    clouds: float
    cloud_contrast: float
    glare: float
    visibility: float
    # Lens and sensor.
    focal: float  # in image widths
    centre: float  # column of the road's vanishing point, in image widths
    horizon: float  # in image heights, from the top
    eye: float
    gain: float
    gamma: float
    noise: float
    softness: float


def _tint(rng: np.random.Generator, colour: tuple[float, ...], spread: float = 8) -> Colour:
    value = np.array(colour) + rng.normal(0, spread / 2, 3) + rng.normal(0, spread)
    value += 0.25 * (value.mean() - value)  # real streets are duller than one thinks
    return np.clip(value, 4, 250).astype(np.float32)


WALLS = (
    (96, 122, 158),
    (62, 78, 132),
    (120, 160, 190),
    (168, 182, 192),
    (196, 204, 208),
    (130, 140, 150),
    (90, 104, 122),
    (110, 150, 182),
    (70, 92, 118),
    (150, 170, 160),
)
ROOFS = ((60, 62, 70), (52, 70, 120), (80, 84, 92), (50, 58, 84))
ACCENTS = (
    (40, 40, 150),
    (120, 60, 20),
    (40, 90, 30),
    (30, 30, 34),
    (60, 150, 200),
    (190, 190, 190),
    (110, 40, 90),
    (150, 120, 40),
)
LEAVES = ((38, 82, 62), (30, 62, 44), (44, 96, 88), (40, 100, 128), (34, 74, 78))


def draw_style(rng: np.random.Generator) -> Style:
    """Draw a look; the same state of ``rng`` gives the same look."""
    weather = rng.choice(['clear', 'cloudy', 'overcast', 'dull'], p=[0.35, 0.3, 0.25, 0.1])
    sunny = weather in ('clear', 'cloudy')
    town = rng.random()  # 0 suburb, 1 city
    parking = bool(rng.random() < 0.55)
    half = rng.uniform(2.9, 4.4) + (2.1 if parking else 0)
    tile = CHUNK * TILE_CHUNKS
    junction_at = int(rng.integers(1, TILE_CHUNKS - 1)) * CHUNK
    has_junction = rng.random() < 0.7
    sun_side = int(rng.choice([-1, 1]))
    sun = np.array([0.78, 0.95, 1.05]) * rng.uniform(0.5, 0.75) if sunny else np.full(3, 0.1)
    ambient = np.array([0.6, 0.56, 0.52]) if sunny else np.full(3, 0.72)
    along = rng.uniform(0.1, 0.6)

    def lit(share: float) -> Colour:
        return (ambient + sun * share).astype(np.float32)

    yellow = np.array([70, 170, 205], np.float32)
    white = _tint(rng, (205, 208, 208), 8)
    zenith = {
        'clear': (200, 140, 84),
        'cloudy': (196, 150, 104),
        'overcast': (206, 200, 194),
        'dull': (128, 124, 118),
    }[str(weather)]
    haze = {
        'clear': (236, 226, 208),
        'cloudy': (230, 224, 214),
        'overcast': (242, 240, 238),
        'dull': (158, 156, 152),
    }[str(weather)]
    grey = rng.uniform(70, 128)
    return Style(
        side=int(rng.choice([-1, 1])),
        half_road=float(half),
        pavement=float(rng.uniform(1.7, 4.0)),
        parking=parking,
        green_verge=bool(rng.random() < 0.75 - 0.5 * town),
        slabs=bool(rng.random() < 0.5),
        tile=tile,
        junction=(junction_at, junction_at + CHUNK) if has_junction else None,
        junction_sides=((-1,), (1,), (-1, 1))[rng.integers(3)],
        crossing=float(junction_at - 4.5) if rng.random() < 0.45 else None,
        dash=((2.0, 4.0), (3.0, 3.0), (3.0, 9.0), (4.0, 2.0))[rng.integers(4)],
        double_line=bool(rng.random() < 0.15),
        edge_lines=((), (0.2,), (0.2, 0.36), (0.3,))[rng.integers(4)],
        curvature=float(rng.normal(0, 1) / 700),
        built=float(0.45 + 0.5 * town),
        leafy=float(rng.uniform(0.2, 0.9) * (1.15 - 0.5 * town)),
        fenced=float(rng.uniform(0.1, 0.7)),
        shops=float(town * rng.uniform(0.2, 0.9)),
        bricks=float(rng.random()),
        pitched=float(rng.uniform(0.2, 1) * (1.1 - town)),
        floors=(2, 3 + int(3 * town)),
        curtain_wall=bool(rng.random() < 0.15 * (1 + town)),
        mullions=bool(rng.random() < 0.6),
        bare_trees=bool(rng.random() < 0.3),
        far_houses=float(rng.uniform(0.1, 0.8)),
        traffic=float(rng.uniform(0.15, 1)),
        people=float(rng.uniform(0.1, 0.5) + 0.6 * town),
        furniture=float(rng.uniform(0.4, 1)),
        asphalt=_tint(rng, (grey * 1.02, grey, grey * 0.98), 3),
        paving=_tint(rng, (grey + 22, grey + 26, grey + 32), 12),
        kerb=_tint(rng, (grey + 42, grey + 46, grey + 48), 8),
        grass=_tint(rng, ((44, 104, 84), (48, 96, 100), (58, 112, 116))[rng.integers(3)], 8),
        leaves=_tint(rng, LEAVES[rng.integers(len(LEAVES))], 8),
        bark=_tint(rng, (52, 62, 74), 8),
        walls=tuple(_tint(rng, WALLS[i], 12) for i in rng.choice(len(WALLS), 4)),
        roofs=tuple(_tint(rng, ROOFS[i], 8) for i in rng.choice(len(ROOFS), 2)),
        accents=tuple(_tint(rng, ACCENTS[i], 10) for i in rng.choice(len(ACCENTS), 4)),
        frame=_tint(rng, (214, 218, 220) if rng.random() < 0.75 else (60, 64, 70), 8),
        glass=_tint(rng, (92, 80, 68), 14),
        metal=_tint(rng, (128, 128, 126), 16),
        wood=_tint(rng, (72, 104, 138), 16),
        paint=white,
        centre_paint=yellow if rng.random() < 0.25 else white,
        edge_paint=yellow if rng.random() < 0.3 else white,
        sun_side=sun_side,
        shadow=float(rng.uniform(0.35, 0.6)) if sunny else 0.06,
        shadow_reach=float(rng.uniform(-1, 1.1 * half)) if sunny else 0.0,
        sun_ground=lit(0.75),
        sun_wall=lit(0.4),
        wall_left=lit(0.85 if sun_side > 0 else 0.0),
        wall_right=lit(0.85 if sun_side < 0 else 0.0),
        wall_end=lit(along),
        zenith=_tint(rng, zenith, 10),
        haze=_tint(rng, haze, 6),
        cloud=_tint(rng, (244, 242, 240) if weather != 'dull' else (150, 146, 142), 6),
        clouds=float({'clear': -0.9, 'cloudy': 0.25, 'overcast': 1.6, 'dull': 0.9}[str(weather)])
        + float(rng.normal(0, 0.2)),
        cloud_contrast=float(rng.uniform(0.4, 0.9)),
        glare=float(rng.uniform(0.1, 0.5)) if sunny else 0.08,
        visibility=float(rng.uniform(180, 900)),
        focal=float(rng.uniform(0.72, 1.15)),
        centre=float(np.clip(rng.normal(0.5, 0.07), 0.32, 0.68)),
        horizon=float(rng.uniform(0.45, 0.58)),
        eye=float(rng.uniform(1.25, 1.6)),
        gain=float(rng.uniform(0.95, 1.4)) * (0.6 if weather == 'dull' else 1),
        gamma=float(rng.uniform(0.8, 1.15)),
        noise=float(rng.uniform(1, 4)),
        softness=float(rng.uniform(0.4, 0.75)),
    )
