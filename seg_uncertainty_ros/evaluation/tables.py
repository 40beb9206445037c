# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Tables of an evaluation: markdown for people, JSON with the provenance."""

from __future__ import annotations

import json
from datetime import datetime
from datetime import timezone
from math import isnan
from typing import TYPE_CHECKING
from typing import Any

from seg_uncertainty_ros import __version__
from seg_uncertainty_ros.bundle import GRAPH
from seg_uncertainty_ros.bundle import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from seg_uncertainty_ros.bundle import Bundle
    from seg_uncertainty_ros.evaluation.benchmark import OutlierTable
    from seg_uncertainty_ros.evaluation.datasets import Dataset
    from seg_uncertainty_ros.evaluation.estimates import Estimate


def cell(estimate: Estimate) -> str:
    """Return value and interval with three digits."""
    if isnan(estimate.value):
        return 'undefined'
    return f'{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]'


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose columns are aligned in the source too."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = []
    for line in (head, *rows):
        cells = (text.ljust(width) for text, width in zip(line, widths, strict=True))
        lines.append(f'| {" | ".join(cells)} |')
    rule = f'|{"|".join("-" * (width + 2) for width in widths)}|'
    return '\n'.join((lines[0], rule, *lines[1:])) + '\n'


def outlier_markdown(dataset: Dataset, tables: Sequence[OutlierTable]) -> str:
    """Return the table of all bundles and scores on one dataset."""
    first = tables[0]
    share = first.outlier_pixels / first.pixels if first.pixels else 0.0
    rows = [
        (
            table.bundle.name,
            row.score,
            cell(row.pixels.average_precision),
            cell(row.pixels.auroc),
            cell(row.pixels.fpr95),
        )
        for table in tables
        for row in table.rows
    ]
    return (
        f'## {dataset.name}\n\n'
        f'{first.images} images, {first.pixels} pixels, {100 * share:.2f} % of them outliers. '
        'Pooled over all pixels; in brackets the 95 % bootstrap interval over images.\n\n'
        + markdown_table(('bundle', 'score', 'AP', 'AUROC', 'FPR95'), rows)
    )


def outlier_json(dataset: Dataset, tables: Sequence[OutlierTable]) -> dict[str, Any]:
    """Return everything that the table says, and where it comes from."""
    return {
        **_provenance(dataset),
        'results': [
            {
                'bundle': bundle_identity(table.bundle),
                'max_pixels': table.max_pixels,
                'images': table.images,
                'pixels': table.pixels,
                'outlier_pixels': table.outlier_pixels,
                'scores': {
                    row.score: {
                        'average_precision': row.pixels.average_precision.to_dict(),
                        'auroc': row.pixels.auroc.to_dict(),
                        'fpr95': row.pixels.fpr95.to_dict(),
                    }
                    for row in table.rows
                },
            }
            for table in tables
        ],
    }


def bundle_identity(bundle: Bundle) -> dict[str, str]:
    """Return what tells a bundle from every other."""
    files = json.loads((bundle.path / MANIFEST).read_text(encoding='utf-8'))['files']
    return {
        'name': bundle.name,
        'version': bundle.version,
        'sha256': bundle.digest,
        'graph_sha256': files[GRAPH]['sha256'],
    }


def write_tables(out: Path, markdown: str, content: dict[str, Any]) -> None:
    """Write table.md and table.json into the directory ``out``."""
    (out / 'table.md').write_text(markdown, encoding='utf-8')
    text = json.dumps(content, indent=2, allow_nan=False) + '\n'
    (out / 'table.json').write_text(text, encoding='utf-8')


def _provenance(dataset: Dataset) -> dict[str, Any]:
    return {
        'dataset': {'format': dataset.format, 'name': dataset.name},
        'date': datetime.now(timezone.utc).isoformat(timespec='seconds'),
        'package_version': __version__,
    }
