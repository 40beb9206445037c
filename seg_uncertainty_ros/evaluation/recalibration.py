# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""From a bundle and in-distribution images to a bundle with another temperature and other scales.

The temperature is fitted first, on labelled images; it changes the scores, so that their scales
come second, on all images. Each fit is checked on images that it has not seen: fitted on the first
half of every set, measured on the second. What is written was fitted on all.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace
from datetime import date
from math import ceil
from typing import TYPE_CHECKING

import cv2
import numpy as np
from tqdm import tqdm

from seg_uncertainty_ros.bundle import GRAPH
from seg_uncertainty_ros.bundle import MODEL_CARD
from seg_uncertainty_ros.classes import UNLABELLED
from seg_uncertainty_ros.evaluation.calibration import DECADES
from seg_uncertainty_ros.evaluation.calibration import CalibrationDataError
from seg_uncertainty_ros.evaluation.calibration import ProbabilityMetrics
from seg_uncertainty_ros.evaluation.calibration import ScoreQuantiles
from seg_uncertainty_ros.evaluation.calibration import TemperatureFit
from seg_uncertainty_ros.evaluation.estimates import estimate
from seg_uncertainty_ros.evaluation.estimates import resampling_weights
from seg_uncertainty_ros.pipeline import network_input
from seg_uncertainty_ros.runtime.calibrated_graph import CalibratedGraph

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from seg_uncertainty_ros.bundle import Bundle
    from seg_uncertainty_ros.evaluation.estimates import Estimate
    from seg_uncertainty_ros.evaluation.images import CalibrationImage
    from seg_uncertainty_ros.evaluation.images import ImageSet
    from seg_uncertainty_ros.frames import Geometry
    from seg_uncertainty_ros.runtime.calibrated_graph import LogitsSession

# Pixels of one image say the same thing many times; ten images are the least to tell a spread.
MIN_IMAGES = 10
# The scale ends where one pixel in 10 000 lies above: ten of them at the least.
MIN_PIXELS = round(10 * 10**DECADES)
# A model that is right less often than this does not know these images, or the labels are others.
MIN_ACCURACY = 0.5
# Resampled for intervals, as many as fit into little memory.
MAX_BLOCKS = 1000
CHECKED = (0.25, 0.5, 0.75)
"""Values of the anomaly plane whose false-positive rates are measured."""


@dataclass(frozen=True)
class Pixels:
    """What a graph gives for the N known pixels of an image, at logit resolution.

    ``logits`` SxN, tempered; ``scores`` KxN; ``labels`` N, or None for an image without.
    """

    logits: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.uint8] | None


@dataclass(frozen=True)
class TemperatureResult:
    """Temperatures, and how good the probabilities were.

    ``standard_error`` takes images as what is independent. ``before`` is the old temperature on
    all labelled images. ``held_out`` is on the second halves: the old temperature, and
    ``first_half``, fitted on the first ones.
    """

    value: float
    standard_error: float
    first_half: float
    before: ProbabilityMetrics
    held_out: tuple[ProbabilityMetrics, ProbabilityMetrics]


@dataclass(frozen=True)
class ScaleResult:
    """``knots`` KxM, and the KxC false-positive rates at CHECKED on the second halves.

    ``held_out_images`` images of the ``images`` are in the second halves.
    """

    knots: NDArray[np.float64]
    false_positives: tuple[tuple[Estimate, ...], ...]
    held_out_images: int
    images: int
    pixels: int


@dataclass(frozen=True)
class Recalibration:
    """A changed graph in memory, and what it was changed by.

    ``temperature`` is None where it was kept; ``after`` is how good the probabilities of the
    changed graph are on the labelled images, without pixels where there are none.
    """

    graph: CalibratedGraph
    sets: tuple[ImageSet, ...]
    temperature: TemperatureResult | None
    scales: ScaleResult
    after: ProbabilityMetrics


def recalibrate(
    bundle: Bundle, sets: Sequence[ImageSet], *, keep_temperature: bool = False
) -> Recalibration:
    """Fit temperature and score scales of a bundle on in-distribution images.

    Raises:
        CalibrationDataError: too few images or pixels, or labels that the model contradicts.
        DatasetError: a file that cannot be read, or labels that are no class ids.
        SourceError: a recording that cannot be read to its end.
        GraphError: a graph that cannot be changed or run.

    """
    graph = CalibratedGraph(bundle)
    check_enough('score scales', sets)
    temperature = None
    if not keep_temperature:
        labelled = [images for images in sets if images.labelled]
        check_enough('temperature', labelled, ' with labels (or keep the temperature)')
        temperature = _fit_temperature(graph.session(), bundle, labelled)
        graph.set_temperature(temperature.value)
    scales, after = _fit_scales(graph.session(), bundle, sets)
    graph.set_knots(scales.knots)
    return Recalibration(graph, tuple(sets), temperature, scales, after)


def known_pixels(session: LogitsSession, image: CalibrationImage, geometry: Geometry) -> Pixels:
    """Run the graph; of an image with labels, only labelled pixels are known."""
    logits, scores = session.run(network_input(image.image, geometry))
    if image.labels is None:
        return Pixels(logits.reshape(len(logits), -1), scores.reshape(len(scores), -1), None)
    labels = cv2.resize(image.labels, logits.shape[:0:-1], interpolation=cv2.INTER_NEAREST)
    known = labels != UNLABELLED
    return Pixels(logits[:, known], scores[:, known], labels[known])


def _fit_temperature(
    session: LogitsSession, bundle: Bundle, sets: Sequence[ImageSet]
) -> TemperatureResult:
    fit, before = TemperatureFit(), ProbabilityMetrics()
    old, new = ProbabilityMetrics(), ProbabilityMetrics()
    with _bar('temperature', sets) as bar:
        for pixels in _pixels(session, bundle, sets, 0, bar):
            fit.update(pixels.logits, pixels.labels)
            before.update(pixels.logits, pixels.labels)
        _check_labels(before)
        first = fit.temperature()
        for pixels in _pixels(session, bundle, sets, 1, bar):
            fit.update(pixels.logits, pixels.labels)
            for metrics, temperature in ((before, 1.0), (old, 1.0), (new, first)):
                metrics.update(pixels.logits, pixels.labels, temperature)
    _check_labels(before)
    # The graph's logits are tempered already.
    factor = fit.temperature()
    return TemperatureResult(
        value=bundle.temperature * factor,
        standard_error=bundle.temperature * fit.standard_error(),
        first_half=bundle.temperature * first,
        before=before,
        held_out=(old, new),
    )


def _fit_scales(
    session: LogitsSession, bundle: Bundle, sets: Sequence[ImageSet]
) -> tuple[ScaleResult, ProbabilityMetrics]:
    quantiles, after = ScoreQuantiles(bundle.score_names), ProbabilityMetrics()
    images = 0
    limits: NDArray[np.float64] | None = None
    reached: list[NDArray[np.int64]] = []  # of each held-out image: at score and value, and all
    with _bar('score scales', sets) as bar:
        for half in (0, 1):
            for pixels in _pixels(session, bundle, sets, half, bar):
                images += 1
                quantiles.update(pixels.scores)
                if pixels.labels is not None:
                    after.update(pixels.logits, pixels.labels)
                if limits is not None:
                    counts = [
                        (row[:, None] >= at).sum(axis=0)
                        for row, at in zip(pixels.scores, limits, strict=True)
                    ]
                    reached.append(np.append(counts, pixels.scores.shape[1]))
            _check_pixels(quantiles.pixels, images, MIN_PIXELS if half else 1)
            limits = quantiles.upper(10.0 ** (-DECADES * np.array(CHECKED)))
    if not reached:
        msg = f'score scales: of {bar.total} images {images} can be read, none in a second half'
        raise CalibrationDataError(msg)
    knots = np.array([[float(f'{k:.9g}') for k in row] for row in quantiles.knots()])
    result = ScaleResult(
        knots,
        _false_positives(np.stack(reached), len(limits)),
        len(reached),
        images,
        quantiles.pixels,
    )
    return result, after


def _false_positives(counts: NDArray[np.int64], scores: int) -> tuple[tuple[Estimate, ...], ...]:
    """Return the rates at CHECKED of each score, with intervals over images.

    Of long recordings, neighbouring images count as one.
    """
    block = ceil(len(counts) / MAX_BLOCKS)
    counts = np.add.reduceat(counts, np.arange(0, len(counts), block), axis=0)

    def shares(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        with np.errstate(invalid='ignore'):
            return np.moveaxis(sums[..., :-1] / sums[..., -1:], -1, 0)

    rates = estimate(shares, counts.sum(axis=0), counts, resampling_weights(len(counts)))
    width = len(CHECKED)
    return tuple(rates[k * width : (k + 1) * width] for k in range(scores))


def _pixels(
    session: LogitsSession, bundle: Bundle, sets: Sequence[ImageSet], half: int, bar: tqdm
) -> Iterator[Pixels]:
    """Yield the pixels of the first or the second half of every set.

    Neighbours in a drive look alike: halves in time are more apart than every other image.
    """
    for index, images in enumerate(sets):
        middle = (len(images) + index % 2) // 2  # sets of one image go to both halves in turn
        for image in images.read(*((0, middle), (middle, len(images)))[half]):
            yield known_pixels(session, image, bundle.geometry)
            bar.update()


def _bar(what: str, sets: Sequence[ImageSet]) -> tqdm:
    return tqdm(total=sum(map(len, sets)), desc=what, unit='image')


def check_enough(what: str, sets: Sequence[ImageSet], kind: str = '') -> None:
    """Raise CalibrationDataError where the images are too few to fit anything."""
    if (count := sum(map(len, sets))) < MIN_IMAGES:
        msg = f'{what}: {count} images{kind}, needed {MIN_IMAGES} to tell their spread'
        raise CalibrationDataError(msg)


def _check_pixels(pixels: int, images: int, needed: int) -> None:
    if pixels < needed:
        enough = ceil(max(images, 1) * MIN_PIXELS / max(pixels, 1))
        msg = (
            f'score scales: {pixels} known pixels at logit resolution in {images} images, needed '
            f'{MIN_PIXELS}, ten above the end of the scale: about {enough} such images'
        )
        raise CalibrationDataError(msg)


def _check_labels(metrics: ProbabilityMetrics) -> None:
    if not metrics.bins.pixels:
        msg = 'temperature: not one labelled pixel'
        raise CalibrationDataError(msg)
    if (accuracy := metrics.bins.accuracy()) < MIN_ACCURACY:
        msg = (
            f'temperature: the model is right on {accuracy:.0%} of the labelled pixels, expected '
            f'{MIN_ACCURACY:.0%}: are the labels ids of its classes, the images of its domain?'
        )
        raise CalibrationDataError(msg)


def write_bundle(bundle: Bundle, result: Recalibration, report: str, out: Path) -> Bundle:
    """Write ``bundle`` with the changed graph to the directory ``out``; thresholds are kept.

    ``report``, Markdown, ends the model card, whose figures were measured before.
    """
    bundle.copy_files(out)
    result.graph.save(out / GRAPH)
    with (out / MODEL_CARD).open('a', encoding='utf-8') as card:
        card.write('\n' + report.replace('# ', '## '))
    temperature = result.temperature
    scales = result.scales
    provenance = {
        'date': date.today().isoformat(),
        'from_bundle': bundle.digest,
        'data': [
            {'name': images.name, 'images': len(images), 'labelled': images.labelled}
            for images in result.sets
        ],
        'images': scales.images,
        'pixels': scales.pixels,
        'temperature': 'kept'
        if temperature is None
        else f'fitted on {temperature.before.bins.pixels} labelled pixels',
        'thresholds': 'kept with the meta model, as fitted before this calibration',
    }
    return replace(
        bundle,
        path=out,
        temperature=bundle.temperature if temperature is None else temperature.value,
        scores=tuple(
            replace(score, knots=tuple(map(float, row)))
            for score, row in zip(bundle.scores, scales.knots, strict=True)
        ),
        provenance={**bundle.provenance, 'calibration': provenance},
    ).write()
