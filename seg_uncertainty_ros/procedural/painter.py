# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A canvas with labels and depth, and the camera: textured quads, sprites, faces, ground."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from math import floor
from typing import TYPE_CHECKING

import cv2
import numpy as np

from seg_uncertainty_ros.classes import UNLABELLED
from seg_uncertainty_ros.procedural.classes import SKY
from seg_uncertainty_ros.procedural.textures import DETAIL_SCALE
from seg_uncertainty_ros.procedural.textures import GROUND_HALF
from seg_uncertainty_ros.procedural.textures import GROUND_SCALE
from seg_uncertainty_ros.procedural.textures import SKYLINE_RISE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from seg_uncertainty_ros.procedural.sprites import Sprite
    from seg_uncertainty_ros.procedural.textures import Ground
    from seg_uncertainty_ros.procedural.textures import Ripmap

NEAR = 0.8  # metres: nothing nearer is drawn
_SHIFT = 4  # fractional bits of polygon corners
_SMALL = 120  # pixels of a bounding box below which a quad is painted in one colour


@dataclass(frozen=True)
class Camera:
    """A pinhole over a road that bends gently; level, so that verticals stay vertical.

    A point is (d, y, s): metres right of the road's axis, above ground, along the road. The
    camera stands at (``offset``, ``eye``, ``along``) and looks along the road, which vanishes at
    column ``centre`` and row ``horizon`` and bends by ``curvature`` z^2 / 2.
    """

    width: int
    height: int
    focal: float
    centre: float
    horizon: float
    eye: float
    offset: float
    along: float
    curvature: float
    yaw: float = 0.0

    def project(
        self, points: NDArray[np.floating]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return pixels (N, 2) and depths (N,) of points (N, 3); depths must be positive."""
        points = np.asarray(points, np.float64)
        depth = points[:, 2] - self.along
        x = points[:, 0] - self.offset + 0.5 * self.curvature * depth * depth
        u = self.centre + self.focal * x / depth
        v = self.horizon + self.focal * (self.eye - points[:, 1]) / depth
        pixels = np.empty((len(points), 2))
        pixels[:, 0], pixels[:, 1] = u, v
        return pixels, depth


class Canvas:
    """What one frame is painted on, far things first."""

    def __init__(self, camera: Camera) -> None:
        """Begin with sky at infinite depth."""
        shape = (camera.height, camera.width)
        self.camera = camera
        self.image = np.zeros((*shape, 3), np.uint8)
        self.labels = np.full(shape, SKY, np.uint8)
        self.unknown = np.zeros(shape, np.uint8)
        self.depth = np.full(shape, np.inf, np.float32)

    def sky(
        self, panorama: NDArray[np.uint8], far: NDArray[np.uint8], far_labels: NDArray[np.uint8]
    ) -> None:
        """Paint the sky and, in front of it, the skyline."""
        camera = self.camera
        last = int(np.clip(np.ceil(camera.horizon) + 1, 0, camera.height))
        columns = (np.arange(camera.width) + 0.5 - camera.centre) / camera.focal + camera.yaw
        rise = (camera.horizon - np.arange(last) - 0.5) / camera.focal
        height, width = panorama.shape[:2]
        x = (columns * width / 2.4 + width / 2).astype(np.float32)
        y = (np.clip(1 - rise, 0, 1) * (height - 1)).astype(np.float32)
        shape = (last, camera.width)
        map_x = np.broadcast_to(x, shape)
        map_y = np.broadcast_to(y[:, None], shape)
        cv2.remap(
            panorama,
            map_x,
            map_y,
            cv2.INTER_LINEAR,
            dst=self.image[:last],
            borderMode=cv2.BORDER_WRAP,
        )
        first = int(np.clip(camera.horizon - SKYLINE_RISE * camera.focal, 0, last))
        if first >= last:
            return
        height, width = far.shape[:2]
        x = np.mod(np.round(columns * width / 2.4).astype(np.int64), width)
        y = np.clip((1 - rise[first:] / SKYLINE_RISE) * height, 0, height - 1).astype(np.int64)
        labels = far_labels[y[:, None], x[None, :]]
        mask = np.where(labels != SKY, 255, 0).astype(np.uint8)
        cv2.copyTo(far[y[:, None], x[None, :]], mask, self.image[first:last])
        np.copyto(self.labels[first:last], labels)
        self.depth[first:last][mask > 0] = 400.0

    def ground(self, ground: Ground) -> None:
        """Paint the ground below the horizon, anchored to the world."""
        camera = self.camera
        first = int(np.clip(np.floor(camera.horizon) + 1, 0, camera.height))
        rows = np.arange(first, camera.height)
        depth = camera.focal * camera.eye / (rows + 0.5 - camera.horizon)
        depth = np.clip(depth, NEAR, 2000)
        columns = np.arange(camera.width) + 0.5 - camera.centre
        d = columns[None, :] * (depth / camera.focal)[:, None] + camera.offset
        d -= 0.5 * camera.curvature * (depth * depth)[:, None]
        d = np.clip(d, -GROUND_HALF + 0.05, GROUND_HALF - 0.05).astype(np.float32)
        s = np.mod(camera.along + depth, ground.period).astype(np.float32)
        # Texels a pixel along the road; across the road is finer by the grazing angle.
        along = depth * depth / (camera.focal * camera.eye) * GROUND_SCALE
        across = depth / camera.focal * GROUND_SCALE
        step = np.floor(np.log2(np.maximum(along, 1)) + 0.3).astype(int)
        image = self.image[first:]
        for value in np.unique(step):
            where = np.flatnonzero(step == value)
            part = slice(where[0], where[-1] + 1)
            level = ground.colour.level(float(across[part].mean()), float(along[part].mean()))
            scale_y = level.shape[0] / ground.period
            scale_x = level.shape[1] / (2 * GROUND_HALF)
            map_x = np.clip((d[part] + GROUND_HALF) * scale_x - 0.5, 0, level.shape[1] - 1)
            map_y = np.repeat((s[part] * scale_y - 0.5)[:, None], camera.width, axis=1)
            cv2.remap(
                level, map_x, map_y, cv2.INTER_LINEAR, dst=image[part], borderMode=cv2.BORDER_WRAP
            )
        near = slice(int(np.searchsorted(-depth, -14.0)), len(depth))
        self._grain(image[near], ground.detail, d[near], (camera.along + depth)[near], depth[near])
        row = np.minimum((s * GROUND_SCALE).astype(np.int64), ground.labels.shape[0] - 1)
        column = ((d + GROUND_HALF) * GROUND_SCALE).astype(np.int64)
        self.labels[first:] = ground.labels[row[:, None], column]
        self.depth[first:] = depth[:, None]

    @staticmethod
    def _grain(
        image: NDArray[np.uint8],
        detail: NDArray[np.uint8],
        d: NDArray[np.float32],
        s: NDArray[np.float64],
        depth: NDArray[np.float64],
    ) -> None:
        if not image.size:
            return
        size = detail.shape[0]
        map_x = np.mod(d * DETAIL_SCALE, size)
        map_y = np.mod(s * DETAIL_SCALE, size).astype(np.float32)[:, None]
        map_y = np.repeat(map_y, image.shape[1], axis=1)
        grain = cv2.remap(detail, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        fade = np.clip((14 - depth) / 8, 0, 1).astype(np.float32)[:, None]
        grain = (grain.astype(np.float32) - 128) * fade + 128
        cv2.multiply(image, cv2.merge([grain.astype(np.uint8)] * 3), dst=image, scale=1 / 128)

    def quad(
        self,
        texture: Ripmap,
        corners: NDArray[np.floating],
        label: int,
        *,
        span: tuple[float, float] = (0.0, 1.0),
        unknown: bool = False,
    ) -> None:
        """Paint a textured quad; corners (4, 3): top left, top right, bottom right, bottom left.

        ``span`` is the part of the texture's width that it shows. A fourth channel is alpha for
        the picture only: the label covers the whole quad.
        """
        pixels, depth = self.camera.project(corners)
        box = self._box(pixels)
        if box is None:
            return
        left, top, right, bottom = box
        if (right - left) * (bottom - top) < _SMALL:
            self._speck(texture, pixels, depth, label, unknown)
            return
        sides = np.sqrt(((pixels - np.roll(pixels, -1, axis=0)) ** 2).sum(axis=1))
        size_x, size_y = max(sides[0], sides[2], 1), max(sides[1], sides[3], 1)
        height, width = texture.base.shape[:2]
        level = texture.level((span[1] - span[0]) * width / size_x, height / size_y)
        height, width = level.shape[:2]
        source = np.float32(
            [
                [span[0] * width, 0],
                [span[1] * width, 0],
                [span[1] * width, height],
                [span[0] * width, height],
            ]
        )
        target = (pixels - (left, top)).astype(np.float32)
        matrix = cv2.getPerspectiveTransform(source - 0.5, target - 0.5)
        size = (right - left, bottom - top)
        warped = cv2.warpPerspective(
            level, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        mask = np.zeros((size[1], size[0]), np.uint8)
        cv2.fillConvexPoly(mask, _fixed(target), 255, cv2.LINE_8, _SHIFT)
        part = np.s_[top:bottom, left:right]
        if warped.ndim == 3 and warped.shape[2] == 4:
            alpha = cv2.min(warped[..., 3], mask)
            _blend(self.image[part], warped[..., :3], alpha)
        else:
            cv2.copyTo(warped, mask, self.image[part])
        self._stamp(part, mask, label, unknown)
        # 1/z is linear in the picture over any plane: three corners give it.
        frame = np.column_stack([pixels[:3] - 0.5, np.ones(3)])
        if abs(np.linalg.det(frame)) < 1e-3:
            frame[:, :2] += 1e-2 * np.eye(3)[:, :2]
        plane = np.linalg.solve(frame, 1 / depth[:3])
        columns, rows = np.arange(left, right), np.arange(top, bottom)[:, None]
        inverse = plane[0] * columns + (plane[1] * rows + plane[2])
        near, far = depth.min(), depth.max()
        field = (1 / np.clip(inverse, 1 / far, 1 / near)).astype(np.float32)
        cv2.copyTo(field, mask, self.depth[part])

    def _speck(
        self,
        texture: Ripmap,
        pixels: NDArray[np.float64],
        depth: NDArray[np.float64],
        label: int,
        unknown: bool,
    ) -> None:
        """Paint a quad of a few pixels in its mean colour."""
        colour = texture.mean
        where = _fixed(pixels)
        cv2.fillConvexPoly(self.image, where, colour, cv2.LINE_8, _SHIFT)
        value = UNLABELLED if unknown else label
        cv2.fillConvexPoly(self.labels, where, value, cv2.LINE_8, _SHIFT)
        cv2.fillConvexPoly(self.unknown, where, 255 * unknown, cv2.LINE_8, _SHIFT)
        cv2.fillConvexPoly(self.depth, where, float(depth.mean()), cv2.LINE_8, _SHIFT)

    def sprite(
        self,
        sprite: Sprite,
        place: tuple[float, float, float],
        label: int,
        *,
        mirror: bool = False,
        scale: float = 1.0,
        unknown: bool = False,
    ) -> None:
        """Paint a cut-out whose middle bottom stands at ``place`` (d, y, s)."""
        pixels, depth = self.camera.project(np.array([place]))
        z = float(depth[0])
        tall = sprite.height * scale * self.camera.focal / z
        wide = sprite.width * scale * self.camera.focal / z
        u, v = pixels[0]
        corners = np.array([[u - wide / 2, v - tall], [u + wide / 2, v]])
        box = self._box(corners)
        if box is None or tall < 1.5:
            return
        left, top, right, bottom = box
        rows = len(sprite.alpha)
        index = int(np.clip(np.log2(max(rows / tall, 1)) + 0.35, 0, len(sprite.levels) - 1))
        image, solid = sprite.levels[index]
        scale_x, scale_y = wide / image.shape[1], tall / image.shape[0]
        x, y = u - wide / 2 - left, v - tall - top
        matrix = np.float32(
            [[scale_x, 0, x + scale_x / 2 - 0.5], [0, scale_y, y + scale_y / 2 - 0.5]]
        )
        if mirror:
            matrix[0] = [-scale_x, 0, x + wide - scale_x / 2 - 0.5]
        size = (right - left, bottom - top)
        warped = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR)
        mask = cv2.warpAffine(solid, matrix, size, flags=cv2.INTER_LINEAR)
        mask = cv2.compare(mask, 127, cv2.CMP_GT)
        part = np.s_[top:bottom, left:right]
        hidden = cv2.merge([cv2.bitwise_not(warped[..., 3])] * 3)
        target = self.image[part]
        faded = cv2.multiply(target, hidden, scale=1 / 255)
        cv2.add(faded, warped[..., :3], dst=target)
        self._stamp(part, mask, label, unknown)
        np.copyto(self.depth[part], np.float32(z), where=mask > 0)

    def faces(
        self,
        polygons: Sequence[NDArray[np.floating]],
        colours: Sequence[tuple[float, float, float]],
    ) -> None:
        """Paint flat faces, given in pixels in painting order, without a label."""
        fixed = _fixed(np.concatenate(polygons))
        start = 0
        for pixels, colour in zip(polygons, colours, strict=True):
            where = fixed[start : start + len(pixels)]
            start += len(pixels)
            cv2.fillConvexPoly(self.image, where, colour, cv2.LINE_AA, _SHIFT)

    def hulls(self, solids: Sequence[NDArray[np.floating]], label: int, depth: float) -> None:
        """Give ``label`` to the convex hulls of the pixels of ``solids``."""
        for pixels in solids:
            where = _fixed(cv2.convexHull(pixels.astype(np.float32))[:, 0])
            cv2.fillConvexPoly(self.labels, where, label, cv2.LINE_8, _SHIFT)
            cv2.fillConvexPoly(self.depth, where, depth, cv2.LINE_8, _SHIFT)
            cv2.fillConvexPoly(self.unknown, where, 0, cv2.LINE_8, _SHIFT)

    def gloss(self, pixels: NDArray[np.float64], texture: NDArray[np.uint8], depth: float) -> None:
        """Modulate what was painted at exactly ``depth`` by ``texture`` (128 = 1) over a box."""
        box = self._box(pixels)
        if box is None:
            return
        left, top, right, bottom = box
        low, high = pixels.min(axis=0), pixels.max(axis=0)
        scale = (high - low) / texture.shape[1::-1]
        matrix = np.array([[scale[0], 0, low[0] - left], [0, scale[1], low[1] - top]])
        size = (right - left, bottom - top)
        part = np.s_[top:bottom, left:right]
        shade = cv2.warpAffine(texture, matrix, size, borderMode=cv2.BORDER_REPLICATE)
        shade[self.depth[part] != np.float32(depth)] = 128
        cv2.multiply(self.image[part], cv2.merge([shade] * 3), dst=self.image[part], scale=1 / 128)

    def shadow(
        self, corners: NDArray[np.floating], blot: NDArray[np.uint8], strength: float
    ) -> None:
        """Darken the ground quad ``corners`` (4, 3) by the soft ``blot`` (0 to 255)."""
        pixels, _ = self.camera.project(corners)
        box = self._box(pixels)
        if box is None or box[3] - box[1] < 2:
            return
        left, top, right, bottom = box
        height, width = blot.shape
        source = np.float32([[0, 0], [width, 0], [width, height], [0, height]]) - 0.5
        target = (pixels - (left, top) - 0.5).astype(np.float32)
        matrix = cv2.getPerspectiveTransform(source, target)
        cover = cv2.warpPerspective(blot, matrix, (right - left, bottom - top))
        keep = cv2.convertScaleAbs(cover, alpha=-strength, beta=255)
        # convertScaleAbs takes the magnitude, which here is never negative inside.
        part = self.image[top:bottom, left:right]
        cv2.multiply(part, cv2.merge([keep] * 3), dst=part, scale=1 / 255)

    def _box(self, pixels: NDArray[np.float64]) -> tuple[int, int, int, int] | None:
        (left, top), (right, bottom) = pixels.min(axis=0), pixels.max(axis=0)
        left, top = max(0, floor(left)), max(0, floor(top))
        right = min(self.camera.width, ceil(right) + 1)
        bottom = min(self.camera.height, ceil(bottom) + 1)
        return None if right <= left or bottom <= top else (left, top, right, bottom)

    def _stamp(
        self, part: tuple[slice, slice], mask: NDArray[np.uint8], label: int, unknown: bool
    ) -> None:
        where = mask > 0
        np.copyto(self.labels[part], np.uint8(UNLABELLED if unknown else label), where=where)
        np.copyto(self.unknown[part], np.uint8(255 * unknown), where=where)


def _fixed(pixels: NDArray[np.floating]) -> NDArray[np.int32]:
    # Pixel centres have integer coordinates in OpenCV, halves here.
    return np.round((np.clip(pixels, -30000, 30000) - 0.5) * (1 << _SHIFT)).astype(np.int32)


def _blend(target: NDArray[np.uint8], colour: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> None:
    weight = alpha.astype(np.float32) / 255
    target[:] = cv2.blendLinear(
        np.ascontiguousarray(colour), np.ascontiguousarray(target), weight, 1 - weight
    )
