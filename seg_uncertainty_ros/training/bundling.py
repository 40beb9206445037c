# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""From a trained checkpoint to a model bundle: calibrate, export, fit the monitor's thresholds."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Literal

import cv2
import numpy as np
import torch
from tqdm import tqdm

from seg_uncertainty_ros.bundle import GRAPH
from seg_uncertainty_ros.bundle import MODEL_CARD
from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.bundle import ScoreInfo
from seg_uncertainty_ros.bundle import Threshold
from seg_uncertainty_ros.classes import CAMVID
from seg_uncertainty_ros.evaluation.calibration import KNOTS
from seg_uncertainty_ros.evaluation.calibration import ProbabilityMetrics
from seg_uncertainty_ros.evaluation.calibration import ScoreQuantiles
from seg_uncertainty_ros.evaluation.calibration import TemperatureFit
from seg_uncertainty_ros.evaluation.confusion import ConfusionMatrix
from seg_uncertainty_ros.evaluation.recalibration import Pixels
from seg_uncertainty_ros.frames import Frame
from seg_uncertainty_ros.monitor.assessment import Observation
from seg_uncertainty_ros.monitor.config import MonitorConfig
from seg_uncertainty_ros.monitor.monitor import Monitor
from seg_uncertainty_ros.network.deployed import DeployedGraph
from seg_uncertainty_ros.network.export import export_onnx
from seg_uncertainty_ros.network.segmenter import Segmenter
from seg_uncertainty_ros.pipeline import Pipeline
from seg_uncertainty_ros.pipeline import network_input
from seg_uncertainty_ros.procedural import Drive
from seg_uncertainty_ros.scores import DEPLOYED
from seg_uncertainty_ros.scores import SCORES
from seg_uncertainty_ros.shift.reference import Reference
from seg_uncertainty_ros.training import datasets
from seg_uncertainty_ros.training.feature_statistics import fit_feature_statistics
from seg_uncertainty_ros.training.model_card import Metrics
from seg_uncertainty_ros.training.model_card import model_card
from seg_uncertainty_ros.training.segments import fit_segments
from seg_uncertainty_ros.training.segments import labelled_frames
from seg_uncertainty_ros.training.validation import GEOMETRY

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Iterator
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from seg_uncertainty_ros.training.datasets import Sample

# The best on fs_static, the set to choose scores on, of networks with each outlier output.
DEFAULT_SCORE = {'none': 'energy', 'void': 'void', 'head': 'void'}
# Scores that mean something for a network with each outlier output.
OUTLIER_SCORES = {
    'none': (),
    'void': ('void', 'void_combined'),
    'head': ('outlier', 'outlier_combined', 'void'),
}
DRIVE_RATE_HZ = 5.0
# Seeds of drives that neither training (10000 and up) nor the demo uses.
DRIVE_SEEDS = range(500, 516)
CALIBRATION_SCENES = 120
CALIBRATION_SEED = 50_000
# CamVid's dusk drive: trained on, yet no part of what counts as its ordinary light.
DUSK_DRIVE = '0001TP'


@dataclass(frozen=True)
class Sequences:
    """In-distribution drives of a domain; ``window``: frames behind a decision about shift."""

    domain: str
    drives: tuple[Sequence[NDArray[np.uint8]], ...]
    window: int


@dataclass(frozen=True)
class Observed:
    """What the monitor measured on in-distribution drives, an array for each drive."""

    ood_area: list[NDArray[np.float64]]
    confidence: list[NDArray[np.float64]]
    shift: list[NDArray[np.float64]]


@torch.no_grad()
def raw_pixels(graph: DeployedGraph, samples: Iterable[Sample]) -> Iterator[Pixels]:
    """Yield what the graph gives for the labelled pixels of each sample."""
    for sample in samples:
        image = torch.from_numpy(network_input(sample.image, GEOMETRY))
        logits, scores, _ = (output.numpy() for output in graph.raw(image))
        labels = cv2.resize(sample.labels, logits.shape[:1:-1], interpolation=cv2.INTER_NEAREST)
        known = labels < len(CAMVID)
        yield Pixels(logits[0][:, known], scores[:, known], labels[known])


def camvid_sequences(train: Sequence[Sample], val: Sequence[Sample]) -> Sequences:
    """Return the day drives of CamVid; the labelled frames of train are 1 s apart."""
    drives: dict[str, list[NDArray[np.uint8]]] = {}
    for sample in train:
        drive = sample.name.split('_')[0]
        if drive != DUSK_DRIVE:
            drives.setdefault(drive, []).append(sample.image)
    return Sequences('camvid', (*drives.values(), _images(val)), 2)


def procedural_sequences(seeds: Iterable[int], seconds: float = 10.0) -> Sequences:
    """Return procedural drives without events."""
    drives = tuple(
        [
            rendered.image
            for rendered in Drive(seed=seed, rate_hz=DRIVE_RATE_HZ, duration_s=seconds)
        ]
        for seed in tqdm(list(seeds), desc='procedural drives', unit='drive')
    )
    return Sequences('procedural', drives, round(DRIVE_RATE_HZ * MonitorConfig().shift_window_s))


@torch.no_grad()
def embeddings(graph: DeployedGraph, sequences: Sequences) -> list[NDArray[np.float32]]:
    """Return the embeddings of each drive, nxD."""
    result = []
    for drive in tqdm(sequences.drives, desc=f'embeddings of {sequences.domain}', unit='drive'):
        rows = []
        for image in drive:
            size = GEOMETRY.network_size(*image.shape[:2])
            resized = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
            rows.append(graph.raw(torch.from_numpy(resized))[2].numpy())
        result.append(np.stack(rows))
    return result


def observe(bundle: Bundle, drives: Iterable[Sequence[NDArray[np.uint8]]]) -> Observed:
    """Run pipeline and monitor over in-distribution drives, as a node would."""
    pipeline = Pipeline(bundle)
    observed = Observed([], [], [])
    for drive in tqdm(list(drives), desc='thresholds', unit='drive'):
        monitor = Monitor(
            MonitorConfig(), bundle.classes, bundle.thresholds, bundle.reference, bundle.segments
        )
        rows = []
        for index, image in enumerate(drive):
            stamp_ns = 10**9 + round(index * 1e9 / DRIVE_RATE_HZ)
            result = pipeline.process(Frame(image, stamp_ns))
            rows.append(monitor.update(Observation.of(result, stamp_ns)))
        observed.ood_area.append(np.array([row.ood_area or 0.0 for row in rows]))
        observed.confidence.append(np.array([row.mean_confidence for row in rows]))
        shifts = [row.domain_shift for row in rows if row.domain_shift is not None]
        observed.shift.append(np.array(shifts))
    return observed


def lasting(values: Sequence[NDArray[np.float64]], seconds: float) -> NDArray[np.float64]:
    """Return what each drive's indicator does not fall below for ``seconds``, pooled."""
    frames = max(1, round(seconds * DRIVE_RATE_HZ)) + 1
    windows = [np.lib.stride_tricks.sliding_window_view(v, frames) for v in values]
    return np.concatenate([window.min(axis=1) for window in windows])


def fit_thresholds(observed: Observed) -> dict[str, Threshold]:
    """Return thresholds that in-distribution drives rarely reach, each with its reason."""
    hold = MonitorConfig().ood_area.hold_on_s
    areas = lasting(observed.ood_area, hold)
    confidences = np.concatenate(observed.confidence)
    shifts = np.concatenate(observed.shift)
    area = max(0.01, float(np.quantile(areas, 0.99)))
    confidence = float(np.quantile(confidences, 0.001)) - 0.02
    shift = max(1.2, 1.1 * float(shifts.max()))
    return {
        'ood_area': Threshold(
            round(area, 4),
            round(0.6 * area, 4),
            f'the 99 % quantile of what lasts {hold:g} s in {len(areas)} in-distribution windows',
        ),
        'low_confidence': Threshold(
            round(confidence, 4),
            round(confidence + 0.02, 4),
            f'0.02 below the 0.1 % quantile over {len(confidences)} in-distribution frames',
        ),
        'domain_shift': Threshold(
            round(shift, 3),
            round(0.85 * shift, 3),
            f'1.1 x the largest of {len(shifts)} in-distribution windows, at least 1.2',
        ),
    }


def commit() -> str:
    """Return the commit of the code, 'unknown' outside a checkout."""
    command = ('git', '-C', str(Path(__file__).parent), 'rev-parse', 'HEAD')
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or 'unknown'


@torch.no_grad()
def confusion(bundle: Bundle, samples: Iterable[Sample]) -> ConfusionMatrix:
    """Count the masks of the deployed pipeline, at camera size, against the labels."""
    pipeline = Pipeline(bundle)
    matrix = ConfusionMatrix(len(bundle.classes))
    for sample in samples:
        matrix.update(sample.labels, pipeline.process(Frame(sample.image, 0)).mask)
    return matrix


def make_bundle(
    checkpoint: Path,
    data: Path,
    out: Path,
    *,
    scores: Sequence[str] | Literal['all'] = (),
    comparison: bool = False,
    version: str = '0.3.0',
) -> Bundle:
    """Write the bundle of a checkpoint to ``out``.

    Args:
        checkpoint: of `train`.
        data: folder with camvid; the meta model of objects needs ood/fs_static too.
        out: the bundle, a new directory.
        scores: names out of SCORES; none for those that are deployed with such a network.
        comparison: a bundle for tables, in less time: no procedural scenes behind its scales,
            reference and thresholds, no meta model, CamVid test not looked at.
        version: of the bundle.

    """
    state = torch.load(checkpoint, weights_only=True)
    recipe = state['recipe']
    output = recipe.get('outlier_output', 'none')
    scores = choose_scores(scores, output)
    segmenter = Segmenter(len(CAMVID), outlier=output != 'none')
    segmenter.load_state_dict(state['weights'])
    train, val = (datasets.camvid(data / 'camvid', split) for split in ('train', 'val'))
    scenes = []
    if not comparison:
        scenes = datasets.procedural(CALIBRATION_SCENES, CALIBRATION_SEED, 360, 480)
    out.mkdir(parents=True, exist_ok=True)

    statistics = None
    if any(SCORES[name].needs == 'statistics' for name in scores):
        images = tqdm(train, desc='feature statistics', unit='image')
        statistics = fit_feature_statistics(segmenter.eval(), images, GEOMETRY)
    flat = torch.linspace(0.0, 1.0, KNOTS).repeat(len(scores), 1)
    untempered = DeployedGraph(segmenter, flat, 1.0, scores, statistics).eval()
    fit, before = TemperatureFit(), ProbabilityMetrics()
    for pixels in raw_pixels(untempered, tqdm(val, desc='temperature')):
        fit.update(pixels.logits, pixels.labels)
        before.update(pixels.logits, pixels.labels)
    temperature = fit.temperature()
    tempered = DeployedGraph(segmenter, flat, temperature, scores, statistics).eval()
    quantiles, after = ScoreQuantiles(scores), ProbabilityMetrics()
    for pixels in raw_pixels(tempered, tqdm(scenes, desc='scales: scenes', unit='image')):
        quantiles.update(pixels.scores)
    for pixels in raw_pixels(tempered, tqdm(val, desc='scales: val', unit='image')):
        quantiles.update(pixels.scores)
        after.update(pixels.logits, pixels.labels)
    knots = quantiles.knots()
    scale = torch.from_numpy(knots).float()
    graph = DeployedGraph(segmenter, scale, temperature, scores, statistics).eval()
    export_onnx(graph, out / GRAPH)

    domains = [camvid_sequences(train, val)]
    if not comparison:
        domains.append(procedural_sequences(DRIVE_SEEDS))
    reference = Reference.fit(
        {d.domain: embeddings(graph, d) for d in domains},
        window={d.domain: d.window for d in domains},
    )
    (out / MODEL_CARD).write_text('in the making\n', encoding='utf-8')
    never = Threshold(1e9, 1e8, 'not fitted yet')
    always = Threshold(-1.0, 0.0, 'not fitted yet')
    bundle = Bundle(
        path=out,
        name=recipe['name'],
        version=version,
        geometry=GEOMETRY,
        classes=CAMVID,
        temperature=temperature,
        scores=tuple(
            ScoreInfo(name, SCORES[name].description, tuple(float(f'{k:.9g}') for k in row))
            for name, row in zip(scores, knots, strict=True)
        ),
        default_score=best if (best := DEFAULT_SCORE[output]) in scores else scores[0],
        thresholds={'ood_area': never, 'low_confidence': always, 'domain_shift': never},
        reference=reference,
        provenance={},
        digest='',
    ).write()
    held_out = None
    if not comparison:
        model, held_out = fit_segments(bundle, tqdm(labelled_frames(data), desc='objects'))
        bundle = replace(bundle, segments=model).write()
    drives = [drive for domain in domains[1:] for drive in domain.drives]
    observed = observe(bundle, (_images(val), *drives))
    test = () if comparison else datasets.camvid(data / 'camvid', 'test')
    metrics = Metrics(
        val=confusion(bundle, tqdm(val, desc='CamVid val')),
        test=confusion(bundle, tqdm(test, desc='CamVid test')) if test else None,
        temperature=temperature,
        held_out=held_out,
        ece_before=before.bins.ece(),
        ece_after=after.bins.ece(),
    )
    bundle = replace(
        bundle,
        thresholds=fit_thresholds(observed),
        provenance={
            'recipe': recipe,
            'sources': list(state['sources']),
            'initialised_from': state.get('origin', 'unknown'),
            'commit': commit(),
            'selected_on': {'set': 'CamVid val', **state['val']},
            'torch': torch.__version__,
            'camvid_val_miou': round(metrics.val.miou(), 4),
            'camvid_test_miou': round(metrics.test.miou(), 4) if metrics.test else 'not measured',
        },
    )
    (out / MODEL_CARD).write_text(
        model_card(bundle, recipe, state['sources'], metrics), encoding='utf-8'
    )
    return bundle.write()


def choose_scores(scores: Sequence[str] | Literal['all'], output: str) -> tuple[str, ...]:
    """Return the names of the scores of a network with this outlier output."""
    if scores == 'all':
        scores = [name for name, score in SCORES.items() if score.needs != 'outlier']
        return (*scores, *OUTLIER_SCORES[output])
    return tuple(scores) or (*DEPLOYED, *OUTLIER_SCORES[output])


def _images(samples: Sequence[Sample]) -> list[NDArray[np.uint8]]:
    return [sample.image for sample in samples]
