# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Segments over time: who is who from frame to frame, since when, how steadily."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# How much of an error of the prediction is taken for a change of velocity.
GAIN = 0.5
# DIoU of two boxes of one size that touch side by side.
MIN_AFFINITY = -0.2


@dataclass(frozen=True)
class Track:
    """An object over frames.

    box: left, top, right, bottom in pixels when last seen; velocity: of these, pixels a second;
    first_ns, last_ns: stamps when first and last seen; hits: frames that showed it; frames: all
    frames from the first that showed it until now.
    """

    id: int
    box: NDArray[np.float64]
    velocity: NDArray[np.float64]
    first_ns: int
    last_ns: int
    hits: int = 1
    frames: int = 1

    @property
    def age_s(self) -> float:
        """Seconds between the first and the last frame that showed it."""
        return (self.last_ns - self.first_ns) / 1e9

    @property
    def persistence(self) -> float:
        """Share of the frames that showed it, in (0, 1]."""
        return self.hits / self.frames

    def seen(
        self, box: NDArray[np.float64], predicted: NDArray[np.float64], stamp_ns: int
    ) -> Track:
        """Return the track with one more frame that shows it."""
        seconds = (stamp_ns - self.last_ns) / 1e9
        velocity = self.velocity
        if seconds > 0:
            # The first difference is all that is known of the velocity.
            gain = GAIN if self.hits > 1 else 1.0
            velocity = velocity + (gain / seconds) * (box - predicted)
        frames = self.hits + 1, self.frames + 1
        return Track(self.id, box, velocity, self.first_ns, stamp_ns, *frames)


class Tracker:
    """Tracks boxes: greedy matching with predicted boxes by their distance IoU.

    A track that was not seen for more than ``max_gap_s`` ends, but not before the next frame:
    slow cameras have objects too. Beyond ``max_tracks`` those end that were not seen for longest.
    Identities are never given twice.
    """

    def __init__(self, max_gap_s: float = 0.5, max_tracks: int = 64) -> None:
        self.max_gap_s = max_gap_s
        self.max_tracks = max_tracks
        self._next = 1
        self._stamp_ns = 0
        self._tracks: list[Track] = []

    @property
    def tracks(self) -> tuple[Track, ...]:
        """The tracks that are alive."""
        return tuple(self._tracks)

    def reset(self) -> None:
        """Forget every track: time jumped."""
        self._tracks = []

    def update(self, boxes: NDArray[np.float64], stamp_ns: int) -> tuple[Track, ...]:
        """Take the boxes of a frame, (N, 4): left, top, right, bottom; return their tracks.

        Stamps must not go back.
        """
        oldest_ns = min(stamp_ns - round(self.max_gap_s * 1e9), self._stamp_ns)
        self._stamp_ns = stamp_ns
        known = [track for track in self._tracks if track.last_ns >= oldest_ns]
        pairs = {}
        if known and len(boxes):
            predicted = predict(known, stamp_ns)
            pairs = match(distance_iou(predicted, boxes))
        # Pairs are from the index of a box to that of a track.
        found = [
            known[pairs[index]].seen(box, predicted[pairs[index]], stamp_ns)
            if index in pairs
            else self._start(box, stamp_ns)
            for index, box in enumerate(boxes)
        ]
        matched = set(pairs.values())
        missed = [
            replace(track, frames=track.frames + 1)
            for index, track in enumerate(known)
            if index not in matched
        ]
        missed.sort(key=lambda track: track.last_ns, reverse=True)
        self._tracks = [*found, *missed][: self.max_tracks]
        return tuple(found)

    def _start(self, box: NDArray[np.float64], stamp_ns: int) -> Track:
        track = Track(self._next, box, np.zeros(4), stamp_ns, stamp_ns)
        self._next += 1
        return track


def predict(tracks: Sequence[Track], stamp_ns: int) -> NDArray[np.float64]:
    """Return where the boxes should be at a stamp (ns), (N, 4)."""
    seconds = np.array([stamp_ns - track.last_ns for track in tracks]) / 1e9
    velocity = np.array([track.velocity for track in tracks])
    return np.array([track.box for track in tracks]) + velocity * seconds[:, None]


def distance_iou(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return IoU - d²/c² of boxes (N, 4) and (M, 4) as (N, M), in (-1, 1].

    d: between the centres, c: diagonal of the smallest box around both (Zheng et al.,
    Distance-IoU loss, AAAI 2020). Unlike the IoU it tells how far boxes are that do not overlap.
    """
    # Axis 0: x, y.
    low, high = (first.T[k : k + 2, :, None] for k in (0, 2))
    other_low, other_high = (second.T[k : k + 2, None] for k in (0, 2))
    inner = np.maximum(np.minimum(high, other_high) - np.maximum(low, other_low), 0.0)
    outer = np.maximum(high, other_high) - np.minimum(low, other_low)
    between = (low + high - other_low - other_high) / 2
    (width, height), (other_width, other_height) = high - low, other_high - other_low
    overlap = inner[0] * inner[1]
    tiny = np.finfo(np.float64).tiny
    union = np.maximum(width * height + other_width * other_height - overlap, tiny)
    diagonal = np.maximum(outer[0] ** 2 + outer[1] ** 2, tiny)
    return overlap / union - (between[0] ** 2 + between[1] ** 2) / diagonal


def match(affinity: NDArray[np.float64]) -> dict[int, int]:
    """Return pairs {column: row} of an (N, M) affinity, the best first, none below the least."""
    pairs: dict[int, int] = {}
    rows: set[int] = set()
    possible = np.argwhere(affinity >= MIN_AFFINITY)
    order = np.argsort(-affinity[tuple(possible.T)], kind='stable')
    for row, column in possible[order].tolist():
        if row not in rows and column not in pairs:
            pairs[column] = row
            rows.add(row)
    return pairs
