# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""From any network with one logits output, as ONNX, to a model bundle."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from dataclasses import replace
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from tqdm import tqdm

from seg_uncertainty_ros.bundle import GRAPH
from seg_uncertainty_ros.bundle import MODEL_CARD
from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.bundle import ScoreInfo
from seg_uncertainty_ros.bundle import Threshold
from seg_uncertainty_ros.classes import UNLABELLED
from seg_uncertainty_ros.evaluation.calibration import KNOTS
from seg_uncertainty_ros.evaluation.calibration_report import KEPT
from seg_uncertainty_ros.evaluation.calibration_report import report
from seg_uncertainty_ros.evaluation.recalibration import check_enough
from seg_uncertainty_ros.evaluation.recalibration import recalibrate
from seg_uncertainty_ros.network.score_head import ScoreHead
from seg_uncertainty_ros.network.score_head import export_head
from seg_uncertainty_ros.network.wrapping import body
from seg_uncertainty_ros.network.wrapping import save
from seg_uncertainty_ros.network.wrapping import whole
from seg_uncertainty_ros.pipeline import network_input
from seg_uncertainty_ros.runtime.onnx_runtime import open_session
from seg_uncertainty_ros.scores import DEPLOYED
from seg_uncertainty_ros.scores import SCORES
from seg_uncertainty_ros.scores import FeatureStatistics
from seg_uncertainty_ros.scores import ScoreError
from seg_uncertainty_ros.training.feature_statistics import FeatureMoments

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

    from seg_uncertainty_ros.classes import ClassInfo
    from seg_uncertainty_ros.evaluation.images import ImageSet
    from seg_uncertainty_ros.evaluation.recalibration import Recalibration
    from seg_uncertainty_ros.network.given import GivenNetwork
    from seg_uncertainty_ros.network.wrapping import Normalisation

VERSION = '1.0.0'
DEFAULT_SCORE = 'energy'
UNFITTED = 'a default, not fitted to any drive: `seg-uncertainty calibrate` fits it to yours'
THRESHOLDS = {
    'ood_area': Threshold(0.03, 0.018, UNFITTED),
    'low_confidence': Threshold(0.7, 0.75, UNFITTED),
    'domain_shift': Threshold(1.2, 1.0, f'{UNFITTED}; not judged before'),
}


def import_network(
    path: Path,
    network: GivenNetwork,
    normalisation: Normalisation,
    classes: Sequence[ClassInfo],
    sets: Sequence[ImageSet],
    out: Path,
    *,
    scores: Sequence[str] = (),
    name: str = 'imported',
) -> Bundle:
    """Write the bundle of a network to ``out``: temperature 1, score scales of the images.

    Args:
        path: where the network was read from.
        network: as it was read.
        normalisation: of its images.
        classes: S of them, in the order of the logits.
        sets: in-distribution images, what the scales are fitted on. Labels are used for
            Mahalanobis distances; images without count as what the network takes them for.
        out: an empty directory.
        scores: names out of SCORES; none for those that are deployed, without gradient norms
            where there are no features.
        name: of the bundle.

    Raises:
        ScoreError: a score that this network cannot give.
        CalibrationDataError: too few images.
        NetworkError, GraphError: the scores cannot be put behind the network, or it fails on them.

    """
    scores = choose_scores(scores, features=network.features is not None)
    check_enough('score scales', sets)
    start = body(network, normalisation)
    statistics = None
    if any(SCORES[score].needs == 'statistics' for score in scores):
        statistics = fit_statistics(path, start, network, sets)
    flat = torch.linspace(0.0, 1.0, KNOTS).repeat(len(scores), 1)
    head = ScoreHead(network, flat, scores, statistics)
    with TemporaryDirectory() as folder:
        unscaled = Path(folder)
        save(whole(network, start, export_head(head, network, unscaled / GRAPH)), unscaled / GRAPH)
        (unscaled / MODEL_CARD).write_text('in the making\n', encoding='utf-8')
        knots = tuple(flat[0].tolist())
        bundle = Bundle(
            path=unscaled,
            name=name,
            version=VERSION,
            geometry=network.geometry,
            classes=tuple(classes),
            temperature=1.0,
            scores=tuple(ScoreInfo(x, SCORES[x].description, knots) for x in scores),
            default_score=DEFAULT_SCORE if DEFAULT_SCORE in scores else scores[0],
            thresholds=THRESHOLDS,
            reference=None,
            provenance={},
            digest='',
        ).write()
        result = recalibrate(bundle, sets, keep_temperature=True)
        result.graph.save(out / GRAPH)
    facts = origin(path, network, normalisation)
    (out / MODEL_CARD).write_text(model_card(bundle, facts, result), encoding='utf-8')
    return replace(
        bundle,
        path=out,
        scores=tuple(
            replace(score, knots=tuple(map(float, row)))
            for score, row in zip(bundle.scores, result.scales.knots, strict=True)
        ),
        provenance={
            **facts,
            'date': date.today().isoformat(),
            'scales': {
                'data': [{'name': images.name, 'images': len(images)} for images in sets],
                'pixels': result.scales.pixels,
            },
            'temperature': 'not fitted',
            'torch': torch.__version__,
        },
    ).write()


def choose_scores(scores: Sequence[str], *, features: bool) -> tuple[str, ...]:
    """Return the names of the scores, max_softmax first.

    Raises:
        ScoreError: a score without what it needs.

    """
    if not scores:
        return tuple(x for x in DEPLOYED if features or not needs_features(x))
    for score in scores:
        if score in SCORES and needs_features(score) and not features:
            msg = f'scores: {score!r} needs features: name the tensor with --features'
            raise ScoreError(msg)
        if score in SCORES and SCORES[score].needs == 'outlier':
            msg = f'scores: {score!r} needs an outlier output, an imported network has none'
            raise ScoreError(msg)
    return ('max_softmax', *(score for score in scores if score != 'max_softmax'))


def needs_features(score: str) -> bool:
    """Tell whether logits are not enough for a score."""
    return score.startswith('pgn') or SCORES[score].needs == 'statistics'


def fit_statistics(
    path: Path, start: onnx.ModelProto, network: GivenNetwork, sets: Sequence[ImageSet]
) -> FeatureStatistics:
    """Return the statistics of the features, at their own stride.

    Pixels have the class of their label, in images without labels the predicted one.

    Raises:
        FeatureStatisticsError: features that are not finite, or too few pixels.

    """
    session = open_session(start.SerializeToString(), path)
    moments = FeatureMoments(network.logits.channels, network.features.channels)
    with tqdm(total=sum(map(len, sets)), desc='feature statistics', unit='image') as bar:
        for images in sets:
            for image in images.read(0, len(images)):
                planes = network_input(image.image, network.geometry)
                logits, features = session.run(None, {'image': planes})
                labels = image.labels
                if labels is None:
                    labels = logits[0].argmax(axis=0).astype(np.uint8)
                size = features.shape[:1:-1]
                labels = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
                known = labels != UNLABELLED
                moments.update(features[0][:, known].T, labels[known])
                bar.update()
    return moments.statistics()


def origin(path: Path, network: GivenNetwork, normalisation: Normalisation) -> dict[str, object]:
    """Return where the network comes from and how it was taken."""
    return {
        'imported_from': path.name,
        'sha256': hashlib.sha256(path.read_bytes()).hexdigest(),
        'opset': network.opset,
        'logits': _text(network.logits.name, network.logits.stride),
        'features': 'none'
        if network.features is None
        else _text(network.features.name, network.features.stride),
        'normalisation': asdict(normalisation),
    }


def _text(name: str, stride: object) -> str:
    return f'{name}, stride {stride}'


def ground_hint(classes: Sequence[ClassInfo]) -> str:
    """Say what to do about a network without ground; empty where it has some."""
    if any(info.ground for info in classes):
        return ''
    return (
        'no class is ground: say with --ground which ones are. Without any the monitor, and the '
        "commands that judge drives, refuse the bundle; the node takes `region.classes: ['']`, "
        'the whole image'
    )


def model_card(bundle: Bundle, facts: dict[str, object], result: Recalibration) -> str:
    """Return the model card, Markdown."""
    rows = '\n'.join(f'| {key} | {value} |' for key, value in facts.items())
    ground = ', '.join(info.name for info in bundle.classes if info.ground)
    measured = report(bundle, result).replace('# ', '## ').replace(KEPT, '').rstrip()
    return f"""# {bundle.name} {bundle.version}

A network that was imported. What it was trained on, how good it is and under which licence it
may be used is not known here: ask its maker, and measure it before use.

| | |
|-|-|
{rows}
| classes | {', '.join(info.name for info in bundle.classes)} |

- **Temperature**: 1, not fitted. `seg-uncertainty calibrate-scores` fits it to labelled images.
- **Thresholds**: defaults. `seg-uncertainty calibrate` fits them to drives, and the reference of
  the domain shift, which is not judged before.
- **Ground**: {ground or ground_hint(bundle.classes)}.

{measured}
"""


__all__ = ['choose_scores', 'ground_hint', 'import_network']
