# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What a person looks at: classes in colour, anomalies on top of the camera image."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from seg_uncertainty_ros.classes import ClassInfo

CLASS_OPACITY = 0.4
# The anomaly plane is logarithmic in the false-positive rate: 0.5 is what 1 % of familiar pixels
# reach. Below that nothing is marked, at 0.1 % (0.75) the mark is opaque.
ANOMALY_FROM = 0.5
ANOMALY_OPAQUE = 0.75
MAX_OPACITY = 0.85
# No class of the palettes of CamVid and Cityscapes is orange or bright yellow.
ANOMALY_COLORS = ((255, 110, 0), (255, 230, 40))
"""RGB at ``ANOMALY_FROM`` and at 1."""


def palette_lut(classes: Iterable[ClassInfo]) -> NDArray[np.uint8]:
    """Return the BGR colour of each class id, uint8 256x3; ids without a class are black."""
    lut = np.zeros((256, 3), np.uint8)
    for index, info in enumerate(classes):
        lut[index] = info.color[::-1]
    return lut


def _heat_lut() -> NDArray[np.uint8]:
    value = np.linspace(0.0, 1.0, 256)
    low, high = (np.array(color[::-1], float) for color in ANOMALY_COLORS)
    share = np.clip((value - ANOMALY_FROM) / (1.0 - ANOMALY_FROM), 0.0, 1.0)[:, None]
    return np.rint(low + share * (high - low)).astype(np.uint8)


def _opacity_lut() -> NDArray[np.float32]:
    value = np.linspace(0.0, 1.0, 256)
    rise = np.clip((value - ANOMALY_FROM) / (ANOMALY_OPAQUE - ANOMALY_FROM), 0.0, 1.0)
    return (MAX_OPACITY * rise).astype(np.float32)


_HEAT = _heat_lut()
_OPACITY = _opacity_lut()


def color_mask(mask: NDArray[np.uint8], palette: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the colours (uint8 HxWx3 BGR) of class ids (uint8 HxW); ``palette`` is 256x3 BGR."""
    return cv2.applyColorMap(mask, palette.reshape(256, 1, 3))


def overlay(
    image: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    anomaly: NDArray[np.uint8],
    palette: NDArray[np.uint8],
) -> NDArray[np.uint8]:
    """Return the camera image tinted by class, with anomalies in orange to yellow.

    ``image`` is uint8 HxWx3 BGR; planes of another size are stretched to it. Unlabelled pixels
    (no colour in ``palette``) keep the camera's colours at reduced brightness.
    """
    height, width = image.shape[:2]
    if mask.shape != (height, width):
        mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
    if anomaly.shape != (height, width):
        anomaly = cv2.resize(anomaly, (width, height), interpolation=cv2.INTER_LINEAR)
    tinted = cv2.addWeighted(
        image, 1.0 - CLASS_OPACITY, color_mask(mask, palette), CLASS_OPACITY, 0.0
    )
    opacity = cv2.LUT(anomaly, _OPACITY)
    heat = cv2.applyColorMap(anomaly, _HEAT.reshape(256, 1, 3))
    return cv2.blendLinear(heat, tinted, opacity, 1.0 - opacity)


TYPICAL = 'unknown object: 4.2 % of the road region'
STATE_COLORS = {'OK': (60, 140, 40), 'WARN': (0, 140, 230), 'ERROR': (40, 40, 200)}


def caption(image: NDArray[np.uint8], state: str, messages: Sequence[str]) -> NDArray[np.uint8]:
    """Return a copy of a BGR image with the monitor's state and its messages on top, wrapped."""
    scale = max(0.35, image.shape[1] / 1600)
    step = round(34 * scale)
    (width, _), _ = cv2.getTextSize(TYPICAL, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    columns = max(8, (image.shape[1] - 2 * step) * len(TYPICAL) // width)
    # OpenCV's fonts are ASCII only.
    lines = [
        line
        for message in (state, *messages)
        for line in wrap(message.encode('ascii', 'replace').decode(), columns)
    ]
    result = image.copy()
    bar = result[: step * len(lines) + step // 3]
    bar[:] = bar // 4
    cv2.rectangle(
        result, (0, 0), (step // 2, len(bar)), STATE_COLORS.get(state, (120, 120, 120)), cv2.FILLED
    )
    for row, text in enumerate(lines, start=1):
        cv2.putText(
            result,
            text,
            (step, row * step),
            cv2.FONT_HERSHEY_SIMPLEX,
            scale,
            (255, 255, 255),
            1,
            cv2.LINE_AA,
        )
    return result
