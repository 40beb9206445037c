# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The mean of the embeddings of the last seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from numpy.typing import NDArray


class WindowMean:
    """Mean of the embeddings whose stamp is younger than ``window_s`` before the newest one.

    Two stacks keep partial sums, so an update costs O(D) on average and nothing is ever
    subtracted: a huge value leaves no rounding error behind once it left the window.
    ``max_frames`` bounds the memory where stamps stand still. A stamp that goes back starts anew.
    """

    def __init__(
        self,
        window_s: float = 2.0,
        *,
        min_frames: int = 5,
        max_frames: int = 512,
    ) -> None:
        self.window_ns = round(window_s * 1e9)
        self.min_frames = min_frames
        self.max_frames = max_frames
        self.ignored = 0
        self.reset()

    def reset(self) -> None:
        """Forget every embedding; the count of ignored ones stays."""
        self._newest_ns: int | None = None
        # Oldest frames, the oldest last: (stamp, sum of this and all younger ones in the list).
        self._front: list[tuple[int, NDArray[np.float64]]] = []
        # Youngest frames in order of arrival, and their sum.
        self._back: list[tuple[int, NDArray[np.float64]]] = []
        self._back_sum: NDArray[np.float64] | float = 0.0

    @property
    def count(self) -> int:
        """Number of embeddings in the window."""
        return len(self._front) + len(self._back)

    @property
    def mean(self) -> NDArray[np.float64] | None:
        """Mean (D,), or None with fewer than ``min_frames`` embeddings in the window."""
        if self.count < max(1, self.min_frames):
            return None
        total = self._back_sum + (self._front[-1][1] if self._front else 0.0)
        return np.asarray(total) / self.count

    def update(self, embedding: ArrayLike | None, stamp_ns: int) -> NDArray[np.float64] | None:
        """Add one embedding (D,) and return the mean; None or non-finite ones only move time."""
        if self._newest_ns is not None and stamp_ns < self._newest_ns:
            self.reset()
        self._newest_ns = stamp_ns
        if embedding is not None:
            vector = np.array(embedding, np.float64)
            if np.isfinite(vector).all():
                self._back.append((stamp_ns, vector))
                self._back_sum = self._back_sum + vector
            else:
                self.ignored += 1
        while self.count and (
            self._oldest_ns() <= stamp_ns - self.window_ns or self.count > self.max_frames
        ):
            self._drop_oldest()
        return self.mean

    def _oldest_ns(self) -> int:
        return self._front[-1][0] if self._front else self._back[0][0]

    def _drop_oldest(self) -> None:
        if not self._front:
            total: NDArray[np.float64] | float = 0.0
            for stamp_ns, vector in reversed(self._back):
                total = total + vector
                self._front.append((stamp_ns, total))
            self._back, self._back_sum = [], 0.0
        self._front.pop()
