# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The only way a frame is processed: in the node, in the commands and in the tests."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING
from typing import Literal

import cv2
import numpy as np

from seg_uncertainty_ros.errors import SegUncertaintyError
from seg_uncertainty_ros.runtime.selection import open_runtime
from seg_uncertainty_ros.shift.image_statistics import MIN_SIDE
from seg_uncertainty_ros.shift.image_statistics import image_statistics

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from seg_uncertainty_ros.bundle import Bundle
    from seg_uncertainty_ros.frames import Frame
    from seg_uncertainty_ros.frames import Geometry
    from seg_uncertainty_ros.runtime.outputs import Runtime
    from seg_uncertainty_ros.runtime.selection import Backend
    from seg_uncertainty_ros.shift.image_statistics import ImageStatistics

PlaneSize = Literal['camera', 'network']


class PipelineError(SegUncertaintyError):
    """A frame or a setting that the pipeline refuses; the message names field and value."""


@dataclass(frozen=True)
class Timings:
    """Seconds that a frame took: resize, graph, resize of the planes."""

    pre_s: float
    infer_s: float
    post_s: float

    @property
    def total_s(self) -> float:
        """Seconds from frame to planes."""
        return self.pre_s + self.infer_s + self.post_s


@dataclass(frozen=True)
class Result:
    """Planes of one frame, all HxW of the camera or of the network.

    ``mask`` uint8 class ids; ``confidence`` and ``anomaly`` uint8, 0..255 for 0..1 on their fixed
    scale; ``embedding`` float32 D; ``scores`` raw float32 planes by name, only where asked for.
    ``dispersion``: float32 (h, w, K) at the size of the logits, the raw scores that the bundle's
    meta model looks at; None where it has none. ``image_statistics``: brightness, blur and more of
    what the network took; None where that is too small. ``exact_anomaly``: float32, 0..1, the
    anomaly without the steps of uint8; only where asked for.
    """

    mask: NDArray[np.uint8]
    confidence: NDArray[np.uint8]
    anomaly: NDArray[np.uint8]
    embedding: NDArray[np.float32]
    scores: Mapping[str, NDArray[np.float32]] | None
    timings: Timings
    dispersion: NDArray[np.float32] | None = None
    image_statistics: ImageStatistics | None = None
    exact_anomaly: NDArray[np.float32] | None = None


class Pipeline:
    """A bundle's graph behind ``process``.

    Args:
        bundle: the model.
        score: name of the score of the anomaly plane; None for the bundle's default.
        plane_size: planes as large as the camera's image or as the network's input.
        threads: of the runtime; 0 for one a physical core.
        backend: what runs the graph. Planes differ between backends, so that ``auto``, the
            fastest, is for nodes: what they see, they see on one machine.
        runtime: one that is open already, instead of ``backend`` and ``threads``.
        dispersion: names of the scores in ``Result.dispersion``; None for those that the bundle's
            meta model looks at.

    Raises:
        PipelineError: an unknown score or plane size.
        GraphError: the graph cannot be run.

    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        score: str | None = None,
        plane_size: PlaneSize = 'camera',
        threads: int = 0,
        backend: Backend = 'onnxruntime-cpu',
        runtime: Runtime | None = None,
        dispersion: Sequence[str] | None = None,
    ) -> None:
        if plane_size not in ('camera', 'network'):
            msg = f"plane_size: {plane_size!r} is none of 'camera', 'network'"
            raise PipelineError(msg)
        self.bundle = bundle
        self.plane_size = plane_size
        self.anomaly_score = score or bundle.default_score
        self.runtime = runtime or open_runtime(bundle, backend, threads=threads)
        if dispersion is None:
            dispersion = bundle.segments.scores if bundle.segments else ()
        if unknown := set(dispersion) - set(bundle.score_names):
            msg = f'dispersion: {min(unknown)!r} is none of {", ".join(bundle.score_names)}'
            raise PipelineError(msg)
        self._dispersion = [bundle.score_names.index(name) for name in dispersion]

    @property
    def anomaly_score(self) -> str:
        """Name of the score that feeds the anomaly plane; can be set between any two frames."""
        return self.bundle.score_names[self._score_index]

    @anomaly_score.setter
    def anomaly_score(self, name: str) -> None:
        names = self.bundle.score_names
        if name not in names:
            msg = f'anomaly_score: {name!r} is none of {", ".join(names)}'
            raise PipelineError(msg)
        self._score_index = names.index(name)

    def process(
        self, frame: Frame, *, keep_scores: bool = False, exact_anomaly: bool = False
    ) -> Result:
        """Segment a frame.

        Raises:
            PipelineError: the image is not uint8 HxWx3 with at least one pixel.
            GraphError: the runtime failed on this frame.

        """
        image = frame.image
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
            msg = f'image: {image.dtype} {image.shape}, expected uint8 HxWx3'
            raise PipelineError(msg)
        start = perf_counter()
        height, width = image.shape[:2]
        resized = network_input(image, self.bundle.geometry)
        prepared = perf_counter()
        score_index = self._score_index  # another thread may set it
        outputs = self.runtime.run(resized, score_index)
        inferred = perf_counter()
        size = (width, height) if self.plane_size == 'camera' else resized.shape[1::-1]
        mask = _resize(outputs.labels, size, cv2.INTER_NEAREST)
        confidence = _resize(outputs.confidence, size, cv2.INTER_LINEAR)
        anomaly = _resize(outputs.anomaly, size, cv2.INTER_LINEAR)
        scores = None
        if keep_scores:
            planes = zip(self.bundle.score_names, outputs.scores, strict=True)
            scores = {name: _resize(plane, size, cv2.INTER_LINEAR) for name, plane in planes}
        exact = None
        if exact_anomaly:
            knots = self.bundle.scores[score_index].knots
            exact = np.interp(outputs.scores[score_index], knots, np.linspace(0, 1, len(knots)))
            exact = _resize(exact.astype(np.float32), size, cv2.INTER_LINEAR)
        dispersion = None
        if self._dispersion:
            dispersion = cv2.merge([outputs.scores[index] for index in self._dispersion])
        statistics = image_statistics(resized) if min(resized.shape[:2]) >= MIN_SIDE else None
        done = perf_counter()
        return Result(
            mask=mask,
            confidence=confidence,
            anomaly=anomaly,
            embedding=outputs.embedding,
            scores=scores,
            timings=Timings(prepared - start, inferred - prepared, done - inferred),
            dispersion=dispersion,
            image_statistics=statistics,
            exact_anomaly=exact,
        )


def network_input(image: NDArray[np.uint8], geometry: Geometry) -> NDArray[np.uint8]:
    """Return a uint8 HxWx3 image at the size that the network takes it."""
    rows, columns = geometry.network_size(*image.shape[:2])
    return _resize(image, (columns, rows), _quality(image, rows))


def _quality(image: NDArray[np.uint8], rows: int) -> int:
    # Bilinear sampling aliases below half size; area averaging costs more and is not needed above.
    return cv2.INTER_AREA if 2 * rows <= image.shape[0] else cv2.INTER_LINEAR


def _resize(plane: NDArray, size: tuple[int, int], interpolation: int) -> NDArray:
    if plane.shape[1::-1] == size:
        return np.ascontiguousarray(plane)
    return cv2.resize(plane, size, interpolation=interpolation)
