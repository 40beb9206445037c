# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Tables of an evaluation: markdown for people, JSON with all digits and the provenance."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import fields
from datetime import datetime
from datetime import timezone
from math import isfinite
from math import isnan
from typing import TYPE_CHECKING
from typing import Any

from seg_uncertainty_ros import __version__
from seg_uncertainty_ros.bundle import GRAPH
from seg_uncertainty_ros.bundle import MANIFEST
from seg_uncertainty_ros.evaluation.benchmark import OutlierTable
from seg_uncertainty_ros.evaluation.benchmark import SegmentationTable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence

    from seg_uncertainty_ros.bundle import Bundle
    from seg_uncertainty_ros.evaluation.benchmark import Run
    from seg_uncertainty_ros.evaluation.estimates import Estimate

Table = OutlierTable | SegmentationTable


def markdown(tables: Sequence[Table]) -> str:
    """Return a section on one dataset: all bundles and scores, in the order given."""
    outliers = [table for table in tables if isinstance(table, OutlierTable)]
    segmentations = [table for table in tables if isinstance(table, SegmentationTable)]
    run = tables[0].run
    parts = [f'## {run.dataset.name}']
    if outliers:
        parts += [_outlier_intro(outliers[0]), _outlier_table(outliers)]
    if segmentations:
        parts += [
            f'{len(run.dataset)} images, {run.pixels} labelled pixels. In brackets the 95 % '
            'bootstrap interval over images. ECE is of the confidence (max softmax).',
            _segmentation_table(segmentations),
            'How well each score ranks the wrong pixels. AP and FPR95 with wrong pixels as '
            'positives; AuSE of the 0/1 error, 0 is the oracle, about 1 is chance.',
            _misclassification_table(segmentations),
            'IoU of each class:',
            _class_table(segmentations),
        ]
    return '\n\n'.join(part.strip() for part in parts) + '\n'


def content(tables: Iterable[Table]) -> dict[str, Any]:
    """Return what JSON holds of tables, with where each comes from."""
    return {
        'date': datetime.now(timezone.utc).isoformat(timespec='seconds'),
        'package_version': __version__,
        'results': [
            _outlier_content(table)
            if isinstance(table, OutlierTable)
            else _segmentation_content(table)
            for table in tables
        ],
    }


def to_json(value: dict[str, Any]) -> str:
    """Return the text of a JSON file."""
    return json.dumps(value, indent=2, allow_nan=False) + '\n'


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a markdown table whose columns are aligned in the source too."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = []
    for line in (head, *rows):
        cells = (text.ljust(width) for text, width in zip(line, widths, strict=True))
        lines.append(f'| {" | ".join(cells)} |')
    rule = f'|{"|".join("-" * (width + 2) for width in widths)}|'
    return '\n'.join((lines[0], rule, *lines[1:]))


def interval(estimate: Estimate) -> str:
    """Return value and 95 % interval with three digits."""
    if isnan(estimate.value):
        return '–'
    return f'{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]'


def megapixels(count: int) -> str:
    """Return the size of a network's input."""
    return f'{count / 1e6:.2f} MP'


def bundle_labels(bundles: Iterable[Bundle]) -> dict[str, str]:
    """Return a name for each digest: the bundle's, or its folder where two share a name."""
    by_digest = {bundle.digest: bundle for bundle in bundles}
    names = Counter(bundle.name for bundle in by_digest.values())
    return {
        digest: bundle.name
        if names[bundle.name] == 1
        else '/'.join(bundle.path.resolve().parts[-2:])
        for digest, bundle in by_digest.items()
    }


def _outlier_intro(table: OutlierTable) -> str:
    run = table.run
    share = 100 * table.outlier_pixels / run.pixels
    return (
        f'{len(run.dataset)} images, {run.pixels} pixels, {share:.2f} % of them outliers. All '
        'pixels are one pool; in brackets the 95 % bootstrap interval over images. Components '
        f'from {table.sizes.predicted} pixels (truth: {table.sizes.truth}), at the threshold of '
        'the best pixel F1.'
    )


def _outlier_table(tables: Sequence[OutlierTable]) -> str:
    labels = bundle_labels(table.run.bundle for table in tables)
    rows = [
        (
            labels[table.run.bundle.digest],
            megapixels(table.run.max_pixels),
            row.score,
            interval(row.pixels.average_precision),
            interval(row.pixels.auroc),
            interval(row.pixels.fpr95),
            _number(row.components.siou.value),
            _number(row.components.ppv.value),
            _number(row.components.f1.value),
        )
        for table in tables
        for row in table.rows
    ]
    head = ('bundle', 'input up to', 'score', 'AP', 'AUROC', 'FPR95', 'sIoU', 'PPV', 'F1')
    return grid(head, rows)


def _segmentation_table(tables: Sequence[SegmentationTable]) -> str:
    labels = bundle_labels(table.run.bundle for table in tables)
    rows = [
        (
            labels[table.run.bundle.digest],
            megapixels(table.run.max_pixels),
            interval(table.miou),
            interval(table.accuracy),
            _number(table.ece),
        )
        for table in tables
    ]
    return grid(('bundle', 'input up to', 'mIoU', 'accuracy', 'ECE'), rows)


def _misclassification_table(tables: Sequence[SegmentationTable]) -> str:
    labels = bundle_labels(table.run.bundle for table in tables)
    rows = [
        (
            labels[table.run.bundle.digest],
            row.score,
            interval(row.metrics.average_precision),
            interval(row.metrics.fpr95),
            interval(row.metrics.ause),
        )
        for table in tables
        for row in table.rows
    ]
    return grid(('bundle', 'score', 'AP', 'FPR95', 'AuSE'), rows)


def _class_table(tables: Sequence[SegmentationTable]) -> str:
    names = [info.name for info in max((t.run.bundle.classes for t in tables), key=len)]
    columns = [[_number(value) for value in table.class_iou] for table in tables]
    rows = [
        (name, *(column[index] if index < len(column) else '' for column in columns))
        for index, name in enumerate(names)
    ]
    labels = bundle_labels(table.run.bundle for table in tables)
    return grid(('class', *(labels[table.run.bundle.digest] for table in tables)), rows)


def _number(value: float) -> str:
    return '–' if isnan(value) else f'{value:.3f}'


def _outlier_content(table: OutlierTable) -> dict[str, Any]:
    return {
        **_provenance(table.run),
        'outlier_pixels': table.outlier_pixels,
        'minimum_component_pixels': {
            'predicted': table.sizes.predicted,
            'truth': table.sizes.truth,
        },
        'scores': {
            row.score: {
                **_estimates(row.pixels),
                **{f'component_{key}': x for key, x in _estimates(row.components).items()},
                'component_threshold': row.component_threshold,
                'tpr95_threshold': row.tpr95_threshold,
                'frames': {
                    frame.name: {
                        'false_positive_rate': _finite(frame.false_positive_rate),
                        'true_positive_rate': _finite(frame.true_positive_rate),
                    }
                    for frame in row.frames
                },
            }
            for row in table.rows
        },
    }


def _segmentation_content(table: SegmentationTable) -> dict[str, Any]:
    names = [info.name for info in table.run.bundle.classes]
    return {
        **_provenance(table.run),
        'miou': table.miou.to_dict(),
        'accuracy': table.accuracy.to_dict(),
        'class_iou': {
            name: _finite(value) for name, value in zip(names, table.class_iou, strict=True)
        },
        'ece': table.ece,
        'misclassification': {row.score: _estimates(row.metrics) for row in table.rows},
    }


def _provenance(run: Run) -> dict[str, Any]:
    return {
        'dataset': {'format': run.dataset.format, 'name': run.dataset.name},
        'bundle': _identity(run.bundle),
        'max_pixels': run.max_pixels,
        'images': len(run.dataset),
        'pixels': run.pixels,
    }


def _identity(bundle: Bundle) -> dict[str, str]:
    files = json.loads((bundle.path / MANIFEST).read_text(encoding='utf-8'))['files']
    return {
        'name': bundle.name,
        'version': bundle.version,
        'sha256': bundle.digest,
        'graph_sha256': files[GRAPH]['sha256'],
    }


def _estimates(metrics: Any) -> dict[str, Any]:
    return {field.name: getattr(metrics, field.name).to_dict() for field in fields(metrics)}


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None
