# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""replay: bag to bag as fast as it goes, with the topics that the nodes would publish."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING
from typing import Any

import numpy as np

from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.cli.options import add_bundle
from seg_uncertainty_ros.cli.options import add_command
from seg_uncertainty_ros.cli.options import add_source
from seg_uncertainty_ros.cli.options import progress
from seg_uncertainty_ros.monitor.assessment import Observation
from seg_uncertainty_ros.monitor.config import MonitorConfig
from seg_uncertainty_ros.monitor.monitor import Monitor
from seg_uncertainty_ros.pipeline import Pipeline
from seg_uncertainty_ros.recordings import open_source
from seg_uncertainty_ros.recordings.bag_writer import BagWriter
from seg_uncertainty_ros.recordings.bag_writer import Status

if TYPE_CHECKING:
    import argparse

    from seg_uncertainty_ros.frames import Frame
    from seg_uncertainty_ros.monitor.assessment import Assessment
    from seg_uncertainty_ros.pipeline import Result
    from seg_uncertainty_ros.recordings import Source

# Levels of diagnostic_msgs/DiagnosticStatus.
LEVELS = {'OK': 0, 'WARN': 1, 'ERROR': 2, 'STALE': 3}


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        'replay',
        run,
        'Write a bag with the masks, planes and assessments of another; no frame is dropped.',
        'replay BAG --out BAG2',
    )
    add_source(parser)
    parser.add_argument('--out', required=True, type=Path, help='new bag (a directory or .mcap)')
    parser.add_argument('--score', help="score of the anomaly plane (default: the bundle's)")
    add_bundle(parser)


@dataclass
class Summary:
    """What a replay adds up to."""

    frames: int = 0
    seconds: float = 0.0
    infer_ms: list[float] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)
    ood_area: list[float] = field(default_factory=list)
    domain_shift: list[float] = field(default_factory=list)
    confidence: list[float] = field(default_factory=list)
    transitions: list[dict[str, Any]] = field(default_factory=list)

    def add(self, result: Result, assessment: Assessment) -> None:
        """Count one frame."""
        self.frames += 1
        self.infer_ms.append(1e3 * result.timings.total_s)
        self.states[assessment.state] += 1
        for values, value in (
            (self.ood_area, assessment.ood_area),
            (self.domain_shift, assessment.domain_shift),
            (self.confidence, assessment.mean_confidence),
        ):
            if value is not None:
                values.append(value)
        self.transitions += assessment.to_dict()['transitions']

    def to_dict(self, source: Source, bundle: Bundle, score: str) -> dict[str, Any]:
        """Return the content of summary.json; ``missing`` frames could not be read."""
        known, skipped = source.frame_count, len(source.skipped)
        return {
            'source': source.name,
            'bundle': {'name': bundle.name, 'version': bundle.version, 'sha256': bundle.digest},
            'anomaly_score': score,
            'frames': {
                'in_source': known,
                'processed': self.frames,
                'skipped': skipped,
                'missing': None if known is None else known - self.frames - skipped,
            },
            'skipped_reasons': source.skipped,
            'seconds': round(self.seconds, 3),
            'rate_hz': round(self.frames / self.seconds, 2) if self.seconds else None,
            'frame_ms': quantiles(self.infer_ms),
            'states': dict(self.states),
            'ood_area': quantiles(self.ood_area),
            'domain_shift': quantiles(self.domain_shift),
            'mean_confidence': quantiles(self.confidence),
            'transitions': self.transitions,
        }


def quantiles(values: list[float]) -> dict[str, float] | None:
    """Return median, 95th percentile and maximum."""
    if not values:
        return None
    p50, p95 = np.quantile(values, [0.5, 0.95])
    return {'p50': round(p50, 5), 'p95': round(p95, 5), 'max': round(max(values), 5)}


def write_outputs(bag: BagWriter, frame: Frame, result: Result, assessment: Assessment) -> None:
    """Write the topics of the nodes `segmentation` and `monitor` for one frame."""
    stamp, frame_id = frame.stamp_ns, frame.frame_id
    bag.write_image('/segmentation/mask', result.mask, 'mono8', stamp, frame_id)
    bag.write_image('/segmentation/confidence', result.confidence, 'mono8', stamp, frame_id)
    bag.write_image('/segmentation/anomaly', result.anomaly, 'mono8', stamp, frame_id)
    embedding = result.embedding[np.newaxis]
    bag.write_image('/segmentation/embedding', embedding, '32FC1', stamp, frame_id)
    if result.dispersion is not None:
        dispersion = result.dispersion
        bag.write_image('/segmentation/dispersion', dispersion, '32FC3', stamp, frame_id)
    if result.image_statistics is not None:
        statistics = np.array(result.image_statistics, np.float32)[np.newaxis]
        bag.write_image('/segmentation/image_statistics', statistics, '32FC1', stamp, frame_id)
    for name in ('ood_area', 'domain_shift'):
        if (value := getattr(assessment, name)) is not None:
            bag.write_float(f'/monitor/{name}', value, stamp)
    bag.write_string('/monitor/state', json.dumps(assessment.to_dict()), stamp)
    status = Status(
        LEVELS[assessment.state],
        'monitor: trust',
        assessment.message,
        values={warning.name: warning.message for warning in assessment.warnings},
    )
    bag.write_diagnostics('/diagnostics', [status], stamp)


def run(options: argparse.Namespace) -> int:
    """Process every frame of the source."""
    bundle = Bundle.load(options.bundle)
    source = open_source(options.source, topic=options.topic)
    pipeline = Pipeline(bundle, score=options.score)
    monitor = Monitor.of(bundle, MonitorConfig())
    summary = Summary()
    start = perf_counter()
    single = options.out.suffix == '.mcap'
    path = options.out.with_name('summary.json') if single else options.out / 'summary.json'
    try:
        with BagWriter(options.out) as bag:
            for _, frame in progress(source):
                result = pipeline.process(frame)
                assessment = monitor.update(Observation.of(result, frame.stamp_ns))
                write_outputs(bag, frame, result, assessment)
                summary.add(result, assessment)
    finally:
        # What was readable of a damaged recording is summed up too.
        summary.seconds = perf_counter() - start
        content = summary.to_dict(source, bundle, pipeline.anomaly_score)
        if summary.frames:
            path.write_text(json.dumps(content, indent=2) + '\n', encoding='utf-8')
    print(f'{summary.frames} frames, {content["rate_hz"]} Hz, states {content["states"]}')
    print(f'{options.out} and {path} written')
    return 0
