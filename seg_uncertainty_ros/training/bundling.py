# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""From a trained checkpoint to a model bundle: calibrate, export, fit the monitor's thresholds."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Literal

import cv2
import torch
from tqdm import tqdm

from seg_uncertainty_ros.bundle import GRAPH
from seg_uncertainty_ros.bundle import MODEL_CARD
from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.bundle import ScoreInfo
from seg_uncertainty_ros.bundle import Threshold
from seg_uncertainty_ros.calibration.calibrate import calibrate
from seg_uncertainty_ros.calibration.observed import observe_drive
from seg_uncertainty_ros.classes import CAMVID
from seg_uncertainty_ros.evaluation.calibration import KNOTS
from seg_uncertainty_ros.evaluation.calibration import ProbabilityMetrics
from seg_uncertainty_ros.evaluation.calibration import ScoreQuantiles
from seg_uncertainty_ros.evaluation.calibration import TemperatureFit
from seg_uncertainty_ros.evaluation.confusion import ConfusionMatrix
from seg_uncertainty_ros.evaluation.recalibration import Pixels
from seg_uncertainty_ros.frames import Frame
from seg_uncertainty_ros.network.deployed import DeployedGraph
from seg_uncertainty_ros.network.export import export_onnx
from seg_uncertainty_ros.network.segmenter import Segmenter
from seg_uncertainty_ros.pipeline import Pipeline
from seg_uncertainty_ros.pipeline import network_input
from seg_uncertainty_ros.procedural import Drive
from seg_uncertainty_ros.scores import DEPLOYED
from seg_uncertainty_ros.scores import SCORES
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
    from collections.abc import Mapping
    from collections.abc import Sequence

    from seg_uncertainty_ros.calibration.observed import ObservedDrive
    from seg_uncertainty_ros.training.datasets import Sample

# The best on fs_static, the set to choose scores on, of networks with each outlier output.
DEFAULT_SCORE = {'none': 'energy', 'void': 'void', 'head': 'void'}
# Scores that mean something for a network with each outlier output.
OUTLIER_SCORES = {
    'none': (),
    'void': ('void', 'void_combined'),
    'head': ('outlier', 'outlier_combined', 'void'),
}
# Hours between false alarms of each kind: the quarter of an hour that is known of these drives
# bears out no more.
FALSE_ALARM_H = 0.25
CAMVID_HZ = 30.0
DRIVE_RATE_HZ = 5.0
# Seeds of drives that neither training (10000 and up) nor the demo uses.
DRIVE_SEEDS = range(500, 516)
CALIBRATION_SCENES = 120
CALIBRATION_SEED = 50_000
# CamVid's dusk drive: trained on, yet no part of what counts as its ordinary light.
DUSK_DRIVE = '0001TP'


@torch.no_grad()
def raw_pixels(graph: DeployedGraph, samples: Iterable[Sample]) -> Iterator[Pixels]:
    """Yield what the graph gives for the labelled pixels of each sample."""
    for sample in samples:
        image = torch.from_numpy(network_input(sample.image, GEOMETRY))
        logits, scores, _ = (output.numpy() for output in graph.raw(image))
        labels = cv2.resize(sample.labels, logits.shape[:1:-1], interpolation=cv2.INTER_NEAREST)
        known = labels < len(CAMVID)
        yield Pixels(logits[0][:, known], scores[:, known], labels[known])


def camvid_drives(samples: Iterable[Sample]) -> dict[str, list[Frame]]:
    """Return the day drives of CamVid; the number in a frame's name counts at 30 Hz."""
    drives: dict[str, list[Frame]] = {}
    for sample in samples:
        drive, number = sample.name.split('_')
        if drive != DUSK_DRIVE:
            stamp_ns = round(int(re.sub(r'\D', '', number)) * 1e9 / CAMVID_HZ)
            drives.setdefault(drive, []).append(Frame(sample.image, stamp_ns))
    return {name: sorted(frames, key=lambda f: f.stamp_ns) for name, frames in drives.items()}


def procedural_drives(seeds: Iterable[int], seconds: float = 10.0) -> dict[str, list[Frame]]:
    """Return procedural drives without events."""
    result = {}
    for seed in tqdm(list(seeds), desc='procedural drives', unit='drive'):
        drive = Drive(seed=seed, rate_hz=DRIVE_RATE_HZ, duration_s=seconds)
        frames = [Frame(each.image, drive.stamp_ns(index)) for index, each in enumerate(drive)]
        result[f'seed {seed}'] = frames
    return result


def observe(
    bundle: Bundle, domains: Mapping[str, Mapping[str, Sequence[Frame]]]
) -> dict[str, list[ObservedDrive]]:
    """Run pipeline and monitor over drives, domain -> name -> frames, as the nodes would."""
    pipeline = Pipeline(bundle)
    return {
        domain: [
            observe_drive(pipeline, name, frames)
            for name, frames in tqdm(drives.items(), desc=f'drives of {domain}', unit='drive')
        ]
        for domain, drives in domains.items()
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
    version: str = '0.4.0',
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

    (out / MODEL_CARD).write_text('in the making\n', encoding='utf-8')
    area = Threshold(0.001, 0.0, 'not fitted yet')
    confidence = Threshold(0.999, 1.0, 'not fitted yet')
    shift = Threshold(1.2, 1.0, 'not fitted yet')
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
        thresholds={'ood_area': area, 'low_confidence': confidence, 'domain_shift': shift},
        reference=None,
        provenance={},
        digest='',
    ).write()
    held_out = None
    if not comparison:
        model, held_out = fit_segments(bundle, tqdm(labelled_frames(data), desc='objects'))
        bundle = replace(bundle, segments=model).write()
    domains = {'camvid': camvid_drives((*train, *val))}
    if not comparison:
        domains['procedural'] = procedural_drives(DRIVE_SEEDS)
    usual = calibrate(bundle, observe(bundle, domains), ert_h=FALSE_ALARM_H)
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
        reference=usual.reference,
        thresholds=usual.thresholds,
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
