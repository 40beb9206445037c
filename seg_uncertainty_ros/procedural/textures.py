# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Procedural textures: noise, ground, facades, roofs, fences, sky and skyline."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import cv2
import numpy as np

from seg_uncertainty_ros.procedural.classes import BUILDING
from seg_uncertainty_ros.procedural.classes import PAVEMENT
from seg_uncertainty_ros.procedural.classes import ROAD
from seg_uncertainty_ros.procedural.classes import SKY
from seg_uncertainty_ros.procedural.classes import TREE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from seg_uncertainty_ros.procedural.style import Colour
    from seg_uncertainty_ros.procedural.style import Style

    Image = NDArray[np.uint8]
    Mask = NDArray[np.bool_]
    Plane = NDArray[np.float32]

GROUND_SCALE = 24  # texels a metre of the ground texture
GROUND_HALF = 13.0  # metres of ground texture to either side of the road's axis
DETAIL_SCALE = 110  # texels a metre of the fine asphalt grain
FACADE_SCALE = 36  # texels a metre of facades
SKYLINE_RISE = 0.16  # tangent of the elevation that the skyline reaches at most


def value_noise(
    rng: np.random.Generator, height: int, width: int, cell: float, stretch: float = 1.0
) -> Plane:
    """Return periodic value noise, float32 HxW with mean about 0 and deviation about 1.

    Cells are ``cell`` wide and ``stretch`` times as high.
    """
    if min(cell, cell * stretch) >= 12:  # smooth: half the resolution does
        half = value_noise(rng, -(-height // 2), -(-width // 2), cell / 2, stretch)
        return cv2.resize(half, (width, height), interpolation=cv2.INTER_LINEAR)
    rows = max(2, round(height / cell / stretch))
    columns = max(2, round(width / cell))
    grid = rng.standard_normal((rows, columns), dtype=np.float32)
    if rows >= height and columns >= width:
        return grid[:height, :width]
    # Two cells of wrapped border keep cubic interpolation periodic.
    grid = cv2.copyMakeBorder(grid, 2, 2, 2, 2, cv2.BORDER_WRAP)
    scale_x, scale_y = columns / width, rows / height
    matrix = np.array([[scale_x, 0, 1.5 + scale_x / 2], [0, scale_y, 1.5 + scale_y / 2]])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(grid, matrix, (width, height), flags=flags)


def fractal_noise(
    rng: np.random.Generator, height: int, width: int, cell: float, octaves: int = 4
) -> Plane:
    """Return ``octaves`` of value noise, each half as large and half as strong as the last."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        total += value_noise(rng, height, width, max(1.0, cell / 2**octave)) / 2**octave
    return total


def to_image(plane: NDArray[np.floating]) -> Image:
    """Round and clip to uint8."""
    return np.clip(plane + 0.5, 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Ripmap:
    """A texture with every combination of halvings in x and in y, against aliasing."""

    base: Image

    @cached_property
    def _levels(self) -> dict[tuple[int, int], Image]:
        return {(0, 0): self.base}

    @cached_property
    def mean(self) -> tuple[float, float, float]:
        """Return the mean colour, BGR."""
        blue, green, red = cv2.mean(self.base)[:3]
        return blue, green, red

    def level(self, shrink_x: float, shrink_y: float) -> Image:
        """Return the level for that many texels a pixel in x and in y."""
        height, width = self.base.shape[:2]
        x = min(max(0, int(np.log2(max(shrink_x, 1)) + 0.3)), int(np.log2(width)) - 1)
        y = min(max(0, int(np.log2(max(shrink_y, 1)) + 0.3)), int(np.log2(height)) - 1)
        if (x, y) not in self._levels:
            size = (max(2, width >> x), max(2, height >> y))
            self._levels[x, y] = cv2.resize(self.base, size, interpolation=cv2.INTER_AREA)
        return self._levels[x, y]


@dataclass(frozen=True)
class Ground:
    """The ground, periodic along the road: ``colour`` BGR and ``labels``, rows along the road.

    Row 0 is s = 0 and column 0 is d = -GROUND_HALF; GROUND_SCALE texels a metre. ``detail`` is
    a grain of mean 128 with DETAIL_SCALE texels a metre.
    """

    colour: Ripmap
    labels: Image
    detail: Image
    period: float


@dataclass(frozen=True)
class _Plan:
    """The ground from above: masks rows x columns, s (rows, 1) and d (1, columns) in metres."""

    s: Plane
    d: Plane
    road: Mask
    junction: Mask
    pavement: Mask
    verge: Mask
    kerb: Mask


def _plan(style: Style) -> _Plan:
    rows = round(style.tile * GROUND_SCALE)
    columns = round(2 * GROUND_HALF * GROUND_SCALE)
    s = ((np.arange(rows, dtype=np.float32) + 0.5) / GROUND_SCALE)[:, None]
    d = ((np.arange(columns, dtype=np.float32) + 0.5) / GROUND_SCALE - GROUND_HALF)[None, :]
    half, distance = style.half_road, np.abs(d)
    # Where a side street meets the road, its mouth has rounded corners.
    junction = np.zeros((rows, columns), bool)
    if style.junction is not None:
        start, end = style.junction
        for side in style.junction_sides:
            out = side * d - half
            mouth = np.clip(1.5 - out, 0, 1.5)
            junction |= (out >= 0) & (s > start + 2.5 - mouth) & (s < end - 2.5 + mouth)
    road = (distance < half) | junction
    pavement = ~road & (distance < half + style.pavement)
    kerb = ~road & (distance < half + 0.16)
    return _Plan(s, d, road, junction, pavement, ~road & ~pavement, kerb)


def ground(rng: np.random.Generator, style: Style) -> Ground:
    """Return road with markings, kerb, pavement, verge, junction and soft shadows."""
    plan = _plan(style)
    rows, columns = plan.road.shape
    wear = fractal_noise(rng, rows, columns, 20, 3)
    materials = np.zeros((rows, columns), np.uint8)
    materials[plan.pavement] = 1
    materials[plan.verge] = 2 if style.green_verge else 1
    materials[plan.kerb] = 3
    palette = np.stack([style.asphalt, style.paving, style.grass, style.kerb])
    colour = palette[materials]
    _markings(colour, plan, wear, style)
    shade = _unevenness(rng, plan, style)
    shade *= 1 - style.shadow * _shadows(rng, plan.s, plan.d, style, wear)
    colour *= shade[..., None]
    colour *= style.sun_ground
    labels = np.full((rows, columns), ROAD, np.uint8)
    labels[plan.pavement] = PAVEMENT
    labels[plan.verge] = TREE if style.green_verge else PAVEMENT
    detail = 128 + 11 * rng.standard_normal((512, 512), dtype=np.float32)
    detail = cv2.GaussianBlur(detail, (3, 3), 0.7, borderType=cv2.BORDER_REFLECT)
    detail += 2.5 * value_noise(rng, 512, 512, 6)
    return Ground(Ripmap(to_image(colour)), labels, to_image(detail), style.tile)


def _unevenness(rng: np.random.Generator, plan: _Plan, style: Style) -> Plane:
    """Return the brightness of the ground about 1: grain, tyre tracks, slabs, repairs, cracks."""
    rows, columns = plan.road.shape
    s, d, half = plan.s, plan.d, style.half_road
    coarse = fractal_noise(rng, rows, columns, 90, 3)
    fine = value_noise(rng, rows, columns, 2)
    shade = 0.018 * value_noise(rng, rows, columns, 5, 40)
    shade += 0.018 * value_noise(rng, rows, columns, 14, 30)
    shade += 1 + 0.028 * coarse + 0.03 * fine
    lanes = np.abs(np.abs(d) - half / 2) / (half / 2)
    tracks = (1 - 0.06 * np.exp(-(((lanes - 0.42) / 0.18) ** 2))).astype(np.float32)
    np.multiply(shade, tracks, out=shade, where=plan.road)
    if style.slabs:
        slab = rng.normal(1, 0.06, (rows // 14 + 2, columns // 14 + 2)).astype(np.float32)
        slab = cv2.resize(slab, (columns, rows), interpolation=cv2.INTER_NEAREST)
        slab[(np.mod(s, 0.6) < 0.05) | (np.mod(d, 0.6) < 0.05)] *= 0.8
        np.multiply(shade, slab, out=shade, where=plan.pavement & ~plan.kerb)
    if style.green_verge:
        np.copyto(shade, 1 + 0.14 * coarse + 0.22 * fine, where=plan.verge)
    shade[plan.road & ~plan.junction & (np.abs(d) > half - 0.25)] *= 0.82
    for _ in range(rng.integers(2, 7)):
        top, left = rng.uniform(0, style.tile - 8), rng.uniform(-half, half - 1)
        bottom, right = top + rng.uniform(1, 8), left + rng.uniform(0.5, 2.2)
        patch = plan.road & (s > top) & (s < bottom) & (d > left) & (d < right)
        shade[patch] *= rng.uniform(0.78, 1.12)
    crack = np.abs(value_noise(rng, rows, columns, 70)) < 0.012
    shade[crack & plan.road & (coarse > 0.3)] *= 0.72
    for _ in range(rng.integers(1, 4)):
        x, y = rng.uniform(-half, half), rng.uniform(0, style.tile)
        shade[plan.road & ((d - x) ** 2 + (s - y) ** 2 < 0.09)] *= 0.6
    return shade


def _markings(colour: Plane, plan: _Plan, wear: Plane, style: Style) -> None:
    s, d, half = plan.s, plan.d, style.half_road
    distance = np.abs(d)

    def mark(mask: Mask, paint: Colour) -> None:
        cover = np.clip(0.85 + 0.35 * wear[mask], 0, 1)[:, None] * 0.9
        colour[mask] = colour[mask] * (1 - cover) + paint * cover

    plain = plan.road & ~plan.junction
    if style.junction is not None:
        plain &= ~((s > style.junction[0]) & (s < style.junction[1]))
    dash, gap = style.dash
    centre = (distance < 0.06) & (np.mod(s, dash + gap) < dash)
    if style.double_line:
        centre = (distance > 0.08) & (distance < 0.18)
    mark(plain & centre, style.centre_paint)
    for inset in style.edge_lines:
        mark(plain & (np.abs(distance - (half - inset)) < 0.05), style.edge_paint)
    if style.parking:
        bay = (np.abs(distance - (half - 2.1)) < 0.05) & (np.mod(s, 2.0) < 1.0)
        mark(plain & bay, style.paint)
    if style.crossing is not None:
        bars = (s > style.crossing) & (s < style.crossing + 3) & (np.mod(d, 1.0) < 0.5)
        mark((distance < half - 0.2) & bars, style.paint)
        stop = (s > style.crossing - 1.5) & (s < style.crossing - 1.2)
        lane = (np.sign(d) == style.side) & (distance < half)
        mark(stop & lane, style.paint)


def _shadows(rng: np.random.Generator, s: Plane, d: Plane, style: Style, noise: Plane) -> Plane:
    """Return the soft shadows of houses and trees beside the road, 0 lit to 1 shaded."""
    side = -style.sun_side
    reach = style.half_road + style.pavement - style.shadow_reach
    knots = rng.uniform(-1.5, 1.5, max(2, int(style.tile // 12))).astype(np.float32)
    steps = np.repeat(knots, int(np.ceil(len(s) / len(knots))))[: len(s)][:, None]
    steps = cv2.blur(steps, (1, GROUND_SCALE), borderType=cv2.BORDER_REFLECT)
    # The sun stands at sun_side: houses there throw their shadow across towards the other side.
    depth = -side * d - reach + steps
    houses = np.clip(depth / 0.25 + 0.5, 0, 1)
    crowns = np.zeros_like(houses)
    for _ in range(rng.integers(0, 6)):
        at, out = rng.uniform(0, style.tile), rng.uniform(-1, 1) * style.half_road
        size = rng.uniform(1.2, 3)
        apart = ((s - at) / size / 1.6) ** 2 + ((d - out) / size) ** 2
        crowns = np.maximum(crowns, np.clip((1 - apart + 0.5 * noise) * 2, 0, 0.8))
    return np.maximum(houses, crowns).astype(np.float32)


def _window(
    rng: np.random.Generator, wall: Plane, box: tuple[int, int, int, int], style: Style
) -> None:
    top, left, bottom, right = box
    if bottom - top < 4 or right - left < 4:
        return
    frame = style.frame * rng.uniform(0.9, 1.05)
    wall[max(0, top - 2) : bottom + 3, max(0, left - 2) : right + 2] = frame
    height, width = bottom - top, right - left
    glass = style.glass * rng.uniform(0.5, 1.25)
    ramp = np.linspace(1.35, 0.7, height, dtype=np.float32)[:, None, None]
    pane = glass * ramp * np.ones((1, width, 1), np.float32)
    if rng.random() < 0.45:  # a curtain or a blind
        pane[: int(height * rng.uniform(0.2, 0.9))] *= 0.4
        pane[: int(height * rng.uniform(0.2, 0.7))] += style.frame * 0.35
    if rng.random() < 0.5:  # a reflection
        pane[:, int(width * rng.uniform(0, 0.6)) :] *= rng.uniform(1.1, 1.5)
    wall[top:bottom, left:right] = pane
    if style.mullions:
        wall[top:bottom, (left + right) // 2 - 1 : (left + right) // 2 + 1] = frame
        wall[top + height // 2 - 1 : top + height // 2 + 1, left:right] = frame
    wall[bottom + 1 : bottom + 4, max(0, left - 3) : right + 3] = frame * 0.85
    wall[bottom + 4 : bottom + 6, max(0, left - 3) : right + 3] *= 0.6


def facade(
    rng: np.random.Generator, style: Style, width_m: float, floors: int, shop: bool
) -> Plane:
    """Return an unlit front of ``floors`` floors of 3 m over a ground floor of 3.6 m, float32."""
    height = round((3.6 + 3 * (floors - 1)) * FACADE_SCALE)
    width = round(width_m * FACADE_SCALE)
    wall = np.empty((height, width, 3), np.float32)
    cuts = [0, width]
    if rng.random() < 0.6:
        cuts = [0, round(width * rng.uniform(0.35, 0.65)), width]
    for left, right in pairwise(cuts):
        wall[:, left:right] = style.walls[rng.integers(len(style.walls))] * rng.uniform(0.85, 1.1)
    if rng.random() < style.bricks:
        row = np.arange(height)[:, None]
        column = np.arange(width)[None, :] + 5 * (row // 4 % 2)
        brick = rng.normal(1, 0.1, (height // 4 + 2, width // 10 + 2)).astype(np.float32)
        wall *= brick[row // 4, column // 10][..., None]
        wall[np.broadcast_to((row % 4 == 0) | (column % 10 == 0), (height, width))] *= 1.12
    wall *= (1 + 0.07 * fractal_noise(rng, height, width, 80, 4))[..., None]
    stain = np.linspace(1.04, 0.92, height, dtype=np.float32)
    wall *= stain[:, None, None]
    storey = 3 * FACADE_SCALE
    ground_row = height - round(3.6 * FACADE_SCALE)
    for left, right in pairwise(cuts):
        count = max(1, round((right - left) / FACADE_SCALE / rng.uniform(1.8, 3.2)))
        pitch = (right - left) / count
        broad = rng.uniform(0.35, 0.65) if not style.curtain_wall else 0.9
        tall = rng.uniform(0.45, 0.6) if not style.curtain_wall else 0.72
        for floor in range(floors - 1):
            top = ground_row - (floor + 1) * storey + round(storey * 0.18)
            for column in range(count):
                start = left + round(pitch * (column + (1 - broad) / 2))
                box = (top, start, top + round(storey * tall), start + round(pitch * broad))
                _window(rng, wall, box, style)
        _ground_floor(rng, wall, (ground_row, left, right), style, shop)
        wall[max(0, ground_row - 5) : ground_row, left:right] *= 0.8
        if left:
            wall[:, left - 2 : left + 2] *= 0.75
    wall[:6] *= 0.7
    wall[6:10] *= 1.15
    wall[-8:] *= 0.65
    return wall


def _ground_floor(
    rng: np.random.Generator,
    wall: Plane,
    span: tuple[int, int, int],
    style: Style,
    shop: bool,
) -> None:
    top, left, right = span
    bottom = wall.shape[0]
    scale = FACADE_SCALE
    if shop:
        trim = style.accents[rng.integers(len(style.accents))]
        wall[top:bottom, left + 4 : right - 4] = trim * 0.8
        board = slice(top + scale // 4, top + scale)
        wall[board, left + 4 : right - 4] = trim
        # Rough strokes for the name over the shop.
        text = left + scale
        ink = style.frame if trim.mean() < 120 else trim * 0.25
        while text < right - 1.5 * scale:
            step = int(rng.integers(scale // 6, scale // 3))
            if rng.random() < 0.8:
                wall[top + scale // 2 : top + scale - 6, text : text + step - 2] = ink
            text += step
        count = max(1, round((right - left) / scale / 2.2))
        pitch = (right - left - 10) / count
        for column in range(count):
            start = left + 8 + round(pitch * column)
            box = (top + scale + 5, start, bottom - scale // 2, start + round(pitch) - 5)
            _window(rng, wall, box, style)
            for _ in range(4):  # goods behind the glass
                y = int(rng.integers(box[0], max(box[0] + 1, box[2] - 12)))
                x = int(rng.integers(start, max(start + 1, box[3] - 10)))
                wall[y : y + 10, x : min(x + 8, box[3])] *= rng.uniform(0.6, 1.8, 3)
        return
    door = left + round((right - left) * rng.uniform(0.1, 0.75))
    accent = style.accents[rng.integers(len(style.accents))]
    wall[bottom - round(2.3 * scale) : bottom, door - 3 : door + scale + 3] = style.frame
    wall[bottom - round(2.2 * scale) : bottom, door : door + scale] = accent
    for fraction in (0.2, 0.55, 0.85):
        start = left + round((right - left) * fraction) - scale // 2
        if start + scale < door - 6 or (start > door + scale + 6 and start + scale < right - 4):
            box = (bottom - round(2.3 * scale), start, bottom - round(0.9 * scale), start + scale)
            _window(rng, wall, box, style)


def plain_wall(rng: np.random.Generator, style: Style) -> Plane:
    """Return an unlit end wall, 256x256, with few windows."""
    wall = np.empty((256, 256, 3), np.float32)
    wall[:] = style.walls[rng.integers(len(style.walls))] * rng.uniform(0.8, 1)
    wall *= (1 + 0.09 * fractal_noise(rng, 256, 256, 70, 4))[..., None]
    if rng.random() < 0.6:
        for _ in range(rng.integers(1, 4)):
            top, left = (int(value) for value in rng.integers(20, 180, 2))
            _window(rng, wall, (top, left, top + 28, left + 22), style)
    return wall


def roof(rng: np.random.Generator, style: Style) -> Plane:
    """Return an unlit tiled roof, 128x256."""
    base = style.roofs[rng.integers(len(style.roofs))]
    tiles = base * (1 + 0.1 * fractal_noise(rng, 128, 256, 40, 4))[..., None]
    tiles[::5] *= 0.75
    return tiles.astype(np.float32)


def hedge(rng: np.random.Generator, style: Style) -> Plane:
    """Return the unlit leaves of a hedge, 128x512."""
    shade = 1 + 0.28 * fractal_noise(rng, 128, 512, 12, 3)
    shade *= np.linspace(1.15, 0.6, 128, dtype=np.float32)[:, None]
    return (style.leaves * np.clip(shade, 0.2, 2)[..., None]).astype(np.float32)


def fence(rng: np.random.Generator, style: Style) -> NDArray[np.uint8]:
    """Return a 12 m fence as BGRA, 96x768: railings, boards or mesh."""
    height, width = 96, 768
    kind = rng.integers(3)
    alpha = np.zeros((height, width), np.uint8)
    colour = np.empty((height, width, 3), np.float32)
    column = np.arange(width)
    if kind == 0:  # railings
        alpha[:, column % 12 < 4] = 255
        alpha[6:12] = 255
        alpha[-16:-9] = 255
        alpha[:, column % 128 < 8] = 255
        colour[:] = style.metal * rng.uniform(0.25, 0.8)
    elif kind == 1:  # boards
        alpha[:] = 255
        alpha[:6, column % 18 < 3] = 0
        board = rng.normal(1, 0.09, width // 18 + 1).astype(np.float32)[column // 18]
        colour[:] = style.wood * board[None, :, None]
        colour[:, column % 18 < 2] *= 0.55
        colour[20:23] *= 0.8
    else:  # mesh between posts
        row = np.arange(height)[:, None]
        mesh = ((row + column) % 10 < 2) | ((row - column) % 10 < 2)
        alpha[mesh] = 150
        alpha[:, column % 160 < 7] = 255
        alpha[:5] = 255
        colour[:] = style.metal * rng.uniform(0.4, 0.9)
    colour *= (1 + 0.1 * fractal_noise(rng, height, width, 30, 3))[..., None]
    colour *= np.linspace(1.1, 0.75, height, dtype=np.float32)[:, None, None]
    return np.dstack([to_image(colour), alpha])


def sky(rng: np.random.Generator, style: Style) -> Image:
    """Return a panorama of the sky, 256x1024: the horizon is the last row, rise 1 the first."""
    rows = np.linspace(1, 0, 256, dtype=np.float32)[:, None]
    # Clouds flatten towards the horizon, as a layer at constant height does.
    bands = fractal_noise(rng, 512, 1024, 170, 6)
    height = np.clip(1 / (rows + 0.22), 0, 4.5)
    sample_y = np.broadcast_to(height * 260, (256, 1024)).astype(np.float32)
    sample_x = np.broadcast_to(np.arange(1024, dtype=np.float32), (256, 1024))
    cover = cv2.remap(bands, sample_x, sample_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    cover = np.clip((cover + style.clouds) * style.cloud_contrast, 0, 1)[..., None]
    dark = np.clip(
        1.05 - 0.25 * cover + 0.1 * value_noise(rng, 256, 1024, 40)[..., None], 0.5, 1.3
    )
    blue = style.zenith * rows[..., None] ** 0.6 + style.haze * (1 - rows[..., None] ** 0.6)
    image = blue * (1 - cover) + style.cloud * dark * cover
    sun = np.exp(-((np.arange(1024, dtype=np.float32) - 512 - 380 * style.sun_side) ** 2) / 9e4)
    image *= 1 + style.glare * sun[None, :, None] * (1 - 0.5 * rows[..., None])
    return to_image(image)


def skyline(rng: np.random.Generator, style: Style) -> tuple[Image, Image]:
    """Return far trees and houses, BGR and labels 96x2048 over rises 0 to SKYLINE_RISE."""
    height, width = 96, 2048
    trees = 17 + 9 * fractal_noise(rng, 1, width, 90, 5)[0]
    houses = np.zeros(width, np.float32)
    tint = np.ones((width, 3), np.float32)
    start = 0
    while start < width:
        end = start + int(rng.integers(20, 90))
        if rng.random() < style.far_houses:
            houses[start:end] = rng.uniform(10, 46)
            tint[start:end] = style.walls[rng.integers(len(style.walls))]
        start = end
    row = np.arange(height, dtype=np.float32)[::-1][:, None]
    labels = np.full((height, width), SKY, np.uint8)
    image = np.zeros((height, width, 3), np.float32)
    shade = np.clip(0.75 + 0.25 * fractal_noise(rng, height, width, 8, 3), 0.2, 1.5)
    built = row < houses[None, :]
    labels[built] = BUILDING
    dots = (np.arange(height)[:, None] % 7 < 3) & (np.arange(width)[None, :] % 8 < 4)
    image[built] = (tint[None] * np.where(dots, 0.55, 0.9)[..., None])[built]
    leafy = (row < trees[None, :]) & ~(built & (houses[None, :] > trees[None, :] + 6))
    labels[leafy] = TREE
    image[leafy] = (style.leaves * shade[..., None])[leafy]
    return to_image(image * style.sun_wall), labels
