# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What pipeline and monitor measure of a drive, without its pixels."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from seg_uncertainty_ros.calibration.return_level import pieces
from seg_uncertainty_ros.errors import SegUncertaintyError
from seg_uncertainty_ros.monitor.assessment import Observation
from seg_uncertainty_ros.monitor.config import MonitorConfig
from seg_uncertainty_ros.monitor.monitor import Monitor
from seg_uncertainty_ros.shift.indicators import frame_statistics

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from seg_uncertainty_ros.frames import Frame
    from seg_uncertainty_ros.pipeline import Pipeline
    from seg_uncertainty_ros.shift.indicators import FrameStatistics


class DriveError(SegUncertaintyError):
    """A drive that nothing can be learnt from; the message names it and says why."""


@dataclass(frozen=True, eq=False)
class ObservedDrive:
    """n frames in order of time, about 3 kB each.

    ood_area:   (n,) fraction of the region of interest that unknown objects cover, NaN where
                there is no region.
    confidence: (n,) mean confidence as the monitor takes it, 0..1, NaN likewise.
    """

    name: str
    frames: tuple[FrameStatistics, ...]
    ood_area: NDArray[np.float64]
    confidence: NDArray[np.float64]

    @property
    def stamps_s(self) -> NDArray[np.float64]:
        """Seconds (n,) since the first frame."""
        stamps = np.array([frame.stamp_ns for frame in self.frames], np.int64)
        return (stamps - stamps[:1]) / 1e9

    def part(self, part: slice) -> ObservedDrive:
        """Return some of the frames."""
        return replace(
            self,
            frames=self.frames[part],
            ood_area=self.ood_area[part],
            confidence=self.confidence[part],
        )

    def pieces(self, jump_s: float) -> list[ObservedDrive]:
        """Return the parts between jumps of time: back, or on by more than ``jump_s``."""
        return [self.part(part) for part in pieces(self.stamps_s, jump_s)]


def observe_drive(
    pipeline: Pipeline, name: str, frames: Iterable[Frame], config: MonitorConfig | None = None
) -> ObservedDrive:
    """Run pipeline and monitor over the frames of a drive, as the nodes do.

    Raises:
        DriveError: not one frame.
        SegUncertaintyError: of the frames, the pipeline or the monitor.

    """
    bundle = pipeline.bundle
    # Objects and confidence alone: of the domain, only what a reference is fitted to is kept.
    monitor = Monitor(
        config or MonitorConfig(), bundle.classes, bundle.thresholds, None, bundle.segments
    )
    statistics, areas, confidences = [], [], []
    for frame in frames:
        result = pipeline.process(frame)
        assessment = monitor.update(Observation.of(result, frame.stamp_ns))
        areas.append(assessment.ood_area)
        confidences.append(assessment.mean_confidence)
        measured = frame_statistics(
            frame.stamp_ns,
            result.mask,
            result.confidence,
            result.anomaly,
            result.embedding,
            classes=len(bundle.classes),
        )
        statistics.append(replace(measured, image=result.image_statistics))
    if not statistics:
        msg = f'{name}: not one frame can be read'
        raise DriveError(msg)
    return ObservedDrive(
        name, tuple(statistics), np.array(areas, np.float64), np.array(confidences, np.float64)
    )
